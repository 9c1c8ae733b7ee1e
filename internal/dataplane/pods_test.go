package dataplane

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/kube/cni"
	"github.com/strata-cloud/strata/internal/kube/podnet"
	"github.com/strata-cloud/strata/internal/netns"
	"github.com/strata-cloud/strata/internal/nodeapi"
)

// workers are hosts that are nodes of a cluster of Kubernetes, and the control plane that
// gives their pods ports on network 1 of tenant 1.
type workers struct {
	*cluster
	nets []*podnet.Network
	dirs []string

	api  *clusterAPI // nil: nobody reads policies
	dual bool        // pods have IPv6 as well

	mu   sync.Mutex
	next int
	ids  map[string]string // of ports, by sandbox and device
	away bool
}

var errAway = errs.New(errs.Unavailable, "the control plane is away")

func gate(host int) nodeapi.Port {
	p := port(1, 1, 5+host)
	p.DeviceID, p.DeviceOwner, p.PortSecurity = "c1", "container-infra:node", false
	return p
}

func newWorkers(t *testing.T) *workers { return newWorkersOf(t, nil, false) }

func newWorkersOf(t *testing.T, api *clusterAPI, dual bool) *workers {
	w := &workers{cluster: newCluster(t, 2), api: api, dual: dual, next: 50, ids: map[string]string{}}
	w.state = nodeapi.NetState{Networks: []nodeapi.Network{network(1, 1)}, SecurityGroups: []nodeapi.SecurityGroup{group("open", ingress(-1, -1, -1))}}
	w.family6()
	w.place(0, w.with6(port(1, 1, 10, "open")))
	w.place(1, w.with6(port(1, 1, 11, "open")))
	for i := range w.hosts {
		w.must(w.hosts[i].host.Sysctl("net/ipv4/conf/all/rp_filter", "1")) // as many distributions have it
		w.place(i, w.with6(gate(i)))
		w.dirs = append(w.dirs, t.TempDir())
		w.nets = append(w.nets, nil)
	}
	w.apply()
	for i := range w.hosts {
		w.open(i)
		t.Cleanup(func() { w.must(w.nets[i].Remove(context.WithoutCancel(t.Context()), "c1")) })
	}
	return w
}

// open starts the agent of a host.
func (w *workers) open(i int) {
	w.Helper()
	self, err := os.Executable()
	w.must(err)
	h := w.hosts[i]
	w.nets[i] = podnet.New(podnet.Config{Name: h.name, Plugin: self, Host: h.host, Control: podControl{w, i}, Plug: h.Plane.Veth, TunnelPort: 4789, Log: slog.New(slog.DiscardHandler),
		Dirs: func(c string) (string, string) {
			return filepath.Join(w.dirs[i], c, "bin"), filepath.Join(w.dirs[i], c, "net.d")
		},
		Socket: func(c string) string { return filepath.Join(w.dirs[i], c, "sock") },
		Forward: func(on bool) error {
			if on {
				return TakeForward(h.host, "pods")
			}
			return GiveForward(h.host, "pods")
		},
		Forward6: func(on bool) error {
			if on {
				return TakeForward6(h.host, "pods")
			}
			return GiveForward6(h.host, "pods")
		}})
	w.must(w.ensure(i))
}

func (w *workers) ensure(i int) error {
	g := gate(i)
	part := nodeapi.KubePart{ID: "c1", PodCIDR: netip.MustParsePrefix("10.0.1.0/24"), ServiceCIDR: netip.MustParsePrefix("10.254.0.0/16"),
		Worker: &nodeapi.KubeWorker{Port: &nodeapi.ContainerPort{ID: g.ID, MAC: g.MAC, MTU: 1400, Addrs: []netip.Prefix{netip.PrefixFrom(g.FixedIPs[0].Addr, 24)}, Gateways: []netip.Addr{netip.MustParseAddr("10.0.1.1")}}}}
	if w.dual {
		part.PodCIDR6, part.ServiceCIDR6 = pods6, netip.MustParsePrefix("fd00:254::/108")
		part.Worker.Port.Addrs = append(part.Worker.Port.Addrs, netip.PrefixFrom(w.with6(g).FixedIPs[1].Addr, 64))
	}
	if w.api != nil {
		part.Worker.URL, part.Worker.CA, part.Worker.Policies = w.api.url, w.api.set.Cluster.Cert, nodeapi.KubePair(*w.api.reader)
	}
	return w.nets[i].Ensure(w.Context(), part)
}

