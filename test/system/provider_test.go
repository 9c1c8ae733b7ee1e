package system

import (
	"context"
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/servers"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/security/rules"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/networks"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/ports"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/subnets"

	"github.com/strata-cloud/strata/internal/wait"
	"github.com/strata-cloud/strata/test/cloud"
)

// office is a network of the operator's, with a machine on it that no cloud knows.
type office struct {
	device    string // this machine's link to it
	namespace string // the machine
}

func newOffice(t *testing.T, cloud string) office {
	t.Helper()
	o := office{device: cloud + "p0", namespace: cloud + "-office"}
	t.Cleanup(func() {
		for _, args := range []string{"netns del " + o.namespace, "link del " + o.device} {
			_ = exec.Command("ip", strings.Fields(args)...).Run() // the link goes with its other end
		}
	})
	for _, args := range []string{"netns add " + o.namespace, "link add " + o.device + " type veth peer name eth0 netns " + o.namespace, "link set " + o.device + " up",
		"-n " + o.namespace + " addr add 10.77.0.1/24 dev eth0", "-n " + o.namespace + " link set eth0 up"} {
		if out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v: %s", args, err, out)
		}
	}
	return o
}

// greeting is what answers at an address, as the machine of the office sees it.
func (o office) greeting(ctx context.Context, addr string) string {
	out, _ := exec.CommandContext(ctx, "ip", "netns", "exec", o.namespace, "timeout", "5", "bash", "-c", "exec 3<>/dev/tcp/"+addr+"/22 && head -c 4 <&3").Output()
	return string(out)
}

// TestProviderNetwork puts a server beside a machine on a network of the operator's,
// by a device that the cloud borrows and gives back.
func TestProviderNetwork(t *testing.T) {
	c := cloud.Plan(t)
	o := newOffice(t, c.Name())
	c.Flags = []string{"--provider-network", "office=" + o.device}
	c.Up()
	c.Must("image", "build", "tiny")
	admin := clientsOf(t, c.Provider(t.Context(), "strata"))
	ctx := t.Context()
	net := must[*networks.Network](t)(networks.Create(ctx, admin.network, flat("office")).Extract())
	none := ""
	must[*subnets.Subnet](t)(subnets.Create(ctx, admin.network, subnets.CreateOpts{NetworkID: net.ID, IPVersion: 4, CIDR: "10.77.0.0/24", GatewayIP: &none,
		AllocationPools: []subnets.AllocationPool{{Start: "10.77.0.100", End: "10.77.0.200"}}}).Extract())
	s := must[*servers.Server](t)(servers.Create(ctx, admin.compute, servers.CreateOpts{Name: "desk", FlavorRef: "42", ImageRef: admin.tiny(t),
		Networks: []servers.Network{{UUID: net.ID}}}, nil).Extract())
	admin.awaitServer(t, s.ID, "ACTIVE")
	list := must[[]ports.Port](t)(func() ([]ports.Port, error) {
		pages, err := ports.List(admin.network, ports.ListOpts{DeviceID: s.ID}).AllPages(ctx)
		if err != nil {
			return nil, err
		}
		return ports.ExtractPorts(pages)
	}())
	must[*rules.SecGroupRule](t)(rules.Create(ctx, admin.network, rules.CreateOpts{SecGroupID: list[0].SecurityGroups[0], Direction: "ingress", EtherType: "IPv4",
		Protocol: "tcp", PortRangeMin: 22, PortRangeMax: 22, RemoteIPPrefix: netip.MustParsePrefix("10.77.0.1/32").String()}).Extract())
	o.reaches(t, list[0].FixedIPs[0].IPAddress)
	c.Must("down")
	c.Flags = nil // the device is known by now
	c.Up()
	o.reaches(t, list[0].FixedIPs[0].IPAddress)
	c.Must("reset", "--yes")
	if out, err := exec.Command("ip", "-o", "link", "show", "dev", o.device).CombinedOutput(); err != nil || !strings.Contains(string(out), ",UP") {
		t.Errorf("the device is not given back: %v: %s", err, out)
	}
}

// flat asks for the network of a physical network, by the same name.
type flat string

// ToNetworkCreateMap implements networks.CreateOptsBuilder.
func (f flat) ToNetworkCreateMap() (map[string]any, error) {
	return map[string]any{"network": map[string]string{"name": string(f), "provider:network_type": "flat", "provider:physical_network": string(f)}}, nil
}

func (o office) reaches(t *testing.T, addr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
	defer cancel()
	err := wait.Until(ctx, fmt.Sprintf("SSH at %s from the office", addr), 200*time.Millisecond, func(ctx context.Context) (bool, error) {
		return strings.HasPrefix(o.greeting(ctx, addr), "SSH-"), nil
	})
	if err != nil {
		t.Error(err)
	}
}
