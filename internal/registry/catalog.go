package registry

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/policy"
)

const catalogPath = "/_catalog"

// The sizes of a page of the catalog.
const (
	pageSize = 100
	maxPage  = 1000
)

// catalog lists the repositories of the caller's project.
func (s *Service) catalog(w http.ResponseWriter, r *http.Request, c *caller) error {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return errs.New(errs.NotImplemented, "The catalog can only be read.")
	}
	if c.creds.ProjectID == "" || !s.Policy.Allows(rulePull, c.creds, policy.Target{"project_id": c.creds.ProjectID}) {
		return errs.Forbiddenf("Your roles do not allow to pull.")
	}
	if !c.all && !c.catalog {
		challenge(w, r, scopeOf(target{}, r.Method, catalogPath), "insufficient_scope")
		return errs.New(errs.Unauthenticated, "The token was made for something else.")
	}
	n := pageSize
	if text := r.URL.Query().Get("n"); text != "" {
		var err error
		if n, err = strconv.Atoi(text); err != nil || n < 0 {
			return errs.Coded(errs.Invalid, codeNumber, "n=%s is no number of entries.", text)
		}
	}
	n = min(n, maxPage)
	names := s.repositories(c.creds.ProjectID)
	after, found := slices.BinarySearch(names, r.URL.Query().Get("last"))
	if found {
		after++
	}
	names = names[after:]
	if n > 0 && len(names) > n {
		names = names[:n]
		next := url.Values{"n": {strconv.Itoa(n)}, "last": {names[n-1]}}
		w.Header().Set("Link", fmt.Sprintf("<%s?%s>; rel=\"next\"", r.URL.Path, next.Encode()))
	}
	return answer(w, r, map[string][]string{"repositories": names[:min(n, len(names))]})
}

func answer(w http.ResponseWriter, r *http.Request, body any) error {
	return answerAs(w, r, contentType, body)
}

func answerAs(w http.ResponseWriter, r *http.Request, kind string, body any) error {
	raw, err := json.Marshal(body)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Content-Length", strconv.Itoa(len(raw)))
	if r.Method != http.MethodHead {
		_, _ = w.Write(raw) // the client may have gone
	}
	return nil
}
