package dhcp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"syscall"

	"github.com/insomniacslk/dhcp/dhcpv6"
	"golang.org/x/sys/unix"

	"github.com/strata-cloud/strata/internal/dataplane/segment"
	"github.com/strata-cloud/strata/internal/netns"
)

// Server6 answers DHCPv6 on one device.
type Server6 struct {
	View   func() *segment.Segment
	NS     *netns.NS // where Device is
	Device string
	Log    *slog.Logger

	conn *net.UDPConn
	zone string // Device's index: a name would be resolved in the host's namespace
	done chan struct{}
}

// Start joins the servers' group (ff02::1:2); from then on messages are
// answered until Close.
func (s *Server6) Start(ctx context.Context) error {
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		return control(c, func(fd int) error {
			ifi, err := net.InterfaceByName(s.Device)
			if err != nil {
				return err
			}
			s.zone = strconv.Itoa(ifi.Index)
			group := &unix.IPv6Mreq{Interface: uint32(ifi.Index)}
			group.Multiaddr = netip.MustParseAddr("ff02::1:2").As16()
			return errors.Join(
				unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1),
				unix.BindToDevice(fd, s.Device),
				unix.SetsockoptIPv6Mreq(fd, unix.IPPROTO_IPV6, unix.IPV6_JOIN_GROUP, group))
		})
	}}
	err := s.NS.Do(func() error {
		pc, err := lc.ListenPacket(ctx, "udp6", "[::]:547")
		if err == nil {
			s.conn = pc.(*net.UDPConn)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("listening for DHCPv6 on %s: %w", s.Device, err)
	}
	s.done = make(chan struct{})
	go s.loop()
	return nil
}

// Close stops the server and waits for it.
func (s *Server6) Close() error {
	if s.conn == nil {
		return nil
	}
	err := s.conn.Close()
	<-s.done
	return err
}

func (s *Server6) loop() {
	defer close(s.done)
	buf := make([]byte, 4096)
	for {
		n, from, err := s.conn.ReadFromUDPAddrPort(buf)
		if err != nil {
			return // closed
		}
		req, err := dhcpv6.MessageFromBytes(buf[:n])
		if err != nil || !from.Addr().IsLinkLocalUnicast() {
			continue // anyone on the network may send garbage
		}
		seg := s.View()
		mac, err := net.ParseMAC(seg.Network.ServiceMAC)
		if err != nil {
			continue
		}
		r, err := Reply6(seg, req, from.Addr(), mac)
		if err == nil && r != nil {
			_, err = s.conn.WriteToUDPAddrPort(r.ToBytes(), netip.AddrPortFrom(from.Addr().WithZone(s.zone), from.Port()))
		}
		if err != nil {
			s.Log.Warn("answering DHCPv6", "from", from.String(), "err", err)
		}
	}
}
