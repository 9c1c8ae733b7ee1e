package configdrive

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"

	"github.com/diskfs/go-diskfs/backend/file"
	"github.com/diskfs/go-diskfs/filesystem/iso9660"

	"github.com/strata-cloud/strata/internal/nodeapi"
)

// Label is the volume label that guests look for.
const Label = "config-2"

// sectorSize is ISO 9660's.
const sectorSize = 2048

// Ensure writes the instance's config drive to the path, readable by its owner
// alone, replacing an older one at once.
func Ensure(inst *nodeapi.Instance, target string) error {
	docs, err := Documents(inst)
	if err != nil {
		return err
	}
	tmp := target + ".new"
	os.Remove(tmp)
	if err := writeISO(docs, tmp); err != nil {
		os.Remove(tmp)
		return fmt.Errorf("making the config drive of server %s: %w", inst.ID, err)
	}
	return os.Rename(tmp, target)
}

func writeISO(docs map[string][]byte, target string) error {
	// The library takes its files from a directory and does not read it again later.
	dir, err := os.MkdirTemp(filepath.Dir(target), "config-drive-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	var size int64 = 1 << 20
	for _, name := range sortedPaths(docs) {
		p := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(p, docs[name], 0o644); err != nil {
			return err
		}
		size += int64(len(docs[name])) + 2*sectorSize
	}
	f, err := os.OpenFile(target, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	fs, err := iso9660.Create(file.New(f, false), size, 0, sectorSize, dir)
	if err != nil {
		return err
	}
	return fs.Finalize(iso9660.FinalizeOptions{RockRidge: true, Joliet: true, VolumeIdentifier: Label})
}

// sortedPaths makes the drive the same for the same documents.
func sortedPaths(docs map[string][]byte) []string {
	var out []string
	for p := range docs {
		out = append(out, path.Clean(p))
	}
	slices.Sort(out)
	return out
}
