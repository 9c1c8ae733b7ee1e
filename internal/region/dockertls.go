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
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/strata-cloud/strata/internal/errs"
)

// DockerPort is where docker's clients expect an engine with TLS.
const DockerPort = "2376"

// dockerUnit is in the certificates of docker's clients. Those of nodes, of the same
// authority, do not open the engine, and these open nothing else.
const dockerUnit = "strata-docker"

// listenDockerTLS serves docker's clients from elsewhere: those with a certificate.
func listenDockerTLS(cfg *Config) (net.Listener, error) {
	if _, err := os.Stat(cfg.path(caKeyFile)); cfg.joined != "" && errors.Is(err, fs.ErrNotExist) {
		return nil, errs.Invalidf("--containers-listen works on control members, which have the key of the cloud's authority; this machine is only a node: reach its engine by %s over SSH", DockerSocket)
	}
	ca, key, err := ensureCA(cfg)
	if err != nil {
		return nil, fmt.Errorf("certificate authority: %w", err)
	}
	leaf, err := issueAs(ca, key, namesAt(cfg.ContainersListen), &x509.Certificate{Subject: pkix.Name{CommonName: "Strata containers"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	if err != nil {
		return nil, fmt.Errorf("server certificate: %w", err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca)
	return tls.Listen("tcp", cfg.ContainersListen, &tls.Config{Certificates: []tls.Certificate{leaf}, MinVersion: tls.VersionTLS12,
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: roots, VerifyConnection: func(s tls.ConnectionState) error {
			if len(s.PeerCertificates) == 0 || !slices.Equal(s.PeerCertificates[0].Subject.OrganizationalUnit, []string{dockerUnit}) {
				return errors.New("that is no certificate of a docker client: strata containers cert makes one")
			}
			return nil
		}})
}

// DockerCert makes a certificate for docker's clients and puts it into a directory, as
// DOCKER_CERT_PATH names it: ca.pem, cert.pem and key.pem. Who has it is root on the
// engine's machine.
func DockerCert(dataDir, dir, name string, life time.Duration) error {
	cfg := &Config{DataDir: dataDir}
	if life <= 0 || life > caLife {
		return errs.Invalidf("--life %s: a certificate lasts for more than nothing and at most for %s", life, caLife)
	}
	for _, f := range []string{caCertFile, caKeyFile} {
		if _, err := os.Stat(cfg.path(f)); errors.Is(err, fs.ErrNotExist) {
			return errs.NotFoundf("%s has no key of a certificate authority: run this on a control member, after strata up --containers-listen ADDRESS:%s", dataDir, DockerPort)
		} else if err != nil {
			return err
		}
	}
	ca, key, err := ensureCA(cfg)
	if err != nil {
		return err
	}
	return writeDockerCert(ca, key, dir, name, life)
}

func writeDockerCert(ca *x509.Certificate, caKey *ecdsa.PrivateKey, dir, name string, life time.Duration) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	der, err := sign(ca, caKey, &x509.Certificate{Subject: pkix.Name{CommonName: name, OrganizationalUnit: []string{dockerUnit}}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}, &key.PublicKey, life)
	if err != nil {
		return err
	}
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for file, block := range map[string]*pem.Block{"ca.pem": {Type: "CERTIFICATE", Bytes: ca.Raw}, "cert.pem": {Type: "CERTIFICATE", Bytes: der}, "key.pem": {Type: "PRIVATE KEY", Bytes: raw}} {
		if err := replaceFile(filepath.Join(dir, file), pem.EncodeToMemory(block), 0o600); err != nil {
			return err
		}
	}
	return nil
}
