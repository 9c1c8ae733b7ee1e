package volume

import (
	"fmt"
	"testing"

	"github.com/google/uuid"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/saga"
	"github.com/strata-cloud/strata/internal/volume/block"
)

const groupVersion = "3.60"

// groupType makes a group type with specs, such as `"a":"b"`, and gives its id.
func (w *world) groupType(name, specs string) string {
	w.t.Helper()
	return w.do("admin", "3.11", "POST", "/group_types", `{"group_type":{"name":"`+name+`","group_specs":{`+specs+`}}}`).want(202).in("group_type")["id"].(string)
}

// group makes a group of the default volume type, and waits for it.
func (w *world) group(groupType string) string {
	w.t.Helper()
	id := w.do("owner", groupVersion, "POST", "/groups", `{"group":{"name":"g","group_type":"`+groupType+`","volume_types":["__DEFAULT__"]}}`).want(202).in("group")["id"].(string)
	w.settled()
	return id
}

func member(group string) string {
	return `"size":1,"volume_type":"__DEFAULT__","group_id":"` + group + `"`
}

// groupSnapshot makes one and waits for it.
func (w *world) groupSnapshot(group string) string {
	w.t.Helper()
	id := w.do("owner", groupVersion, "POST", "/group_snapshots", `{"group_snapshot":{"name":"s","group_id":"`+group+`"}}`).want(202).in("group_snapshot")["id"].(string)
	w.settled()
	return id
}

func (w *world) groupStatus(id string) block.Status {
	g, err := w.svc.Groups.Get(id)
	if err != nil {
		return "gone"
	}
	return g.Status
}

func TestGroupTypes(t *testing.T) {
	w := newWorld(t, saga.Options{}).start()
	id, hidden := w.groupType("t", `"a":"b"`), w.do("admin", "3.11", "POST", "/group_types", `{"group_type":{"name":"h","is_public":false}}`).want(202).in("group_type")["id"].(string)
	at := "/group_types/" + id
	for _, c := range []struct {
		who, version, method, path, body string
		status                           int
	}{
		{"admin", "3.10", "GET", "/group_types", "", 404},
		{"owner", "3.11", "POST", "/group_types", `{"group_type":{"name":"x"}}`, 403},
		{"admin", "3.11", "POST", "/group_types", `{"group_type":{"name":"t"}}`, 409},
		{"admin", "3.11", "POST", "/group_types", `{"group_type":{"name":""}}`, 400},
		{"admin", "3.11", "POST", "/group_types", `{"group_type":{"name":"x","is_public":"maybe"}}`, 400},
		{"admin", "3.11", "POST", "/group_types", `{"group_type":{"name":"x","other":1}}`, 400},
		{"owner", "3.11", "GET", "/group_types/" + hidden, "", 404},
		{"admin", "3.11", "GET", "/group_types/" + hidden, "", 200},
		{"owner", "3.11", "GET", "/group_types/default", "", 404},
		{"admin", "3.11", "PUT", at, `{"group_type":{}}`, 400},
		{"admin", "3.11", "PUT", at, `{"group_type":{"name":" "}}`, 400},
		{"admin", "3.11", "PUT", at, `{"group_type":{"name":"h"}}`, 409},
		{"admin", "3.11", "PUT", "/group_types/none", `{"group_type":{"name":"n"}}`, 404},
		{"admin", "3.11", "PUT", at, `{"group_type":{"description":"d"}}`, 200},
		{"owner", "3.11", "GET", at + "/group_specs", "", 403},
		{"admin", "3.11", "POST", at + "/group_specs", `{"group_specs":{"bad key":"x"}}`, 400},
		{"admin", "3.11", "POST", at + "/group_specs", `{"group_specs":{"c":"d"}}`, 202},
		{"admin", "3.11", "PUT", at + "/group_specs/c", `{"other":"d"}`, 400},
		{"admin", "3.11", "PUT", at + "/group_specs/c", `{"c":"e","f":"g"}`, 400},
		{"admin", "3.11", "PUT", at + "/group_specs/c", `{"c":"e"}`, 200},
		{"admin", "3.11", "GET", at + "/group_specs/none", "", 404},
		{"admin", "3.11", "DELETE", at + "/group_specs/none", "", 404},
		{"admin", "3.11", "DELETE", at + "/group_specs/a", "", 202},
	} {
		w.do(c.who, c.version, c.method, c.path, c.body).want(c.status)
	}
	if specs := w.do("admin", "3.11", "GET", at, "").want(200).in("group_type")["group_specs"]; fmt.Sprint(specs) != "map[c:e]" {
		t.Errorf("the specs are %v", specs)
	}
	if _, shown := w.do("owner", "3.11", "GET", at, "").want(200).in("group_type")["group_specs"]; shown {
		t.Error("users see the specs")
	}
	for query, n := range map[string]int{"": 1, "?is_public=false": 1, "?is_public=None": 2} {
		if list := w.do("admin", "3.11", "GET", "/group_types"+query, "").want(200).body["group_types"].([]any); len(list) != n {
			t.Errorf("%s lists %v", query, list)
		}
	}
	g := w.group("t")
	w.do("admin", "3.11", "DELETE", at, "").want(400)
	w.do("owner", groupVersion, "POST", "/groups/"+g+"/action", `{"delete":{}}`).want(202)
	w.settled()
	w.do("admin", "3.11", "DELETE", at, "").want(202)
	w.do("admin", "3.11", "DELETE", at, "").want(404)
}

