package compute

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/strata-cloud/strata/internal/compute/migration"
	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/saga"
	"github.com/strata-cloud/strata/internal/saga/sagatest"
	"github.com/strata-cloud/strata/internal/store"
)

// reached demands that the server's own host alone reaches its volume, and that its
// node was told how.
func (w *world) reached(t *testing.T, v *Server, attachment string) {
	t.Helper()
	if hosts := w.vols.reaching(attachment); !slices.Equal(hosts, []string{v.Host}) {
		t.Errorf("the server is on %s, its volume is reached by %v", v.Host, hosts)
	}
	inst, err := w.nodes.Instances.Get(v.ID)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, d := range inst.Disks {
		if d.Volume == nil {
			continue
		}
		if n++; d.Volume.Remote.User != v.Host {
			t.Errorf("the node %s is to reach the volume as %s", v.Host, d.Volume.Remote.User)
		}
	}
	if d := v.volumes(); n != 1 || len(d) != 1 || d[0].Source.Remote.User != v.Host {
		t.Errorf("%d volumes on the node, the server has %+v", n, d)
	}
}

func TestSagaLiveWithVolume(t *testing.T) {
	sagatest.Run(t, func(t *testing.T, opt saga.Options) *sagatest.World {
		w := newWorld(t, opt, "node-1", "node-2")
		v, d := w.withVolume(t, true)
		args := liveArgs{Migration: "live-of-" + v.ID}
		return &sagatest.World{Engine: w.engine,
			Begin: func(ctx context.Context) (string, error) {
				return v.ID, w.svc.beginLive(ctx, "req-1", owner, v.ID, args)
			},
			Check: func(t *testing.T, end *saga.Record) {
				got := w.moved(t, v.ID)
				if end.Phase == saga.Done && got.Host == v.Host {
					t.Errorf("it is on %s still", got.Host)
				}
				w.reached(t, got, d.ID)
			}}
	})
}

func TestSagaEvacuateWithVolume(t *testing.T) {
	sagatest.Run(t, func(t *testing.T, opt saga.Options) *sagatest.World {
		w := newWorld(t, opt, "node-1", "node-2")
		v, d := w.withVolume(t, true)
		w.die(v.Host)
		args := evacuateArgs{Migration: "evacuation-of-" + v.ID}
		return &sagatest.World{Engine: w.engine,
			Begin: func(ctx context.Context) (string, error) {
				err := w.db.Txn(ctx, func(tx *store.Tx) error {
					return w.svc.moves.Begin(tx, migration.Migration{ID: args.Migration, Server: v.ID, Kind: migration.Evacuation, Status: migration.Accepted, Source: v.Host})
				})
				if err != nil {
					return "", err
				}
				return v.ID, w.begin(ctx, sagaEvacuate, "evacuate", v, Rebuilding, args)
			},
			Check: func(t *testing.T, end *saga.Record) {
				w.comeBack(v.Host)
				if got := w.moved(t, v.ID); end.Phase == saga.Done {
					w.reached(t, got, d.ID)
				}
			}}
	})
}

// A server whose volume is lost with its host cannot be anywhere else.
func TestEvacuateWithoutItsVolume(t *testing.T) {
	w := newWorld(t, saga.Options{}, "node-1", "node-2")
	v, d := w.withVolume(t, true)
	w.vols.volumes[d.VolumeID].Node = v.Host
	ctx := t.Context()
	if err := w.svc.volumesThere(ctx, v); err != nil {
		t.Error(err)
	}
	w.die(v.Host)
	args := evacuateArgs{Migration: "evacuation"}
	err := w.db.Txn(ctx, func(tx *store.Tx) error {
		return w.svc.moves.Begin(tx, migration.Migration{ID: args.Migration, Server: v.ID, Kind: migration.Evacuation, Status: migration.Accepted, Source: v.Host})
	})
	if err != nil {
		t.Fatal(err)
	}
	j := &job{Server: v.ID, Args: []byte(`{"migration":"evacuation"}`)}
	if err := w.svc.evacuateClaim(ctx, j); !errs.Is(err, errs.Unavailable) || !strings.Contains(err.Error(), v.Host) {
		t.Errorf("its volume is away: %v", err)
	}
	if hosts := w.vols.reaching(d.ID); !slices.Equal(hosts, []string{v.Host}) || w.place.held[v.ID].host != v.Host {
		t.Errorf("its volume is reached by %v, its claim is on %s", hosts, w.place.held[v.ID].host)
	}
}

// A cold migration and its revert take the volume along.
func TestMigrateWithVolume(t *testing.T) {
	c := newClient(t, "node-1", "node-2")
	id := c.server("a", "")
	vol := c.vols.add(project1)
	c.do("member", "POST", "/servers/"+id+"/os-volume_attachments", `{"volumeAttachment":{"volumeId":"`+vol+`"}}`).want(200)
	c.until("the volume to be attached", func() bool { return c.vols.status(vol) == "in-use" })
	from := c.moved(t, id)
	at := from.volumes()[0].ID
	for _, end := range []string{"revertResize", "confirmResize"} {
		c.act("admin", id, `{"migrate":null}`).want(202)
		c.until("the server to have moved", func() bool {
			v, err := c.svc.servers.Get(id)
			return err == nil && v.VMState == Resized && v.TaskState == ""
		})
		v, err := c.svc.servers.Get(id)
		if err != nil {
			t.Fatal(err)
		}
		if v.Host == from.Host {
			t.Errorf("it is on %s still", v.Host)
		}
		c.reached(t, v, at)
		c.act("admin", id, `{"`+end+`":null}`)
		c.until("the end of it", func() bool {
			v, err := c.svc.servers.Get(id)
			return err == nil && v.VMState == Active && v.TaskState == ""
		})
		c.reached(t, c.moved(t, id), at)
	}
}

// A server goes where its volumes are, if it may.
func TestNearItsVolumes(t *testing.T) {
	w := newWorld(t, saga.Options{}, "node-1", "node-2", "node-3")
	for _, n := range []string{"node-3", "node-1", "elsewhere"} {
		v, vol := w.newServer(), w.vols.add(project1)
		w.vols.volumes[vol].Node = n
		v.Devices = []Device{{ID: "d", VolumeID: vol, Owner: project1, Boot: -1}}
		hosts, err := w.svc.chooseHosts(t.Context(), v, v.resources())
		if err != nil || len(hosts) != 3 || n != "elsewhere" && hosts[0] != n {
			t.Errorf("with a volume on %s: %v, %v", n, hosts, err)
		}
	}
}
