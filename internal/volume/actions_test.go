package volume

import (
	"strings"
	"testing"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/saga"
	"github.com/strata-cloud/strata/internal/volume/attach"
	"github.com/strata-cloud/strata/internal/volume/block"
)

const server = "77777777-7777-4777-8777-777777777777"

func (w *world) act(who, version, id, body string) *answer {
	w.t.Helper()
	a := w.do(who, version, "POST", "/volumes/"+id+"/action", body)
	w.settled()
	return a
}

func TestSnapshots(t *testing.T) {
	w := newWorld(t, saga.Options{}).start()
	id := w.volume(`"size":2`)
	w.node.Fill(id, "one")
	snap := w.do("owner", "3.70", "POST", "/snapshots", `{"snapshot":{"volume_id":"`+id+`","name":"s","metadata":{"k":"v"}}}`).want(202).in("snapshot")["id"].(string)
	w.settled()
	if s := w.do("owner", "3.70", "GET", "/snapshots/"+snap, "").want(200).in("snapshot"); s["status"] != "available" || s["os-extended-snapshot-attributes:progress"] != "100%" || s["size"] != 2.0 {
		t.Errorf("the snapshot: %v", s)
	}
	w.node.Fill(id, "two")
	clone := w.volume(`"snapshot_id":"` + snap + `"`)
	if c, size := w.node.Content(clone); c != "one" || size != 2 {
		t.Errorf("the clone has %q, %d GiB", c, size)
	}
	w.do("owner", "3.0", "DELETE", "/volumes/"+id, "").want(400)
	w.act("owner", "3.39", id, `{"revert":{"snapshot_id":"`+snap+`"}}`).want(400)
	w.act("owner", "3.40", id, `{"revert":{"snapshot_id":"`+clone+`"}}`).want(400)
	w.act("owner", "3.40", id, `{"revert":{"snapshot_id":"`+snap+`"}}`).want(202)
	if c, _ := w.node.Content(id); c != "one" || w.status(id) != block.Available {
		t.Errorf("reverted to %q, %s", c, w.status(id))
	}
	w.do("other", "3.0", "GET", "/snapshots/"+snap, "").want(404)
	w.do("owner", "3.66", "POST", "/snapshots", `{"snapshot":{"volume_id":"`+id+`","force":false}}`).want(400)
	w.do("owner", "3.0", "DELETE", "/snapshots/"+snap, "").want(202)
	w.settled()
	w.do("owner", "3.0", "GET", "/snapshots/"+snap, "").want(404)
	if left := w.node.Snapshots(id); len(left) != 0 {
		t.Errorf("the node still has %v", left)
	}
	w.do("owner", "3.0", "DELETE", "/volumes/"+id, "").want(202)
	w.settled()
	w.clean(t)
}

func TestSnapshotFails(t *testing.T) {
	w := newWorld(t, saga.Options{}).start()
	id := w.volume(`"size":1`)
	w.node.Refuse(func(call, _ string) error {
		if call == "EnsureSnapshot" {
			return errs.New(errs.Internal, "no space")
		}
		return nil
	})
	snap := w.do("owner", "3.0", "POST", "/snapshots", `{"snapshot":{"volume_id":"`+id+`"}}`).want(202).in("snapshot")["id"].(string)
	w.settled()
	if x, _ := w.svc.Snapshots.Get(snap); x.Status != block.Errored || w.svc.Messages.Len() != 1 {
		t.Errorf("the snapshot is %s, %d messages", x.Status, w.svc.Messages.Len())
	}
	w.do("owner", "3.0", "DELETE", "/volumes/"+id+"?cascade=true", "").want(202)
	w.settled()
	if w.svc.Snapshots.Len()+w.svc.Volumes.Len() != 0 {
		t.Error("something is left")
	}
}

