package region

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/strata-cloud/strata/internal/blockdev/qemu"
	"github.com/strata-cloud/strata/internal/blockdev/rbd"
	"github.com/strata-cloud/strata/internal/errs"
)

const (
	// cephDir keeps how this machine reaches Ceph, so that a pool that was named once
	// is there at every later start.
	cephDir = "ceph"
	// DefaultCephConf is where Ceph's own tools look for a cluster. A user's key is beside it.
	DefaultCephConf = "/etc/ceph/ceph.conf"
)

// cephPool is USER@POOL of the command line.
var cephPool = regexp.MustCompile(`^([0-9a-zA-Z][0-9a-zA-Z_.-]{0,99})@([0-9a-zA-Z][0-9a-zA-Z_-]{0,99})$`)

// cephAccess is what is kept of the command line.
type cephAccess struct{ User, Pool string }

func validCeph(pool, conf string) error {
	if pool != "" && !cephPool.MatchString(pool) {
		return errs.Invalidf("--ceph-pool %s is not USER@POOL, such as strata@volumes: a Ceph user without \"client.\", and a pool that was made for RBD", pool)
	}
	if pool != "" && conf != "" && !filepath.IsAbs(conf) {
		return errs.Invalidf("--ceph-conf %s: give the file from the root", conf)
	}
	return nil
}

// cephDriver keeps volumes in Ceph; nil: no pool of Ceph was ever named.
func cephDriver(ctx context.Context, cfg *Config, tools qemu.Tools) (*rbd.Driver, error) {
	if err := keepCeph(cfg); err != nil {
		return nil, err
	}
	read := func(name string) ([]byte, error) { return os.ReadFile(cfg.path(filepath.Join(cephDir, name))) }
	raw, err := read("access.json")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var access cephAccess
	if err == nil {
		err = json.Unmarshal(raw, &access)
	}
	for _, program := range []string{"rbd", "ceph"} {
		if _, err := exec.LookPath(program); err != nil {
			return nil, fmt.Errorf("the program %s is missing, which volumes in Ceph need: install the packages ceph-common and qemu-block-extra", program)
		}
	}
	conf, err1 := read("conf")
	keyring, err2 := read("keyring")
	if err := errors.Join(err, err1, err2); err != nil {
		return nil, err
	}
	return rbd.New(ctx, rbd.Config{Dir: cfg.path(filepath.Join(cephDir, "work")), Conf: conf, Keyring: keyring, User: access.User, Pool: access.Pool, Tools: tools})
}

// keepCeph takes Ceph's configuration and the user's key into the data directory.
func keepCeph(cfg *Config) error {
	m := cephPool.FindStringSubmatch(cfg.CephPool)
	if m == nil {
		return nil
	}
	path := cfg.CephConf
	if path == "" {
		path = DefaultCephConf
	}
	conf, err := os.ReadFile(path)
	if err != nil {
		return errs.Invalidf("Ceph's configuration cannot be read: %v; make it with ceph config generate-minimal-conf, or name it with --ceph-conf", err)
	}
	key := filepath.Join(filepath.Dir(path), "ceph.client."+m[1]+".keyring")
	keyring, err := os.ReadFile(key)
	if err != nil {
		return errs.Invalidf("the key of Ceph's user cannot be read: %v; make it with ceph auth get-or-create client.%s mon 'profile rbd' mgr 'profile rbd' osd 'profile rbd pool=%s' -o %s", err, m[1], m[2], key)
	}
	access, err := json.Marshal(cephAccess{User: m[1], Pool: m[2]})
	if err != nil {
		return err
	}
	if err := os.MkdirAll(cfg.path(cephDir), 0o711); err != nil {
		return err
	}
	for name, data := range map[string][]byte{"conf": withoutKeyring(conf), "keyring": keyring, "access.json": access} {
		if err := os.WriteFile(cfg.path(filepath.Join(cephDir, name)), data, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// withoutKeyring drops where a configuration has its keys: they are ours.
func withoutKeyring(conf []byte) []byte {
	var out []string
	for _, line := range strings.Split(string(conf), "\n") {
		name, _, _ := strings.Cut(line, "=")
		if strings.ReplaceAll(strings.TrimSpace(name), "_", " ") != "keyring" {
			out = append(out, line)
		}
	}
	return []byte(strings.Join(out, "\n"))
}
