package region

import (
	"bytes"
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/store"
)

// The files of a machine that joined, in its data directory.
const (
	memberFile   = "node.json"
	nodeCertFile = "node.crt"
)

// Member is what a machine that joined remembers.
type Member struct {
	Node       string `json:"node"`
	Control    string `json:"control"` // host:port of the cluster's port
	Addr       string `json:"addr"`    // of this machine, as it reaches the control plane
	PublicCIDR string `json:"public_cidr"`
	// Members are the cluster ports of all control members, as last told.
	Members []string `json:"members,omitempty"`
	// Council makes it a control member, too.
	Council *CouncilMember `json:"council,omitempty"`
}

// CouncilMember is what a machine remembers that joined the control plane.
type CouncilMember struct {
	Listen       string        `json:"listen"`
	Cluster      string        `json:"cluster_listen"`
	ReclaimAfter time.Duration `json:"reclaim_after"`
	Peers        []store.Peer  `json:"peers"` // the members that there were then
}

// ReadMember tells what a machine joined; fs.ErrNotExist: nothing.
func ReadMember(cfg *Config) (*Member, error) {
	raw, err := os.ReadFile(cfg.path(memberFile))
	if err != nil {
		return nil, err
	}
	var m Member
	if err := json.Unmarshal(raw, &m); err != nil {
		return nil, fmt.Errorf("%s: %w", cfg.path(memberFile), err)
	}
	return &m, nil
}

func caHash(der []byte) string {
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:])
}

// Join makes this machine a node of the region at the address, https://HOST:PORT.
// It is done when node.json is there.
func Join(ctx context.Context, cfg *Config, address, token string) (*Member, error) {
	if m, err := ReadMember(cfg); err == nil {
		return nil, errs.Conflictf("this machine is node %s of the cloud at %s already: strata up starts it, strata reset takes it out", m.Node, m.Control)
	}
	if _, err := os.Stat(cfg.path("store")); err == nil {
		return nil, errs.Conflictf("there is a cloud of its own in %s: choose another --data-dir, or strata reset removes it", cfg.DataDir)
	}
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "https" || u.Port() == "" {
		return nil, errs.Invalidf("%q is not the address of a cloud for machines that join, such as https://192.0.2.10:%s", address, ClusterPort)
	}
	hash, secret, ok := strings.Cut(token, ".")
	if !ok || len(hash) != 2*sha256.Size {
		return nil, errs.Invalidf("that is no token: strata token create on the cloud's machine makes one")
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: cfg.Node}}, key)
	if err != nil {
		return nil, err
	}
	j := &joining{hash: hash, cluster: cfg.Cluster}
	out, err := j.ask(ctx, u.Host, joinRequest{Token: secret, Name: cfg.Node, CSR: csr})
	if err != nil {
		return nil, err
	}
	m := &Member{Node: cfg.Node, Control: u.Host, Addr: j.addr, PublicCIDR: out.PublicCIDR, Members: out.Members}
	if out.Control != nil {
		m.Council = &CouncilMember{Listen: cmp.Or(joinListen(cfg), net.JoinHostPort(j.addr, apiPort)), Cluster: j.cluster, ReclaimAfter: out.Control.ReclaimAfter, Peers: out.Control.Peers}
	}
	return m, j.write(cfg, m, key, out)
}

// joinListen is what the command line says of the APIs' address, if anything.
func joinListen(cfg *Config) string {
	if cfg.Listen == DefaultListen {
		return "" // which others would not reach
	}
	return cfg.Listen
}

// joining is one machine's conversation with the control plane.
type joining struct {
	hash    string
	ca      []byte // DER
	addr    string
	cluster string // where this machine would be reached as a control member
}

