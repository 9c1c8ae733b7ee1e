package system

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/servers"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/networks"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/ports"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/subnets"

	"github.com/strata-cloud/strata/internal/wait"
	"github.com/strata-cloud/strata/test/cloud"
)

// kills is how often the control process is killed, and crowd how many servers
// are created and deleted meanwhile.
const (
	kills = 50
	crowd = 10
)

// TestKill ends the control process at random moments while servers come and go.
// Nothing acknowledged may be lost and nothing may leak; a guest must not notice.
func TestKill(t *testing.T) {
	c := cloud.New(t)
	admin := clientsOf(t, c.Provider(t.Context(), "strata"))
	user, project := newUser(t, c, admin)
	hero := &stack{clients: user, key: cloud.NewKey(t)}
	hero.create(t)
	g := hero.ssh(t)
	net := must[*networks.Network](t)(networks.Create(t.Context(), user.network, networks.CreateOpts{Name: "crowd"}).Extract()).ID
	must[*subnets.Subnet](t)(subnets.Create(t.Context(), user.network, subnets.CreateOpts{NetworkID: net, CIDR: "10.78.0.0/24", IPVersion: 4}).Extract())

	ctx, stop := context.WithCancel(t.Context())
	var group sync.WaitGroup
	for i := range crowd {
		group.Go(func() { churn(ctx, user, hero.image, net, fmt.Sprintf("crowd-%d", i)) })
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	for i := range kills {
		pause(t, time.Duration(rnd.IntN(1500))*time.Millisecond)
		t.Logf("kill %d", i+1)
		c.Kill()
		c.Up()
		if out, err := g.Run("echo alive"); err != nil || out != "alive" {
			t.Fatalf("after kill %d the guest's SSH session is broken: %q %v", i+1, out, err)
		}
	}
	stop()
	group.Wait()
	left := settle(t, user)
	assertConsistent(t, c, admin, user, project, left)
	for _, s := range left {
		if err := servers.Delete(t.Context(), user.compute, s.ID).ExtractErr(); err != nil {
			t.Errorf("deleting %s (%s): %v", s.ID, s.Status, err)
		}
	}
	for _, s := range left {
		user.awaitGone(t, s.ID)
	}
	assertConsistent(t, c, admin, user, project, nil)
}

// churn creates and deletes one server after another; while the cloud is down its requests fail.
func churn(ctx context.Context, c clients, image, net, name string) {
	for ctx.Err() == nil {
		s, err := servers.Create(ctx, c.compute, servers.CreateOpts{Name: name, ImageRef: image, FlavorRef: "42", Networks: []servers.Network{{UUID: net}}}, nil).Extract()
		if err != nil {
			tick(ctx, 50*time.Millisecond)
			continue
		}
		tick(ctx, time.Duration(rand.IntN(3000))*time.Millisecond)
		for ctx.Err() == nil && servers.Delete(ctx, c.compute, s.ID).ExtractErr() != nil {
			if _, err := servers.Get(ctx, c.compute, s.ID).Extract(); err != nil && strings.Contains(err.Error(), "404") {
				break
			}
			tick(ctx, 50*time.Millisecond)
		}
	}
}

func tick(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

func pause(t *testing.T, d time.Duration) { tick(t.Context(), d) }

// settle waits until no server is on its way and gives those that there are.
func settle(t *testing.T, c clients) []servers.Server {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	var all []servers.Server
	err := wait.Until(ctx, "every server to settle", 200*time.Millisecond, func(ctx context.Context) (bool, error) {
		pages, err := servers.List(c.compute, servers.ListOpts{}).AllPages(ctx)
		if err != nil {
			return false, err
		}
		if all, err = servers.ExtractServers(pages); err != nil {
			return false, err
		}
		for _, s := range all {
			if s.TaskState != "" || s.Status == "BUILD" {
				return false, nil
			}
			if s.Status != "ACTIVE" && !(s.Status == "ERROR" && s.Fault.Message != "") {
				return false, fmt.Errorf("server %s settled as %s, fault %q", s.ID, s.Status, s.Fault.Message)
			}
		}
		return true, nil
	})
	if err != nil {
		for _, s := range all {
			t.Logf("%s %s %s task %s", s.ID, s.Name, s.Status, s.TaskState)
		}
		t.Fatal(err)
	}
	return all
}

// assertConsistent checks that ledgers, processes, taps, files and ports are exactly those of the servers.
func assertConsistent(t *testing.T, c *cloud.Cloud, admin, user clients, project string, live []servers.Server) {
	t.Helper()
	running := 0
	want := map[string]bool{}
	for _, s := range live {
		if want[s.ID] = true; s.Status == "ACTIVE" {
			running++
		}
	}
	assertUsage(t, user, len(live))
	assertAllocations(t, admin, running)
	if q := qemus(t, c); len(q) != running {
		t.Errorf("%d QEMU processes for %d running servers: %v", len(q), running, q)
	}
	entries := must[[]os.DirEntry](t)(os.ReadDir(filepath.Join(c.Dir, "instances")))
	for _, e := range entries {
		if !want[e.Name()] {
			t.Errorf("the directory of %s is left", e.Name())
		}
	}
	list := must[[]ports.Port](t)(func() ([]ports.Port, error) {
		all, err := ports.List(admin.network, ports.ListOpts{ProjectID: project}).AllPages(t.Context())
		if err != nil {
			return nil, err
		}
		return ports.ExtractPorts(all)
	}())
	for _, p := range list {
		if strings.HasPrefix(p.DeviceOwner, "compute:") && !want[p.DeviceID] {
			t.Errorf("port %s belongs to %s, which is gone", p.ID, p.DeviceID)
		}
	}
	if n := taps(t, c); n != running {
		t.Errorf("%d taps for %d running servers", n, running)
	}
}

// taps counts the taps in the cloud's node namespace.
func taps(t *testing.T, c *cloud.Cloud) int {
	t.Helper()
	out := must[[]byte](t)(exec.Command("ip", "netns", "list").Output())
	for _, l := range lines(string(out)) {
		name := strings.Fields(l)[0]
		if !strings.HasSuffix(name, "-node") || !strings.HasPrefix(name, c.Name()) {
			continue
		}
		links := must[[]byte](t)(exec.Command("ip", "-n", name, "-o", "link", "show", "type", "tun").Output())
		return len(lines(string(links)))
	}
	return 0
}
