package region

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"time"

	"github.com/strata-cloud/strata/internal/nodelink"
)

// controlCertFile has a control member's certificate and its key. Every member has the
// authority's key and makes its own at each start.
const controlCertFile = "control.crt"

// controlName is the common name of control members' certificates. No node is
// called so: their names have no capitals and no spaces.
const controlName = "Strata control member"

// credentials are what a control member shows the others, and its own node shows
// the leader.
type credentials struct {
	cfg     *Config
	control certificate
	node    certificate
	roots   *x509.CertPool
}

func newCredentials(cfg *Config) (*credentials, error) {
	c := &credentials{cfg: cfg, roots: x509.NewCertPool()}
	return c, c.issue()
}

// issue makes the certificates anew.
func (c *credentials) issue() error {
	ca, key, err := ensureCA(c.cfg)
	if err != nil {
		return err
	}
	c.roots.AddCert(ca)
	both := []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	control, err := issueAs(ca, key, []string{c.cfg.addr(), c.cfg.Node}, &x509.Certificate{ExtKeyUsage: both,
		Subject: pkix.Name{CommonName: controlName, OrganizationalUnit: []string{nodelink.ControlUnit}}})
	if err != nil {
		return err
	}
	node, err := issueAs(ca, key, nil, &x509.Certificate{ExtKeyUsage: both[1:],
		Subject: pkix.Name{CommonName: c.cfg.Node, OrganizationalUnit: []string{nodelink.NodeUnit}}})
	if err != nil {
		return err
	}
	if err := c.write(control); err != nil {
		return err
	}
	c.control.set(&control)
	c.node.set(&node)
	return nil
}

// write gives etcd the certificate, which reads it at each handshake.
func (c *credentials) write(pair tls.Certificate) error {
	raw, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		return err
	}
	var out []byte
	for _, der := range pair.Certificate {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	out = append(out, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw})...)
	return replaceFile(c.cfg.path(controlCertFile), out, 0o600)
}

// renew makes them anew when two thirds of their life are over.
func (c *credentials) renew(ctx context.Context) {
	tick := time.NewTicker(renewCheck)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		if leaf := c.control.get().Leaf; time.Until(leaf.NotAfter) < leaf.NotAfter.Sub(leaf.NotBefore)/3 {
			if err := c.issue(); err != nil {
				c.cfg.Log.Error("this member's certificate is not renewed", "expires", leaf.NotAfter, "err", err)
			}
		}
	}
}

// server are the settings of the cluster's port.
func (c *credentials) server() *tls.Config {
	return &tls.Config{ClientCAs: c.roots, MinVersion: tls.VersionTLS13,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.control.get(), nil }}
}

// client are the settings for calling others as a control member, or as a node.
func (c *credentials) client(as *certificate) *tls.Config {
	return &tls.Config{RootCAs: c.roots, MinVersion: tls.VersionTLS13,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return as.get(), nil }}
}
