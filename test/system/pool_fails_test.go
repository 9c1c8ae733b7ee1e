package system

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/keypairs"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/servers"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/services"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/layer3/floatingips"

	"github.com/strata-cloud/strata/internal/nodes"
	"github.com/strata-cloud/strata/internal/region"
	"github.com/strata-cloud/strata/test/cloud"
	"github.com/strata-cloud/strata/test/hosts"
)

// TestHostFails kills a host, cuts one off, kills agents and the control plane, and
// empties a host. A server with high availability is back each time, never runs in
// two places, and one without stays where it is.
func TestHostFails(t *testing.T) {
	p := newPool(t, 3)
	if err := p.Route(p.public, p.All[0]); err != nil {
		t.Fatal(err)
	}
	f := &failing{mover: &mover{pool: p, stack: &stack{clients: p.clients("strata"), key: cloud.NewKey(t)}}}
	f.create(t)
	must[map[string]string](t)(servers.UpdateMetadata(t.Context(), f.compute, f.server, servers.MetadataOpts{"HA_Enabled": "True"}).Extract())
	f.toBeta()
	f.plain = f.another("plain")
	f.plainAddress = f.floating(f.plain)
	t.Run("killed", f.killed)
	t.Run("cut off", f.cutOff)
	t.Run("agent dies", f.agentDies)
	t.Run("stalls", f.stalls)
	t.Run("control plane is away", f.controlAway)
	t.Run("drained", f.drained)
	f.remove(f.plain)
	f.destroy(t)
	for _, h := range p.All {
		if left := p.machines(h.DataDir); len(left) > 0 {
			t.Errorf("machines are left on %s: %v", h.Name, left)
		}
	}
}

// failing is the pool of the test, with a server of each kind on the host beta.
type failing struct {
	*mover
	plain, plainAddress string
	more                []string // floating IPs
}

func (f *failing) beta() *hosts.Host { return f.All[1] }

// another makes a server on beta.
func (f *failing) another(name string) string {
	f.Helper()
	id := must[*servers.Server](f)(servers.Create(f.Context(), f.compute, keypairs.CreateOptsExt{KeyName: "key", CreateOptsBuilder: servers.CreateOpts{Name: name, ImageRef: f.stack.image,
		FlavorRef: "42", AvailabilityZone: "nova:beta", Networks: []servers.Network{{UUID: f.network}}, SecurityGroups: []string{"ssh"}}}, nil).Extract()).ID
	f.awaitServer(f, id, "ACTIVE")
	return id
}

// floating gives a server a floating IP and waits until it can be logged into.
func (f *failing) floating(id string) string {
	f.Helper()
	other := *f.stack
	other.server = id
	fip := must[*floatingips.FloatingIP](f)(floatingips.Create(f.Context(), f.stack.clients.network, floatingips.CreateOpts{FloatingNetworkID: publicNetwork(f.T, f.stack.clients), PortID: other.portOf(f.T)}).Extract())
	f.more = append(f.more, fip.ID)
	f.logIn(fip.FloatingIP)
	return fip.FloatingIP
}

// bootLimit bounds how long it may take until a guest can be logged into: a dozen boot at once,
// emulated, beside whatever else runs.
const bootLimit = 5 * time.Minute

func (f *failing) logIn(address string) *cloud.Guest {
	f.Helper()
	ctx, cancel := context.WithTimeout(f.Context(), bootLimit)
	defer cancel()
	defer func() {
		if f.Failed() {
			log, err := servers.ShowConsoleOutput(context.WithoutCancel(ctx), f.compute, f.server, servers.ShowConsoleOutputOpts{}).Extract()
			f.Logf("its console (%v):\n%s", err, log)
		}
	}()
	return cloud.SSH(f.T, ctx, address, f.key)
}

func (f *failing) remove(id string) {
	f.Helper()
	for _, fip := range f.more {
		if err := floatingips.Delete(f.Context(), f.stack.clients.network, fip).ExtractErr(); err != nil {
			f.Error(err)
		}
	}
	f.more = nil
	if err := servers.Delete(f.Context(), f.compute, id).ExtractErr(); err != nil {
		f.Fatal(err)
	}
	f.awaitGone(f, id)
}

// toBeta has the server with high availability run on beta, under a lease.
func (f *failing) toBeta() {
	f.Helper()
	from := f.host()
	if from != f.beta() {
		resp, err := f.compute.Post(f.Context(), f.compute.ServiceURL("servers", f.server, "action"),
			map[string]any{"os-migrateLive": map[string]any{"host": "beta", "block_migration": "auto"}}, nil, &gophercloud.RequestOpts{OkCodes: []int{202}})
		if err != nil {
			f.Fatal(err)
		}
		if err := resp.Body.Close(); err != nil {
			f.Fatal(err)
		}
		f.arrived(from, "ACTIVE")
	}
	await(f.T, "the lease of the server", func() bool {
		_, err := os.Stat(filepath.Join(f.beta().DataDir, "leases", f.server))
		return err == nil
	})
}

