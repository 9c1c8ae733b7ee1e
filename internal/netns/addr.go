package netns

import (
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
)

// HasAddr tells whether a device has an address, whatever its prefix is.
func HasAddr(h *netlink.Handle, link netlink.Link, want netip.Addr) bool {
	list, err := h.AddrList(link, netlink.FAMILY_ALL)
	return err == nil && slices.ContainsFunc(list, func(a netlink.Addr) bool { return a.IP.Equal(want.AsSlice()) })
}
