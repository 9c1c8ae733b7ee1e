package system

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/blockstorage/v3/snapshots"
	"github.com/gophercloud/gophercloud/v2/openstack/blockstorage/v3/volumes"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/attachinterfaces"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/servers"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/volumeattach"
	"github.com/gophercloud/gophercloud/v2/openstack/image/v2/images"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/networks"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/subnets"

	"github.com/strata-cloud/strata/internal/wait"
	"github.com/strata-cloud/strata/test/cloud"
)

// life is a server with two volumes and two NICs.
type life struct {
	*stack
	first, second, backNet, moment string
}

// TestLife is the life of a server and of its disks, twice: what the first round
// leaves behind would make the second fail.
func TestLife(t *testing.T) {
	c := cloud.New(t)
	admin := clientsOf(t, c.Provider(t.Context(), "strata"))
	user, project := newUser(t, c, admin)
	for range 2 {
		l := &life{stack: &stack{clients: user, key: cloud.NewKey(t)}}
		l.create(t)
		l.equip(t)
		l.keep(t)
		l.resize(t)
		l.restore(t)
		l.shelve(t)
		l.end(t)
		assertNothingLeft(t, c, admin, user, project)
		assertNoVolumes(t, c)
	}
}

// step runs a request and waits for the server to have the status.
func (l *life) step(t *testing.T, name string, err error, status string) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	start := time.Now()
	l.awaitServer(t, l.server, status)
	t.Logf("%s: %s", name, time.Since(start).Round(time.Millisecond))
}

