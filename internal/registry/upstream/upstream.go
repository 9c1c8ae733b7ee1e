// Package upstream reads registries of others, as docker's clients do: anonymously or
// with a user and a password, and with the tokens that they ask for.
//
// What it says of an error has neither credentials nor the addresses to which a registry
// redirects, which are often signed and so as good as credentials.
package upstream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/containerd/containerd/v2/core/remotes/docker"
	remoteerrors "github.com/containerd/containerd/v2/core/remotes/errors"
	"github.com/containerd/log"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/sirupsen/logrus"

	"github.com/strata-cloud/strata/internal/errs"
)

// Login gives a user and a password, both empty for nobody.
type Login func() (user, password string, err error)

// Registry is one that is read.
type Registry struct {
	base   *url.URL
	client *http.Client
	login  Login

	mu   sync.Mutex
	auth docker.Authorizer
}

// Check takes the address of a registry.
func Check(address string) (*url.URL, error) {
	u, err := url.Parse(address)
	switch {
	case err != nil, u.Scheme != "https" && u.Scheme != "http", u.Host == "", u.RawQuery != "", u.Fragment != "":
		return nil, errs.Invalidf("%q is not the address of a registry, such as https://registry.example.com", redacted(address))
	case u.User != nil:
		return nil, errs.Invalidf("%s: a password does not belong into an address", u.Redacted())
	}
	u.Path = strings.TrimSuffix(u.Path, "/")
	return u, nil
}

// redacted is an address without what may be a password.
func redacted(address string) string {
	if i := strings.LastIndexByte(address, '@'); i >= 0 {
		return "…" + address[i:]
	}
	return address
}

// Bounds of how long an upstream may take to begin.
const (
	dialFor   = 5 * time.Second
	answerFor = 20 * time.Second
)

// New reads the registry at an address, which may have a path before /v2.
func New(address string, login Login) (*Registry, error) {
	u, err := Check(address)
	if err != nil {
		return nil, err
	}
	c := &http.Client{Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, DialContext: (&net.Dialer{Timeout: dialFor}).DialContext, TLSHandshakeTimeout: dialFor,
		ResponseHeaderTimeout: answerFor, MaxIdleConnsPerHost: 8, IdleConnTimeout: 30 * time.Second, ForceAttemptHTTP2: true,
		DisableCompression: true}} // what is stored is what was signed
	return &Registry{base: u, client: c, login: login}, nil
}

// authorizer gives tokens, and knows where they are had.
func (r *Registry) authorizer() docker.Authorizer {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.auth == nil {
		r.auth = docker.NewDockerAuthorizer(docker.WithAuthClient(r.client), docker.WithAuthCreds(func(string) (string, string, error) { return r.login() }))
	}
	return r.auth
}

// unlearn forgets where tokens were had, since none came from there.
func (r *Registry) unlearn(auth docker.Authorizer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.auth == auth {
		r.auth = nil
	}
}

// Close ends connections that are not in use.
func (r *Registry) Close() { r.client.CloseIdleConnections() }

// manifestTypes are what an image's manifest may be.
var manifestTypes = strings.Join([]string{ocispec.MediaTypeImageIndex, ocispec.MediaTypeImageManifest, "application/vnd.docker.distribution.manifest.list.v2+json", "application/vnd.docker.distribution.manifest.v2+json"}, ", ")

// maxManifest bounds a manifest, as registries do.
const maxManifest = 4 << 20

// Resolve tells which manifest a tag names now.
func (r *Registry) Resolve(ctx context.Context, name, tag string) (digest.Digest, error) {
	res, err := r.do(ctx, http.MethodHead, name, "manifests/"+tag)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	if d, err := digest.Parse(res.Header.Get("Docker-Content-Digest")); err == nil {
		return d, nil
	}
	raw, err := r.manifest(ctx, name, tag)
	return digest.FromBytes(raw), err
}

// Manifest gives one by its digest, which is checked.
func (r *Registry) Manifest(ctx context.Context, name string, d digest.Digest) ([]byte, error) {
	raw, err := r.manifest(ctx, name, d.String())
	if err != nil {
		return nil, err
	}
	if d.Algorithm().FromBytes(raw) != d {
		return nil, errs.New(errs.Unavailable, "what the registry %s gives for %s is something else", r.base.Host, d)
	}
	return raw, nil
}