func TestGroupRefusals(t *testing.T) {
	w := newWorld(t, saga.Options{}).start()
	gt := w.groupType("t", "")
	w.groupType("other", "")
	g, empty := w.group(gt), w.group(gt)
	in, out := w.volume(member(g)), w.volume(`"size":1`)
	fast := w.do("admin", "3.70", "POST", "/types", `{"volume_type":{"name":"more"}}`).want(200).in("volume_type")["id"].(string)
	untaken := w.volume(`"size":1,"volume_type":"more"`)
	new := func(fields string) string {
		return `{"group":{"group_type":"` + gt + `","volume_types":["__DEFAULT__"]` + fields + `}}`
	}
	at, act := "/groups/"+g, "/groups/"+g+"/action"
	change := func(fields string) string { return `{"group":{` + fields + `}}` }
	none := uuid.NewString()
	before := len(w.svc.Groups.All())
	for _, c := range []struct {
		who, version, method, path, body string
		status                           int
	}{
		{"owner", "3.12", "GET", "/groups", "", 404},
		{"reader", groupVersion, "POST", "/groups", new(""), 403},
		{"owner", groupVersion, "POST", "/groups", `{"group":{"volume_types":["__DEFAULT__"]}}`, 400},
		{"owner", groupVersion, "POST", "/groups", `{"group":{"group_type":"t","volume_types":[]}}`, 400},
		{"owner", groupVersion, "POST", "/groups", `{"group":{"group_type":"t","volume_types":["none"]}}`, 404},
		{"owner", groupVersion, "POST", "/groups", `{"group":{"group_type":"none","volume_types":["__DEFAULT__"]}}`, 404},
		{"owner", groupVersion, "POST", "/groups", `{"group":{"group_type":"` + none + `","volume_types":["__DEFAULT__"]}}`, 404},
		{"owner", groupVersion, "POST", "/groups", new(`,"availability_zone":"mars"`), 400},
		{"owner", groupVersion, "POST", "/groups", new(`,"size":1`), 400},
		{"other", groupVersion, "GET", at, "", 404},
		{"other", groupVersion, "PUT", at, change(`"name":"x"`), 404},
		{"other", groupVersion, "POST", act, `{"delete":{"delete-volumes":true}}`, 404},
		{"reader", groupVersion, "PUT", at, change(`"name":"x"`), 403},
		{"owner", groupVersion, "PUT", at, change(""), 400},
		{"owner", groupVersion, "PUT", at, change(`"name":"g"`), 400}, // as it is
		{"owner", groupVersion, "PUT", at, change(`"add_volumes":"` + none + `"`), 400},
		{"owner", groupVersion, "PUT", at, change(`"add_volumes":"` + in + `"`), 400}, // nothing to do
		{"owner", groupVersion, "PUT", at, change(`"add_volumes":"` + untaken + `"`), 400},
		{"owner", groupVersion, "PUT", at, change(`"remove_volumes":"` + out + `"`), 400},
		{"owner", groupVersion, "PUT", at, change(`"add_volumes":"` + out + `","remove_volumes":"` + out + `"`), 400},
		{"owner", groupVersion, "PUT", "/groups/" + empty, change(`"add_volumes":"` + in + `"`), 400}, // in another
		{"owner", groupVersion, "POST", act, `{"delete":{"delete-volumes":"maybe"}}`, 400},
		{"owner", groupVersion, "POST", act, `{"delete":{}}`, 400}, // has a volume
		{"owner", "3.19", "POST", act, `{"reset_status":{"status":"error"}}`, 400},
		{"owner", groupVersion, "POST", act, `{"reset_status":{"status":"error"}}`, 403},
		{"admin", groupVersion, "POST", act, `{"reset_status":{"status":"fine"}}`, 400},
		{"owner", groupVersion, "POST", "/groups/action", `{"create-from-src":{"source_group_id":"` + empty + `"}}`, 400},
		{"owner", groupVersion, "POST", "/groups/action", `{"create-from-src":{"source_group_id":"` + none + `"}}`, 404},
		{"owner", groupVersion, "POST", "/groups/action", `{"create-from-src":{"group_snapshot_id":"` + none + `"}}`, 404},
		{"owner", groupVersion, "POST", "/groups/action", `{"create-from-src":{"name":"x"}}`, 400},
		{"owner", groupVersion, "POST", "/group_snapshots", `{"group_snapshot":{"group_id":"` + none + `"}}`, 404},
		{"owner", groupVersion, "POST", "/group_snapshots", `{"group_snapshot":{"group_id":"x"}}`, 400},
		{"owner", groupVersion, "GET", "/group_snapshots/" + none, "", 404},
		{"owner", groupVersion, "DELETE", "/group_snapshots/" + none, "", 404},
		{"owner", groupVersion, "GET", "/groups?status=error", "", 400},
		{"owner", groupVersion, "POST", "/volumes", `{"volume":{"size":1,"group_id":"` + g + `"}}`, 400},
		{"owner", groupVersion, "POST", "/volumes", `{"volume":{"size":1,"volume_type":"more","group_id":"` + g + `"}}`, 400},
		{"owner", groupVersion, "POST", "/volumes", `{"volume":{` + member(none) + `}}`, 404},
		{"owner", groupVersion, "DELETE", "/volumes/" + in, "", 400},
		{"admin", groupVersion, "DELETE", "/types/" + fast, "", 400},
		{"owner", groupVersion, "POST", "/volumes/" + in + "/action", `{"os-retype":{"new_type":"more"}}`, 400},
		{"owner", groupVersion, "POST", "/os-volume-transfer", `{"transfer":{"volume_id":"` + in + `"}}`, 400},
	} {
		w.do(c.who, c.version, c.method, c.path, c.body).want(c.status)
	}
	if n := len(w.svc.Groups.All()); n != before || len(w.svc.GroupSnapshots.All()) > 0 || w.groupStatus(g) != block.Available {
		t.Errorf("refused requests left %d groups, the group is %s", n, w.groupStatus(g))
	}
}

