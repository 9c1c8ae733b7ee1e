package system

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/blockstorage/v3/snapshots"
	"github.com/gophercloud/gophercloud/v2/openstack/blockstorage/v3/volumes"
	"github.com/gophercloud/gophercloud/v2/openstack/blockstorage/v3/volumetypes"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/keypairs"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/servers"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/volumeattach"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/layer3/floatingips"

	"github.com/strata-cloud/strata/internal/wait"
	"github.com/strata-cloud/strata/test/cloud"
	"github.com/strata-cloud/strata/test/hosts"
)

// TestVolumesAcross has servers use a volume that another host keeps: plugged in,
// while its daemon and its host's agent die, and while the servers move.
func TestVolumesAcross(t *testing.T) {
	a := newAcross(t, 0)
	p := a.pool
	a.create(t)
	a.data = a.make(volumes.CreateOpts{Size: 1})
	a.ssh(t).Must("true") // a guest that is still booting may miss its clock when it moves
	a.goTo(p.All[1])
	a.plug()
	a.strangers()
	a.crash()
	a.grow()
	a.goTo(p.All[0]) // the volume's own host
	a.goTo(p.All[1])
	a.replug()
	a.goTo(p.All[1]) // with the file open
	a.stopWriter()
	a.measure()
	a.coldWithVolume()
	a.unplug()
	a.encrypted()
	a.bootVolume()
	a.destroy(t)
	a.clean()
}

type across struct {
	mover
	keeper *hosts.Host // of the volumes
	data   string
}

// newAcross makes two hosts, one of which makes the volumes.
func newAcross(t *testing.T, keeper int) *across {
	p := newPool(t, 2)
	if err := p.Route(p.public, p.All[0]); err != nil {
		t.Fatal(err)
	}
	return &across{mover: mover{pool: p, stack: &stack{clients: p.clients("strata"), key: cloud.NewKey(t)}}, keeper: p.All[keeper]}
}

// make makes a volume on the keeper.
func (a *across) make(o volumes.CreateOpts) string {
	a.Helper()
	for _, h := range a.All {
		verb := map[bool]string{true: "enable", false: "disable"}[h == a.keeper]
		resp, err := a.volume.Put(a.Context(), a.volume.ServiceURL("os-services", verb), map[string]string{"host": h.Name + "@local", "binary": "cinder-volume"}, nil, &gophercloud.RequestOpts{OkCodes: []int{200}})
		if err != nil {
			a.Fatal(err)
		}
		resp.Body.Close()
	}
	id := must[*volumes.Volume](a)(volumes.Create(a.Context(), a.volume, o, nil).Extract()).ID
	a.awaitVolume(id, "available")
	return id
}

func (a *across) awaitVolume(id, status string) {
	a.Helper()
	ctx, cancel := context.WithTimeout(a.Context(), 2*time.Minute)
	defer cancel()
	err := wait.Until(ctx, "volume "+id+" to be "+status, 50*time.Millisecond, func(ctx context.Context) (bool, error) {
		v, err := volumes.Get(ctx, a.volume, id).Extract()
		if err == nil && strings.HasPrefix(v.Status, "error") {
			a.Fatalf("volume %s: %s", id, v.Status)
		}
		return err == nil && v.Status == status, err
	})
	if err != nil {
		a.Fatal(err)
	}
}

// goTo moves the running server, unless it is there.
func (a *across) goTo(to *hosts.Host) {
	a.Helper()
	from := a.host()
	if from == to {
		return
	}
	start := time.Now()
	if err := a.auto(); err != nil {
		a.Fatal(err)
	}
	a.arrived(from, "ACTIVE")
	a.Logf("live migration from %s to %s: %s", from.Name, to.Name, time.Since(start).Round(time.Millisecond))
	if a.data != "" {
		a.assertConnected(to)
	}
}

// assertConnected compares what the attachment says.
func (a *across) assertConnected(to *hosts.Host) {
	a.Helper()
	v := must[*volumes.Volume](a)(volumes.Get(a.Context(), a.volume, a.data).Extract())
	for _, x := range v.Attachments {
		if x.HostName != to.Name {
			a.Errorf("the volume is attached at %q, the server is on %s", x.HostName, to.Name)
		}
	}
}

