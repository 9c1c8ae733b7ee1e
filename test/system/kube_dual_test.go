//go:build kube

package system

import (
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/ports"
	"github.com/gophercloud/gophercloud/v2/pagination"

	"github.com/strata-cloud/strata/test/hosts"
)

// TestClusterDual has a cluster whose pods and services have both families: pods of two nodes
// reach each other, services and their load balancers by either, names have both, policies hold
// for both, the API reaches what has IPv6 alone, and nothing is left.
func TestClusterDual(t *testing.T) {
	p := newPool(t, 2)
	d := &dual{kube: &kube{pool: p, conf: filepath.Join(t.TempDir(), "kubeconfig")}}
	p.strata(p.All[0], "cluster", "create", "six", "--nodes", "2", "--ipv6", "--timeout", "5")
	p.strata(p.All[0], "cluster", "kubeconfig", "six", "--admin", "--file", d.conf)
	d.nodes(2)
	d.serve()
	d.pods()
	for _, part := range []struct {
		name string
		run  func(*dual)
	}{{"pods", (*dual).reach}, {"services", (*dual).services}, {"load balancers", (*dual).balancers}, {"names", (*dual).names}, {"the gate", (*dual).gates}, {"policies", (*dual).policies}} {
		t.Run(part.name, func(t *testing.T) { part.run(d.in(t)) })
	}
	p.strata(p.All[0], "cluster", "delete", "six")
	for _, h := range p.All {
		d.gone(h, "")
		if on, err := h.Command(t.Context(), "sysctl", "-n", "net.ipv6.conf.all.forwarding").Output(); err != nil || strings.TrimSpace(string(on)) != "0" {
			t.Errorf("%s forwards IPv6: %s, %v", h.Name, on, err)
		}
		if routes, err := h.Command(t.Context(), "ip", "-6", "route").Output(); err != nil || strings.Contains(string(routes), "proto 85") {
			t.Errorf("%s has the routes %s, %v", h.Name, routes, err)
		}
		if rules, err := h.Command(t.Context(), "ip", "-6", "rule").Output(); err != nil || strings.Contains(string(rules), "fwmark") {
			t.Errorf("%s has the rules %s, %v", h.Name, rules, err)
		}
	}
}

// dual is a cluster with both families, and its pods of which one is on each node.
type dual struct {
	*kube
	servers []dualServer
}

type dualServer struct{ name, node, four, six string }

// in is the cluster in a subtest.
func (d *dual) in(t *testing.T) *dual {
	p := *d.pool
	p.T = t
	return &dual{kube: &kube{pool: &p, conf: d.conf}, servers: d.servers}
}

// serve starts a server on each node.
func (d *dual) serve() {
	d.Helper()
	program := filepath.Join(filepath.Dir(d.All[0].DataDir), "dual")
	build := exec.CommandContext(d.Context(), "go", "build", "-o", program, "./testdata/dual")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		d.Fatalf("%v: %s", err, out)
	}
	d.applied("dual.yaml", "$PROGRAM", program)
	d.must("-n", "dual", "rollout", "status", "daemonset/who", "--timeout=90s")
}

// pods reads where the servers are, and holds that nodes and they have both families.
func (d *dual) pods() {
	d.Helper()
	var list struct {
		Items []struct {
			Metadata struct{ Name string }
			Spec     struct{ NodeName string }
			Status   struct{ PodIPs []struct{ IP string } }
		}
	}
	d.get(&list, "-n", "dual", "pods", "-l", "app=who")
	local := netip.MustParsePrefix("fd00::/8")
	for _, x := range list.Items {
		ips := x.Status.PodIPs
		if len(ips) != 2 || !netip.MustParseAddr(ips[0].IP).Is4() || !local.Contains(netip.MustParseAddr(ips[1].IP)) {
			d.Fatalf("pod %s has the addresses %v", x.Metadata.Name, ips)
		}
		d.servers = append(d.servers, dualServer{x.Metadata.Name, x.Spec.NodeName, ips[0].IP, ips[1].IP})
	}
	if len(d.servers) != 2 || d.servers[0].node == d.servers[1].node {
		d.Fatalf("the servers are %+v", d.servers)
	}
	for _, s := range d.servers {
		at := strings.Fields(d.must("get", "node", s.node, "-o", `jsonpath={.status.addresses[?(@.type=="InternalIP")].address}`))
		if len(at) != 2 || !local.Contains(netip.MustParseAddr(at[1])) {
			d.Errorf("node %s is at %v", s.node, at)
		}
	}
}

// ask has a server ask for a URL at an address.
func (d *dual) ask(from dualServer, host, port string) (string, error) {
	return d.kubectl("-n", "dual", "exec", from.name, "--", "/program", "ask", "http://"+net.JoinHostPort(host, port)+"/")
}

// says waits for an answer that ends so: rules of services come a little later than services.
func (d *dual) says(what string, from dualServer, host, port, end string) {
	d.Helper()
	got, err := "", error(nil)
	d.until(what+" says ... "+end, 30*time.Second, func() (bool, error) {
		got, err = d.ask(from, host, port)
		return err == nil && strings.HasSuffix(got, end), nil
	})
}

