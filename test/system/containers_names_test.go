package system

import (
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/strata-cloud/strata/internal/netns"
)

// lookUp asks a container's name server from inside.
func (d *dock) lookUp(name, network, question string, kind uint16) string {
	d.t.Helper()
	return d.lookUpIn(d.space(name), network, question, kind)
}

// space is a container's namespace.
func (d *dock) space(name string) string {
	d.t.Helper()
	return d.cloud.Name() + "-c-" + d.inspect(name, ".Id")[:12]
}

func (d *dock) lookUpIn(space, network, question string, kind uint16) string {
	d.t.Helper()
	ns := must[*netns.NS](d.t)(netns.Open(space))
	defer ns.Close()
	var a *dns.Msg
	err := ns.Do(func() (err error) {
		c := &dns.Client{Net: network, Timeout: 5 * time.Second}
		a, _, err = c.Exchange(new(dns.Msg).SetQuestion(dns.Fqdn(question), kind), "127.0.0.11:53")
		return err
	})
	if err != nil {
		return err.Error()
	}
	var out []string
	for _, rr := range a.Answer {
		out = append(out, strings.TrimPrefix(rr.String(), rr.Header().String()))
	}
	slices.Sort(out)
	if a.Rcode != dns.RcodeSuccess {
		out = append(out, dns.RcodeToString[a.Rcode])
	}
	return strings.Join(out, " ")
}

func testNames(t *testing.T, d *dock) {
	d.network("front")
	d.network("back")
	d.start("web", "--network", "front", "--network-alias", "www", "--hostname", "box")
	d.start("api1", "--network", "front", "--network-alias", "api")
	d.start("api2", "--network", "front", "--network-alias", "api")
	d.start("client", "--network", "front", "--link", "api2:db")
	d.start("db", "--network", "back")
	d.start("plain")
	web, one, two := d.addr("web", "front"), d.addr("api1", "front"), d.addr("api2", "front")
	both := strings.Join(slices.Sorted(slices.Values([]string{one, two})), " ")
	reverse := must[string](t)(dns.ReverseAddr(web))
	for _, c := range []struct {
		name string
		kind uint16
		want string
	}{
		{"web", dns.TypeA, web}, {"WEB", dns.TypeA, web}, {"www", dns.TypeA, web}, {"box", dns.TypeA, web}, {d.inspect("web", ".Id")[:12], dns.TypeA, web}, {"web.front", dns.TypeA, web},
		{"web", dns.TypeAAAA, ""}, {"api", dns.TypeA, both}, {"db", dns.TypeA, two}, {reverse, dns.TypePTR, "web.front."},
	} {
		for _, network := range []string{"udp", "tcp"} {
			if got := d.lookUp("client", network, c.name, c.kind); got != c.want {
				t.Errorf("%s %s over %s: %q, want %q", c.name, dns.TypeToString[c.kind], network, got, c.want)
			}
		}
	}
	if got := d.lookUp("web", "udp", "db", dns.TypeA); got == d.addr("db", "back") || got == two {
		t.Errorf("of another network, and by another's link: %q", got)
	}
	if out := d.sh("client", "busybox nslookup web"); !strings.Contains(out, "Address: "+web) {
		t.Errorf("by the container's own means: %s", out)
	}
	if out := d.sh("plain", "cat /etc/resolv.conf"); strings.Contains(out, "127.0.0.11") {
		t.Errorf("on the bridge that is always there: %s", out)
	}
	d.must("rename", "web", "net")
	if a, b := d.lookUp("client", "udp", "net", dns.TypeA), d.lookUp("client", "udp", reverse, dns.TypePTR); a != web || b != "net.front." {
		t.Errorf("after a rename: %q, %q", a, b)
	}
	d.must("stop", "-t", "0", "api1")
	if got := d.lookUp("client", "udp", "api", dns.TypeA); got != two {
		t.Errorf("after one has stopped: %q", got)
	}
	// A program of the container may have port 53 for itself.
	if out := d.sh("client", "(echo mine | busybox nc -l -p 53 &) ; sleep 0.3; busybox nc 127.0.0.1 53; busybox nslookup api2"); !strings.Contains(out, "mine") || !strings.Contains(out, "Address: "+two) {
		t.Errorf("with a server of its own: %s", out)
	}
	d.must("rm", "-f", "net")
}

