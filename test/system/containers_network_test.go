package system

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/strata-cloud/strata/internal/netns"
)

// serving makes a container answer each client on port 80.
var serving = []string{"busybox", "sh", "-c", "while :; do echo served | nc -l -p 80; done"}

// TestContainerNetworks drives networks with an unmodified docker.
func TestContainerNetworks(t *testing.T) {
	d := newDock(t)
	for name, test := range map[string]func(*testing.T, *dock){
		"names": testNames, "upstream": testUpstream, "connect": testConnect, "routes": testRoutes, "refused": testConnectRefused, "files": testNetworkFiles, "joined": testJoined,
		"addresses": testAddresses, "internal": testInternal, "IPv6": testContainerIPv6, "isolation": testIsolation, "ports": testPorts, "taken ports": testTakenPorts, "lists": testNetworkLists, "events": testNetworkEvents,
	} {
		t.Run(name, func(t *testing.T) { test(t, &dock{t: t, cloud: d.cloud, cli: d.cli}) })
	}
	if out := d.must("ps", "-aq"); out != "" {
		t.Errorf("containers are left: %s", out)
	}
	if out := d.must("network", "ls", "-q", "--filter", "type=custom"); out != "" {
		t.Errorf("networks are left: %s", out)
	}
	if left := must[[]string](t)(netns.List(d.cloud.Name() + "-c-")); len(left) > 0 {
		t.Errorf("namespaces are left: %v", left)
	}
}

// network makes one that goes with the test.
func (d *dock) network(name string, args ...string) {
	d.t.Helper()
	d.must(append([]string{"network", "create", name}, args...)...)
	d.t.Cleanup(func() { d.run(nil, "network", "rm", name) })
}

// start runs a container that goes with the test.
func (d *dock) start(name string, args ...string) {
	d.t.Helper()
	if len(args) == 0 || !slices.Contains(args, "busybox") {
		args = append(args, "busybox", "sleep", "600")
	}
	d.t.Cleanup(func() { d.run(nil, "rm", "-f", name) })
	d.must(append([]string{"run", "-d", "--name", name}, args...)...)
}

// addr is a container's address on a network.
func (d *dock) addr(name, network string) string {
	d.t.Helper()
	return d.must("inspect", "--format", `{{(index .NetworkSettings.Networks "`+network+`").IPAddress}}`, name)
}

// sh runs a line in a container and gives what it printed, and its error.
func (d *dock) sh(name, line string) string {
	d.t.Helper()
	r := d.run(nil, "exec", name, "sh", "-c", line)
	return strings.TrimSpace(r.out + r.errs)
}

func testConnect(t *testing.T, d *dock) {
	d.network("front")
	d.network("back", "--subnet", "10.213.9.0/24")
	d.start("web", "--network", "front", "busybox", "sleep", "600")
	d.start("peer", "--network", "back")
	d.must("network", "connect", "--ip", "10.213.9.77", "--alias", "store", "back", "web")
	if out := d.sh("web", "ip -4 -o addr show eth1 | grep -o 'inet [^ ]*'; grep -c 10.213.9.77 /etc/hosts"); out != "inet 10.213.9.77/24\n1" {
		t.Errorf("in the container: %q", out)
	}
	if got := d.lookUp("peer", "udp", "store", dns.TypeA); got != "10.213.9.77" {
		t.Errorf("by its alias: %q", got)
	}
	if out := d.must("network", "inspect", "--format", "{{range .Containers}}{{.Name}} {{.IPv4Address}};{{end}}", "back"); !strings.Contains(out, "web 10.213.9.77/24;") || !strings.Contains(out, "peer ") {
		t.Errorf("inspect: %s", out)
	}
	d.must("network", "disconnect", "back", "web")
	if out := d.sh("web", "ip -o link | grep -c eth1; grep -c 10.213.9.77 /etc/hosts"); out != "0\n0" {
		t.Errorf("disconnected: %q", out)
	}
	if got := d.lookUp("peer", "udp", "store", dns.TypeA); got == "10.213.9.77" {
		t.Errorf("the alias is still there: %q", got)
	}
	d.must("network", "connect", "--alias", "later", "back", "web")
	d.must("stop", "-t", "0", "web")
	d.must("network", "disconnect", "front", "web")
	d.must("start", "web")
	if out := d.must("inspect", "--format", "{{range $n, $e := .NetworkSettings.Networks}}{{$n}} {{end}}", "web"); out != "back" {
		t.Errorf("after a restart it is on %q", out)
	}
	if got := d.lookUp("peer", "udp", "later", dns.TypeA); got != d.addr("web", "back") {
		t.Errorf("by its alias after a restart: %q", got)
	}
	// A container of the default bridge gets a name server with its first network that has names.
	d.start("plain")
	d.must("network", "connect", "back", "plain")
	if out := d.sh("plain", "cat /etc/resolv.conf; busybox nslookup later"); !strings.Contains(out, "nameserver 127.0.0.11") || !strings.Contains(out, d.addr("web", "back")) {
		t.Errorf("connected later: %s", out)
	}
	// Off all networks and on again.
	d.must("network", "disconnect", "back", "plain")
	d.must("network", "disconnect", "bridge", "plain")
	if out := d.sh("plain", "ip -o link | grep -v lo: | grep -c .; ip route"); out != "0" {
		t.Errorf("off all networks: %q", out)
	}
	d.must("network", "connect", "bridge", "plain")
	if out := d.sh("plain", "ip route | grep -c ^default"); out != "1" {
		t.Errorf("on again: %q", out)
	}
}