func (r *Registry) manifest(ctx context.Context, name, ref string) ([]byte, error) {
	res, err := r.do(ctx, http.MethodGet, name, "manifests/"+ref)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	var b bytes.Buffer
	n, err := io.Copy(&b, io.LimitReader(res.Body, maxManifest+1))
	switch {
	case err != nil:
		return nil, r.away(err)
	case n > maxManifest:
		return nil, errs.New(errs.TooLarge, "the manifest %s has more than %d bytes", ref, maxManifest)
	}
	return b.Bytes(), nil
}

// Blob opens one, whose digest is the reader's to check. size is -1 when it is not known.
func (r *Registry) Blob(ctx context.Context, name string, d digest.Digest) (body io.ReadCloser, size int64, err error) {
	res, err := r.do(ctx, http.MethodGet, name, "blobs/"+d.String())
	if err != nil {
		return nil, 0, err
	}
	return scrubbed{res.Body, r}, res.ContentLength, nil
}

// Stat tells the size of a blob that is there.
func (r *Registry) Stat(ctx context.Context, name string, d digest.Digest) (int64, error) {
	res, err := r.do(ctx, http.MethodHead, name, "blobs/"+d.String())
	if err != nil {
		return 0, err
	}
	return res.ContentLength, res.Body.Close()
}

// tries bounds how often a request is sent: without a token, with an old one, with one.
const tries = 3

// do sends a request; what is answered is good.
func (r *Registry) do(ctx context.Context, method, name, rest string) (*http.Response, error) {
	quiet := logrus.New()
	quiet.Out = io.Discard
	ctx = docker.WithScope(log.WithLogger(ctx, logrus.NewEntry(quiet)), "repository:"+name+":pull")
	var before []*http.Response
	auth, again := r.authorizer(), false
	for {
		q, err := http.NewRequestWithContext(ctx, method, r.base.String()+"/v2/"+name+"/"+rest, nil)
		if err != nil {
			return nil, errs.Invalidf("%s of %s cannot be asked for", rest, name)
		}
		q.Header.Set("Accept", manifestTypes+", */*;q=0.1")
		if err := auth.Authorize(ctx, q); err != nil {
			r.unlearn(auth)
			if again || len(before) > 0 {
				return nil, r.refusal(err)
			}
			again, auth = true, r.authorizer() // tokens may be had elsewhere now
			continue
		}
		res, err := r.client.Do(q)
		if err != nil {
			return nil, r.away(err)
		}
		if res.StatusCode == http.StatusOK {
			return res, nil
		}
		res.Body.Close()
		before = append(before, res)
		if res.StatusCode != http.StatusUnauthorized || len(before) == tries {
			return nil, r.status(res.StatusCode, name, rest)
		}
		if err := auth.AddResponses(ctx, before); err != nil {
			return nil, r.refusal(err)
		}
	}
}

// status says what a registry's answer means.
func (r *Registry) status(code int, name, rest string) error {
	what := fmt.Sprintf("%s of %s", rest, name)
	switch code {
	case http.StatusNotFound:
		return errs.NotFoundf("the registry %s has no %s", r.base.Host, what)
	case http.StatusUnauthorized, http.StatusForbidden:
		return errs.Forbiddenf("the registry %s refuses %s: there is no such repository, or it needs other credentials", r.base.Host, what)
	case http.StatusTooManyRequests:
		return errs.New(errs.TooMany, "the registry %s takes no more requests at the moment", r.base.Host)
	}
	return errs.New(errs.Unavailable, "the registry %s answers %d for %s", r.base.Host, code, what)
}

// refusal says why there is no token.
func (r *Registry) refusal(err error) error {
	var answer remoteerrors.ErrUnexpectedStatus
	switch {
	case errors.As(err, &answer) && (answer.StatusCode == http.StatusUnauthorized || answer.StatusCode == http.StatusForbidden), errors.Is(err, docker.ErrInvalidAuthorization):
		return errs.Forbiddenf("the registry %s gives no token: its credentials are missing or wrong", r.base.Host)
	case errors.As(err, &answer):
		return r.status(answer.StatusCode, "a repository", "a token")
	}
	return r.away(err)
}

// away says that a registry is not reached. The address that was asked for is left out.
func (r *Registry) away(err error) error {
	var u *url.Error
	for errors.As(err, &u) {
		err = u.Err
	}
	return errs.New(errs.Unavailable, "the registry %s cannot be reached: %w", r.base.Host, err)
}

// scrubbed is a body whose errors are fit to be read.
type scrubbed struct {
	io.ReadCloser
	r *Registry
}

// Read implements io.Reader.
func (s scrubbed) Read(p []byte) (int, error) {
	n, err := s.ReadCloser.Read(p)
	if err != nil && err != io.EOF {
		err = s.r.away(err)
	}
	return n, err
}
