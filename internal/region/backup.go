package region

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/kube"
	"github.com/strata-cloud/strata/internal/store"
)

// A backup is a zip file: the store's snapshot, the files of the data directory
// that cannot be made again, a snapshot of each Kubernetes cluster whose control plane is
// on this machine, the newest copy of others, and a manifest that describes all. Image data, volumes and servers'
// disks are not in it.
const (
	backupFormat   = 1
	backupStore    = "store.snapshot"
	backupManifest = "manifest.json"
	backupClusters = "clusters/" // ID.snapshot
)

var backupFiles = [...]string{CloudsFile, caCertFile, caKeyFile, policyFile}

// policyFile has the operator's overrides of policy rules.
const policyFile = "policy.yaml"

// Manifest describes a backup.
type Manifest struct {
	Format  int               `json:"format"`
	Version string            `json:"version"` // of the program that made it
	Created time.Time         `json:"created"`
	Files   map[string]string `json:"files"`  // name: sha256, hexadecimal
	Images  map[string]int64  `json:"images"` // files in images/ that are not in the backup: name: bytes
	// Without are clusters whose control plane is here and did not answer: id: why.
	Without map[string]string `json:"without,omitempty"`
	Size    int64             `json:"-"` // of the backup, bytes
}

// Snapshotter copies the store into w: a running region's Admin, or a Stopped one.
type Snapshotter interface {
	Snapshot(ctx context.Context, w io.Writer) error
}

// Stopped opens the store of a region that does not run.
type Stopped struct {
	DataDir string
	Log     *slog.Logger
}

// Snapshot copies the store into w.
func (s Stopped) Snapshot(ctx context.Context, w io.Writer) error {
	dir := filepath.Join(s.DataDir, "store")
	if _, err := os.Stat(dir); err != nil {
		return errs.NotFoundf("there is no cloud in %s to back up", s.DataDir)
	}
	b, err := store.NewEtcd(ctx, store.EtcdOptions{Dir: dir, Log: s.Log})
	if err != nil {
		return err
	}
	return errors.Join(b.Snapshot(ctx, w), b.Close())
}

// Backup writes a backup of the data directory to file, which appears only when
// it is complete.
func Backup(ctx context.Context, dataDir, file, version string, from Snapshotter) (*Manifest, error) {
	part := file + ".part"
	f, err := os.OpenFile(part, os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	m := &Manifest{Format: backupFormat, Version: version, Created: time.Now().UTC().Truncate(time.Second), Files: map[string]string{}}
	err = errors.Join(m.write(ctx, f, dataDir, from), f.Sync())
	if st, e := f.Stat(); e == nil {
		m.Size = st.Size()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(part, file)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("writing the backup %s: %w", file, err), os.Remove(part))
	}
	return m, nil
}

func (m *Manifest) write(ctx context.Context, f *os.File, dataDir string, from Snapshotter) (err error) {
	z := zip.NewWriter(f)
	if err := m.add(z, backupStore, func(w io.Writer) error { return from.Snapshot(ctx, w) }); err != nil {
		return err
	}
	for _, name := range backupFiles {
		raw, err := os.ReadFile(filepath.Join(dataDir, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			return err
		}
		if err := m.add(z, name, func(w io.Writer) error { _, err := w.Write(raw); return err }); err != nil {
			return err
		}
	}
	if err := m.addClusters(ctx, z, dataDir); err != nil {
		return err
	}
	if m.Images, err = imageFiles(dataDir); err != nil {
		return err
	}
	w, err := z.Create(backupManifest)
	if err != nil {
		return err
	}
	return errors.Join(json.NewEncoder(w).Encode(m), z.Close())
}

func (m *Manifest) add(z *zip.Writer, name string, content func(io.Writer) error) error {
	w, err := z.Create(name)
	if err != nil {
		return err
	}
	sum := sha256.New()
	if err := content(io.MultiWriter(w, sum)); err != nil {
		return err
	}
	m.Files[name] = hex.EncodeToString(sum.Sum(nil))
	return nil
}

// addClusters adds what the control planes here hold, and of others the copies that are
// here. One that does not answer stops nobody: the manifest says so.
func (m *Manifest) addClusters(ctx context.Context, z *zip.Writer, dataDir string) error {
	dir := filepath.Join(dataDir, kubeDir)
	ids, err := kube.Controls(dir)
	if err != nil {
		return err
	}
	others, err := keptCopies(dataDir, ids)
	if err != nil {
		return err
	}
	for id, path := range others {
		if err := m.add(z, backupClusters+id+snapshotSuffix, func(w io.Writer) error { return copyFile(w, path) }); err != nil {
			return err
		}
	}
	for _, id := range ids {
		var part bytes.Buffer // nothing of one that fails is to be in the file
		if err := kube.Snapshot(ctx, dir, id, &part); err != nil {
			if ctx.Err() != nil {
				return err
			}
			if m.Without == nil {
				m.Without = map[string]string{}
			}
			m.Without[id] = err.Error()
			continue
		}
		if err := m.add(z, backupClusters+id+snapshotSuffix, func(w io.Writer) error { _, err := part.WriteTo(w); return err }); err != nil {
			return err
		}
	}
	return nil
}

func copyFile(w io.Writer, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	_, err = io.Copy(w, f)
	return errors.Join(err, f.Close())
}

// clusterOf gives the cluster that a file of a backup is of.
func clusterOf(name string) (string, bool) {
	id, ok := strings.CutPrefix(name, backupClusters)
	id, whole := strings.CutSuffix(id, snapshotSuffix)
	return id, ok && whole && uuid.Validate(id) == nil
}

func imageFiles(dataDir string) (map[string]int64, error) {
	out := map[string]int64{}
	entries, err := os.ReadDir(filepath.Join(dataDir, "images"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, e := range entries {
		if fi, err := e.Info(); err == nil && fi.Mode().IsRegular() {
			out[e.Name()] = fi.Size()
		}
	}
	return out, nil
}

// checked is a reader that fails at its end when the content is not what the manifest says.
type checked struct {
	r    io.Reader
	sum  hash.Hash
	name string
	want string
}

func (c *checked) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.sum.Write(p[:n])
	if err == io.EOF && hex.EncodeToString(c.sum.Sum(nil)) != c.want {
		return n, errs.Invalidf("the backup is damaged: %s has another checksum than the manifest says", c.name)
	}
	return n, err
}
