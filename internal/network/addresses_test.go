package network

import (
	"testing"

	"github.com/strata-cloud/strata/internal/errs"
)

// TestServerAddresses holds what compute's older API does with addresses to the
// network API's own view.
func TestServerAddresses(t *testing.T) {
	w := start(t)
	ext := w.net("admin", `"name":"outside","router:external":true`)
	w.sub("admin", ext, "203.0.113.0/24", `,"enable_dhcp":false`)
	net := w.net("alice", `"name":"inside"`)
	sub := w.sub("alice", net, "10.0.0.0/29", "")
	router := w.make("alice", "router", "/routers", `"external_gateway_info":{"network_id":"%s"}`, ext)["id"].(string)
	w.want(200, "alice", "PUT", "/routers/"+router+"/add_router_interface", map[string]any{"subnet_id": sub})
	port := w.make("alice", "port", "/ports", `"network_id":"%s","device_id":"a server"`, net)
	id, fixed := port["id"].(string), port["fixed_ips"].([]any)[0].(map[string]any)["ip_address"].(string)

	list, err := w.s.ListNetworks(t.Context(), nil)
	if err != nil || len(list) < 2 {
		t.Fatalf("networks %v, %v", list, err)
	}
	if n, err := w.s.GetNetwork(t.Context(), nil, ext); err != nil || n.Name != "outside" || !n.External {
		t.Errorf("network %v, %v", n, err)
	}
	if _, err := w.s.GetNetwork(t.Context(), nil, absent); !errs.Is(err, errs.NotFound) {
		t.Errorf("no network: %v", err)
	}
	f, err := w.s.AllocateFloatingIP(t.Context(), nil, ext)
	if err != nil || f.Pool != "outside" || f.Fixed.IsValid() || f.Device != "" {
		t.Fatalf("allocated %v, %v", f, err)
	}
	if _, err := w.s.AllocateFloatingIP(t.Context(), nil, net); !errs.Is(err, errs.Invalid) {
		t.Errorf("allocated inside: %v", err)
	}
	if err := w.s.MapFloatingIP(t.Context(), nil, f.ID, id, fixed); err != nil {
		t.Fatal(err)
	}
	if v, err := w.s.FloatingIPNamed(t.Context(), nil, f.Address.String()); err != nil || v.Device != "a server" || v.Fixed.String() != fixed {
		t.Errorf("mapped: %v, %v", v, err)
	}
	if p := w.want(200, "admin", "GET", "/floatingips/"+f.ID, nil)["floatingip"].(map[string]any)["port_id"]; p != id {
		t.Errorf("its port is %v", p)
	}
	if err := w.s.MapFloatingIP(t.Context(), nil, f.ID, "", ""); err != nil {
		t.Fatal(err)
	}
	if v, err := w.s.GetFloatingIP(t.Context(), nil, f.ID); err != nil || v.PortID != "" {
		t.Errorf("mapped to nothing: %v, %v", v, err)
	}
	if err := w.s.ReleaseFloatingIP(t.Context(), nil, f.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := w.s.FloatingIPNamed(t.Context(), nil, f.Address.String()); !errs.Is(err, errs.NotFound) {
		t.Errorf("released: %v", err)
	}
	w.want(404, "admin", "GET", "/floatingips/"+f.ID, nil)
}

func TestServerPortAddresses(t *testing.T) {
	w := start(t)
	net := w.net("alice", `"name":"inside"`)
	w.sub("alice", net, "10.0.0.0/29", `,"enable_dhcp":false`)
	port := w.make("alice", "port", "/ports", `"network_id":"%s"`, net)
	id, first := port["id"].(string), port["fixed_ips"].([]any)[0].(map[string]any)["ip_address"]
	ips := func() []any {
		return w.want(200, "alice", "GET", "/ports/"+id, nil)["port"].(map[string]any)["fixed_ips"].([]any)
	}
	if err := w.s.AddAddress(t.Context(), nil, id); err != nil {
		t.Fatal(err)
	}
	if err := w.s.DropAddress(t.Context(), nil, id, "192.0.2.1"); !errs.Is(err, errs.NotFound) {
		t.Errorf("dropped a foreign address: %v", err)
	}
	has := ips()
	if len(has) != 2 {
		t.Fatalf("addresses %v", has)
	}
	for _, ip := range has {
		if a := ip.(map[string]any)["ip_address"]; a != first {
			if err := w.s.DropAddress(t.Context(), nil, id, a.(string)); err != nil {
				t.Error(err)
			}
		}
	}
	if left := ips(); len(left) != 1 || left[0].(map[string]any)["ip_address"] != first {
		t.Errorf("left %v", left)
	}
	for range 6 { // more than there are
		if err := w.s.AddAddress(t.Context(), nil, id); err != nil {
			if !errs.Is(err, errs.Conflict) && !errs.Is(err, errs.Invalid) {
				t.Errorf("full: %v", err)
			}
			break
		}
	}
	before := len(ips())
	if err := w.s.AddAddress(t.Context(), nil, id); err == nil {
		t.Error("an address of a full subnet")
	}
	if len(ips()) != before {
		t.Error("a refusal changed the port")
	}
}
