// Package hosts makes several "machines" out of one: network namespaces that a
// bridge joins, in which clouds run as if each were a host of its own. They share
// the file system, processes and memory of the machine that they are on.
package hosts

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
)

// Hosts are the machines, and the bridge between them.
type Hosts struct {
	All    []*Host
	bridge string
}

// Host is one machine.
type Host struct {
	Name      string
	Addr      string // on the network between the hosts, which this machine reaches too
	DataDir   string // for a cloud
	namespace string
}

// names are what the hosts are called.
var names = [...]string{"alpha", "beta", "gamma", "delta", "epsilon", "zeta"}

// Max is how many hosts there can be.
const Max = len(names)

// Of describes n hosts with data directories below dir, without making anything:
// the same dir gives the same hosts, if their network was given too.
func Of(dir string, n int, network string) (*Hosts, error) {
	if n < 1 || n > Max {
		return nil, fmt.Errorf("%d hosts cannot be made: choose 1 to %d", n, Max)
	}
	sum := sha256.Sum256([]byte(dir))
	id := hex.EncodeToString(sum[:3])
	h := &Hosts{bridge: "hb" + id}
	for i, name := range names[:n] {
		h.All = append(h.All, &Host{Name: name, Addr: fmt.Sprintf("%s%d", network, 11+i), DataDir: filepath.Join(dir, name), namespace: fmt.Sprintf("hosts%s-%s", id, name)})
	}
	return h, nil
}

// FreeNetwork finds a /24 for tests (RFC 2544) that this machine does not use, as
// its first three bytes with a dot.
func FreeNetwork() (string, error) {
	routes, err := exec.Command("ip", "-4", "route").Output()
	if err != nil {
		return "", err
	}
	for i := range 256 { // the network of the same number is for what is outside of the hosts' cloud
		if network := fmt.Sprintf("198.19.%d.", i); !bytes.Contains(routes, []byte(network)) && !bytes.Contains(routes, []byte("198.18"+network[len("198.19"):])) {
			return network, nil
		}
	}
	return "", errors.New("no network is free for hosts")
}

func ip(args ...string) error {
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return nil
}

// Make makes the hosts; what fails leaves nothing.
func (h *Hosts) Make() (err error) {
	defer func() {
		if err != nil {
			err = errors.Join(err, h.Remove())
		}
	}()
	network := h.All[0].Addr[:strings.LastIndexByte(h.All[0].Addr, '.')+1]
	for _, args := range [][]string{{"link", "add", h.bridge, "type", "bridge"}, {"addr", "add", network + "1/24", "dev", h.bridge}, {"link", "set", h.bridge, "up"}} {
		if err := ip(args...); err != nil {
			return err
		}
	}
	for i, x := range h.All {
		outer := h.portOf(i)
		for _, args := range [][]string{{"netns", "add", x.namespace}, {"link", "add", outer, "type", "veth", "peer", "name", "eth0", "netns", x.namespace},
			{"link", "set", outer, "master", h.bridge, "up"}, {"-n", x.namespace, "link", "set", "lo", "up"}, {"-n", x.namespace, "addr", "add", x.Addr + "/24", "dev", "eth0"},
			{"-n", x.namespace, "link", "set", "eth0", "up"}, {"-n", x.namespace, "route", "add", "default", "via", network + "1"}} {
			if err := ip(args...); err != nil {
				return err
			}
		}
	}
	return nil
}

// Route lets this machine reach a network by way of a host.
func (h *Hosts) Route(cidr string, via *Host) error {
	return ip("route", "replace", cidr, "via", via.Addr)
}

// Remove removes the hosts, whether all of them are there or not.
func (h *Hosts) Remove() error {
	var errs []error
	for i, x := range h.All {
		if port := h.portOf(i); exists("link", port) { // at once: those of a namespace go some time after it
			errs = append(errs, ip("link", "del", port))
		}
		if exists("netns", x.namespace) {
			errs = append(errs, ip("netns", "del", x.namespace))
		}
	}
	if exists("link", h.bridge) {
		errs = append(errs, ip("link", "del", h.bridge)) // and the routes over it
	}
	return errors.Join(errs...)
}

func exists(kind, name string) bool {
	args := []string{"link", "show", name}
	if kind == "netns" {
		args = []string{"netns", "pids", name}
	}
	return exec.Command("ip", args...).Run() == nil
}

// Command runs a program on the host. Mounts stay this machine's, for control
// groups are found by them.
func (x *Host) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, "nsenter", append([]string{"--net=/run/netns/" + x.namespace, name}, args...)...)
}

// Cut separates the host from the others; Join undoes it.
func (h *Hosts) Cut(x *Host) error { return h.port(x, "down") }

// Join undoes Cut.
func (h *Hosts) Join(x *Host) error { return h.port(x, "up") }

// portOf is the port of the bridge that leads to a host.
func (h *Hosts) portOf(i int) string { return fmt.Sprintf("%s-%d", h.bridge, i) }

func (h *Hosts) port(x *Host, state string) error {
	for i, other := range h.All {
		if other == x {
			return ip("link", "set", h.portOf(i), state)
		}
	}
	return fmt.Errorf("%s is no host of these", x.Name)
}
