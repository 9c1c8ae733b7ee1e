package dataplane

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/strata-cloud/strata/internal/netns"
)

const htons0806 = 0x0608 // ETH_P_ARP in network order, as packet sockets want it

// announce tells the neighbours who has addresses now (gratuitous ARP, RFC 5227
// section 3), so that nobody keeps sending to who had them before.
func announce(ns *netns.NS, device, mac string, addrs []netip.Prefix) error {
	hw, err := net.ParseMAC(mac)
	if err != nil {
		return err
	}
	return ns.Do(func() error {
		var fd int
		var ifi *net.Interface
		var errs []error
		for _, a := range addrs {
			if !a.Addr().Is4() {
				continue
			}
			if fd == 0 {
				if ifi, err = net.InterfaceByName(device); err != nil {
					return fmt.Errorf("announcing on %s: %w", device, err)
				}
				if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
					return fmt.Errorf("announcing on %s: %w", device, err)
				}
				defer unix.Close(fd)
			}
			to := &unix.SockaddrLinklayer{Protocol: htons0806, Ifindex: ifi.Index, Halen: 6}
			if err := unix.Sendto(fd, gratuitousARP(hw, a.Addr()), 0, to); err != nil {
				errs = append(errs, fmt.Errorf("announcing %s on %s: %w", a.Addr(), device, err))
			}
		}
		return errors.Join(errs...)
	})
}

// gratuitousARP is a request by which a host names itself.
func gratuitousARP(mac net.HardwareAddr, addr netip.Addr) []byte {
	ip := addr.As4()
	f := make([]byte, 0, 42)
	f = append(f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff)
	f = append(f, mac...)
	f = append(f, 0x08, 0x06)                   // EtherType ARP
	f = append(f, 0, 1, 0x08, 0x00, 6, 4, 0, 1) // Ethernet, IPv4, request
	f = append(f, mac...)                       // sender
	f = append(f, ip[:]...)                     //
	f = append(f, 0, 0, 0, 0, 0, 0)             // target
	return append(f, ip[:]...)
}