// podControl is the control plane as one host sees it.
type podControl struct {
	*workers
	host int
}

func (c podControl) PodPort(_ context.Context, _ string, p nodeapi.KubePod) (*nodeapi.ContainerPort, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.away {
		return nil, errAway
	}
	key := p.Sandbox + p.Device
	id, ok := c.ids[key]
	if !ok {
		made := port(1, 1, c.next)
		c.next++
		id = made.ID
		made.DeviceID, made.DeviceOwner, made.PortSecurity, made.Behind, made.MAC = "c1", "container-infra:pod", false, gate(c.host).ID, gate(c.host).MAC
		c.place(c.host, c.with6(made))
		c.ids[key] = id
		if err := c.tryApply(); err != nil {
			return nil, err
		}
	}
	last := id[5:8]
	var n int
	_, err := fmt.Sscanf(last, "%d", &n)
	out := &nodeapi.ContainerPort{ID: id, MAC: port(1, 1, n).MAC, MTU: 1400}
	for _, f := range c.with6(port(1, 1, n)).FixedIPs {
		out.Addrs = append(out.Addrs, netip.PrefixFrom(f.Addr, map[bool]int{true: 24, false: 64}[f.Addr.Is4()]))
	}
	return out, err
}

func (c podControl) DropPodPort(_ context.Context, _, id string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.away {
		return errAway
	}
	c.state.Ports = slices.DeleteFunc(c.state.Ports, func(p nodeapi.Port) bool { return p.ID == id })
	for k, v := range c.ids {
		if v == id {
			delete(c.ids, k)
		}
	}
	return c.tryApply()
}

func (c podControl) PodPorts(context.Context, string) ([]string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.away {
		return nil, errAway
	}
	var out []string
	for _, id := range c.ids {
		if c.at[id] == c.host {
			out = append(out, id)
		}
	}
	return out, nil
}

func (w *workers) setAway(away bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.away = away
}

func (w *workers) ports() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.ids)
}

// pod is a namespace that a runtime has made.
type pod struct {
	*workers
	host int
	id   string
	ns   *netns.NS
	addr string

	addr6 string // "": none
}

// cni calls the plugin as a runtime does.
func (p *pod) cni(verb string, more ...string) (out []byte, err error) {
	raw, err := os.ReadFile(filepath.Join(p.dirs[p.host], "c1", "net.d", "10-strata.conflist"))
	p.must(err)
	var list struct {
		CNIVersion, Name string
		Plugins          []map[string]any
	}
	p.must(json.Unmarshal(raw, &list))
	conf := list.Plugins[0]
	conf["cniVersion"], conf["name"] = list.CNIVersion, list.Name
	for i := 0; i+1 < len(more); i += 2 {
		conf[more[i]] = json.RawMessage(more[i+1])
	}
	in, err := json.Marshal(conf)
	p.must(err)
	cmd := exec.Command(filepath.Join(p.dirs[p.host], "c1", "bin", conf["type"].(string)))
	cmd.Env = []string{"CNI_COMMAND=" + verb, "CNI_CONTAINERID=" + p.id, "CNI_NETNS=" + filepath.Join(netns.Dir, p.ns.Name), "CNI_IFNAME=eth0", "CNI_PATH=/",
		"CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=" + p.id}
	cmd.Stdin = bytes.NewReader(in)
	return cmd.Output()
}

