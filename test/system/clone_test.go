package system

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/flavors"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/keypairs"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/servers"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/layer3/floatingips"

	"github.com/strata-cloud/strata/internal/wait"
	"github.com/strata-cloud/strata/test/cloud"
)

// takesSeed is user data that keeps the first random numbers that a server uses.
const takesSeed = "#!/bin/sh\nhead -c 16 /dev/urandom | hexdump -v -e '1/1 \"%02x\"' > /home/strata/random\n"

// TestClones has servers go on from a frozen boot of their image: each is a machine
// of its own from the first moment, and all that servers can do works with them.
func TestClones(t *testing.T) {
	c := cloud.New(t)
	admin := clientsOf(t, c.Provider(t.Context(), "strata"))
	user, _ := newUser(t, c, admin)
	first := &stack{clients: user, key: cloud.NewKey(t)}
	first.create(t)
	flavor := cloneFlavor(t, admin, "cloned", 128)
	before := first.twin(t, "before", flavor)
	if before.isClone(t, c) {
		t.Error("the first server is a clone of nothing")
	}
	awaitTemplates(t, c, 1)
	one, two := first.twin(t, "one", flavor), first.twin(t, "two", flavor)
	for _, s := range []*stack{one, two} {
		if !s.isClone(t, c) {
			t.Errorf("server %s is no clone", s.server)
		}
	}
	assertDistinct(t, before.identity(t), one.identity(t), two.identity(t))
	for _, s := range []*stack{one, two} {
		log := must[string](t)(servers.ShowConsoleOutput(t.Context(), s.compute, s.server, servers.ShowConsoleOutputOpts{}).Extract())
		if !strings.Contains(log, "random numbers of its own") {
			t.Errorf("server %s did not renew its random numbers: %s", s.server, log)
		}
	}

	// Neither the control process nor the template is needed while it runs.
	g := two.ssh(t)
	c.Kill()
	if err := os.RemoveAll(filepath.Join(c.Dir, "templates")); err != nil {
		t.Fatal(err)
	}
	c.Up()
	if g.Must("hostname") != "two" || !two.isClone(t, c) {
		t.Error("a clone did not survive the end of the control process")
	}
	keys := one.identity(t)["host keys"]
	one.powerStory(t)
	if got := one.identity(t)["host keys"]; got != keys || one.isClone(t, c) {
		t.Errorf("after power cycles its host keys were %s and are %s", keys, got)
	}
	two.change(t, c, flavor)
	leaveHalf(t, c, admin, first)
}

// cloneFlavor makes a flavor whose servers are cloned.
func cloneFlavor(t *testing.T, admin clients, name string, ram int) string {
	t.Helper()
	disk := 1
	f := must[*flavors.Flavor](t)(flavors.Create(t.Context(), admin.compute, flavors.CreateOpts{Name: name, RAM: ram, VCPUs: 1, Disk: &disk}).Extract())
	must[map[string]string](t)(flavors.CreateExtraSpecs(t.Context(), admin.compute, f.ID, flavors.ExtraSpecsOpts{"strata:clone": "true"}).Extract())
	return f.ID
}

// twin makes another server beside the stack's, reachable from outside.
func (s *stack) twin(t *testing.T, name, flavor string) *stack {
	t.Helper()
	ctx, out := t.Context(), *s
	start := time.Now()
	out.server = must[*servers.Server](t)(servers.Create(ctx, s.compute, keypairs.CreateOptsExt{KeyName: "key", CreateOptsBuilder: servers.CreateOpts{Name: name, ImageRef: s.image, FlavorRef: flavor,
		Networks: []servers.Network{{UUID: s.network}}, SecurityGroups: []string{"ssh"}, UserData: []byte(takesSeed)}}, nil).Extract()).ID
	out.awaitServer(t, out.server, "ACTIVE")
	t.Logf("%s: request to ACTIVE: %s", name, time.Since(start).Round(time.Millisecond))
	f := must[*floatingips.FloatingIP](t)(floatingips.Create(ctx, s.clients.network, floatingips.CreateOpts{FloatingNetworkID: publicNetwork(t, s.clients), PortID: out.portOf(t)}).Extract())
	out.fip, out.address = f.ID, f.FloatingIP
	return &out
}

// isClone tells whether the server's machine has gone on from a template.
func (s *stack) isClone(t *testing.T, c *cloud.Cloud) bool {
	t.Helper()
	var state struct{ Spec struct{ Clone bool } }
	raw := must[[]byte](t)(os.ReadFile(filepath.Join(c.Dir, "instances", s.server, "state.json")))
	if err := json.Unmarshal(raw, &state); err != nil {
		t.Fatal(err)
	}
	return state.Spec.Clone
}

