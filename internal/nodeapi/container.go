package nodeapi

import (
	"encoding/json"
	"fmt"
	"net/netip"
)

// Container is a container of a project that a node's engine should have. The id is
// chosen by the control plane, which is how it is found again.
type Container struct {
	ID    string         `json:"id"`
	Name  string         `json:"name"` // on the node, where those of all projects meet
	Image ContainerImage `json:"image"`
	// Request is Docker's own of POST /containers/create, judged already.
	Request json.RawMessage `json:"request"`
	Ports   []ContainerPort `json:"ports"`
	// Replug has a container that is there get these ports; the rest is left open.
	Replug bool `json:"replug,omitempty"`
	// Volumes are those of block storage; the request names them by their ids.
	Volumes []ContainerVolume `json:"volumes,omitempty"`
}

// ContainerVolume is a volume of block storage that a container has mounted.
type ContainerVolume struct {
	ID   string `json:"id"`
	Name string `json:"name"` // that its user knows it by
	// Remote is how its data is reached, on the node that keeps it too; nil: as before.
	Remote   *Remote   `json:"remote,omitempty"`
	Limits   *IOLimits `json:"limits,omitempty"`
	ReadOnly bool      `json:"read_only,omitempty"`
}

// ContainerImage is an image of the region's registry, as it was found there.
type ContainerImage struct {
	Name      string `json:"name"` // a reference with a tag, under which the node keeps it
	Digest    string `json:"digest"`
	MediaType string `json:"media_type"`
	Size      int64  `json:"size"`
}

// ContainerPort is a port that a container has a device for.
type ContainerPort struct {
	ID       string         `json:"id"`
	MAC      string         `json:"mac"`
	MTU      int            `json:"mtu"`
	Addrs    []netip.Prefix `json:"addrs"`
	Gateways []netip.Addr   `json:"gateways"` // per family at most one
	Routes   []Route        `json:"routes"`
	DNS      []netip.Addr   `json:"dns"`
	Domain   string         `json:"domain"` // of the network's names
	Device   string         `json:"device"` // in the container; "": by its place among the ports
}

// IPv4 is the port's first address of IPv4.
func (p *ContainerPort) IPv4() (netip.Addr, error) {
	for _, a := range p.Addrs {
		if a.Addr().Is4() {
			return a.Addr(), nil
		}
	}
	return netip.Addr{}, fmt.Errorf("port %s has no IPv4 address", p.ID)
}

// In is the port's first address in a network; not valid: it has none there.
func (p *ContainerPort) In(network netip.Prefix) netip.Addr {
	for _, a := range p.Addrs {
		if network.Contains(a.Addr()) {
			return a.Addr()
		}
	}
	return netip.Addr{}
}
