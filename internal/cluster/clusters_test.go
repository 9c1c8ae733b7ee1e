package cluster

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/strata-cloud/strata/internal/saga"
)

// TestLifeOfACluster makes a cluster, reads it, takes its certificates, resizes and
// deletes it.
func TestLifeOfACluster(t *testing.T) {
	w := newWorld(t, saga.Options{}).start()
	id := w.made(`,"name":"one","node_count":2,"labels":{"a":"b"}`)
	v := w.cluster(id)
	for key, want := range map[string]any{"status": "CREATE_COMPLETE", "health_status": "HEALTHY", "name": "one", "node_count": 2.0, "master_count": 1.0, "api_address": "https://192.0.2.1:6443",
		"coe_version": "v1.37.0", "project_id": project1, "user_id": "u1", "create_timeout": 60.0} {
		if v[key] != want {
			t.Errorf("%s is %v, want %v", key, v[key], want)
		}
	}
	if got := v["health_status_reason"]; !reflect.DeepEqual(got, map[string]any{"api": "ok", "node-1.Ready": "True", "node-2.Ready": "True"}) {
		t.Errorf("health is %v", got)
	}
	if got := v["labels_added"]; !reflect.DeepEqual(got, map[string]any{"a": "b"}) {
		t.Errorf("labels that were added: %v", got)
	}
	w.clean(t)
	w.certificates(t, id)
	w.do("owner", "1.7", "POST", "/clusters/one/actions/resize", `{"node_count":1,"nodes_to_remove":["node-1"]}`).want(202)
	w.settled()
	if v := w.cluster(id); v["status"] != "UPDATE_COMPLETE" || v["node_count"] != 1.0 || !reflect.DeepEqual(v["node_addresses"], []any{"192.0.2.2"}) {
		t.Errorf("after the resize: %v", v)
	}
	w.clean(t)
	w.do("owner", "1.11", "DELETE", "/clusters/one", "").want(204)
	w.settled()
	w.do("owner", "1.11", "GET", "/clusters/"+id, "").want(404)
	w.clean(t)
	if n := w.svc.groups.Len() + w.svc.clusters.Len() + w.svc.workers.Len(); n != 0 {
		t.Errorf("%d records are left", n)
	}
}

func request(t *testing.T, name string, groups ...string) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: name, Organization: groups}}, key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
}

func (w *world) certificates(t *testing.T, id string) {
	t.Helper()
	roots := x509.NewCertPool()
	if ca := w.do("owner", "1.11", "GET", "/certificates/one", "").want(200).str("pem"); !roots.AppendCertsFromPEM([]byte(ca)) {
		t.Fatalf("the authority is %s", ca)
	}
	body := func(csr, more string) string {
		raw, _ := json.Marshal(csr)
		return fmt.Sprintf(`{"cluster_uuid":%q,"csr":%s%s}`, id, raw, more)
	}
	csr := request(t, "admin", "system:masters")
	got := w.do("owner", "1.11", "POST", "/certificates", body(csr, "")).want(201)
	block, _ := pem.Decode([]byte(got.str("pem")))
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil || cert.Subject.CommonName != "admin" || !slices.Equal(cert.Subject.Organization, []string{"system:masters"}) {
		t.Fatalf("signed: %v, %v", cert.Subject, err)
	}
	if _, err := cert.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
		t.Error(err)
	}
	if cert.IsCA {
		t.Error("what was signed is an authority")
	}
	w.do("owner", "1.11", "POST", "/certificates", body("-----BEGIN", "")).want(400)
	w.do("owner", "1.11", "POST", "/certificates", body(csr, `,"ca_cert_type":"etcd"`)).want(400)
	w.do("owner", "1.11", "POST", "/certificates", body(csr, `,"ca_cert_type":"front-proxy"`)).want(400)
	w.do("other", "1.11", "POST", "/certificates", body(csr, "")).want(400)
	w.do("reader", "1.11", "POST", "/certificates", body(csr, "")).want(403)
	w.do("mate", "1.11", "POST", "/certificates", body(csr, "")).want(403)
	w.do("mate", "1.11", "GET", "/certificates/one", "").want(403)
	w.do("owner", "1.11", "GET", "/certificates/one?ca_cert_type=etcd", "").want(200)
	w.do("owner", "1.11", "GET", "/certificates/one?ca_cert_type=no", "").want(400)
	w.do("other", "1.11", "GET", "/certificates/"+id, "").want(404)
}

