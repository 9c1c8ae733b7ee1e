package gate

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/strata-cloud/strata/internal/needs"
	"github.com/strata-cloud/strata/internal/netns"
	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/wait"
)

// Addresses of the tests: the machine's namespace has those of the member and of another
// machine, the network's has that of a pod.
var (
	member  = netip.MustParseAddr("192.0.2.1")
	machine = netip.MustParseAddr("192.0.2.9")
	pod     = netip.MustParseAddr("10.9.0.7")
	network = netip.MustParsePrefix("10.9.0.0/24")

	pod6     = netip.MustParseAddr("fd00:9::7")
	network6 = netip.MustParsePrefix("fd00:9::/64")

	port = nodeapi.ContainerPort{ID: "11111111-2222-3333-4444-555555555555", MAC: "fa:16:3e:00:00:01", MTU: 1400, Addrs: []netip.Prefix{netip.MustParsePrefix("10.9.0.2/24")},
		Gateways: []netip.Addr{netip.MustParseAddr("10.9.0.1")}}
)

// world is a machine with a network beside it.
type world struct {
	*testing.T
	name      string
	socket    string
	host, net *netns.NS
	gates     *Gates
}

func newWorld(t *testing.T) *world {
	needs.Root(t, "this test")
	w := &world{T: t, name: fmt.Sprintf("g%d", os.Getpid())}
	dir, err := os.MkdirTemp("", "gate-") // short, for there is a socket in it
	w.must(err)
	t.Cleanup(func() { w.must(os.RemoveAll(dir)) })
	w.socket = filepath.Join(dir, "c1-control", "gate.sock")
	w.host, w.net = w.namespace("host", member, machine), w.namespace("net")
	w.gates = w.open()
	t.Cleanup(func() {
		w.must(w.gates.Remove("c1"))
		if left, err := netns.List(w.name + "-gate-"); len(left) > 0 || err != nil {
			t.Errorf("there are left %v, %v", left, err)
		}
		if _, err := os.Lstat(w.socket); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the socket is left: %v", err)
		}
		if h, err := w.net.Link(); err != nil {
			t.Error(err)
		} else if _, err := h.LinkByName("outer"); err == nil {
			t.Error("the device is left")
		}
		w.gates.Close()
	})
	return w
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// namespace makes one, with addresses on its loopback.
func (w *world) namespace(name string, addrs ...netip.Addr) *netns.NS {
	w.Helper()
	ns, _, err := netns.Ensure(w.name + "-" + name)
	w.must(err)
	w.Cleanup(func() { w.must(errors.Join(ns.Close(), netns.Remove(w.name+"-"+name))) })
	h, err := ns.Link()
	w.must(err)
	lo, err := h.LinkByName("lo")
	w.must(err)
	w.must(h.LinkSetUp(lo))
	for _, a := range addrs {
		w.must(h.AddrAdd(lo, &netlink.Addr{IPNet: &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(32, 32)}}))
	}
	return ns
}

// open is what an agent has that starts.
func (w *world) open() *Gates {
	return New(Config{Name: w.name, Host: w.host, Socket: func(string) string { return w.socket }, Plug: w.plug, Log: slog.New(slog.DiscardHandler)})
}

// plug connects a namespace with the network, where a pod is.
func (w *world) plug(_ context.Context, ns *netns.NS, device string, p nodeapi.ContainerPort) error {
	if len(p.Gateways) > 0 {
		w.Errorf("the gate has a way out by %v", p.Gateways)
	}
	h, err := w.net.Link()
	if err != nil {
		return err
	}
	in, err := ns.Link()
	if err != nil {
		return err
	}
	mac, err := net.ParseMAC(p.MAC)
	if err != nil {
		return err
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "outer"
	if err := h.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: device, PeerHardwareAddr: mac, PeerNamespace: netlink.NsFd(ns.FD())}); err != nil {
		return err
	}
	up := func(h *netlink.Handle, name string, addrs ...netip.Prefix) error {
		l, err := h.LinkByName(name)
		if err != nil {
			return err
		}
		for _, a := range addrs {
			x := &netlink.Addr{IPNet: &net.IPNet{IP: a.Addr().AsSlice(), Mask: net.CIDRMask(a.Bits(), a.Addr().BitLen())}}
			if a.Addr().Is6() {
				x.Flags = unix.IFA_F_NODAD
			}
			err = errors.Join(err, h.AddrAdd(l, x))
		}
		return errors.Join(err, h.LinkSetUp(l))
	}
	return errors.Join(up(h, "outer", netip.PrefixFrom(pod, network.Bits()), netip.PrefixFrom(pod6, network6.Bits())), up(in, device, p.Addrs...))
}

