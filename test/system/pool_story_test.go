package system

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/keypairs"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/servergroups"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/servers"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/layer3/routers"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/security/rules"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/networks"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/ports"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/subnets"

	"github.com/strata-cloud/strata/internal/wait"
	"github.com/strata-cloud/strata/test/cloud"
	"github.com/strata-cloud/strata/test/hosts"
)

// TestPoolStory is what a pool is for, on six hosts of which three are control members:
// twelve servers that are kept apart reach each other, one moves under an open log-in,
// a host dies, the leader dies, a host is cut off, and all are restarted in turn.
func TestPoolStory(t *testing.T) {
	p := newPoolOf(t, 6, 3, 0)
	p.awaitMembers(p.All[0], 3)
	if err := p.Route(p.public, p.All[0]); err != nil {
		t.Fatal(err)
	}
	p.unlimited()
	f := &fleet{failing: &failing{mover: &mover{pool: p, stack: &stack{clients: p.clients("strata"), key: cloud.NewKey(t)}}}}
	f.build()
	f.apart()
	f.reach()
	f.use("web-0")
	f.live()
	f.dies(p.All[5], "db-0")
	load := p.load(p.blank())
	p.leaderKilled(load)
	f.cut(p.All[4], "api-0")
	p.rolling(load)
	load.end()
	f.apart()
	f.reach()
	f.end()
}

// fleet is three groups of servers, each with one that can be logged into.
type fleet struct {
	*failing
	all []*vessel
}

// vessel is one server of the fleet.
type vessel struct {
	name, group, id string
	inside, outside string // addresses; outside: "" for most
}

// build makes the servers, those of a group on both networks. The first of each group
// begins on a host that is no control member.
func (f *fleet) build() {
	f.Helper()
	ctx, n := f.Context(), f.stack.clients.network
	f.ground(f.T)
	must[*rules.SecGroupRule](f)(rules.Create(ctx, n, rules.CreateOpts{SecGroupID: f.group, Direction: rules.DirIngress, EtherType: rules.EtherType4, Protocol: rules.ProtocolICMP}).Extract())
	second := must[*networks.Network](f)(networks.Create(ctx, n, networks.CreateOpts{Name: "second"}).Extract()).ID
	subnet := must[*subnets.Subnet](f)(subnets.Create(ctx, n, subnets.CreateOpts{NetworkID: second, CIDR: "10.78.0.0/24", IPVersion: 4}).Extract()).ID
	must[*routers.InterfaceInfo](f)(routers.AddInterface(ctx, n, f.router, routers.AddInterfaceOpts{SubnetID: subnet}).Extract())
	for g, group := range []string{"web", "api", "db"} {
		id := must[*servergroups.ServerGroup](f)(servergroups.Create(ctx, f.compute, servergroups.CreateOpts{Name: group, Policy: "anti-affinity"}).Extract()).ID
		for i := range 4 {
			opts := servers.CreateOpts{Name: fmt.Sprintf("%s-%d", group, i), ImageRef: f.stack.image, FlavorRef: "42", SecurityGroups: []string{"ssh"},
				Networks: []servers.Network{{UUID: []string{f.network, second}[i%2]}}, Metadata: map[string]string{"HA_Enabled": "True"}}
			if i == 0 {
				opts.AvailabilityZone = "nova:" + f.All[3+g].Name
			}
			made := must[*servers.Server](f)(servers.Create(ctx, f.compute, keypairs.CreateOptsExt{KeyName: "key", CreateOptsBuilder: opts}, servers.SchedulerHintOpts{Group: id}).Extract())
			f.all = append(f.all, &vessel{name: opts.Name, group: group, id: made.ID})
		}
	}
	for _, v := range f.all {
		f.awaitServer(f, v.id, "ACTIVE")
		f.learn(v)
	}
}

// learn finds a server's address, and gives the first of a group a floating IP.
func (f *fleet) learn(v *vessel) {
	f.Helper()
	list := must[[]ports.Port](f)(func() ([]ports.Port, error) {
		pages, err := ports.List(f.stack.clients.network, ports.ListOpts{DeviceID: v.id}).AllPages(f.Context())
		if err != nil {
			return nil, err
		}
		return ports.ExtractPorts(pages)
	}())
	v.inside = list[0].FixedIPs[0].IPAddress
	if strings.HasSuffix(v.name, "-0") {
		v.outside = f.floating(v.id)
	}
}