// add makes a pod on a host.
func (w *workers) add(host int, id string) *pod {
	w.Helper()
	p := w.sandbox(host, id)
	out, err := p.cni("ADD")
	if err != nil {
		w.Fatalf("ADD: %v: %s", err, out)
	}
	var r cni.Result
	w.must(json.Unmarshal(out, &r))
	if w.dual && len(r.IPs) == 2 && r.IPs[1].Gateway == "fe80::1" {
		p.addr6 = strings.TrimSuffix(r.IPs[1].Address, "/128")
		r.IPs = r.IPs[:1]
	}
	if len(r.IPs) != 1 || r.IPs[0].Gateway != "169.254.1.1" || r.Interfaces[r.IPs[0].Interface].Name != "eth0" || r.CNIVersion != cni.Version {
		w.Fatalf("ADD gives %s", out)
	}
	p.addr = strings.TrimSuffix(r.IPs[0].Address, "/32")
	return p
}

func (w *workers) sandbox(host int, id string) *pod {
	w.Helper()
	ns, _, err := netns.Ensure(w.hosts[host].name + "-pod-" + id)
	w.must(err)
	w.Cleanup(func() { ns.Close(); netns.Remove(ns.Name) })
	return &pod{workers: w, host: host, id: id, ns: ns}
}

// serve has pods and machines tell whom they see, at port 7000.
func (w *workers) serve(pods ...*pod) {
	for _, p := range pods {
		w.hosts[0].serveIn(p.ns, 7000)
	}
	for _, h := range w.hosts {
		w.hosts[0].serveIn(h.host, 7000)
	}
}

// sees asks a server at addr, from a namespace, whom it sees.
func (w *workers) sees(what string, from *netns.NS, addr string) string {
	w.Helper()
	_, _, seen := talks(w.TB, what, func() (c net.Conn, err error) {
		err = from.Do(func() error { c, err = net.DialTimeout("tcp", addr, 2*time.Second); return err })
		return c, err
	})
	return seen
}

