// Package remote reaches registries of container images: the region's own, whose
// authority is trusted without anyone's configuring it and which may mirror others,
// registries of this machine
// (loopback addresses, with or without TLS, as dockerd has it), and all others by TLS.
package remote

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"sync"

	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/containerd/v2/core/remotes/docker"
)

// Credentials open a registry.
type Credentials struct {
	User, Password string
	Token          string // identity token: for a token of the registry's
	Bearer         string // a token of the registry's, as it is
}

// Registries knows how registries are reached.
type Registries struct {
	authority string  // file of the region's certificate authority; it need not be there
	mirror    *mirror // nil: there is none

	mu      sync.Mutex
	pem     []byte // what the file said
	clients map[string]*http.Client
}

// New knows the region's authority by its file. mirrors may be nil.
func New(ctx context.Context, authority string, mirrors Mirrors) *Registries {
	return &Registries{authority: authority, mirror: newMirror(ctx, mirrors), clients: map[string]*http.Client{}}
}

// client is for one registry: connections are kept from one operation to the next.
func (r *Registries) client(host string) (*http.Client, error) {
	pem, err := os.ReadFile(r.authority)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("the region's certificate authority: %w", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !bytes.Equal(pem, r.pem) {
		r.pem, r.clients = pem, map[string]*http.Client{}
	}
	if c := r.clients[host]; c != nil {
		return c, nil
	}
	roots, err := x509.SystemCertPool()
	if err != nil {
		roots = x509.NewCertPool()
	}
	roots.AppendCertsFromPEM(pem)
	cfg := &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	local, err := docker.MatchLocalhost(host)
	if err != nil {
		return nil, err
	}
	c := &http.Client{}
	if local {
		cfg.InsecureSkipVerify = true // nobody is between us and a loopback address
		c.Transport = docker.NewHTTPFallback(docker.DefaultHTTPTransport(cfg))
	} else {
		c.Transport = docker.DefaultHTTPTransport(cfg)
	}
	r.clients[host] = c
	return c, nil
}

// hubHost serves docker.io.
const hubHost = "registry-1.docker.io"

// host finds the registry of a name's domain.
func (r *Registries) host(domain string, auth docker.Authorizer) (docker.RegistryHost, error) {
	if domain == "docker.io" {
		domain = hubHost
	}
	c, err := r.client(domain)
	if err != nil {
		return docker.RegistryHost{}, err
	}
	return docker.RegistryHost{Client: c, Authorizer: auth, Host: domain, Scheme: "https", Path: "/v2", Capabilities: docker.HostCapabilityPull | docker.HostCapabilityResolve | docker.HostCapabilityPush}, nil
}

// Hosts implements docker.RegistryHosts, for who brings the authorizer.
func (r *Registries) Hosts(domain string) ([]docker.RegistryHost, error) {
	h, err := r.host(domain, nil)
	if err != nil {
		return nil, err
	}
	return append(r.mirror.hosts(domain), h), nil
}

// Resolver opens registries with credentials. track is told of uploads; it may be nil.
func (r *Registries) Resolver(cred Credentials, track docker.StatusTracker) remotes.Resolver {
	header := http.Header{}
	if cred.Bearer != "" {
		header.Set("Authorization", "Bearer "+cred.Bearer)
	}
	return docker.NewResolver(docker.ResolverOptions{Headers: header, Tracker: track, Hosts: func(domain string) ([]docker.RegistryHost, error) {
		h, err := r.host(domain, nil)
		if err != nil {
			return nil, err
		}
		if cred.Bearer != "" {
			return []docker.RegistryHost{h}, nil // the token is for nobody else
		}
		h.Authorizer = authorizer(h.Client, cred, nil)
		return append(r.mirror.hosts(domain), h), nil
	}})
}