func (l *life) awaitVolume(t *testing.T, id, status string) *volumes.Volume {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var v *volumes.Volume
	err := wait.Until(ctx, "volume "+id+" to be "+status, 20*time.Millisecond, func(ctx context.Context) (_ bool, err error) {
		if v, err = volumes.Get(ctx, l.volume, id).Extract(); err != nil {
			return false, err
		}
		if strings.HasPrefix(v.Status, "error") {
			t.Fatalf("volume %s: %s", id, v.Status)
		}
		return v.Status == status, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func (l *life) attach(t *testing.T, volume string) {
	t.Helper()
	start := time.Now()
	must[*volumeattach.VolumeAttachment](t)(volumeattach.Create(t.Context(), l.compute, l.server, volumeattach.CreateOpts{VolumeID: volume}).Extract())
	l.awaitVolume(t, volume, "in-use")
	t.Logf("attach: %s", time.Since(start).Round(time.Millisecond))
}

// equip gives the server its volumes and its second NIC while it runs.
func (l *life) equip(t *testing.T) {
	t.Helper()
	ctx := t.Context()
	for _, id := range []*string{&l.first, &l.second} {
		*id = must[*volumes.Volume](t)(volumes.Create(ctx, l.volume, volumes.CreateOpts{Size: 1}, nil).Extract()).ID
		l.awaitVolume(t, *id, "available")
		l.attach(t, *id)
	}
	l.backNet = must[*networks.Network](t)(networks.Create(ctx, l.clients.network, networks.CreateOpts{Name: "back"}).Extract()).ID
	must[*subnets.Subnet](t)(subnets.Create(ctx, l.clients.network, subnets.CreateOpts{NetworkID: l.backNet, CIDR: "10.78.0.0/24", IPVersion: 4, GatewayIP: new(string)}).Extract())
	must[*attachinterfaces.Interface](t)(attachinterfaces.Create(ctx, l.compute, l.server, attachinterfaces.CreateOpts{NetworkID: l.backNet}).Extract())
	g := l.ssh(t)
	l.assertNICs(t, g)
	for _, id := range []string{l.first, l.second} {
		g.Must("sudo mke2fs -q -t ext4 " + device(g, id))
	}
	l.write(t, g, "before")
}

// device finds a volume's disk by its serial number, which is the beginning of its id.
func device(g *cloud.Guest, volume string) string {
	return "/dev/" + g.Must("grep -l "+volume[:20]+" /sys/block/vd*/serial | cut -d/ -f4")
}

// places runs a command in the root directory of each file system that the story writes to.
func (l *life) places(g *cloud.Guest, command string) string {
	var out []string
	for _, id := range []string{l.first, l.second} {
		out = append(out, g.Must(fmt.Sprintf("sudo mount %s /mnt && cd /mnt && { %s; }; r=$?; cd /; sudo umount /mnt; exit $r", device(g, id), command)))
	}
	return strings.Join(append(out, g.Must("cd /home/strata && { "+command+"; }")), " ")
}

func (l *life) write(t *testing.T, g *cloud.Guest, word string) {
	t.Helper()
	l.places(g, "echo "+word+" | sudo tee word >/dev/null && sync")
	l.assertWords(t, g, word, word, word)
}

// assertWords compares what the two volumes and the root disk say.
func (l *life) assertWords(t *testing.T, g *cloud.Guest, words ...string) {
	t.Helper()
	if got, want := l.places(g, "cat word"), strings.Join(words, " "); got != want {
		t.Errorf("first volume, second volume and root disk say %q, want %q", got, want)
	}
}

func (l *life) assertNICs(t *testing.T, g *cloud.Guest) {
	t.Helper()
	if n := g.Must("ls -d /sys/class/net/eth* | wc -l"); n != "2" {
		t.Errorf("the guest sees %s NICs", n)
	}
}

// keep takes an image of the server and a snapshot of a volume, both while it
// runs, and changes everything afterwards.
func (l *life) keep(t *testing.T) {
	t.Helper()
	ctx := t.Context()
	l.taken = append(l.taken, must[string](t)(servers.CreateImage(ctx, l.compute, l.server, servers.CreateImageOpts{Name: "picture"}).ExtractImageID()))
	l.moment = must[*snapshots.Snapshot](t)(snapshots.Create(ctx, l.volume, snapshots.CreateOpts{VolumeID: l.first, Force: true}).Extract()).ID
	for what, status := range map[string]func(context.Context) (string, error){
		"image": func(ctx context.Context) (string, error) {
			i, err := images.Get(ctx, l.clients.image, l.taken[0]).Extract()
			return string(i.Status), err
		},
		"snapshot": func(ctx context.Context) (string, error) {
			s, err := snapshots.Get(ctx, l.volume, l.moment).Extract()
			return s.Status, err
		},
	} {
		ctx, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		if err := wait.Until(ctx, "the "+what, 20*time.Millisecond, func(ctx context.Context) (bool, error) {
			s, err := status(ctx)
			return s == "active" || s == "available", err
		}); err != nil {
			t.Fatal(err)
		}
	}
	l.write(t, l.ssh(t), "after")
}

// resize gives the server more memory and, while it runs, a volume more room.
func (l *life) resize(t *testing.T) {
	t.Helper()
	ctx := t.Context()
	l.step(t, "resize", servers.Resize(ctx, l.compute, l.server, servers.ResizeOpts{FlavorRef: "84"}).ExtractErr(), "VERIFY_RESIZE")
	l.step(t, "confirm", servers.ConfirmResize(ctx, l.compute, l.server).ExtractErr(), "ACTIVE")
	if err := volumes.ExtendSize(ctx, l.volume, l.second, volumes.ExtendSizeOpts{NewSize: 2}).ExtractErr(); err != nil {
		t.Fatal(err)
	}
	l.awaitVolume(t, l.second, "in-use")
	g := l.ssh(t)
	l.assertWords(t, g, "after", "after", "after")
	if b := g.Must("lsblk -lb --nodeps -n -o SIZE " + device(g, l.second)); b != fmt.Sprint(2<<30) {
		t.Errorf("the extended volume has %s bytes in the guest", b)
	}
	if kb := g.Must("awk '/MemTotal/ {print ($2 > 140000)}' /proc/meminfo"); kb != "1" {
		t.Error("the guest has no more memory than before its resize")
	}
}

// restore brings the root disk and one volume back to the moment that was kept.
func (l *life) restore(t *testing.T) {
	t.Helper()
	ctx := t.Context()
	if err := servers.Rebuild(ctx, l.compute, l.server, servers.RebuildOpts{ImageRef: l.taken[0]}).Err; err != nil {
		t.Fatal(err)
	}
	l.step(t, "rebuild", nil, "ACTIVE")
	if err := volumeattach.Delete(ctx, l.compute, l.server, l.first).ExtractErr(); err != nil {
		t.Fatal(err)
	}
	l.awaitVolume(t, l.first, "available")
	resp, err := l.volume.Post(ctx, l.volume.ServiceURL("volumes", l.first, "action"), map[string]any{"revert": map[string]string{"snapshot_id": l.moment}}, nil,
		&gophercloud.RequestOpts{OkCodes: []int{202}})
	if err != nil {
		t.Fatal(err)
	}
	if err := resp.Body.Close(); err != nil {
		t.Fatal(err)
	}
	l.awaitVolume(t, l.first, "available")
	l.attach(t, l.first)
	g := l.ssh(t)
	l.assertNICs(t, g)
	l.assertWords(t, g, "before", "after", "before")
}

// shelve frees the host and comes back.
func (l *life) shelve(t *testing.T) {
	t.Helper()
	ctx := t.Context()
	l.step(t, "shelve", servers.Shelve(ctx, l.compute, l.server).ExtractErr(), "SHELVED_OFFLOADED")
	l.step(t, "unshelve", servers.Unshelve(ctx, l.compute, l.server, servers.UnshelveOpts{}).ExtractErr(), "ACTIVE")
	g := l.ssh(t)
	l.assertNICs(t, g)
	l.assertWords(t, g, "before", "after", "before")
}

// end removes what the life added, and then the stack.
func (l *life) end(t *testing.T) {
	t.Helper()
	ctx := t.Context()
	if err := snapshots.Delete(ctx, l.volume, l.moment).ExtractErr(); err != nil {
		t.Error(err)
	}
	l.destroy(t)
	for _, id := range []string{l.first, l.second} {
		l.awaitVolume(t, id, "available")
		if err := volumes.Delete(ctx, l.volume, id, volumes.DeleteOpts{Cascade: true}).ExtractErr(); err != nil {
			t.Fatal(err)
		}
		err := wait.Until(ctx, "volume "+id+" to be gone", 20*time.Millisecond, func(ctx context.Context) (bool, error) {
			_, err := volumes.Get(ctx, l.volume, id).Extract()
			return gophercloud.ResponseCodeIs(err, 404), nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := networks.Delete(ctx, l.clients.network, l.backNet).ExtractErr(); err != nil {
		t.Fatal(err)
	}
}

func assertNoVolumes(t *testing.T, c *cloud.Cloud) {
	t.Helper()
	for _, dir := range []string{"volumes", "attached"} {
		err := filepath.WalkDir(filepath.Join(c.Dir, dir), func(path string, d os.DirEntry, err error) error {
			if err == nil && !d.IsDir() {
				t.Errorf("%s is left", path)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
}
