package system

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/quotasets"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/servers"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/tokens"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/quotas"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/networks"

	"github.com/strata-cloud/strata/internal/nodes"
	"github.com/strata-cloud/strata/internal/region"
	"github.com/strata-cloud/strata/internal/wait"
	"github.com/strata-cloud/strata/test/hosts"
)

// TestControlMembers has three control members. The one that leads is killed, cut off
// and restarted while clients work; servers run on and nothing is lost or done twice.
func TestControlMembers(t *testing.T) {
	p := newPoolOf(t, 3, 3, 0)
	p.awaitMembers(p.All[0], 3)
	img := p.blank()
	for _, h := range p.All {
		p.useMember(h, img)
	}
	guests := p.guests()
	if len(guests) != 3 {
		t.Fatalf("%d machines run: %v", len(guests), guests)
	}
	p.consoles()
	p.unlimited()
	load := p.load(img)
	p.leaderKilled(load)
	p.leaderCut(load)
	p.rolling(load)
	load.end()
	if now := p.guests(); !subset(guests, now) {
		t.Errorf("machines before all this: %v, after: %v", guests, now)
	}
	p.majorityLost()
}

// guests lists all machines with their processes.
func (p *pool) guests() (out []string) {
	for _, h := range p.All {
		out = append(out, p.machines(h.DataDir)...)
	}
	slices.Sort(out)
	return out
}

func subset(of, all []string) bool {
	for _, x := range of {
		if !slices.Contains(all, x) {
			return false
		}
	}
	return true
}

// status asks a host for the state of the cloud.
func (p *pool) status(h *hosts.Host) (s region.Status, err error) {
	out, err := p.try(h, "status", "--output", "json")
	if err == nil {
		err = json.Unmarshal([]byte(out), &s)
	}
	return s, err
}

// awaitMembers waits until so many control members answer, with a leader among them,
// have all images, and all nodes are connected.
func (p *pool) awaitMembers(by *hosts.Host, n int) {
	p.Helper()
	ctx, cancel := context.WithTimeout(p.Context(), 40*time.Second)
	defer cancel()
	var last region.Status
	err := wait.Until(ctx, fmt.Sprintf("%d control members", n), 50*time.Millisecond, func(context.Context) (bool, error) {
		s, err := p.status(by)
		if err != nil {
			return false, nil // it may have just started
		}
		last = s
		good, leaders, here := 0, 0, 0
		for _, m := range s.Control {
			if m.Answers && m.Missing == 0 && m.Role != "learner" {
				good++
			}
			if m.Role == "leader" {
				leaders++
			}
		}
		for _, x := range s.Nodes {
			if x.Connected {
				here++
			}
		}
		return good == n && leaders == 1 && here == len(s.Nodes), nil
	})
	if err != nil {
		p.Fatalf("%v: %+v %+v %s", err, last.Control, last.Nodes, last.Problem)
	}
}

// leader is the host whose member leads, as another sees it.
func (p *pool) leader(by *hosts.Host) *hosts.Host {
	p.Helper()
	s := must[region.Status](p)(p.status(by))
	for _, n := range s.Nodes {
		for _, h := range p.All {
			if n.Name == h.Name && n.Role == nodes.RoleControl+" leader" {
				return h
			}
		}
	}
	p.Fatalf("nobody leads: %+v", s)
	return nil
}

// blank is an image that boots nothing, uploaded by way of a standby.
func (p *pool) blank() string {
	p.Helper()
	file := filepath.Join(p.TempDir(), "blank")
	if err := os.WriteFile(file, make([]byte, 1<<20), 0o600); err != nil {
		p.Fatal(err)
	}
	return p.clientsAt(p.All[1], "strata").upload(p, "blank", file, "raw", nil)
}

// useMember does with a member what clients do.
func (p *pool) useMember(h *hosts.Host, image string) {
	p.Helper()
	c, ctx := p.clientsAt(h, "strata"), p.Context()
	for _, sc := range []*gophercloud.ServiceClient{c.compute, c.network, c.image, c.identity, c.placement, c.volume} {
		if u := must[*url.URL](p)(url.Parse(sc.Endpoint)); u.Hostname() != h.Addr {
			p.Errorf("the catalogue of %s leads to %s", h.Name, sc.Endpoint)
		}
	}
	made := must[*networks.Network](p)(networks.Create(ctx, c.network, networks.CreateOpts{Name: "by-" + h.Name}).Extract())
	for _, other := range p.All { // whoever answers next knows it
		if _, err := networks.Get(ctx, p.clientsAt(other, "strata").network, made.ID).Extract(); err != nil {
			p.Errorf("the network made by way of %s is not known at %s: %v", h.Name, other.Name, err)
		}
	}
	id := must[*servers.Server](p)(servers.Create(ctx, c.compute, servers.CreateOpts{Name: "by-" + h.Name, ImageRef: image, FlavorRef: "42",
		Networks: "none", AvailabilityZone: "nova:" + h.Name}, nil).Extract()).ID
	c.awaitServer(p, id, "ACTIVE")
}

