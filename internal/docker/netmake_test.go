package docker

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/strata-cloud/strata/internal/nodeapi"
)

func TestNetworksOfProjects(t *testing.T) {
	w := newWorld(t)
	body := w.want("p", "POST", "/networks/create", `{"Name":"front","Driver":"bridge","Labels":{"of":"shop"},"CheckDuplicate":true}`, 201, `"Id":`)
	var made struct{ Id string }
	if err := json.Unmarshal([]byte(body), &made); err != nil {
		t.Fatal(err)
	}
	w.want("p", "POST", "/networks/create", `{"Name":"front"}`, 409, "already exists")
	w.want("p", "GET", "/networks?filters="+`{"label":{"of=shop":true},"type":{"custom":true},"dangling":{"true":true}}`, "", 200, made.Id)
	w.want("p", "GET", "/networks/front", "", 200, `"Driver":"bridge"`)
	w.want("q", "GET", "/networks/front", "", 404, "not found")
	w.want("q", "DELETE", "/networks/"+made.Id, "", 404, "not found")
	w.want("q", "POST", "/networks/"+made.Id+"/connect", `{"Container":"x"}`, 404, "not found")
	w.want("p.reader", "POST", "/networks/create", `{"Name":"back"}`, 403, "policy")
	for body, code := range map[string]int{
		`{"Name":"a b"}`: 400, `{"Name":"host"}`: 403, `{"Name":"xx","Driver":"macvlan"}`: 404, `{"Name":"xx","Ingress":true}`: 400, `{"Name":"xx","Options":{"x":"y"}}`: 400,
		`{"Name":"xx","IPAM":{"Config":[{"Subnet":"10.0.0.1/24"}]}}`: 400, `{"Name":"xx","IPAM":{"Config":[{"Subnet":"10.0.0.0/24","Gateway":"10.0.1.1"}]}}`: 400,
		`{"Name":"xx","IPAM":{"Config":[{"Subnet":"10.0.0.0/24","IPRange":"10.0.0.0/16"}]}}`: 400, `{"Name":"xx","IPAM":{"Config":[{"Subnet":"10.0.0.0/24","AuxiliaryAddresses":{"a":"10.0.0.9"}}]}}`: 400,
		`{"Name":"xx","IPAM":{"Driver":"other"}}`: 400, `{"Name":"xx","Labels":{"a":"` + strings.Repeat("x", maxLabels) + `"}}`: 400,
	} {
		w.want("p", "POST", "/networks/create", body, code, "message")
	}
	id := w.create("p", "cc", `"NetworkMode":"front"`)
	w.want("p", "DELETE", "/networks/front", "", 409, "active endpoints")
	w.want("p", "POST", "/networks/prune", "", 200, `"NetworksDeleted":[]`)
	w.want("p", "POST", "/networks/create", `{"Name":"back","Internal":true}`, 201, "")
	w.want("p", "GET", "/networks/back", "", 200, `"Internal":true`)
	w.want("p", "POST", "/networks/back/connect", `{"Container":"cc","EndpointConfig":{"Aliases":["db","db_1"]}}`, 200, "")
	if p := w.made(id).Ports; len(p) != 2 || p[0].Device != "eth0" || p[1].Device != "eth1" {
		t.Errorf("the node has %+v", p)
	}
	w.want("p", "POST", "/networks/back/connect", `{"Container":"cc"}`, 403, "already exists")
	w.want("p", "GET", "/containers/cc/json", "", 200, `"db_1"`)
	w.want("p", "POST", "/networks/front/disconnect", `{"Container":"cc"}`, 200, "")
	w.want("p", "POST", "/networks/front/disconnect", `{"Container":"cc"}`, 403, "not connected")
	if p := w.made(id).Ports; len(p) != 1 || p[0].Device != "eth1" {
		t.Errorf("the node has %+v", p)
	}
	w.want("p", "DELETE", "/networks/front", "", 204, "")
	w.want("p", "DELETE", "/containers/cc", "", 204, "")
	w.nets = append(w.nets, Network{ID: "n", Name: "private", ProjectID: "p", Subnets: []nodeapi.Subnet{{ID: "s"}}})
	w.want("p", "DELETE", "/networks/private", "", 403, "was not made with docker")
	w.want("p", "POST", "/networks/prune", "", 200, `"NetworksDeleted":["back"]`)
	if !w.empty() || w.s.made.Len() != 0 {
		t.Errorf("%d records are left", w.s.made.Len())
	}
}

// TestMadeNetworksAreNamed has a container without a network be on the project's own.
func TestMadeNetworksAreNamed(t *testing.T) {
	w := newWorld(t)
	w.nets = []Network{{ID: "n", Name: "private", Subnets: []nodeapi.Subnet{{ID: "s"}}}}
	w.want("p", "POST", "/networks/create", `{"Name":"front"}`, 201, "")
	w.create("p", "cc", "")
	w.want("p", "GET", "/containers/cc/json", "", 200, `"NetworkMode":"private"`)
}
