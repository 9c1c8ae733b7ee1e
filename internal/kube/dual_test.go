package kube

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/strata-cloud/strata/internal/nodeapi"
)

// TestDual has the programs of a cluster with both families be told of both, and those of
// others of one.
func TestDual(t *testing.T) {
	m := machine(t)
	c, w := parts(t, netip.MustParseAddrPort("127.0.0.1:6443"))
	c.Services = append(c.Services, netip.MustParsePrefix("fd00:254::/108"))
	for _, flags := range [][]string{m.plane(c).apiserverFlags(), m.plane(c).managerFlags()} {
		if all := strings.Join(flags, " "); !strings.Contains(all, "--service-cluster-ip-range="+c.Services[0].String()+",fd00:254::/108") {
			t.Errorf("services are of %s", all)
		}
	}
	told := func() (kubelet, proxy string) {
		t.Helper()
		b := m.bench(w)
		if err := b.write(); err != nil {
			t.Fatal(err)
		}
		raw, err := os.ReadFile(filepath.Join(m.Dir, w.ID, workerDir, configDir, "kube-proxy.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range b.programs() {
			if p.Name == kubeletProgram {
				kubelet = strings.Join(p.Args, " ")
			}
		}
		return kubelet, string(raw)
	}
	w.Address, w.Inside = netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("10.100.0.5")
	kubelet, proxy := told()
	if !strings.Contains(kubelet, "--node-ip 192.0.2.1 --root-dir") || !strings.Contains(proxy, `nodePortAddresses: ["192.0.2.1/32", "10.100.0.5/32"]`) {
		t.Errorf("with IPv4 alone: %s\n%s", kubelet, proxy)
	}
	w.Inside6, w.Pods = netip.MustParseAddr("fd00:1::5"), []netip.Prefix{netip.MustParsePrefix("10.100.0.0/16"), netip.MustParsePrefix("fd00:1::/64")}
	kubelet, proxy = told()
	if !strings.Contains(kubelet, "--node-ip 192.0.2.1,fd00:1::5 --root-dir") || !strings.Contains(proxy, `nodePortAddresses: ["192.0.2.1/32", "10.100.0.5/32", "fd00:1::5/128"]`) ||
		!strings.Contains(proxy, `clusterCIDR: "10.100.0.0/16,fd00:1::/64"`) {
		t.Errorf("with IPv6: %s\n%s", kubelet, proxy)
	}
}

// TestWorkerOf has a worker's addresses be those in its cluster's networks: a port may have
// others, on a network that was there before.
func TestWorkerOf(t *testing.T) {
	port := &nodeapi.ContainerPort{ID: "p", Addrs: []netip.Prefix{netip.MustParsePrefix("fd00:9::5/64"), netip.MustParsePrefix("10.100.0.5/16"), netip.MustParsePrefix("fd00:1::5/64")}}
	p := nodeapi.KubePart{PodCIDR: netip.MustParsePrefix("10.100.0.0/16"), Worker: &nodeapi.KubeWorker{Port: port}}
	if w := WorkerOf(p); w.Inside.String() != "10.100.0.5" || w.Inside6.IsValid() {
		t.Errorf("without IPv6 it is at %s, %s", w.Inside, w.Inside6)
	}
	p.PodCIDR6 = netip.MustParsePrefix("fd00:1::/64")
	if w := WorkerOf(p); w.Inside6.String() != "fd00:1::5" {
		t.Errorf("with IPv6 it is at %s", w.Inside6)
	}
}
