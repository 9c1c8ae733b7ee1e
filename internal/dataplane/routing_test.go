package dataplane

import (
	"bufio"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/strata-cloud/strata/internal/nodeapi"
)

// twoTenants have the same networks and addresses: two servers each, a router,
// and a floating IP for the first server.
func twoTenants() nodeapi.NetState {
	st := nodeapi.NetState{
		Networks:       []nodeapi.Network{external()},
		SecurityGroups: []nodeapi.SecurityGroup{group("open", ingress(-1, -1, -1))},
	}
	for tenant := 1; tenant <= 2; tenant++ {
		st.Networks = append(st.Networks, network(tenant, 1), network(tenant, 2))
		st.Ports = append(st.Ports, port(tenant, 1, 10, "open"), port(tenant, 2, 20, "open"))
		r := routerOf(tenant, 1, 2)
		r.FloatingIPs = []nodeapi.FloatingIP{floating(fmt.Sprintf("fip%d", tenant), 50+tenant, 1, 10)}
		st.Routers = append(st.Routers, r)
	}
	return st
}

func TestRoutersOfTwoTenants(t *testing.T) {
	w := newWorld(t)
	w.state = twoTenants()
	w.apply()
	var first, second [3]*guest
	for tenant := 1; tenant <= 2; tenant++ {
		first[tenant], second[tenant] = w.boot(portID(tenant, 1, 10)), w.boot(portID(tenant, 2, 20))
		first[tenant].dhcp()
		second[tenant].dhcp()
		first[tenant].serve(7000)
	}
	t.Run("routed", func(t *testing.T) {
		first[1].reaches("10.0.2.20")
		first[2].reaches("10.0.2.20")
	})
	t.Run("metadata", func(t *testing.T) {
		for tenant := 1; tenant <= 2; tenant++ {
			g := first[tenant]
			want := fmt.Sprintf(`server-t%d-1-10 /openstack "" `, tenant)
			check := func(how string) {
				got, err := g.get("http://169.254.169.254/openstack", "X-Forwarded-For: 10.0.2.20", "X-Instance-ID: x")
				if err != nil || got+" " != want {
					t.Errorf("tenant %d %s: %q, %v, want %q", tenant, how, got, err, want)
				}
			}
			check("on the network")
			if err := g.ns.Do(exec.Command("ip", "route", "replace", "169.254.169.254/32", "via", "10.0.1.1").Run); err != nil {
				t.Fatal(err)
			}
			check("through the router")
		}
	})
	t.Run("floating IP from the host", func(t *testing.T) {
		for tenant := 1; tenant <= 2; tenant++ {
			c, err := net.DialTimeout("tcp", fmt.Sprintf("172.24.4.%d:7000", 50+tenant), 3*time.Second)
			if err != nil {
				t.Fatal(err)
			}
			from, _ := bufio.NewReader(c).ReadString('\n')
			c.Close()
			if !strings.HasPrefix(from, "172.24.4.1:") {
				t.Errorf("the server sees %q and not the client's own address", from)
			}
		}
	})
	t.Run("source translation", func(t *testing.T) {
		sourceIs(t, w, first[1], "172.24.4.51")   // its floating IP
		sourceIs(t, w, second[1], "172.24.4.101") // its router's gateway address
		sourceIs(t, w, second[2], "172.24.4.102")
	})
	t.Run("hairpin", func(t *testing.T) {
		for _, g := range []*guest{second[1], first[1], second[2]} {
			c, err := g.dial("172.24.4.51:7000")
			if err != nil {
				t.Fatalf("%s to the floating IP: %v", g.port.ID, err)
			}
			c.Close()
		}
	})
	t.Run("floating IP moves", func(t *testing.T) { moveFloatingIP(t, w, first[2]) })
	t.Run("isolated", func(t *testing.T) {
		w.state.Routers = w.state.Routers[1:] // tenant 1 loses its router
		w.apply()
		first[1].blocked("10.0.2.20")
		first[1].blocked("172.24.4.1")
		first[2].reaches("10.0.2.20")
	})
}

// sourceIs checks which address a server on the host sees.
func sourceIs(t *testing.T, w *world, g *guest, want string) {
	t.Helper()
	l, err := net.Listen("tcp", "172.24.4.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := g.dial(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if got := addrOf(s.RemoteAddr().(*net.TCPAddr).IP); got != netip.MustParseAddr(want) {
		t.Errorf("port %s comes from %s, want %s", g.port.ID, got, want)
	}
}

// moveFloatingIP gives tenant 1's address to tenant 2: the host's neighbour
// entry must follow, and connections over the old place must end.
func moveFloatingIP(t *testing.T, w *world, to *guest) {
	c, err := net.DialTimeout("tcp", "172.24.4.51:7000", time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	r := bufio.NewReader(c)
	r.ReadString('\n')
	w.state.Routers[0].FloatingIPs = nil
	w.state.Routers[1].FloatingIPs = []nodeapi.FloatingIP{floating("fip1", 51, 1, 10)}
	w.apply()
	if echoes(c, r, "old") {
		t.Error("a connection outlived its floating IP")
	}
	if !ping(nil, "172.24.4.51", time.Second) {
		t.Error("the moved floating IP is not reachable")
	}
	if ping(nil, "172.24.4.52", 0) {
		t.Error("a removed floating IP answers")
	}
	sourceIs(t, w, to, "172.24.4.51")
}
