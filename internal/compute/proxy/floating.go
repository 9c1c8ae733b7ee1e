package proxy

import (
	"context"
	"slices"

	"github.com/strata-cloud/strata/internal/compute/wire"
	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/policy"
	"github.com/strata-cloud/strata/internal/rest"
)

func (f *FloatingIP) view() map[string]any {
	v := map[string]any{"id": f.ID, "ip": f.Address.String(), "pool": f.Pool, "fixed_ip": nil, "instance_id": wire.OrNull(f.Device)}
	if f.Fixed.IsValid() {
		v["fixed_ip"] = f.Fixed.String()
	}
	return v
}

func (p *AddressProxy) listFloating(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	list, err := p.Addresses.FloatingIPs(ctx, r)
	if err != nil {
		return nil, err
	}
	views := make([]any, len(list))
	for i := range list {
		views[i] = list[i].view()
	}
	return rest.JSON(200, map[string]any{"floating_ips": views}), nil
}

func (p *AddressProxy) floating(ctx context.Context, r *rest.Request) (*FloatingIP, error) {
	f, err := p.Addresses.FloatingIP(ctx, r, r.Path("ip"))
	if errs.Is(err, errs.NotFound) {
		return nil, errs.NotFoundf("Floating IP not found for ID %s", r.Path("ip"))
	}
	return f, err
}

func (p *AddressProxy) showFloating(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	f, err := p.floating(ctx, r)
	if err != nil {
		return nil, err
	}
	return rest.JSON(200, map[string]any{"floating_ip": f.view()}), nil
}

func (p *AddressProxy) allocate(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	var b struct {
		Pool string `json:"pool"`
	}
	if len(r.Body()) > 0 {
		if err := r.Decode(&b); err != nil {
			return nil, err
		}
	}
	network, err := p.poolNamed(ctx, r, b.Pool)
	if err != nil {
		return nil, err
	}
	in := ""
	if b.Pool != "" {
		in = " in pool " + b.Pool
	}
	f, err := p.Addresses.Allocate(ctx, r, network)
	switch errs.KindOf(err) {
	case errs.QuotaExceeded:
		return nil, errs.Forbiddenf("IP allocation over quota%s.", in)
	case errs.Conflict, errs.NoCapacity:
		return nil, errs.NotFoundf("No more floating IPs%s.", in)
	}
	if err != nil {
		return nil, err
	}
	return rest.JSON(200, map[string]any{"floating_ip": f.view()}), nil
}

func (p *AddressProxy) release(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	f, err := p.floating(ctx, r)
	if err != nil {
		return nil, err
	}
	return rest.Empty(202), p.Addresses.Release(ctx, r, f.ID)
}

// addFloating maps a floating IP to the server, also one that maps to another. All
// that goes wrong but a missing address is the request's fault (floating_ips.py, _add_floating_ip).
func (p *AddressProxy) addFloating(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	var b struct {
		Add struct {
			Address string `json:"address"`
			Fixed   string `json:"fixed_address"`
		} `json:"addFloatingIp"`
	}
	if err := r.Decode(&b); err != nil {
		return nil, err
	}
	ports, err := p.Ports(r, false)
	if err != nil {
		return nil, err
	}
	port, fixed, err := target(ports, b.Add.Address, b.Add.Fixed, r.Path("id"))
	if err != nil {
		return nil, err
	}
	f, err := p.Addresses.FloatingIPNamed(ctx, r, b.Add.Address)
	if errs.Is(err, errs.NotFound) {
		return nil, errs.NotFoundf("floating IP not found")
	} else if err != nil {
		return nil, err
	}
	err = p.Addresses.Map(ctx, r, f.ID, port, fixed)
	switch errs.KindOf(err) {
	case errs.Conflict:
		return nil, errs.Invalidf("Floating IP %s association has failed.", b.Add.Address)
	case errs.NotFound, errs.Invalid:
		return nil, errs.Invalidf("Unable to associate floating IP %s to fixed IP %s for instance %s. Error: %s", b.Add.Address, fixed, r.Path("id"), err.Error())
	}
	return rest.Empty(202), err
}

// target finds the fixed address that a floating one shall map to.
func target(ports []Port, address, want, server string) (port, fixed string, err error) {
	if len(ports) == 0 {
		return "", "", errs.Invalidf("Instance network is not ready yet")
	}
	any := false
	for _, p := range ports {
		for _, ip := range p.FixedIPs {
			any = true
			if ip.String() == want || want == "" && ip.Is4() {
				return p.ID, ip.String(), nil
			}
		}
	}
	switch {
	case !any:
		return "", "", errs.Invalidf("No fixed IPs associated to instance")
	case want != "":
		return "", "", errs.Invalidf("Specified fixed address not assigned to instance")
	}
	return "", "", errs.Invalidf("Unable to associate floating IP %s to any fixed IPs for instance %s. Instance has no fixed IPv4 addresses to associate.", address, server)
}

func (p *AddressProxy) removeFloating(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	var b struct {
		Remove struct {
			Address string `json:"address"`
		} `json:"removeFloatingIp"`
	}
	if err := r.Decode(&b); err != nil {
		return nil, err
	}
	f, err := p.Addresses.FloatingIPNamed(ctx, r, b.Remove.Address)
	if errs.Is(err, errs.NotFound) {
		return nil, errs.NotFoundf("floating IP not found")
	} else if err != nil {
		return nil, err
	}
	if f.Device != "" {
		project, err := p.Owner(r, f.Device)
		if err != nil {
			return nil, err
		}
		if err := r.Enforce(policy.Target{"project_id": project}); err != nil {
			return nil, err
		}
	}
	if f.Device != r.Path("id") {
		return nil, errs.Conflictf("Floating IP %s is not associated with instance %s.", b.Remove.Address, r.Path("id"))
	}
	return rest.Empty(202), p.Addresses.Map(ctx, r, f.ID, "", "")
}

// addFixed gives the server's port in the network one more address.
func (p *AddressProxy) addFixed(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	var b struct {
		Add struct {
			Network any `json:"networkId"`
		} `json:"addFixedIp"`
	}
	if err := r.Decode(&b); err != nil {
		return nil, err
	}
	ports, err := p.Ports(r, true)
	if err != nil {
		return nil, err
	}
	network := wire.Text(b.Add.Network)
	i := slices.IndexFunc(ports, func(x Port) bool { return x.NetworkID == network })
	if i < 0 {
		return nil, errs.NotFoundf("Network could not be found for instance %s.", r.Path("id"))
	}
	err = p.Addresses.AddAddress(ctx, r, ports[i].ID)
	if errs.Is(err, errs.Conflict) || errs.Is(err, errs.NoCapacity) {
		return nil, errs.Invalidf("No fixed IP addresses available for network: %s", network)
	}
	return rest.Empty(202), err
}

func (p *AddressProxy) removeFixed(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	var b struct {
		Remove struct {
			Address string `json:"address"`
		} `json:"removeFixedIp"`
	}
	if err := r.Decode(&b); err != nil {
		return nil, err
	}
	ports, err := p.Ports(r, true)
	if err != nil {
		return nil, err
	}
	for _, x := range ports {
		for _, ip := range x.FixedIPs {
			if ip.String() == b.Remove.Address {
				return rest.Empty(202), p.Addresses.DropAddress(ctx, r, x.ID, ip.String())
			}
		}
	}
	return nil, errs.Invalidf("Fixed IP address (%s) not found for instance %s.", b.Remove.Address, r.Path("id"))
}