// testRoutes: the way out is by the first network, by name, that is not internal.
func testRoutes(t *testing.T, d *dock) {
	d.network("a-closed", "--internal")
	d.network("m-open", "--subnet", "10.213.10.0/24")
	d.network("b-open", "--subnet", "10.213.11.0/24")
	d.start("web", "--network", "m-open")
	way := func() string { return d.sh("web", "ip route | grep ^default") }
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"network", "connect", "a-closed", "web"}, "default via 10.213.10.1 dev eth0"},
		{[]string{"network", "connect", "b-open", "web"}, "default via 10.213.11.1 dev eth2"},
		{[]string{"network", "disconnect", "b-open", "web"}, "default via 10.213.10.1 dev eth0"},
		{[]string{"restart", "-t", "0", "web"}, "default via 10.213.10.1 dev eth0"},
		{[]string{"network", "disconnect", "m-open", "web"}, ""},
	} {
		d.must(c.args...)
		if got := way(); got != c.want {
			t.Errorf("after %v: %q, want %q", c.args, got, c.want)
		}
	}
}

func testConnectRefused(t *testing.T, d *dock) {
	d.network("front", "--subnet", "10.213.12.0/24")
	d.network("auto")
	d.start("web", "--network", "front")
	d.start("hosted", "--network", "host")
	d.start("nowhere", "--network", "none")
	for _, c := range []struct{ args, want string }{
		{"network connect nothing web", "network nothing not found"},
		{"network connect front nothing", "No such container: nothing"},
		{"network connect front web", "already exists in network front"},
		{"network connect front hosted", "cannot be connected to any other network"},
		{"network connect host web", "cannot connect container to host network"},
		{"network connect front nowhere", "private (none) mode"},
		{"network connect --ip 10.9.9.9 front nowhere", "no configured subnet"},
		{"network disconnect auto web", "is not connected to network auto"},
		{"network disconnect host hosted", "cannot disconnect container from host network"},
		{"network connect --ip 10.213.13.1 auto web", "user configured subnets"},
		{"network connect --ip 172.17.0.9 bridge web", "user defined networks only"},
		{"network connect --alias x bridge web", "network-scoped alias"},
		{"run --rm --network front --ip 10.213.12.1 busybox true", "Address already in use"},
		{"run --rm --network nothing busybox true", "network nothing not found"},
		{"run --rm --network container:nothing busybox true", "No such container: nothing"},
		{"network rm front", "has active endpoints"},
		{"network create front", "already exists"},
		{"network create --subnet 10.213.12.128/25 other", "Pool overlaps"},
		{"network create --subnet 10.213.14.3/24 other", "it should be 10.213.14.0/24"},
		{"network create --subnet 10.213.14.0/24 --gateway 10.9.9.9 other", "gateway 10.9.9.9"},
		{"network create --subnet 10.213.14.0/24 --ip-range 10.9.9.0/25 other", "range 10.9.9.0/25"},
		{"network create -d nothing other", `plugin "nothing" not found`},
		{"network create -d macvlan other", "without a device of the host"},
		{"network create -d host other", "only one instance"},
		{"network create -o nonsense=1 other", "not supported"},
		{"run --rm --network container:web --hostname x busybox true", "conflicting options"},
		{"run --rm --network container:web -p 80:80 busybox true", "conflicting options"},
		{"run --rm --add-host nonsense:nowhere busybox true", "nowhere"},
	} {
		if r := d.run(nil, strings.Fields(c.args)...); r.code == 0 || !strings.Contains(r.errs, c.want) {
			t.Errorf("docker %s: %+v", c.args, r)
		}
	}
	if out := d.must("network", "ls", "-q", "--filter", "name=other"); out != "" {
		t.Errorf("a refused network is there: %s", out)
	}
	if out := d.must("ps", "-aq", "--filter", "status=created"); out != "" {
		t.Errorf("refused runs have left containers: %s", out)
	}
	if out := d.sh("web", "ip -o link | grep -c eth"); out != "1" {
		t.Errorf("refused networks have left devices: %s", out)
	}
}