// TestNoSecrets looks for keys in whatever the API shows and in what is printed.
func TestNoSecrets(t *testing.T) {
	w := newWorld(t, saga.Options{}).start()
	id := w.made("")
	c, err := w.svc.clusters.Get(id)
	if err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf("%v %+v %#v %s", c.Authorities, *c.Authorities, c.Authorities, c.Authorities)
	for _, path := range []string{"/clusters", "/clusters/detail", "/clusters/" + id, "/clusters/" + id + "/nodegroups", "/certificates/" + id} {
		text += string(w.do("owner", "1.11", "GET", path, "").want(200).raw)
	}
	if strings.Contains(text, "PRIVATE KEY") || strings.Contains(text, "45 67 73 84") {
		t.Error("a key is shown")
	}
}

// TestWhoSees holds clusters of others to be absent.
func TestWhoSees(t *testing.T) {
	w := newWorld(t, saga.Options{}).start()
	id := w.made(`,"name":"one","node_count":0`)
	for method, path := range map[string]string{"GET": "", "DELETE": "", "POST": "/actions/resize"} {
		w.do("other", "1.11", method, "/clusters/"+id+path, `{"node_count":1}`).want(404)
	}
	w.do("other", "1.11", "PATCH", "/clusters/"+id, `[{"op":"replace","path":"/node_count","value":2}]`).want(404)
	w.do("reader", "1.11", "DELETE", "/clusters/"+id, "").want(403)
	w.do("nobody", "1.11", "GET", "/clusters/"+id, "").want(401)
	w.do("reader", "1.11", "GET", "/clusters/"+id, "").want(200)
	w.do("admin", "1.11", "GET", "/clusters/one", "").want(200)
	count := func(who string) int {
		return len(w.do(who, "1.11", "GET", "/clusters", "").want(200).body["clusters"].([]any))
	}
	if count("owner") != 1 || count("other") != 0 || count("admin") != 1 {
		t.Errorf("seen are %d, %d, %d", count("owner"), count("other"), count("admin"))
	}
}

// TestBadClusters refuses what cannot be, and leaves nothing of it.
func TestBadClusters(t *testing.T) {
	w := newWorld(t, saga.Options{}).start()
	id := w.template("")
	for _, x := range []struct {
		version, fields string
		status          int
	}{
		{"1.11", `"cluster_template_id":"none"`, 404}, {"1.9", `"cluster_template_id":"none"`, 400}, {"1.11", `"name":"x"`, 400},
		{"1.9", `"node_count":0`, 400}, {"1.11", `"node_count":-1`, 400}, {"1.11", `"node_count":"many"`, 400}, {"1.11", `"master_count":3`, 400}, {"1.11", `"master_count":0`, 400},
		{"1.11", `"name":"1x"`, 400}, {"1.11", `"name":""`, 400}, {"1.11", `"flavor_id":"none"`, 400}, {"1.11", `"labels":{"a":[1]}`, 400},
		{"1.11", `"labels":{"service_cluster_ip_range":"10.100.0.0/20"}`, 400}, {"1.11", `"labels":{"flannel_network_cidr":"nowhere"}`, 400}, {"1.11", `"what":1`, 400}, {"1.12", `"name":"x"`, 406},
	} {
		body := x.fields
		if !strings.Contains(body, "cluster_template_id") && x.fields != `"name":"x"` {
			body = `"cluster_template_id":"` + id + `",` + body
		}
		w.do("owner", x.version, "POST", "/clusters", "{"+body+"}").want(x.status)
	}
	w.do("owner", "1.11", "POST", "/clusters", "[").want(400)
	if n := w.svc.clusters.Len() + w.svc.groups.Len(); n != 0 || w.engine.Open() != 0 {
		t.Errorf("%d records are left", n)
	}
}

