package simulate

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/strata-cloud/strata/internal/region"
)

// microversion is what the simulated clients speak to the compute API.
const microversion = "compute 2.79"

// session is an administrator who works in one project. It logs in when it has to.
type session struct {
	url     string
	auth    map[string]string // of clouds.yaml
	project string            // id; "": the one that auth names
	http    *http.Client

	mu    sync.Mutex
	token string
}

// logIn makes the session of an entry of clouds.yaml.
func logIn(dir, url string, clients int) (*session, error) {
	clouds, err := region.ReadClouds(filepath.Join(dir, region.CloudsFile))
	if err != nil {
		return nil, err
	}
	t := &http.Transport{MaxIdleConnsPerHost: clients + 8}
	return &session{url: url, auth: clouds.Clouds["strata"].Auth, http: &http.Client{Transport: t, Timeout: 2 * time.Minute}}, nil
}

// in is the same user in another project.
func (s *session) in(project string) *session {
	return &session{url: s.url, auth: s.auth, project: project, http: s.http}
}

// do makes a request and decodes the answer into out, unless that is nil. header
// is the answer's.
func (s *session) do(ctx context.Context, method, path string, in, out any) (header http.Header, err error) {
	token, err := s.current(ctx)
	if err != nil {
		return nil, err
	}
	header, status, err := s.ask(ctx, method, path, token, in, out)
	if status == http.StatusUnauthorized { // it has expired
		s.forget(token)
		if token, err = s.current(ctx); err == nil {
			header, _, err = s.ask(ctx, method, path, token, in, out)
		}
	}
	return header, err
}

func (s *session) ask(ctx context.Context, method, path, token string, in, out any) (http.Header, int, error) {
	var body io.Reader
	kind := "application/json"
	switch v := in.(type) {
	case nil:
	case []byte:
		body, kind = bytes.NewReader(v), "application/octet-stream"
	default:
		raw, err := json.Marshal(in)
		if err != nil {
			return nil, 0, err
		}
		body = bytes.NewReader(raw)
	}
	req, err := http.NewRequestWithContext(ctx, method, s.url+path, body)
	if err != nil {
		return nil, 0, err
	}
	req.Header.Set("Content-Type", kind)
	req.Header.Set("OpenStack-API-Version", microversion)
	if token != "" {
		req.Header.Set("X-Auth-Token", token)
	}
	resp, err := s.http.Do(req)
	if err != nil {
		return nil, 0, err
	}
	defer resp.Body.Close()
	if resp.StatusCode >= http.StatusBadRequest {
		said, _ := io.ReadAll(io.LimitReader(resp.Body, 4<<10)) // the status says it too
		return nil, resp.StatusCode, fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, strings.TrimSpace(string(said)))
	}
	if out == nil {
		_, err = io.Copy(io.Discard, resp.Body)
	} else {
		err = json.NewDecoder(resp.Body).Decode(out)
	}
	return resp.Header, resp.StatusCode, err
}

func (s *session) current(ctx context.Context) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.token != "" {
		return s.token, nil
	}
	type object = map[string]any
	scope := object{"name": s.auth["project_name"], "domain": object{"name": s.auth["project_domain_name"]}}
	if s.project != "" {
		scope = object{"id": s.project}
	}
	user := object{"name": s.auth["username"], "password": s.auth["password"], "domain": object{"name": s.auth["user_domain_name"]}}
	in := object{"auth": object{"identity": object{"methods": []string{"password"}, "password": object{"user": user}}, "scope": object{"project": scope}}}
	header, _, err := s.ask(ctx, http.MethodPost, "/identity/v3/auth/tokens", "", in, nil)
	if err != nil {
		return "", err
	}
	s.token = header.Get("X-Subject-Token")
	return s.token, nil
}

func (s *session) forget(token string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.token == token {
		s.token = ""
	}
}
