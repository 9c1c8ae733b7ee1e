package docker

import (
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/nodeapi"
)

func TestWho(t *testing.T) {
	w := newWorld(t)
	for token, want := range map[string]int{"": 401, "gone": 401, "p": 200, "p.reader": 200, "p.other": 403} {
		if code, body := w.do(token, "GET", "/v1.47/containers/json", ""); code != want || want > 400 && !strings.Contains(body, `"message"`) {
			t.Errorf("%q: %d %s, want %d", token, code, body, want)
		}
	}
	if code, body := w.do("p.reader", "POST", "/containers/create", `{"Image":"web"}`); code != 403 {
		t.Errorf("a reader makes containers: %d %s", code, body)
	}
	for secret, want := range map[string]int{"right": 200, "wrong": 401} {
		r := httptest.NewRequest("GET", "/containers/json", nil)
		r.SetBasicAuth("p", secret)
		for range 2 {
			rec := httptest.NewRecorder()
			if w.s.ServeHTTP(rec, r); rec.Code != want {
				t.Errorf("%s: %d", secret, rec.Code)
			}
		}
	}
	for path, want := range map[string]int{"/v1.99/info": 400, "/v1.2/info": 400, "/swarm": 404, "/containers/x/update": 404, "/build": 404, "/commit": 404} {
		if code, _ := w.do("p", "GET", path, ""); code != want {
			t.Errorf("%s: %d, want %d", path, code, want)
		}
	}
}

// TestProjects has two that cannot reach each other's containers by any id or name.
func TestProjects(t *testing.T) {
	w := newWorld(t)
	id := w.create("p", "mine", "")
	w.create("q", "mine", "") // the name is q's own
	code, body := w.do("p", "POST", "/containers/mine/exec", `{"Cmd":["true"]}`)
	var exec struct{ Id string }
	if err := json.Unmarshal([]byte(body), &exec); err != nil || code != 201 || len(exec.Id) != 128 {
		t.Fatalf("exec: %d %s", code, body)
	}
	if code, body := w.do("p", "GET", "/exec/"+exec.Id+"/json", ""); code != 200 || !strings.Contains(body, exec.Id) {
		t.Errorf("its own exec: %d %s", code, body)
	}
	theirs, err := w.s.find("q", "mine")
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct{ method, path string }{
		{"GET", "/containers/" + id + "/json"}, {"GET", "/containers/" + id[:12] + "/logs"}, {"POST", "/containers/" + id + "/start"}, {"DELETE", "/containers/" + id},
		{"POST", "/containers/" + id + "/exec"}, {"POST", "/containers/" + id + "/rename?name=x"}, {"POST", "/containers/" + id + "/attach"}, {"PUT", "/containers/" + id + "/archive"},
		{"POST", "/exec/" + exec.Id + "/start"}, {"GET", "/exec/" + exec.Id + "/json"},
		{"POST", "/exec/" + exec.Id[:64] + theirs.ID + "/start"}, // under a container of its own
		{"POST", "/exec/" + exec.Id[:64] + "/start"},
	} {
		if code, body := w.do("q", x.method, x.path, `{"Cmd":["true"]}`); code != 404 {
			t.Errorf("%s %s: %d %s", x.method, x.path, code, body)
		}
	}
	if _, body := w.do("q", "GET", "/containers/json?all=1", ""); strings.Contains(body, id) || !strings.Contains(body, theirs.ID) {
		t.Errorf("q sees %s", body)
	}
	if _, body := w.do("p", "GET", "/containers/mine/json", ""); !strings.Contains(body, `"Name":"/mine"`) || strings.Contains(body, "/node/") || !strings.Contains(body, `"strata.node":"beta"`) {
		t.Errorf("p sees %s", body)
	}
	if code, body := w.do("p", "POST", "/containers/mine/exec", `{"Cmd":["true"],"Privileged":true}`); code != 403 {
		t.Errorf("a privileged exec: %d %s", code, body)
	}
	r := httptest.NewRequest("POST", "/v1.44/containers/mine/start", nil)
	r.SetBasicAuth("p", "right")
	rec := httptest.NewRecorder()
	if w.s.ServeHTTP(rec, r); !strings.Contains(rec.Body.String(), `"asked":"/v1.44/containers/`+id+`/start"`) || !strings.Contains(rec.Body.String(), `"secret":""`) {
		t.Errorf("the node is asked %s", rec.Body)
	}
}