// unlimited lifts the quotas that the load would reach.
func (p *pool) unlimited() {
	p.Helper()
	c, ctx := p.clients("strata"), p.Context()
	project := must[*tokens.Project](p)(tokens.Get(ctx, c.identity, c.identity.Token()).ExtractProject())
	none := -1
	if _, err := quotas.Update(ctx, c.network, project.ID, quotas.UpdateOpts{Network: &none}).Extract(); err != nil {
		p.Fatal(err)
	}
	if _, err := quotasets.Update(ctx, c.compute, project.ID, quotasets.UpdateOpts{Instances: &none, Cores: &none, RAM: &none}).Extract(); err != nil {
		p.Fatal(err)
	}
}

// consoles are reached by way of each member, at its own address.
func (p *pool) consoles() {
	p.Helper()
	for _, h := range p.All {
		c := p.clientsAt(h, "strata")
		c.compute.Microversion = "2.6"
		id := p.named(c, "by-"+p.All[0].Name)
		var out struct {
			Console struct{ URL string } `json:"remote_console"`
		}
		_, err := c.compute.Post(p.Context(), c.compute.ServiceURL("servers", id, "remote-consoles"), map[string]any{"remote_console": map[string]string{"protocol": "serial", "type": "serial"}}, &out,
			&gophercloud.RequestOpts{OkCodes: []int{200}})
		if err != nil {
			p.Error(err)
			continue
		}
		if u := must[*url.URL](p)(url.Parse(out.Console.URL)); u.Hostname() != h.Addr {
			p.Errorf("the console by way of %s is at %s", h.Name, out.Console.URL)
		}
		p.websocket(out.Console.URL)
	}
}

// named is the id of the only server with a name.
func (p *pool) named(c clients, name string) string {
	p.Helper()
	all := p.serversNamed(c, name)
	if len(all) != 1 {
		p.Fatalf("%d servers are called %s", len(all), name)
	}
	return all[0]
}

func (p *pool) serversNamed(c clients, name string) (ids []string) {
	p.Helper()
	list, err := serverIDs(p.Context(), c, name)
	if err != nil {
		p.Fatal(err)
	}
	return list
}

// leaderKilled ends the leader as a crash would; the others go on at once.
func (p *pool) leaderKilled(load *load) {
	p.Helper()
	lead := p.leader(p.All[0])
	load.avoid(lead)
	load.settle()
	begun := time.Now()
	if err := syscall.Kill(p.pid(lead), syscall.SIGKILL); err != nil {
		p.Fatal(err)
	}
	p.Logf("the leader was killed: clients waited for %v at most", load.outage(begun).Round(time.Millisecond))
	other := p.other(lead)
	if now := p.leader(other); now == lead {
		p.Errorf("%s still leads", lead.Name)
	}
	p.agentsBack(other, lead, begun)
	load.settle()
	p.up(lead)
	p.awaitMembers(lead, 3)
	load.avoid(nil)
	load.settle()
}

func (p *pool) other(than *hosts.Host) *hosts.Host {
	for _, h := range p.All {
		if h != than {
			return h
		}
	}
	return nil
}

// agentsBack waits until all agents but the one of a host that is away have the new leader.
func (p *pool) agentsBack(by, away *hosts.Host, since time.Time) {
	p.Helper()
	ctx, cancel := context.WithTimeout(p.Context(), 30*time.Second)
	defer cancel()
	err := wait.Until(ctx, "the agents to reach the new leader", 20*time.Millisecond, func(context.Context) (bool, error) {
		s, err := p.status(by)
		here := 0
		for _, n := range s.Nodes {
			if n.Connected && n.Name != away.Name {
				here++
			}
		}
		return err == nil && here == len(p.All)-1, nil
	})
	if err != nil {
		p.Fatal(err)
	}
	p.Logf("all agents that are left had the new leader after %v", time.Since(since).Round(time.Millisecond))
}

