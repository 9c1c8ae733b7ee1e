package kube

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/strata-cloud/strata/internal/kube/authority"
)

// Directories of a cluster's part on a machine.
const (
	controlDir = "control"
	workerDir  = "worker"
	pkiDir     = "pki"
	configDir  = "config"
	dataDir    = "data"

	podLogs = "pod-logs"
)

// issued is a certificate that an authority of the cluster issues.
type issued struct {
	by   *authority.Pair
	leaf authority.Leaf
}

// ensure has the certificate and its key at path.crt and path.key. One that is soon
// over, of another authority or for other names is replaced.
func (i issued) ensure(path string) error {
	cert, err := os.ReadFile(path + ".crt")
	if err == nil && i.by.Vouches(cert, i.leaf, time.Now()) {
		if _, err := os.Stat(path + ".key"); err == nil {
			return nil
		}
	}
	p, err := i.by.Issue(i.leaf)
	if err != nil {
		return err
	}
	// The certificate last: it is what tells that all is there.
	if err := os.Remove(path + ".crt"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := writeFile(path+".key", p.Key); err != nil {
		return err
	}
	return writeFile(path+".crt", p.Cert)
}

// writeFile has a file for nobody else's eyes with this content.
func writeFile(path string, content []byte) error {
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, content) {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(path+".new", content, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// writeKubeconfig writes one that names files.
func writeKubeconfig(path, url, ca, cert, key string) error {
	return writeFile(path, fmt.Appendf(nil, `apiVersion: v1
kind: Config
clusters:
- name: cluster
  cluster: {server: %q, certificate-authority: %q}
users:
- name: user
  user: {client-certificate: %q, client-key: %q}
contexts:
- name: context
  context: {cluster: cluster, user: user}
current-context: context
`, url, ca, cert, key))
}

// revision names the contents of all files in the directories, which a program reads when
// it starts.
func revision(dirs ...string) (string, error) {
	sum := sha256.New()
	for _, dir := range dirs {
		all, err := os.ReadDir(dir)
		if err != nil {
			return "", err
		}
		for _, e := range all {
			if !e.Type().IsRegular() {
				continue
			}
			raw, err := os.ReadFile(filepath.Join(dir, e.Name()))
			if err != nil {
				return "", err
			}
			fmt.Fprintf(sum, "%s %d\n%s", e.Name(), len(raw), raw)
		}
	}
	return hex.EncodeToString(sum.Sum(nil)[:8]), nil
}
