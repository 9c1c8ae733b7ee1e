package remote

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/containerd/containerd/v2/core/remotes/docker"
	remoteerrors "github.com/containerd/containerd/v2/core/remotes/errors"
	"github.com/docker/docker/api/types/registry"

	"github.com/strata-cloud/strata/internal/errs"
)

// authorizer signs requests in. refreshed is given the token that stands for a password.
func authorizer(c *http.Client, cred Credentials, refreshed func(string)) docker.Authorizer {
	opts := []docker.AuthorizerOpt{docker.WithAuthClient(c), docker.WithAuthCreds(func(string) (string, string, error) {
		if cred.Token != "" {
			return "", cred.Token, nil
		}
		return cred.User, cred.Password, nil
	})}
	if refreshed != nil {
		opts = append(opts, docker.WithFetchRefreshToken(func(_ context.Context, token string, _ *http.Request) { refreshed(token) }))
	}
	return docker.NewDockerAuthorizer(opts...)
}

// hubName is how docker login calls Docker's registry.
const hubName = "index.docker.io"

// domain is the registry of an address that docker login was given.
func domain(address string) (string, error) {
	if address == "" {
		return hubHost, nil
	}
	if !strings.Contains(address, "://") {
		address = "https://" + address
	}
	u, err := url.Parse(address)
	if err != nil || u.Host == "" {
		return "", errs.Invalidf("invalid registry address %q", address)
	}
	if u.Host == hubName || u.Host == "docker.io" {
		return hubHost, nil
	}
	return u.Host, nil
}

// Login checks credentials, and gives the identity token if the registry has those.
func (r *Registries) Login(ctx context.Context, address string, cred Credentials) (string, error) {
	host, err := domain(address)
	if err != nil {
		return "", err
	}
	h, err := r.host(host, nil)
	if err != nil {
		return "", err
	}
	token := ""
	auth := authorizer(h.Client, cred, func(t string) { token = t })
	at := "https://" + host + "/v2/"
	for try := range 2 {
		res, err := get(ctx, h, at, auth)
		if err != nil {
			var answer remoteerrors.ErrUnexpectedStatus
			if errors.As(err, &answer) && (answer.StatusCode == http.StatusUnauthorized || answer.StatusCode == http.StatusForbidden) || errors.Is(err, docker.ErrInvalidAuthorization) {
				return "", errs.New(errs.Unauthenticated, "Get %q: unauthorized: the registry does not accept these credentials", at)
			}
			return "", errs.New(errs.Internal, "Get %q: %s", at, err)
		}
		res.Body.Close()
		switch {
		case res.StatusCode == http.StatusOK:
			return token, nil
		case res.StatusCode != http.StatusUnauthorized:
			return "", errs.New(errs.Internal, "login attempt to %s failed with status: %s", at, res.Status)
		case try == 0:
			if err := auth.AddResponses(ctx, []*http.Response{res}); err != nil {
				return "", errs.New(errs.Unauthenticated, "login attempt to %s failed: %s", at, err)
			}
		}
	}
	return "", errs.New(errs.Unauthenticated, "Get %q: unauthorized: the registry does not accept these credentials", at)
}

// maxAnswer bounds what is read of an answer.
const maxAnswer = 4 << 20

// Search asks a registry for repositories, as docker search does.
func (r *Registries) Search(ctx context.Context, term string, limit int, cred Credentials) ([]registry.SearchResult, error) {
	host, rest, found := strings.Cut(term, "/")
	if !found || !strings.ContainsAny(host, ".:") && host != "localhost" {
		host, rest = hubName, term
	}
	if host == "docker.io" || host == hubName {
		host, rest = hubName, strings.TrimPrefix(rest, "library/")
	}
	c, err := r.client(host)
	if err != nil {
		return nil, err
	}
	at := url.URL{Scheme: "https", Host: host, Path: "/v1/search", RawQuery: url.Values{"q": {rest}, "n": {strconv.Itoa(limit)}}.Encode()}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), nil)
	if err != nil {
		return nil, errs.Invalidf("invalid search term %q: %s", term, err)
	}
	if cred.User != "" {
		req.SetBasicAuth(cred.User, cred.Password)
	}
	res, err := c.Do(req)
	if err != nil {
		return nil, errs.New(errs.Unavailable, "the registry %s cannot be searched: %s", host, err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return nil, errs.New(errs.Unavailable, "the registry %s cannot be searched: unexpected status code %d", host, res.StatusCode)
	}
	var out registry.SearchResults
	if err := json.NewDecoder(io.LimitReader(res.Body, maxAnswer)).Decode(&out); err != nil {
		return nil, errs.New(errs.Unavailable, "the registry %s cannot be searched: its answer is not what it should be: %s", host, err)
	}
	return out.Results, nil
}

// get sends one request.
func get(ctx context.Context, h docker.RegistryHost, at string, auth docker.Authorizer) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return nil, fmt.Errorf("asking %s: %w", at, err)
	}
	if err := auth.Authorize(ctx, req); err != nil {
		return nil, err
	}
	return h.Client.Do(req)
}
