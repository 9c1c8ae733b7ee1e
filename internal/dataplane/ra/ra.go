// Package ra advertises a router to the hosts of a network (RFC 4861, RFC 8106):
// that it is there, which prefix to make addresses from, and whether to ask
// DHCPv6.
package ra

import (
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv6"

	"github.com/strata-cloud/strata/internal/netns"
	"github.com/strata-cloud/strata/internal/nodeapi"
)

// What we say in advertisements, and how often.
const (
	interval       = 30 * time.Second
	minSpacing     = 100 * time.Millisecond // between answers to solicitations
	routerLifetime = 300                    // seconds
	validLifetime  = 86400                  // seconds, of prefixes
	hopLimit       = 64
)

// Flags of the message and of a prefix.
const (
	flagManaged    = 0x80
	flagOther      = 0x40
	flagOnLink     = 0x80
	flagAutonomous = 0x40
)

// Advertisement is the ICMPv6 message of a router's leg into n, with a checksum
// of zero for the kernel to fill in; nil when no subnet of the leg wants one.
func Advertisement(n nodeapi.Network, l nodeapi.RouterInterface) []byte {
	var flags byte
	var options []byte
	for _, s := range n.Subnets {
		if s.IPv6RAMode == "" || !s.CIDR.Addr().Is6() || !slices.ContainsFunc(l.Addrs, func(a netip.Prefix) bool {
			return s.CIDR.Contains(a.Addr())
		}) {
			continue
		}
		prefix := byte(flagOnLink)
		switch s.IPv6RAMode {
		case "dhcpv6-stateful":
			flags |= flagManaged | flagOther
		case "dhcpv6-stateless":
			flags |= flagOther
			prefix |= flagAutonomous
		default:
			prefix |= flagAutonomous
		}
		options = append(options, prefixOption(s.CIDR, prefix)...)
		options = append(options, dnsOption(s.DNSServers)...)
	}
	if options == nil {
		return nil
	}
	msg := []byte{134, 0, 0, 0, hopLimit, flags}
	msg = binary.BigEndian.AppendUint16(msg, routerLifetime)
	msg = append(msg, 0, 0, 0, 0, 0, 0, 0, 0) // reachable time and retransmission: the host's own
	if mac, err := net.ParseMAC(l.MAC); err == nil {
		msg = append(append(msg, 1, 1), mac...)
	}
	if n.MTU > 0 {
		msg = binary.BigEndian.AppendUint32(append(msg, 5, 1, 0, 0), uint32(n.MTU))
	}
	return append(msg, options...)
}

func prefixOption(p netip.Prefix, flags byte) []byte {
	o := []byte{3, 4, byte(p.Bits()), flags}
	o = binary.BigEndian.AppendUint32(o, validLifetime)
	o = binary.BigEndian.AppendUint32(o, validLifetime)
	o = append(o, 0, 0, 0, 0)
	return append(o, p.Masked().Addr().AsSlice()...)
}

func dnsOption(servers []netip.Addr) []byte {
	var addrs []byte
	for _, a := range servers {
		if a.Is6() {
			addrs = append(addrs, a.AsSlice()...)
		}
	}
	if addrs == nil {
		return nil
	}
	o := []byte{25, byte(1 + len(addrs)/8), 0, 0}
	return append(binary.BigEndian.AppendUint32(o, routerLifetime*4), addrs...)
}

// Advertiser sends one device's advertisements.
type Advertiser struct {
	NS     *netns.NS
	Device string
	Index  int // of Device
	Log    *slog.Logger

	msg  atomic.Pointer[[]byte]
	kick chan struct{}
	conn *icmp.PacketConn
	stop chan struct{}
	wg   sync.WaitGroup
}

// Set changes what is advertised, and says so at once when it differs.
func (a *Advertiser) Set(msg []byte) {
	old := a.msg.Swap(&msg)
	if a.kick != nil && (old == nil || !slices.Equal(*old, msg)) {
		a.nudge()
	}
}

func (a *Advertiser) nudge() {
	select {
	case a.kick <- struct{}{}:
	default:
	}
}

// Start opens the socket and advertises until Close, every so often and when a
// host asks.
func (a *Advertiser) Start(ctx context.Context) error {
	err := a.NS.Do(func() (err error) {
		if a.conn, err = icmp.ListenPacket("ip6:ipv6-icmp", "::"); err != nil {
			return err
		}
		return a.prepare()
	})
	if err != nil {
		if a.conn != nil {
			a.conn.Close()
		}
		return fmt.Errorf("opening ICMPv6: %w", err)
	}
	a.kick, a.stop = make(chan struct{}, 1), make(chan struct{})
	a.wg.Go(a.listen)
	a.wg.Go(a.send)
	a.nudge()
	return nil
}

func (a *Advertiser) prepare() error {
	pc := a.conn.IPv6PacketConn()
	var only ipv6.ICMPFilter
	only.SetAll(true)
	only.Accept(ipv6.ICMPTypeRouterSolicitation)
	if err := pc.SetICMPFilter(&only); err != nil {
		return err
	}
	// Hosts accept neither message from further away than the link.
	if err := pc.SetMulticastHopLimit(255); err != nil {
		return err
	}
	if err := pc.SetControlMessage(ipv6.FlagInterface|ipv6.FlagHopLimit, true); err != nil {
		return err
	}
	ifi := &net.Interface{Index: a.Index, Name: a.Device}
	return pc.JoinGroup(ifi, &net.IPAddr{IP: net.IPv6linklocalallrouters})
}

// Close stops the advertiser and waits for it. It does not say goodbye: the
// router stays when only this process goes.
func (a *Advertiser) Close() error {
	if a.stop == nil {
		return nil
	}
	close(a.stop)
	err := a.conn.Close()
	a.wg.Wait()
	a.stop = nil
	return err
}

func (a *Advertiser) listen() {
	buf := make([]byte, 1500)
	for {
		n, cm, _, err := a.conn.IPv6PacketConn().ReadFrom(buf)
		if err != nil {
			return // closed
		}
		if n >= 8 && buf[0] == 133 && cm != nil && cm.IfIndex == a.Index && cm.HopLimit == 255 {
			a.nudge()
		}
	}
}

func (a *Advertiser) send() {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	// The zone by number: names are resolved in the host's namespace.
	all := &net.IPAddr{IP: net.IPv6linklocalallnodes, Zone: strconv.Itoa(a.Index)}
	cm := &ipv6.ControlMessage{IfIndex: a.Index, HopLimit: 255}
	pause := time.NewTimer(0)
	defer pause.Stop()
	for {
		select {
		case <-a.stop:
			return
		case <-tick.C:
		case <-a.kick:
		}
		select { // many hosts that ask get one answer
		case <-a.stop:
			return
		case <-pause.C:
		}
		pause.Reset(minSpacing)
		if _, err := a.conn.IPv6PacketConn().WriteTo(*a.msg.Load(), cm, all); err != nil {
			a.Log.Debug("advertising", "device", a.Device, "err", err)
		}
	}
}