// pids are the processes of a server on a host.
func (f *failing) pids(h *hosts.Host, id string) (out []int) {
	for _, line := range f.machines(h.DataDir) {
		dir, name, _ := strings.Cut(line, " ")
		var pid int
		if _, err := fmt.Sscan(filepath.Base(dir), &pid); err == nil && name == id {
			out = append(out, pid)
		}
	}
	return out
}

// elsewhere waits until the server is active on another host, and answers.
func (f *failing) elsewhere(t *testing.T, than *hosts.Host, since time.Time) {
	t.Helper()
	f.arrived(than, "ACTIVE")
	active := time.Since(since)
	f.logIn(f.address)
	t.Logf("ACTIVE on %s after %.1f s, SSH at the same address after %.1f s", f.host().Name, active.Seconds(), time.Since(since).Seconds())
}

func (f *failing) kill(pid int) {
	f.Helper()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && err != syscall.ESRCH {
		f.Fatal(err)
	}
}

// keeper is the process that keeps a host's leases.
func (f *failing) keeper(h *hosts.Host) (pid int) {
	f.Helper()
	if _, err := fmt.Sscan(string(must[[]byte](f)(os.ReadFile(filepath.Join(h.DataDir, "leases", "lock")))), &pid); err != nil {
		f.Fatal(err)
	}
	return pid
}

// back starts a host's agent again and waits until nothing of the server is left there.
func (f *failing) back(t *testing.T, h *hosts.Host) {
	t.Helper()
	if err := f.Join(h); err != nil {
		t.Fatal(err)
	}
	f.up(h)
	f.awaitNodes(len(f.All))
	await(t, "what the server left to be removed", func() bool {
		_, err := os.Stat(filepath.Join(h.DataDir, "instances", f.server))
		_, lease := os.Stat(filepath.Join(h.DataDir, "leases", f.server))
		return os.IsNotExist(err) && os.IsNotExist(lease)
	})
}

func (f *failing) node(name string) region.NodeStatus {
	f.Helper()
	var list []region.NodeStatus
	if err := json.Unmarshal([]byte(f.strata(f.All[0], "node", "list", "--output", "json")), &list); err != nil {
		f.Fatal(err)
	}
	for _, n := range list {
		if n.Name == name {
			return n
		}
	}
	f.Fatalf("there is no node %s", name)
	return region.NodeStatus{}
}

func (f *failing) killed(t *testing.T) {
	beta, stop := f.beta(), f.watch()
	begin := time.Now()
	if err := f.Cut(beta); err != nil {
		t.Fatal(err)
	}
	for _, pid := range append(append([]int{f.pid(beta), f.keeper(beta)}, f.pids(beta, f.server)...), f.pids(beta, f.plain)...) {
		f.kill(pid)
	}
	f.elsewhere(t, f.beta(), begin)
	tell(t, begin, stop())
	if n := f.node("beta"); !n.Dead || n.Connected {
		t.Errorf("strata node list says %+v", n)
	}
	pages := must[[]services.Service](t)(func() ([]services.Service, error) {
		all, err := services.List(f.compute, services.ListOpts{Host: "beta"}).AllPages(t.Context())
		if err != nil {
			return nil, err
		}
		return services.ExtractServices(all)
	}())
	if len(pages) != 1 || pages[0].State != "down" {
		t.Errorf("its service is %+v", pages)
	}
	if s := must[*servers.Server](t)(servers.Get(t.Context(), f.compute, f.plain).Extract()); s.Host != "beta" || s.Status != "ACTIVE" {
		t.Errorf("without high availability it is %s on %s", s.Status, s.Host)
	}
	f.back(t, f.beta())
	f.awaitServer(t, f.plain, "SHUTOFF") // its process was killed, and the machine did not restart
	if err := servers.Start(t.Context(), f.compute, f.plain).ExtractErr(); err != nil {
		t.Fatal(err)
	}
	f.awaitServer(t, f.plain, "ACTIVE")
	f.logIn(f.plainAddress)
}

func (f *failing) cutOff(t *testing.T) {
	f.toBeta()
	beta, plain := f.beta(), f.pids(f.beta(), f.plain)
	before := f.pids(beta, f.server)
	if err := f.Cut(beta); err != nil {
		t.Fatal(err)
	}
	<-time.After(6 * time.Second)
	if err := f.Join(beta); err != nil {
		t.Fatal(err)
	}
	<-time.After(nodes.LeaseTTL)
	if now := f.pids(beta, f.server); len(now) != 1 || now[0] != before[0] {
		t.Errorf("cut off for a moment: it was %v and is %v", before, now)
	}
	f.awaitNodes(len(f.All))
	stop, begin := f.watch(), time.Now()
	if err := f.Cut(beta); err != nil {
		t.Fatal(err)
	}
	f.elsewhere(t, f.beta(), begin)
	seen := stop()
	tell(t, begin, seen)
	if len(seen) != 3 || seen[0].hosts != "beta" || seen[1].hosts != "" {
		t.Errorf("it was seen %+v: want on beta, nowhere, and elsewhere", seen)
	}
	if now := f.pids(beta, f.plain); len(now) != 1 || now[0] != plain[0] {
		t.Errorf("without high availability it was %v and is %v", plain, now)
	}
	f.back(t, f.beta())
	f.logIn(f.plainAddress)
	if now := f.pids(beta, f.plain); len(now) != 1 || now[0] != plain[0] {
		t.Errorf("without high availability it was %v and is %v", plain, now)
	}
}