// TestNames has networks that are called as Docker's own modes are.
func TestNames(t *testing.T) {
	w := newWorld(t)
	sub := []nodeapi.Subnet{{ID: "s"}}
	w.nets = []Network{{ID: "11111111-0000-0000-0000-000000000000", Name: "host", Subnets: sub}}
	id := w.create("p", "cc", "")
	w.node.mu.Lock()
	made := w.node.made[id]
	w.node.mu.Unlock()
	if strings.Contains(string(made.Request), `"NetworkMode":"host"`) || len(made.Ports) != 1 || made.Ports[0].Gateways[0].String() != "10.0.0.1" || made.Ports[0].Addrs[0].String() != "10.0.0.7/24" {
		t.Errorf("the node is to make %s with %+v", made.Request, made.Ports)
	}
	w.nets = append(w.nets, Network{ID: "22222222-0000-0000-0000-000000000000", Name: "b", Subnets: sub})
	if code, body := w.do("p", "POST", "/containers/create", `{"Image":"web"}`); code != 409 || !strings.Contains(body, "several networks") {
		t.Errorf("%d %s", code, body)
	}
	if code, body := w.do("p", "POST", "/containers/create?name=cc", `{"Image":"web","HostConfig":{"NetworkMode":"b"}}`); code != 409 || !strings.Contains(body, "already in use") {
		t.Errorf("%d %s", code, body)
	}
	if code, _ := w.do("p", "POST", "/containers/create", `{"Image":"web","HostConfig":{"NetworkMode":"c"}}`); code != 400 {
		t.Errorf("an unknown network: %d", code)
	}
}

// TestFailures leaves nothing of a container that cannot be made.
func TestFailures(t *testing.T) {
	w := newWorld(t)
	w.nets = []Network{{ID: "n", Name: "n", Subnets: []nodeapi.Subnet{{ID: "s"}}}}
	expect := func(what string, code int) {
		t.Helper()
		if got, body := w.do("p", "POST", "/containers/create?name=cc", `{"Image":"web"}`); got != code {
			t.Errorf("%s: %d %s, want %d", what, got, body, code)
		}
		if !w.empty() || w.s.containers.Len() != 0 || len(w.node.has()) != 0 {
			t.Errorf("%s: something is left: %d records", what, w.s.containers.Len())
		}
	}
	w.node.fails = errs.Invalidf("no command specified")
	expect("a node that refuses", 400)
	w.node.fails = nil
	w.noRoom = true
	expect("a full pool", 409)
	w.noRoom = false
	w.limit = 1
	w.create("p", "first", "")
	if code, body := w.do("p", "POST", "/containers/create?name=cc", `{"Image":"web"}`); code != 403 || !strings.Contains(body, "Quota") {
		t.Errorf("beyond the quota: %d %s", code, body)
	}
	if code, _ := w.do("p", "DELETE", "/containers/first", ""); code != 204 || !w.empty() || w.s.containers.Len() != 0 {
		t.Errorf("removing: %d", code)
	}
}

// TestAway removes a container whose node is not there, and from the node when it is back.
func TestAway(t *testing.T) {
	w := newWorld(t)
	id := w.create("p", "cc", "")
	w.s.Nodes.Connect("beta", nil)
	if _, body := w.do("p", "GET", "/containers/json", ""); !strings.Contains(body, "Unknown (node beta is away)") {
		t.Errorf("listed as %s", body)
	}
	if code, body := w.do("p", "GET", "/containers/cc/json", ""); code != 200 || !strings.Contains(body, `"Status":"unknown"`) {
		t.Errorf("inspected: %d %s", code, body)
	}
	if code, body := w.do("p", "POST", "/containers/cc/stop", ""); code != 503 {
		t.Errorf("stopped: %d %s", code, body)
	}
	if code, body := w.do("p", "DELETE", "/containers/cc?force=1", ""); code != 204 || !w.empty() {
		t.Errorf("removed: %d %s", code, body)
	}
	if code, _ := w.do("p", "GET", "/containers/cc/json", ""); code != 404 {
		t.Errorf("it is still seen: %d", code)
	}
	w.s.Nodes.Connect("beta", w.node)
	for _, id := range w.s.unfinished() {
		if err := w.s.reconcile(t.Context(), id); err != nil {
			t.Error(err)
		}
	}
	if slices.Contains(w.node.has(), id) || w.s.containers.Len() != 0 {
		t.Error("it came back with its node")
	}
}

// TestCrash finds creates that nobody goes on with, and what engines removed.
func TestCrash(t *testing.T) {
	w := newWorld(t)
	half := &Container{ID: newID(), ProjectID: "p", Name: "half", State: Creating, Node: "beta", Created: time.Now()}
	if err := w.s.containers.Create(t.Context(), half); err != nil {
		t.Fatal(err)
	}
	w.claims[half.ConsumerID()] = "beta"
	id := w.create("p", "auto", `"AutoRemove":true`)
	w.node.mu.Lock()
	w.node.made = map[string]nodeapi.Container{half.ID: {ID: half.ID}} // auto has ended
	w.node.mu.Unlock()
	again := w.create("p", "auto", `"AutoRemove":true`) // its name is free at once
	for _, id := range w.s.unfinished() {
		if err := w.s.reconcile(t.Context(), id); err != nil {
			t.Error(err)
		}
	}
	if got := fmt.Sprint(w.node.has()); got != fmt.Sprint([]string{again}) || again == id {
		t.Errorf("the node has %s, not only %s", got, again)
	}
	if _, err := w.s.containers.Get(half.ID); err == nil || w.claims[half.ConsumerID()] != "" {
		t.Error("half a container is left")
	}
}
