// Package ifname makes the names of a node's links from the ids of what they
// belong to. Link names hold 15 bytes; like upstream's agents we keep the first
// 11 characters of the id.
package ifname

// Tap is the device of a server's port.
func Tap(portID string) string { return "tap" + cut(portID) }

// Bridge is the bridge of a network.
func Bridge(networkID string) string { return "br-" + cut(networkID) }

// RouterInner is a router's leg inside the router's namespace, RouterOuter its
// other end on the bridge; GatewayInner and GatewayOuter are the same of the
// leg to the external network.
func RouterInner(portID string) string  { return "qr-" + cut(portID) }
func RouterOuter(portID string) string  { return "vr-" + cut(portID) }
func GatewayInner(portID string) string { return "qg-" + cut(portID) }
func GatewayOuter(portID string) string { return "vg-" + cut(portID) }

// ServiceInner is the device of a network's DHCP port inside the network's
// service namespace, ServiceOuter its other end on the bridge.
func ServiceInner(portID string) string { return "ns-" + cut(portID) }
func ServiceOuter(portID string) string { return "vs-" + cut(portID) }

// Overlay is the VXLAN port of a network's bridge, Transit the device on which
// a router's instances pass on what leaves by the gateway.
func Overlay(networkID string) string { return "vx-" + cut(networkID) }
func Transit(routerID string) string  { return "qt-" + cut(routerID) }

// VLAN is the device of a network's VLAN on a provider's device.
func VLAN(networkID string) string { return "vl-" + cut(networkID) }

func cut(id string) string { return id[:min(len(id), 11)] }
