package kube

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Places of a machine where kubelet leaves files, whatever it is told.
const (
	logLinks = "/var/log/containers"             // links to the logs of pods (pkg/kubelet/kuberuntime/legacy.go)
	plugged  = "/var/lib/kubelet/device-plugins" // pkg/kubelet/cm/devicemanager
)

// tidy removes what a worker leaves outside of its directory.
func (m *Machine) tidy(id, dir string) error {
	links, err := os.ReadDir(logLinks)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, l := range links {
		path := filepath.Join(logLinks, l.Name())
		if to, err := os.Readlink(path); err == nil && strings.HasPrefix(to, dir+"/") {
			if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	gone := []string{m.run(id), m.kubelet(id)}
	if to, err := os.Readlink(Linked); err == nil && to == m.Program {
		gone = append(gone, Linked)
	}
	if c, err := net.Dial("unix", filepath.Join(plugged, "kubelet.sock")); err == nil { // another kubelet's
		c.Close()
	} else if errors.Is(err, unix.ECONNREFUSED) || errors.Is(err, unix.ENOENT) {
		gone = append(gone, plugged)
	}
	for _, path := range gone {
		if err := os.RemoveAll(path); err != nil {
			return err
		}
	}
	for _, path := range []string{logLinks, filepath.Dir(plugged), m.Kubelet, m.Run, filepath.Dir(m.Run), filepath.Dir(Linked)} {
		os.Remove(path) // unless somebody else has something there
	}
	return nil
}
