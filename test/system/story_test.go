package system

import (
	"context"
	"encoding/base64"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/keypairs"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/servers"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/projects"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/roles"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/users"
	"github.com/gophercloud/gophercloud/v2/openstack/image/v2/imagedata"
	"github.com/gophercloud/gophercloud/v2/openstack/image/v2/images"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/layer3/floatingips"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/layer3/routers"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/security/groups"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/security/rules"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/networks"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/ports"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/subnets"

	"github.com/strata-cloud/strata/internal/guest"
	"github.com/strata-cloud/strata/internal/guest/guesttest"
	"github.com/strata-cloud/strata/test/cloud"
)

func uploadData(ctx context.Context, c *gophercloud.ServiceClient, id string, r io.Reader) error {
	return imagedata.Upload(ctx, c, id, r).ExtractErr()
}

func lines(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == '\n' })
}

func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// stack is what a user builds, with the ids of its parts.
type stack struct {
	clients
	key                                         cloud.Key
	image, kernel, ramdisk                      string
	network, subnet, router, group, fip, server string
	address                                     string
	taken                                       []string // images of the server
}

// TestStory is the main job from beginning to end, twice: what the first round
// leaves behind would make the second fail.
func TestStory(t *testing.T) {
	c := cloud.New(t)
	admin := clientsOf(t, c.Provider(t.Context(), "strata"))
	user, project := newUser(t, c, admin)
	for range 2 {
		s := &stack{clients: user, key: cloud.NewKey(t)}
		s.create(t)
		guestStory(t, s)
		s.powerStory(t)
		s.destroy(t)
		assertNothingLeft(t, c, admin, user, project)
	}
}

// newUser makes a project with a member and logs in as it.
func newUser(t *testing.T, c *cloud.Cloud, admin clients) (clients, string) {
	t.Helper()
	ctx := t.Context()
	p := must[*projects.Project](t)(projects.Create(ctx, admin.identity, projects.CreateOpts{Name: "story", DomainID: "default"}).Extract())
	u := must[*users.User](t)(users.Create(ctx, admin.identity, users.CreateOpts{Name: "author", DomainID: "default", Password: "Sesame-42"}).Extract())
	pages := must[[]roles.Role](t)(func() ([]roles.Role, error) {
		all, err := roles.List(admin.identity, roles.ListOpts{Name: "member"}).AllPages(ctx)
		if err != nil {
			return nil, err
		}
		return roles.ExtractRoles(all)
	}())
	if len(pages) != 1 {
		t.Fatalf("%d roles are called member", len(pages))
	}
	if err := roles.Assign(ctx, admin.identity, pages[0].ID, roles.AssignOpts{UserID: u.ID, ProjectID: p.ID}).ExtractErr(); err != nil {
		t.Fatal(err)
	}
	return clientsOf(t, c.Login(ctx, gophercloud.AuthOptions{Username: "author", Password: "Sesame-42", DomainName: "Default", TenantName: "story", AllowReauth: true})), p.ID
}

const userData = "#!/bin/sh\necho told-by-user-data > /tmp/told\necho user-data was here\n"

// ground builds what a server stands on in the order of dependencies, as OpenTofu would.
func (s *stack) ground(t *testing.T) {
	t.Helper()
	ctx, tiny := t.Context(), guesttest.Tiny(t)
	s.kernel = s.upload(t, "tiny-kernel", tiny.Kernel, "aki", nil)
	s.ramdisk = s.upload(t, "tiny-ramdisk", tiny.Initrd, "ari", nil)
	s.image = s.upload(t, "tiny-own", tiny.Disk, "qcow2", map[string]string{"kernel_id": s.kernel, "ramdisk_id": s.ramdisk, "os_command_line": guest.KernelArgs})
	s.network = must[*networks.Network](t)(networks.Create(ctx, s.clients.network, networks.CreateOpts{Name: "net"}).Extract()).ID
	s.subnet = must[*subnets.Subnet](t)(subnets.Create(ctx, s.clients.network, subnets.CreateOpts{NetworkID: s.network, Name: "sub", CIDR: "10.77.0.0/24", IPVersion: 4}).Extract()).ID
	external := publicNetwork(t, s.clients)
	s.router = must[*routers.Router](t)(routers.Create(ctx, s.clients.network, routers.CreateOpts{Name: "r", GatewayInfo: &routers.GatewayInfo{NetworkID: external}}).Extract()).ID
	must[*routers.InterfaceInfo](t)(routers.AddInterface(ctx, s.clients.network, s.router, routers.AddInterfaceOpts{SubnetID: s.subnet}).Extract())
	s.group = must[*groups.SecGroup](t)(groups.Create(ctx, s.clients.network, groups.CreateOpts{Name: "ssh"}).Extract()).ID
	must[*rules.SecGroupRule](t)(rules.Create(ctx, s.clients.network, rules.CreateOpts{SecGroupID: s.group, Direction: rules.DirIngress, EtherType: rules.EtherType4,
		Protocol: rules.ProtocolTCP, PortRangeMin: 22, PortRangeMax: 22}).Extract())
	must[*keypairs.KeyPair](t)(keypairs.Create(ctx, s.compute, keypairs.CreateOpts{Name: "key", PublicKey: s.key.Public}).Extract())
}