// leaderCut separates the leader from the others: they go on, it says that it cannot.
func (p *pool) leaderCut(load *load) {
	p.Helper()
	lead := p.leader(p.All[0])
	load.avoid(lead)
	load.settle()
	begun := time.Now()
	if err := p.Cut(lead); err != nil {
		p.Fatal(err)
	}
	p.Logf("the leader was cut off: clients waited for %v at most", load.outage(begun).Round(time.Millisecond))
	p.agentsBack(p.other(lead), lead, begun)
	p.awaitProblem(lead)
	status, body := p.curlInside(lead, "/compute/v2.1/servers")
	if status != "503" || !strings.Contains(body, "serviceUnavailable") || !strings.Contains(body, "no majority") {
		p.Errorf("the member that was cut off answered %s: %s", status, body)
	}
	s, err := p.status(lead)
	if err != nil || !strings.Contains(s.Problem, "no majority") || !strings.Contains(s.Problem, "strata up") {
		p.Errorf("its status: %q, %v", s.Problem, err)
	}
	if err := p.Join(lead); err != nil {
		p.Fatal(err)
	}
	healed := time.Now()
	p.awaitMembers(lead, 3)
	p.Logf("it took part again %v after the cut was healed", time.Since(healed).Round(time.Millisecond))
	load.avoid(nil)
	load.settle()
}

// curlInside asks a host's own API from the host itself.
func (p *pool) curlInside(h *hosts.Host, path string) (status, body string) {
	p.Helper()
	cmd := h.Command(p.Context(), "curl", "-sk", "-m", "30", "-w", "\n%{http_code}", "https://"+h.Addr+":5000"+path)
	out, err := cmd.Output()
	if err != nil {
		p.Errorf("curl on %s: %v", h.Name, err)
	}
	at := bytes.LastIndexByte(out, '\n')
	if at < 0 {
		return "", string(out)
	}
	return string(out[at+1:]), string(out[:at])
}

// rolling restarts all members one after another, as an upgrade does.
func (p *pool) rolling(load *load) {
	p.Helper()
	load.count()
	for _, h := range p.All {
		load.avoid(h) // a client's balancer does not send requests where nothing listens
		begun, lead := time.Now(), p.leader(p.All[0]) == h
		p.strata(h, "down")
		down := time.Since(begun)
		p.up(h)
		up := time.Since(begun)
		p.awaitMembers(p.All[0], 3)
		load.avoid(nil)
		p.Logf("%s (leader: %v) was down after %v, up after %v, and all had noticed after %v", h.Name, lead,
			down.Round(time.Millisecond), up.Round(time.Millisecond), time.Since(begun).Round(time.Millisecond))
	}
	load.settle()
	slowest, failed := load.counted()
	p.Logf("while all were restarted the slowest request took %v; %d had to be repeated", slowest.Round(time.Millisecond), failed)
}

// awaitProblem waits until a member has noticed that the others are gone.
func (p *pool) awaitProblem(h *hosts.Host) {
	p.Helper()
	ctx, cancel := context.WithTimeout(p.Context(), 20*time.Second)
	defer cancel()
	err := wait.Until(ctx, "the loss of the majority to be told", 50*time.Millisecond, func(context.Context) (bool, error) {
		s, err := p.status(h)
		return strings.Contains(s.Problem, "no majority"), err
	})
	if err != nil {
		p.Fatal(err)
	}
}

// majorityLost stops two of three: the third says so, and can be made the only one.
func (p *pool) majorityLost() {
	p.Helper()
	for _, h := range p.All[1:] {
		p.strata(h, "down")
	}
	first := p.All[0]
	p.awaitProblem(first)
	status, body := p.curlInside(first, "/network/v2.0/networks")
	if status != "503" || !strings.Contains(body, "beta and gamma do not") {
		p.Errorf("without a majority: %s %s", status, body)
	}
	p.strata(first, "down")
	if _, err := p.try(first, "cluster-reset"); err == nil || !strings.Contains(err.Error(), "--yes") {
		p.Errorf("cluster-reset without --yes: %v", err)
	}
	p.strata(first, "cluster-reset", "--yes")
	p.up(first)
	c := p.clientsAt(first, "strata")
	p.named(c, "by-alpha")
	if _, err := networks.Create(p.Context(), c.network, networks.CreateOpts{Name: "after"}).Extract(); err != nil {
		p.Error(err)
	}
	s := must[region.Status](p)(p.status(first))
	roles := map[string]string{}
	for _, n := range s.Nodes {
		roles[n.Name] = n.Role
	}
	if want := map[string]string{"alpha": "control leader", "beta": "node", "gamma": "node"}; !maps.Equal(roles, want) || len(s.Control) != 1 {
		p.Errorf("after cluster-reset: %v, %+v", roles, s.Control)
	}
}
