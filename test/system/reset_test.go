package system

import (
	"os"
	"os/exec"
	"regexp"
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
	Forward                                   string
}

// foreign are the names of clouds, which may come and go beside ours.
var foreign = regexp.MustCompile(`\bst[0-9a-f]{6}`)

// look describes the machine, leaving out what belongs to clouds other than ours.
func look(t *testing.T, ours string) machine {
	t.Helper()
	keep := func(l []string) (out []string) {
		for _, x := range l {
			if name := foreign.FindString(x); name == "" || name == ours {
				out = append(out, x)
			}
		}
		sort.Strings(out)
		return out
	}
	run := func(name string, args ...string) []string {
		out, err := exec.Command(name, args...).Output()
		if _, exit := err.(*exec.ExitError); err != nil && !exit {
			t.Fatal(err)
		}
		return keep(lines(string(out)))
	}
	read := func(path string) string { return strings.TrimSpace(string(must[[]byte](t)(os.ReadFile(path)))) }
	m := machine{Namespaces: run("ls", "/run/netns"), Tables: run("nft", "list", "tables"),
		Groups: run("find", "/sys/fs/cgroup", "-maxdepth", "3", "-type", "d", "-name", "st*"), Forward: read("/proc/sys/net/ipv4/ip_forward")}
	m.Mounts = keep(lines(read("/proc/self/mounts")))
	for _, l := range run("ip", "-o", "link") {
		m.Links = append(m.Links, strings.Fields(l)[1])
	}
	return m
}

// TestReset runs five servers and then removes the cloud: the machine is as before.
func TestReset(t *testing.T) {
	c := cloud.Plan(t)
	before := look(t, c.Name())
	c.Up()
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
	if diff := cmp.Diff(before, look(t, c.Name())); diff != "" {
		t.Errorf("the machine is not as before (-before +after):\n%s", diff)
	}
	if q := qemus(t, c); len(q) > 0 {
		t.Errorf("QEMU processes are left: %v", q)
	}
	if _, err := os.Stat(c.Dir); !os.IsNotExist(err) {
		t.Errorf("the data directory is left: %v", err)
	}
}