func TestGroupLife(t *testing.T) {
	w := newWorld(t, saga.Options{}).start()
	g := w.group(w.groupType("t", `"consistent_group_snapshot_enabled":"<is> True"`))
	a, b, apart := w.volume(member(g)), w.volume(member(g)), w.volume(`"size":1`)
	w.node.Fill(a, "text of a")
	w.do("owner", groupVersion, "PUT", "/groups/"+g, `{"group":{"name":"n","add_volumes":"`+apart+`,","remove_volumes":"`+b+`"}}`).want(202)
	v := w.do("owner", groupVersion, "GET", "/groups/"+g+"?list_volume=true", "").want(200).in("group")
	if list := fmt.Sprint(v["volumes"]); v["name"] != "n" || len(v["volumes"].([]any)) != 2 || list != fmt.Sprint([]string{a, apart}) && list != fmt.Sprint([]string{apart, a}) {
		t.Errorf("the group is %v", v)
	}
	gs := w.groupSnapshot(g)
	if have := len(w.node.Snapshots(a)) + len(w.node.Snapshots(apart)); have != 2 {
		t.Errorf("the node has %d snapshots", have)
	}
	snap := w.svc.Snapshots.By("group", gs)[0]
	w.do("owner", groupVersion, "DELETE", "/snapshots/"+snap.ID, "").want(400)
	w.do("admin", groupVersion, "POST", "/snapshots/"+snap.ID+"/action", `{"os-force_delete":{}}`).want(400)
	w.do("owner", groupVersion, "POST", "/groups/"+g+"/action", `{"delete":{"delete-volumes":true}}`).want(400)
	w.node.Fill(a, "changed")
	made := w.do("owner", groupVersion, "POST", "/groups/action", `{"create-from-src":{"name":"c","group_snapshot_id":"`+gs+`"}}`).want(202).in("group")["id"].(string)
	cloned := w.do("owner", groupVersion, "POST", "/groups/action", `{"create-from-src":{"source_group_id":"`+g+`"}}`).want(202).in("group")["id"].(string)
	w.settled()
	for id, want := range map[string]string{made: "text of a", cloned: "changed"} {
		found := false
		for _, v := range w.svc.Volumes.By("group", id) {
			c, _ := w.node.Content(v.ID)
			found = found || c == want
		}
		if s := w.groupStatus(id); s != block.Available || !found {
			t.Errorf("the group made from another is %s, with its content: %v", s, found)
		}
	}
	w.do("owner", groupVersion, "DELETE", "/group_snapshots/"+gs, "").want(202)
	w.settled()
	w.do("owner", groupVersion, "GET", "/group_snapshots/"+gs, "").want(404)
	w.do("admin", groupVersion, "POST", "/groups/"+made+"/action", `{"reset_status":{"status":"Error"}}`).want(202)
	for _, id := range []string{g, made, cloned} {
		w.do("owner", groupVersion, "POST", "/groups/"+id+"/action", `{"delete":{"delete-volumes":true}}`).want(202)
	}
	w.settled()
	if n := len(w.svc.Groups.All()) + len(w.svc.Snapshots.All()); n > 0 || len(w.svc.Volumes.All()) != 1 || w.status(b) != block.Available {
		t.Errorf("%d groups and snapshots stay, %d volumes", n, len(w.svc.Volumes.All()))
	}
	w.clean(t)
}

