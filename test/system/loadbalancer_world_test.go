package system

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2/openstack/loadbalancer/v2/loadbalancers"
	"github.com/gophercloud/gophercloud/v2/openstack/loadbalancer/v2/pools"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/layer3/floatingips"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/layer3/routers"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/portsbinding"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/security/groups"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/security/rules"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/networks"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/ports"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/subnets"

	"github.com/strata-cloud/strata/internal/netns"
	"github.com/strata-cloud/strata/internal/region"
	"github.com/strata-cloud/strata/test/hosts"
)

// balanced is a load balancer of a project, before containers that serve HTTP.
type balanced struct {
	*tenant
	c      clients
	admin  clients
	router string
	nets   map[string]string // networks by name
	subs   map[string]string // subnets by the name of their network
	group  string

	lb       *loadbalancers.LoadBalancer
	listener string
	pool     string
	members  map[string]string // ids by name
	fip      *floatingips.FloatingIP
}

// web is what a container does: who asks for / learns its name.
func web(name string) string {
	return "echo " + name + " >/data/index.html; echo well >/data/healthz; exec busybox httpd -f -p 8080 -h /data"
}

// in is the load balancer in a subtest.
func (b *balanced) in(t *testing.T) *balanced {
	out := *b
	out.tenant = b.tenant.in(t)
	return &out
}

// network makes a network with a subnet behind the router.
func (b *balanced) network(name, cidr string) {
	b.Helper()
	ctx := b.Context()
	n := must[*networks.Network](b)(networks.Create(ctx, b.c.network, networks.CreateOpts{Name: name}).Extract())
	s := must[*subnets.Subnet](b)(subnets.Create(ctx, b.c.network, subnets.CreateOpts{NetworkID: n.ID, CIDR: cidr, IPVersion: 4}).Extract())
	must[*routers.InterfaceInfo](b)(routers.AddInterface(ctx, b.c.network, b.router, routers.AddInterfaceOpts{SubnetID: s.ID}).Extract())
	b.nets[name], b.subs[name] = n.ID, s.ID
}

// backends makes two networks behind a router, containers on both of them, and a client.
func (b *balanced) backends() {
	b.Helper()
	ctx := b.Context()
	b.nets, b.subs = map[string]string{}, map[string]string{}
	b.router = must[*routers.Router](b)(routers.Create(ctx, b.c.network, routers.CreateOpts{Name: "balanced", GatewayInfo: &routers.GatewayInfo{NetworkID: publicNetwork(b.T, b.c)}}).Extract()).ID
	b.network("front", "10.51.0.0/24")
	b.network("back", "10.52.0.0/24")
	b.group = must[*groups.SecGroup](b)(groups.Create(ctx, b.c.network, groups.CreateOpts{Name: "web"}).Extract()).ID
	for _, o := range []rules.CreateOpts{{Protocol: "tcp", PortRangeMin: 8080, PortRangeMax: 8080}, {Protocol: "udp", PortRangeMin: 5353, PortRangeMax: 5353}, {Protocol: "icmp"}} {
		o.SecGroupID, o.Direction, o.EtherType, o.RemoteIPPrefix = b.group, "ingress", "IPv4", "10.51.0.0/24"
		must[*rules.SecGroupRule](b)(rules.Create(ctx, b.c.network, o).Extract())
	}
	on := map[string]bool{}
	for _, x := range [][2]string{{"one", "front"}, {"two", "front"}, {"far", "back"}, {"client", "front"}} {
		b.must("run", "-d", "--name", x[0], "--memory", "2g", "--network", "name="+x[1]+",driver-opt=security-groups=web", "busybox", "sh", "-c", web(x[0]))
		on[b.node(x[0]).Name] = on[b.node(x[0]).Name] || x[0] != "client"
	}
	if len(on) != len(b.All) {
		b.Fatalf("the backends are on %v", on)
	}
}

// space is a container's network namespace.
func (b *balanced) space(name string) *netns.NS {
	b.Helper()
	id := b.must("inspect", "--format", "{{.Id}}", name)
	ns := must[*netns.NS](b)(netns.Open(region.Name(b.node(name).DataDir) + "-c-" + id[:12]))
	b.Cleanup(func() { ns.Close() })
	return ns
}