func testAddresses(t *testing.T, d *dock) {
	d.network("ranged", "--subnet", "10.213.0.0/16", "--gateway", "10.213.0.254", "--ip-range", "10.213.5.0/30", "--aux-address", "printer=10.213.5.1")
	for i, want := range []string{"10.213.5.0", "10.213.5.2", "10.213.5.3"} {
		name := fmt.Sprint("c", i)
		d.start(name, "--network", "ranged")
		if got := d.addr(name, "ranged"); got != want {
			t.Errorf("the address of %s is %s, not %s", name, got, want)
		}
	}
	if r := d.run(nil, "run", "--rm", "--network", "ranged", "busybox", "true"); r.code == 0 || !strings.Contains(r.errs, "no available") {
		t.Errorf("beyond the range: %+v", r)
	}
	if out := d.must("run", "--rm", "--network", "ranged", "--ip", "10.213.77.7", "--mac-address", "02:11:22:33:44:55", "busybox", "sh", "-c", "ip route | grep -o 'via [^ ]*'; ip -o addr show eth0 | grep -o 'inet 10[^ ]*'; ip -o link show eth0 | grep -o 02:11:22:33:44:55"); out != "via 10.213.0.254\ninet 10.213.77.7/16\n02:11:22:33:44:55" {
		t.Errorf("as asked: %q", out)
	}
	if r := d.run(nil, "run", "--rm", "--network", "ranged", "--ip", "10.213.5.1", "busybox", "true"); r.code == 0 || !strings.Contains(r.errs, "already in use") {
		t.Errorf("an address that was set aside: %+v", r)
	}
	d.must("rm", "-f", "c1")
	d.start("c3", "--network", "ranged")
	if got := d.addr("c3", "ranged"); got != "10.213.5.2" {
		t.Errorf("the address that was given back: %s", got)
	}
	d.network("jumbo", "-o", "com.docker.network.driver.mtu=1400", "-o", "com.docker.network.container_iface_prefix=lan")
	if out := d.must("run", "--rm", "--network", "jumbo", "busybox", "cat", "/sys/class/net/lan0/mtu"); out != "1400" {
		t.Errorf("MTU: %s", out)
	}
}

func testInternal(t *testing.T, d *dock) {
	d.network("closed", "--internal")
	d.start("web", append([]string{"--network", "closed"}, serving...)...)
	d.start("client", "--network", "closed")
	d.eventually("a neighbour to reach it", func() bool { return d.sh("client", "nc -w 2 web 80") == "served" })
	if out := d.sh("client", "ip route | grep -c default; nc -w 2 192.0.2.1 80 && echo out"); !strings.HasPrefix(out, "0") || strings.Contains(out, "out\n") {
		t.Errorf("the way out: %q", out)
	}
	port := freeTCP(t)
	d.start("published", "--network", "closed", "-p", "127.0.0.1:"+port+":80", "busybox", "sleep", "600")
	if out := d.must("port", "published"); out != "" {
		t.Errorf("an internal network publishes %q", out)
	}
}