// Groups count against their own quota: 413 for a new one, 400 for one made from another.
func TestGroupQuota(t *testing.T) {
	w := newWorld(t, saga.Options{}).start()
	gt := w.groupType("t", "")
	w.do("admin", "3.0", "PUT", "/os-quota-sets/"+project1, `{"quota_set":{"groups":1}}`).want(200)
	g := w.group(gt)
	w.volume(member(g))
	w.do("owner", groupVersion, "POST", "/groups", `{"group":{"group_type":"t","volume_types":["__DEFAULT__"]}}`).want(413)
	w.do("owner", groupVersion, "POST", "/groups/action", `{"create-from-src":{"source_group_id":"`+g+`"}}`).want(400)
	w.do("admin", "3.0", "PUT", "/os-quota-sets/"+project1, `{"quota_set":{"groups":2,"snapshots":0,"volumes":1}}`).want(200)
	w.do("owner", groupVersion, "POST", "/group_snapshots", `{"group_snapshot":{"group_id":"`+g+`"}}`).want(413)
	w.do("owner", groupVersion, "POST", "/groups/action", `{"create-from-src":{"source_group_id":"`+g+`"}}`).want(400)
	if n := len(w.svc.Groups.All()); n != 1 || len(w.svc.GroupSnapshots.All()) > 0 || len(w.svc.Volumes.All()) != 1 {
		t.Errorf("%d groups, %d volumes", n, len(w.svc.Volumes.All()))
	}
	if set := w.do("admin", "3.0", "GET", "/os-quota-sets/"+project1+"?usage=true", "").want(200).in("quota_set")["groups"].(map[string]any); set["in_use"] != 1.0 {
		t.Errorf("the usage is %v", set)
	}
}

