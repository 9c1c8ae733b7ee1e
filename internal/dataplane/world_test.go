package dataplane

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"
	"github.com/vishvananda/netlink"

	"github.com/strata-cloud/strata/internal/kube/cni"
	"github.com/strata-cloud/strata/internal/needs"
	"github.com/strata-cloud/strata/internal/netns"
	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/wait"
)

// TestMain runs the tests in a network namespace of their own, which plays the
// host: forwarding and masquerading touch no real one.
func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == cni.Program { // as a runtime calls it
		os.Exit(cni.Main(os.Getenv, os.Stdin, os.Stdout))
	}
	const inside = "STRATA_TEST_INSIDE"
	if os.Getenv(inside) != "" || os.Geteuid() != 0 {
		os.Exit(m.Run())
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// world is a Plane with guests: each guest is a network namespace whose
// network card is joined to the Plane's tap frame by frame, as a VMM would.
type world struct {
	testing.TB
	*Plane
	name   string
	host   *netns.NS  // nil: the one the tests run in
	tunnel netip.Addr // on the underlay, when there are several hosts
	device string     // on the provider's network, if any
	// providers are devices on further ones.
	providers map[string]string
	state     nodeapi.NetState
	guests    map[string]*guest

	mu     sync.Mutex
	status map[string]bool
}

func newWorld(t testing.TB) *world {
	needs.Root(t, "this test")
	w := blankWorld(t, "")
	host, err := netns.Current()
	w.must(err)
	defer host.Close()
	w.must(loopback(host))
	w.open()
	return w
}

// blankWorld is a world without a Plane yet.
func blankWorld(t testing.TB, suffix string) *world {
	w := &world{TB: t, name: fmt.Sprintf("t%d%s", os.Getpid()%1000000, suffix), guests: map[string]*guest{}, status: map[string]bool{}}
	t.Cleanup(func() {
		for _, g := range w.guests {
			g.close()
		}
		if w.Plane != nil {
			if err := w.Plane.Reset(context.WithoutCancel(t.Context())); err != nil {
				t.Errorf("reset: %v", err)
			}
		}
	})
	return w
}

// open makes a Plane anew over whatever the kernel has.
func (w *world) open() {
	w.Helper()
	p, err := New(Config{
		Name: w.name, HostLink: w.name + "-x", Host: w.host, Tunnel: w.tunnel,
		External:  []External{{CIDR: netip.MustParsePrefix("172.24.4.0/24"), HostAddr: netip.MustParseAddr("172.24.4.1"), Device: w.device}},
		Providers: w.providers,
		Resolvers: []string{"127.0.0.1:5300"},
		Metadata: func(_ context.Context, device string, rw http.ResponseWriter, r *http.Request) {
			fmt.Fprintf(rw, "%s %s %q", device, r.URL.Path, r.Header.Get("X-Forwarded-For"))
		},
		OnStatus: func(s nodeapi.PortStatus) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.status[s.PortID] = s.Up
		},
	})
	w.must(err)
	w.Plane = p
}

