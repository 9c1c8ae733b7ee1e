package dataplane

import (
	"bufio"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"testing"
	"time"

	"github.com/strata-cloud/strata/internal/nodeapi"
)

// edit changes the state's port and applies.
func (w *world) edit(id string, f func(*nodeapi.Port)) {
	w.Helper()
	for i := range w.state.Ports {
		if w.state.Ports[i].ID == id {
			f(&w.state.Ports[i])
		}
	}
	w.apply()
}

func echoes(c net.Conn, r *bufio.Reader, text string) bool {
	c.SetDeadline(time.Now().Add(time.Second))
	fmt.Fprintln(c, text)
	got, err := r.ReadString('\n')
	return err == nil && got == text+"\n"
}

func TestSecurityGroups(t *testing.T) {
	w := newWorld(t)
	w.state = nodeapi.NetState{
		Networks: []nodeapi.Network{network(1, 1)},
		Ports:    []nodeapi.Port{port(1, 1, 10, "server"), port(1, 1, 11, "client"), port(1, 1, 12, "client")},
		SecurityGroups: []nodeapi.SecurityGroup{group("server"), {
			ID: "client", Stateful: true, Rules: egressAny(), Members: []netip.Addr{netip.MustParseAddr("10.0.1.11")},
		}},
	}
	w.apply()
	if w.up(portID(1, 1, 10)) {
		t.Fatal("a port is up before it is plugged")
	}
	server, client, other := w.boot(portID(1, 1, 10)), w.boot(portID(1, 1, 11)), w.boot(portID(1, 1, 12))
	if !w.up(portID(1, 1, 10)) {
		t.Fatal("a plugged port is not up")
	}
	for _, g := range []*guest{server, client, other} {
		g.dhcp()
	}
	server.serve(7000)
	server.serve(7001)
	client.blocked("10.0.1.10") // the default is deny

	w.state.SecurityGroups[0] = group("server", ingress(1, 8, -1), ingress(6, 7000, 7000))
	w.apply()
	client.reaches("10.0.1.10")
	server.blocked("10.0.1.11") // stateful is not both ways
	c, err := client.dial("10.0.1.10:7000")
	w.must(err)
	defer c.Close()
	r := bufio.NewReader(c)
	if _, err := r.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	if _, err := client.dial("10.0.1.10:7001"); err == nil {
		t.Fatal("a port outside the rule's range is open")
	}

	// Another port's change must not hurt the connection.
	w.state.Ports = append(w.state.Ports, port(1, 1, 13, "server", "client"))
	w.apply()
	if !echoes(c, r, "still here") {
		t.Fatal("an unrelated change cut a connection")
	}

	// A rule for a remote group admits its members alone.
	remote := ingress(-1, -1, -1)
	remote.RemoteGroupID = "client"
	w.state.SecurityGroups[0] = group("server", remote)
	w.apply()
	client.reaches("10.0.1.10")
	other.blocked("10.0.1.10")
	if !echoes(c, r, "allowed by another rule") {
		t.Fatal("a connection that the new rules allow was cut for good")
	}

	// Taking the rule away ends even what is established.
	w.state.SecurityGroups[0] = group("server")
	w.apply()
	if echoes(c, r, "cut") {
		t.Fatal("a connection outlived the rule that allowed it")
	}

	w.edit(portID(1, 1, 10), func(p *nodeapi.Port) { p.PortSecurity = false })
	other.reaches("10.0.1.10")
	w.edit(portID(1, 1, 10), func(p *nodeapi.Port) { p.AdminUp = false })
	other.blocked("10.0.1.10")
}

func TestStatelessGroups(t *testing.T) {
	w := newWorld(t)
	oneWay := group("stateless", ingress(1, 8, -1))
	oneWay.Stateful = false
	oneWay.Rules = oneWay.Rules[2:] // no egress
	w.state = nodeapi.NetState{
		Networks:       []nodeapi.Network{network(1, 1)},
		Ports:          []nodeapi.Port{port(1, 1, 10, "stateless"), port(1, 1, 11, "client")},
		SecurityGroups: []nodeapi.SecurityGroup{oneWay, group("client")},
	}
	w.apply()
	server, client := w.boot(portID(1, 1, 10)), w.boot(portID(1, 1, 11))
	server.dhcp()
	client.dhcp()
	client.blocked("10.0.1.10") // the answer has no rule, and state does not help
	reply := ingress(1, 0, -1)
	reply.Direction = "egress"
	w.state.SecurityGroups[0].Rules = append(oneWay.Rules, reply)
	w.apply()
	client.reaches("10.0.1.10")
}

