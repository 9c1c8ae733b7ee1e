package bridge

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/strata-cloud/strata/internal/netns"
)

// Resolver is where containers' name server is, as with dockerd.
var Resolver = netip.MustParseAddr("127.0.0.11")

// resolverTable is in containers' namespaces.
const resolverTable = "strata-resolver"

// ListenDNS opens the sockets of a container's name server. They are not on port 53,
// which programs of the container may want for themselves: what goes there is led to
// them. The sockets work from any namespace.
func (p *Plane) ListenDNS(id string) (pc net.PacketConn, l net.Listener, err error) {
	err = p.Do(id, func(ns *netns.NS) error {
		err := ns.Do(func() (err error) {
			if pc, err = net.ListenPacket("udp4", netip.AddrPortFrom(Resolver, 0).String()); err != nil {
				return err
			}
			if l, err = net.Listen("tcp4", netip.AddrPortFrom(Resolver, 0).String()); err != nil {
				return errors.Join(err, pc.Close())
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("listening for names: %w", err)
		}
		err = redirect(ns, map[byte]uint16{unix.IPPROTO_UDP: uint16(pc.LocalAddr().(*net.UDPAddr).Port), unix.IPPROTO_TCP: uint16(l.Addr().(*net.TCPAddr).Port)})
		if err != nil {
			return errors.Join(fmt.Errorf("leading questions for names: %w", err), pc.Close(), l.Close())
		}
		return nil
	})
	return pc, l, err
}

// redirect leads what goes to port 53 of the name server to these ports. Through
// netlink: a program is too slow at the start of every container.
func redirect(ns *netns.NS, ports map[byte]uint16) error {
	c, err := nftables.New(nftables.WithNetNSFd(ns.FD()))
	if err != nil {
		return err
	}
	t := &nftables.Table{Family: nftables.TableFamilyIPv4, Name: resolverTable}
	c.AddTable(t) // deleting what is not there would be an error
	c.DelTable(t)
	c.AddTable(t)
	accept := nftables.ChainPolicyAccept
	chain := c.AddChain(&nftables.Chain{Name: "output", Table: t, Type: nftables.ChainTypeNAT, Hooknum: nftables.ChainHookOutput, Priority: nftables.ChainPriorityNATDest, Policy: &accept})
	for proto, port := range ports {
		c.AddRule(&nftables.Rule{Table: t, Chain: chain, Exprs: []expr.Any{
			&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: 16, Len: 4},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: Resolver.AsSlice()},
			&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{proto}},
			&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.BigEndian.PutUint16(53)},
			&expr.Immediate{Register: 1, Data: Resolver.AsSlice()},
			&expr.Immediate{Register: 2, Data: binary.BigEndian.AppendUint16(nil, port)},
			&expr.NAT{Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: 1, RegProtoMin: 2},
		}})
	}
	return c.Flush()
}
