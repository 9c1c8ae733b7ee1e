//go:build ceph

package system

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/blockstorage/v3/volumes"
	"github.com/gophercloud/gophercloud/v2/openstack/blockstorage/v3/volumetypes"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/keypairs"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/servers"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/volumeattach"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/layer3/floatingips"

	"github.com/strata-cloud/strata/test/ceph"
	"github.com/strata-cloud/strata/test/hosts"
)

// TestCeph has servers on two hosts use volumes that lie in Ceph: no host is between
// a server and its volume, and a host that dies takes no volume with it.
func TestCeph(t *testing.T) {
	a := newAcross(t, 1)
	p := a.pool
	a.lendCeph()
	a.create(t)
	a.ssh(a.T).Must("true") // a guest that is still booting may miss its clock when it moves
	must[*volumetypes.VolumeType](a)(volumetypes.Create(t.Context(), a.volume, volumetypes.CreateOpts{Name: "ceph", ExtraSpecs: map[string]string{"volume_backend_name": "rbd"}}).Extract())
	a.keptBy(a.keeper)
	a.data = must[*volumes.Volume](a)(volumes.Create(t.Context(), a.volume, volumes.CreateOpts{Size: 1, VolumeType: "ceph"}, nil).Extract()).ID
	a.awaitVolume(a.data, "available")
	a.goTo(p.All[0])
	must[*volumeattach.VolumeAttachment](a)(volumeattach.Create(t.Context(), a.compute, a.server, volumeattach.CreateOpts{VolumeID: a.data}).Extract())
	a.awaitVolume(a.data, "in-use")
	g := a.ssh(t)
	g.Must("cat >/tmp/writer <<'EOF'\n" + writer + "EOF\nchmod +x /tmp/writer")
	a.startWriter(g)
	a.grow() // by the host that the server is on, and not by the one that made the volume
	a.goTo(p.All[1])
	a.goTo(p.All[0])
	n := a.stopWriting(a.ssh(t))
	a.check(a.ssh(t), device(a.ssh(t), a.data), n)
	if left := a.exports(); len(left) > 0 {
		t.Errorf("a volume in Ceph is exported by %v", left)
	}
	a.unplug()
	a.rootInCeph()
	a.destroy(t)
	a.clean()
}

// lendCeph starts a cluster that the hosts reach, and has them use it.
func (a *across) lendCeph() {
	a.Helper()
	first := a.All[0].Addr
	c := ceph.New(a.T, first[:strings.LastIndexByte(first, '.')+1]+"1")
	dir := a.TempDir()
	for name, data := range map[string][]byte{"ceph.conf": c.Conf(), "ceph.client." + ceph.User + ".keyring": c.Keyring()} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			a.Fatal(err)
		}
	}
	for _, h := range a.All {
		a.strata(h, "down")
		args := []string{"up", "--detach", "--ceph-pool", ceph.User + "@" + ceph.Pool, "--ceph-conf", filepath.Join(dir, "ceph.conf")}
		if h == a.All[0] {
			args = append(args, "--listen", h.Addr+":5000", "--cluster-listen", h.Addr+":5001", "--name", h.Name, "--public-cidr", a.public)
		}
		a.strata(h, args...)
	}
	a.awaitNodes(len(a.All))
}

// keptBy has new volumes in Ceph be made by one host.
func (a *across) keptBy(keeper *hosts.Host) {
	a.Helper()
	for _, h := range a.All {
		verb := map[bool]string{true: "enable", false: "disable"}[h == keeper]
		resp, err := a.volume.Put(a.Context(), a.volume.ServiceURL("os-services", verb), map[string]string{"host": h.Name + "@rbd", "binary": "cinder-volume"}, nil, &gophercloud.RequestOpts{OkCodes: []int{200}})
		if err != nil {
			a.Fatal(err)
		}
		resp.Body.Close()
	}
}

// rootInCeph kills the host that made a volume and that a server with it as its root
// disk is on: the server goes on elsewhere, and the volume is worked on there.
func (a *across) rootInCeph() {
	a.Helper()
	ctx := a.Context()
	root := must[*volumes.Volume](a)(volumes.Create(ctx, a.volume, volumes.CreateOpts{Size: 1, ImageID: a.stack.image, VolumeType: "ceph"}, nil).Extract()).ID
	a.awaitVolume(root, "available")
	first, data := a.server, a.data
	a.server, a.data = must[*servers.Server](a)(servers.Create(ctx, a.compute, keypairs.CreateOptsExt{KeyName: "key", CreateOptsBuilder: servers.CreateOpts{Name: "rooted", FlavorRef: "42", AvailabilityZone: "nova:" + a.keeper.Name,
		Networks: []servers.Network{{UUID: a.stack.network}}, SecurityGroups: []string{"ssh"},
		BlockDevice: []servers.BlockDevice{{SourceType: servers.SourceVolume, DestinationType: servers.DestinationVolume, UUID: root}}}}, nil).Extract()).ID, root
	a.awaitServer(a, a.server, "ACTIVE")
	port := a.portOf(a.T)
	must[*floatingips.FloatingIP](a)(floatingips.Update(ctx, a.stack.clients.network, a.fip, floatingips.UpdateOpts{PortID: &port}).Extract())
	a.ssh(a.T).Must("echo kept > /home/strata/kept && sync")
	lost := a.loseHost()
	if kept := a.ssh(a.T).Must("cat /home/strata/kept"); kept != "kept" {
		a.Errorf("the file says %q", kept)
	}
	a.extend(a.ssh(a.T)) // the host that made the volume is away
	a.snapshot()
	if err := servers.Delete(ctx, a.compute, a.server).ExtractErr(); err != nil {
		a.Fatal(err)
	}
	a.awaitGone(a, a.server)
	a.awaitVolume(root, "available")
	a.drop(root)
	a.server, a.data = first, data
	for _, line := range a.machines(lost.DataDir) { // a host that is dead has no machines that go on when its network is back
		pid := must[int](a)(strconv.Atoi(filepath.Base(strings.Fields(line)[0])))
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			a.Error(err)
		}
	}
	if err := a.Join(lost); err != nil {
		a.Fatal(err)
	}
	a.up(lost)
	a.awaitNodes(len(a.All))
}