func TestAntiSpoofing(t *testing.T) {
	w := newWorld(t)
	w.state = nodeapi.NetState{
		Networks:       []nodeapi.Network{network(1, 1)},
		Ports:          []nodeapi.Port{port(1, 1, 10, "open"), port(1, 1, 11, "open")},
		SecurityGroups: []nodeapi.SecurityGroup{group("open", ingress(-1, -1, -1))},
	}
	w.apply()
	a, b := w.boot(portID(1, 1, 10)), w.boot(portID(1, 1, 11))
	a.dhcp()
	b.dhcp()
	a.reaches("10.0.1.11")
	in := func(args ...string) error { return b.ns.Do(exec.Command(args[0], args[1:]...).Run) }
	spoof := func() bool { return in("ping", "-n", "-c", "1", "-W", "0.3", "-I", "10.0.1.99", "10.0.1.10") == nil }
	w.must(in("ip", "addr", "add", "10.0.1.99/24", "dev", "eth0"))
	// The answer needs no ARP, so that only the packet's own source can stop it.
	neigh := func(verb string) error {
		return a.ns.Do(exec.Command("ip", "neigh", verb, "10.0.1.99", "lladdr", b.port.MAC, "dev", "eth0").Run)
	}
	w.must(neigh("replace"))
	if spoof() {
		t.Fatal("a foreign source address passed")
	}
	w.must(neigh("del"))
	if a.ping("10.0.1.99", 0) {
		t.Fatal("ARP for a foreign address was answered")
	}
	w.edit(portID(1, 1, 11), func(p *nodeapi.Port) {
		p.AllowedPairs = []nodeapi.AddressPair{{Prefix: netip.MustParsePrefix("10.0.1.96/29")}}
	})
	w.eventually("an allowed address pair to pass", spoof)
	a.reaches("10.0.1.99")

	w.must(in("ip", "link", "set", "eth0", "address", "fa:16:3e:ff:ff:ff"))
	if b.ping("10.0.1.10", 0) {
		t.Fatal("a foreign MAC passed")
	}
	w.edit(portID(1, 1, 11), func(p *nodeapi.Port) { p.PortSecurity = false })
	b.reaches("10.0.1.10")
}

// TestStateIsPerNetwork has two tenants use one five-tuple: what one is allowed
// must not count as established for the other.
func TestStateIsPerNetwork(t *testing.T) {
	w := newWorld(t)
	w.state.SecurityGroups = []nodeapi.SecurityGroup{group("open", ingress(-1, -1, -1)), group("closed")}
	for tenant, sg := range []string{1: "open", 2: "closed"} {
		if sg != "" {
			w.state.Networks = append(w.state.Networks, network(tenant, 1))
			w.state.Ports = append(w.state.Ports, port(tenant, 1, 10, sg), port(tenant, 1, 11, sg))
		}
	}
	w.apply()
	connect := func(tenant int) (net.Conn, error) {
		server, client := w.boot(portID(tenant, 1, 10)), w.boot(portID(tenant, 1, 11))
		server.dhcp()
		client.dhcp()
		server.serve(7000)
		d := net.Dialer{Timeout: time.Second, LocalAddr: &net.TCPAddr{Port: 5555}}
		var c net.Conn
		err := client.ns.Do(func() (err error) { c, err = d.DialContext(t.Context(), "tcp", "10.0.1.10:7000"); return err })
		return c, err
	}
	c, err := connect(1)
	w.must(err)
	defer c.Close()
	if c, err := connect(2); err == nil {
		c.Close()
		t.Fatal("one tenant's connection opens another tenant's port")
	}
}