// TestPods has pods on two hosts: who reaches whom, and whom they see.
func TestPods(t *testing.T) {
	w := newWorkers(t)
	a, b, c := w.add(0, "a"), w.add(1, "b"), w.add(0, "c")
	one, two := w.boot(portID(1, 1, 10)), w.boot(portID(1, 1, 11))
	one.serve(7000)
	two.serve(7000)
	w.serve(a, b, c)
	nodes := []string{"10.0.1.5", "10.0.1.6"}
	for what, x := range map[string]struct {
		from         *netns.NS
		to, expected string
	}{
		"pod to pod on another node":    {a.ns, b.addr, a.addr},
		"and back":                      {b.ns, a.addr, b.addr},
		"pod to pod on its node":        {a.ns, c.addr, a.addr},
		"pod to its node":               {a.ns, nodes[0], a.addr},
		"pod to another node":           {a.ns, nodes[1], a.addr},
		"node to its pod":               {w.hosts[0].host, a.addr, nodes[0]},
		"node to another's pod":         {w.hosts[0].host, b.addr, nodes[0]},
		"node to node":                  {w.hosts[0].host, nodes[1], nodes[0]},
		"pod to a server of its node":   {a.ns, "10.0.1.10", a.addr},
		"pod to a server elsewhere":     {a.ns, "10.0.1.11", a.addr},
		"server to a pod of its node":   {one.ns, a.addr, "10.0.1.10"},
		"server to a pod elsewhere":     {two.ns, a.addr, "10.0.1.11"},
		"pod to the underlay":           {a.ns, "192.0.2.2", "192.0.2.1"},
		"pod to its node's other place": {a.ns, "192.0.2.1", a.addr},
	} {
		if got := w.sees(what, x.from, x.to+":7000"); got != x.expected {
			t.Errorf("%s: it is seen as %s, want %s", what, got, x.expected)
		}
	}
	t.Run("forged sources", func(t *testing.T) {
		w.run(a.ns, "ip", "addr", "add", c.addr+"/32", "dev", "eth0")
		if err := a.ns.Do(exec.Command("ping", "-n", "-c", "1", "-W", "0.3", "-I", c.addr, b.addr).Run); err == nil {
			t.Error("a pod speaks with another's address")
		}
		w.run(a.ns, "ip", "addr", "del", c.addr+"/32", "dev", "eth0")
	})
	t.Run("a node routes for pods alone", func(t *testing.T) {
		w.run(one.ns, "ip", "route", "add", "192.0.2.0/24", "via", nodes[0])
		if ping(one.ns, "192.0.2.2", 0) {
			t.Error("a server reaches the underlay through a node")
		}
	})
	t.Run("ports of a node", func(t *testing.T) {
		p := w.sandbox(0, "p")
		out, err := p.cni("ADD", "runtimeConfig", `{"portMappings":[{"hostPort":8080,"containerPort":7000,"protocol":"tcp"},{"hostPort":8081,"containerPort":7000,"protocol":"TCP","hostIP":"192.0.2.1"},{"hostPort":0,"containerPort":9}]}`)
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		w.hosts[0].serveIn(p.ns, 7000)
		for what, x := range map[string]struct {
			from         *netns.NS
			to, expected string
		}{
			"from another machine": {w.hosts[1].host, "192.0.2.1:8080", "192.0.2.2"},
			"at one address":       {w.hosts[1].host, "192.0.2.1:8081", "192.0.2.2"},
			"from a server":        {one.ns, nodes[0] + ":8080", "10.0.1.10"},
			"from a pod elsewhere": {b.ns, "192.0.2.1:8080", "192.0.2.2"},
			"from a pod beside it": {a.ns, "192.0.2.1:8080", a.addr},
			"from the pod itself":  {p.ns, "192.0.2.1:8080", "192.0.2.1"},
		} {
			if got := w.sees(what, x.from, x.to); got != x.expected {
				t.Errorf("%s: it is seen as %s, want %s", what, got, x.expected)
			}
		}
		if c, err := w.hosts[1].dial(nodes[0] + ":8081"); err == nil {
			c.Close()
			t.Error("a port at one address is at another")
		}
		if _, err := p.cni("DEL"); err != nil {
			t.Error(err)
		}
		if c, err := w.hosts[1].dial("192.0.2.1:8080"); err == nil {
			c.Close()
			t.Error("the port of a pod that is gone")
		}
	})
	t.Run("services", func(t *testing.T) { w.services(t, a, b, nodes) })
}

// services has rules like kube-proxy's lead to a pod.
func (w *workers) services(t *testing.T, a, b *pod, nodes []string) {
	for _, h := range w.hosts {
		w.run(h.host, "nft", "add table ip svc; add chain ip svc pre { type nat hook prerouting priority -100; }; add chain ip svc out { type nat hook output priority -100; };"+
			"add rule ip svc pre ip daddr 10.254.0.1 tcp dport 80 dnat to "+b.addr+":7000; add rule ip svc out ip daddr 10.254.0.1 tcp dport 80 dnat to "+b.addr+":7000")
	}
	for what, x := range map[string]struct {
		from     *netns.NS
		expected string
	}{"a pod": {a.ns, a.addr}, "a node": {w.hosts[0].host, nodes[0]}, "its own node": {w.hosts[1].host, nodes[1]}} {
		if got := w.sees("a service from "+what, x.from, "10.254.0.1:80"); got != x.expected {
			t.Errorf("a service from %s: it is seen as %s, want %s", what, got, x.expected)
		}
	}
}

