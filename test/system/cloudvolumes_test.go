package system

import (
	"context"
	"net/http"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/blockstorage/v3/attachments"
	"github.com/gophercloud/gophercloud/v2/openstack/blockstorage/v3/volumes"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/services"

	"github.com/strata-cloud/strata/internal/wait"
	"github.com/strata-cloud/strata/test/hosts"
)

// TestCloudVolumes has containers on two hosts mount the project's volumes of block
// storage, with an unmodified docker.
func TestCloudVolumes(t *testing.T) {
	f := newDockPool(t, 2, 1)
	first := f.All[0]
	f.push(first, "demo/busybox:latest")
	demo, admin := f.tenant(first, "strata-demo"), f.tenant(first, "strata")

	t.Run("made", func(t *testing.T) { demo.in(t).volumeMade() })
	t.Run("own", func(t *testing.T) { volumeOwn(demo.in(t), admin.in(t)) })
	t.Run("hosts", func(t *testing.T) { demo.in(t).volumeHosts() })
	t.Run("kill", func(t *testing.T) { demo.in(t).volumeKill() })
	t.Run("away", func(t *testing.T) { demo.in(t).volumeAway() })
	for _, h := range f.All {
		if left := mountsBelow(t, h.DataDir+"/mounts"); len(left) > 0 {
			t.Errorf("mounts are left on %s: %v", h.Name, left)
		}
	}
}

// mountsBelow lists what is mounted in a directory.
func mountsBelow(t *testing.T, dir string) (out []string) {
	t.Helper()
	for line := range strings.Lines(string(must[[]byte](t)(os.ReadFile("/proc/self/mounts")))) {
		if f := strings.Fields(line); len(f) > 1 && strings.HasPrefix(f[1], dir) {
			out = append(out, f[1])
		}
	}
	return out
}

// volumeOf is the block storage service's view of one.
func (x *tenant) volumeOf(name string) *volumes.Volume {
	x.Helper()
	id := x.must("volume", "inspect", "--format", "{{.Status.id}}", name)
	return must[*volumes.Volume](x)(volumes.Get(x.Context(), x.clients("strata-demo").volume, id).Extract())
}

// only has new work go to one host.
func (x *pool) only(h *hosts.Host) (all func()) {
	x.Helper()
	c := x.clients("strata").compute
	set := func(status func(host string) services.ServiceStatus) {
		all, err := services.List(c, services.ListOpts{Binary: "nova-compute"}).AllPages(x.Context())
		if err != nil {
			x.Fatal(err)
		}
		for _, s := range must[[]services.Service](x)(services.ExtractServices(all)) {
			if err := services.Update(x.Context(), c, s.ID, services.UpdateOpts{Status: status(s.Host)}).Err; err != nil {
				x.Fatal(err)
			}
		}
	}
	set(func(host string) services.ServiceStatus {
		if host == h.Name {
			return services.ServiceEnabled
		}
		return services.ServiceDisabled
	})
	return func() { set(func(string) services.ServiceStatus { return services.ServiceEnabled }) }
}

