package dataplane

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

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
			if err := unix.Sendto(fd, arpRequest(hw, a.Addr(), a.Addr()), 0, to); err != nil {
				errs = append(errs, fmt.Errorf("announcing %s on %s: %w", a.Addr(), device, err))
			}
		}
		return errors.Join(errs...)
	})
}

// arpRequest asks everyone for target; a host that asks for its own address
// announces it.
func arpRequest(mac net.HardwareAddr, own, target netip.Addr) []byte {
	from, to := own.As4(), target.As4()
	f := make([]byte, 0, 42)
	f = append(f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff)
	f = append(f, mac...)
	f = append(f, 0x08, 0x06)                   // EtherType ARP
	f = append(f, 0, 1, 0x08, 0x00, 6, 4, 0, 1) // Ethernet, IPv4, request
	f = append(append(f, mac...), from[:]...)   // sender
	return append(append(f, 0, 0, 0, 0, 0, 0), to[:]...)
}

const arpTimeout = 500 * time.Millisecond

// resolve asks by ARP who has an address on a device, whatever the neighbour
// table says.
func resolve(ns *netns.NS, device string, addr netip.Addr) (net.HardwareAddr, error) {
	var mac net.HardwareAddr
	err := ns.Do(func() error {
		ifi, err := net.InterfaceByName(device)
		if err != nil {
			return fmt.Errorf("asking on %s: %w", device, err)
		}
		own, err := firstIPv4(ifi)
		if err != nil {
			return err
		}
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, htons0806)
		if err != nil {
			return fmt.Errorf("asking on %s: %w", device, err)
		}
		defer unix.Close(fd)
		at := &unix.SockaddrLinklayer{Protocol: htons0806, Ifindex: ifi.Index, Halen: 6}
		if err := unix.Bind(fd, at); err != nil {
			return fmt.Errorf("asking on %s: %w", device, err)
		}
		if err := unix.Sendto(fd, arpRequest(ifi.HardwareAddr, own, addr), 0, at); err != nil {
			return fmt.Errorf("asking for %s on %s: %w", addr, device, err)
		}
		mac, err = awaitARP(fd, addr)
		return err
	})
	return mac, err
}

func awaitARP(fd int, addr netip.Addr) (net.HardwareAddr, error) {
	ip, buf := addr.As4(), make([]byte, 128)
	deadline := time.Now().Add(arpTimeout)
	for left := arpTimeout; left > 0; left = time.Until(deadline) {
		tv := unix.NsecToTimeval(left.Nanoseconds())
		if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv); err != nil {
			return nil, err
		}
		n, _, err := unix.Recvfrom(fd, buf, 0)
		if err == nil && n >= 42 && buf[21] == 2 && bytes.Equal(buf[28:32], ip[:]) {
			return net.HardwareAddr(bytes.Clone(buf[22:28])), nil
		}
	}
	return nil, fmt.Errorf("nobody answers for %s", addr)
}

func firstIPv4(ifi *net.Interface) (netip.Addr, error) {
	addrs, err := ifi.Addrs()
	if err != nil {
		return netip.Addr{}, fmt.Errorf("addresses of %s: %w", ifi.Name, err)
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil && !n.IP.IsLinkLocalUnicast() {
			return addrOf(n.IP), nil
		}
	}
	return netip.Addr{}, fmt.Errorf("%s has no IPv4 address", ifi.Name)
}
