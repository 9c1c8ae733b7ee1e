package network

import (
	"fmt"
	"testing"
)

func BenchmarkNetworkCreate(b *testing.B) {
	w := start(b)
	w.want(200, "admin", "PUT", "/quotas/p1", `{"quota":{"network":-1}}`)
	for b.Loop() {
		w.want(201, "alice", "POST", "/networks", `{"network":{"name":"n"}}`)
	}
}

func BenchmarkPortCreate(b *testing.B) {
	w := start(b)
	w.want(200, "admin", "PUT", "/quotas/p1", `{"quota":{"port":-1}}`)
	net := w.net("alice", `"name":"n"`)
	w.sub("alice", net, "10.0.0.0/8", "")
	for b.Loop() {
		w.want(201, "alice", "POST", "/ports", `{"port":{"network_id":"`+net+`"}}`)
	}
}

func many(b *testing.B) *world {
	w := start(b)
	net := w.net("alice", `"name":"n"`)
	w.sub("alice", net, "10.0.0.0/16", "")
	for i := range 498 {
		w.want(201, "alice", "POST", "/ports", fmt.Sprintf(`{"port":{"network_id":"%s","name":"p%d"}}`, net, i))
	}
	return w
}

func BenchmarkPortList500(b *testing.B) {
	w := many(b)
	for b.Loop() {
		w.want(200, "alice", "GET", "/ports", nil)
	}
}

func BenchmarkNetState500(b *testing.B) {
	w := many(b)
	net := w.s.networks.All()[0].ID
	if _, err := w.s.EnsurePort(b.Context(), PortSpec{ID: absent, NetworkID: net, ProjectID: "p1", Server: "s", Host: "n1"}); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if st := w.s.NetState("n1"); len(st.Ports) != 499 {
			b.Fatalf("%d ports", len(st.Ports))
		}
	}
}