func testContainerIPv6(t *testing.T, d *dock) {
	d.network("six", "--ipv6", "--subnet", "fd12:3456::/64")
	d.network("auto", "--ipv6")
	d.start("web", append([]string{"--network", "six", "--ip6", "fd12:3456::77"}, serving...)...)
	d.start("client", "--network", "six")
	if out := d.sh("web", "ip -6 -o addr show eth0 scope global | grep -o 'inet6 [^ ]*'; ip -6 route | grep -o 'default via [^ ]*'"); out != "inet6 fd12:3456::77/64\ndefault via fd12:3456::1" {
		t.Errorf("in the container: %q", out)
	}
	if got := d.lookUp("client", "udp", "web", dns.TypeAAAA); got != "fd12:3456::77" {
		t.Errorf("AAAA: %q", got)
	}
	if got := d.lookUp("client", "udp", must[string](t)(dns.ReverseAddr("fd12:3456::77")), dns.TypePTR); got != "web.six." {
		t.Errorf("PTR: %q", got)
	}
	if out := d.must("inspect", "--format", "{{.NetworkSettings.Networks.six.GlobalIPv6Address}} {{.NetworkSettings.Networks.six.IPv6Gateway}}", "web"); out != "fd12:3456::77 fd12:3456::1" {
		t.Errorf("inspect: %s", out)
	}
	d.start("publisher", "--network", "six", "-p", "80", "busybox", "sh", "-c", "while :; do echo served | nc -l -p 80; done")
	d.eventually("the host to reach it over IPv6", func() bool { return dial("[fd12:3456::77]:80") == "served\n" })
	sub := d.must("network", "inspect", "--format", "{{range .IPAM.Config}}{{.Subnet}} {{end}}", "auto")
	if f := strings.Fields(sub); len(f) != 2 || !netip.MustParsePrefix(f[1]).Addr().Is6() || netip.MustParsePrefix(f[1]).Bits() != 64 {
		t.Errorf("a subnet that no one chose: %q", sub)
	}
	port := d.must("inspect", "--format", `{{range index .NetworkSettings.Ports "80/tcp"}}{{if eq .HostIp "::"}}{{.HostPort}}{{end}}{{end}}`, "publisher")
	if port == "" {
		t.Fatal("not published over IPv6")
	}
	host := hostIPv6(t, d)
	d.eventually("the port on the host's address "+host, func() bool { return dial(net.JoinHostPort(host, port)) == "served\n" })
	d.eventually("the port from another container", func() bool { return d.sh("client", "nc -w 3 "+host+" "+port) == "served" })
	d.start("apart", "--network", "auto")
	if out := d.sh("apart", "nc -w 2 fd12:3456::77 80"); strings.Contains(out, "served") {
		t.Errorf("from another network: %q", out)
	}
}

// hostIPv6 is the host's address for containers.
func hostIPv6(t *testing.T, d *dock) string {
	i := must[*net.Interface](t)(net.InterfaceByName(d.cloud.Name() + "c"))
	for _, a := range must[[]net.Addr](t)(i.Addrs()) {
		if n, ok := a.(*net.IPNet); ok && n.IP.To4() == nil && !n.IP.IsLinkLocalUnicast() {
			return n.IP.String()
		}
	}
	t.Fatal("the host has no IPv6 address for containers")
	return ""
}

func testIsolation(t *testing.T, d *dock) {
	d.network("one")
	d.network("two")
	d.network("quiet", "-o", "com.docker.network.bridge.enable_icc=false")
	d.start("web", append([]string{"--network", "one"}, serving...)...)
	d.start("near", "--network", "one")
	d.start("far", "--network", "two")
	ip := d.addr("web", "one")
	d.eventually("a neighbour to reach it", func() bool { return d.sh("near", "nc -w 2 "+ip+" 80") == "served" })
	if out := d.sh("far", "nc -w 2 "+ip+" 80"); strings.Contains(out, "served") {
		t.Errorf("from another network: %q", out)
	}
	d.start("mute", append([]string{"--network", "quiet", "-p", "127.0.0.1::80"}, serving...)...)
	d.start("deaf", "--network", "quiet")
	quiet := d.addr("mute", "quiet")
	d.eventually("the host to reach it", func() bool { return dial(quiet+":80") == "served\n" })
	if out := d.sh("deaf", "nc -w 2 "+quiet+" 80"); strings.Contains(out, "served") {
		t.Errorf("neighbours without ICC: %q", out)
	}
}

