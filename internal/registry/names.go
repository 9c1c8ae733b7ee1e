package registry

import (
	"net/http"
	"strings"

	"github.com/distribution/reference"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/policy"
)

// target is what a request is about.
type target struct {
	name   string // of the repository, as the client calls it
	rest   string // of the path: "/manifests/latest"
	upload bool   // it is about an upload
	blob   string // the digest of a blob, as it is in the path
	about  string // the digest whose referrers are asked for, likewise
}

// parse takes a path below /v2 apart. The last word that can end a name does, as in
// distribution's routes.
func parse(path string) (t target, ok bool) {
	path = strings.TrimPrefix(path, "/")
	end := -1
	if n, ok := strings.CutSuffix(path, "/tags/list"); ok {
		end = len(n)
	} else {
		for _, word := range []string{"/manifests/", "/blobs/", referrersPath} {
			end = max(end, strings.LastIndex(path, word))
		}
	}
	if end <= 0 {
		return t, false
	}
	t.name, t.rest = path[:end], path[end:]
	if after, ok := strings.CutPrefix(t.rest, "/blobs/"); ok {
		if t.upload = after == "uploads" || strings.HasPrefix(after, "uploads/"); !t.upload {
			t.blob = after
		}
	}
	if after, ok := strings.CutPrefix(t.rest, referrersPath); ok {
		t.about = after
	}
	return t, true
}

// action is what a request needs to be allowed to.
func (t target) action(method string) string {
	switch method {
	case http.MethodGet, http.MethodHead:
		if !t.upload {
			return actionPull
		}
	case http.MethodDelete:
		if !t.upload {
			return actionDelete
		}
	}
	return actionPush
}

// resolve gives the name under which a repository is kept. Whoever acts in another
// project is told the same whether there is such a repository or not.
func resolve(c *policy.Credentials, name string) (string, error) {
	project, rest, _ := strings.Cut(name, "/")
	if _, err := reference.WithName(name); err != nil || rest == "" {
		return "", errs.Coded(errs.Invalid, codeNameInvalid, "The name of a repository is PROJECT/NAME, where PROJECT is the project's id or, if it is in small letters, its name, and NAME is made of small letters, digits and separators.")
	}
	if c.ProjectID == "" || project != c.ProjectID && project != c.ProjectName {
		return "", errs.Coded(errs.Forbidden, codeDenied, "These credentials are not for the project %s.", project)
	}
	name = c.ProjectID + "/" + rest
	if len(name) > reference.RepositoryNameTotalLengthMax {
		return "", errs.Coded(errs.Invalid, codeNameInvalid, "The name is too long: with the project's id it has more than %d characters.", reference.RepositoryNameTotalLengthMax)
	}
	return name, nil
}
