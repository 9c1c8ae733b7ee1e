package kube

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/etcdutl/v3/snapshot"
	"go.uber.org/zap"

	"github.com/strata-cloud/strata/internal/errs"
)

// Where a control plane's etcd is, and a snapshot that a new one begins with.
const (
	etcdURLFile  = "etcd.url"
	snapshotFile = "snapshot"
)

// revisionBump is added to etcd's revision at a restore: what the cluster's controllers
// remember from after the snapshot is never given out again (etcd, "Disaster recovery").
const revisionBump = 1_000_000_000

// snapshotTimeout bounds the wait for an etcd that does not answer.
const snapshotTimeout = 10 * time.Second

// Controls lists the clusters that have a control plane with data in a directory of clusters.
func Controls(dir string) (ids []string, err error) {
	all, err := filepath.Glob(filepath.Join(dir, "*", controlDir, dataDir))
	for _, path := range all {
		ids = append(ids, filepath.Base(filepath.Dir(filepath.Dir(path))))
	}
	return ids, err
}

// Snapshot copies the state of a cluster, which is what its etcd holds, into w, while it
// runs. Unavailable: it does not.
func Snapshot(ctx context.Context, dir, cluster string, w io.Writer) (err error) {
	p := &plane{dir: filepath.Join(dir, cluster, controlDir)}
	url, err := os.ReadFile(p.config(etcdURLFile))
	if err != nil {
		return err
	}
	config, err := p.etcdTLS()
	if err != nil {
		return err
	}
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{strings.TrimSpace(string(url))}, Logger: zap.NewNop(), TLS: config})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	first, cancel := context.WithTimeout(ctx, snapshotTimeout)
	defer cancel()
	if _, err := c.Get(first, "health"); err != nil {
		return errs.New(errs.Unavailable, "the etcd of cluster %s does not answer: %w", cluster, err)
	}
	r, err := c.Snapshot(ctx)
	if err != nil {
		return err
	}
	_, err = io.Copy(w, r)
	return errors.Join(err, r.Close())
}

// etcdTLS is how the API server speaks to its etcd.
func (p *plane) etcdTLS() (*tls.Config, error) {
	pair, err := tls.LoadX509KeyPair(p.pki("etcd-client.crt"), p.pki("etcd-client.key"))
	if err != nil {
		return nil, err
	}
	ca, err := os.ReadFile(p.pki("etcd-ca.crt"))
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	return &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{pair}}, nil
}

// Put leaves a snapshot for a cluster whose control plane has no data here yet: it begins
// with it. Conflict: it has.
func Put(dir, cluster string, r io.Reader) error {
	control := filepath.Join(dir, cluster, controlDir)
	if _, err := os.Stat(filepath.Join(control, dataDir)); err == nil {
		return errs.Conflictf("cluster %s has its data", cluster)
	}
	if err := os.MkdirAll(control, 0o700); err != nil {
		return err
	}
	path := filepath.Join(control, snapshotFile)
	f, err := os.OpenFile(path+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// restore makes etcd's data of a snapshot that was put here.
func (p *plane) restore() error {
	file, data := filepath.Join(p.dir, snapshotFile), filepath.Join(p.dir, dataDir)
	if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if _, err := os.Stat(data); err == nil { // made by a run that ended before the next line
		return os.Remove(file)
	}
	work := data + ".new"
	if err := os.RemoveAll(work); err != nil {
		return err
	}
	err := snapshot.NewV3(zap.NewNop()).Restore(snapshot.RestoreConfig{SnapshotPath: file, Name: p.ID, OutputDataDir: work, PeerURLs: []string{p.peerURL()},
		InitialCluster: p.ID + "=" + p.peerURL(), InitialClusterToken: "etcd-cluster", RevisionBump: revisionBump, MarkCompacted: true})
	if err != nil {
		return fmt.Errorf("the state of cluster %s cannot be made of its snapshot: %w", p.ID, err)
	}
	if err := os.Rename(work, data); err != nil {
		return err
	}
	return os.Remove(file)
}