func TestActions(t *testing.T) {
	w := newWorld(t, saga.Options{}).start()
	id := w.volume(`"size":2,"imageRef":"` + imageID + `"`)
	for _, tc := range []struct {
		who, version, body string
		status             int
		text               string
	}{
		{"owner", "3.0", `{"os-extend":{"new_size":1}}`, 400, "must be greater than current size"},
		{"owner", "3.0", `{"os-extend":{"new_size":5000}}`, 413, "quota"},
		{"reader", "3.0", `{"os-extend":{"new_size":3}}`, 403, ""},
		{"owner", "3.0", `{"os-extend":{"new_size":3}}`, 202, ""},
		{"owner", "3.0", `{"os-retype":{"new_type":"none"}}`, 400, "Invalid volume_type passed"},
		{"owner", "3.0", `{"os-set_bootable":{"bootable":false}}`, 200, ""},
		{"owner", "3.0", `{"os-update_readonly_flag":{"readonly":true}}`, 202, ""},
		{"owner", "3.0", `{"os-attach":{"instance_uuid":"` + server + `","mountpoint":"/dev/vdc","mode":"rw"}}`, 400, "Invalid attaching mode"},
		{"owner", "3.0", `{"os-show_image_metadata":null}`, 200, `"image_name":"tiny"`},
		{"owner", "3.0", `{"os-set_image_metadata":{"metadata":{"x":"y"}}}`, 200, `"x":"y"`},
		{"owner", "3.0", `{"os-unset_image_metadata":{"key":"x"}}`, 200, ""},
		{"owner", "3.0", `{"os-unset_image_metadata":{"key":"x"}}`, 404, ""},
		{"owner", "3.0", `{"os-reset_status":{"status":"error"}}`, 403, ""},
		{"admin", "3.0", `{"os-reset_status":{"status":"in-use"}}`, 400, "does not have any attachments"},
		{"admin", "3.0", `{"os-reset_status":{"status":"nonsense"}}`, 400, ""},
		{"owner", "3.0", `{"os-volume_upload_image":{"image_name":"copy","disk_format":"qcow2"}}`, 202, `"status":"uploading"`},
		{"owner", "3.0", `{"os-unheard":{}}`, 400, "no such action"},
		{"owner", "3.68", `{"os-reimage":{"image_id":"` + imageID + `"}}`, 202, ""},
	} {
		a := w.act(tc.who, tc.version, id, tc.body).want(tc.status)
		if !strings.Contains(string(a.raw), tc.text) {
			t.Errorf("%s: %s", tc.body, a.raw)
		}
	}
	v, _ := w.svc.Volumes.Get(id)
	if _, size := w.node.Content(id); v.Status != block.Available || v.SizeGiB != 3 || size != 3 || !v.Bootable {
		t.Errorf("in the end it is %s, %d GiB (%d on the node), bootable %t", v.Status, v.SizeGiB, size, v.Bootable)
	}
	if len(w.images.made) != 1 {
		t.Errorf("images made: %v", w.images.made)
	}
}

func TestExtendFails(t *testing.T) {
	w := newWorld(t, saga.Options{}).start()
	id := w.volume(`"size":1`)
	w.node.Refuse(func(call, _ string) error {
		if call == "ExtendVolume" {
			return errs.New(errs.Internal, "no space")
		}
		return nil
	})
	w.act("owner", "3.0", id, `{"os-extend":{"new_size":4}}`).want(202)
	if v, _ := w.svc.Volumes.Get(id); v.Status != block.ErrorExtending || v.SizeGiB != 1 {
		t.Errorf("it is %s, %d GiB", v.Status, v.SizeGiB)
	}
}

func TestAttachments(t *testing.T) {
	w := newWorld(t, saga.Options{}).start()
	id := w.volume(`"size":1`)
	body := `{"attachment":{"volume_uuid":"` + id + `","instance_uuid":"` + server + `"}}`
	w.do("owner", "3.26", "POST", "/attachments", body).want(404)
	w.do("other", "3.27", "POST", "/attachments", body).want(404)
	at := w.do("owner", "3.54", "POST", "/attachments", body).want(200).in("attachment")["id"].(string)
	w.do("owner", "3.54", "POST", "/attachments", strings.Replace(body, server, imageID, 1)).want(400)
	if s := w.status(id); s != block.Reserved {
		t.Errorf("reserved, it is %s", s)
	}
	w.do("owner", "3.0", "DELETE", "/volumes/"+id, "").want(400)
	w.do("owner", "3.54", "PUT", "/attachments/"+at, `{"attachment":{"connector":{"host":"h","mountpoint":"/dev/vdb"}}}`).want(200)
	w.do("owner", "3.54", "POST", "/attachments/"+at+"/action", `{"os-complete":{}}`).want(204)
	v := w.do("owner", "3.54", "GET", "/volumes/"+id, "").want(200).in("volume")
	if v["status"] != "in-use" || len(v["attachments"].([]any)) != 1 || v["metadata"].(map[string]any)["attached_mode"] != "rw" {
		t.Errorf("attached: %v", v)
	}
	w.act("owner", "3.41", id, `{"os-extend":{"new_size":2}}`).want(400)
	w.act("owner", "3.42", id, `{"os-extend":{"new_size":2}}`).want(202)
	w.do("owner", "3.0", "POST", "/snapshots", `{"snapshot":{"volume_id":"`+id+`"}}`).want(400)
	w.act("owner", "3.0", id, `{"os-begin_detaching":null}`).want(202)
	w.act("owner", "3.0", id, `{"os-roll_detaching":null}`).want(202)
	w.do("owner", "3.54", "DELETE", "/attachments/"+at, "").want(200)
	if s := w.status(id); s != block.Available {
		t.Errorf("detached, it is %s", s)
	}
}

