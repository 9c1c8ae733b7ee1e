package images

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

const (
	hostsFile = "hosts.toml"
	certFile  = "relay.crt"
)

// configure writes what containerd reads of registries, each time that it pulls.
func (r *relay) configure(dir string, names, mirrors []string) error {
	for _, name := range names {
		if err := r.host(dir, name, r.whole()); err != nil {
			return err
		}
	}
	for _, name := range mirrors {
		if err := r.host(dir, name, r.first()); err != nil {
			return err
		}
	}
	return keepOnly(dir, slices.Concat(names, mirrors))
}

func (r *relay) host(dir, name string, text []byte) error {
	if name != filepath.Base(name) || name == ".." || name == "." {
		return fmt.Errorf("%q is no name of a registry", name)
	}
	dir = filepath.Join(dir, name)
	return errors.Join(write(filepath.Join(dir, certFile), r.cert), write(filepath.Join(dir, hostsFile), text))
}

// whole is a registry that is nowhere else: the name may be that of another machine's loopback.
func (r *relay) whole() []byte {
	return fmt.Appendf(nil, "server = %q\ncapabilities = [\"pull\", \"resolve\"]\nca = %q\n[header]\n  %s = [%q]\n", r.url, certFile, secretHeader, r.secret)
}

// first is a registry of which the region is asked first, and then itself.
func (r *relay) first() []byte {
	return fmt.Appendf(nil, "[host.%q]\n  capabilities = [\"pull\", \"resolve\"]\n  ca = %q\n  [host.%q.header]\n    %s = [%q]\n", r.url, certFile, r.url, secretHeader, r.secret)
}

// keepOnly removes what is of other registries.
func keepOnly(dir string, names []string) error {
	list, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, e := range list {
		if !slices.Contains(names, e.Name()) {
			err = errors.Join(err, os.RemoveAll(filepath.Join(dir, e.Name())))
		}
	}
	return err
}
