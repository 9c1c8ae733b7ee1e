package volume

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/saga"
	"github.com/strata-cloud/strata/internal/saga/sagatest"
	"github.com/strata-cloud/strata/internal/volume/block"
)

// twoPools is a world whose node has the pools volumes and fast, and types for fast
// and for encrypted volumes.
func twoPools(t testing.TB, opt saga.Options) *world {
	w := newWorld(t, opt)
	p := nodeapi.Pool{Driver: "local", Name: "volumes", TotalGiB: 1000, FreeGiB: 900, Thin: true, Multiattach: true, Encryption: true}
	q := p
	q.Name, q.FreeGiB = "fast", 100
	w.node.SetPools(p, q)
	id := w.do("admin", "3.70", "POST", "/types", `{"volume_type":{"name":"fast","extra_specs":{"volume_backend_name":"fast"}}}`).want(200).in("volume_type")["id"].(string)
	if id == "" {
		t.Fatal("no type")
	}
	w.encryptedType()
	return w
}

// hostOf is what the API calls a driver's pool: DRIVER#POOL.
func hostOf(place string) string {
	driver, pool, _ := strings.Cut(place, "#")
	return block.Host("node-1", driver, pool)
}

func TestMigrate(t *testing.T) {
	w := twoPools(t, saga.Options{}).start()
	id := w.volume(`"size":2`)
	w.node.Fill(id, "data")
	at := "/volumes/" + id + "/action"
	to := func(host string) string { return `{"os-migrate_volume":{"host":"` + host + `"}}` }
	w.do("owner", "3.0", "POST", at, to("node-1@fast#fast")).want(403)
	for _, bad := range []string{to("nowhere"), to("node-1@fast#none"), to(poolHost), `{"os-migrate_volume":{}}`, `{"os-migrate_volume":{"host":"x","lock_volume":"maybe"}}`, `{"os-migrate_volume":{"host":"x","other":1}}`} {
		w.do("admin", "3.0", "POST", at, bad).want(400)
	}
	w.do("admin", "3.16", "POST", at, `{"os-migrate_volume":{"host":"x","cluster":"y"}}`).want(400)
	for _, host := range []string{"node-1@fast#fast", "node-1@volumes"} { // there, and back to whatever the back end has
		w.do("admin", "3.0", "POST", at, to(host)).want(202)
		w.settled()
		v := w.do("admin", "3.0", "GET", "/volumes/"+id, "").want(200).in("volume")
		want := map[string]string{"node-1@fast#fast": "node-1@fast#fast", "node-1@volumes": poolHost}[host]
		c, _ := w.node.Content(id)
		if place, _ := w.node.Place(id); v["os-vol-host-attr:host"] != want || v["status"] != "available" || v["migration_status"] != "success" || c != "data" || hostOf(place) != want {
			t.Errorf("at %s with %q: %v", place, c, v)
		}
	}
	w.do("owner", "3.0", "POST", "/snapshots", `{"snapshot":{"volume_id":"`+id+`"}}`).want(202)
	w.settled()
	w.do("admin", "3.0", "POST", at, to("node-1@fast#fast")).want(400)
	if n := w.node.Copies(); n != 1 {
		t.Errorf("the node has %d copies", n)
	}
	w.clean(t)
}

func TestRetypeOnDemand(t *testing.T) {
	w := twoPools(t, saga.Options{}).start()
	id := w.volume(`"size":2`)
	w.node.Fill(id, "data")
	at := "/volumes/" + id + "/action"
	retype := func(name, policy string) *answer {
		return w.do("owner", "3.0", "POST", at, `{"os-retype":{"new_type":"`+name+`","migration_policy":"`+policy+`"}}`)
	}
	retype("fast", "never").want(400)
	retype("secret", "never").want(400)
	retype("none", "on-demand").want(400)
	for _, turn := range []struct {
		name, place string
		sealed      bool
	}{{"fast", "local#fast", false}, {"secret", "local#fast", true}, {"__DEFAULT__", "local#fast", false}} {
		retype(turn.name, "on-demand").want(202)
		w.settled()
		v := w.do("admin", "3.64", "GET", "/volumes/"+id, "").want(200).in("volume")
		place, key := w.node.Place(id)
		c, _ := w.node.Content(id)
		rec, err := w.svc.Volumes.Get(id)
		if err != nil || v["volume_type"] != turn.name || v["encrypted"] != turn.sealed || (v["encryption_key_id"] != nil) != turn.sealed || v["status"] != "available" || v["migration_status"] != "success" ||
			place != turn.place || (key != "") != turn.sealed || key != string(rec.Key) || c != "data" {
			t.Errorf("retyped to %s: at %s, %v", turn.name, place, v)
		}
	}
	w.do("owner", "3.0", "POST", at, `{"os-attach":{"instance_uuid":"`+uuid.NewString()+`","mountpoint":"/dev/vdb"}}`).want(202)
	retype("secret", "on-demand").want(400)
	w.clean(t)
}