// plug attaches the volume to the running server, which begins to write.
func (a *across) plug() {
	a.Helper()
	start := time.Now()
	must[*volumeattach.VolumeAttachment](a)(volumeattach.Create(a.Context(), a.compute, a.server, volumeattach.CreateOpts{VolumeID: a.data}).Extract())
	a.awaitVolume(a.data, "in-use")
	a.Logf("attach across hosts: %s", time.Since(start).Round(time.Millisecond))
	a.assertConnected(a.All[1])
	g := a.ssh(a.T)
	g.Must("cat >/tmp/writer <<'EOF'\n" + writer + "EOF\nchmod +x /tmp/writer")
	a.startWriter(g)
	if n := len(a.exports()); n != 1 {
		a.Errorf("%d exports on %s", n, a.keeper.Name)
	}
}

// exports lists the daemons of the keeper, as their pids.
func (a *across) exports() (out []int) {
	a.Helper()
	for _, l := range must[[]string](a)(filepath.Glob("/proc/[0-9]*/cwd")) {
		if dir, err := os.Readlink(l); err == nil && filepath.Dir(dir) == filepath.Join(a.keeper.DataDir, "exports") {
			out = append(out, must[int](a)(strconv.Atoi(filepath.Base(filepath.Dir(l)))))
		}
	}
	return out
}

// strangers read nothing: without TLS, and with a key of their own.
func (a *across) strangers() {
	a.Helper()
	addr := string(must[[]byte](a)(os.ReadFile(filepath.Join(a.keeper.DataDir, "exports", a.data, "address"))))
	host, port, err := net.SplitHostPort(addr)
	if err != nil || host != a.keeper.Addr {
		a.Errorf("exported at %s (%v)", addr, err)
	}
	users := must[[]byte](a)(os.ReadFile(filepath.Join(a.keeper.DataDir, "exports", a.data, "psk", "keys.psk")))
	user, key, _ := strings.Cut(strings.Split(strings.TrimSpace(string(users)), "\n")[0], ":")
	dir := a.TempDir()
	for name, c := range map[string]struct {
		user, key string
		ok        bool
	}{"no key": {}, "a wrong key": {user, strings.Repeat("5a", 32), false}, "another name": {"nobody", key, false}, "the key": {user, key, true}} {
		node := "driver=nbd,server.type=inet,server.host=" + host + ",server.port=" + port + ",export=volume"
		args := []string{"info", "--image-opts"}
		if c.user != "" {
			if err := os.WriteFile(filepath.Join(dir, "keys.psk"), []byte(c.user+":"+c.key+"\n"), 0o600); err != nil {
				a.Fatal(err)
			}
			args = append(args, "--object", "tls-creds-psk,id=t,endpoint=client,username="+c.user+",dir="+dir)
			node += ",tls-creds=t"
		}
		ctx, cancel := context.WithTimeout(a.Context(), 30*time.Second)
		out, err := a.All[1].Command(ctx, "qemu-img", append(args, node)...).CombinedOutput()
		cancel()
		if (err == nil) != c.ok {
			a.Errorf("with %s: %v: %s", name, err, out)
		}
	}
	for _, h := range a.All {
		if log := must[[]byte](a)(os.ReadFile(filepath.Join(h.DataDir, "strata.log"))); strings.Contains(string(log), key) {
			a.Errorf("a key is in the log of %s", h.Name)
		}
	}
	for _, pid := range append(a.exports(), a.pids(a.All[1])...) {
		if cmd, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)); err == nil && strings.Contains(string(cmd), key) {
			a.Errorf("a key is on the command line of process %d", pid)
		}
	}
}

func (a *across) pids(h *hosts.Host) (out []int) {
	for _, m := range a.machines(h.DataDir) {
		proc, _, _ := strings.Cut(m, " ")
		out = append(out, must[int](a)(strconv.Atoi(filepath.Base(proc))))
	}
	return out
}

// crash kills the daemon and then the agent that keep the volume, while the guest writes.
func (a *across) crash() {
	a.Helper()
	g := a.ssh(a.T)
	for _, pid := range a.exports() {
		start := time.Now()
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			a.Fatal(err)
		}
		a.writes(g)
		a.Logf("the guest writes %s after the daemon was killed", time.Since(start).Round(time.Millisecond))
	}
	before := a.exports()
	start := time.Now()
	if err := syscall.Kill(a.pid(a.keeper), syscall.SIGKILL); err != nil {
		a.Fatal(err)
	}
	a.writes(g)
	a.Logf("the guest writes %s after the agent was killed", time.Since(start).Round(time.Millisecond))
	for _, pid := range before { // with nobody to start it again
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			a.Fatal(err)
		}
	}
	first := a.All[0]
	a.up(first)
	a.awaitNodes(2)
	a.writes(g)
	a.Logf("the guest writes %s after agent and daemon were killed and the agent was started again", time.Since(start).Round(time.Millisecond))
}

