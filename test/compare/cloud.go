package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/strata-cloud/strata/internal/wait"
)

// patience bounds one wait for a resource to reach a state.
const patience = 90 * time.Second

// consumers is how many unused consumers of placement the scripts may name: some clouds
// remember one whose allocation they refused.
const consumers = 5

// attempts bounds how often a request is sent again whose connection ended without an answer.
const attempts = 5

// cloud is one side of the comparison.
type cloud struct {
	identity string            // unversioned endpoint
	roots    map[string]string // service type to unversioned endpoint
	tokens   map[string]string // actor to token
	vars     map[string]string
	http     *http.Client
}

var versionSuffix = regexp.MustCompile(`/v\d[\d.]*/?$`)

// dial logs the administrator in and reads the catalog.
func dial(ctx context.Context, raw string) (*cloud, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return nil, err
	}
	password, ok := u.User.Password()
	if !ok {
		password = os.Getenv("OS_PASSWORD")
	}
	user, project := cmp.Or(u.User.Username(), "admin"), cmp.Or(u.Query().Get("project"), "admin")
	u.User, u.RawQuery = nil, ""
	run := make([]byte, 3)
	if _, err := rand.Read(run); err != nil {
		return nil, err
	}
	c := &cloud{identity: versionSuffix.ReplaceAllString(strings.TrimSuffix(u.String(), "/"), ""),
		tokens: map[string]string{"none": "", "bad": "gAAAAABnot-a-token"}, roots: map[string]string{},
		http: &http.Client{Timeout: 2 * time.Minute, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
	c.vars = map[string]string{"run": "cmp" + hex.EncodeToString(run), "missing": "11111111-2222-4333-8444-555555555555", "missinghex": "11111111222243338444555555555555",
		"x65": strings.Repeat("x", 65), "x256": strings.Repeat("x", 256), "x300": strings.Repeat("x", 300)}
	for i := range consumers {
		c.vars[fmt.Sprintf("consumer%d", i+1)] = uuid.NewString()
	}
	return c, c.login(ctx, "admin", user, password, project)
}

func (c *cloud) login(ctx context.Context, actor, user, password, project string) error {
	domain := map[string]any{"name": "Default"}
	body, err := json.Marshal(map[string]any{"auth": map[string]any{
		"identity": map[string]any{"methods": []string{"password"}, "password": map[string]any{"user": map[string]any{"name": user, "domain": domain, "password": password}}},
		"scope":    map[string]any{"project": map[string]any{"name": project, "domain": domain}}}})
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, "POST", c.identity+"/v3/auth/tokens", bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var got struct {
		Token struct {
			Catalog []struct {
				Type      string
				Endpoints []struct{ Interface, URL string }
			}
		}
	}
	if err := json.NewDecoder(resp.Body).Decode(&got); err != nil || resp.StatusCode != http.StatusCreated {
		return fmt.Errorf("logging %s in at %s: %s", user, c.identity, resp.Status)
	}
	c.tokens[actor] = resp.Header.Get("X-Subject-Token")
	for _, s := range got.Token.Catalog {
		for _, e := range s.Endpoints {
			if e.Interface == "public" {
				c.roots[s.Type] = versionSuffix.ReplaceAllString(strings.TrimSuffix(e.URL, "/"), "")
			}
		}
	}
	c.roots["identity"] = c.identity
	return nil
}

// run sends the scripts' requests; what a request stores serves the later ones.
func (c *cloud) run(ctx context.Context, list []script) ([]exchange, error) {
	var out []exchange
	for _, s := range list {
		for _, st := range s.steps {
			x, err := c.step(ctx, st)
			if err != nil {
				return out, fmt.Errorf("%s: %w", st.key, err)
			}
			if x != nil {
				out = append(out, *x)
			}
		}
	}
	return out, nil
}

func (c *cloud) step(ctx context.Context, st step) (*exchange, error) {
	args := make([]string, len(st.args))
	for i, a := range st.args {
		args[i] = c.expand(a)
	}
	switch st.word {
	case "login":
		return nil, c.login(ctx, args[0], args[1], args[2], args[3])
	case "wait", "gone":
		return nil, c.await(ctx, st.word, args)
	}
	x, err := c.send(ctx, st)
	// A server that answers before it has read the body may reset the connection first.
	for try := 0; err == nil && x.Status == 0 && try < attempts; try++ {
		x, err = c.send(ctx, st)
	}
	if err != nil {
		return nil, err
	}
	for _, s := range st.save {
		if v, ok := at(x.Body, s[1]); ok && v != "" {
			c.vars[s[0]] = v
		} else if v := x.Header[s[1]]; v != "" {
			c.vars[s[0]] = v
		} else {
			c.vars[s[0]] = c.vars["missing"]
		}
	}
	return x, nil
}

// await polls until the value is one of those wanted, or the resource is gone. A resource that
// gets neither in time is a difference which the next request shows.
func (c *cloud) await(ctx context.Context, word string, args []string) error {
	bounded, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	st := step{actor: args[0], method: "GET", path: args[2]}
	st.service, st.version, _ = strings.Cut(args[1], "@")
	err := wait.Until(bounded, args[2], 200*time.Millisecond, func(ctx context.Context) (bool, error) {
		x, err := c.send(ctx, st)
		if err != nil {
			return false, err
		}
		if x.Status >= 400 || word == "gone" {
			return x.Status == http.StatusNotFound || word == "wait", nil
		}
		v, _ := at(x.Body, args[3])
		for want := range strings.SplitSeq(args[4], "|") {
			if v == want {
				return true, nil
			}
		}
		return false, nil
	})
	if ctx.Err() == nil && bounded.Err() != nil {
		fmt.Fprintf(os.Stderr, "compare: %s %v: not in %s\n", word, args, patience)
		return nil
	}
	return err
}

func (c *cloud) send(ctx context.Context, st step) (*exchange, error) {
	root, ok := c.roots[st.service]
	if !ok {
		return nil, fmt.Errorf("the catalog has no %s", st.service)
	}
	var body io.Reader
	if st.hasBody {
		body = strings.NewReader(c.expand(st.body))
		if n, ok := strings.CutPrefix(st.body, "@zeros:"); ok {
			size, err := strconv.Atoi(n)
			if err != nil {
				return nil, err
			}
			body = bytes.NewReader(make([]byte, size))
		}
	}
	req, err := http.NewRequestWithContext(ctx, st.method, root+c.expand(st.path), body)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json")
	if st.hasBody {
		req.Header.Set("Content-Type", "application/json")
	}
	if t := c.tokens[st.actor]; t != "" {
		req.Header.Set("X-Auth-Token", t)
	} else if st.actor != "none" {
		return nil, fmt.Errorf("no actor %s", st.actor)
	}
	if st.version != "" {
		req.Header.Set("OpenStack-API-Version", st.service+" "+st.version)
	}
	for _, h := range st.header {
		if h[1] == "" {
			req.Header.Del(h[0])
			continue
		}
		v := c.expand(h[1])
		if t, ok := strings.CutPrefix(v, "token:"); ok {
			v = c.tokens[t]
		}
		req.Header.Set(h[0], v)
	}
	resp, err := c.http.Do(req)
	if err != nil && ctx.Err() == nil {
		return &exchange{Key: st.key, Body: "the connection ended before an answer"}, nil
	}
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	return read(st.key, resp)
}

var variable = regexp.MustCompile(`\{[a-z][a-z0-9]*\}`)

func (c *cloud) expand(s string) string {
	return variable.ReplaceAllStringFunc(s, func(m string) string {
		if v, ok := c.vars[m[1:len(m)-1]]; ok {
			return v
		}
		return m
	})
}
