package nodeapi

import (
	"encoding/json"
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
}
