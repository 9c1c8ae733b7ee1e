package dhcp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"syscall"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"golang.org/x/sys/unix"

	"github.com/strata-cloud/strata/internal/dataplane/segment"
	"github.com/strata-cloud/strata/internal/netns"
	"github.com/vishvananda/netlink"
)

// Server4 answers DHCPv4 on one device.
type Server4 struct {
	View   func() *segment.Segment // the network as it is now
	NS     *netns.NS               // where Device is
	Device string
	Log    *slog.Logger

	conn net.PacketConn
	done chan struct{}
}

// Start opens the socket; from then on messages are answered until Close.
func (s *Server4) Start(ctx context.Context) error {
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		return control(c, func(fd int) error {
			return errors.Join(
				unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1),
				unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_BROADCAST, 1),
				unix.BindToDevice(fd, s.Device))
		})
	}}
	err := s.NS.Do(func() (err error) {
		s.conn, err = lc.ListenPacket(ctx, "udp4", "0.0.0.0:67")
		return err
	})
	if err != nil {
		return fmt.Errorf("listening for DHCP on %s: %w", s.Device, err)
	}
	s.done = make(chan struct{})
	go s.loop()
	return nil
}

// Close stops the server and waits for it.
func (s *Server4) Close() error {
	if s.conn == nil {
		return nil
	}
	err := s.conn.Close()
	<-s.done
	return err
}

func (s *Server4) loop() {
	defer close(s.done)
	buf := make([]byte, 4096)
	for {
		n, _, err := s.conn.ReadFrom(buf)
		if err != nil {
			return // closed
		}
		req, err := dhcpv4.FromBytes(buf[:n])
		if err != nil {
			continue // anyone on the network may send garbage
		}
		if err := s.handle(req); err != nil {
			s.Log.Warn("answering DHCP", "mac", req.ClientHWAddr.String(), "err", err)
		}
	}
}

func (s *Server4) handle(req *dhcpv4.DHCPv4) error {
	r, err := Reply(s.View(), req)
	if err != nil || r == nil {
		return err
	}
	to, err := s.destination(req, r)
	if err != nil {
		return err
	}
	_, err = s.conn.WriteTo(r.ToBytes(), to)
	return err
}

// destination follows RFC 2131 4.1: to the address that the client has, else to
// the one that it gets, else to everyone. A client that is just getting its
// address does not answer ARP for it, so the neighbour entry is put in by hand.
func (s *Server4) destination(req, r *dhcpv4.DHCPv4) (*net.UDPAddr, error) {
	everyone := &net.UDPAddr{IP: net.IPv4bcast, Port: dhcpv4.ClientPort}
	switch {
	case r.MessageType() == dhcpv4.MessageTypeNak:
		return everyone, nil
	case !req.ClientIPAddr.IsUnspecified():
		return &net.UDPAddr{IP: req.ClientIPAddr, Port: dhcpv4.ClientPort}, nil
	case req.IsBroadcast() || r.YourIPAddr.IsUnspecified():
		return everyone, nil
	}
	nl, err := s.NS.Link()
	if err != nil {
		return nil, err
	}
	link, err := nl.LinkByName(s.Device)
	if err != nil {
		return nil, fmt.Errorf("device %s: %w", s.Device, err)
	}
	err = nl.NeighSet(&netlink.Neigh{
		LinkIndex: link.Attrs().Index, Family: unix.AF_INET, State: netlink.NUD_STALE,
		IP: r.YourIPAddr, HardwareAddr: req.ClientHWAddr,
	})
	if err != nil {
		return nil, fmt.Errorf("noting the client's address: %w", err)
	}
	return &net.UDPAddr{IP: r.YourIPAddr, Port: dhcpv4.ClientPort}, nil
}

func control(c syscall.RawConn, f func(fd int) error) error {
	var err error
	if cerr := c.Control(func(fd uintptr) { err = f(int(fd)) }); cerr != nil {
		return cerr
	}
	return err
}
