package kubeapi

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/strata-cloud/strata/internal/errs"
)

// Config says where an API is and as whom it is used.
type Config struct {
	Server            string // https://HOST:PORT
	CA                []byte // PEM, whom the server's certificate is from
	Certificate, Key  []byte // PEM, of the client; or
	Token             string // a bearer token
	Manager           string // who applies: the field manager
	MaxResponseLength int64  // bytes; default 64 MiB
}

// FromKubeconfig reads the current context of a kubeconfig with everything in it.
func FromKubeconfig(raw []byte) (Config, error) {
	var k struct {
		Current  string `yaml:"current-context"`
		Contexts []struct {
			Name    string
			Context struct{ Cluster, User string }
		}
		Clusters []struct {
			Name    string
			Cluster struct {
				Server string
				CA     string `yaml:"certificate-authority-data"`
			}
		}
		Users []struct {
			Name string
			User struct {
				Certificate string `yaml:"client-certificate-data"`
				Key         string `yaml:"client-key-data"`
				Token       string
			}
		}
	}
	if err := yaml.Unmarshal(raw, &k); err != nil {
		return Config{}, fmt.Errorf("the kubeconfig: %w", err)
	}
	var c Config
	var bad []error
	decode := func(s string) []byte {
		b, err := base64.StdEncoding.DecodeString(s)
		bad = append(bad, err)
		return b
	}
	for _, x := range k.Contexts {
		if x.Name != k.Current {
			continue
		}
		for _, o := range k.Clusters {
			if o.Name == x.Context.Cluster {
				c.Server, c.CA = o.Cluster.Server, decode(o.Cluster.CA)
			}
		}
		for _, u := range k.Users {
			if u.Name == x.Context.User {
				c.Certificate, c.Key, c.Token = decode(u.User.Certificate), decode(u.User.Key), u.User.Token
			}
		}
	}
	if c.Server == "" {
		bad = append(bad, fmt.Errorf("the kubeconfig has no server for its current context %q", k.Current))
	}
	return c, errors.Join(bad...)
}

// Client is a client of one cluster. It is safe for use by several goroutines.
type Client struct {
	cfg  Config
	http *http.Client
}

// New makes a client. Nothing is asked yet.
func New(cfg Config) (*Client, error) {
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(cfg.CA) {
		return nil, errors.New("there is no certificate of the cluster's authority")
	}
	t := &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	if len(cfg.Certificate) > 0 {
		pair, err := tls.X509KeyPair(cfg.Certificate, cfg.Key)
		if err != nil {
			return nil, fmt.Errorf("the client's certificate: %w", err)
		}
		t.Certificates = []tls.Certificate{pair}
	}
	if cfg.MaxResponseLength == 0 {
		cfg.MaxResponseLength = 64 << 20
	}
	if cfg.Manager == "" {
		cfg.Manager = "strata"
	}
	tr := &http.Transport{TLSClientConfig: t, ForceAttemptHTTP2: true, TLSHandshakeTimeout: dialTimeout, ResponseHeaderTimeout: answerTimeout,
		DialContext: (&net.Dialer{Timeout: dialTimeout}).DialContext}
	return &Client{cfg: cfg, http: &http.Client{Transport: tr}}, nil
}

// How long the API may take to be reached, and to begin an answer.
const (
	dialTimeout   = 10 * time.Second
	answerTimeout = 60 * time.Second
)

// Close ends connections that nobody uses.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Kind is a kind of objects, by which the API has them.
type Kind struct {
	APIVersion string // such as apps/v1
	Kind       string // such as Deployment
	Plural     string // such as deployments
	Clusterly  bool   // is in no namespace
}

// path is where objects are; name "" is all of them, namespace "" those of all namespaces.
func (k Kind) path(namespace, name string, more ...string) string {
	parts := []string{"/apis", k.APIVersion}
	if !strings.Contains(k.APIVersion, "/") {
		parts[0] = "/api"
	}
	if !k.Clusterly && namespace != "" {
		parts = append(parts, "namespaces", url.PathEscape(namespace))
	}
	parts = append(parts, k.Plural)
	if name != "" {
		parts = append(parts, url.PathEscape(name))
	}
	return strings.Join(append(parts, more...), "/")
}

// Read reads what is at a path of the API, such as /version; into may be nil.
func (c *Client) Read(ctx context.Context, path string, into any) error {
	return c.do(ctx, http.MethodGet, path, nil, nil, "", into)
}

// Get reads an object.
func (c *Client) Get(ctx context.Context, k Kind, namespace, name string, into any) error {
	return c.do(ctx, http.MethodGet, k.path(namespace, name), nil, nil, "", into)
}

