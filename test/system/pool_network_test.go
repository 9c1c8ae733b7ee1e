package system

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/layer3/floatingips"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/layer3/routers"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/security/rules"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/networks"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/ports"

	"github.com/strata-cloud/strata/internal/wait"
)

// reached gives every server a floating IP and reaches all of them, by SSH's
// greeting, from every host: by way of the one host that has their router's gateway.
func (p *pool) reached(c clients, ids []string) {
	p.Helper()
	ctx := p.Context()
	all := must[[]networks.Network](p)(func() ([]networks.Network, error) {
		pages, err := networks.List(c.network, networks.ListOpts{Name: "public"}).AllPages(ctx)
		if err != nil {
			return nil, err
		}
		return networks.ExtractNetworks(pages)
	}())
	router := must[*routers.Router](p)(routers.Create(ctx, c.network, routers.CreateOpts{Name: "r", GatewayInfo: &routers.GatewayInfo{NetworkID: all[0].ID}}).Extract())
	var addrs []string
	for i, id := range ids {
		port := must[[]ports.Port](p)(func() ([]ports.Port, error) {
			pages, err := ports.List(c.network, ports.ListOpts{DeviceID: id}).AllPages(ctx)
			if err != nil {
				return nil, err
			}
			return ports.ExtractPorts(pages)
		}())[0]
		if i == 0 {
			must[*routers.InterfaceInfo](p)(routers.AddInterface(ctx, c.network, router.ID, routers.AddInterfaceOpts{SubnetID: port.FixedIPs[0].SubnetID}).Extract())
			must[*rules.SecGroupRule](p)(rules.Create(ctx, c.network, rules.CreateOpts{SecGroupID: port.SecurityGroups[0], Direction: "ingress", EtherType: "IPv4",
				Protocol: "tcp", PortRangeMin: 22, PortRangeMax: 22}).Extract())
		}
		fip := must[*floatingips.FloatingIP](p)(floatingips.Create(ctx, c.network, floatingips.CreateOpts{FloatingNetworkID: all[0].ID, PortID: port.ID}).Extract())
		addrs = append(addrs, fip.FloatingIP)
	}
	for _, h := range p.All {
		for _, a := range addrs {
			p.greets(fmt.Sprintf("%s from host %s", a, h.Name), func(ctx context.Context) string {
				out, _ := h.Command(ctx, "timeout", "5", "bash", "-c", "exec 3<>/dev/tcp/"+a+"/22 && head -c 4 <&3").Output()
				return string(out)
			})
		}
	}
}

func (p *pool) greets(what string, ask func(context.Context) string) {
	p.Helper()
	ctx, cancel := context.WithTimeout(p.Context(), time.Minute)
	defer cancel()
	err := wait.Until(ctx, "SSH at "+what, 200*time.Millisecond, func(ctx context.Context) (bool, error) {
		return strings.HasPrefix(ask(ctx), "SSH-"), nil
	})
	if err != nil {
		p.Error(err)
	}
}
