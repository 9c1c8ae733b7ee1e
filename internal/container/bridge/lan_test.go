package bridge

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/strata-cloud/strata/internal/needs"
	"github.com/strata-cloud/strata/internal/netns"
)

// farEnd makes a device of the host, and a machine at the other end of its cable.
func farEnd(t *testing.T, p *Plane, device string, at netip.Prefix) {
	t.Helper()
	far, _, err := netns.Ensure(p.name + "-far")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(far.Close(), netns.Remove(p.name+"-far")); err != nil {
			t.Error(err)
		}
	})
	h, err := p.host.Link()
	if err != nil {
		t.Fatal(err)
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = device
	if err := h.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "far0", PeerNamespace: netlink.NsFd(far.FD())}); err != nil {
		t.Fatal(err)
	}
	f, err := far.Link()
	if err != nil {
		t.Fatal(err)
	}
	own, err := h.LinkByName(device)
	if err != nil {
		t.Fatal(err)
	}
	other, err := f.LinkByName("far0")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(address(f, other, at), h.LinkSetUp(own), f.LinkSetUp(other)); err != nil {
		t.Fatal(err)
	}
	var l net.Listener
	if err := far.Do(func() (err error) { l, err = net.Listen("tcp", ":81"); return err }); err != nil {
		t.Fatal(err)
	}
	tellFrom(t, l, "far from ")
}

// TestLAN has containers on the network of a device of the host.
func TestLAN(t *testing.T) {
	p := world(t)
	at := netip.MustParsePrefix("10.9.0.1/24")
	farEnd(t, p, "lan0", at)
	lan := LAN{Parent: "lan0", Mode: netlink.MACVLAN_MODE_BRIDGE}
	if err := p.Check(lan); err != nil {
		needs.Missing(t, "%v", err)
	}
	if err := p.Check(LAN{Parent: "nothing"}); err == nil || !strings.Contains(err.Error(), "nothing") {
		t.Errorf("a device that is not there: %v", err)
	}
	n := Network{ID: id("a", 9), V4: Subnet{at.Masked(), at.Addr()}}
	ends := map[int]Endpoint{}
	for i := range 2 {
		e := Endpoint{ID: id("e", i), Network: n, Device: "eth0", Addr: netip.MustParseAddr(fmt.Sprintf("10.9.0.%d", i+7)), Sysctls: []string{"net.ipv4.conf.IFNAME.log_martians=1"}}
		e.MAC = MAC(e.Addr)
		for range 2 { // it may be repeated
			if err := errors.Join(p.Open(id("c", i), nil), p.Join(id("c", i), e, lan), p.Route(id("c", i), &e, nil)); err != nil {
				t.Fatal(err)
			}
		}
		ends[i] = e
	}
	serve(t, p, 1)
	if got := reach(from(p, 0), "10.9.0.8:80"); got != "from 10.9.0.7" {
		t.Errorf("from one to the other: %s", got)
	}
	if got := reach(from(p, 0), "10.9.0.1:81"); got != "far from 10.9.0.7" {
		t.Errorf("to the machine at the other end: %s", got)
	}
	err := p.Do(id("c", 0), func(ns *netns.NS) error {
		h, err := ns.Link()
		if err != nil {
			return err
		}
		eth, err := h.LinkByName("eth0")
		if err != nil {
			return err
		}
		if got := eth.Attrs().HardwareAddr.String(); got != ends[0].MAC.String() {
			t.Errorf("the device has the address %s", got)
		}
		routes, err := h.RouteList(eth, netlink.FAMILY_V4)
		if len(routes) != 2 {
			t.Errorf("routes: %v", routes)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	for range 2 {
		if err := p.Leave(id("c", 0), "eth0"); err != nil {
			t.Error(err)
		}
	}
	if got := reach(from(p, 0), "10.9.0.8:80"); got != "not reached" {
		t.Errorf("after it has left: %s", got)
	}
	if err := p.Leave(id("c", 7), "eth0"); err != nil {
		t.Errorf("a container that is not there: %v", err)
	}
}