// A volume that is deleted by force while it moves leaves nothing in either place.
func TestDeleteWhileMoving(t *testing.T) {
	w := twoPools(t, saga.Options{}).start()
	id := w.volume(`"size":1`)
	hold, begun := make(chan struct{}), make(chan struct{}, 1)
	w.node.Refuse(func(call, _ string) error {
		if call == "MoveVolume" {
			begun <- struct{}{}
			<-hold
		}
		return nil
	})
	w.do("admin", "3.0", "POST", "/volumes/"+id+"/action", `{"os-migrate_volume":{"host":"node-1@fast#fast"}}`).want(202)
	<-begun
	w.do("owner", "3.0", "DELETE", "/volumes/"+id, "").want(400)
	w.do("admin", "3.0", "POST", "/volumes/"+id+"/action", `{"os-force_delete":{}}`).want(202)
	close(hold)
	w.settled()
	if n := w.node.Copies(); n != 0 || w.status(id) != "gone" {
		t.Errorf("%d copies are left, and the volume is %s", n, w.status(id))
	}
}

func TestSagaMove(t *testing.T) {
	for name, retype := range map[string]string{"migrate": "", "encrypt": "secret"} {
		t.Run(name, func(t *testing.T) {
			sagatest.Run(t, func(t *testing.T, opt saga.Options) *sagatest.World {
				w := twoPools(t, opt)
				def, err := w.svc.Types.Of(project1)
				if err != nil {
					t.Fatal(err)
				}
				v := &block.Volume{ID: uuid.NewString(), ProjectID: project1, SizeGiB: 1, Status: block.Available, TypeID: def.ID, Node: "node-1", Driver: "local", Pool: "volumes"}
				if err := errors.Join(w.svc.Volumes.Create(t.Context(), v), w.node.EnsureVolume(t.Context(), nodeapi.Volume{VolumeRef: v.Ref(), SizeGiB: 1})); err != nil {
					t.Fatal(err)
				}
				w.node.Fill(v.ID, "data")
				body := `{"os-migrate_volume":{"host":"node-1@fast#fast"}}`
				if retype != "" {
					body = `{"os-retype":{"new_type":"` + retype + `","migration_policy":"on-demand"}}`
				}
				return &sagatest.World{Engine: w.engine,
					Begin: func(context.Context) (string, error) {
						w.do("admin", "3.0", "POST", "/volumes/"+v.ID+"/action", body).want(202)
						return v.ID, nil
					},
					Check: func(t *testing.T, end *saga.Record) {
						w.settled() // what is left in the other place is removed
						now, err := w.svc.Volumes.Get(v.ID)
						if err != nil {
							t.Fatal(err)
						}
						place, key := w.node.Place(v.ID)
						c, _ := w.node.Content(v.ID)
						if now.Status != block.Available || now.Host() != hostOf(place) || key != string(now.Key) || c != "data" || w.node.Copies() != 1 {
							t.Errorf("%s: %s on %s with key %q; there %s, key %q, %d copies, %q", end.Phase, now.Status, now.Host(), now.Key, place, key, w.node.Copies(), c)
						}
						if moved := now.MigrationStatus == "success"; moved != (now.Pool == "fast" || now.Cipher) || moved != (end.Phase == saga.Done) && end.Kind == sagaMove {
							t.Errorf("%s: migration %s", end.Phase, now.MigrationStatus)
						}
					}}
			})
		})
	}
}
