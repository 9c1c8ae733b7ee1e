package volume

import (
	"context"
	"slices"
	"testing"

	"github.com/google/uuid"

	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/saga"
	"github.com/strata-cloud/strata/internal/saga/sagatest"
	"github.com/strata-cloud/strata/internal/volume/block"
)

const poolHost = "node-1@volumes#volumes"

func manageText(name, more string) string {
	return `{"volume":{"host":"` + poolHost + `","ref":{"source-name":"` + name + `"}` + more + `}}`
}

func TestManage(t *testing.T) {
	w := newWorld(t, saga.Options{}).start()
	w.node.Foreign("disk", "old data", 3)
	w.node.Foreign("bad", "", 0)
	had := w.volume(`"size":1`)
	list := func(path string) []any {
		return w.do("admin", "3.70", "GET", path+"?host=node-1@volumes%23volumes", "").want(200).body["manageable-volumes"].([]any)
	}
	if all := list("/manageable_volumes"); len(all) != 3 {
		t.Errorf("manageable: %v", all)
	}
	for _, m := range list("/os-volume-manage/detail") {
		v := m.(map[string]any)
		name := v["reference"].(map[string]any)["source-name"]
		if fit := v["safe_to_manage"] == true; fit != (name == "disk") || fit != (v["reason_not_safe"] == nil) || (v["cinder_id"] == had) != (name == "volume-"+had) {
			t.Errorf("%v", v)
		}
	}
	w.do("owner", "3.8", "GET", "/manageable_volumes?host=x", "").want(403)
	w.do("admin", "3.7", "GET", "/manageable_volumes?host=x", "").want(404)
	w.do("admin", "3.8", "GET", "/manageable_volumes", "").want(400)
	w.do("admin", "3.8", "GET", "/manageable_volumes?host=x", "").want(404)
	w.do("admin", "3.8", "GET", "/manageable_volumes?host=node-1@volumes%23volumes&sort=created_at", "").want(400)
	w.do("owner", "3.8", "POST", "/manageable_volumes", manageText("disk", "")).want(403)
	for _, bad := range []string{manageText("bad", ""), manageText("none", ""), manageText("volume-"+had, ""), manageText("disk", `,"availability_zone":"x"`), manageText("disk", `,"volume_type":"`+w.encryptedType()+`"`),
		`{"volume":{"host":"` + poolHost + `","ref":{}}}`, `{"volume":{"host":"` + poolHost + `","ref":"disk"}}`, `{"volume":{"ref":{"source-name":"disk"}}}`} {
		w.do("admin", "3.8", "POST", "/manageable_volumes", bad).want(400)
	}
	w.do("admin", "3.8", "POST", "/manageable_volumes", `{"volume":{"host":"x","ref":{"source-name":"disk"}}}`).want(404)
	w.do("admin", "3.8", "POST", "/manageable_volumes", manageText("disk", `,"volume_type":"x"`)).want(404)
	if w.svc.Volumes.Len() != 1 {
		t.Errorf("refused requests left %d volumes", w.svc.Volumes.Len())
	}
	v := w.do("admin", "3.8", "POST", "/manageable_volumes", manageText("disk", `,"name":"found","bootable":true`)).want(202).in("volume")
	id := v["id"].(string)
	w.settled()
	now := w.do("admin", "3.0", "GET", "/volumes/"+id, "").want(200).in("volume")
	if c, _ := w.node.Content(id); c != "old data" || now["status"] != "available" || now["size"] != 3. || now["bootable"] != "true" || now["os-vol-host-attr:host"] != poolHost {
		t.Errorf("%q: %v", c, now)
	}
	w.do("owner", "3.0", "POST", "/volumes/"+had+"/action", `{"os-unmanage":{}}`).want(403)
	w.do("admin", "3.0", "POST", "/volumes/"+id+"/action", `{"os-unmanage":{}}`).want(202)
	w.settled()
	if w.status(id) != "gone" || !slices.Contains(w.node.Foreigners(), "volume-"+id) {
		t.Errorf("unmanaged it is %s; there: %v", w.status(id), w.node.Foreigners())
	}
	secret := w.volume(`"size":1,"volume_type":"secret"`)
	w.do("admin", "3.0", "POST", "/volumes/"+secret+"/action", `{"os-unmanage":{}}`).want(400)
	w.clean(t)
}

