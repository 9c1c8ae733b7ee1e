package system

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/servers"
	"github.com/gophercloud/gophercloud/v2/openstack/image/v2/images"

	"github.com/strata-cloud/strata/internal/wait"
	"github.com/strata-cloud/strata/test/cloud"
)

// clients are the service clients of one user.
type clients struct {
	compute, network, image, identity, placement, volume, balancer *gophercloud.ServiceClient
}

func clientsOf(t testing.TB, p *gophercloud.ProviderClient) clients {
	t.Helper()
	eo := gophercloud.EndpointOpts{Region: "RegionOne"}
	var c clients
	for _, x := range []struct {
		to  **gophercloud.ServiceClient
		new func(*gophercloud.ProviderClient, gophercloud.EndpointOpts) (*gophercloud.ServiceClient, error)
	}{{&c.compute, openstack.NewComputeV2}, {&c.network, openstack.NewNetworkV2}, {&c.image, openstack.NewImageV2}, {&c.identity, openstack.NewIdentityV3}, {&c.placement, openstack.NewPlacementV1}, {&c.volume, openstack.NewBlockStorageV3}, {&c.balancer, openstack.NewLoadBalancerV2}} {
		sc, err := x.new(p, eo)
		if err != nil {
			t.Fatal(err)
		}
		*x.to = sc
	}
	c.compute.Microversion, c.volume.Microversion = "2.79", "3.59"
	return c
}

// tiny is the image of that name, which strata image build made.
func (c clients) tiny(t testing.TB) string {
	t.Helper()
	pages, err := images.List(c.image, images.ListOpts{Name: "tiny"}).AllPages(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	all := must[[]images.Image](t)(images.ExtractImages(pages))
	if len(all) != 1 {
		t.Fatalf("%d images are called tiny", len(all))
	}
	return all[0].ID
}

// upload makes an image of a file.
func (c clients) upload(t testing.TB, name, path, format string, props map[string]string) string {
	t.Helper()
	vis := images.ImageVisibilityPrivate
	container := "bare"
	if format == "aki" || format == "ari" {
		container = format
	}
	img, err := images.Create(t.Context(), c.image, images.CreateOpts{Name: name, DiskFormat: format, ContainerFormat: container, Visibility: &vis, Properties: props}).Extract()
	if err != nil {
		t.Fatal(err)
	}
	c.put(t, img.ID, path)
	return img.ID
}

// awaitServer waits until the server has the status; another final status fails the test.
func (c clients) awaitServer(t testing.TB, id, status string) *servers.Server {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	var s *servers.Server
	err := wait.Until(ctx, "server "+id+" to be "+status, 50*time.Millisecond, func(ctx context.Context) (bool, error) {
		var err error
		if s, err = servers.Get(ctx, c.compute, id).Extract(); err != nil {
			return false, err
		}
		if s.Status == "ERROR" && status != "ERROR" {
			t.Fatalf("server %s is in ERROR: %s", id, s.Fault.Message)
		}
		return s.Status == status, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// awaitGone waits until the server is not found.
func (c clients) awaitGone(t testing.TB, id string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	err := wait.Until(ctx, "server "+id+" to be gone", 50*time.Millisecond, func(ctx context.Context) (bool, error) {
		_, err := servers.Get(ctx, c.compute, id).Extract()
		return gophercloud.ResponseCodeIs(err, 404), nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func (c clients) put(t testing.TB, id, path string) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := wrap(t, func(ctx context.Context) error { return uploadData(ctx, c.image, id, f) }); err != nil {
		t.Fatal(err)
	}
}

func wrap(t testing.TB, fn func(context.Context) error) error { return fn(t.Context()) }

// qemus lists the directories of the servers whose QEMU runs: a machine's working directory is its own.
func qemus(t testing.TB, c *cloud.Cloud) []string {
	t.Helper()
	links, err := filepath.Glob("/proc/[0-9]*/cwd")
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, l := range links {
		if dir, err := os.Readlink(l); err == nil && filepath.Dir(dir) == filepath.Join(c.Dir, "instances") {
			out = append(out, dir)
		}
	}
	return out
}