// What the compute service attached, a user cannot detach here.
func TestAttachedByCompute(t *testing.T) {
	w := newWorld(t, saga.Options{}).start()
	id := w.volume(`"size":1`)
	ctx, a := t.Context(), w.svc.Attach()
	for range 2 {
		if _, err := a.Reserve(ctx, attach.Claim{ID: "at-1", VolumeID: id, Server: server, Mode: "rw", Compute: true}); err != nil {
			t.Fatal(err)
		}
		if _, err := a.Connect(ctx, "at-1", "node-1", "/dev/vdb", "", map[string]any{"host": "node-1"}); err != nil {
			t.Fatal(err)
		}
		if err := a.Complete(ctx, "at-1"); err != nil {
			t.Fatal(err)
		}
	}
	w.do("owner", "3.27", "DELETE", "/attachments/at-1", "").want(409)
	w.act("owner", "3.0", id, `{"os-detach":{}}`).want(409)
	for _, begin := range []bool{true, true, false, true} {
		if err := a.Detaching(ctx, "at-1", begin); err != nil {
			t.Fatal(err)
		}
	}
	if s := w.status(id); s != block.Detaching {
		t.Errorf("it is %s", s)
	}
	for range 2 {
		if err := a.Release(ctx, "at-1", nil); err != nil {
			t.Fatal(err)
		}
	}
	if s := w.status(id); s != block.Available {
		t.Errorf("it is %s", s)
	}
}

func TestMultiattachAndTypes(t *testing.T) {
	w := newWorld(t, saga.Options{}).start()
	typ := w.do("admin", "3.0", "POST", "/types", `{"volume_type":{"name":"shared","extra_specs":{"multiattach":"<is> True"}}}`).want(200).in("volume_type")["id"].(string)
	w.do("owner", "3.0", "POST", "/types", `{"volume_type":{"name":"mine"}}`).want(403)
	w.do("admin", "3.0", "POST", "/types", `{"volume_type":{"name":"shared"}}`).want(409)
	id := w.volume(`"size":1,"volume_type":"shared"`)
	for _, s := range []string{server, imageID} {
		w.do("owner", "3.54", "POST", "/attachments", `{"attachment":{"volume_uuid":"`+id+`","instance_uuid":"`+s+`"}}`).want(200)
	}
	w.do("admin", "3.0", "DELETE", "/types/"+typ, "").want(400)
	w.do("admin", "3.0", "POST", "/types", `{"volume_type":{"name":"nowhere","extra_specs":{"vendor_name":"nobody"}}}`).want(200)
	if lost := w.volume(`"size":1,"volume_type":"nowhere"`); w.status(lost) != block.Errored || w.svc.Messages.Len() != 1 {
		t.Errorf("without a pool it is %s, %d messages", w.status(lost), w.svc.Messages.Len())
	}
}

func TestEncryptedVolume(t *testing.T) {
	w := newWorld(t, saga.Options{}).start()
	typ := w.do("admin", "3.0", "POST", "/types", `{"volume_type":{"name":"luks"}}`).want(200).in("volume_type")["id"].(string)
	w.do("admin", "3.0", "POST", "/types/"+typ+"/encryption", `{"encryption":{"provider":"luks","control_location":"front-end","key_size":256}}`).want(200)
	id := w.volume(`"size":1,"volume_type":"luks"`)
	v, err := w.svc.Volumes.Get(id)
	if err != nil {
		t.Fatal(err)
	}
	a := w.do("admin", "3.70", "GET", "/volumes/"+id, "").want(200)
	if a.in("volume")["encrypted"] != true || len(v.Key) != 64 || strings.Contains(string(a.raw), string(v.Key)) {
		t.Errorf("key of %d bytes; shown: %s", len(v.Key), a.raw)
	}
}
