package docker

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/nodeapi"
)

// made is what beta was told of a container.
func (w *world) made(id string) nodeapi.Container {
	w.node.mu.Lock()
	defer w.node.mu.Unlock()
	return w.node.made[id]
}

func (w *world) want(token, method, path, body string, code int, says string) string {
	w.Helper()
	got, text := w.do(token, method, path, body)
	if got != code || !strings.Contains(text, says) {
		w.Errorf("%s %s: %d %s, want %d that says %q", method, path, got, text, code, says)
	}
	return text
}

func TestVolumesOfProjects(t *testing.T) {
	w := newWorld(t)
	w.want("p", "POST", "/volumes/create", `{"Name":"data","Labels":{"tier":"db"},"DriverOpts":{"size":"5"}}`, 201, `"Options":{"size":"5"}`)
	w.want("p", "POST", "/volumes/create", `{"Name":"data"}`, 201, `"tier":"db"`) // as it is
	if n, _ := w.volumes.count(); n != 1 {
		t.Errorf("%d volumes", n)
	}
	w.want("p", "GET", "/volumes", "", 200, `"Name":"data"`)
	w.want("p", "GET", "/volumes?filters="+`{"label":{"tier=db":true},"dangling":{"true":true}}`, "", 200, `"Name":"data"`)
	w.want("p", "GET", "/volumes?filters="+`{"label":{"tier=web":true}}`, "", 200, `"Volumes":[]`)
	w.want("q", "GET", "/volumes", "", 200, `"Volumes":[]`)
	w.want("q", "GET", "/volumes/data", "", 404, "no such volume")
	w.want("q", "DELETE", "/volumes/data", "", 404, "no such volume")
	w.want("q", "DELETE", "/volumes/data?force=1", "", 204, "")
	w.want("p.reader", "POST", "/volumes/create", `{"Name":"x1"}`, 403, "policy")
	w.want("p.reader", "DELETE", "/volumes/data", "", 403, "policy")
	for body, says := range map[string]string{
		`{"Name":"a/b"}`: "invalid characters", `{"Name":"aa","DriverOpts":{"size":"x"}}`: "invalid size", `{"Name":"aa","DriverOpts":{"size":"0"}}`: "invalid size", `{"Name":"aa","DriverOpts":{"o":"x"}}`: "unknown option",
		`{"Name":"aa","Labels":{"strata:docker":"x"}}`: "not a client's", `{"Name":"aa","Labels":{"k":"` + strings.Repeat("x", 256) + `"}}`: "255", `{"Name":7}`: "JSON", `{"Name":"aa","ClusterVolumeSpec":{}}`: "swarm",
	} {
		w.want("p", "POST", "/volumes/create", body, 400, says)
	}
	w.want("p", "POST", "/volumes/create", `{"Name":"aa","Driver":"nfs"}`, 404, "plugin")
	w.want("p", "GET", "/volumes?filters="+`{"x":{"y":true}}`, "", 400, "")
	w.want("p", "POST", "/v1.47/volumes/prune", "", 200, `"VolumesDeleted":[]`) // none is anonymous
	w.volumes.volumes["other"] = Volume{ID: "other", Name: "disk", ProjectID: "p", Status: "available"}
	w.want("p", "POST", "/v1.47/volumes/prune?filters="+`{"all":{"true":true}}`, "", 200, `"VolumesDeleted":["data"]`) // not what was made elsewhere
	if n, _ := w.volumes.count(); n != 1 {
		t.Errorf("%d volumes", n)
	}
}

