package system

import (
	"os"
	"os/exec"
	"sort"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/servers"

	"github.com/strata-cloud/strata/test/cloud"
)

// machine is what a cloud could leave behind on a host.
type machine struct {
	Mounts, Links, Namespaces, Tables, Groups []string
	QEMUs                                     []string
	Forward                                   string
}

func look(t *testing.T) machine {
	t.Helper()
	run := func(name string, args ...string) []string {
		out, err := exec.Command(name, args...).Output()
		if _, exit := err.(*exec.ExitError); err != nil && !exit {
			t.Fatal(err)
		}
		l := lines(string(out))
		sort.Strings(l)
		return l
	}
	read := func(path string) string { return strings.TrimSpace(string(must[[]byte](t)(os.ReadFile(path)))) }
	m := machine{Namespaces: run("ip", "netns", "list"), Tables: run("nft", "list", "tables"), QEMUs: run("pgrep", "-x", "qemu-system-x86"),
		Groups: run("find", "/sys/fs/cgroup", "-maxdepth", "3", "-type", "d", "-name", "st*"), Forward: read("/proc/sys/net/ipv4/ip_forward")}
	for _, l := range lines(read("/proc/self/mounts")) {
		m.Mounts = append(m.Mounts, l)
	}
	for _, l := range run("ip", "-o", "link") {
		m.Links = append(m.Links, strings.Fields(l)[1])
	}
	return m
}

// TestReset runs five servers and then removes the cloud: the machine is as before.
func TestReset(t *testing.T) {
	before := look(t)
	c := cloud.New(t)
	admin := clientsOf(t, c.Provider(t.Context(), "strata"))
	user, _ := newUser(t, c, admin)
	s := &stack{clients: user, key: cloud.NewKey(t)}
	s.create(t)
	for range 4 {
		v := must[*servers.Server](t)(servers.Create(t.Context(), user.compute, servers.CreateOpts{Name: "more", ImageRef: s.image, FlavorRef: "42", Networks: []servers.Network{{UUID: s.network}}}, nil).Extract())
		user.awaitServer(t, v.ID, "ACTIVE")
	}
	if q := qemus(t, c); len(q) != 5 {
		t.Errorf("%d QEMU processes run before the reset", len(q))
	}
	c.Reset()
	if diff := cmp.Diff(before, look(t)); diff != "" {
		t.Errorf("the machine is not as before (-before +after):\n%s", diff)
	}
	if _, err := os.Stat(c.Dir); !os.IsNotExist(err) {
		t.Errorf("the data directory is left: %v", err)
	}
}