// List reads objects that have the labels; "" is all. into is a struct with Items.
func (c *Client) List(ctx context.Context, k Kind, namespace, labels string, into any) error {
	return c.do(ctx, http.MethodGet, k.path(namespace, ""), selecting(labels), nil, "", into)
}

func selecting(labels string) url.Values {
	q := url.Values{}
	if labels != "" {
		q.Set("labelSelector", labels)
	}
	return q
}

// Create makes an object, or what a subresource of an object is made by, such as eviction.
// The name is that of the object with the subresource, and else in what is made.
func (c *Client) Create(ctx context.Context, k Kind, namespace, name, subresource string, object any) error {
	var more []string
	if subresource != "" {
		more = []string{subresource}
	}
	return c.do(ctx, http.MethodPost, k.path(namespace, name, more...), nil, object, "application/json", nil)
}

// Apply makes an object as it is said to be, and leaves alone what others have said.
func (c *Client) Apply(ctx context.Context, k Kind, namespace, name string, object any) error {
	q := url.Values{"fieldManager": {c.cfg.Manager}, "force": {"true"}}
	return c.do(ctx, http.MethodPatch, k.path(namespace, name), q, object, "application/apply-patch+yaml", nil)
}

// Merge changes fields of an object, or of a subresource of it such as status or scale.
func (c *Client) Merge(ctx context.Context, k Kind, namespace, name, subresource string, fields any) error {
	var more []string
	if subresource != "" {
		more = []string{subresource}
	}
	return c.do(ctx, http.MethodPatch, k.path(namespace, name, more...), nil, fields, "application/merge-patch+json", nil)
}

// Replace gives a field, whose path is as in RFC 6901, another value as a whole.
func (c *Client) Replace(ctx context.Context, k Kind, namespace, name, field string, value any) error {
	patch := []any{map[string]any{"op": "replace", "path": field, "value": value}}
	return c.do(ctx, http.MethodPatch, k.path(namespace, name), nil, patch, "application/json-patch+json", nil)
}

// Delete deletes an object with all that belongs to it. Absent is fine.
func (c *Client) Delete(ctx context.Context, k Kind, namespace, name string) error {
	err := c.do(ctx, http.MethodDelete, k.path(namespace, name), url.Values{"propagationPolicy": {"Background"}}, nil, "", nil)
	if errs.Is(err, errs.NotFound) {
		return nil
	}
	return err
}

// do asks and reads the answer.
func (c *Client) do(ctx context.Context, method, path string, q url.Values, body any, kind string, into any) error {
	res, err := c.ask(ctx, method, path, q, body, kind)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	limited := io.LimitReader(res.Body, c.cfg.MaxResponseLength)
	if into == nil {
		_, err = io.Copy(io.Discard, limited)
		return err
	}
	if err := json.NewDecoder(limited).Decode(into); err != nil {
		return fmt.Errorf("the answer to %s %s: %w", method, path, err)
	}
	return nil
}

// ask gives an answer that is no refusal.
func (c *Client) ask(ctx context.Context, method, path string, q url.Values, body any, kind string) (*http.Response, error) {
	var in io.Reader
	if body != nil {
		raw, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		in = bytes.NewReader(raw)
	}
	at := strings.TrimSuffix(c.cfg.Server, "/") + path
	if len(q) > 0 {
		at += "?" + q.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, at, in)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json")
	if kind != "" {
		req.Header.Set("Content-Type", kind)
	}
	if c.cfg.Token != "" {
		req.Header.Set("Authorization", "Bearer "+c.cfg.Token)
	}
	res, err := c.http.Do(req)
	if err != nil {
		return nil, errs.New(errs.Unavailable, "the cluster's API: %s", err)
	}
	if res.StatusCode/100 == 2 {
		return res, nil
	}
	defer res.Body.Close()
	return nil, refusal(res)
}

// maxRefusal bounds what is read of a refusal, in bytes.
const maxRefusal = 64 << 10

// refusal is the error of an answer that is a Status (or should be).
func refusal(res *http.Response) error {
	var st struct{ Message string }
	raw, _ := io.ReadAll(io.LimitReader(res.Body, maxRefusal))
	if json.Unmarshal(raw, &st) != nil || st.Message == "" {
		st.Message = "the cluster's API answers " + res.Status
	}
	kind := errs.KindOfStatus(res.StatusCode)
	switch res.StatusCode {
	case http.StatusUnprocessableEntity:
		kind = errs.Invalid
	case http.StatusGone:
		kind = errs.Precondition
	}
	return errs.New(kind, "%s", st.Message)
}