// grow extends the volume and takes a snapshot of it under the guest, which writes.
func (a *across) grow() {
	a.Helper()
	g := a.ssh(a.T)
	a.extend(g)
	a.writes(g)
	a.snapshot()
	a.writes(g)
}

// extend gives the volume another GiB, which the guest sees.
func (a *across) extend(g *cloud.Guest) {
	a.Helper()
	if err := volumes.ExtendSize(a.Context(), a.volume, a.data, volumes.ExtendSizeOpts{NewSize: 2}).ExtractErr(); err != nil {
		a.Fatal(err)
	}
	a.awaitVolume(a.data, "in-use")
	if b := g.Must("lsblk -lb --nodeps -n -o SIZE " + device(g, a.data)); b != fmt.Sprint(2<<30) {
		a.Errorf("the extended volume has %s bytes in the guest", b)
	}
}

// snapshot takes a snapshot of the volume and drops it.
func (a *across) snapshot() {
	a.Helper()
	snap := must[*snapshots.Snapshot](a)(snapshots.Create(a.Context(), a.volume, snapshots.CreateOpts{VolumeID: a.data, Force: true}).Extract()).ID
	if err := wait.Until(a.Context(), "the snapshot", 50*time.Millisecond, func(ctx context.Context) (bool, error) {
		s, err := snapshots.Get(ctx, a.volume, snap).Extract()
		return err == nil && s.Status == "available", err
	}); err != nil {
		a.Fatal(err)
	}
	if err := snapshots.Delete(a.Context(), a.volume, snap).ExtractErr(); err != nil {
		a.Error(err)
	}
}

// replug takes the volume out and gives it back on its own host, where the server
// opens its file; what was flushed is there.
func (a *across) replug() {
	a.Helper()
	g := a.ssh(a.T)
	n := a.stopWriting(g)
	a.check(g, device(g, a.data), n)
	a.unplug()
	a.goTo(a.keeper)
	must[*volumeattach.VolumeAttachment](a)(volumeattach.Create(a.Context(), a.compute, a.server, volumeattach.CreateOpts{VolumeID: a.data}).Extract())
	a.awaitVolume(a.data, "in-use")
	if left := a.exports(); len(left) > 0 {
		a.Errorf("a server on the volume's host has it by exports %v", left)
	}
	g = a.ssh(a.T)
	a.check(g, device(g, a.data), n)
	a.startWriter(g)
}

func (a *across) unplug() {
	a.Helper()
	if err := volumeattach.Delete(a.Context(), a.compute, a.server, a.data).ExtractErr(); err != nil {
		a.Fatal(err)
	}
	a.awaitVolume(a.data, "available")
	if left := a.exports(); len(left) > 0 {
		a.Errorf("exports %v are left", left)
	}
}

// coldWithVolume moves the stopped server, back, and for good.
func (a *across) coldWithVolume() {
	a.Helper()
	g := a.ssh(a.T)
	n := a.acked(g)
	g.Must("echo kept > /home/strata/kept && sync")
	a.cold()
	a.goTo(a.All[1])
	g = a.ssh(a.T)
	a.check(g, device(g, a.data), n)
}

// encrypted has the server use a volume whose passphrase its host does not know.
func (a *across) encrypted() {
	a.Helper()
	ctx := a.Context()
	kind := must[*volumetypes.VolumeType](a)(volumetypes.Create(ctx, a.volume, volumetypes.CreateOpts{Name: "secret"}).Extract())
	must[*volumetypes.EncryptionType](a)(volumetypes.CreateEncryption(ctx, a.volume, kind.ID, volumetypes.CreateEncryptionOpts{Provider: "luks", ControlLocation: "front-end", Cipher: "aes-xts-plain64", KeySize: 256}).Extract())
	plain := a.data
	a.data = a.make(volumes.CreateOpts{Size: 1, VolumeType: "secret"})
	for range 2 {
		must[*volumeattach.VolumeAttachment](a)(volumeattach.Create(ctx, a.compute, a.server, volumeattach.CreateOpts{VolumeID: a.data}).Extract())
		a.awaitVolume(a.data, "in-use")
		g := a.ssh(a.T)
		dev := device(g, a.data)
		if was := g.Must("sudo head -c 9 " + dev + " | tr -d '\\0'"); was == "" {
			g.Must("echo in-clear > /tmp/word && sudo dd if=/tmp/word of=" + dev + " conv=notrunc,fsync")
		} else if was != "in-clear" {
			a.Errorf("the encrypted volume says %q", was)
		}
		a.unplug()
	}
	file := filepath.Join(a.keeper.DataDir, "volumes", a.data, "vol-"+a.data)
	if raw := must[[]byte](a)(os.ReadFile(file)); strings.Contains(string(raw), "in-clear") {
		a.Error("the encrypted volume's file is in the clear")
	}
	a.drop(a.data)
	a.data = plain
	if err := volumetypes.Delete(ctx, a.volume, kind.ID).ExtractErr(); err != nil {
		a.Error(err)
	}
}

