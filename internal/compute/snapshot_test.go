package compute

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/strata-cloud/strata/internal/saga"
	"github.com/strata-cloud/strata/internal/saga/sagatest"
)

func TestSagaImage(t *testing.T) {
	for _, backup := range []string{"", "daily"} {
		sagatest.Run(t, func(t *testing.T, opt saga.Options) *sagatest.World {
			w := newWorld(t, opt)
			v := w.running(t.Context(), t)
			a := imageArgs{Image: imageOf(v, "i", project1, "u1", "backup", map[string]string{"backup_type": "daily"}), Backup: backup, Rotation: 1}
			return &sagatest.World{Engine: w.engine,
				Begin: func(ctx context.Context) (string, error) {
					return v.ID, w.begin(ctx, sagaImage, "createImage", v, Snapshotting, a)
				},
				Check: func(t *testing.T, end *saga.Record) {
					w.clean(t)
					made := w.images.list()
					if got, _ := w.svc.servers.Get(v.ID); got.VMState != Active || got.TaskState != "" {
						t.Errorf("%s: the server is %s/%s", end.Phase, got.VMState, got.TaskState)
					}
					if end.Phase == saga.Done && (len(made) != 1 || !made[0].active) || end.Phase == saga.Failed && len(made) != 0 {
						t.Errorf("%s: %d images", end.Phase, len(made))
					}
				}}
		})
	}
}

func TestSagaShelve(t *testing.T) {
	sagatest.Run(t, func(t *testing.T, opt saga.Options) *sagatest.World {
		w := newWorld(t, opt)
		v := w.running(t.Context(), t)
		a := imageArgs{Image: imageOf(v, "i", project1, "u1", "snapshot", nil)}
		return &sagatest.World{Engine: w.engine,
			Begin: func(ctx context.Context) (string, error) {
				return v.ID, w.begin(ctx, sagaShelve, "shelve", v, Shelving, a)
			},
			Check: func(t *testing.T, end *saga.Record) {
				w.settled()
				w.clean(t)
				got, _ := w.svc.servers.Get(v.ID)
				if got.TaskState != "" || got.VMState != Active && got.VMState != ShelvedOffloaded || (got.Shelf != nil) != (got.VMState == ShelvedOffloaded) ||
					len(w.images.list()) != map[bool]int{true: 1}[got.Shelf != nil] {
					t.Errorf("%s: the server is %s/%s, %d images", end.Phase, got.VMState, got.TaskState, len(w.images.list()))
				}
			}}
	})
}

func TestSagaUnshelve(t *testing.T) {
	sagatest.Run(t, func(t *testing.T, opt saga.Options) *sagatest.World {
		w := newWorld(t, opt)
		v := w.running(t.Context(), t)
		a := imageArgs{Image: imageOf(v, "i", project1, "u1", "snapshot", nil)}
		img := &Image{ID: a.Image.ID, Format: "qcow2", Virtual: 1 << 20}
		j := &job{Server: v.ID}
		if err := w.images.Begin(t.Context(), a.Image); err != nil {
			t.Fatal(err)
		}
		if err := w.svc.update(t.Context(), v.ID, func(v *Server) error { v.Shelf = img; return nil }); err != nil {
			t.Fatal(err)
		}
		for _, step := range []func(context.Context, *job) error{w.svc.shelveStop, w.svc.destroy, w.svc.offloaded} {
			if err := step(t.Context(), j); err != nil {
				t.Fatal(err)
			}
		}
		return &sagatest.World{Engine: w.engine,
			Begin: func(ctx context.Context) (string, error) {
				return v.ID, w.begin(ctx, sagaReturn, "unshelve", v, Unshelving, returnArgs{a.Image.ID})
			},
			Check: func(t *testing.T, end *saga.Record) {
				got, _ := w.svc.servers.Get(v.ID)
				if got.TaskState != "" || end.Phase == saga.Done && (got.VMState != Active || len(w.images.list()) != 0) ||
					end.Phase == saga.Failed && got.VMState == ShelvedOffloaded && len(w.images.list()) != 1 {
					t.Errorf("%s: the server is %s/%s, %d images", end.Phase, got.VMState, got.TaskState, len(w.images.list()))
				}
				if got.VMState != Errored { // which the harness makes of a server that had come back
					w.clean(t)
				}
			}}
	})
}

