package volume

import (
	"context"
	"testing"

	"github.com/google/uuid"

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
