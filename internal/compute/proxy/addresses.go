package proxy

import (
	"context"
	"net/netip"

	"github.com/google/uuid"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/rest"
)

// Addresses is what this API needs of the network service.
type Addresses interface {
	// Networks lists those that the caller may see.
	Networks(ctx context.Context, r *rest.Request) ([]Network, error)
	Network(ctx context.Context, r *rest.Request, id string) (*Network, error)
	// FloatingIPs lists the caller's project's.
	FloatingIPs(ctx context.Context, r *rest.Request) ([]FloatingIP, error)
	FloatingIP(ctx context.Context, r *rest.Request, id string) (*FloatingIP, error)
	// FloatingIPNamed finds one by its address. Conflict: there are several.
	FloatingIPNamed(ctx context.Context, r *rest.Request, address string) (*FloatingIP, error)
	Allocate(ctx context.Context, r *rest.Request, network string) (*FloatingIP, error)
	Release(ctx context.Context, r *rest.Request, id string) error
	// Map maps a floating IP to an address of a port; a port "" maps it to nothing.
	Map(ctx context.Context, r *rest.Request, id, port, fixed string) error
	// AddAddress gives a port one more address; DropAddress takes one.
	AddAddress(ctx context.Context, r *rest.Request, port string) error
	DropAddress(ctx context.Context, r *rest.Request, port, address string) error
}

// Network is what compute shows of a network.
type Network struct {
	ID, Name string
	External bool
}

// FloatingIP is what compute shows of a floating IP.
type FloatingIP struct {
	ID             string
	Address, Fixed netip.Addr
	Pool           string
	PortID, Device string // Device is the server's id
}

// Port is a port of a server.
type Port struct {
	ID, NetworkID string
	FixedIPs      []netip.Addr
}

// AddressProxy shows the network service's networks and floating IPs.
type AddressProxy struct {
	Addresses Addresses
	// Ports lists the ports of the server of the request's path, if the caller may
	// act on it; change: and change it although it may be locked.
	Ports func(r *rest.Request, change bool) ([]Port, error)
	// Owner gives the project of a server that the caller may know of.
	Owner func(r *rest.Request, server string) (project string, err error)
}

// Routes are the proxy's rows of the compute API.
func (p *AddressProxy) Routes() []rest.Route {
	const ip, nets, rule = "/os-floating-ips", "/os-networks", "os_compute_api:"
	row := func(method, path, policy string, body []rest.Schema, h rest.Handler) rest.Route {
		return rest.Route{Method: method, Path: path, Policy: rule + policy, Max: lastProxy, Body: body, Handle: h}
	}
	act := func(key, policy, value string, h rest.Handler) rest.Route {
		return rest.Route{Method: "POST", Path: "/servers/{id}/action", Action: key, Policy: rule + policy, Max: lastAddress, Body: loose(key, value), Handle: h}
	}
	const v4 = `{"type":"string","format":"ipv4"}`
	const address = `{"type":"object","properties":{"address":{"type":"string","anyOf":[{"format":"ipv4"},{"format":"ipv6"}]}},"required":["address"],"additionalProperties":false}`
	pool := rest.SchemaOf(`{"anyOf":[{"type":"null"},{"type":"object","properties":{"pool":{"type":["string","null"]}}}]}`)
	return []rest.Route{
		row("GET", ip, "os-floating-ips:list", nil, p.listFloating), row("POST", ip, "os-floating-ips:create", []rest.Schema{pool}, p.allocate),
		row("GET", ip+"/{ip}", "os-floating-ips:show", nil, p.showFloating), row("DELETE", ip+"/{ip}", "os-floating-ips:delete", nil, p.release),
		row("GET", "/os-floating-ip-pools", "os-floating-ip-pools", nil, p.listPools),
		row("GET", nets, "os-networks:list", nil, p.listNetworks(networkView)), row("GET", nets+"/{network}", "os-networks:show", nil, p.showNetwork(networkView)),
		row("GET", "/os-tenant-networks", "os-tenant-networks:list", nil, p.listNetworks(tenantView)),
		row("GET", "/os-tenant-networks/{network}", "os-tenant-networks:show", nil, p.showNetwork(tenantView)),
		act("addFloatingIp", "os-floating-ips:add", `{"type":"object","properties":{"address":`+v4+`,"fixed_address":`+v4+`},"required":["address"]}`, p.addFloating),
		act("removeFloatingIp", "os-floating-ips:remove", `{"type":"object","properties":{"address":`+v4+`},"required":["address"]}`, p.removeFloating),
		act("addFixedIp", "os-multinic:add", `{"type":"object","properties":{"networkId":{"type":["string","integer"],"minLength":1}},"required":["networkId"],"additionalProperties":false}`, p.addFixed),
		act("removeFixedIp", "os-multinic:remove", address, p.removeFixed),
	}
}

