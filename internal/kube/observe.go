package kube

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"time"
)

// State is what a cluster's API says.
type State struct {
	Version string
	Nodes   []Node
}

// Node is a node of a cluster.
type Node struct {
	Name  string
	Ready bool
	Why   string // it is not ready
}

// observeTimeout bounds one question, maxAnswer what is read of its answer.
const (
	observeTimeout = 5 * time.Second
	maxAnswer      = 64 << 20
)

// Observe asks a control plane of this machine how the cluster is. A new one is given what
// every cluster has; nodes that are gone are removed from it.
func (m *Machine) Observe(ctx context.Context, c *Control, gone []string) (*State, error) {
	a, err := m.admin(c)
	if err != nil {
		return nil, err
	}
	defer a.client.CloseIdleConnections()
	if _, err := a.do(ctx, http.MethodGet, "/readyz"); err != nil {
		return nil, err
	}
	if err := m.equip(ctx, a, c); err != nil {
		return nil, err
	}
	for _, name := range gone {
		if _, err := a.do(ctx, http.MethodDelete, "/api/v1/nodes/"+url.PathEscape(name)); err != nil && !errors.Is(err, errAbsent) {
			return nil, err
		}
	}
	var version struct{ GitVersion string }
	if err := a.read(ctx, "/version", &version); err != nil {
		return nil, err
	}
	s := &State{Version: version.GitVersion}
	s.Nodes, err = a.nodes(ctx)
	return s, err
}

// admin is an administrator of a cluster.
type admin struct {
	client *http.Client
	url    string
}

func (m *Machine) admin(c *Control) (*admin, error) {
	p := &plane{Control: c, dir: filepath.Join(m.Dir, c.ID, controlDir)}
	pair, err := tls.LoadX509KeyPair(p.pki("admin.crt"), p.pki("admin.key"))
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(c.Authorities.Cluster.Cert) {
		return nil, errors.New("the cluster has no authority")
	}
	conf := &tls.Config{Certificates: []tls.Certificate{pair}, RootCAs: roots, MinVersion: tls.VersionTLS12}
	return &admin{url: c.URL(), client: &http.Client{Timeout: observeTimeout, Transport: &http.Transport{TLSClientConfig: conf}}}, nil
}

// errAbsent: what was asked for is not there.
var errAbsent = errors.New("it is not there")

func (a *admin) do(ctx context.Context, method, path string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, a.url+path, nil)
	if err != nil {
		return nil, err
	}
	return a.answer(req)
}

func (a *admin) answer(req *http.Request) ([]byte, error) {
	method, path := req.Method, req.URL.Path
	resp, err := a.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	switch {
	case err != nil:
		return nil, fmt.Errorf("%s %s: %w", method, path, err)
	case resp.StatusCode == http.StatusNotFound:
		return nil, fmt.Errorf("%s %s: %w", method, path, errAbsent)
	case resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusCreated:
		return nil, fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, strings.TrimSpace(string(raw[:min(len(raw), 500)])))
	}
	return raw, nil
}

func (a *admin) read(ctx context.Context, path string, to any) error {
	raw, err := a.do(ctx, http.MethodGet, path)
	if err != nil {
		return err
	}
	return json.Unmarshal(raw, to)
}

// nodes are the cluster's nodes with their condition Ready.
func (a *admin) nodes(ctx context.Context) ([]Node, error) {
	var list struct {
		Items []struct {
			Metadata struct{ Name string }
			Status   struct {
				Conditions []struct{ Type, Status, Reason, Message string }
			}
		}
	}
	if err := a.read(ctx, "/api/v1/nodes", &list); err != nil {
		return nil, err
	}
	var out []Node
	for _, i := range list.Items {
		n := Node{Name: i.Metadata.Name, Why: "it has not said that it is ready"}
		for _, c := range i.Status.Conditions {
			if c.Type != "Ready" {
				continue
			}
			if n.Ready, n.Why = c.Status == "True", ""; !n.Ready {
				n.Why = strings.TrimSpace(c.Reason + " " + c.Message)
			}
		}
		out = append(out, n)
	}
	return out, nil
}
