package cluster

import (
	"reflect"
	"testing"

	"github.com/strata-cloud/strata/internal/saga"
)

func TestTemplates(t *testing.T) {
	w := newWorld(t, saga.Options{}).start()
	a := w.do("owner", "1.11", "POST", "/clustertemplates", `{"name":"small","coe":"kubernetes","server_type":"bm","image_id":"tiny","flavor_id":"m1.small","labels":{"n":1,"t":true},"docker_volume_size":"5"}`).want(201)
	id := a.str("uuid")
	if got := a.header.Get("Location"); got != "http://example.com/container-infra/v1/clustertemplates/"+id {
		t.Errorf("its location is %s", got)
	}
	v := w.do("owner", "1.11", "GET", "/clustertemplates/small", "").want(200).body
	for key, want := range map[string]any{"name": "small", "coe": "kubernetes", "public": false, "docker_volume_size": 5.0, "network_driver": "strata", "project_id": project1, "keypair_id": nil, "updated_at": nil} {
		if v[key] != want {
			t.Errorf("%s is %v, want %v", key, v[key], want)
		}
	}
	if !reflect.DeepEqual(v["labels"], map[string]any{"n": 1.0, "t": true}) {
		t.Errorf("labels are %v", v["labels"])
	}
	for _, body := range []string{`{}`, `{"coe":"swarm"}`, `{"coe":"kubernetes","server_type":"metal"}`, `{"coe":"kubernetes","image_id":"none"}`, `{"coe":"kubernetes","server_type":"bm","image_id":"none"}`, `{"coe":"kubernetes","server_type":"bm","flavor_id":"none"}`,
		`{"coe":"kubernetes","server_type":"bm","network_driver":"flannel"}`, `{"coe":"kubernetes","server_type":"bm","volume_driver":"cinder"}`, `{"coe":"kubernetes","server_type":"bm","tls_disabled":"yes"}`,
		`{"coe":"kubernetes","server_type":"bm","public":"perhaps"}`, `{"coe":"kubernetes","server_type":"bm","strange":1}`, `{"coe":"kubernetes","server_type":"bm","apiserver_port":80}`} {
		w.do("owner", "1.11", "POST", "/clustertemplates", body).want(400)
	}
	w.do("reader", "1.11", "POST", "/clustertemplates", `{"coe":"kubernetes","server_type":"bm"}`).want(403)
	w.do("owner", "1.11", "POST", "/clustertemplates", `{"coe":"kubernetes","server_type":"bm","public":true}`).want(403)
	if n := w.svc.templates.Len(); n != 1 {
		t.Errorf("there are %d templates", n)
	}
	w.do("other", "1.11", "GET", "/clustertemplates/"+id, "").want(404)
	w.do("admin", "1.11", "PATCH", "/clustertemplates/"+id, `[{"op":"replace","path":"/public","value":"True"}]`).want(200)
	w.do("other", "1.11", "GET", "/clustertemplates/small", "").want(200)
	w.do("other", "1.11", "DELETE", "/clustertemplates/small", "").want(403)
	w.do("other", "1.11", "PATCH", "/clustertemplates/small", `[{"op":"replace","path":"/name","value":"mine"}]`).want(403)
	w.do("admin", "1.11", "PATCH", "/clustertemplates/"+id, `[{"op":"replace","path":"/hidden","value":true}]`).want(200)
	w.do("other", "1.11", "GET", "/clustertemplates/small", "").want(404)
	w.do("owner", "1.11", "DELETE", "/clustertemplates/small", "").want(204)
	w.do("owner", "1.11", "DELETE", "/clustertemplates/small", "").want(404)
}

func TestPatchTemplate(t *testing.T) {
	w := newWorld(t, saga.Options{}).start()
	id := w.template(`,"name":"one","labels":{"a":"b"}`)
	patch := func(body string, status int) map[string]any {
		t.Helper()
		return w.do("owner", "1.11", "PATCH", "/clustertemplates/"+id, body).want(status).body
	}
	v := patch(`[{"op":"replace","path":"/labels","value":"{'x': 'y', \"z\": 'it\\'s'}"},{"op":"add","path":"/labels/more","value":"1"},{"op":"add","path":"/flavor_id","value":"m1.small"},{"op":"replace","path":"/docker_volume_size","value":7}]`, 200)
	if !reflect.DeepEqual(v["labels"], map[string]any{"x": "y", "z": "it's", "more": "1"}) || v["flavor_id"] != "m1.small" || v["docker_volume_size"] != 7.0 || v["updated_at"] == nil {
		t.Errorf("it is %v", v)
	}
	if v := patch(`[{"op":"remove","path":"/flavor_id"},{"op":"remove","path":"/labels/x"}]`, 200); v["flavor_id"] != nil || len(v["labels"].(map[string]any)) != 2 {
		t.Errorf("it is %v", v)
	}
	for _, body := range []string{`{}`, `[{"op":"move","path":"/name","value":"x"}]`, `[{"op":"replace","path":"name","value":"x"}]`, `[{"op":"replace","path":"/uuid","value":"x"}]`, `[{"op":"remove","path":"/coe"}]`, `[{"op":"remove","path":"/name"}]`,
		`[{"op":"replace","path":"/name"}]`, `[{"op":"add","path":"/name","value":"x"}]`, `[{"op":"add","path":"/strange","value":"x"}]`, `[{"op":"replace","path":"/labels","value":"{'a': "}]`, `[{"op":"replace","path":"/labels/none","value":"1"}]`,
		`[{"op":"replace","path":"/coe","value":"swarm"}]`, `[{"op":"replace","path":"/server_type","value":"metal"}]`, `[{"op":"replace","path":"/docker_volume_size","value":"big"}]`, `[{"op":"replace","path":"/flavor_id","value":"none"}]`, `[{"op":"replace","path":"/name/x","value":"1"}]`} {
		patch(body, 400)
	}
	c := w.do("owner", "1.11", "POST", "/clusters", `{"cluster_template_id":"one","node_count":0}`).want(202).str("uuid")
	w.settled()
	patch(`[{"op":"replace","path":"/docker_volume_size","value":8}]`, 400)
	patch(`[{"op":"replace","path":"/name","value":"two"}]`, 200)
	w.do("owner", "1.11", "DELETE", "/clustertemplates/two", "").want(400)
	w.do("owner", "1.11", "DELETE", "/clusters/"+c, "").want(204)
	w.settled()
	w.do("owner", "1.11", "DELETE", "/clustertemplates/two", "").want(204)
}

func TestSameNames(t *testing.T) {
	w := newWorld(t, saga.Options{}).start()
	w.template(`,"name":"one"`)
	w.template(`,"name":"one"`)
	w.do("owner", "1.11", "GET", "/clustertemplates/one", "").want(409)
	page := w.do("owner", "1.11", "GET", "/clustertemplates?limit=1&sort_key=name", "").want(200)
	if n := len(page.body["clustertemplates"].([]any)); n != 1 || page.body["next"] == nil {
		t.Errorf("a page has %d, and then %v", n, page.body["next"])
	}
	for _, q := range []string{"limit=0", "limit=x", "sort_dir=up", "sort_key=strange", "marker=none"} {
		w.do("owner", "1.11", "GET", "/clustertemplates?"+q, "").want(400)
	}
}
