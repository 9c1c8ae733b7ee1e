package loadbalancer

import (
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"github.com/strata-cloud/strata/internal/nodeapi"
)

// TestAdditionalVIPs has a load balancer be on two subnets of its network, with members and
// clients of both IP versions.
func TestAdditionalVIPs(t *testing.T) {
	w := start(t)
	six := w.subnetOf(w.network, "fd00:7::/64")
	elsewhere := w.at("/network/v2.0", 201, "alice", "POST", "/networks", `{"network":{"name":"m"}}`)["network"].(view)["id"].(string)
	other := w.subnetOf(elsewhere, "fd00:8::/64")
	vip := `{"loadbalancer":{"vip_subnet_id":"` + w.subnet + `","additional_vips":[`
	for more, words := range map[string]string{
		`{"subnet_id":"` + other + `"}`:                           "must belong to the same network",
		`{"subnet_id":"` + six + `"},{"subnet_id":"` + six + `"}`: "Duplicate VIP subnet",
		`{"subnet_id":"` + six + `","ip_address":"fd00:8::7"}`:    "",
		`{"subnet_id":"` + six + `","ip_address":"x"}`:            "ip_address",
		`{"subnet_id":"` + six + `","vip_address":"fd00:7::7"}`:   "Unknown attribute",
	} {
		if got := w.want(400, "alice", "POST", "/loadbalancers", "%s", vip+more+`]}}`)["faultstring"]; !strings.Contains(got.(string), words) {
			t.Errorf("%s: %v", more, got)
		}
	}
	if left := w.ports(); len(left) != 0 {
		t.Errorf("there are ports: %v", left)
	}
	lb := w.make("loadbalancer", "/loadbalancers", `"vip_subnet_id":"%s","additional_vips":[{"subnet_id":"%s","ip_address":"fd00:7:0::7"}]`, w.subnet, six)
	v := w.get("/loadbalancers/" + lb)
	if want := []any{view{"subnet_id": six, "ip_address": "fd00:7::7", "port_id": v["vip_port_id"]}}; !reflect.DeepEqual(v["additional_vips"], want) || !strings.HasPrefix(v["vip_address"].(string), "10.0.0.") {
		t.Errorf("made: %v", v)
	}
	port := w.at("/network/v2.0", 200, "alice", "GET", "/ports/"+v["vip_port_id"].(string), "")["port"].(view)
	if ips := port["fixed_ips"].([]any); len(ips) != 2 {
		t.Errorf("its port has %v", ips)
	}
	l := w.make("listener", "/listeners", `"loadbalancer_id":"%s","protocol":"TCP","protocol_port":80,"allowed_cidrs":["fd00::/8","10.0.0.0/8"]`, lb)
	p := w.make("pool", "/pools", `"listener_id":"%s","protocol":"TCP","lb_algorithm":"ROUND_ROBIN"`, l)
	for _, at := range []string{"10.0.0.40", "fd00:7::40"} {
		w.make("member", "/pools/"+p+"/members", `"address":"%s","protocol_port":8080`, at)
	}
	rec, err := w.s.lbs.Get(lb)
	if err != nil {
		t.Fatal(err)
	}
	if on := w.s.On(rec.Node); len(on) != 1 || len(on[0].Port.Addrs) != 2 || len(on[0].Pools[0].Members) != 2 {
		t.Errorf("its node is told %+v", on)
	}
	w.want(204, "alice", "DELETE", "/loadbalancers/"+lb+"?cascade=true", "")
	if left := w.ports(); len(left) != 0 {
		t.Errorf("there are left %v", left)
	}
}

// TestAdditionalVIPsOfPort takes them of a port that the user has made.
func TestAdditionalVIPsOfPort(t *testing.T) {
	w := start(t)
	six := w.subnetOf(w.network, "fd00:7::/64")
	port := w.at("/network/v2.0", 201, "alice", "POST", "/ports", `{"port":{"network_id":"`+w.network+`"}}`)["port"].(view)["id"]
	single := w.at("/network/v2.0", 201, "alice", "POST", "/ports", `{"port":{"network_id":"`+w.network+`","fixed_ips":[{"subnet_id":"`+w.subnet+`"}]}}`)["port"].(view)["id"]
	ask := `{"loadbalancer":{"vip_port_id":"%s","vip_subnet_id":"%s","additional_vips":[{"subnet_id":"%s"}]}}`
	w.want(400, "alice", "POST", "/loadbalancers", ask, single, w.subnet, six)
	v := w.want(201, "alice", "POST", "/loadbalancers", ask, port, w.subnet, six)["loadbalancer"].(view)
	if more := v["additional_vips"].([]any); len(more) != 1 || !strings.HasPrefix(more[0].(view)["ip_address"].(string), "fd00:7::") {
		t.Errorf("made: %v", v)
	}
}

// TestManagedFamilies has a managed load balancer get a second address, and lose it.
func TestManagedFamilies(t *testing.T) {
	w := start(t)
	four, six := nodeapi.FixedIP{SubnetID: w.subnet, Addr: netip.MustParseAddr("10.0.0.77")}, nodeapi.FixedIP{SubnetID: w.subnetOf(w.network, "fd00:7::/64")}
	m := Managed{ID: absent, ProjectID: "p1", Owner: "c1", Name: "both", NetworkID: w.network, At: []nodeapi.FixedIP{four}}
	for _, at := range [][]nodeapi.FixedIP{{four}, {four, six}, {four, six}, {four}} {
		m.At = at
		st := w.managed(m)
		if len(st.At) != len(at) || st.At[0] != four.Addr || len(w.ports()) != 1 {
			t.Errorf("at %v: %+v, ports %v", at, st, w.ports())
		}
		if of := w.s.ManagedOf("c1"); len(of) != 1 || !reflect.DeepEqual(of[0].At, st.At) {
			t.Errorf("of the owner: %+v", of)
		}
	}
}