// bootVolume has a server boot from a volume of the other host, move live, and be
// evacuated: what it wrote is there.
func (a *across) bootVolume() {
	a.Helper()
	ctx := a.Context()
	root := a.make(volumes.CreateOpts{Size: 1, ImageID: a.stack.image})
	first := a.server
	a.server = must[*servers.Server](a)(servers.Create(ctx, a.compute, keypairs.CreateOptsExt{KeyName: "key", CreateOptsBuilder: servers.CreateOpts{Name: "rooted", FlavorRef: "42", AvailabilityZone: "nova:" + a.All[1].Name,
		Networks: []servers.Network{{UUID: a.stack.network}}, SecurityGroups: []string{"ssh"},
		BlockDevice: []servers.BlockDevice{{SourceType: servers.SourceVolume, DestinationType: servers.DestinationVolume, UUID: root}}}}, nil).Extract()).ID
	if on := a.awaitServer(a, a.server, "ACTIVE").Host; on != a.All[1].Name {
		a.Errorf("the server is on %s", on)
	}
	port := a.portOf(a.T)
	must[*floatingips.FloatingIP](a)(floatingips.Update(ctx, a.stack.clients.network, a.fip, floatingips.UpdateOpts{PortID: &port}).Extract())
	a.data = root
	a.ssh(a.T).Must("echo kept > /home/strata/kept && sync")
	a.goTo(a.keeper)
	a.ssh(a.T).Must("true")
	a.goTo(a.All[1])
	a.mover.evacuate()
	if kept := a.ssh(a.T).Must("cat /home/strata/kept"); kept != "kept" {
		a.Errorf("the file says %q", kept)
	}
	if err := servers.Delete(ctx, a.compute, a.server).ExtractErr(); err != nil {
		a.Fatal(err)
	}
	a.awaitGone(a, a.server)
	a.awaitVolume(root, "available")
	a.drop(root)
	a.server, a.data = first, ""
}

// clean removes the volumes; nothing of them is left on any host.
func (a *across) clean() {
	a.Helper()
	for _, v := range must[[]volumes.Volume](a)(func() ([]volumes.Volume, error) {
		pages, err := volumes.List(a.volume, volumes.ListOpts{}).AllPages(a.Context())
		if err != nil {
			return nil, err
		}
		return volumes.ExtractVolumes(pages)
	}()) {
		a.drop(v.ID)
	}
	for _, h := range a.All {
		if left := a.machines(h.DataDir); len(left) > 0 {
			a.Errorf("machines are left on %s: %v", h.Name, left)
		}
		for _, dir := range []string{"exports", "attached", "volumes"} {
			left, err := os.ReadDir(filepath.Join(h.DataDir, dir))
			left = slices.DeleteFunc(left, func(e os.DirEntry) bool { return e.Name() == "unmanaged.d" })
			if err != nil || len(left) > 0 {
				a.Errorf("%s of %s has %v left (%v)", dir, h.Name, left, err)
			}
		}
	}
}

func (a *across) drop(volume string) {
	a.Helper()
	ctx, cancel := context.WithTimeout(a.Context(), time.Minute)
	defer cancel()
	if err := volumes.Delete(ctx, a.volume, volume, nil).ExtractErr(); err != nil {
		a.Fatal(err)
	}
	if err := wait.Until(ctx, "volume "+volume+" to be gone", 50*time.Millisecond, func(ctx context.Context) (bool, error) {
		_, err := volumes.Get(ctx, a.volume, volume).Extract()
		return gophercloud.ResponseCodeIs(err, 404), nil
	}); err != nil {
		a.Fatal(err)
	}
}
