package dockerapi

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/registry"

	core "github.com/strata-cloud/strata/internal/container"
	"github.com/strata-cloud/strata/internal/container/remote"
	"github.com/strata-cloud/strata/internal/dockerwire"
	"github.com/strata-cloud/strata/internal/errs"
)

// credentials reads what docker login has kept.
func credentials(header string) (remote.Credentials, error) {
	if header == "" {
		return remote.Credentials{}, nil
	}
	var a registry.AuthConfig
	err := json.NewDecoder(base64.NewDecoder(base64.URLEncoding, strings.NewReader(header))).Decode(&a)
	if err != nil && err != io.EOF {
		return remote.Credentials{}, errs.Invalidf("invalid X-Registry-Auth header: %s", err)
	}
	return remote.Credentials{User: a.Username, Password: a.Password, Token: a.IdentityToken, Bearer: a.RegistryToken}, nil
}

// login checks what docker login was told.
func (s *Server) login(w http.ResponseWriter, r *request) error {
	var a registry.AuthConfig
	if err := r.Read(&a); err != nil {
		return err
	}
	token, err := s.engine.Login(r.Context(), a.ServerAddress, remote.Credentials{User: a.Username, Password: a.Password, Token: a.IdentityToken})
	if err != nil {
		return err
	}
	return dockerwire.Answer(w, http.StatusOK, registry.AuthenticateOKBody{Status: "Login Succeeded", IdentityToken: token})
}

func (s *Server) imagePush(w http.ResponseWriter, r *request) error {
	cred, err := credentials(r.Header.Get("X-Registry-Auth"))
	if err != nil {
		return err
	}
	of, err := r.platform("1.46")
	if err != nil {
		return err
	}
	return lines(w, func(say func(progress)) error {
		return s.engine.Push(r.Context(), r.Vars["name"], r.Value("tag"), of, cred, func(id, status string) { say(progress{ID: id, Status: status}) }, func(p core.Pushed) {
			say(progress{Status: fmt.Sprintf("%s: digest: %s size: %d", p.Tag, p.Digest, p.Size)})
			say(progress{Aux: p})
		})
	})
}

func (s *Server) distribution(w http.ResponseWriter, r *request) error {
	cred, err := credentials(r.Header.Get("X-Registry-Auth"))
	if err != nil {
		return err
	}
	v, err := s.engine.Distribution(r.Context(), r.Vars["name"], cred)
	if err != nil {
		return err
	}
	return dockerwire.Answer(w, http.StatusOK, v)
}

// searchLimit is how many results one gets who has no wish.
const searchLimit, searchMost = 25, 100

func (s *Server) imageSearch(w http.ResponseWriter, r *request) error {
	f, err := r.filters("is-automated", "is-official", "stars")
	if err != nil {
		return err
	}
	limit := searchLimit
	if n, err := r.number("limit"); err != nil {
		return err
	} else if n != nil && *n != 0 {
		limit = *n
	}
	if limit < 1 || limit > searchMost {
		return errs.Invalidf("limit %d is outside the range of [1, %d]", limit, searchMost)
	}
	term := r.Value("term")
	if term == "" || strings.Contains(term, "://") {
		return errs.Invalidf("invalid repository name: %q", term)
	}
	automated, err := f.GetBoolOrDefault("is-automated", false)
	if err != nil {
		return errs.Invalidf("%s", err)
	}
	official, err := f.GetBoolOrDefault("is-official", false)
	if err != nil {
		return errs.Invalidf("%s", err)
	}
	stars := 0
	for _, v := range f.Get("stars") {
		n, err := strconv.Atoi(v)
		if err != nil {
			return errs.Invalidf("invalid filter 'stars=%s'", v)
		}
		stars = max(stars, n)
	}
	if automated { // there are none any more
		return dockerwire.Answer(w, http.StatusOK, []registry.SearchResult{})
	}
	cred, _ := credentials(r.Header.Get("X-Registry-Auth")) // as upstream: one searches without, too
	found, err := s.engine.Search(r.Context(), term, limit, cred)
	if err != nil {
		return err
	}
	found = slices.DeleteFunc(found, func(x registry.SearchResult) bool {
		return f.Contains("is-official") && official != x.IsOfficial || x.StarCount < stars
	})
	if found == nil {
		found = []registry.SearchResult{}
	}
	return dockerwire.Answer(w, http.StatusOK, found)
}

func (s *Server) commit(w http.ResponseWriter, r *request) error {
	o := core.CommitOptions{Repo: r.Value("repo"), Tag: r.Value("tag"), Comment: r.Value("comment"), Author: r.Value("author"), Changes: r.Form["changes"]}
	_, given := r.Form["pause"]
	o.NoPause = given && !r.Flag("pause")
	if r.ContentLength != 0 {
		var c *container.Config
		if err := r.Read(&c); err != nil && r.ContentLength > 0 {
			return err
		}
		o.Config = c
	}
	id, err := s.engine.Commit(r.Context(), r.Value("container"), o)
	if err != nil {
		return err
	}
	return dockerwire.Answer(w, http.StatusCreated, container.CommitResponse{ID: id})
}
