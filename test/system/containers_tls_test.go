package system

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// remote is a docker that reaches the engine over TLS with the certificates in dir.
func (d *dock) remote(addr, dir string, stdin []byte, args ...string) result {
	d.t.Helper()
	far := *d
	far.env = []string{"DOCKER_HOST=tcp://" + addr, "DOCKER_TLS_VERIFY=1", "DOCKER_CERT_PATH=" + dir}
	return far.run(stdin, args...)
}

// TestContainersTLS uses the engine from elsewhere.
func TestContainersTLS(t *testing.T) {
	addr := "127.0.0.1:" + freeTCP(t)
	d := newDock(t, "--containers-listen", addr)
	dir := filepath.Join(t.TempDir(), "certs")
	if out := d.cloud.Must("containers", "cert", "--name", "alice", dir); !strings.Contains(out, "DOCKER_CERT_PATH="+dir) {
		t.Errorf("strata containers cert says: %s", out)
	}
	for _, f := range []string{"ca.pem", "cert.pem", "key.pem"} {
		if fi, err := os.Stat(filepath.Join(dir, f)); err != nil || fi.Mode() != 0o600 {
			t.Errorf("%s: %v, %v", f, fi, err)
		}
	}
	if r := d.remote(addr, dir, []byte("typed\n"), "run", "--rm", "-i", "busybox", "cat"); r.out != "typed\n" || r.code != 0 {
		t.Errorf("a stream in both directions: %+v", r)
	}
	if r := d.remote(addr, dir, nil, "run", "--rm", "busybox", "sh", "-c", "echo e >&2; exit 7"); r.errs != "e\n" || r.code != 7 {
		t.Errorf("output and status: %+v", r)
	}
	pair, err := tls.LoadX509KeyPair(filepath.Join(d.cloud.Dir, "ca.crt"), filepath.Join(d.cloud.Dir, "ca.key"))
	if err != nil {
		t.Fatal(err)
	}
	own := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Eve"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	key := must[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	// The connection is closed with the alert: what docker had written by then makes it a reset.
	refused := regexp.MustCompile(`tls|certificate|connection reset by peer|broken pipe`)
	for name, by := range map[string]struct {
		unit string
		ca   *x509.Certificate
		key  any
		life time.Duration
	}{
		"a node's":            {"strata-node", pair.Leaf, pair.PrivateKey, time.Hour},
		"one without a unit":  {"", pair.Leaf, pair.PrivateKey, time.Hour},
		"another authority's": {"strata-docker", own, key, time.Hour},
		"an expired one":      {"strata-docker", pair.Leaf, pair.PrivateKey, -time.Minute},
	} {
		bad := clientCert(t, filepath.Join(dir, "ca.pem"), by.unit, by.ca, by.key, by.life)
		if r := d.remote(addr, bad, nil, "ps"); r.code == 0 || r.out != "" || !refused.MatchString(r.errs) {
			t.Errorf("with %s certificate: %+v", name, r)
		}
	}
	far := *d
	far.env = []string{"DOCKER_HOST=tcp://" + addr}
	if r := far.run(nil, "ps"); r.code == 0 {
		t.Errorf("without TLS: %+v", r)
	}
	if r := d.remote(addr, dir, nil, "ps", "-aq"); r.code != 0 || r.out != "" {
		t.Errorf("afterwards: %+v", r)
	}
}

// clientCert makes a directory of certificates that an authority signs.
func clientCert(t *testing.T, ca, unit string, by *x509.Certificate, byKey any, life time.Duration) string {
	t.Helper()
	dir := t.TempDir()
	key := must[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	c := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "someone"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(life), KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	if unit != "" {
		c.Subject.OrganizationalUnit = []string{unit}
	}
	der := must[[]byte](t)(x509.CreateCertificate(rand.Reader, c, by, &key.PublicKey, byKey))
	raw := must[[]byte](t)(x509.MarshalPKCS8PrivateKey(key))
	for file, data := range map[string][]byte{"ca.pem": must[[]byte](t)(os.ReadFile(ca)), "cert.pem": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), "key.pem": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw})} {
		if err := os.WriteFile(filepath.Join(dir, file), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}
