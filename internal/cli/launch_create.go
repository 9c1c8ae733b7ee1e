package cli

import (
	"context"
	"fmt"
	"regexp"

	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/flavors"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/keypairs"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/servers"
	"github.com/gophercloud/gophercloud/v2/openstack/image/v2/images"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/networks"
)

// createOptions turns names into ids and makes sure of the keypair.
func (l *launching) createOptions(ctx context.Context) (servers.CreateOptsBuilder, error) {
	data, err := l.o.readUserData()
	if err != nil {
		return nil, err
	}
	img, err := l.findImage(ctx, l.o.image)
	if err != nil {
		return nil, err
	}
	flavor, err := l.findFlavor(ctx, l.o.flavor)
	if err != nil {
		return nil, err
	}
	network, err := l.findNetwork(ctx, l.o.network)
	if err != nil {
		return nil, err
	}
	pair, err := l.keypair(ctx)
	if err != nil {
		return nil, err
	}
	if l.user = l.o.user; l.user == "" {
		l.user = adminUser(img)
	}
	return keypairs.CreateOptsExt{KeyName: pair, CreateOptsBuilder: servers.CreateOpts{Name: l.name, ImageRef: img.ID, FlavorRef: flavor,
		UserData: data, Networks: []servers.Network{{UUID: network}}}}, nil
}

// defaultUser logs in when an image does not say who does.
const defaultUser = "strata"

func adminUser(img *images.Image) string {
	if s, ok := img.Properties["os_admin_user"].(string); ok && s != "" {
		return s
	}
	return defaultUser
}

func (c *client) findImage(ctx context.Context, ref string) (*images.Image, error) {
	pages, err := images.List(c.imageAPI, images.ListOpts{Name: ref, Status: images.ImageStatusActive, Sort: "created_at:desc"}).AllPages(ctx)
	if err != nil {
		return nil, fmt.Errorf("finding image %s: %w", ref, err)
	}
	list, err := images.ExtractImages(pages)
	if err != nil {
		return nil, err
	}
	if len(list) > 0 {
		return &list[0], nil
	}
	if img, err := images.Get(ctx, c.imageAPI, ref).Extract(); err == nil {
		return img, nil
	}
	next := "see openstack image list"
	if ref == "tiny" {
		next = "make it with strata image build tiny"
	}
	return nil, usageError{fmt.Errorf("there is no image %s: %s", ref, next)}
}

func (c *client) findFlavor(ctx context.Context, ref string) (string, error) {
	pages, err := flavors.ListDetail(c.computeAPI, flavors.ListOpts{AccessType: flavors.PublicAccess}).AllPages(ctx)
	if err != nil {
		return "", fmt.Errorf("finding flavor %s: %w", ref, err)
	}
	list, err := flavors.ExtractFlavors(pages)
	if err != nil {
		return "", err
	}
	for _, f := range list {
		if f.Name == ref || f.ID == ref {
			return f.ID, nil
		}
	}
	return "", usageError{fmt.Errorf("there is no flavor %s: see openstack flavor list", ref)}
}

func (c *client) findNetwork(ctx context.Context, ref string) (string, error) {
	pages, err := networks.List(c.networkAPI, networks.ListOpts{Name: ref}).AllPages(ctx)
	if err != nil {
		return "", fmt.Errorf("finding network %s: %w", ref, err)
	}
	list, err := networks.ExtractNetworks(pages)
	if err != nil {
		return "", err
	}
	switch len(list) {
	case 0:
		if n, err := networks.Get(ctx, c.networkAPI, ref).Extract(); err == nil {
			return n.ID, nil
		}
		return "", usageError{fmt.Errorf("there is no network %s in this project: see openstack network list, or name one with --network", ref)}
	case 1:
		return list[0].ID, nil
	}
	return "", usageError{fmt.Errorf("%d networks are called %s: give the id of one", len(list), ref)}
}

// keypair makes sure that the cloud has our public key, under the name strata or,
// when that is taken by another key, one with the key's fingerprint in it.
func (l *launching) keypair(ctx context.Context) (string, error) {
	pages, err := keypairs.List(l.computeAPI, nil).AllPages(ctx)
	if err != nil {
		return "", fmt.Errorf("listing keypairs: %w", err)
	}
	list, err := keypairs.ExtractKeyPairs(pages)
	if err != nil {
		return "", err
	}
	name := "strata"
	for _, k := range list {
		if l.key.is(k.PublicKey) {
			return k.Name, nil
		}
		if k.Name == "strata" {
			name = "strata-" + l.key.short()
		}
	}
	if _, err := keypairs.Create(ctx, l.computeAPI, keypairs.CreateOpts{Name: name, PublicKey: l.key.authorized()}).Extract(); err != nil {
		return "", fmt.Errorf("adding keypair %s: %w", name, err)
	}
	l.undo("openstack keypair delete " + name)
	l.progress("keypair %s is %s", name, l.key.file)
	return name, nil
}

// serversNamed lists the project's servers of exactly that name.
func (c *client) serversNamed(ctx context.Context, name string) ([]servers.Server, error) {
	pages, err := servers.List(c.computeAPI, servers.ListOpts{Name: "^" + regexp.QuoteMeta(name) + "$"}).AllPages(ctx)
	if err != nil {
		return nil, fmt.Errorf("listing servers: %w", err)
	}
	list, err := servers.ExtractServers(pages)
	if err != nil {
		return nil, err
	}
	var out []servers.Server
	for _, s := range list {
		if s.Name == name || s.ID == name {
			out = append(out, s)
		}
	}
	return out, nil
}
