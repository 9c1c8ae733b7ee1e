package volume

import (
	"context"
	"errors"
	"testing"

	"github.com/google/uuid"

	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/saga"
	"github.com/strata-cloud/strata/internal/saga/sagatest"
	"github.com/strata-cloud/strata/internal/volume/block"
)

func TestSagaCreate(t *testing.T) {
	sagatest.Run(t, func(t *testing.T, opt saga.Options) *sagatest.World {
		w := newWorld(t, opt)
		id := uuid.NewString()
		return &sagatest.World{Engine: w.engine,
			Begin: func(ctx context.Context) (string, error) {
				_, err := w.svc.order(ctx, owner, &order{ID: id, SizeGiB: 2, Image: imageID})
				return id, err
			},
			Check: func(t *testing.T, end *saga.Record) {
				w.clean(t)
				v, err := w.svc.Volumes.Get(id)
				if err != nil {
					t.Fatal(err)
				}
				want := block.Available
				if end.Phase == saga.Failed {
					want = block.Errored
				}
				if v.Status != want || (v.Node != "") != (want == block.Available) {
					t.Errorf("%s: the volume is %s on %q", end.Phase, v.Status, v.Node)
				}
			}}
	})
}

func TestSagaDelete(t *testing.T) {
	sagatest.Run(t, func(t *testing.T, opt saga.Options) *sagatest.World {
		w := newWorld(t, opt)
		id := uuid.NewString()
		j := &block.Job{Volume: id}
		v := &block.Volume{ID: id, ProjectID: project1, SizeGiB: 1, Status: block.Creating, TypeID: w.svc.Types.Names()[0]}
		if err := w.svc.Volumes.Create(t.Context(), v); err != nil {
			t.Fatal(err)
		}
		if err := w.svc.Settle(t.Context(), id, func(v *block.Volume) { v.Node, v.Driver, v.Pool = "node-1", "local", "volumes" }); err != nil {
			t.Fatal(err)
		}
		for _, step := range []func(context.Context, *block.Job) error{w.svc.place, w.svc.make, w.svc.ready} {
			if err := step(t.Context(), j); err != nil {
				t.Fatal(err)
			}
		}
		return &sagatest.World{Engine: w.engine,
			Begin: func(ctx context.Context) (string, error) {
				return id, w.svc.remove(ctx, "req-1", owner, id, false, false)
			},
			Check: func(t *testing.T, end *saga.Record) {
				w.clean(t)
				if s := w.status(id); s != "gone" {
					t.Errorf("%s: the volume is %s", end.Phase, s)
				}
			}}
	})
}

// An attached volume grows: its server is told, once, whatever is repeated.
func TestSagaExtendAttached(t *testing.T) {
	sagatest.Run(t, func(t *testing.T, opt saga.Options) *sagatest.World {
		w := newWorld(t, opt)
		v := &block.Volume{ID: uuid.NewString(), ProjectID: project1, SizeGiB: 1, Status: block.InUse, TypeID: w.svc.Types.Names()[0], Node: "node-1", Driver: "local", Pool: "volumes"}
		a := &block.Attachment{ID: uuid.NewString(), VolumeID: v.ID, Server: "server", Status: block.AttachAttached, Compute: true}
		if err := errors.Join(w.svc.Volumes.Create(t.Context(), v), w.svc.Attachments.Create(t.Context(), a), w.node.EnsureVolume(t.Context(), nodeapi.Volume{VolumeRef: v.Ref(), SizeGiB: 1})); err != nil {
			t.Fatal(err)
		}
		return &sagatest.World{Engine: w.engine,
			Begin: func(context.Context) (string, error) {
				w.do("owner", "3.42", "POST", "/volumes/"+v.ID+"/action", `{"os-extend":{"new_size":2}}`).want(202)
				return v.ID, nil
			},
			Check: func(t *testing.T, end *saga.Record) {
				now, err := w.svc.Volumes.Get(v.ID)
				if err != nil {
					t.Fatal(err)
				}
				if _, gib := w.node.Content(v.ID); end.Phase == saga.Done && (now.Status != block.InUse || now.SizeGiB != 2 || gib != 2 || len(w.servers.told) != 1) {
					t.Errorf("the volume is %s with %d GiB, there %d; told: %v", now.Status, now.SizeGiB, gib, w.servers.told)
				}
			}}
	})
}

func TestForceDetachOfDeclaredError(t *testing.T) {
	w := newWorld(t, saga.Options{}).start()
	id := w.volume(`"size":1`)
	w.do("owner", "3.0", "POST", "/volumes/"+id+"/action", `{"os-attach":{"instance_uuid":"`+uuid.NewString()+`","mountpoint":"/dev/vdb"}}`).want(202)
	w.do("admin", "3.0", "POST", "/volumes/"+id+"/action", `{"os-reset_status":{"status":"error"}}`).want(202)
	w.do("admin", "3.0", "POST", "/volumes/"+id+"/action", `{"os-force_detach":{}}`).want(202)
	if s := w.status(id); s != block.Available {
		t.Errorf("the volume is %s", s)
	}
}
