package system

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/servergroups"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/servers"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/networks"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/subnets"

	"github.com/strata-cloud/strata/internal/wait"
	"github.com/strata-cloud/strata/test/hosts"
)

// TestPool joins three hosts, spreads servers over them, loses an agent for a
// while and takes a host out again.
func TestPool(t *testing.T) {
	p := newPool(t, 3)
	p.image()
	p.strangers()
	admin := p.clients("strata")
	ids := p.spread(admin)
	for _, id := range ids {
		p.awaitBooted(admin, id)
	}
	p.reached(admin, ids)
	p.agentDies(admin)
	p.memberLeaves(admin, ids)
}

// strangers try to join in ways that are refused and leave nothing.
func (p *pool) strangers() {
	p.Helper()
	good, host := p.token(), p.All[1]
	other := &hosts.Host{}
	*other = *host
	other.DataDir += "-other"
	flipped := strings.Map(func(r rune) rune {
		if r == 'a' {
			return 'b'
		}
		return r
	}, good.Token)
	for _, c := range []struct {
		host                 *hosts.Host
		address, token, name string
		says                 string
	}{
		{host, good.Address, good.Token, "again", "is node beta of the cloud"},
		{other, good.Address, good.Token, "beta", "there is a node beta already"},
		{other, good.Address, good.Token, "alpha", "there is a node alpha already"},
		{other, good.Address, good.Token, "no_name", "is no name for a node"},
		{other, good.Address, good.Token + "0", "new", "the token is not known here"},
		{other, good.Address, flipped, "new", "another cloud's"},
		{other, good.Address, "short", "new", "that is no token"},
		{other, "http://" + host.Addr, good.Token, "new", "is not the address of a cloud"},
		{other, "https://" + host.Addr + ":1", good.Token, "new", "connection refused"},
	} {
		if _, err := p.try(c.host, "join", c.address, "--token", c.token, "--name", c.name, "--detach"); err == nil || !strings.Contains(err.Error(), c.says) {
			p.Errorf("joining as %s at %s: %v, want %q", c.name, c.address, err, c.says)
		}
	}
	if _, err := os.Stat(other.DataDir); !os.IsNotExist(err) {
		p.Errorf("what was refused left %s (%v)", other.DataDir, err)
	}
	if _, err := p.try(p.All[1], "token", "create"); err == nil {
		p.Error("a node that only joined made a token")
	}
}

// spread makes a server on each host by a group whose members must be apart.
func (p *pool) spread(c clients) []string {
	p.Helper()
	ctx := p.Context()
	net := must[*networks.Network](p)(networks.Create(ctx, c.network, networks.CreateOpts{Name: "spread"}).Extract()).ID
	must[*subnets.Subnet](p)(subnets.Create(ctx, c.network, subnets.CreateOpts{NetworkID: net, CIDR: "10.79.0.0/24", IPVersion: 4}).Extract())
	group := must[*servergroups.ServerGroup](p)(servergroups.Create(ctx, c.compute, servergroups.CreateOpts{Name: "apart", Policy: "anti-affinity"}).Extract()).ID
	var ids, on []string
	for range p.All {
		ids = append(ids, must[*servers.Server](p)(servers.Create(ctx, c.compute, servers.CreateOpts{Name: "s", ImageRef: c.tiny(p), FlavorRef: "42",
			Networks: []servers.Network{{UUID: net}}}, servers.SchedulerHintOpts{Group: group}).Extract()).ID)
	}
	for _, id := range ids {
		on = append(on, c.awaitServer(p, id, "ACTIVE").Host)
	}
	slices.Sort(on)
	if want := []string{"alpha", "beta", "gamma"}; !slices.Equal(on, want) {
		p.Errorf("the servers are on %v, want one on each of %v", on, want)
	}
	return ids
}

// awaitBooted reads a server's console log until its guest is up, wherever it is.
func (p *pool) awaitBooted(c clients, id string) {
	p.Helper()
	ctx, cancel := context.WithTimeout(p.Context(), 3*time.Minute)
	defer cancel()
	err := wait.Until(ctx, "the guest of server "+id, 500*time.Millisecond, func(ctx context.Context) (bool, error) {
		log, err := servers.ShowConsoleOutput(ctx, c.compute, id, servers.ShowConsoleOutputOpts{}).Extract()
		return strings.Contains(log, "login:") && strings.Contains(log, "metadata from"), err
	})
	if err != nil {
		p.Fatal(err)
	}
}

// agentDies kills an agent: its server runs on, and it comes back.
func (p *pool) agentDies(c clients) {
	p.Helper()
	beta := p.All[1]
	before := p.machines(beta.DataDir)
	if err := syscall.Kill(p.pid(beta), syscall.SIGKILL); err != nil {
		p.Fatal(err)
	}
	p.awaitNodes(2)
	if now := p.machines(beta.DataDir); len(before) != 1 || !slices.Equal(now, before) {
		p.Errorf("machines before the agent died: %v, after: %v", before, now)
	}
	p.up(beta)
	p.awaitNodes(3)
	if now := p.machines(beta.DataDir); !slices.Equal(now, before) {
		p.Errorf("machines after the agent came back: %v, want %v", now, before)
	}
}

// machines lists the QEMU processes of a host, as their directories.
func (p *pool) machines(dataDir string) (out []string) {
	p.Helper()
	links := must[[]string](p)(filepath.Glob("/proc/[0-9]*/cwd"))
	for _, l := range links {
		comm, _ := os.ReadFile(filepath.Join(filepath.Dir(l), "comm"))
		if dir, err := os.Readlink(l); err == nil && filepath.Dir(dir) == filepath.Join(dataDir, "instances") && string(comm) != "qemu-img\n" {
			out = append(out, filepath.Dir(l)+" "+filepath.Base(dir))
		}
	}
	return out
}

// memberLeaves takes the last host out, which works only without servers on it.
func (p *pool) memberLeaves(c clients, ids []string) {
	p.Helper()
	gamma := p.All[2]
	if _, err := p.try(p.All[0], "node", "remove", gamma.Name); err == nil || !strings.Contains(err.Error(), "move or delete them first") {
		p.Errorf("removing a node with servers: %v", err)
	}
	for _, id := range ids {
		if err := servers.Delete(p.Context(), c.compute, id).ExtractErr(); err != nil {
			p.Fatal(err)
		}
	}
	for _, id := range ids {
		c.awaitGone(p, id)
	}
	p.strata(p.All[0], "node", "remove", gamma.Name)
	p.strata(gamma, "down")
	p.up(gamma)
	p.awaitNodes(2)
	for _, h := range p.All {
		if left := p.machines(h.DataDir); len(left) > 0 {
			p.Errorf("machines are left on %s: %v", h.Name, left)
		}
	}
}
