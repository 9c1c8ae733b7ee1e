package export

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	randv2 "math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/strata-cloud/strata/internal/blockdev/qemu"
	"github.com/strata-cloud/strata/internal/blockdev/volumes"
	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/nodeapi"
)

// User is somebody who may use an export at its address.
type User struct {
	PSK  []byte
	Addr string // of the host that it connects from; "": not known
}

// localUser is this host's own machines, while the volume is served at an address.
const localUser = "local"

// Ports are chosen from here on, below those that the kernel gives to connections:
// an export that is started again finds its own free.
const (
	firstPort = 21000
	ports     = 10000
)

// remote is an address that a volume is served at, and the users' keys. Both are
// files of the export, so that it goes on as it was after a crash.
type remote struct {
	addr string
	keys map[string][]byte
}

// Serve serves the volume at an address of this host, with TLS and a pre-shared key
// per user, and gives the address: an export keeps the one that it began with.
// Whoever is no user any more loses its connections. Conflict: it is served by a socket.
func (m *Manager) Serve(ctx context.Context, d volumes.Driver, v nodeapi.VolumeRef, host string, users map[string]User) (string, error) {
	e, err := m.want(v.ID)
	if err != nil {
		return "", err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.driver, e.ref = d, v
	if err := m.serveAt(ctx, e, host, users); err != nil {
		return "", fmt.Errorf("exporting volume %s: %w", v.ID, err)
	}
	return e.remote.addr, nil
}

func (m *Manager) serveAt(ctx context.Context, e *export, host string, users map[string]User) error {
	if e.remote == nil && len(qemu.Workers(e.dir)) > 0 {
		return errs.Conflictf("it is exported by a socket")
	}
	now := &remote{keys: map[string][]byte{}}
	if e.remote == nil {
		var err error
		if now.addr, err = m.freeAddr(ctx, host); err != nil {
			return err
		}
		now.keys[localUser] = make([]byte, 32)
		if _, err := rand.Read(now.keys[localUser]); err != nil {
			return err
		}
	} else {
		now.addr, now.keys[localUser] = e.remote.addr, e.remote.keys[localUser]
	}
	for name, u := range users {
		now.keys[name] = u.PSK
	}
	if err := m.writeRemote(e, now); err != nil {
		return err
	}
	less := false
	if e.remote != nil {
		for name, key := range e.remote.keys {
			less = less || !bytes.Equal(now.keys[name], key)
		}
	}
	e.remote = now
	if err := m.ensure(ctx, e); err != nil {
		return err
	}
	return e.expel(ctx, users, less) // also what a crash left to be done
}

// Revoke is Serve without users, for a volume that is served at an address.
func (m *Manager) Revoke(ctx context.Context, id string) error {
	e, err := m.want(id)
	if err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.remote == nil {
		return nil
	}
	if err := m.serveAt(ctx, e, "", nil); err != nil {
		return fmt.Errorf("ending what others have of volume %s: %w", id, err)
	}
	return nil
}

// Reach tells how a machine of this host uses a volume that is served at an
// address; false: it is not.
func (m *Manager) Reach(id string) (nodeapi.Remote, bool) {
	m.mu.Lock()
	e := m.wanted[id]
	m.mu.Unlock()
	if e == nil {
		return nodeapi.Remote{}, false
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.remote == nil {
		return nodeapi.Remote{}, false
	}
	return nodeapi.Remote{Addr: e.remote.addr, User: localUser, PSK: e.remote.keys[localUser]}, true
}

// Users names who may use the volume at its address, without this host's own machines.
func (m *Manager) Users(id string) []string {
	m.mu.Lock()
	e := m.wanted[id]
	m.mu.Unlock()
	if e == nil {
		return nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.remote == nil {
		return nil
	}
	return slices.DeleteFunc(slices.Sorted(maps.Keys(e.remote.keys)), func(name string) bool { return name == localUser })
}

// freeAddr finds a port that no export here has and nothing listens at.
func (m *Manager) freeAddr(ctx context.Context, host string) (string, error) {
	taken := map[string]bool{}
	files, err := filepath.Glob(filepath.Join(m.Dir, "*", addrFile))
	if err != nil {
		return "", err
	}
	for _, f := range files {
		if raw, err := os.ReadFile(f); err == nil {
			taken[string(raw)] = true
		}
	}
	var last error
	for range 100 {
		addr := net.JoinHostPort(host, strconv.Itoa(firstPort+randv2.IntN(ports)))
		if taken[addr] {
			continue
		}
		var lc net.ListenConfig
		l, err := lc.Listen(ctx, "tcp", addr)
		if err == nil {
			return addr, l.Close()
		}
		last = err
	}
	return "", fmt.Errorf("no port for an export: %w", last)
}

// writeRemote puts the keys where only the daemon reads them, which it does at each
// handshake: the file stays as long as the export.
func (m *Manager) writeRemote(e *export, r *remote) error {
	dir := filepath.Join(e.dir, pskDir)
	if err := errors.Join(os.MkdirAll(dir, 0o700), m.Tools.Own(e.dir), m.Tools.Own(dir)); err != nil {
		return err
	}
	var text strings.Builder
	for _, name := range slices.Sorted(maps.Keys(r.keys)) {
		fmt.Fprintf(&text, "%s:%s\n", name, hex.EncodeToString(r.keys[name]))
	}
	tmp := filepath.Join(dir, keysFile+".new")
	if err := errors.Join(os.WriteFile(tmp, []byte(text.String()), 0o600), m.Tools.Own(tmp)); err != nil {
		return err
	}
	return errors.Join(os.Rename(tmp, filepath.Join(dir, keysFile)), os.WriteFile(filepath.Join(e.dir, addrFile), []byte(r.addr), 0o600))
}

// readRemote is what writeRemote wrote; nil: nothing.
func (m *Manager) readRemote(e *export) (*remote, error) {
	addr, err := os.ReadFile(filepath.Join(e.dir, addrFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	raw, err := os.ReadFile(filepath.Join(e.dir, pskDir, keysFile))
	if err != nil {
		return nil, err
	}
	r := &remote{addr: string(addr), keys: map[string][]byte{}}
	for line := range strings.Lines(string(raw)) {
		name, key, _ := strings.Cut(strings.TrimSpace(line), ":")
		if r.keys[name], err = hex.DecodeString(key); err != nil {
			return nil, fmt.Errorf("the keys of export %s: %w", e.id, err)
		}
	}
	return r, nil
}