// agentDies kills the agent for a moment, for longer, and together with the keeper.
func (f *failing) agentDies(t *testing.T) {
	f.toBeta()
	beta := f.beta()
	before := f.pids(beta, f.server)
	f.kill(f.pid(beta))
	<-time.After(3 * time.Second)
	f.up(beta)
	f.awaitNodes(len(f.All))
	<-time.After(nodes.LeaseTTL + 2*time.Second)
	if now := f.pids(beta, f.server); len(before) != 1 || len(now) != 1 || now[0] != before[0] {
		t.Errorf("the agent was away for a moment: the server was %v and is %v", before, now)
	}

	begin := time.Now()
	f.kill(f.pid(beta))
	f.kill(f.keeper(beta))
	await(t, "the server to end with its keeper", func() bool { return len(f.pids(beta, f.server)) == 0 })
	t.Logf("agent and keeper killed: the server ended %s later", time.Since(begin).Round(time.Millisecond))
	f.up(beta)
	await(t, "the server to be started again", func() bool { return len(f.pids(beta, f.server)) == 1 })
	t.Logf("started again on its host after %.1f s", time.Since(begin).Seconds())
	f.logIn(f.address)
	f.awaitServer(t, f.server, "ACTIVE")

	plain := f.pids(beta, f.plain)
	stop, begin := f.watch(), time.Now()
	f.kill(f.pid(beta))
	f.elsewhere(t, f.beta(), begin)
	tell(t, begin, stop())
	if now := f.pids(beta, f.plain); len(now) != 1 || now[0] != plain[0] {
		t.Errorf("without high availability it was %v and is %v", plain, now)
	}
	f.back(t, f.beta())
	f.logIn(f.plainAddress)
}

// stalls stops everything on beta for longer than leases last, as a host does whose own
// hypervisor is overloaded: when it goes on, the server does not, for it is elsewhere.
func (f *failing) stalls(t *testing.T) {
	f.toBeta()
	beta, plain := f.beta(), f.pids(f.beta(), f.plain)
	all := append(append([]int{f.pid(beta), f.keeper(beta)}, f.pids(beta, f.server)...), plain...)
	signal := func(sig syscall.Signal) {
		for _, pid := range all {
			if err := syscall.Kill(pid, sig); err != nil {
				t.Error(err)
			}
		}
	}
	begin := time.Now()
	signal(syscall.SIGSTOP)
	f.elsewhere(t, beta, begin)
	begin = time.Now()
	signal(syscall.SIGCONT)
	await(t, "the server to end where it stood still", func() bool { return len(f.pids(beta, f.server)) == 0 })
	t.Logf("it ended %s after its host went on", time.Since(begin).Round(time.Millisecond))
	f.awaitNodes(len(f.All))
	if now := f.pids(beta, f.plain); len(now) != 1 || now[0] != plain[0] {
		t.Errorf("without high availability it was %v and is %v", plain, now)
	}
	f.logIn(f.address)
	f.logIn(f.plainAddress)
}

// controlAway kills the control plane for longer than leases last.
func (f *failing) controlAway(t *testing.T) {
	f.toBeta()
	f.logIn(f.address).Must("echo here > /home/strata/own && sync")
	first, plain := f.All[0], f.pids(f.beta(), f.plain)
	stop, begin := f.watch(), time.Now()
	f.kill(f.pid(first))
	await(t, "the server to end without leases", func() bool { return len(f.pids(f.beta(), f.server)) == 0 })
	<-time.After(5 * time.Second)
	up := time.Now()
	f.up(first)
	await(t, "the server to be started again", func() bool { return len(f.pids(f.beta(), f.server)) == 1 })
	t.Logf("started again %.1f s after the control plane", time.Since(up).Seconds())
	if own := f.logIn(f.address).Must("cat /home/strata/own"); own != "here" {
		t.Errorf("its file says %q", own)
	}
	t.Logf("SSH %.1f s after the control plane", time.Since(up).Seconds())
	tell(t, begin, stop())
	f.awaitServer(t, f.server, "ACTIVE")
	if now := f.pids(f.beta(), f.plain); len(now) != 1 || now[0] != plain[0] {
		t.Errorf("without high availability it was %v and is %v", plain, now)
	}
	f.awaitNodes(len(f.All))
}