// ask sends the request once the other end has proved to be of the token's authority.
func (j *joining) ask(ctx context.Context, host string, in joinRequest) (*joinAnswer, error) {
	if err := j.reach(ctx, host); err != nil {
		return nil, fmt.Errorf("asking %s: %w", host, err)
	}
	in.Cluster = j.cluster
	body, err := json.Marshal(in)
	if err != nil {
		return nil, err
	}
	client := &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{DialTLSContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		return j.dial(ctx, network, addr)
	}}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+host+"/join", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("asking %s: %w", host, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		var fault struct{ Message string }
		_ = json.NewDecoder(io.LimitReader(resp.Body, maxJoin)).Decode(&fault) // the status says it too
		return nil, fmt.Errorf("the cloud at %s refuses (%s): %s", host, resp.Status, fault.Message)
	}
	var out joinAnswer
	return &out, json.NewDecoder(io.LimitReader(resp.Body, maxJoin)).Decode(&out)
}

func (j *joining) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	conf := &tls.Config{MinVersion: tls.VersionTLS13, InsecureSkipVerify: true, VerifyConnection: j.verify, NextProtos: []string{"http/1.1"}}
	return (&tls.Dialer{Config: conf}).DialContext(ctx, network, addr)
}

// reach finds out this machine's own address on the way to the control plane.
func (j *joining) reach(ctx context.Context, host string) error {
	c, err := j.dial(ctx, "tcp", host)
	if err != nil {
		return err
	}
	j.addr, _, _ = net.SplitHostPort(c.LocalAddr().String())
	j.cluster = cmp.Or(j.cluster, net.JoinHostPort(j.addr, ClusterPort))
	return c.Close()
}

// verify holds the other end's authority against the token, and its certificate against the authority.
func (j *joining) verify(s tls.ConnectionState) error {
	last := s.PeerCertificates[len(s.PeerCertificates)-1]
	if subtle.ConstantTimeCompare([]byte(caHash(last.Raw)), []byte(j.hash)) != 1 {
		return errors.New("its certificate is not of the authority that the token names: the address or the token is another cloud's")
	}
	roots := x509.NewCertPool()
	roots.AddCert(last)
	if _, err := s.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: roots}); err != nil {
		return err
	}
	j.ca = last.Raw
	return nil
}

// write keeps what was given; node.json comes last.
func (j *joining) write(cfg *Config, m *Member, key *ecdsa.PrivateKey, out *joinAnswer) error {
	if err := os.MkdirAll(cfg.DataDir, 0o711); err != nil {
		return fmt.Errorf("making the data directory: %w; choose another with --data-dir", err)
	}
	if err := writeNodeCert(cfg, key, out.Certificate); err != nil {
		return err
	}
	if err := os.WriteFile(cfg.path(caCertFile), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: j.ca}), 0o644); err != nil {
		return err
	}
	if out.Control != nil {
		if err := writeControl(cfg, m, out.Control); err != nil {
			return err
		}
	}
	return m.write(cfg)
}

// writeControl keeps what a control member has besides.
func writeControl(cfg *Config, m *Member, out *controlAnswer) error {
	if err := replaceFile(cfg.path(caKeyFile), out.CAKey, 0o600); err != nil {
		return err
	}
	if len(out.Policy) > 0 {
		if err := replaceFile(cfg.path(policyFile), out.Policy, 0o644); err != nil {
			return err
		}
	}
	at := *cfg
	at.Listen = m.Council.Listen
	return writeClouds(&at, cfg.path(CloudsFile), passwords{out.Admin, out.Demo})
}

// write keeps what is remembered, in one step.
func (m *Member) write(cfg *Config) error {
	raw, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	return replaceFile(cfg.path(memberFile), append(raw, '\n'), 0o600)
}

// writeNodeCert replaces the certificate and its key, which are one file's worth so
// that they always belong together.
func writeNodeCert(cfg *Config, key *ecdsa.PrivateKey, cert []byte) error {
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	both := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw})...)
	return replaceFile(cfg.path(nodeCertFile), both, 0o600)
}

// replaceFile puts a file in the place of another in one step.
func replaceFile(path string, data []byte, mode fs.FileMode) error {
	if err := os.WriteFile(path+".new", data, mode); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}
