package fsmount

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/strata-cloud/strata/internal/blockdev/export"
	"github.com/strata-cloud/strata/internal/blockdev/qemu"
	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/wait"
)

// Form is what a volume is made of here.
type Form struct {
	Raw     bool     `json:"raw,omitempty"`     // a block device
	Kind    string   `json:"kind,omitempty"`    // of the file system; "": whichever there is, or ext4
	Options []string `json:"options,omitempty"` // that it is mounted with
	// At is where the file system is mounted, in place of a directory of ours: kubelet wants
	// no other mount of it.
	At string `json:"at,omitempty"`
	// Trusted: its users could as well load a module into the kernel, so that devices and
	// the rights of programs on it are no danger.
	Trusted bool `json:"trusted,omitempty"`
}

// raw makes the volume's file a device that stays until takeApart.
func (m *Manager) raw(dir string, readOnly bool) (string, error) {
	loop, err := attachLoop(filepath.Join(dir, diskFile), readOnly, 0)
	if err != nil {
		return "", err
	}
	return loop.Name(), loop.Close()
}

// loopsOf are the loop devices of a file.
func loopsOf(file string) (out []string, err error) {
	backing, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	for _, b := range backing {
		if raw, err := os.ReadFile(b); err == nil && strings.TrimSuffix(strings.TrimRight(string(raw), "\n"), " (deleted)") == file {
			out = append(out, "/dev/"+strings.Split(b, "/")[3])
		}
	}
	return out, err
}

// clearLoops ends the loop devices of a file, unless somebody has them open: those end with that.
func clearLoops(file string) error {
	loops, err := loopsOf(file)
	for _, l := range loops {
		dev, openErr := os.Open(l)
		if openErr != nil {
			continue // it ended by itself
		}
		if e := unix.IoctlSetInt(int(dev.Fd()), unix.LOOP_CLR_FD, 0); e != nil && !errors.Is(e, unix.ENXIO) && !errors.Is(e, unix.EBUSY) {
			err = errors.Join(err, fmt.Errorf("ending %s: %w", l, e))
		}
		err = errors.Join(err, dev.Close())
	}
	return err
}

// growWait bounds the wait until the new size has come through to the device.
const growWait = 30 * time.Second

// Grow has a volume that has been extended be larger here, while it is in use: its device,
// and the file system on that. NotFound: it is not here. Conflict: the kernel does not grow
// the file system while it is mounted; it grows when it is mounted again.
func (m *Manager) Grow(ctx context.Context, id string, size int64) error {
	if !idPattern.MatchString(id) {
		return errs.NotFoundf("volume %s is not mounted here", id)
	}
	defer m.locks.Lock(id)()
	dir := m.dir(id)
	loops, err := loopsOf(filepath.Join(dir, diskFile))
	if err != nil {
		return err
	}
	if len(loops) == 0 {
		return errs.NotFoundf("volume %s is not mounted here", id)
	}
	if err := m.growFile(ctx, dir, size); err != nil {
		return fmt.Errorf("growing volume %s: %w", id, err)
	}
	for _, l := range loops {
		dev, err := os.OpenFile(l, os.O_RDWR, 0)
		if err != nil {
			return err
		}
		err = errors.Join(unix.IoctlSetInt(int(dev.Fd()), unix.LOOP_SET_CAPACITY, 0), dev.Close())
		if err != nil {
			return fmt.Errorf("growing %s: %w", l, err)
		}
	}
	at := m.place(dir)
	mounted, err := mountedAt(at)
	if err != nil || !mounted {
		return err
	}
	return growFS(ctx, id, at, loops[0])
}

// growFile has the volume's file show the size. A daemon's connection learns it when it
// connects anew, which the volume's node has made it do, and its export when it is made anew.
func (m *Manager) growFile(ctx context.Context, dir string, size int64) error {
	ctx, cancel := context.WithTimeout(ctx, growWait)
	defer cancel()
	file, near := filepath.Join(dir, diskFile), filepath.Join(dir, nearDir)
	from, err := m.now(dir)
	if err != nil {
		return err
	}
	n, err := shown(ctx, near)
	if err != nil {
		return err
	}
	if n > 0 { // else one before us was cut off
		if st, err := os.Stat(file); err != nil || st.Size() >= size {
			return err
		}
		if err := touch(file); err != nil { // the connection is made anew only when there is something to do
			return err
		}
	}
	if err := showAgain(ctx, near, from, size); err != nil {
		return err
	}
	return wait.Until(ctx, "the volume's new size", 100*time.Millisecond, func(context.Context) (bool, error) {
		if err := touch(file); err != nil {
			return false, err
		}
		st, err := os.Stat(file)
		return err == nil && st.Size() >= size, err
	})
}

// shown is how many exports the near daemon has.
func shown(ctx context.Context, near string) (int, error) {
	var out []map[string]any
	err := qemu.QMP(ctx, near, monitor, qemu.Command{Execute: "query-block-exports", Out: &out})
	return len(out), err
}

// showAgain makes the near daemon's export anew, which holds its size for good. The file's
// daemon waits for it.
func showAgain(ctx context.Context, near string, from source, size int64) error {
	n, err := shown(ctx, near)
	if err == nil && n > 0 {
		err = qemu.QMP(ctx, near, monitor, qemu.Command{Execute: "block-export-del", Arguments: map[string]string{"id": exportID, "mode": "hard"}})
	}
	if err != nil {
		return err
	}
	err = wait.Until(ctx, "the export to end", 5*time.Millisecond, func(ctx context.Context) (bool, error) {
		n, err := shown(ctx, near)
		return n == 0, err
	})
	if err != nil {
		return err
	}
	top := nbdNode
	grow := func(node string) error {
		return qemu.QMP(ctx, near, monitor, qemu.Command{Execute: "block_resize", Arguments: map[string]any{"node-name": node, "size": size}})
	}
	err = grow(nbdNode)
	if len(limits(from.Limits)) > 0 {
		top = limitedNode
		err = errors.Join(err, grow(limitedNode))
	}
	return errors.Join(err, qemu.QMP(context.WithoutCancel(ctx), near, monitor, qemu.Command{Execute: "block-export-add",
		Arguments: map[string]any{"type": "nbd", "id": exportID, "node-name": top, "name": export.Name, "writable": !from.ReadOnly}}))
}

// touch reads the first bytes of a file, from where they really are.
func touch(file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	_, err = f.ReadAt(make([]byte, 512), 0)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return errors.Join(err, f.Close())
}

// growFS has the mounted file system fill its device.
func growFS(ctx context.Context, id, at, device string) error {
	var st unix.Statfs_t
	if err := unix.Statfs(at, &st); err != nil {
		return err
	}
	if st.Type == unix.XFS_SUPER_MAGIC {
		_, err := run(ctx, nil, "xfs_growfs", at)
		return err
	}
	smaller, err := isSmaller(device)
	if err != nil || !smaller {
		return err
	}
	if _, err = run(ctx, nil, "resize2fs", device); err != nil {
		return errs.Conflictf("the kernel does not grow the mounted file system of volume %s (it takes CAP_SYS_RESOURCE): it grows when it is mounted again: %w", id, err)
	}
	return nil
}
