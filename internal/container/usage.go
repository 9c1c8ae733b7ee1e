package container

import (
	"context"
	"io/fs"
	"path/filepath"
	"syscall"

	"github.com/containerd/platforms"

	"github.com/strata-cloud/strata/internal/errs"
)

// ContainerSize is what a container has written, and all that it sees.
func (d *Daemon) ContainerSize(ctx context.Context, id string) (written, all int64) {
	ctx = d.request(ctx)
	sn := d.engine.Client.SnapshotService(d.engine.Snapshotter)
	u, err := sn.Usage(ctx, id)
	if err != nil {
		return 0, 0
	}
	written, all = u.Size, u.Size
	for {
		info, err := sn.Stat(ctx, id)
		if err != nil || info.Parent == "" {
			return written, all
		}
		id = info.Parent
		if u, err := sn.Usage(ctx, id); err == nil {
			all += u.Size
		}
	}
}

// DirSize is what the files below a directory take on disk.
func DirSize(dir string) int64 {
	var sum int64
	filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil {
			return nil // it is being written: this is an estimate
		}
		if fi, err := e.Info(); err == nil {
			if st, ok := fi.Sys().(*syscall.Stat_t); ok {
				sum += st.Blocks * 512
			}
		}
		return nil
	})
	return sum
}

// Snapshotter names where containers' files are.
func (d *Daemon) Snapshotter() string { return d.engine.Snapshotter }

// EndpointNetworks are the ids of the networks of all containers.
func (d *Daemon) EndpointNetworks() (out []string) {
	for _, c := range d.list() {
		for _, e := range c.record().Endpoints {
			out = append(out, e.Network)
		}
	}
	return out
}

// CheckPlatform refuses a platform that this machine does not run.
func CheckPlatform(p string) error {
	want, err := platforms.Parse(p)
	if err != nil {
		return errs.Invalidf("invalid platform %q: %s", p, err)
	}
	if !platforms.Default().Match(want) {
		return errs.NotFoundf("this machine runs %s, not %s", platforms.Format(platforms.DefaultSpec()), p)
	}
	return nil
}
