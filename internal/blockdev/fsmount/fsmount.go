package fsmount

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"

	"github.com/strata-cloud/strata/internal/blockdev/qemu"
	"github.com/strata-cloud/strata/internal/cgroup"
	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/keyed"
	"github.com/strata-cloud/strata/internal/nodeapi"
)

// Config says where volumes are mounted.
type Config struct {
	Dir     string
	Program string          // that is fusefile.Main
	Tools   qemu.Tools      // of what has no rights
	Cgroups *cgroup.Manager // nil: no limits
	Log     *slog.Logger
}

// Manager mounts volumes.
type Manager struct {
	Config
	locks keyed.Mutex // by volume
}

// source is what is kept of how a volume is reached; the key is elsewhere.
type source struct {
	Addr     string            `json:"addr"`
	User     string            `json:"user"`
	Limits   *nodeapi.IOLimits `json:"limits,omitempty"`
	ReadOnly bool              `json:"read_only,omitempty"`
	Form     Form              `json:"form,omitzero"`
}

// Names in a volume's directory.
const (
	usersDir   = "users"
	sourceFile = "source.json"
	diskFile   = "disk"
	fsDir      = "fs"
	formatMark = "formatting"
)

// daemons are those of a volume: one reaches it, one makes a file of it.
const daemons = 2

var idPattern = regexp.MustCompile(`^[0-9a-zA-Z][0-9a-zA-Z_-]{0,99}$`)

// New makes a manager.
func New(c Config) (*Manager, error) {
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the directory of mounts: %w", err)
	}
	dir, err := filepath.EvalSymlinks(c.Dir) // as /proc shows it
	if err != nil {
		return nil, err
	}
	c.Dir = dir
	return &Manager{Config: c}, nil
}

func (m *Manager) dir(id string) string { return filepath.Join(m.Dir, id) }

// Path is where a volume is mounted.
func (m *Manager) Path(id string) string { return filepath.Join(m.dir(id), fsDir) }

// Ensure has the volume mounted for a user, and gives where. Without v.Remote it is
// reached as it was before. Conflict: it has no file system, and is not blank.
func (m *Manager) Ensure(ctx context.Context, user string, v nodeapi.ContainerVolume) (string, error) {
	return m.EnsureAs(ctx, user, v, Form{})
}

// EnsureAs is Ensure in a form, in which all users have the volume. Conflict: it has another.
func (m *Manager) EnsureAs(ctx context.Context, user string, v nodeapi.ContainerVolume, form Form) (string, error) {
	if !idPattern.MatchString(v.ID) || !idPattern.MatchString(user) {
		return "", errs.Invalidf("%q is no id of a volume, or %q none of who uses it", v.ID, user)
	}
	defer m.locks.Lock(v.ID)()
	dir := m.dir(v.ID)
	fresh, err := m.note(dir, user)
	if err != nil {
		return "", err
	}
	at, err := m.ensure(ctx, v, form)
	if err != nil {
		err = fmt.Errorf("volume %s: %w", v.Name, err)
		if fresh {
			err = errors.Join(err, m.drop(context.WithoutCancel(ctx), v.ID, user))
		}
		return "", err
	}
	return at, nil
}

// note writes down that the user has the volume; true: it had not.
func (m *Manager) note(dir, user string) (fresh bool, err error) {
	for _, d := range []string{filepath.Join(dir, usersDir), filepath.Join(dir, fsDir)} {
		if err := os.MkdirAll(d, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return false, err
		}
	}
	f, err := os.OpenFile(filepath.Join(dir, usersDir, user), os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return false, nil
	} else if err != nil {
		return false, err
	}
	return true, f.Close()
}

func (m *Manager) ensure(ctx context.Context, v nodeapi.ContainerVolume, form Form) (at string, err error) {
	dir := m.dir(v.ID)
	now, changed, err := m.settle(dir, v, form)
	if err != nil {
		return "", err
	}
	at, err = m.found(dir, now)
	if err != nil {
		return "", err
	}
	if at != "" && !changed && len(qemu.Workers(dir)) == daemons {
		return at, nil
	}
	if err := m.takeApart(ctx, dir); err != nil {
		return "", err
	}
	if err := m.serve(ctx, v.ID, now); err != nil {
		return "", err
	}
	if now.Form.Raw {
		at, err = m.raw(dir, now.ReadOnly)
	} else {
		at, err = m.place(dir), m.mount(ctx, dir, now)
	}
	if err != nil {
		return "", errors.Join(err, m.takeApart(context.WithoutCancel(ctx), dir))
	}
	return at, nil
}