// find gives a server of the fleet.
func (f *fleet) find(name string) *vessel {
	f.Helper()
	i := slices.IndexFunc(f.all, func(v *vessel) bool { return v.name == name })
	if i < 0 {
		f.Fatalf("no server is called %s", name)
	}
	return f.all[i]
}

// use makes a server the one that the moves and failures are about.
func (f *fleet) use(name string) {
	f.Helper()
	v := f.find(name)
	f.server, f.stack.address = v.id, v.outside
}

// apart checks that no two of a group are on one host, and tells where all are.
func (f *fleet) apart() {
	f.Helper()
	on := map[string]string{}
	for _, v := range f.all {
		s := f.awaitServer(f, v.id, "ACTIVE")
		if other, taken := on[v.group+" "+s.Host]; taken {
			f.Errorf("%s and %s are both on %s", other, v.name, s.Host)
		}
		on[v.group+" "+s.Host] = v.name
	}
	f.Logf("group and host of each server: %v", on)
}

// reach pings every server from one, on its network and by way of the router, and
// reads SSH's greeting from each.
func (f *fleet) reach() {
	f.Helper()
	begin, from := time.Now(), f.find("web-0")
	g := f.logIn(from.outside)
	for _, v := range f.all {
		if v != from {
			f.greeted(g, v)
		}
	}
	f.Logf("%s reached the %d others after %.1f s", from.name, len(f.all)-1, time.Since(begin).Seconds())
}

// greeted waits until a guest reaches a server that may still be booting.
func (f *fleet) greeted(g *cloud.Guest, v *vessel) {
	f.Helper()
	ctx, cancel := context.WithTimeout(f.Context(), 2*time.Minute)
	defer cancel()
	ask := fmt.Sprintf("ping -c 1 -w 2 %s > /dev/null && sleep 1 | nc -w 3 %s 22 | head -c 4", v.inside, v.inside)
	err := wait.Until(ctx, v.name+" to be reached at "+v.inside, 300*time.Millisecond, func(context.Context) (bool, error) {
		out, _ := g.Run(ask) // an error is one of the command's
		return strings.HasPrefix(out, "SSH-"), nil
	})
	if err != nil {
		f.Error(err)
	}
}

// on lists the fleet's servers on a host.
func (f *fleet) on(h *hosts.Host) (out []*vessel) {
	f.Helper()
	for _, v := range f.all {
		if must[*servers.Server](f)(servers.Get(f.Context(), f.compute, v.id).Extract()).Host == h.Name {
			out = append(out, v)
		}
	}
	return out
}

// dies ends a host with all that runs on it, cut separates one from all others. Its
// servers are back on others each time, and it comes back.
func (f *fleet) dies(h *hosts.Host, name string) {
	f.Helper()
	pids := []int{f.pid(h), f.keeper(h)}
	for _, v := range f.on(h) {
		pids = append(pids, f.pids(h, v.id)...)
	}
	f.away(h, name, pids)
}

func (f *fleet) cut(h *hosts.Host, name string) {
	f.Helper()
	f.away(h, name, nil)
}

// away cuts a host off and kills processes of it. The server called name is on it.
func (f *fleet) away(h *hosts.Host, name string, pids []int) {
	f.Helper()
	f.use(name)
	lost := f.on(h)
	stop, begin := f.watch(), time.Now()
	if err := f.Cut(h); err != nil {
		f.Fatal(err)
	}
	for _, pid := range pids {
		f.kill(pid)
	}
	f.recovered(h, lost, begin)
	stop()
	f.back(f.T, h)
}

// recovered waits until all servers of a host that is away answer elsewhere.
func (f *fleet) recovered(h *hosts.Host, lost []*vessel, begin time.Time) {
	f.Helper()
	f.elsewhere(f.T, h, begin)
	g := f.logIn(f.find("web-0").outside)
	for _, v := range lost {
		f.greeted(g, v)
	}
	f.Logf("all %d servers of %s answer after %.1f s", len(lost), h.Name, time.Since(begin).Seconds())
}

// end deletes the fleet.
func (f *fleet) end() {
	f.Helper()
	for _, v := range f.all {
		if err := servers.Delete(f.Context(), f.compute, v.id).ExtractErr(); err != nil {
			f.Error(err)
		}
	}
	for _, v := range f.all {
		f.awaitGone(f, v.id)
	}
	for id, on := range f.everywhere() {
		if slices.ContainsFunc(f.all, func(v *vessel) bool { return v.id == id }) {
			f.Errorf("a deleted server has processes on %v", on)
		}
	}
}