func (w *world) want() Want {
	return Want{Cluster: "c1", Port: &port, Network: network, Machines: []netip.Addr{machine},
		Beside: map[netip.AddrPort]netip.AddrPort{netip.AddrPortFrom(member, 13879): netip.MustParseAddrPort("127.0.0.1:13879")}}
}

func (w *world) ensure(want Want) {
	w.Helper()
	w.must(w.gates.Ensure(w.Context(), want))
}

// serve listens in a namespace, and does something with whoever comes.
func (w *world) serve(ns *netns.NS, at string, with func(*net.TCPConn)) {
	w.Helper()
	var l net.Listener
	w.must(ns.Do(func() (err error) { l, err = net.Listen("tcp", at); return err }))
	done := make(chan struct{})
	w.Cleanup(func() { l.Close(); <-done })
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go with(c.(*net.TCPConn))
		}
	}()
}

// name answers every line with a name, and who asks.
func name(what string) func(*net.TCPConn) {
	return func(c *net.TCPConn) {
		defer c.Close()
		for s := bufio.NewScanner(c); s.Scan(); {
			host, _, _ := net.SplitHostPort(c.RemoteAddr().String())
			fmt.Fprintf(c, "%s for %s\n", what, host)
		}
	}
}

// connect asks as the API server does.
func (w *world) connect(to string) (*net.UnixConn, *http.Response) {
	w.Helper()
	c, err := net.Dial("unix", w.socket)
	w.must(err)
	w.Cleanup(func() { c.Close() })
	w.must(c.SetDeadline(time.Now().Add(20 * time.Second)))
	_, err = fmt.Fprintf(c, "CONNECT %s HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", to)
	w.must(err)
	r := bufio.NewReader(c)
	res, err := http.ReadResponse(r, nil)
	w.must(err)
	if r.Buffered() > 0 {
		w.Errorf("%d bytes come before anybody has spoken", r.Buffered())
	}
	return c.(*net.UnixConn), res
}

func (w *world) tunnel(to string) *net.UnixConn {
	w.Helper()
	c, res := w.connect(to)
	if res.StatusCode != 200 {
		w.Fatalf("%s: %s", to, res.Status)
	}
	return c
}

// ask has a line answered.
func (w *world) ask(c net.Conn) string {
	w.Helper()
	_, err := io.WriteString(c, "who\n")
	w.must(err)
	line, err := bufio.NewReader(c).ReadString('\n')
	w.must(err)
	return strings.TrimSpace(line)
}

// idle waits until the gate has no tunnel.
func (w *world) idle() {
	w.Helper()
	x := w.gates.all["c1"]
	w.must(wait.Until(w.Context(), "the ends of all tunnels", time.Millisecond, func(context.Context) (bool, error) {
		x.mu.Lock()
		defer x.mu.Unlock()
		return x.count == 0 && len(x.tunnels) == 0, nil
	}))
}