func (p *AddressProxy) listNetworks(view func(*rest.Request, *Network) map[string]any) rest.Handler {
	return func(ctx context.Context, r *rest.Request) (*rest.Response, error) {
		list, err := p.Addresses.Networks(ctx, r)
		if err != nil {
			return nil, err
		}
		views := make([]any, len(list))
		for i := range list {
			views[i] = view(r, &list[i])
		}
		return rest.JSON(200, map[string]any{"networks": views}), nil
	}
}

func (p *AddressProxy) showNetwork(view func(*rest.Request, *Network) map[string]any) rest.Handler {
	return func(ctx context.Context, r *rest.Request) (*rest.Response, error) {
		n, err := p.Addresses.Network(ctx, r, r.Path("network"))
		if errs.Is(err, errs.NotFound) {
			return nil, errs.NotFoundf("Network not found")
		} else if err != nil {
			return nil, err
		}
		return rest.JSON(200, map[string]any{"network": view(r, n)}), nil
	}
}

// networkView has two facts, and null for what nova's own network service knew
// (nova/api/openstack/compute/networks.py, network_dict).
func networkView(r *rest.Request, n *Network) map[string]any {
	view := map[string]any{"id": n.ID, "label": n.Name}
	for _, key := range []string{"cidr", "netmask", "gateway", "broadcast", "dns1", "dns2", "cidr_v6", "gateway_v6", "netmask_v6"} {
		view[key] = nil
	}
	if r.Creds.Admin() {
		for _, key := range []string{"created_at", "updated_at", "deleted_at", "deleted", "injected", "bridge", "vlan", "vpn_public_address", "vpn_public_port",
			"vpn_private_address", "dhcp_start", "project_id", "host", "bridge_interface", "multi_host", "priority", "rxtx_base", "mtu", "dhcp_server",
			"enable_dhcp", "share_address"} {
			view[key] = nil
		}
	}
	return view
}

// tenantView has text where there is no range of addresses, as upstream has.
func tenantView(_ *rest.Request, n *Network) map[string]any {
	return map[string]any{"id": n.ID, "cidr": "None", "label": n.Name}
}

func (p *AddressProxy) pools(ctx context.Context, r *rest.Request) ([]Network, error) {
	list, err := p.Addresses.Networks(ctx, r)
	if err != nil {
		return nil, err
	}
	out := []Network{}
	for _, n := range list {
		if n.External {
			out = append(out, n)
		}
	}
	return out, nil
}

// poolNamed finds an external network by id or name; without either, the first.
func (p *AddressProxy) poolNamed(ctx context.Context, r *rest.Request, name string) (string, error) {
	list, err := p.pools(ctx, r)
	if err != nil {
		return "", err
	}
	_, err = uuid.Parse(name)
	for _, n := range list {
		if name == "" || err == nil && n.ID == name || err != nil && n.Name == name {
			return n.ID, nil
		}
	}
	return "", errs.NotFoundf("Floating IP pool not found.")
}

func (p *AddressProxy) listPools(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	list, err := p.pools(ctx, r)
	if err != nil {
		return nil, err
	}
	views := make([]any, len(list))
	for i, n := range list {
		if views[i] = map[string]string{"name": n.Name}; n.Name == "" {
			views[i] = map[string]string{"name": n.ID}
		}
	}
	return rest.JSON(200, map[string]any{"floating_ip_pools": views}), nil
}
