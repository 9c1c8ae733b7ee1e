package kube

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/strata-cloud/strata/internal/errs"
)

// Copies are snapshots of clusters' etcds that this machine keeps, of clusters whose control
// planes are here and of others. A copy that has its name is whole.
type Copies struct {
	Dir string
	// Fetch writes a copy that other machines have; nil: there are none. NotFound: none has it.
	Fetch func(ctx context.Context, name string, w io.Writer) error

	mu sync.Mutex // held by who writes one
}

// Copy is one of them.
type Copy struct {
	Name    string
	Cluster string
	Made    time.Time
}

const (
	copySuffix = ".snapshot"
	copyTime   = "20060102T150405.000Z"
	copyPart   = ".part" // of a name that is not whole
)

// CopyName is what a copy of a cluster is called that is made then.
func CopyName(cluster string, made time.Time) string {
	return cluster + "-" + made.UTC().Format(copyTime) + copySuffix
}

// ParseCopy reads a name; false: it is none.
func ParseCopy(name string) (Copy, bool) {
	i := strings.LastIndexByte(name, '-')
	if i < 0 || uuid.Validate(name[:i]) != nil {
		return Copy{}, false
	}
	made, err := time.Parse(copyTime+copySuffix, name[i+1:])
	return Copy{Name: name, Cluster: name[:i], Made: made}, err == nil
}

// List gives all that are here, the newest first.
func (c *Copies) List() ([]Copy, error) {
	entries, err := os.ReadDir(c.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var out []Copy
	for _, e := range entries {
		if x, ok := ParseCopy(e.Name()); ok {
			out = append(out, x)
		}
	}
	slices.SortFunc(out, func(a, b Copy) int { return b.Made.Compare(a.Made) })
	return out, err
}

// Make copies the state of a cluster whose control plane is in a directory of clusters, and
// runs. Unavailable: it does not.
func (c *Copies) Make(ctx context.Context, clusters, cluster string) (name string, err error) {
	name = CopyName(cluster, time.Now())
	return name, c.Keep(name, func(w io.Writer) error { return Snapshot(ctx, clusters, cluster, w) })
}

// Keep has a copy with what fill writes, unless it is here.
func (c *Copies) Keep(name string, fill func(io.Writer) error) error {
	if _, ok := ParseCopy(name); !ok {
		return errs.Invalidf("%q is no copy of a cluster", name)
	}
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, err := os.Stat(filepath.Join(c.Dir, name)); err == nil {
		return nil
	}
	part := filepath.Join(c.Dir, name+copyPart)
	f, err := os.OpenFile(part, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	err = fill(f)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(part, filepath.Join(c.Dir, name))
	}
	if err != nil {
		return errors.Join(err, os.Remove(part))
	}
	return nil
}

// Open gives what a copy holds. NotFound.
func (c *Copies) Open(name string) (io.ReadCloser, error) {
	if _, ok := ParseCopy(name); !ok {
		return nil, errs.NotFoundf("%q is no copy of a cluster", name)
	}
	f, err := os.Open(filepath.Join(c.Dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errs.NotFoundf("there is no copy %s", name)
	}
	return f, err
}

// Obtain has a copy here, of another machine if need be. NotFound.
func (c *Copies) Obtain(ctx context.Context, name string) error {
	if f, err := c.Open(name); !errs.Is(err, errs.NotFound) {
		if err != nil {
			return err
		}
		return f.Close()
	}
	if c.Fetch == nil {
		return errs.NotFoundf("there is no copy %s", name)
	}
	return c.Keep(name, func(w io.Writer) error { return c.Fetch(ctx, name, w) })
}

// Prune removes the copies of clusters that are not wanted, and of others those that are
// older than the newest so many.
func (c *Copies) Prune(wanted func(cluster string) bool, most int) error {
	list, err := c.List()
	seen := map[string]int{}
	for _, x := range list {
		if seen[x.Cluster]++; seen[x.Cluster] > most || !wanted(x.Cluster) {
			err = errors.Join(err, os.Remove(filepath.Join(c.Dir, x.Name)))
		}
	}
	return err
}