// TestWays has addresses lead where they should, and all others nowhere.
func TestWays(t *testing.T) {
	w := newWorld(t)
	w.serve(w.host, machine.String()+":10250", name("kubelet"))
	w.serve(w.host, "127.0.0.1:13879", name("metrics"))
	w.serve(w.host, "127.0.0.1:22", name("the machine's own"))
	w.serve(w.host, member.String()+":22", name("the member's own"))
	none := w.want()
	none.Port = nil
	w.ensure(none)
	if got := w.ask(w.tunnel("192.0.2.9:10250")); got != "kubelet for 192.0.2.9" {
		t.Errorf("before there is a place in the network a machine's kubelet is %q", got)
	}
	if _, res := w.connect("10.9.0.7:443"); res.StatusCode != 503 || !strings.Contains(res.Status, "no place") {
		t.Errorf("without a place in the network: %s", res.Status)
	}
	for range 2 { // repeated
		w.ensure(w.want())
	}
	w.serve(w.net, pod.String()+":443", name("pod"))
	for to, want := range map[string]string{"10.9.0.7:443": "pod for 10.9.0.2", "192.0.2.9:10250": "kubelet for 192.0.2.9", "192.0.2.1:13879": "metrics for 127.0.0.1"} {
		if got := w.ask(w.tunnel(to)); got != want {
			t.Errorf("%s is %q, want %q", to, got, want)
		}
	}
	for to, want := range map[string]int{"127.0.0.1:22": 403, "127.0.0.1:13879": 403, "192.0.2.1:22": 403, "192.0.2.8:10250": 403, "169.254.169.254:80": 403, "10.254.0.1:443": 403, "[::1]:22": 403,
		"[::ffff:127.0.0.1]:22": 403, "pod.example:443": 400, "10.9.0.7": 400, "10.9.0.7:0": 400, "10.9.0.7:444": 502} {
		if _, res := w.connect(to); res.StatusCode != want {
			t.Errorf("%s: %s, want %d", to, res.Status, want)
		}
	}
	if _, res := w.connect("10.9.0.8:443"); res.StatusCode != 502 && res.StatusCode != 504 { // by the kernel's patience, or ours
		t.Errorf("an address that nobody has: %s", res.Status)
	}
	gone := w.want()
	gone.Machines = nil
	w.ensure(gone)
	if _, res := w.connect("192.0.2.9:10250"); res.StatusCode != 403 {
		t.Errorf("a machine that works for the cluster no more: %s", res.Status)
	}
	ns, err := netns.Open(w.name + "-gate-c1")
	w.must(err)
	defer ns.Close()
	h, err := ns.Link()
	w.must(err)
	routes, err := h.RouteList(nil, netlink.FAMILY_V4)
	if err != nil || len(routes) != 1 || routes[0].Dst.String() != network.String() {
		t.Errorf("from the gate there are the routes %v, %v", routes, err)
	}
}

// TestOnlyConnect refuses what is no CONNECT, and more than there may be.
func TestOnlyConnect(t *testing.T) {
	w := newWorld(t)
	w.ensure(w.want())
	client := &http.Client{Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return net.Dial("unix", w.socket) }, DisableKeepAlives: true}}
	res, err := client.Get("http://10.9.0.7:443/")
	w.must(err)
	res.Body.Close()
	if res.StatusCode != 405 {
		t.Errorf("GET: %s", res.Status)
	}
	x := w.gates.all["c1"]
	x.mu.Lock()
	x.count += maxTunnels
	x.mu.Unlock()
	if _, res := w.connect("10.9.0.7:443"); res.StatusCode != 503 || !strings.Contains(res.Status, "1024 connections") {
		t.Errorf("one too many: %s", res.Status)
	}
	x.mu.Lock()
	x.count -= maxTunnels
	x.mu.Unlock()
	info, err := os.Stat(w.socket)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the socket is %v, %v", info.Mode(), err)
	}
	w.idle()
}

