package cluster

import (
	"fmt"
	"net/http/httptest"
	"reflect"
	"testing"
	"time"

	"github.com/strata-cloud/strata/internal/saga"
)

func TestGroups(t *testing.T) {
	w := newWorld(t, saga.Options{}).start()
	id := w.made(`,"name":"one","labels":{"a":"b"}`)
	at := "/clusters/one/nodegroups"
	w.do("owner", "1.8", "GET", at, "").want(404)
	names := func(query string) (out []string) {
		for _, g := range w.do("owner", "1.9", "GET", at+query, "").want(200).body["nodegroups"].([]any) {
			out = append(out, g.(map[string]any)["name"].(string))
		}
		return out
	}
	if got := names("?role=master"); len(got) != 1 || got[0] != "default-master" || len(names("")) != 2 {
		t.Errorf("groups are %v and %v", got, names(""))
	}
	v := w.do("owner", "1.11", "POST", at, `{"name":"more","node_count":2,"max_node_count":3,"labels":{"c":"d"},"merge_labels":true,"flavor_id":"m1.small"}`).want(202).body
	w.settled()
	more := v["uuid"].(string)
	v = w.do("owner", "1.11", "GET", at+"/more", "").want(200).body
	if v["uuid"] != more || v["status"] != "CREATE_COMPLETE" || v["is_default"] != false || len(v["node_addresses"].([]any)) != 2 || len(v["labels"].(map[string]any)) != 2 || v["cluster_id"] != id {
		t.Errorf("the group is %v", v)
	}
	if c := w.cluster(id); c["node_count"] != 3.0 || c["status"] != "UPDATE_COMPLETE" {
		t.Errorf("the cluster is %v", c)
	}
	w.clean(t)
	for body, status := range map[string]int{`{"name":"more"}`: 409, `{}`: 400, `{"name":"x","role":"master"}`: 400, `{"name":"x","min_node_count":2}`: 409, `{"name":"x","node_count":3,"max_node_count":2}`: 409,
		`{"name":"x","flavor_id":"none"}`: 400, `{"name":"x","strange":1}`: 400} {
		w.do("owner", "1.11", "POST", at, body).want(status)
	}
	w.do("reader", "1.11", "POST", at, `{"name":"x"}`).want(403)
	w.do("owner", "1.11", "PATCH", at+"/more", `[{"op":"replace","path":"/min_node_count","value":2}]`).want(202)
	w.do("owner", "1.11", "PATCH", at+"/more", `[{"op":"replace","path":"/min_node_count","value":4}]`).want(409)
	w.do("owner", "1.11", "PATCH", at+"/more", `[{"op":"replace","path":"/node_count","value":1}]`).want(400)
	for body, status := range map[string]int{`{"node_count":1,"nodegroup":"more"}`: 400, `{"node_count":4,"nodegroup":"more"}`: 400, `{"node_count":1,"nodegroup":"none"}`: 404, `{"node_count":1,"nodegroup":"default-master"}`: 400,
		`{}`: 400, `{"node_count":1,"nodes_to_remove":["node-9"]}`: 400} {
		w.do("owner", "1.11", "POST", "/clusters/one/actions/resize", body).want(status)
	}
	w.do("owner", "1.9", "POST", "/clusters/one/actions/resize", `{"node_count":0}`).want(400)
	w.do("owner", "1.6", "POST", "/clusters/one/actions/resize", `{"node_count":2}`).want(404)
	w.do("owner", "1.11", "DELETE", at+"/default-worker", "").want(400)
	w.do("owner", "1.11", "DELETE", at+"/more", "").want(204)
	w.settled()
	w.do("owner", "1.11", "GET", at+"/more", "").want(404)
	if c := w.cluster(id); c["node_count"] != 1.0 || c["status"] != "UPDATE_COMPLETE" {
		t.Errorf("the cluster is %v", c)
	}
	w.clean(t)
}

func TestPatchCluster(t *testing.T) {
	w := newWorld(t, saga.Options{}).start()
	id := w.made(`,"name":"one","node_count":1`)
	for _, body := range []string{`[{"op":"replace","path":"/name","value":"two"}]`, `[{"op":"replace","path":"/health_status","value":"HEALTHY"},{"op":"replace","path":"/labels","value":"{'a': 'b'}"}]`,
		`[{"op":"replace","path":"/api_address","value":"x"}]`, `[{"op":"replace","path":"/node_count","value":"x"}]`, `[{"op":"replace","path":"/node_count","value":-1}]`, `[{"op":"remove","path":"/cluster_template_id"}]`} {
		w.do("owner", "1.11", "PATCH", "/clusters/one", body).want(400)
	}
	w.do("owner", "1.9", "PATCH", "/clusters/one", `[{"op":"replace","path":"/node_count","value":0}]`).want(400)
	w.do("owner", "1.3", "PATCH", "/clusters/one?rollback=True", `[{"op":"replace","path":"/node_count","value":2}]`).want(202)
	w.settled()
	if v := w.cluster(id); v["node_count"] != 2.0 || v["status"] != "UPDATE_COMPLETE" {
		t.Errorf("it is %v", v)
	}
	w.do("owner", "1.11", "PATCH", "/clusters/one", `[{"op":"remove","path":"/node_count"}]`).want(202)
	w.settled()
	if v := w.cluster(id); v["node_count"] != 1.0 {
		t.Errorf("it is %v", v)
	}
	w.clean(t)
}