// get asks a listener from a namespace, or from this machine.
func get(ctx context.Context, ns *netns.NS, addr string) (string, error) {
	dial := func(ctx context.Context, network, addr string) (conn net.Conn, err error) {
		f := func() error {
			conn, err = (&net.Dialer{Timeout: 2 * time.Second}).DialContext(ctx, network, addr)
			return err
		}
		if ns == nil {
			return conn, f()
		}
		return conn, ns.Do(f)
	}
	tr := &http.Transport{DisableKeepAlives: true, DialContext: dial}
	defer tr.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/", nil)
	if err != nil {
		return "", err
	}
	resp, err := (&http.Client{Transport: tr, Timeout: 5 * time.Second}).Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	return strings.TrimSpace(string(raw)), err
}

// tally asks n times, and demands an answer each time.
func (b *balanced) tally(n int, ns *netns.NS, addr string) map[string]int {
	b.Helper()
	out := map[string]int{}
	for range n {
		who, err := get(b.Context(), ns, addr)
		if err != nil {
			b.Fatalf("asking %s: %v, after %v", addr, err, out)
		}
		out[who]++
	}
	return out
}

// vip is the address of the listener.
func (b *balanced) vip() string { return b.lb.VipAddress + ":80" }

// settled waits until the node has what was asked for.
func (b *balanced) settled() {
	b.Helper()
	last := ""
	defer func() {
		if b.Failed() {
			b.Logf("the load balancer is %s", last)
		}
	}()
	await(b.T, "the load balancer to be ACTIVE", func() bool {
		lb, err := loadbalancers.Get(b.Context(), b.c.balancer, b.lb.ID).Extract()
		if err != nil {
			b.Fatal(err)
		}
		last = lb.ProvisioningStatus
		return last == "ACTIVE"
	})
}

// done demands that a change was accepted, and waits until it is real.
func (b *balanced) done(err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
	b.settled()
}

// are waits until the members have these operating states, and gives the whole tree.
func (b *balanced) are(want map[string]string) *loadbalancers.StatusTree {
	b.Helper()
	var tree *loadbalancers.StatusTree
	var have map[string]string
	defer func() {
		if b.Failed() {
			b.Logf("members are %v", have)
		}
	}()
	await(b.T, fmt.Sprintf("members to be %v", want), func() bool {
		tree = must[*loadbalancers.StatusTree](b)(loadbalancers.GetStatuses(b.Context(), b.c.balancer, b.lb.ID).Extract())
		have = map[string]string{}
		for _, l := range tree.Loadbalancer.Listeners {
			for _, p := range l.Pools {
				for _, m := range p.Members {
					if p.ID == b.pool {
						have[m.Name] = m.OperatingStatus
					}
				}
			}
		}
		for name, status := range want {
			if have[name] != status {
				return false
			}
		}
		return true
	})
	return tree
}

// wants gives the pool exactly these members, by one request.
func (b *balanced) wants(names ...string) {
	b.Helper()
	var list []pools.BatchUpdateMemberOpts
	for _, name := range names {
		network := map[bool]string{true: "back", false: "front"}[name == "far"]
		subnet := b.subs[network]
		list = append(list, pools.BatchUpdateMemberOpts{Name: &name, Address: b.address(name, network), ProtocolPort: 8080, SubnetID: &subnet})
	}
	b.done(pools.BatchUpdateMembers(b.Context(), b.c.balancer, b.pool, list).ExtractErr())
	pages, err := pools.ListMembers(b.c.balancer, b.pool, nil).AllPages(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	b.members = map[string]string{}
	for _, m := range must[[]pools.Member](b)(pools.ExtractMembers(pages)) {
		b.members[m.Name] = m.ID
	}
	if len(b.members) != len(names) {
		b.Fatalf("members: %v", b.members)
	}
}

// host is where the load balancer's port is bound.
func (b *balanced) host() *hosts.Host {
	b.Helper()
	var port struct {
		ports.Port
		portsbinding.PortsBindingExt
	}
	if err := ports.Get(b.Context(), b.admin.network, b.lb.VipPortID).ExtractInto(&port); err != nil {
		b.Fatal(err)
	}
	i := slices.IndexFunc(b.All, func(h *hosts.Host) bool { return h.Name == port.HostID })
	if i < 0 {
		b.Fatalf("its port is bound to %q", port.HostID)
	}
	return b.All[i]
}

// spaces are the namespaces of load balancers on a host.
func (b *balanced) spaces(h *hosts.Host) []string {
	b.Helper()
	return must[[]string](b)(netns.List(region.Name(h.DataDir) + "-lb-"))
}
