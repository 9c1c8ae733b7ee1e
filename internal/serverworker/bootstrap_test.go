package serverworker

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/strata-cloud/strata/internal/nodeapi"
)

// authority signs for the tests.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func (a *authority) sign(t *testing.T, name string, key any) []byte {
	t.Helper()
	tpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour), IsCA: a.cert == nil, BasicConstraintsValid: true}
	parent := a.cert
	if parent == nil {
		parent = tpl
	}
	der, err := x509.CreateCertificate(rand.Reader, tpl, parent, key, a.key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func newKey(t *testing.T) (*ecdsa.PrivateKey, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw})
}

func certificate(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// TestBootstrap: what the guest got is moved to where root alone reads it, and found again
// there; a certificate that was renewed takes the first one's place, until the server is
// another worker.
func TestBootstrap(t *testing.T) {
	a := &authority{}
	a.key, _ = newKey(t)
	var err error
	if a.cert, err = x509.ParseCertificate(a.sign(t, "authority", &a.key.PublicKey)); err != nil {
		t.Fatal(err)
	}
	dir, from := filepath.Join(t.TempDir(), "worker"), filepath.Join(t.TempDir(), "user-data")
	give := func(worker string) {
		t.Helper()
		key, keyPEM := newKey(t)
		raw, err := json.Marshal(nodeapi.KubeBootstrap{Version: 1, Worker: worker, Cluster: "c", Control: []string{"192.0.2.1:5001"}, CA: certificate(a.cert.Raw),
			Link: nodeapi.KubePair{Cert: certificate(a.sign(t, worker, &key.PublicKey)), Key: keyPEM}})
		if err == nil {
			err = os.WriteFile(from, raw, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	load := func() *identity {
		t.Helper()
		b, err := take(t.Context(), from, dir)
		if err != nil {
			t.Fatal(err)
		}
		id, err := newIdentity(dir, b)
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	if err := os.WriteFile(from, []byte("#!/bin/sh\n"), 0o644); err != nil { // somebody else's
		t.Fatal(err)
	}
	soon, cancel := context.WithTimeout(t.Context(), 3*bootLook)
	defer cancel()
	if _, err := take(soon, from, dir); err == nil {
		t.Error("a script is taken for what a worker is told")
	}
	give("w1")
	first := load()
	if info, err := os.Stat(filepath.Join(dir, "bootstrap")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("it is kept as %v, %v", info, err)
	}
	if _, err := os.Stat(from); !os.IsNotExist(err) {
		t.Errorf("the user data is left (%v)", err)
	}
	if cn := load().get().Leaf.Subject.CommonName; cn != "w1" { // after a reboot
		t.Errorf("it is %s", cn)
	}
	err = first.renewNow(t.Context(), func(_ context.Context, csr []byte) ([]byte, error) {
		r, err := x509.ParseCertificateRequest(csr)
		if err != nil {
			return nil, err
		}
		return a.sign(t, "renewed "+r.Subject.CommonName, r.PublicKey), nil
	})
	if err != nil || first.get().Leaf.Subject.CommonName != "renewed w1" || load().get().Leaf.Subject.CommonName != "renewed w1" {
		t.Errorf("after a renewal it is %s (%v)", first.get().Leaf.Subject.CommonName, err)
	}
	give("w2")
	if cn := load().get().Leaf.Subject.CommonName; cn != "w2" {
		t.Errorf("told to be another, it is %s", cn)
	}
}