func (w *world) up(port string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.status[port]
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// apply realises the state as it is now.
func (w *world) apply() {
	w.Helper()
	w.state.Gen++
	w.must(w.Plane.Apply(w.Context(), w.state))
}

// guest is a namespace with a network card on a port.
type guest struct {
	*world
	port nodeapi.Port
	ns   *netns.NS
	tap  *os.File // the Plane's
	nic  *os.File // the guest's
}

func (w *world) boot(portID string) *guest {
	w.Helper()
	var port nodeapi.Port
	for _, p := range w.state.Ports {
		if p.ID == portID {
			port = p
		}
	}
	ctx, cancel := context.WithTimeout(w.Context(), 5*time.Second)
	defer cancel()
	tap, err := w.Plane.Tap(ctx, portID)
	w.must(err)
	ns, _, err := netns.Ensure(fmt.Sprintf("%s-vm-%s", w.name, portID))
	w.must(err)
	g := &guest{world: w, port: port, ns: ns, tap: tap}
	w.guests[portID] = g
	w.must(sysctls(ns, "net/ipv6/conf/default/dad_transmits=0", "net/ipv6/conf/default/accept_ra=1",
		"net/ipv6/conf/default/router_solicitation_delay=0"))
	w.must(ns.Do(func() (err error) { g.nic, err = openTap("eth0"); return err }))
	h, err := ns.Link()
	w.must(err)
	link, err := h.LinkByName("eth0")
	w.must(err)
	mac, err := net.ParseMAC(port.MAC)
	w.must(err)
	w.must(h.LinkSetHardwareAddr(link, mac))
	w.must(h.LinkSetUp(link))
	w.must(loopback(ns))
	go pump(tap, g.nic)
	go pump(g.nic, tap)
	return g
}

func pump(dst io.Writer, src io.Reader) {
	buf := make([]byte, 70000)
	for {
		n, err := src.Read(buf)
		if err != nil {
			return
		}
		dst.Write(buf[:n])
	}
}

func (g *guest) close() {
	g.tap.Close()
	g.nic.Close()
	g.ns.Close()
	netns.Remove(g.ns.Name)
	delete(g.guests, g.port.ID)
}

// dhcp gets the guest its address, routes and MTU from DHCP.
func (g *guest) dhcp() *dhcpv4.DHCPv4 {
	g.Helper()
	var c *nclient4.Client
	g.must(g.ns.Do(func() (err error) {
		c, err = nclient4.New("eth0", nclient4.WithTimeout(time.Second), nclient4.WithRetry(4))
		return err
	}))
	defer c.Close()
	ctx, cancel := context.WithTimeout(g.Context(), 5*time.Second)
	defer cancel()
	lease, err := c.Request(ctx)
	if err != nil {
		g.Fatalf("DHCP on port %s: %v", g.port.ID, err)
	}
	ack := lease.ACK
	h, err := g.ns.Link()
	g.must(err)
	link, err := h.LinkByName("eth0")
	g.must(err)
	ones, _ := ack.SubnetMask().Size()
	g.must(h.AddrReplace(link, &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(addrOf(ack.YourIPAddr), ones))}))
	for _, r := range ack.ClasslessStaticRoute() {
		g.must(h.RouteReplace(&netlink.Route{Dst: r.Dest, Gw: r.Router, LinkIndex: link.Attrs().Index}))
	}
	return ack
}

// ping tells whether an address answers the guest within the time.
func (g *guest) ping(addr string, wait time.Duration) bool { return ping(g.ns, addr, wait) }

func ping(ns *netns.NS, addr string, limit time.Duration) bool {
	deadline := time.Now().Add(limit)
	for {
		cmd := exec.Command("ping", "-n", "-c", "1", "-W", "0.3", addr)
		if ns == nil {
			if cmd.Run() == nil {
				return true
			}
		} else if ns.Do(cmd.Run) == nil {
			return true
		}
		if time.Now().After(deadline) {
			return false
		}
	}
}

func (g *guest) reaches(addr string) {
	g.Helper()
	if !g.ping(addr, 3*time.Second) {
		g.Fatalf("port %s does not reach %s", g.port.ID, addr)
	}
}

func (g *guest) blocked(addr string) {
	g.Helper()
	if g.ping(addr, 0) {
		g.Fatalf("port %s reaches %s", g.port.ID, addr)
	}
}

// get fetches a URL from inside the guest.
func (g *guest) get(url string, header ...string) (string, error) {
	tr := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, network, addr string) (c net.Conn, err error) {
		err = g.ns.Do(func() error {
			c, err = (&net.Dialer{Timeout: 2 * time.Second}).DialContext(ctx, network, addr)
			return err
		})
		return c, err
	}}
	req, err := http.NewRequestWithContext(g.Context(), http.MethodGet, url, nil)
	g.must(err)
	for _, h := range header {
		k, v, _ := strings.Cut(h, ": ")
		req.Header.Set(k, v)
	}
	resp, err := (&http.Client{Transport: tr, Timeout: 4 * time.Second}).Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return string(b), err
}

// serve answers TCP connections in the guest by echoing what comes.
func (g *guest) serve(port int) {
	g.Helper()
	g.serveIn(g.ns, port)
}

// serveIn does so in any namespace.
func (w *world) serveIn(ns *netns.NS, port int) {
	w.Helper()
	var l net.Listener
	w.must(ns.Do(func() (err error) { l, err = net.Listen("tcp", fmt.Sprintf(":%d", port)); return err }))
	w.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				fmt.Fprintf(c, "%s\n", c.RemoteAddr())
				io.Copy(c, c)
				c.Close()
			}()
		}
	}()
}

func (g *guest) dial(addr string) (c net.Conn, err error) {
	err = g.ns.Do(func() error { c, err = net.DialTimeout("tcp", addr, 700*time.Millisecond); return err })
	return c, err
}

func (w *world) eventually(what string, cond func() bool) {
	w.Helper()
	ctx, cancel := context.WithTimeout(w.Context(), 6*time.Second)
	defer cancel()
	w.must(wait.Until(ctx, what, 20*time.Millisecond, func(context.Context) (bool, error) { return cond(), nil }))
}