// create makes all that a server needs, and one with a floating IP.
func (s *stack) create(t *testing.T) {
	t.Helper()
	s.ground(t)
	ctx, start := t.Context(), time.Now()
	s.server = must[*servers.Server](t)(servers.Create(ctx, s.compute, keypairs.CreateOptsExt{KeyName: "key", CreateOptsBuilder: servers.CreateOpts{Name: "hero", ImageRef: s.image, FlavorRef: "42",
		Networks: []servers.Network{{UUID: s.network}}, SecurityGroups: []string{"ssh"}, UserData: []byte(userData), Metadata: map[string]string{"role": "hero"}}}, nil).Extract()).ID
	s.awaitServer(t, s.server, "ACTIVE")
	t.Logf("request to ACTIVE: %s", time.Since(start).Round(time.Millisecond))
	port := s.portOf(t)
	f := must[*floatingips.FloatingIP](t)(floatingips.Create(ctx, s.clients.network, floatingips.CreateOpts{FloatingNetworkID: publicNetwork(t, s.clients), PortID: port}).Extract())
	s.fip, s.address = f.ID, f.FloatingIP
}

func publicNetwork(t *testing.T, c clients) string {
	t.Helper()
	pages := must[[]networks.Network](t)(func() ([]networks.Network, error) {
		all, err := networks.List(c.network, networks.ListOpts{Name: "public"}).AllPages(t.Context())
		if err != nil {
			return nil, err
		}
		return networks.ExtractNetworks(all)
	}())
	if len(pages) != 1 {
		t.Fatalf("%d networks are called public", len(pages))
	}
	return pages[0].ID
}

func (s *stack) portOf(t *testing.T) string {
	t.Helper()
	list := must[[]ports.Port](t)(func() ([]ports.Port, error) {
		all, err := ports.List(s.clients.network, ports.ListOpts{DeviceID: s.server}).AllPages(t.Context())
		if err != nil {
			return nil, err
		}
		return ports.ExtractPorts(all)
	}())
	if len(list) != 1 {
		t.Fatalf("the server has %d ports", len(list))
	}
	return list[0].ID
}

func (s *stack) ssh(t *testing.T) *cloud.Guest {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	start := time.Now()
	g := cloud.SSH(t, ctx, s.address, s.key)
	t.Logf("SSH to %s after %s", s.address, time.Since(start).Round(time.Millisecond))
	return g
}

// guestStory looks at the cloud from inside the server.
func guestStory(t *testing.T, s *stack) {
	g := s.ssh(t)
	if h := g.Must("hostname"); h != "hero" {
		t.Errorf("the host name is %q", h)
	}
	if told := g.Must("for i in 1 2 3 4 5 6 7 8 9 10; do [ -f /tmp/told ] && break; sleep 1; done; cat /tmp/told"); told != "told-by-user-data" {
		t.Errorf("user-data left %q", told)
	}
	if meta := g.Must("curl -s http://169.254.169.254/openstack/latest/meta_data.json"); !strings.Contains(meta, s.server) || !strings.Contains(meta, `"role": "hero"`) && !strings.Contains(meta, `"role":"hero"`) {
		t.Errorf("metadata: %s", meta)
	}
	if raw := g.Must("curl -s http://169.254.169.254/latest/user-data | base64 | tr -d '\\n'"); raw != base64.StdEncoding.EncodeToString([]byte(userData)) {
		t.Errorf("user-data over metadata: %s", raw)
	}
	if ip := g.Must("ip -4 -o addr show dev eth0"); !strings.Contains(ip, "10.77.0.") {
		t.Errorf("address: %s", ip)
	}
	log := must[string](t)(servers.ShowConsoleOutput(t.Context(), s.compute, s.server, servers.ShowConsoleOutputOpts{}).Extract())
	if !strings.Contains(log, "user-data was here") {
		t.Errorf("the console log lacks the user-data's output: %s", log[max(0, len(log)-500):])
	}
}