func (d *dual) reach() {
	a, b := d.servers[0], d.servers[1]
	for _, x := range []struct {
		from, to   dualServer
		host, seen string
	}{{a, b, b.six, a.six}, {b, a, a.six, b.six}, {a, b, b.four, a.four}, {a, a, a.six, a.six}} {
		if got, err := d.ask(x.from, x.host, "8080"); err != nil || got != x.to.node+" for "+x.seen {
			d.Errorf("at %s %s is told %q, %v", x.host, x.from.name, got, err)
		}
	}
	for _, s := range d.servers { // from the node of the other
		h := d.All[slices.IndexFunc(d.All, func(h *hosts.Host) bool { return h.Name != s.node })]
		if out, err := h.Command(d.Context(), "ping", "-6", "-n", "-c", "1", "-W", "2", s.six).CombinedOutput(); err != nil {
			d.Errorf("%s does not reach %s: %s", h.Name, s.six, out)
		}
	}
}

// clusterIPs are a Service's addresses.
func (d *dual) clusterIPs(service string) []string {
	d.Helper()
	return strings.Fields(d.must("-n", "dual", "get", "service", service, "-o", "jsonpath={.spec.clusterIPs[*]}"))
}

func (d *dual) services() {
	a := d.servers[0]
	for service, want := range map[string][]bool{"both": {false, true}, "prefers": {true, false}, "six": {true}, "one": {false}} {
		ips := d.clusterIPs(service)
		if len(ips) != len(want) {
			d.Errorf("service %s has the addresses %v", service, ips)
			continue
		}
		for i, ip := range ips {
			seen := a.four
			if netip.MustParseAddr(ip).Is6() {
				seen = a.six
			}
			if netip.MustParseAddr(ip).Is6() != want[i] {
				d.Errorf("service %s has the addresses %v", service, ips)
			}
			d.says(service+" at "+ip, a, ip, "80", " for "+seen)
		}
	}
	port := d.must("-n", "dual", "get", "service", "six", "-o", "jsonpath={.spec.ports[0].nodePort}")
	for _, s := range d.servers {
		at := strings.Fields(d.must("get", "node", s.node, "-o", `jsonpath={.status.addresses[?(@.type=="InternalIP")].address}`))
		d.says("the port of node "+s.node, a, at[1], port, "")
	}
}

// balancers has two Services and an Ingress be reached at all addresses of their load balancers,
// from both nodes. With externalTrafficPolicy Local pods see the client's own address.
func (d *dual) balancers() {
	d.Helper()
	for name, want := range map[string][]bool{"service/front": {false, true}, "service/front-six": {true}, "ingress/door": {false, true}} {
		var at []string
		d.until("the addresses of "+name, time.Minute, func() (bool, error) {
			out, err := d.kubectl("-n", "dual", "get", name, "-o", "jsonpath={.status.loadBalancer.ingress[*].ip}")
			at = strings.Fields(out)
			return len(at) > 0, err
		})
		if len(at) != len(want) {
			d.Errorf("%s is at %v", name, at)
			continue
		}
		for i, ip := range at {
			if netip.MustParseAddr(ip).Is6() != want[i] {
				d.Errorf("%s is at %v", name, at)
			}
			for _, from := range d.servers {
				seen := ""
				if name == "service/front" && want[i] {
					seen = " for " + from.six
				}
				d.says(name+" at "+ip, from, ip, "80", seen)
			}
		}
	}
}

func (d *dual) names() {
	a := d.servers[0]
	for _, service := range []string{"both", "six", "one"} {
		want := d.clusterIPs(service)
		slices.Sort(want)
		d.until("the addresses of "+service, 30*time.Second, func() (bool, error) {
			got, err := d.kubectl("-n", "dual", "exec", a.name, "--", "/program", "lookup", service+".dual.svc.cluster.local")
			return err == nil && slices.Equal(strings.Fields(got), want), nil
		})
	}
	d.says("six by its name", a, "six.dual.svc.cluster.local", "80", " for "+a.six)
}

// gates has the API reach a service that has IPv6 alone, from the control plane's own port.
func (d *dual) gates() {
	page := must[pagination.Page](d.T)(ports.List(d.clients("strata").network, ports.ListOpts{DeviceOwner: "container-infra:gate"}).AllPages(d.Context()))
	list := must[[]ports.Port](d.T)(ports.ExtractPorts(page))
	if len(list) != 1 || len(list[0].FixedIPs) != 2 {
		d.Fatalf("the ports of control planes are %+v", list)
	}
	for _, f := range list[0].FixedIPs {
		service := map[bool]string{true: "six", false: "one"}[netip.MustParseAddr(f.IPAddress).Is6()]
		d.until("service "+service+" by the API", 30*time.Second, func() (bool, error) {
			got, err := d.kubectl("get", "--raw", "/api/v1/namespaces/dual/services/"+service+":80/proxy/")
			return err == nil && strings.HasSuffix(got, " for "+f.IPAddress), nil
		})
	}
}

// policies has one of the servers be let in, by one family and by the other.
func (d *dual) policies() {
	a, b := d.servers[0], d.servers[1]
	for _, x := range []struct {
		block     string
		four, six bool
	}{{"192.0.2.0/24", false, false}, {a.six + "/128", false, true}, {a.four + "/32", true, false}, {"::/0", false, true}} {
		d.applied("dual-policy.yaml", "$BLOCK", x.block)
		for host, want := range map[string]bool{b.four: x.four, b.six: x.six} {
			d.until("the policy that lets "+x.block+" in, at "+host, 30*time.Second, func() (bool, error) {
				_, err := d.ask(a, host, "8080")
				return (err == nil) == want, nil
			})
		}
	}
	d.must("-n", "dual", "delete", "networkpolicies", "--all")
	d.says("after the policies", a, b.six, "8080", " for "+a.six)
}