// testUpstream has a name server in a container.
func testUpstream(t *testing.T, d *dock) {
	d.network("front")
	d.network("closed", "--internal")
	d.start("upstream", "--network", "front")
	at := d.addr("upstream", "front")
	ns := must[*netns.NS](t)(netns.Open(d.space("upstream")))
	defer ns.Close()
	var pc net.PacketConn
	if err := ns.Do(func() (err error) { pc, err = net.ListenPacket("udp", at+":53"); return err }); err != nil {
		t.Fatal(err)
	}
	srv := &dns.Server{PacketConn: pc, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetReply(q)
		if q.Question[0].Name == "example.org." {
			m.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: "example.org.", Rrtype: dns.TypeA, Class: dns.ClassINET}, A: net.IPv4(192, 0, 2, 7)}}
		} else {
			m.Rcode = dns.RcodeNameError
		}
		w.WriteMsg(m)
	})}
	go srv.ActivateAndServe()
	defer srv.Shutdown()
	d.start("client", "--network", "front", "--dns", at)
	for name, want := range map[string]string{"example.org": "192.0.2.7", "nobody.example.org": "NXDOMAIN", "upstream": at} {
		if got := d.lookUp("client", "udp", name, dns.TypeA); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	d.start("inner", "--network", "closed")
	if got := d.lookUp("inner", "udp", "example.org", dns.TypeA); got != "SERVFAIL" {
		t.Errorf("from an internal network: %q", got)
	}
}

func testNetworkFiles(t *testing.T, d *dock) {
	d.network("front")
	d.start("given", "--network", "front", "--dns", "192.0.2.53", "--dns-search", "corp.example", "--dns-opt", "timeout:1", "--hostname", "web.corp.example",
		"--add-host", "printer:192.0.2.9", "--add-host", "six:2001:db8::9", "--add-host", "gate:host-gateway")
	if out := d.sh("given", "cat /etc/resolv.conf"); out != "nameserver 127.0.0.11\nsearch corp.example\noptions timeout:1 ndots:0" {
		t.Errorf("resolv.conf: %q", out)
	}
	hosts := d.sh("given", "cat /etc/hosts")
	for _, want := range []string{"127.0.0.1\tlocalhost", "192.0.2.9\tprinter", "2001:db8::9\tsix", "\tgate\n", d.addr("given", "front") + "\tweb.corp.example web"} {
		if !strings.Contains(hosts+"\n", want) {
			t.Errorf("hosts has no %q: %s", want, hosts)
		}
	}
	if out := d.sh("given", "hostname; cat /etc/hostname"); out != "web.corp.example\nweb.corp.example" {
		t.Errorf("host name: %q", out)
	}
	if out := d.must("run", "--rm", "--dns", "192.0.2.53", "busybox", "cat", "/etc/resolv.conf"); !strings.HasPrefix(out, "nameserver 192.0.2.53") {
		t.Errorf("on the default bridge: %q", out)
	}
	l := must[net.Listener](t)(net.Listen("tcp", "0.0.0.0:0"))
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			io.WriteString(c, "of the host\n")
			c.Close()
		}
	}()
	if out := d.sh("given", fmt.Sprintf("busybox nc gate %d", l.Addr().(*net.TCPAddr).Port)); out != "of the host" {
		t.Errorf("the host by host-gateway: %q", out)
	}
}

func testJoined(t *testing.T, d *dock) {
	d.network("front")
	d.start("web", append([]string{"--network", "front"}, serving...)...)
	d.start("other", "--network", "front")
	d.start("sidecar", "--network", "container:web")
	if out := d.sh("sidecar", "ip -4 -o addr show eth0 | grep -c "+d.addr("web", "front")+"; hostname; busybox nslookup other"); !strings.HasPrefix(out, "1\n"+d.inspect("web", ".Id")[:12]) || !strings.Contains(out, d.addr("other", "front")) {
		t.Errorf("on another's network: %s", out)
	}
	d.eventually("the other's port on the loopback", func() bool { return d.sh("sidecar", "nc 127.0.0.1 80") == "served" })
	if r := d.run(nil, "network", "connect", "bridge", "sidecar"); r.code == 0 || !strings.Contains(r.errs, "sharing network namespace") {
		t.Errorf("connecting it: %+v", r)
	}
}