// found is where the volume is in its form; "": nowhere yet.
func (m *Manager) found(dir string, now source) (string, error) {
	if now.Form.Raw {
		loops, err := loopsOf(filepath.Join(dir, diskFile))
		if err != nil || len(loops) == 0 {
			return "", err
		}
		return loops[0], nil
	}
	at := m.place(dir)
	mounted, err := mountedAt(at)
	if err != nil || !mounted {
		return "", err
	}
	return at, nil
}

// settle keeps how the volume is reached, and tells whether that is new.
func (m *Manager) settle(dir string, v nodeapi.ContainerVolume, form Form) (now source, changed bool, err error) {
	before, err := m.now(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist) && v.Remote != nil:
		err = nil
	case err == nil && before.Form.Raw != form.Raw || before.Form.At != form.At:
		err = errs.Conflictf("it is in use here in another form")
	}
	if err != nil || v.Remote == nil {
		return before, false, err
	}
	now = source{Addr: v.Remote.Addr, User: v.Remote.User, Limits: v.Limits, ReadOnly: v.ReadOnly, Form: form}
	raw, err := json.Marshal(now)
	if err != nil {
		return now, false, err
	}
	if err := m.writeKey(dir, v.Remote); err != nil {
		return now, false, err
	}
	changed = before.Addr != now.Addr || before.User != now.User || before.ReadOnly != now.ReadOnly
	return now, changed, writeFile(filepath.Join(dir, sourceFile), raw)
}

// place is where the volume's file system is mounted, or would be.
func (m *Manager) place(dir string) string {
	if s, err := m.now(dir); err == nil && s.Form.At != "" {
		return s.Form.At
	}
	return filepath.Join(dir, fsDir)
}

// now is what settle kept.
func (m *Manager) now(dir string) (s source, err error) {
	raw, err := os.ReadFile(filepath.Join(dir, sourceFile))
	if err == nil {
		err = json.Unmarshal(raw, &s)
	}
	return s, err
}

// writeFile is whole or not at all.
func writeFile(path string, raw []byte) error {
	if err := os.WriteFile(path+".new", raw, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// Release is the end of Ensure for a user; absent is fine. The last one unmounts the
// volume, and nothing of it stays.
func (m *Manager) Release(ctx context.Context, user, id string) error {
	if !idPattern.MatchString(id) || !idPattern.MatchString(user) {
		return nil
	}
	defer m.locks.Lock(id)()
	if err := m.drop(ctx, id, user); err != nil {
		return fmt.Errorf("letting go of volume %s: %w", id, err)
	}
	return nil
}

func (m *Manager) drop(ctx context.Context, id, user string) error {
	dir := m.dir(id)
	users, err := os.ReadDir(filepath.Join(dir, usersDir))
	if errors.Is(err, fs.ErrNotExist) {
		return m.remove(ctx, id)
	} else if err != nil {
		return err
	}
	for _, u := range users {
		if u.Name() != user {
			return ignoreMissing(os.Remove(filepath.Join(dir, usersDir, user)))
		}
	}
	return m.remove(ctx, id) // its mark goes last: a crash before that leaves it to be done
}

// remove takes the mount away with all its files.
func (m *Manager) remove(ctx context.Context, id string) error {
	dir := m.dir(id)
	if _, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := m.takeApart(ctx, dir); err != nil {
		return err
	}
	if m.Cgroups != nil {
		if err := m.Cgroups.Remove(ctx, group(id)); err != nil {
			return err
		}
	}
	return os.RemoveAll(dir)
}

// Sweep lets go of volumes for users who are not known any more.
func (m *Manager) Sweep(ctx context.Context, known func(user string) bool) error {
	entries, err := os.ReadDir(m.Dir)
	if err != nil {
		return err
	}
	var all []error
	for _, e := range entries {
		users, err := os.ReadDir(filepath.Join(m.Dir, e.Name(), usersDir))
		if errors.Is(err, fs.ErrNotExist) || err == nil && len(users) == 0 {
			all = append(all, m.Release(ctx, "nobody", e.Name()))
			continue
		}
		all = append(all, err)
		for _, u := range users {
			if !known(u.Name()) {
				all = append(all, m.Release(ctx, u.Name(), e.Name()))
			}
		}
	}
	return errors.Join(all...)
}

// Reset takes away all that is mounted, whoever has it.
func Reset(ctx context.Context, dir string) error {
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	m, err := New(Config{Dir: dir, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	entries, err := os.ReadDir(m.Dir)
	for _, e := range entries {
		err = errors.Join(err, m.remove(ctx, e.Name()))
	}
	return err
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