// volumeMade has a volume be made by being mounted, with what the image has there, and
// go on after its container.
func (x *tenant) volumeMade() {
	t := x.T
	if out := x.must("run", "--rm", "-v", "made:/data", "busybox", "sh", "-c", "cat /data/seed; grep ' /data ' /proc/mounts; echo mine > /data/file"); !strings.HasPrefix(out, "of the image\n") || !strings.Contains(out, "ext4") {
		t.Errorf("a new volume: %q", out)
	}
	x.must("run", "-d", "--name", "keeps", "-v", "made:/data", "busybox", "sleep", "1000")
	v := x.volumeOf("made")
	if v.Status != "in-use" || v.Size != 10 || len(v.Attachments) != 1 || v.Attachments[0].ServerID != "" {
		t.Errorf("the volume: %+v", v)
	}
	if out := x.must("exec", "keeps", "cat", "/data/file"); out != "mine" {
		t.Errorf("the second container reads %q", out)
	}
	if out := x.must("inspect", "--format", "{{range .Mounts}}{{.Name}} {{.Driver}} {{.Destination}}{{end}} {{.HostConfig.Binds}}", "keeps"); out != "made strata /data [made:/data]" {
		t.Errorf("inspected: %q", out)
	}
	if out := x.must("ps", "-q", "--filter", "volume=made"); len(strings.Fields(out)) != 1 {
		t.Errorf("ps by volume: %q", out)
	}
	x.refused("volume is in use", "volume", "rm", "made")
	x.must("run", "--rm", "--mount", "type=volume,src=made,dst=/m,ro", "busybox", "sh", "-c", "test $(cat /m/file) = mine && ! touch /m/x")
	x.must("rm", "-f", "keeps")
	if v := x.volumeOf("made"); v.Status != "available" || len(v.Attachments) != 0 {
		t.Errorf("the volume, after its container: %s, %+v", v.Status, v.Attachments)
	}
	x.must("volume", "rm", "made")
	x.refused("no such volume", "volume", "inspect", "made")
	x.must("run", "--rm", "--mount", "type=volume,src=sized,dst=/m,volume-opt=size=2,volume-label=tier=db", "busybox", "true")
	if v := x.volumeOf("sized"); v.Size != 2 || v.Metadata["tier"] != "db" {
		t.Errorf("asked for 2 GiB: %+v", v)
	}
	if out := x.must("volume", "ls", "-q", "--filter", "label=tier=db"); out != "sized" {
		t.Errorf("volumes with the label: %q", out)
	}
	x.eventually("volume", "rm", "sized")
}

// volumeOwn has the volume be the project's alone, and nobody else's while it is mounted.
func volumeOwn(a, b *tenant) {
	t := a.T
	a.must("volume", "create", "--label", "of=a", "-o", "size=1", "own")
	id := a.must("volume", "inspect", "--format", "{{.Status.id}}", "own")
	a.must("run", "-d", "--name", "has", "-v", id+":/data", "busybox", "sleep", "1000")
	defer a.must("volume", "rm", "own")
	defer a.must("rm", "-f", "has")
	for _, ref := range []string{"own", id} {
		b.refused("no such volume", "volume", "inspect", ref)
		b.refused("no such volume", "volume", "rm", ref)
	}
	if out := b.must("volume", "ls", "-q"); out != "" {
		t.Errorf("another project sees %s", out)
	}
	c := a.clients("strata-demo").volume
	if err := volumes.Delete(t.Context(), c, id, nil).ExtractErr(); !gophercloud.ResponseCodeIs(err, http.StatusBadRequest) {
		t.Errorf("deleting a volume that is mounted: %v", err)
	}
	c.Microversion = "3.54"
	if err := attachments.Delete(t.Context(), c, a.volumeOf("own").Attachments[0].AttachmentID).ExtractErr(); !gophercloud.ResponseCodeIs(err, http.StatusConflict) {
		t.Errorf("detaching it from under its container: %v", err)
	}
	if err := attachments.Create(t.Context(), c, attachments.CreateOpts{VolumeUUID: id}).Err; !gophercloud.ResponseCodeIs(err, http.StatusBadRequest) {
		t.Errorf("attaching it elsewhere: %v", err)
	}
	a.must("exec", "has", "touch", "/data/x")
}

// volumeHosts has a volume follow its containers from one host to the other, and
// containers follow one that is in use.
func (x *tenant) volumeHosts() {
	t := x.T
	defer x.tidy()
	x.must("run", "--rm", "-v", "goes:/data", "busybox", "sh", "-c", "echo one >> /data/log")
	for _, h := range []*hosts.Host{x.All[1], x.All[0]} {
		all := x.only(h)
		name := "on-" + h.Name
		x.must("run", "-d", "--name", name, "-v", "goes:/data", "busybox", "sh", "-c", "echo "+h.Name+" >> /data/log; exec sleep 1000")
		all()
		if on := x.node(name); on != h {
			t.Fatalf("it is on %s", on.Name)
		}
		x.must("run", "-d", "--name", "beside", "-v", "goes:/srv", "busybox", "sleep", "1000") // on the same host
		if on := x.node("beside"); on != h {
			t.Errorf("the volume is mounted on %s and %s", h.Name, on.Name)
		}
		x.must("stop", "-t", "0", name)
		x.must("start", name)
		x.must("rm", "-f", name, "beside")
	}
	if out := x.must("run", "--rm", "-v", "goes:/data", "busybox", "cat", "/data/log"); out != "one\nbeta\nbeta\nalpha\nalpha" {
		t.Errorf("the file: %q", out)
	}
	x.eventually("volume", "rm", "goes")
}

