package region

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"time"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/nodelink"
)

// The files of the region's certificate authority in the data directory.
const (
	caCertFile = "ca.crt"
	caKeyFile  = "ca.key"
)

// A server certificate is made anew at every start and lives long enough for
// one; the authority's own lives ten years.
const (
	caLife   = 10 * 365 * 24 * time.Hour
	certLife = 398 * 24 * time.Hour
)

// serverTLS makes the TLS settings for listeners that are not on loopback.
func serverTLS(cfg *Config) (*tls.Config, error) {
	ca, key, err := ensureCA(cfg)
	if err != nil {
		return nil, fmt.Errorf("certificate authority: %w", err)
	}
	leaf, err := issue(ca, key, serverNames(cfg))
	if err != nil {
		return nil, fmt.Errorf("server certificate: %w", err)
	}
	return &tls.Config{Certificates: []tls.Certificate{leaf}, MinVersion: tls.VersionTLS12}, nil
}

func serverNames(cfg *Config) []string { return namesAt(cfg.Listen) }

// namesAt are the names under which this machine is reached at a listener's address.
func namesAt(listen string) []string {
	names := []string{"localhost", "127.0.0.1", "::1"}
	if host, _, err := net.SplitHostPort(listen); err == nil && host != "" {
		names = append(names, host)
	}
	if h, err := os.Hostname(); err == nil {
		names = append(names, h)
	}
	addrs, _ := net.InterfaceAddrs()
	for _, a := range addrs {
		if ip, ok := a.(*net.IPNet); ok {
			names = append(names, ip.IP.String())
		}
	}
	return names
}

func ensureCA(cfg *Config) (*x509.Certificate, *ecdsa.PrivateKey, error) {
	certPEM, err := os.ReadFile(cfg.path(caCertFile))
	if errors.Is(err, fs.ErrNotExist) {
		return newCA(cfg)
	} else if err != nil {
		return nil, nil, err
	}
	keyPEM, err := os.ReadFile(cfg.path(caKeyFile))
	if err != nil {
		return nil, nil, err
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return nil, nil, err
	}
	key, ok := pair.PrivateKey.(*ecdsa.PrivateKey)
	if !ok {
		return nil, nil, fmt.Errorf("%s is not an ECDSA key", caKeyFile)
	}
	return pair.Leaf, key, nil
}

func newCA(cfg *Config) (*x509.Certificate, *ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	t := &x509.Certificate{SerialNumber: serial(), Subject: pkix.Name{CommonName: "Strata " + Name(cfg.DataDir)}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(caLife), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign}
	der, err := x509.CreateCertificate(rand.Reader, t, t, &key.PublicKey, key)
	if err != nil {
		return nil, nil, err
	}
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, err
	}
	// The key first: a certificate without its key would never be replaced.
	if err := os.WriteFile(cfg.path(caKeyFile), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw}), 0o600); err != nil {
		return nil, nil, err
	}
	if err := os.WriteFile(cfg.path(caCertFile), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644); err != nil {
		return nil, nil, err
	}
	ca, err := x509.ParseCertificate(der)
	return ca, key, err
}

func issue(ca *x509.Certificate, caKey *ecdsa.PrivateKey, names []string) (tls.Certificate, error) {
	return issueAs(ca, caKey, names, &x509.Certificate{Subject: pkix.Name{CommonName: "Strata API"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
}

func issueAs(ca *x509.Certificate, caKey *ecdsa.PrivateKey, names []string, t *x509.Certificate) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	for _, n := range names {
		if ip := net.ParseIP(n); ip != nil {
			t.IPAddresses = append(t.IPAddresses, ip)
		} else {
			t.DNSNames = append(t.DNSNames, n)
		}
	}
	der, err := sign(ca, caKey, t, &key.PublicKey, certLife)
	if err != nil {
		return tls.Certificate{}, err
	}
	leaf, err := x509.ParseCertificate(der)
	return tls.Certificate{Certificate: [][]byte{der, ca.Raw}, PrivateKey: key, Leaf: leaf}, err
}

// sign completes a certificate that is not an authority's.
func sign(ca *x509.Certificate, caKey *ecdsa.PrivateKey, t *x509.Certificate, key any, life time.Duration) ([]byte, error) {
	t.SerialNumber, t.KeyUsage = serial(), x509.KeyUsageDigitalSignature
	t.NotBefore, t.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(life)
	return x509.CreateCertificate(rand.Reader, t, ca, key, caKey)
}

// nodeLife is how long a node's certificate lasts; agents renew theirs well before.
const nodeLife = 90 * 24 * time.Hour

// signNode signs a node's certificate request (DER) for its name, whatever name it asks for.
func (r *Region) signNode(node string, csr []byte) ([]byte, error) {
	req, err := x509.ParseCertificateRequest(csr)
	if err == nil {
		err = req.CheckSignature()
	}
	if err != nil {
		return nil, errs.Invalidf("that is no certificate request: %w", err)
	}
	ca, key, err := ensureCA(&r.cfg)
	if err != nil {
		return nil, err
	}
	return sign(ca, key, &x509.Certificate{Subject: pkix.Name{CommonName: node, OrganizationalUnit: []string{nodelink.NodeUnit}},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}, req.PublicKey, nodeLife)
}

func serial() *big.Int {
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		panic(err) // crypto/rand does not fail on Linux
	}
	return n
}