// TestCreateFails gives back what a create has when it cannot end.
func TestCreateFails(t *testing.T) {
	w := newWorld(t, saga.Options{}).start()
	w.agents["node-2"].set(t.Context(), "there is no strata-kube here", false)
	id := w.made(`,"node_count":2`)
	if v := w.cluster(id); v["status"] != "CREATE_FAILED" || !strings.Contains(v["status_reason"].(string), "there is no strata-kube here") || v["api_address"] != nil || v["faults"] == nil {
		t.Errorf("the cluster is %v", v)
	}
	w.clean(t)
	w.agents["node-2"].set(t.Context(), "", false)
	id2 := w.made(`,"node_count":5`)
	if v := w.cluster(id2); v["status"] != "CREATE_FAILED" || !strings.Contains(v["status_reason"].(string), "No node has room") {
		t.Errorf("without room the cluster is %v", v)
	}
	w.clean(t)
	for _, id := range []string{id, id2} {
		w.do("owner", "1.11", "POST", "/clusters/"+id+"/actions/resize", `{"node_count":1}`).want(400)
		w.do("owner", "1.11", "DELETE", "/clusters/"+id, "").want(204)
	}
	w.settled()
	if w.svc.clusters.Len() != 0 {
		t.Error("clusters that failed stay")
	}
}

// TestDeleteWhile deletes a cluster whose control plane never answers, and one whose nodes
// are away.
func TestDeleteWhile(t *testing.T) {
	w := newWorld(t, saga.Options{}).start()
	w.agents["node-1"].set(t.Context(), "", true)
	id := w.do("owner", "1.11", "POST", "/clusters", `{"cluster_template_id":"`+w.template("")+`"}`).want(202).str("uuid")
	w.until("the control plane", func() bool { return len(w.agents["node-1"].has()) == 1 })
	w.do("owner", "1.11", "DELETE", "/clusters/"+id, "").want(204)
	w.do("owner", "1.11", "DELETE", "/clusters/"+id, "") // again: 204, or it is gone already
	w.settled()
	w.clean(t)
	w.agents["node-1"].set(t.Context(), "", false)
	id = w.made(`,"node_count":2`)
	for _, name := range nodeNames {
		w.reg.Connect(name, nil)
	}
	if h := w.cluster(id)["health_status"]; h != "UNKNOWN" {
		t.Errorf("with its nodes away the health is %v", h)
	}
	w.do("owner", "1.11", "DELETE", "/clusters/"+id, "").want(204)
	w.settled()
	w.do("owner", "1.11", "GET", "/clusters/"+id, "").want(404)
	w.clean(t)
}

// TestQuota counts clusters, and gives the place of one that is gone to another.
func TestQuota(t *testing.T) {
	w := newWorld(t, saga.Options{}).start()
	w.do("owner", "1.11", "POST", "/quotas", `{"project_id":"`+project1+`","hard_limit":1}`).want(403)
	w.do("admin", "1.11", "POST", "/quotas", `{"project_id":"none","hard_limit":1}`).want(404)
	w.do("admin", "1.11", "POST", "/quotas", `{"hard_limit":1}`).want(400)
	if q := w.do("owner", "1.11", "GET", "/quotas/"+project1+"/Cluster", "").want(200).body; q["hard_limit"] != 20.0 {
		t.Errorf("without one of its own the quota is %v", q)
	}
	w.do("admin", "1.11", "POST", "/quotas", `{"project_id":"`+project1+`","hard_limit":1}`).want(201)
	w.do("admin", "1.11", "POST", "/quotas", `{"project_id":"`+project1+`","hard_limit":1}`).want(409)
	id := w.made(`,"node_count":0`)
	w.do("owner", "1.11", "POST", "/clusters", `{"cluster_template_id":"`+w.template("")+`"}`).want(403)
	if s := w.do("owner", "1.11", "GET", "/stats", "").want(200).body; s["clusters"] != 1.0 || s["nodes"] != 1.0 {
		t.Errorf("the statistics are %v", s)
	}
	w.do("other", "1.11", "GET", "/stats?project_id="+project1, "").want(403)
	w.do("owner", "1.11", "DELETE", "/clusters/"+id, "").want(204)
	w.settled()
	w.made(`,"node_count":0`)
	w.do("admin", "1.11", "PATCH", "/quotas/"+project1+"/Cluster", `{"hard_limit":2}`).want(202)
	w.do("other", "1.11", "GET", "/quotas/"+project1+"/Cluster", "").want(403)
	w.do("admin", "1.11", "GET", "/quotas/"+project1+"/Volume", "").want(404)
	w.do("admin", "1.11", "DELETE", "/quotas/"+project1+"/Cluster", "").want(204)
	w.do("admin", "1.11", "DELETE", "/quotas/"+project1+"/Cluster", "").want(404)
}
