package volume

import (
	"context"
	"testing"

	"github.com/google/uuid"

	"github.com/strata-cloud/strata/internal/saga"
	"github.com/strata-cloud/strata/internal/saga/sagatest"
	"github.com/strata-cloud/strata/internal/volume/block"
)

// seeded is a world that has a group of two volumes, written as they are when all is done.
func seeded(t *testing.T, opt saga.Options, snapshots bool) (w *world, group, snapshot string) {
	w = newWorld(t, opt)
	gt := w.groupType("t", `"consistent_group_snapshot_enabled":"<is> True"`)
	typeID := w.svc.Types.Names()[0]
	if typ, err := w.svc.Types.Of(project1); err == nil {
		typeID = typ.ID
	}
	g := &block.Group{ID: uuid.NewString(), ProjectID: project1, Status: block.Available, TypeID: gt, VolumeTypes: []string{typeID}, Backend: "node-1@volumes"}
	if err := w.svc.Groups.Create(t.Context(), g); err != nil {
		t.Fatal(err)
	}
	if snapshots {
		snapshot = uuid.NewString()
		if err := w.svc.GroupSnapshots.Create(t.Context(), &block.GroupSnapshot{ID: snapshot, GroupID: g.ID, TypeID: gt, ProjectID: project1, Status: block.Available}); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		v := &block.Volume{ID: uuid.NewString(), ProjectID: project1, SizeGiB: 1, Status: block.Available, TypeID: typeID, Node: "node-1", Driver: "local", Pool: "volumes", GroupID: g.ID}
		must(t, w.svc.Volumes.Create(t.Context(), v))
		must(t, w.svc.make(t.Context(), &block.Job{Volume: v.ID}))
		if snapshots {
			x := &block.Snapshot{ID: uuid.NewString(), VolumeID: v.ID, ProjectID: project1, SizeGiB: 1, TypeID: typeID, Status: block.Available, GroupSnapshotID: snapshot}
			must(t, w.svc.Snapshots.Create(t.Context(), x))
			must(t, w.node.EnsureSnapshot(t.Context(), v.Ref(), x.ID))
		}
	}
	return w, g.ID, snapshot
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// snapshotsMatch demands that the node has the snapshots that the records say, and nothing else.
func (w *world) snapshotsMatch(t *testing.T) {
	t.Helper()
	want, have := 0, 0
	for _, x := range w.svc.Snapshots.All() {
		if x.Status == block.Available {
			want++
		}
	}
	for _, v := range w.svc.Volumes.All() {
		have += len(w.node.Snapshots(v.ID))
	}
	if want != have {
		t.Errorf("the node has %d snapshots, the records %d", have, want)
	}
}

func TestSagaGroupSnapshot(t *testing.T) {
	sagatest.Run(t, func(t *testing.T, opt saga.Options) *sagatest.World {
		w, g, _ := seeded(t, opt, false)
		var gs string
		return &sagatest.World{Engine: w.engine,
			Begin: func(context.Context) (string, error) {
				gs = w.do("owner", groupVersion, "POST", "/group_snapshots", `{"group_snapshot":{"group_id":"`+g+`"}}`).want(202).in("group_snapshot")["id"].(string)
				return gs, nil
			},
			Check: func(t *testing.T, end *saga.Record) {
				w.snapshotsMatch(t)
				want := map[saga.Phase]block.Status{saga.Done: block.Available, saga.Failed: block.Errored}[end.Phase]
				x, err := w.svc.GroupSnapshots.Get(gs)
				if err != nil || x.Status != want {
					t.Errorf("%s: the group snapshot is %v: %v", end.Phase, x, err)
				}
			}}
	})
}

func TestSagaGroupSnapshotDelete(t *testing.T) {
	sagatest.Run(t, func(t *testing.T, opt saga.Options) *sagatest.World {
		w, _, gs := seeded(t, opt, true)
		return &sagatest.World{Engine: w.engine,
			Begin: func(context.Context) (string, error) {
				w.do("owner", groupVersion, "DELETE", "/group_snapshots/"+gs, "").want(202)
				return gs, nil
			},
			Check: func(t *testing.T, _ *saga.Record) {
				w.snapshotsMatch(t)
				if n := len(w.svc.Snapshots.All()) + len(w.svc.GroupSnapshots.All()); n > 0 {
					t.Errorf("%d records stay", n)
				}
			}}
	})
}

func TestSagaGroupCreate(t *testing.T) {
	sagatest.Run(t, func(t *testing.T, opt saga.Options) *sagatest.World {
		w := newWorld(t, opt)
		w.groupType("t", "")
		var g string
		return &sagatest.World{Engine: w.engine,
			Begin: func(context.Context) (string, error) {
				g = w.do("owner", groupVersion, "POST", "/groups", `{"group":{"group_type":"t","volume_types":["__DEFAULT__"]}}`).want(202).in("group")["id"].(string)
				return g, nil
			},
			Check: func(t *testing.T, end *saga.Record) {
				if want := map[saga.Phase]block.Status{saga.Done: block.Available, saga.Failed: block.Errored}[end.Phase]; w.groupStatus(g) != want {
					t.Errorf("%s: the group is %s", end.Phase, w.groupStatus(g))
				}
			}}
	})
}

func TestSagaGroupCopy(t *testing.T) {
	sagatest.Run(t, func(t *testing.T, opt saga.Options) *sagatest.World {
		w, source, _ := seeded(t, opt, false)
		var g string
		return &sagatest.World{Engine: w.engine,
			Begin: func(context.Context) (string, error) {
				g = w.do("owner", groupVersion, "POST", "/groups/action", `{"create-from-src":{"source_group_id":"`+source+`"}}`).want(202).in("group")["id"].(string)
				return g, nil
			},
			Check: func(t *testing.T, end *saga.Record) {
				w.settled()
				w.clean(t)
				if want := map[saga.Phase]block.Status{saga.Done: block.Available, saga.Failed: block.Errored}[end.Phase]; w.groupStatus(g) != want {
					t.Errorf("%s: the group is %s", end.Phase, w.groupStatus(g))
				}
			}}
	})
}

func TestSagaGroupDelete(t *testing.T) {
	sagatest.Run(t, func(t *testing.T, opt saga.Options) *sagatest.World {
		w, g, _ := seeded(t, opt, false)
		return &sagatest.World{Engine: w.engine,
			Begin: func(context.Context) (string, error) {
				w.do("owner", groupVersion, "POST", "/groups/"+g+"/action", `{"delete":{"delete-volumes":true}}`).want(202)
				return g, nil
			},
			Check: func(t *testing.T, _ *saga.Record) {
				w.clean(t)
				if n := len(w.svc.Groups.All()) + len(w.svc.Volumes.All()); n > 0 {
					t.Errorf("%d records stay", n)
				}
			}}
	})
}
