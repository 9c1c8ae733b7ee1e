package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/servers"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/external"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/layer3/floatingips"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/networks"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/ports"

	"github.com/strata-cloud/strata/internal/wait"
)

// poll is how often the cloud is asked while we wait.
const poll = 100 * time.Millisecond

// floatingIP gives the server's first port a floating IP, unless it has one.
func (l *launching) floatingIP(ctx context.Context) error {
	var port string
	err := wait.Until(ctx, "the port of server "+l.name, poll, func(ctx context.Context) (bool, error) {
		list, err := l.ports(ctx, l.server.ID)
		if err != nil || len(list) == 0 {
			return false, errorOr(err, l.stillHoping(ctx))
		}
		port = list[0].ID
		return true, nil
	})
	if err != nil {
		return err
	}
	if l.addr, err = l.floatingOf(ctx, []string{port}); err != nil || l.addr != "" {
		return err
	}
	public, err := l.externalNetwork(ctx)
	if err != nil {
		return err
	}
	f, err := floatingips.Create(ctx, l.networkAPI, floatingips.CreateOpts{FloatingNetworkID: public, PortID: port}).Extract()
	if err != nil {
		return fmt.Errorf("making a floating IP: %w", err)
	}
	l.addr = f.FloatingIP
	l.undo("openstack floating ip delete " + f.FloatingIP)
	return nil
}

func errorOr(err, other error) error {
	if err != nil {
		return err
	}
	return other
}

// stillHoping is an error once the server has failed.
func (l *launching) stillHoping(ctx context.Context) error {
	s, err := servers.Get(ctx, l.computeAPI, l.server.ID).Extract()
	if err != nil {
		return fmt.Errorf("looking at server %s: %w", l.name, err)
	}
	l.server = s
	if s.Status == "ERROR" {
		return fmt.Errorf("server %s is in ERROR: %s", l.name, s.Fault.Message)
	}
	return nil
}

func (l *launching) waitActive(ctx context.Context) error {
	return wait.Until(ctx, "server "+l.name+" to be ACTIVE", poll, func(ctx context.Context) (bool, error) {
		err := l.stillHoping(ctx)
		return err == nil && l.server.Status == "ACTIVE", err
	})
}

func (c *client) ports(ctx context.Context, server string) ([]ports.Port, error) {
	pages, err := ports.List(c.networkAPI, ports.ListOpts{DeviceID: server}).AllPages(ctx)
	if err != nil {
		return nil, fmt.Errorf("listing the ports of server %s: %w", server, err)
	}
	return ports.ExtractPorts(pages)
}

// floatingOf gives the address of a floating IP that points to one of the ports, or "".
func (c *client) floatingOf(ctx context.Context, portIDs []string) (string, error) {
	pages, err := floatingips.List(c.networkAPI, floatingips.ListOpts{}).AllPages(ctx)
	if err != nil {
		return "", fmt.Errorf("listing floating IPs: %w", err)
	}
	list, err := floatingips.ExtractFloatingIPs(pages)
	if err != nil {
		return "", err
	}
	for _, f := range list {
		if f.PortID != "" && slices.Contains(portIDs, f.PortID) {
			return f.FloatingIP, nil
		}
	}
	return "", nil
}

// externalNetwork finds the network of floating IPs: the one called public, or the first.
func (c *client) externalNetwork(ctx context.Context) (string, error) {
	yes := true
	pages, err := networks.List(c.networkAPI, external.ListOptsExt{ListOptsBuilder: networks.ListOpts{}, External: &yes}).AllPages(ctx)
	if err != nil {
		return "", fmt.Errorf("finding the external network: %w", err)
	}
	list, err := networks.ExtractNetworks(pages)
	if err != nil {
		return "", err
	}
	if len(list) == 0 {
		return "", fmt.Errorf("there is no external network for floating IPs: use --no-floating-ip, or make one with openstack network create --external")
	}
	for _, n := range list {
		if n.Name == "public" {
			return n.ID, nil
		}
	}
	return list[0].ID, nil
}

// logIn waits until SSH takes our key, and runs a command to be sure.
func (l *launching) logIn(ctx context.Context) error {
	if l.user == "" {
		l.user = l.userOf(ctx)
	}
	hosts, err := l.knownHosts()
	if err != nil {
		return err
	}
	l.progress("waiting for SSH at %s@%s", l.user, l.addr)
	dial := sshDial{addr: l.addr, user: l.user, key: l.key, hostKey: hosts.check(hostAlias(l.server.ID))}
	var last error
	err = wait.Until(ctx, fmt.Sprintf("SSH at %s@%s", l.user, l.addr), 50*time.Millisecond, func(ctx context.Context) (bool, error) {
		last = dial.try(ctx)
		return last == nil, dial.hopeless(last)
	})
	if err != nil && last != nil && !strings.Contains(err.Error(), last.Error()) {
		return fmt.Errorf("%w; the last try said: %v", err, last)
	}
	return err
}

// userOf is who logs into the server, by its image.
func (l *launching) userOf(ctx context.Context) string {
	if l.o.user != "" {
		return l.o.user
	}
	return l.imageUser(ctx, l.server)
}

func (c *client) imageUser(ctx context.Context, s *servers.Server) string {
	if id, ok := s.Image["id"].(string); ok {
		if img, err := c.findImage(ctx, id); err == nil {
			return adminUser(img)
		}
	}
	return defaultUser
}