func testNetworkLists(t *testing.T, d *dock) {
	d.network("one", "--label", "tier=front")
	d.network("two", "--label", "tier=back", "--internal")
	d.start("web", "--network", "one")
	for filter, want := range map[string]string{"name=^one": "one", "label=tier=back": "two", "label=tier": "one two", "type=custom": "one two", "type=builtin": "bridge host none", "driver=host": "host", "dangling=true": "two",
		"id=" + d.must("network", "inspect", "--format", "{{.Id}}", "two")[:8]: "two", "scope=local": "bridge host none one two"} {
		if got := strings.Join(slices.Sorted(slices.Values(strings.Fields(d.must("network", "ls", "--format", "{{.Name}}", "--filter", filter)))), " "); got != want {
			t.Errorf("filter %s: %q, want %q", filter, got, want)
		}
	}
	if out := d.must("ps", "--filter", "network=one", "--format", "{{.Names}}"); out != "web" {
		t.Errorf("containers on a network: %q", out)
	}
	if out := d.must("network", "prune", "-f", "--filter", "label=tier=front"); strings.Contains(out, "one") {
		t.Errorf("a network that is used is pruned: %s", out)
	}
	if out := d.must("network", "prune", "-f"); !strings.Contains(out, "two") || strings.Contains(out, "one") {
		t.Errorf("prune: %s", out)
	}
}

func testNetworkEvents(t *testing.T, d *dock) {
	since := fmt.Sprint(time.Now().Unix() - 1)
	d.must("network", "create", "told")
	d.start("web")
	d.must("network", "connect", "told", "web")
	d.must("network", "disconnect", "told", "web")
	d.must("network", "rm", "told")
	out := d.must("events", "--since", since, "--until", fmt.Sprint(time.Now().Unix()+1), "--filter", "type=network", "--filter", "network=told", "--format", "{{.Action}} {{.Actor.Attributes.name}} {{.Actor.Attributes.type}}")
	if out != "create told bridge\nconnect told bridge\ndisconnect told bridge\ndestroy told bridge" {
		t.Errorf("events: %q", out)
	}
}

// TestContainerNetworksOutliveTheEngine kills strata under containers that know each
// other by name.
func TestContainerNetworksOutliveTheEngine(t *testing.T) {
	d := newDock(t)
	d.network("front", "--ipv6")
	d.network("back", "--internal")
	port := freeTCP(t)
	d.start("web", append([]string{"--network", "front", "--network-alias", "www", "-p", "127.0.0.1:" + port + ":80"}, serving...)...)
	d.must("network", "connect", "back", "web")
	d.start("client", "--network", "front")
	web, space := d.addr("web", "front"), d.space("client")
	d.cloud.Kill()
	if got := served(port); got != "served\n" {
		t.Errorf("the port while the engine is away: %q", got)
	}
	if got := d.lookUpIn(space, "udp", "www", dns.TypeA); got == web {
		t.Errorf("someone answers while the engine is away: %q", got)
	}
	// What a crash leaves: a namespace and a device that no record knows.
	stray := must[*netns.NS](t)(open(netns.Ensure(d.cloud.Name() + "-c-0123456789ab")))
	defer stray.Close()
	d.cloud.Up()
	for _, network := range []string{"udp", "tcp"} {
		if got := d.lookUp("client", network, "www", dns.TypeA); got != web {
			t.Errorf("afterwards over %s: %q, want %s", network, got, web)
		}
	}
	if out := d.sh("client", "busybox nslookup web.front"); !strings.Contains(out, web) {
		t.Errorf("by the container's own means: %s", out)
	}
	if _, err := netns.Open(stray.Name); err == nil {
		t.Error("a namespace without a record is left")
	}
	d.must("network", "disconnect", "back", "web")
	d.must("network", "connect", "--alias", "again", "back", "web")
	if got := served(port); got != "served\n" {
		t.Errorf("the port afterwards: %q", got)
	}
	d.must("restart", "-t", "0", "web")
	if got := d.lookUp("client", "udp", "www", dns.TypeA); got != d.addr("web", "front") {
		t.Errorf("after a restart of the container: %q", got)
	}
}

func open(ns *netns.NS, _ bool, err error) (*netns.NS, error) { return ns, err }