// TestPodsComeAndGo deletes pods in all ways, and has the agent and the control plane away.
func TestPodsComeAndGo(t *testing.T) {
	w := newWorkers(t)
	a, b := w.add(0, "a"), w.add(1, "b")
	w.hosts[0].serveIn(b.ns, 7000)
	conn, r, _ := talks(t, "before", func() (c net.Conn, err error) {
		err = a.ns.Do(func() error { c, err = net.Dial("tcp", b.addr+":7000"); return err })
		return c, err
	})
	rules := func() string {
		return w.run(w.hosts[0].host, "nft", "list", "table", "inet", "strata-pods-"+w.hosts[0].name)
	}
	if _, err := a.cni("CHECK"); err != nil {
		t.Errorf("CHECK: %v", err)
	}
	if out, err := a.cni("STATUS"); err != nil || len(out) != 0 {
		t.Errorf("STATUS: %v: %s", err, out)
	}

	w.nets[0].Close()
	if out, err := w.sandbox(0, "early").cni("ADD"); err == nil || !strings.Contains(string(out), `"code":11`) {
		t.Errorf("without the agent: %v: %s", err, out)
	}
	if !echoes(conn, r, "without the agent") {
		t.Error("a pod needs the agent")
	}
	w.open(0)
	if !echoes(conn, r, "with another agent") || !strings.Contains(rules(), a.addr) {
		t.Errorf("a pod of before: %s", rules())
	}
	again, err := a.cni("ADD") // whose answer the runtime has not got
	if err != nil || !strings.Contains(string(again), a.addr) {
		t.Errorf("ADD again: %v: %s", err, again)
	}
	d := w.add(0, "d")
	if !ping(d.ns, b.addr, time.Second) {
		t.Error("a pod that the other agent has made")
	}

	for range 2 {
		if out, err := d.cni("DEL"); err != nil || len(out) != 0 {
			t.Errorf("DEL: %v: %s", err, out)
		}
	}
	if out, err := d.cni("CHECK"); err == nil {
		t.Errorf("CHECK of what is gone: %s", out)
	}
	if links := w.run(w.hosts[0].host, "ip", "link"); strings.Count(links, "kp-") != 1 || strings.Contains(rules(), d.addr) || w.ports() != 2 {
		t.Errorf("of a pod that is gone there are: %d ports\n%s%s", w.ports(), links, rules())
	}

	w.setAway(true)
	if out, err := w.sandbox(0, "e").cni("ADD"); err == nil || !strings.Contains(string(out), `"code":11`) || !strings.Contains(string(out), "away") {
		t.Errorf("without the control plane: %v: %s", err, out)
	}
	if out, err := a.cni("DEL"); err != nil {
		t.Errorf("DEL without the control plane: %v: %s", err, out)
	}
	if w.ports() != 2 {
		t.Error("a port went without the control plane")
	}
	w.nets[0].Close()
	w.setAway(false)
	w.open(0)
	if w.ports() != 1 {
		t.Errorf("%d ports are left when the control plane is back", w.ports())
	}

	f := w.add(0, "f")
	w.must(errors.Join(f.ns.Close(), netns.Remove(f.ns.Name)))
	w.must(w.ensure(0))
	if w.ports() != 1 {
		t.Errorf("%d ports are left of a pod that nobody deleted", w.ports())
	}
	g, h := w.add(0, "g"), w.add(0, "h")
	if out, err := g.cni("GC", "cni.dev/valid-attachments", `[{"containerID":"g","ifname":"eth0"}]`); err != nil {
		t.Errorf("GC: %v: %s", err, out)
	}
	if w.ports() != 2 || ping(h.ns, b.addr, 0) || !ping(g.ns, b.addr, time.Second) {
		t.Errorf("%d ports are left after GC", w.ports())
	}
	w.must(w.nets[0].Remove(t.Context(), "c1"))
	w.must(w.nets[0].Remove(t.Context(), "c1"))
	links, tables := w.run(w.hosts[0].host, "ip", "link"), w.run(w.hosts[0].host, "nft", "list", "tables")
	if strings.Contains(links, "kp-") || strings.Contains(links, "kn-") || strings.Contains(tables, "strata-pods") {
		t.Errorf("there are left:\n%s%s", links, tables)
	}
	if left, err := os.ReadDir(filepath.Join(w.dirs[0], "c1")); err == nil {
		t.Errorf("there are left: %v", left)
	}
}
