package serverworker

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/wait"
)

// bootLook is how often the user data is looked for, which comes during the boot.
const bootLook = 200 * time.Millisecond

// take waits for what the server is told and keeps it where root alone reads it.
func take(ctx context.Context, from, dir string) (*nodeapi.KubeBootstrap, error) {
	kept := filepath.Join(dir, "bootstrap")
	var b *nodeapi.KubeBootstrap
	err := wait.Until(ctx, "the user data in "+from, bootLook, func(context.Context) (bool, error) {
		for _, path := range []string{from, kept} {
			raw, err := os.ReadFile(path)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return false, err
			}
			if b, err = parse(raw); err != nil && path == from {
				continue // somebody else's, or not all of it yet
			} else if err != nil {
				return false, err
			}
			if path == kept {
				return true, nil
			}
			if err := writeSecret(kept, raw); err != nil {
				return false, err
			}
			if err := os.Remove(filepath.Join(dir, linkFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return false, err // of an earlier identity
			}
			return true, os.Remove(from)
		}
		return false, nil
	})
	return b, err
}

func parse(raw []byte) (*nodeapi.KubeBootstrap, error) {
	var b nodeapi.KubeBootstrap
	if err := json.Unmarshal(raw, &b); err != nil {
		return nil, err
	}
	if b.Version != 1 || b.Worker == "" || b.Cluster == "" || len(b.Control) == 0 {
		return nil, fmt.Errorf("that is not what a worker is told")
	}
	return &b, nil
}

// writeSecret has a file for root alone.
func writeSecret(path string, raw []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(path+".new", raw, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

const linkFile = "link.pem"

// identity is the worker's certificate for the link, which is replaced while it is used.
type identity struct {
	dir    string
	worker string
	roots  *x509.CertPool
	mu     sync.Mutex
	pair   *tls.Certificate
}

// newIdentity has the newest certificate there is.
func newIdentity(dir string, b *nodeapi.KubeBootstrap) (*identity, error) {
	id := &identity{dir: dir, worker: b.Worker, roots: x509.NewCertPool()}
	if !id.roots.AppendCertsFromPEM(b.CA) {
		return nil, fmt.Errorf("the region's authority is no certificate")
	}
	cert, key := b.Link.Cert, b.Link.Key
	if raw, err := os.ReadFile(filepath.Join(dir, linkFile)); err == nil {
		cert, key = raw, raw
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("the certificate of the link: %w", err)
	}
	id.pair = &pair
	return id, nil
}

func (id *identity) get() *tls.Certificate {
	id.mu.Lock()
	defer id.mu.Unlock()
	return id.pair
}

func (id *identity) tls() *tls.Config {
	return &tls.Config{RootCAs: id.roots, MinVersion: tls.VersionTLS13,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return id.get(), nil }}
}

// renewCheck is how often the certificate's age is looked at.
const renewCheck = time.Hour

// renew replaces the certificate when two thirds of its life are over.
func (id *identity) renew(ctx context.Context, ask func(ctx context.Context, csr []byte) ([]byte, error), log *slog.Logger) {
	tick := time.NewTicker(renewCheck)
	defer tick.Stop()
	for {
		leaf := id.get().Leaf
		if left, life := time.Until(leaf.NotAfter), leaf.NotAfter.Sub(leaf.NotBefore); left < life/3 {
			if err := id.renewNow(ctx, ask); err != nil && ctx.Err() == nil {
				log.Warn("the certificate of the link is not renewed", "expires", leaf.NotAfter, "err", err)
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func (id *identity) renewNow(ctx context.Context, ask func(ctx context.Context, csr []byte) ([]byte, error)) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: id.worker}}, key)
	if err != nil {
		return err
	}
	der, err := ask(ctx, csr)
	if err != nil {
		return err
	}
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	both := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw})...)
	pair, err := tls.X509KeyPair(both, both)
	if err != nil {
		return err
	}
	if err := writeSecret(filepath.Join(id.dir, linkFile), both); err != nil {
		return err
	}
	id.mu.Lock()
	defer id.mu.Unlock()
	id.pair = &pair
	return nil
}