func TestManageSnapshot(t *testing.T) {
	w := newWorld(t, saga.Options{}).start()
	id := w.volume(`"size":1`)
	w.node.Fill(id, "then")
	snap := w.do("owner", "3.0", "POST", "/snapshots", `{"snapshot":{"volume_id":"`+id+`"}}`).want(202).in("snapshot")["id"].(string)
	w.settled()
	text := `{"snapshot":{"volume_id":"` + id + `","ref":{"source-name":"` + snap + `"},"name":"found"}}`
	w.do("admin", "3.8", "POST", "/manageable_snapshots", text).want(400) // it is known
	w.do("owner", "3.0", "POST", "/snapshots/"+snap+"/action", `{"os-unmanage":{}}`).want(403)
	w.do("admin", "3.0", "POST", "/volumes/"+id+"/action", `{"os-unmanage":{}}`).want(400) // it has a snapshot
	w.do("admin", "3.0", "POST", "/snapshots/"+snap+"/action", `{"os-unmanage":{}}`).want(202)
	w.do("admin", "3.0", "GET", "/snapshots/"+snap, "").want(404)
	all := w.do("admin", "3.8", "GET", "/manageable_snapshots/detail?host=node-1@volumes%23volumes", "").want(200).body["manageable-snapshots"].([]any)
	if len(all) != 1 || all[0].(map[string]any)["safe_to_manage"] != true {
		t.Errorf("manageable: %v", all)
	}
	w.do("owner", "3.8", "POST", "/manageable_snapshots", text).want(403)
	w.do("admin", "3.8", "POST", "/manageable_snapshots", `{"snapshot":{"volume_id":"`+id+`","ref":{"source-name":"none"}}}`).want(400)
	w.do("admin", "3.8", "POST", "/manageable_snapshots", `{"snapshot":{"volume_id":"`+uuid.NewString()+`","ref":{"source-name":"x"}}}`).want(404)
	again := w.do("admin", "3.0", "POST", "/os-snapshot-manage", text).want(202).in("snapshot")["id"].(string)
	if again == snap {
		t.Error("it has the id that it had")
	}
	w.node.Fill(id, "now")
	made := w.do("admin", "3.0", "POST", "/volumes", `{"volume":{"snapshot_id":"`+again+`"}}`).want(202).in("volume")["id"].(string)
	w.settled()
	if c, _ := w.node.Content(made); c != "then" {
		t.Errorf("a volume of the snapshot has %q", c)
	}
	w.do("admin", "3.40", "POST", "/volumes/"+id+"/action", `{"revert":{"snapshot_id":"`+again+`"}}`).want(202)
	w.settled()
	if c, _ := w.node.Content(id); c != "then" || w.status(id) != block.Available {
		t.Errorf("reverted it has %q and is %s", c, w.status(id))
	}
	w.do("admin", "3.0", "DELETE", "/snapshots/"+again, "").want(202)
	w.settled()
	if left := w.node.Snapshots(id); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

func TestSagaManage(t *testing.T) {
	sagatest.Run(t, func(t *testing.T, opt saga.Options) *sagatest.World {
		w := newWorld(t, opt)
		w.node.Foreign("disk", "data", 1)
		id := ""
		return &sagatest.World{Engine: w.engine,
			Begin: func(context.Context) (string, error) {
				id = w.do("admin", "3.8", "POST", "/manageable_volumes", manageText("disk", "")).want(202).in("volume")["id"].(string)
				return id, nil
			},
			Check: func(t *testing.T, end *saga.Record) {
				w.clean(t)
				want, foreign := block.Available, 0
				if end.Phase == saga.Failed {
					want, foreign = block.ErrorManaging, 1
				}
				if s := w.status(id); s != want || len(w.node.Foreigners()) != foreign {
					t.Errorf("%s: the volume is %s; foreign: %v", end.Phase, s, w.node.Foreigners())
				}
			}}
	})
}

func TestSagaUnmanage(t *testing.T) {
	sagatest.Run(t, func(t *testing.T, opt saga.Options) *sagatest.World {
		w := newWorld(t, opt)
		v := &block.Volume{ID: uuid.NewString(), ProjectID: project1, SizeGiB: 1, Status: block.Available, TypeID: w.svc.Types.Names()[0], Node: "node-1", Driver: "local", Pool: "volumes"}
		for _, err := range []error{w.svc.Volumes.Create(t.Context(), v), w.node.EnsureVolume(t.Context(), nodeapi.Volume{VolumeRef: v.Ref(), SizeGiB: 1})} {
			if err != nil {
				t.Fatal(err)
			}
		}
		return &sagatest.World{Engine: w.engine,
			Begin: func(context.Context) (string, error) {
				w.do("admin", "3.0", "POST", "/volumes/"+v.ID+"/action", `{"os-unmanage":{}}`).want(202)
				return v.ID, nil
			},
			Check: func(t *testing.T, end *saga.Record) {
				w.clean(t)
				if s := w.status(v.ID); s != "gone" || !slices.Equal(w.node.Foreigners(), []string{"volume-" + v.ID}) {
					t.Errorf("%s: the volume is %s; foreign: %v", end.Phase, s, w.node.Foreigners())
				}
			}}
	})
}
