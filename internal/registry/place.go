package registry

import (
	"crypto/sha256"
	"encoding/hex"
	"path"
	"strings"

	"github.com/google/uuid"
	"github.com/opencontainers/go-digest"
)

// place is what a path of distribution's layout stands for
// (registry/storage/paths.go there). Exactly one field is set.
type place struct {
	blob    string // a digest
	link    *Link  // as far as the path tells
	history bool   // which manifests a tag had: nobody asks
	tags    string // the repository whose tags are below
	upload  string // a file or directory below uploads
}

const layoutRoot = "/docker/registry/v2/"

// locate finds what a path stands for; ok is false for paths that nothing is at.
func locate(p string) (at place, ok bool) {
	rest, ok := strings.CutPrefix(p, layoutRoot)
	if !ok {
		return place{}, false
	}
	if rest, ok := strings.CutPrefix(rest, "blobs/"); ok {
		f := strings.Split(rest, "/") // sha256, the first two digits, all digits, data
		if len(f) != 4 || f[3] != "data" {
			return place{}, false
		}
		at.blob, ok = parseDigest(f[0], f[2])
		return at, ok && f[0] == string(digest.SHA256)
	}
	rest, ok = strings.CutPrefix(rest, "repositories/")
	repo, below, ok2 := strings.Cut(rest, "/_")
	project, _, ok3 := strings.Cut(repo, "/")
	if !ok || !ok2 || !ok3 {
		return place{}, false
	}
	return inRepo(&Link{Project: project, Repo: repo}, strings.Split(below, "/"))
}

// inRepo reads what follows "/_" in the path of a repository.
func inRepo(l *Link, f []string) (at place, ok bool) {
	switch {
	case f[0] == "uploads":
		at.upload, ok = uploadPath(l.Repo, f[1:])
	case f[0] == "layers" && len(f) == 4 && f[3] == "link":
		l.Kind = layerLink
		l.Name, ok = parseDigest(f[1], f[2])
		at.link = l
	case f[0] != "manifests" || len(f) < 2:
	case f[1] == "revisions" && len(f) == 5 && f[4] == "link":
		l.Kind = manifestLink
		l.Name, ok = parseDigest(f[2], f[3])
		at.link = l
	case f[1] != "tags":
	case len(f) == 2:
		at.tags, ok = l.Repo, true
	case len(f) == 3, len(f) == 5 && f[3] == "current" && f[4] == "link":
		l.Kind, l.Name = tagLink, f[2]
		at.link, ok = l, l.Name != ""
	case f[3] == "index":
		at.history, ok = true, true
	}
	return at, ok
}

func parseDigest(algorithm, hexa string) (string, bool) {
	d := digest.NewDigestFromEncoded(digest.Algorithm(algorithm), hexa)
	return d.String(), d.Validate() == nil
}

// uploadStart is the file that an upload begins with.
const uploadStart = "startedat"

// topOf is the directory of an upload, of the name of a file in it.
func topOf(name string) string {
	dir, _, _ := strings.Cut(name, "/")
	return dir
}

// uploadPath is where a file of an upload is. The repository is in the name, so that
// an upload is found in the one where it began only.
func uploadPath(repo string, f []string) (string, bool) {
	if len(f) == 0 {
		return "", false
	}
	id, err := uuid.Parse(f[0])
	if err != nil || id.String() != f[0] {
		return "", false
	}
	sum := sha256.Sum256([]byte(repo))
	dir := hex.EncodeToString(sum[:8]) + "-" + f[0]
	switch {
	case len(f) == 1:
		return dir, true
	case len(f) == 2 && (f[1] == "data" || f[1] == uploadStart):
		return path.Join(dir, f[1]), true
	case f[1] == "hashstates" && len(f) == 3 && f[2] == string(digest.SHA256):
		return path.Join(dir, f[1]), true
	case f[1] == "hashstates" && len(f) == 4 && f[2] == string(digest.SHA256) && strings.Trim(f[3], "0123456789") == "":
		return path.Join(dir, f[1], f[3]), true
	}
	return "", false
}

// blobFile names the file of a blob, without a way to other directories.
func blobFile(dgst string) string { return strings.Replace(dgst, ":", "-", 1) }