// identity is what no other server may have.
func (s *stack) identity(t *testing.T) map[string]string {
	t.Helper()
	g := s.ssh(t)
	now := must[time.Time](t)(time.Parse(time.UnixDate, g.Must("date -u")))
	if off := time.Since(now); off < -5*time.Second || off > 5*time.Second {
		t.Errorf("the clock of %s is off by %s", s.server, off)
	}
	if id := g.Must("cat /etc/machine-id"); id != strings.ReplaceAll(s.server, "-", "") {
		t.Errorf("the machine id of %s is %s", s.server, id)
	}
	return map[string]string{
		"host name": g.Must("hostname"), "MAC": g.Must("cat /sys/class/net/eth0/address"), "address": g.Must("ip -4 -o addr show dev eth0"),
		"host keys": g.Must("for f in /etc/dropbear/*_host_key; do sudo dropbearkey -y -f $f | grep Fingerprint; done"),
		"random":    g.Must("for i in 1 2 3 4 5 6 7 8 9 10; do [ -s random ] && break; sleep 1; done; cat random"),
	}
}

func assertDistinct(t *testing.T, all ...map[string]string) {
	t.Helper()
	for what := range all[0] {
		seen := map[string]bool{}
		for _, id := range all {
			if id[what] == "" || seen[id[what]] {
				t.Errorf("the %s %q is not its own", what, id[what])
			}
			seen[id[what]] = true
		}
	}
}

// awaitTemplates waits until n templates are complete, and what they were made with is gone.
func awaitTemplates(t *testing.T, c *cloud.Cloud, n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 6*time.Minute) // the node takes five at most
	defer cancel()
	err := wait.Until(ctx, "templates", 50*time.Millisecond, func(context.Context) (bool, error) {
		entries, err := os.ReadDir(filepath.Join(c.Dir, "templates"))
		for _, e := range entries {
			if strings.HasSuffix(e.Name(), ".new") {
				return false, err
			}
		}
		return len(entries) == n, err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// change snapshots, resizes and rebuilds a clone.
func (s *stack) change(t *testing.T, c *cloud.Cloud, flavor string) {
	ctx := t.Context()
	g := s.ssh(t)
	g.Must("echo kept > /home/strata/kept && sync")
	must[string](t)(servers.CreateImage(ctx, s.compute, s.server, servers.CreateImageOpts{Name: "snapshot"}).ExtractImageID())
	s.awaitTask(t)
	if err := servers.Resize(ctx, s.compute, s.server, servers.ResizeOpts{FlavorRef: "84"}).ExtractErr(); err != nil {
		t.Fatal(err)
	}
	s.awaitServer(t, s.server, "VERIFY_RESIZE")
	if kept := s.ssh(t).Must("cat /home/strata/kept"); kept != "kept" {
		t.Errorf("after the resize the file says %q", kept)
	}
	if err := servers.RevertResize(ctx, s.compute, s.server).ExtractErr(); err != nil {
		t.Fatal(err)
	}
	s.awaitServer(t, s.server, "ACTIVE")
	s.awaitTask(t)
	// By now another server of the shape has had the template made anew.
	s.twin(t, "third", flavor)
	awaitTemplates(t, c, 1)
	keys := s.identity(t)["host keys"]
	must[*servers.Server](t)(servers.Rebuild(ctx, s.compute, s.server, servers.RebuildOpts{ImageRef: s.image}).Extract())
	s.awaitTask(t)
	if got := s.identity(t)["host keys"]; got == keys || !s.isClone(t, c) {
		t.Errorf("the rebuilt server has the host keys %s, as before %s", got, keys)
	}
}

// awaitTask waits until nothing is being done with the server.
func (s *stack) awaitTask(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	err := wait.Until(ctx, "the server's task", 50*time.Millisecond, func(ctx context.Context) (bool, error) {
		v, err := servers.Get(ctx, s.compute, s.server).Extract()
		return err == nil && v.TaskState == "" && v.Status == "ACTIVE", err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// leaveHalf kills the control process while a template is made: nothing of that may stay.
func leaveHalf(t *testing.T, c *cloud.Cloud, admin clients, s *stack) {
	t.Helper()
	n := len(qemus(t, c))
	s.twin(t, "half", cloneFlavor(t, admin, "cloned-more", 160))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	await := func(what string, want int) {
		t.Helper()
		var dirs []os.DirEntry
		err := wait.Until(ctx, what, 10*time.Millisecond, func(context.Context) (bool, error) {
			var err error
			dirs, err = os.ReadDir(filepath.Join(c.Dir, "instances"))
			return len(qemus(t, c)) == want && len(dirs) == want, err
		})
		if err != nil {
			t.Fatalf("%v: %d machines run, of %d", err, len(qemus(t, c)), len(dirs))
		}
	}
	await("a template in the making", n+2)
	c.Kill()
	c.Up()
	await("what is left of a template to be removed", n+1)
	awaitTemplates(t, c, 1)
}