// A group that finds no back end, or whose volume cannot be removed, is in error and can be deleted.
func TestGroupInError(t *testing.T) {
	w := newWorld(t, saga.Options{}).start()
	w.groupType("t", "")
	w.do("admin", "3.70", "POST", "/types", `{"volume_type":{"name":"odd","extra_specs":{"volume_backend_name":"none"}}}`).want(200)
	bad := w.do("owner", groupVersion, "POST", "/groups", `{"group":{"group_type":"t","volume_types":["odd"]}}`).want(202).in("group")["id"].(string)
	w.settled()
	if s := w.groupStatus(bad); s != block.Errored {
		t.Errorf("a group without a back end is %s", s)
	}
	g := w.group("t")
	v := w.volume(member(g))
	w.node.Refuse(func(call, _ string) error {
		if call == "DeleteVolume" {
			return errs.Conflictf("in use")
		}
		return nil
	})
	remove := `{"delete":{"delete-volumes":true}}`
	w.do("owner", groupVersion, "POST", "/groups/"+g+"/action", remove).want(202)
	w.settled()
	if w.groupStatus(g) != block.Errored || w.status(v) != block.ErrorDeleting {
		t.Errorf("the group is %s, its volume %s", w.groupStatus(g), w.status(v))
	}
	w.node.Refuse(nil)
	for _, id := range []string{bad, g} {
		w.do("owner", groupVersion, "POST", "/groups/"+id+"/action", remove).want(202)
	}
	w.settled()
	if n := len(w.svc.Groups.All()) + len(w.svc.Volumes.All()); n > 0 {
		t.Errorf("%d groups and volumes stay", n)
	}
}

func TestFreeze(t *testing.T) {
	w := newWorld(t, saga.Options{}).start()
	w.groupType("t", "")
	g := w.group("t")
	grouped, v := w.volume(member(g)), w.volume(`"size":1`)
	x := w.do("owner", "3.0", "POST", "/snapshots", `{"snapshot":{"volume_id":"`+v+`"}}`).want(202).in("snapshot")["id"].(string)
	gs := w.groupSnapshot(g)
	set := func(who, verb, host string) *answer {
		return w.do(who, "3.0", "PUT", "/os-services/"+verb, `{"host":"`+host+`"}`)
	}
	set("owner", "freeze", "node-1@volumes").want(403)
	for _, verb := range []string{"freeze", "thaw"} {
		set("admin", verb, "nowhere").want(400)
		w.do("admin", "3.0", "PUT", "/os-services/"+verb, `{}`).want(400)
		w.do("admin", "3.26", "PUT", "/os-services/"+verb, `{"host":"a","cluster":"b"}`).want(400)
	}
	set("admin", "thaw", "node-1@volumes").want(400) // is not frozen
	set("admin", "freeze", "node-1@volumes").want(200)
	set("admin", "freeze", "node-1@volumes").want(400)
	shown := false
	for _, s := range w.do("admin", "3.7", "GET", "/os-services", "").want(200).body["services"].([]any) {
		shown = shown || s.(map[string]any)["frozen"] == true
	}
	if !shown {
		t.Error("no service says that it is frozen")
	}
	for _, c := range [][3]string{
		{"DELETE", "/volumes/" + v, ""}, {"DELETE", "/snapshots/" + x, ""}, {"POST", "/snapshots", `{"snapshot":{"volume_id":"` + v + `"}}`},
		{"POST", "/groups/" + g + "/action", `{"delete":{"delete-volumes":true}}`}, {"POST", "/group_snapshots", `{"group_snapshot":{"group_id":"` + g + `"}}`},
		{"DELETE", "/group_snapshots/" + gs, ""}, {"POST", "/groups/action", `{"create-from-src":{"source_group_id":"` + g + `"}}`},
	} {
		w.do("owner", groupVersion, c[0], c[1], c[2]).want(400)
	}
	if late := w.volume(`"size":1`); w.status(late) != block.Errored {
		t.Errorf("a volume that no other back end takes is %s", w.status(late))
	}
	w.do("owner", "3.42", "POST", "/volumes/"+grouped+"/action", `{"os-extend":{"new_size":2}}`).want(202) // upstream lets it
	w.settled()
	set("admin", "thaw", "node-1").want(200) // all of the host
	w.do("owner", groupVersion, "DELETE", "/snapshots/"+x, "").want(202)
	w.do("owner", groupVersion, "DELETE", "/group_snapshots/"+gs, "").want(202)
	w.settled()
	w.do("owner", groupVersion, "DELETE", "/volumes/"+v, "").want(202)
	w.do("owner", groupVersion, "POST", "/groups/"+g+"/action", `{"delete":{"delete-volumes":true}}`).want(202)
	w.settled()
}
