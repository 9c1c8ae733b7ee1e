package ingress

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"strings"
	"sync/atomic"
	"time"
)

// certificates are what TLS answers with.
type certificates struct {
	byName atomic.Pointer[map[string]*tls.Certificate] // "*.example.org" is a wildcard
	other  *tls.Certificate                            // for names that no Ingress has
}

// newCertificates makes the one for others: nobody trusts it.
func newCertificates() (*certificates, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	t := &x509.Certificate{SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: "no Ingress has a certificate for this name"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(10, 0, 0), KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	raw, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return nil, err
	}
	c := &certificates{other: &tls.Certificate{Certificate: [][]byte{raw}, PrivateKey: key}}
	c.byName.Store(&map[string]*tls.Certificate{})
	return c, nil
}

func (c *certificates) config() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: func(h *tls.ClientHelloInfo) (*tls.Certificate, error) { return c.find(h.ServerName), nil }}
}

func (c *certificates) find(name string) *tls.Certificate {
	all := *c.byName.Load()
	name = strings.ToLower(name)
	if x := all[name]; x != nil && name != "" {
		return x
	}
	if _, domain, ok := strings.Cut(name, "."); ok {
		if x := all["*."+domain]; x != nil {
			return x
		}
	}
	return c.other
}