// TestMounts has a volume that does not exist be made, be on one node for all who have
// it, and be let go of by the last.
func TestMounts(t *testing.T) {
	w := newWorld(t)
	id := w.create("p", "one", `"Binds":["data:/srv:ro"],"Mounts":[{"Type":"volume","Source":"more","Target":"/m","VolumeOptions":{"Labels":{"a":"b"},"DriverConfig":{"Options":{"size":"2"}}}}]`)
	made := w.made(id)
	data, err := w.s.findVolume("p", "data")
	if err != nil || data.SizeGiB != DefaultSize {
		t.Fatalf("%+v, %v", data, err)
	}
	more, err := w.s.findVolume("p", "more")
	if err != nil || more.SizeGiB != 2 || more.Metadata["a"] != "b" {
		t.Fatalf("%+v, %v", more, err)
	}
	var req struct{ HostConfig struct{ Binds []string } }
	if err := json.Unmarshal(made.Request, &req); err != nil || req.HostConfig.Binds[0] != data.ID+":/srv:ro" || strings.Contains(string(made.Request), "DriverConfig\":{") {
		t.Errorf("the node is told %s", made.Request)
	}
	if len(made.Volumes) != 2 || made.Volumes[0].ID != data.ID || made.Volumes[0].Remote == nil || made.Volumes[0].ReadOnly {
		t.Errorf("the node has %+v", made.Volumes)
	}
	second := w.create("p", "two", `"Binds":["`+data.ID+`:/srv"]`)
	if a, b := made.Volumes[0].Remote.User, w.made(second).Volumes[0].Remote.User; a != b {
		t.Errorf("two attachments: %s and %s", a, b)
	}
	w.want("p", "DELETE", "/volumes/data", "", 409, "volume is in use - [")
	w.want("p", "DELETE", "/containers/one", "", 204, "")
	if _, n := w.volumes.count(); n != 1 {
		t.Errorf("%d attachments are left: the other container has one volume", n)
	}
	w.want("p", "DELETE", "/containers/two", "", 204, "")
	if _, n := w.volumes.count(); n != 0 {
		t.Errorf("%d attachments are left", n)
	}
	w.want("p", "DELETE", "/volumes/data", "", 204, "")
	w.want("p", "GET", "/volumes/data", "", 404, "no such volume")
}

// TestMountsRefused has nothing be left of what fails.
func TestMountsRefused(t *testing.T) {
	w := newWorld(t)
	create := func(token, binds, code string, want int) {
		t.Helper()
		w.want(token, "POST", "/containers/create?name=cc", `{"Image":"web","HostConfig":{"Binds":["`+binds+`"]}}`, want, code)
	}
	create("p", "../x:/srv", "not allowed", 403)
	create("p", "a$b:/srv", "invalid characters", 400)
	w.volumes.fails = errs.Invalidf("status must be available, but is in-use")
	create("p", "data:/srv", "cannot be mounted", 409)
	w.volumes.fails = nil
	w.node.fails = errs.Conflictf("it holds data")
	create("p", "data:/srv", "it holds data", 409)
	w.node.fails = nil
	if _, n := w.volumes.count(); n != 0 || !w.empty() || w.s.containers.Len() != 0 {
		t.Errorf("%d attachments, %d records are left", n, w.s.containers.Len())
	}
	w.volumes.volumes["second"] = Volume{ID: "second", Name: "data", ProjectID: "p"}
	create("p", "data:/srv", "use an id", 400)
	theirs := w.create("q", "cc", `"Binds":["data:/srv"]`) // its own
	if n := w.made(theirs).Volumes[0].ID; n == "second" {
		t.Error("another project's volume")
	}
	create("q", "second:/srv", "", http.StatusConflict) // the name is taken; the volume is its own
	if v, err := w.s.findVolume("q", "second"); err != nil || v.ID == "second" {
		t.Errorf("%+v, %v", v, err)
	}
}

// TestMountsAway takes a volume from a node that is away when its container is removed.
func TestMountsAway(t *testing.T) {
	w := newWorld(t)
	w.create("p", "cc", `"Binds":["data:/srv"]`)
	w.s.Nodes.Connect("beta", nil)
	w.want("p", "DELETE", "/containers/cc?force=1", "", 204, "")
	if _, n := w.volumes.count(); n != 0 {
		t.Errorf("%d attachments are left", n)
	}
	w.s.Nodes.Connect("beta", w.node)
	for _, id := range w.s.unfinished() {
		if err := w.s.reconcile(t.Context(), id); err != nil {
			t.Error(err)
		}
	}
	if w.s.containers.Len() != 0 || len(w.node.has()) != 0 {
		t.Error("the container is left")
	}
}