func TestUpgradeRefused(t *testing.T) {
	w := newWorld(t, saga.Options{}).start()
	w.made(`,"name":"one"`)
	w.do("owner", "1.11", "POST", "/clusters/one/nodegroups", `{"name":"more"}`).want(202)
	w.settled()
	other := w.template("")
	for body, status := range map[string]int{`{"cluster_template":"none"}`: 404, `{}`: 400, `{"cluster_template":"` + other + `","nodegroup":"more"}`: 409, `{"cluster_template":"` + other + `","max_batch_size":0}`: 400} {
		w.do("owner", "1.11", "POST", "/clusters/one/actions/upgrade", body).want(status)
	}
	w.do("owner", "1.7", "POST", "/clusters/one/actions/upgrade", `{"cluster_template":"`+other+`"}`).want(400)
}

// TestRecertify replaces certificates of workers that are over, and no others.
func TestRecertify(t *testing.T) {
	w := newWorld(t, saga.Options{}).start()
	w.made("")
	before := w.svc.workers.All()[0]
	if err := w.svc.recertify(t.Context(), before.ID); err != nil {
		t.Fatal(err)
	}
	if after, _ := w.svc.workers.Get(before.ID); string(after.Kubelet.Cert) != string(before.Kubelet.Cert) {
		t.Error("a good certificate was replaced")
	}
	if _, err := w.svc.workers.Update(t.Context(), before.ID, func(w *Worker) error { w.Proxy.Cert = w.Kubelet.Cert; return nil }); err != nil {
		t.Fatal(err)
	}
	if err := w.svc.recertify(t.Context(), before.ID); err != nil {
		t.Fatal(err)
	}
	after, err := w.svc.workers.Get(before.ID)
	if err != nil || string(after.Proxy.Cert) == string(before.Kubelet.Cert) || string(after.Kubelet.Cert) != string(before.Kubelet.Cert) {
		t.Errorf("the wrong certificate stays, or the right one does not: %v", err)
	}
}

func TestDiscovery(t *testing.T) {
	w := newWorld(t, saga.Options{})
	for _, path := range []string{root, root + "/", prefix} {
		rec := httptest.NewRecorder()
		w.handler.ServeHTTP(rec, httptest.NewRequest("GET", path, nil))
		if rec.Code != 200 {
			t.Errorf("GET %s: %d %s", path, rec.Code, rec.Body)
		}
	}
	w.do("owner", "latest", "GET", "/clusters/", "").want(200) // upstream's client ends some paths so
	a := w.do("owner", "latest", "GET", "/clusters", "").want(200)
	if got := a.header.Get("OpenStack-API-Version"); got != "container-infrastructure-management 1.11" {
		t.Errorf("the version is %q", got)
	}
	if got := w.do("admin", "1.1", "GET", "/mservices", "").want(200).body["mservices"].([]any); len(got) != 1 || got[0].(map[string]any)["state"] != "up" {
		t.Errorf("services are %v", got)
	}
	w.do("owner", "1.1", "GET", "/mservices", "").want(403)
	w.do("owner", "1.1", "GET", "/strange", "").want(404)
}

// TestTimeout ends a create whose time is over.
func TestTimeout(t *testing.T) {
	w := newWorld(t, saga.Options{}).start()
	w.agents["node-1"].set(t.Context(), "", true)
	id := w.do("owner", "1.11", "POST", "/clusters", `{"cluster_template_id":"`+w.template("")+`","create_timeout":1}`).want(202).str("uuid")
	w.until("the control plane", func() bool { return len(w.agents["node-1"].has()) == 1 })
	c, err := w.svc.clusters.Get(id)
	if err != nil {
		t.Fatal(err)
	}
	late := *c
	late.Created = time.Now().Add(-59 * time.Second)
	ctx, cancel := within(t.Context(), &late)
	defer cancel()
	if end, ok := ctx.Deadline(); !ok || time.Until(end) > 2*time.Second {
		t.Errorf("it may go on until %v", end)
	}
	done, cancel2 := within(t.Context(), &Cluster{ClusterFields: ClusterFields{CreateTimeout: 1}, Created: time.Now().Add(-time.Hour)})
	defer cancel2()
	if err := w.svc.awaitControl(done, c); err == nil {
		t.Error("it does not end")
	}
}

// TestUnclaimed finishes what a crash between a worker's record and its claim left.
func TestUnclaimed(t *testing.T) {
	w := newWorld(t, saga.Options{}).start()
	id := w.made(`,"node_count":0`)
	g, err := w.svc.defaultWorkers(id)
	if err != nil {
		t.Fatal(err)
	}
	c, err := w.svc.clusters.Get(id)
	if err != nil {
		t.Fatal(err)
	}
	for i, node := range []string{"node-2", "node-3"} {
		x := &Worker{ID: fmt.Sprintf("00000000-0000-4000-8000-00000000000%d", i), ClusterID: id, GroupID: g.ID, Node: node, Address: "192.0.2." + node[5:], Created: now()}
		if _, err := certify(c, x); err != nil {
			t.Fatal(err)
		}
		if err := w.svc.workers.Create(t.Context(), x); err != nil {
			t.Fatal(err)
		}
	}
	w.claims.mu.Lock()
	w.claims.held["somebody"] = "node-3" // was faster
	w.claims.mu.Unlock()
	w.do("owner", "1.11", "POST", "/clusters/"+id+"/actions/resize", `{"node_count":2}`).want(202)
	w.settled()
	w.claims.mu.Lock()
	delete(w.claims.held, "somebody")
	w.claims.mu.Unlock()
	w.clean(t)
	if v := w.cluster(id); v["status"] != "UPDATE_COMPLETE" || !reflect.DeepEqual(v["node_addresses"], []any{"192.0.2.2", "192.0.2.1"}) && !reflect.DeepEqual(v["node_addresses"], []any{"192.0.2.1", "192.0.2.2"}) {
		t.Errorf("it is %v", v)
	}
}