// powerStory takes the server through its power states and finds it well after each.
func (s *stack) powerStory(t *testing.T) {
	ctx := t.Context()
	do := func(name string, err error, status string) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		start := time.Now()
		s.awaitServer(t, s.server, status)
		t.Logf("%s: %s", name, time.Since(start).Round(time.Millisecond))
	}
	g := s.ssh(t)
	g.Must("echo kept > /home/strata/kept && sync")
	do("pause", servers.Pause(ctx, s.compute, s.server).ExtractErr(), "PAUSED")
	do("unpause", servers.Unpause(ctx, s.compute, s.server).ExtractErr(), "ACTIVE")
	g.Must("true")
	do("suspend", servers.Suspend(ctx, s.compute, s.server).ExtractErr(), "SUSPENDED")
	do("resume", servers.Resume(ctx, s.compute, s.server).ExtractErr(), "ACTIVE")
	g.Must("true") // the same connection: the guest slept and its memory is whole
	do("soft reboot", servers.Reboot(ctx, s.compute, s.server, servers.RebootOpts{Type: servers.SoftReboot}).ExtractErr(), "ACTIVE")
	do("stop", servers.Stop(ctx, s.compute, s.server).ExtractErr(), "SHUTOFF")
	if err := servers.Stop(ctx, s.compute, s.server).ExtractErr(); !gophercloud.ResponseCodeIs(err, 409) {
		t.Errorf("stopping twice: %v", err)
	}
	do("start", servers.Start(ctx, s.compute, s.server).ExtractErr(), "ACTIVE")
	do("hard reboot", servers.Reboot(ctx, s.compute, s.server, servers.RebootOpts{Type: servers.HardReboot}).ExtractErr(), "ACTIVE")
	if kept := s.ssh(t).Must("cat /home/strata/kept"); kept != "kept" {
		t.Errorf("the file says %q", kept)
	}
}

// destroy removes everything in the reverse order.
func (s *stack) destroy(t *testing.T) {
	t.Helper()
	ctx, n := t.Context(), s.clients.network
	check := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("deleting %s: %v", what, err)
		}
	}
	check("floating IP", floatingips.Delete(ctx, n, s.fip).ExtractErr())
	check("server", servers.Delete(ctx, s.compute, s.server).ExtractErr())
	s.awaitGone(t, s.server)
	check("key", keypairs.Delete(ctx, s.compute, "key", nil).ExtractErr())
	check("group", groups.Delete(ctx, n, s.group).ExtractErr())
	_, err := routers.RemoveInterface(ctx, n, s.router, routers.RemoveInterfaceOpts{SubnetID: s.subnet}).Extract()
	check("router interface", err)
	check("router", routers.Delete(ctx, n, s.router).ExtractErr())
	check("subnet", subnets.Delete(ctx, n, s.subnet).ExtractErr())
	check("network", networks.Delete(ctx, n, s.network).ExtractErr())
	for _, id := range append([]string{s.image, s.kernel, s.ramdisk}, s.taken...) {
		check("image", images.Delete(ctx, s.clients.image, id).ExtractErr())
	}
}

// assertNothingLeft compares with an empty project.
func assertNothingLeft(t *testing.T, c *cloud.Cloud, admin, user clients, project string) {
	t.Helper()
	ctx := t.Context()
	list := must[[]ports.Port](t)(func() ([]ports.Port, error) {
		all, err := ports.List(admin.network, ports.ListOpts{ProjectID: project}).AllPages(ctx)
		if err != nil {
			return nil, err
		}
		return ports.ExtractPorts(all)
	}())
	if len(list) > 0 {
		t.Errorf("ports are left: %+v", list)
	}
	if q := qemus(t, c); len(q) > 0 {
		t.Errorf("QEMU processes are left: %v", q)
	}
	for _, dir := range []string{"instances", "images"} {
		left := must[[]os.DirEntry](t)(os.ReadDir(filepath.Join(c.Dir, dir)))
		if len(left) > 0 {
			t.Errorf("%s has %d entries left, such as %s", dir, len(left), left[0].Name())
		}
	}
	assertAllocations(t, admin, 0)
	assertUsage(t, user, 0)
}
