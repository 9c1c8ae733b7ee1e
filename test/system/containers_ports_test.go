package system

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/strata-cloud/strata/internal/netns"
)

func testPorts(t *testing.T, d *dock) {
	d.network("front")
	tcp, udp := freeTCP(t), freeTCP(t)
	d.start("web", "--network", "front", "-p", tcp+":80", "-p", udp+":7/udp", "-P", "--expose", "81", "busybox", "sh", "-c", "while :; do echo served | nc -l -p 80; done")
	echo(t, d.space("web"))
	d.start("client")
	d.eventually("the port on the loopback", func() bool { return dial("127.0.0.1:"+tcp) == "served\n" })
	gate := strings.Fields(d.must("run", "--rm", "--add-host", "gate:host-gateway", "busybox", "grep", "gate", "/etc/hosts"))[0]
	d.eventually("the port from another network, by the host's address", func() bool { return d.sh("client", "nc -w 3 "+gate+" "+tcp) == "served" })
	d.eventually("the port from itself, by the host's address", func() bool { return d.sh("web", "nc -w 3 "+gate+" "+tcp) == "served" })
	d.eventually("an echo over UDP", func() bool { return echoUDP("127.0.0.1:"+udp) == "hello" })
	out := d.must("port", "web")
	for _, want := range []string{"80/tcp -> 0.0.0.0:" + tcp, "7/udp -> 0.0.0.0:" + udp, "81/tcp -> 0.0.0.0:"} {
		if !strings.Contains(out, want) {
			t.Errorf("port has no %q: %s", want, out)
		}
	}
	first := must[netip.AddrPort](t)(netip.ParseAddrPort("127.0.0.1:" + freeTCP(t))).Port()
	if first > 65000 {
		first = 40000
	}
	d.start("ranged", "-p", fmt.Sprintf("127.0.0.2:%d-%d:8000-8002", first, first+2), "-p", fmt.Sprintf("127.0.0.3:%d-%d:80", first, first+5), "busybox", "sh", "-c", "while :; do echo served | nc -l -p 8001; done")
	d.eventually("the middle of a range", func() bool { return dial(fmt.Sprintf("127.0.0.2:%d", first+1)) == "served\n" })
	if got := dial(fmt.Sprintf("127.0.0.1:%d", first+1)); got == "served\n" {
		t.Error("a port of 127.0.0.2 answers on 127.0.0.1")
	}
	if out := d.must("port", "ranged", "80/tcp"); out != fmt.Sprintf("127.0.0.3:%d", first) {
		t.Errorf("the first of a range: %q", out)
	}
	// Ports follow the way out.
	d.network("a-first")
	d.must("network", "connect", "a-first", "web")
	d.eventually("the port by the new way", func() bool { return dial("127.0.0.1:"+tcp) == "served\n" })
	d.must("network", "disconnect", "front", "web")
	d.eventually("the port by the way that is left", func() bool { return dial("127.0.0.1:"+tcp) == "served\n" })
	d.must("stop", "-t", "0", "web")
	if got := dial("127.0.0.1:" + tcp); got == "served\n" {
		t.Error("the port of a stopped container answers")
	}
}

// echo answers what comes to a container's port 7 over UDP.
func echo(t *testing.T, space string) {
	ns := must[*netns.NS](t)(netns.Open(space))
	defer ns.Close()
	var pc net.PacketConn
	if err := ns.Do(func() (err error) { pc, err = net.ListenPacket("udp", ":7"); return err }); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pc.Close() })
	go func() {
		b := make([]byte, 64)
		for {
			n, from, err := pc.ReadFrom(b)
			if err != nil {
				return
			}
			pc.WriteTo(b[:n], from)
		}
	}()
}

func echoUDP(addr string) string {
	c, err := net.Dial("udp", addr)
	if err != nil {
		return err.Error()
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(time.Second))
	if _, err := c.Write([]byte("hello")); err != nil {
		return err.Error()
	}
	b := make([]byte, 64)
	n, err := c.Read(b)
	if err != nil {
		return err.Error()
	}
	return string(b[:n])
}

func testTakenPorts(t *testing.T, d *dock) {
	l := must[net.Listener](t)(net.Listen("tcp", "127.0.0.1:0"))
	defer l.Close()
	_, host, _ := net.SplitHostPort(l.Addr().String())
	if r := d.run(nil, "run", "--rm", "-p", "127.0.0.1:"+host+":80", "busybox", "true"); r.code != 125 || !strings.Contains(r.errs, "address already in use") {
		t.Errorf("a port of the host's: %+v", r)
	}
	port := freeTCP(t)
	d.start("web", "-p", "127.0.0.1:"+port+":80")
	if r := d.run(nil, "run", "--rm", "-p", port+":80", "busybox", "true"); r.code != 125 || !strings.Contains(r.errs, "Bind for 0.0.0.0:"+port+" failed: port is already allocated") {
		t.Errorf("a container's port, on all addresses: %+v", r)
	}
	d.must("run", "--rm", "-p", "127.0.0.4:"+port+":80", "busybox", "true") // another address
	d.must("run", "--rm", "-p", "127.0.0.1:"+port+":80/udp", "busybox", "true")
	d.must("rm", "-f", "web")
	d.must("run", "--rm", "-p", port+":80", "busybox", "true")
	if out := d.must("ps", "-aq"); out != "" {
		t.Errorf("refused containers are left: %s", out)
	}
}
