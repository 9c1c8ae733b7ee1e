package container

import (
	"net"

	"github.com/docker/docker/api/types/container"

	"github.com/strata-cloud/strata/internal/errs"
)

// checkNetMode refuses what contradicts the kind of network, in dockerd's words.
func checkNetMode(c *container.Config, h *container.HostConfig) error {
	mode := h.NetworkMode
	for _, e := range h.ExtraHosts {
		if _, _, err := extraHost(e); err != nil {
			return err
		}
	}
	if m, err := net.ParseMAC(macOf(c)); macOf(c) != "" && (err != nil || len(m) != 6) {
		return errs.Invalidf("invalid MAC address %s", macOf(c))
	}
	if mode.IsHost() && len(h.Links) > 0 {
		return errs.Invalidf("conflicting options: host type networking can't be used with links. This would result in undefined behavior")
	}
	if !mode.IsContainer() {
		return nil
	}
	for _, no := range []struct {
		bad  bool
		what string
	}{
		{c.Hostname != "", "conflicting options: hostname and the network mode"},
		{len(h.Links) > 0, "conflicting options: container type network can't be used with links. This would result in undefined behavior"},
		{len(h.DNS) > 0, "conflicting options: dns and the network mode"},
		{len(h.ExtraHosts) > 0, "conflicting options: custom host-to-IP mapping and the network mode"},
		{macOf(c) != "", "conflicting options: mac-address and the network mode"},
		{len(h.PortBindings) > 0 || h.PublishAllPorts, "conflicting options: port publishing and the container type network mode"},
	} {
		if no.bad {
			return errs.Invalidf("%s", no.what)
		}
	}
	return nil
}

// macOf is where clients before 1.44 ask for an address of the device.
func macOf(c *container.Config) string {
	return c.MacAddress //lint:ignore SA1019 they are served
}
