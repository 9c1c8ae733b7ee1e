package dataplane

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"

	"github.com/strata-cloud/strata/internal/dataplane/ifname"
	"github.com/strata-cloud/strata/internal/dataplane/nft"
	"github.com/strata-cloud/strata/internal/netns"
	"github.com/strata-cloud/strata/internal/nodeapi"
)

// forwardDir holds, for each host (by the inode of its network namespace) and
// each cloud on it that turned ip_forward on, what it was before any of them
// did. Like the setting itself it lasts until the machine restarts.
const forwardDir = "/run/strata/ip_forward"

const forwardKey = "net/ipv4/ip_forward"

// external finds the configuration of an external network.
func (p *Plane) external(n nodeapi.Network) (index int, ok bool) {
	for i, e := range p.cfg.External {
		if e.NetworkID == n.ID && e.NetworkID != "" {
			return i, true
		}
		if e.NetworkID == "" && slices.ContainsFunc(n.Subnets, func(s nodeapi.Subnet) bool {
			return s.CIDR.Masked() == e.CIDR.Masked()
		}) {
			return i, true
		}
	}
	return 0, false
}

// ensureExternal joins the host to the bridge of an external network.
func (p *Plane) ensureExternal(ctx context.Context, n nodeapi.Network) error {
	i, ok := p.external(n)
	if !ok {
		return nil // its servers and routers are here, its gateway is elsewhere
	}
	e, name := p.cfg.External[i], p.externalLink(i)
	host, err := p.host.Link()
	if err != nil {
		return err
	}
	node, err := p.node.Link()
	if err != nil {
		return err
	}
	link, err := host.LinkByName(name)
	inner, innerErr := node.LinkByName(name)
	if err == nil && innerErr != nil {
		if link.Attrs().Alias != hostAlias(p.cfg.Name) {
			return fmt.Errorf("the host has a link %s that is not ours", name)
		}
		if err := host.LinkDel(link); err != nil {
			return fmt.Errorf("removing half of %s: %w", name, err)
		}
	}
	if err != nil || innerErr != nil {
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.MTU = name, orDefault(n.MTU)
		err := host.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: name, PeerNamespace: netlink.NsFd(p.node.FD())})
		if err != nil {
			return fmt.Errorf("adding %s to the host: %w", name, err)
		}
		if link, err = host.LinkByName(name); err != nil {
			return err
		}
		if err := host.LinkSetAlias(link, hostAlias(p.cfg.Name)); err != nil {
			return fmt.Errorf("marking %s: %w", name, err)
		}
		if inner, err = node.LinkByName(name); err != nil {
			return err
		}
	}
	if err := plug(node, inner, ifname.Bridge(n.ID), orDefault(n.MTU)); err != nil {
		return err
	}
	if err := raise(host, link, orDefault(n.MTU)); err != nil {
		return err
	}
	if _, err := ensureAddrs(p.host, link, []netip.Prefix{netip.PrefixFrom(e.HostAddr, e.CIDR.Bits())}); err != nil {
		return err
	}
	return p.ensureMasquerade(ctx)
}

// ensureMasquerade lets servers reach the world through the host.
func (p *Plane) ensureMasquerade(ctx context.Context) error {
	if p.cfg.NoMasquerade || len(p.cfg.External) == 0 {
		return nil
	}
	t := nft.NewTable("inet", hostTable(p.cfg.Name))
	var rules []string
	for i, e := range p.cfg.External {
		if e.CIDR.Addr().Is4() {
			rules = append(rules, fmt.Sprintf("ip saddr %s oifname != %q masquerade", e.CIDR.Masked(), p.externalLink(i)))
		}
	}
	t.Chains["postrouting"] = nft.Chain{Hook: "type nat hook postrouting priority 100; policy accept", Rules: rules}
	if err := nft.Run(ctx, p.host, t.Replace()); err != nil {
		return err
	}
	return takeForward(p.host, p.cfg.Name)
}

// removeExternal removes host links whose external network is not wanted.
func (p *Plane) removeExternal(node *netlink.Handle) error {
	want := map[int]bool{}
	for _, n := range p.state.Networks {
		if i, ok := p.external(n); ok && n.External {
			want[i] = true
		}
	}
	var errs []error
	for i := range p.cfg.External {
		if link, err := node.LinkByName(p.externalLink(i)); err == nil && !want[i] {
			errs = append(errs, node.LinkDel(link))
		}
	}
	return errors.Join(errs...)
}

func hostTable(name string) string { return "strata-" + name }
func hostAlias(name string) string { return "strata cloud " + name }

// takeForward turns ip_forward on and remembers what it was.
func takeForward(host *netns.NS, name string) error {
	dir, err := forwardFiles(host)
	if err != nil {
		return err
	}
	file := filepath.Join(dir, name)
	if _, err := os.Stat(file); err != nil {
		before, err := os.ReadFile(filepath.Join("/proc/sys", forwardKey))
		if err != nil {
			return fmt.Errorf("reading ip_forward: %w", err)
		}
		// A neighbour that came earlier knows better what the host's own value was.
		if others, _ := filepath.Glob(filepath.Join(dir, "*")); len(others) > 0 {
			if b, err := os.ReadFile(others[0]); err == nil {
				before = b
			}
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("remembering ip_forward: %w", err)
		}
		if err := os.WriteFile(file, before, 0o644); err != nil {
			return fmt.Errorf("remembering ip_forward: %w", err)
		}
	}
	return host.Sysctl(forwardKey, "1")
}

// giveForward restores ip_forward when this cloud was the last to need it.
func giveForward(host *netns.NS, name string) error {
	dir, err := forwardFiles(host)
	if err != nil {
		return err
	}
	file := filepath.Join(dir, name)
	before, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("what ip_forward was: %w", err)
	}
	if others, _ := filepath.Glob(filepath.Join(dir, "*")); len(others) == 1 {
		if err := host.Sysctl(forwardKey, strings.TrimSpace(string(before))); err != nil {
			return err
		}
	}
	if err := os.Remove(file); err != nil {
		return fmt.Errorf("forgetting ip_forward: %w", err)
	}
	for _, d := range []string{dir, forwardDir, filepath.Dir(forwardDir)} {
		os.Remove(d) // when empty
	}
	return nil
}

func forwardFiles(host *netns.NS) (string, error) {
	ino, err := host.Inode()
	return filepath.Join(forwardDir, strconv.FormatUint(ino, 10)), err
}