// volumeKill has the host's agent die while a container writes, and its machine's
// daemon that brings the volume.
func (x *tenant) volumeKill() {
	t := x.T
	defer x.tidy()
	h := x.All[1]
	all := x.only(h)
	x.must("run", "-d", "--name", "writes", "--restart", "always", "-v", "busy:/data", "busybox", "sh", "-c", "i=0; while i=$((i+1)); do echo $i >> /data/log; sleep 0.05; done")
	all()
	lines := func() string { return x.eventually("exec", "writes", "sh", "-c", "wc -l < /data/log") }
	if err := syscall.Kill(x.pid(h), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	x.up(h)
	before := lines()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := wait.Until(ctx, "more to be written", 200*time.Millisecond, func(context.Context) (bool, error) { return lines() != before, nil }); err != nil {
		t.Error(err)
	}
	if out := x.must("exec", "writes", "sh", "-c", "n=0; while read i; do n=$((n+1)); [ $i = $n ] || exit 1; done < /data/log; echo whole"); out != "whole" {
		t.Errorf("lines are missing: %s", out)
	}
	x.must("restart", "-t", "0", "writes")
	x.must("rm", "-f", "writes")
	x.must("volume", "rm", "busy")
}

// volumeAway has the host of a container be away, with a volume that the other host
// keeps: it is taken from there, and works elsewhere.
func (x *tenant) volumeAway() {
	t := x.T
	defer x.tidy()
	keeper, lost := x.All[0], x.All[1]
	x.keepers(keeper)
	x.must("volume", "create", "-o", "size=1", "kept")
	x.keepers(x.All...)
	all := x.only(lost)
	x.must("run", "-d", "--name", "there", "-v", "kept:/data", "busybox", "sh", "-c", "echo first > /data/file; sync; exec sleep 1000")
	all()
	x.eventually("exec", "there", "cat", "/data/file")
	if err := syscall.Kill(x.pid(lost), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	err := wait.Until(ctx, "the host to be away", 200*time.Millisecond, func(context.Context) (bool, error) {
		return strings.Contains(x.must("ps", "--format", "{{.Status}}"), "Unknown"), nil
	})
	if err != nil {
		t.Fatal(err)
	}
	x.must("rm", "-f", "there")
	if out := x.must("run", "--rm", "-v", "kept:/data", "busybox", "sh", "-c", "cat /data/file; echo second > /data/file"); out != "first" {
		t.Errorf("elsewhere the file is %q", out)
	}
	x.up(lost) // which writes to it no more, and lets go of it
	limit, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	err = wait.Until(limit, "the host to let go of the volume", time.Second, func(context.Context) (bool, error) {
		return len(mountsBelow(t, lost.DataDir+"/mounts")) == 0, nil
	})
	if err != nil {
		t.Error(err)
	}
	if out := x.must("run", "--rm", "-v", "kept:/data", "busybox", "cat", "/data/file"); out != "second" {
		t.Errorf("the file is %q in the end", out)
	}
	x.eventually("volume", "rm", "kept")
}

// keepers has new volumes be kept on these hosts alone.
func (x *pool) keepers(list ...*hosts.Host) {
	x.Helper()
	c := x.clients("strata").volume
	for _, h := range x.All {
		verb := map[bool]string{true: "enable", false: "disable"}[slices.Contains(list, h)]
		resp, err := c.Put(x.Context(), c.ServiceURL("os-services", verb), map[string]string{"host": h.Name + "@local", "binary": "cinder-volume"}, nil, &gophercloud.RequestOpts{OkCodes: []int{200}})
		if err != nil {
			x.Fatal(err)
		}
		if err := resp.Body.Close(); err != nil {
			x.Error(err)
		}
	}
}

// tidy is clear, if there is anything.
func (x *tenant) tidy() {
	x.Helper()
	if x.must("ps", "-aq") != "" {
		x.clear()
	}
}