// TestEnds has tunnels end as their sides do.
func TestEnds(t *testing.T) {
	w := newWorld(t)
	w.ensure(w.want())
	const size = 3 << 20
	told := make(chan error, 10)
	w.serve(w.net, pod.String()+":1", func(c *net.TCPConn) { // hears all, and then answers
		defer c.Close()
		n, err := io.Copy(io.Discard, c)
		told <- err
		_, _ = io.CopyN(c, zeros{}, n)
	})
	heard := func(c *net.TCPConn) { _, _ = io.ReadFull(c, make([]byte, 1)) }
	w.serve(w.net, pod.String()+":2", func(c *net.TCPConn) { heard(c); c.Close() })
	w.serve(w.net, pod.String()+":3", func(c *net.TCPConn) { heard(c); _ = c.SetLinger(0); c.Close() }) // is cut off

	c := w.tunnel("10.9.0.7:1")
	if _, err := io.CopyN(c, zeros{}, size); err != nil {
		t.Fatal(err)
	}
	w.must(c.CloseWrite())
	if n, err := io.Copy(io.Discard, c); n != size || err != nil {
		t.Errorf("of %d bytes that were said, in the other direction come %d, %v", size, n, err)
	}
	w.must(<-told)
	w.idle()

	w.must(w.tunnel("10.9.0.7:1").Close())
	select {
	case err := <-told:
		w.must(err)
	case <-time.After(10 * time.Second):
		t.Error("a pod is not told that the API server has gone")
	}
	w.idle()
	for _, to := range []string{"10.9.0.7:2", "10.9.0.7:3"} {
		c := w.tunnel(to)
		if _, err := c.Write([]byte{1}); err != nil {
			t.Error(err)
		}
		if n, _ := io.Copy(io.Discard, c); n != 0 {
			t.Errorf("%d bytes come from who says nothing", n)
		}
		w.must(c.Close())
		w.idle()
	}
}

// TestLinger has a tunnel end whose one side has gone and whose other does not care.
func TestLinger(t *testing.T) {
	w := newWorld(t)
	silent := make(chan struct{})
	w.serve(w.host, "127.0.0.1:5", func(c *net.TCPConn) { <-silent; c.Close() })
	defer close(silent)
	var out net.Conn
	w.must(w.host.Do(func() (err error) { out, err = net.Dial("tcp", "127.0.0.1:5"); return err }))
	l, err := listen(filepath.Join(filepath.Dir(w.socket), "own"))
	w.must(err)
	defer l.Close()
	mine, err := net.Dial("unix", l.Addr().String())
	w.must(err)
	in, err := l.Accept()
	w.must(err)
	tn := &tunnel{in: in.(*net.UnixConn), out: out.(*net.TCPConn), linger: 50 * time.Millisecond}
	done := make(chan struct{})
	go func() { defer close(done); tn.run(in) }()
	w.must(mine.Close())
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Error("it does not end")
		tn.end()
	}
}

// TestAgentAgain has the agent start anew: tunnels end, new ones work, the device stays.
func TestAgentAgain(t *testing.T) {
	w := newWorld(t)
	w.ensure(w.want())
	w.serve(w.net, pod.String()+":443", name("pod"))
	c := w.tunnel("10.9.0.7:443")
	w.ask(c)
	device := func() int {
		ns, err := netns.Open(w.name + "-gate-c1")
		w.must(err)
		defer ns.Close()
		h, err := ns.Link()
		w.must(err)
		l, err := h.LinkByName("eth0")
		w.must(err)
		return l.Attrs().Index
	}
	before := device()
	w.gates.Close()
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("a tunnel outlives the agent")
	}
	w.gates = w.open()
	if ids, err := w.gates.Clusters(); err != nil || !slices.Equal(ids, []string{"c1"}) {
		t.Errorf("another agent finds %v, %v", ids, err)
	}
	w.ensure(w.want())
	if got := w.ask(w.tunnel("10.9.0.7:443")); got != "pod for 10.9.0.2" || device() != before {
		t.Errorf("after that it is %q, by device %d, not %d", got, device(), before)
	}
	w.gates.Close()
	w.gates = w.open()
	w.must(w.gates.Remove("c1")) // which this agent has never seen
	if ids, err := w.gates.Clusters(); err != nil || len(ids) > 0 {
		t.Errorf("after the end there are %v, %v", ids, err)
	}
	w.ensure(w.want()) // and all of it again
	other := port
	other.ID, other.MAC = "22222222-2222-3333-4444-555555555555", "fa:16:3e:00:00:02"
	moved := w.want()
	moved.Port = &other
	w.ensure(moved)
	if device() == before {
		t.Error("another port has the same device")
	}
}

// zeros is a source without an end.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }
