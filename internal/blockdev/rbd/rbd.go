package rbd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/strata-cloud/strata/internal/blockdev/qemu"
	"github.com/strata-cloud/strata/internal/blockdev/volumes"
	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/nodeapi"
)

// Name is the driver's.
const Name = "rbd"

// Files in the driver's directory, and the configuration's name in a machine's.
const (
	confFile    = "ceph.conf"
	keyringFile = "ceph.keyring"
)

// Config says which cluster, pool and user.
type Config struct {
	Dir     string // the driver's own
	Conf    []byte // of Ceph: at least "mon host" in [global]; no keyring
	Keyring []byte // with the user's key
	User    string // without "client."
	Pool    string
	Tools   qemu.Tools
}

// Driver keeps volumes in one pool.
type Driver struct {
	Config
	cluster string
}

var _ volumes.Driver = (*Driver)(nil)

// Cluster names the pool as no other pool of any Ceph is named.
func (d *Driver) Cluster() string { return Name + ":" + d.cluster + "/" + d.Pool }

var fsidPattern = regexp.MustCompile(`(?m)^\s*fsid\s*=\s*([0-9a-fA-F-]{36})\s*$`)

var namePattern = regexp.MustCompile(`^[0-9a-zA-Z][0-9a-zA-Z_-]{0,99}$`)

// New makes the driver and ends programs that an earlier agent left at work.
func New(ctx context.Context, c Config) (*Driver, error) {
	if !namePattern.MatchString(c.User) || !namePattern.MatchString(c.Pool) {
		return nil, errs.Invalidf("Ceph user %q and pool %q must be plain names", c.User, c.Pool)
	}
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the driver's directory: %w", err)
	}
	dir, err := filepath.EvalSymlinks(c.Dir)
	if err != nil {
		return nil, err
	}
	c.Dir = dir
	fsid := fsidPattern.FindSubmatch(c.Conf)
	if fsid == nil {
		return nil, errs.Invalidf("Ceph's configuration does not say the cluster's fsid")
	}
	d := &Driver{c, string(fsid[1])}
	return d, errors.Join(qemu.EndWorkers(ctx, dir), d.configure(dir), c.Tools.Own(dir))
}

// watchTimeout is how long, in s, Ceph takes a client that says nothing for alive.
// Until then an image that a killed program had open cannot be removed.
const watchTimeout = "osd client watch timeout = 5\n"

// configure puts what a client needs into a directory.
func (d *Driver) configure(dir string) error {
	for name, data := range map[string][]byte{confFile: append(d.Conf[:len(d.Conf):len(d.Conf)], "\n[client]\nkeyring = "+keyringFile+"\nadmin socket =\nlog file =\n"+
		watchTimeout...), keyringFile: d.Keyring} {
		path := filepath.Join(dir, name)
		tmp := path + ".new"
		os.Remove(tmp)
		if err := errors.Join(os.WriteFile(tmp, data, 0o600), d.Tools.Own(tmp), os.Rename(tmp, path)); err != nil {
			return fmt.Errorf("configuring Ceph's client: %w", err)
		}
	}
	return nil
}

// The errors of the rbd command, by its exit status, which is an errno.
const noEntry = 2

// rbd runs the command; absent images and snapshots are errs.NotFound.
func (d *Driver) rbd(ctx context.Context, args ...string) ([]byte, error) {
	cmd, err := d.Tools.Command(ctx, d.Dir, "rbd", append([]string{"-c", confFile, "--id", d.User}, args...)...)
	if err != nil {
		return nil, err
	}
	var complaint strings.Builder
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err == nil {
		return out, nil
	}
	if ctx.Err() != nil {
		return nil, fmt.Errorf("rbd %s: %w", args[0], context.Cause(ctx))
	}
	if cmd.ProcessState.ExitCode() == noEntry {
		return nil, errs.NotFoundf("rbd %s: %s", args[0], strings.TrimSpace(complaint.String()))
	}
	return nil, fmt.Errorf("rbd %s: %w: %s", args[0], err, strings.TrimSpace(complaint.String()))
}

// image names the volume's image with its pool.
func (d *Driver) image(v nodeapi.VolumeRef) (string, error) {
	if !namePattern.MatchString(v.ID) {
		return "", errs.Invalidf("%q is no id of a volume", v.ID)
	}
	if len(v.Key) > 0 {
		return "", errs.New(errs.NotImplemented, "the driver %s does not encrypt", Name)
	}
	return d.Pool + "/vol-" + v.ID, nil
}

// Pools implements volumes.Driver.
func (d *Driver) Pools(ctx context.Context) ([]nodeapi.Pool, error) {
	p := nodeapi.Pool{Driver: Name, Name: d.Pool, Thin: true, Multiattach: true}
	cmd, err := d.Tools.Command(ctx, d.Dir, "ceph", "-c", confFile, "--id", d.User, "df", "--format=json")
	if err != nil {
		return nil, err
	}
	raw, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("asking Ceph for its capacity: %w", err)
	}
	var df struct {
		Stats struct {
			Total float64 `json:"total_bytes"`
			Avail float64 `json:"total_avail_bytes"`
		} `json:"stats"`
	}
	if err := json.Unmarshal(raw, &df); err != nil {
		return nil, err
	}
	p.TotalGiB, p.FreeGiB = df.Stats.Total/(1<<30), df.Stats.Avail/(1<<30)
	raw, err = d.rbd(ctx, "ls", "-l", "--format=json", d.Pool)
	if err != nil {
		return nil, err
	}
	var images []struct {
		Image    string  `json:"image"`
		Snapshot string  `json:"snapshot"`
		Size     float64 `json:"size"`
	}
	if err := json.Unmarshal(raw, &images); err != nil {
		return nil, err
	}
	for _, i := range images {
		if i.Snapshot == "" && strings.HasPrefix(i.Image, "vol-") {
			p.Provisioned += i.Size / (1 << 30)
		}
	}
	return []nodeapi.Pool{p}, nil
}

// Exists implements volumes.Driver.
func (d *Driver) Exists(ctx context.Context, v nodeapi.VolumeRef) (bool, error) {
	_, err := d.Size(ctx, v, "")
	if errs.Is(err, errs.NotFound) {
		return false, nil
	}
	return err == nil, err
}

// Size implements volumes.Driver.
func (d *Driver) Size(ctx context.Context, v nodeapi.VolumeRef, snapshot string) (int64, error) {
	image, err := d.image(v)
	if err != nil {
		return 0, err
	}
	if snapshot != "" {
		image += "@" + snapshot
	}
	raw, err := d.rbd(ctx, "info", "--format=json", image)
	if err != nil {
		return 0, err
	}
	var info struct {
		Size int64 `json:"size"`
	}
	return info.Size, json.Unmarshal(raw, &info)
}

// Snapshots implements volumes.Driver.
func (d *Driver) Snapshots(ctx context.Context, v nodeapi.VolumeRef) ([]string, error) {
	image, err := d.image(v)
	if err != nil {
		return nil, err
	}
	raw, err := d.rbd(ctx, "snap", "ls", "--format=json", image)
	if err != nil {
		return nil, err
	}
	var list []struct {
		Name string `json:"name"`
	}
	err = json.Unmarshal(raw, &list)
	var names []string
	for _, s := range list {
		names = append(names, s.Name)
	}
	return names, err
}

// Delete implements volumes.Driver.
func (d *Driver) Delete(ctx context.Context, v nodeapi.VolumeRef) error {
	image, err := d.image(v)
	if err != nil {
		return err
	}
	for _, name := range []string{image, image + newExt} {
		if err := d.remove(ctx, name); err != nil {
			return fmt.Errorf("removing volume %s: %w", v.ID, err)
		}
	}
	return nil
}

func (d *Driver) remove(ctx context.Context, image string) error {
	if _, err := d.rbd(ctx, "snap", "purge", image); err != nil && !errs.Is(err, errs.NotFound) {
		return err
	}
	if _, err := d.rbd(ctx, "rm", image); err != nil && !errs.Is(err, errs.NotFound) {
		return err
	}
	return nil
}

// bytesArg is a size as the rbd command takes it.
func bytesArg(n int64) string { return strconv.FormatInt(n, 10) + "B" }