func TestCreateImage(t *testing.T) {
	c := newClient(t)
	id := c.server("a", "")
	c.act("reader", id, `{"createImage":{"name":"i"}}`).want(403)
	c.act("member", id, `{"createImage":{"name":" "}}`).want(400)
	c.act("member", id, `{"createImage":{"name":"i","metadata":{"k":1}}}`).want(400)
	a := c.act("member", id, `{"createImage":{"name":"i","metadata":{"k":"v"}}}`).want(202)
	made := c.images.list()
	if len(made) != 1 || !made[0].active || !strings.HasSuffix(a.header.Get("Location"), "/images/"+made[0].ID) || made[0].MinDisk != 1 {
		t.Fatalf("made %+v, told %s", made, a.header.Get("Location"))
	}
	for k, want := range map[string]string{"image_type": "snapshot", "instance_uuid": id, "base_image_ref": imageID, "owner_id": project1, "user_id": "u1", "image_location": "snapshot", "image_state": "available", "k": "v"} {
		if got := made[0].Properties[k]; got != want {
			t.Errorf("%s is %q, want %q", k, got, want)
		}
	}
	c.act("member@2.45", id, `{"createImage":{"name":"j"}}`).want(202).is(c.images.list()[1].ID, "image_id")
	c.act("member", id, `{"createBackup":{"name":"b","backup_type":"daily"}}`).want(400)
	for i := range 4 {
		c.act("member@2.45", id, fmt.Sprintf(`{"createBackup":{"name":"b%d","backup_type":"daily","rotation":2}}`, i)).want(202)
	}
	if got := c.images.Backups(project1, id, "daily"); len(got) != 2 || c.images.made[got[0]].Name != "b3" {
		t.Errorf("backups %v stay", got)
	}
	c.act("member", id, `{"createBackup":{"name":"b","backup_type":"daily","rotation":0}}`).want(202)
	if got := c.images.Backups(project1, id, "daily"); len(got) != 0 {
		t.Errorf("backups %v stay", got)
	}
	c.act("member@2.17", id, `{"trigger_crash_dump":null}`).want(202)
	c.act("member@2.16", id, `{"trigger_crash_dump":null}`).want(400)
	c.clean(t)
}

func TestShelve(t *testing.T) {
	c := newClient(t)
	id := c.server("a", "")
	c.act("member", id, `{"unshelve":null}`).want(409).is("Cannot 'unshelve' instance "+id+" while it is in vm_state active", "conflictingRequest", "message")
	c.act("admin", id, `{"shelveOffload":null}`).want(409)
	c.act("member", id, `{"shelve":null}`).want(202)
	c.do("admin", "GET", "/servers/"+id, "").want(200).is("SHELVED_OFFLOADED", "server", "status").is("<nil>", "server", "OS-EXT-SRV-ATTR:host")
	c.clean(t)
	if runs := c.agents["node-1"].Runs(); len(runs) != 0 {
		t.Errorf("the host still has %v", runs)
	}
	c.act("member", id, `{"os-start":null}`).want(409)
	c.act("member@2.77", id, `{"unshelve":{"availability_zone":"none"}}`).want(400)
	c.act("member@2.91", id, `{"unshelve":{"host":"node-1"}}`).want(403)
	c.act("member@2.77", id, `{"unshelve":{"availability_zone":"nova"}}`).want(202)
	c.do("admin", "GET", "/servers/"+id, "").want(200).is("ACTIVE", "server", "status").is("node-1", "server", "OS-EXT-SRV-ATTR:host")
	c.clean(t)
	if n := len(c.images.list()); n != 0 {
		t.Errorf("%d images stay", n)
	}
	c.act("member", id, `{"shelve":null}`).want(202)
	c.do("member", "DELETE", "/servers/"+id, "").want(204)
	c.settled()
	c.clean(t)
	if n := len(c.images.list()); n != 0 {
		t.Errorf("%d images stay", n)
	}
}
