package services

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/strata-cloud/strata/internal/errs"
)

// TestLife has a Service come, change with its nodes, and go.
func TestLife(t *testing.T) {
	w := start(t)
	w.service("web", nil, nil)
	w.until("the address", func() bool { return w.at("web") == "203.0.113.7" })
	b, _ := w.balancer("web")
	n1, n2 := Member{Name: "n1", Address: netip.MustParseAddr("10.100.0.11")}, Member{Name: "n2", Address: netip.MustParseAddr("10.100.0.12")}
	want := Balancer{ID: idOf("c1", "uid-web"), Cluster: "c1", ProjectID: "p", Name: "kube_service_c1_default_web", Description: "Kubernetes external service default/web from cluster c1",
		NetworkID: "net", SubnetID: "sub", SubnetID6: "sub6", Ports: []Port{{"http", "TCP", 80, 30080}}, Algorithm: "ROUND_ROBIN",
		Monitor: &Monitor{Path: "/healthz", Port: 10256, Delay: 3, Timeout: 2, Rise: 1, Fall: 2}, Members: []Member{n1, n2}}
	if d := cmp.Diff(want, b, cmpopts.EquateComparable(netip.Addr{})); d != "" {
		t.Error(d)
	}
	w.until("the event", func() bool { return strings.Contains(w.event("EnsuredLoadBalancer"), "203.0.113.7") })
	w.api.put("/api/v1/nodes/n2", object{"metadata": object{"name": "n2", "labels": object{excludedLabel: ""}}})
	w.until("n2 to be left out", func() bool { b, _ := w.balancer("web"); return slices.Equal(b.Members, []Member{n1}) })
	w.api.put("/api/v1/nodes/n2", object{"metadata": object{"name": "n2"}})
	w.until("n2 to be back", func() bool { b, _ := w.balancer("web"); return len(b.Members) == 2 })
	w.service("web", object{"externalTrafficPolicy": "Local", "healthCheckNodePort": 31000, "sessionAffinity": "ClientIP", "loadBalancerSourceRanges": []any{"10.1.2.3/8", "fd00::/8"},
		"ports": []any{object{"protocol": "TCP", "port": 53, "nodePort": 30053}, object{"protocol": "UDP", "port": 53, "nodePort": 30054}}}, nil)
	w.until("the change", func() bool { b, _ := w.balancer("web"); return len(b.Ports) == 2 })
	if b, _ = w.balancer("web"); !b.Transparent || !b.Sticky || b.Monitor.Port != 31000 || !slices.Equal(b.Allowed, []string{"10.0.0.0/8"}) || b.Ports[1] != (Port{"udp-53", "UDP", 53, 30054}) {
		t.Errorf("%+v", b)
	}
	w.delete("web")
	w.until("the end of the Service", func() bool { w.api.mu.Lock(); defer w.api.mu.Unlock(); return w.api.objects[servicePath+"web"] == nil })
	if balancers, floating := w.region.count(); balancers+floating != 0 {
		t.Errorf("there are left %d load balancers and %d floating IPs", balancers, floating)
	}
	if w.region.made != 1 {
		t.Errorf("%d load balancers were made", w.region.made)
	}
}

// TestChoices are annotations and fields that say how a Service is reached.
func TestChoices(t *testing.T) {
	w := start(t)
	w.service("inside", object{"loadBalancerIP": "10.100.0.77"}, object{internalNote: "true", limitNote: "100", methodNote: "LEAST_CONNECTIONS", monitorNote: "false", selectorNote: "pool=a"})
	w.service("chosen", object{"loadBalancerIP": "203.0.113.99"}, object{networkNote: "ext", keepNote: "true"})
	w.service("named", nil, object{hostnameNote: "web.example.org"})
	w.service("other", object{"loadBalancerClass": "example.org/lb"}, nil)
	w.service("plain", object{"type": "ClusterIP"}, nil)
	for name, at := range map[string]string{"inside": "10.100.0.77", "chosen": "203.0.113.99", "named": "web.example.org"} {
		w.until(name, func() bool { return w.at(name) == at })
	}
	if b, _ := w.balancer("inside"); b.Limit != 100 || b.Algorithm != "LEAST_CONNECTIONS" || b.Monitor != nil || len(b.Members) != 0 {
		t.Errorf("%+v", b)
	}
	balancers, floating := w.region.count()
	if f := w.region.floating[floatingOf(idOf("c1", "uid-chosen"))]; balancers != 3 || floating != 2 || f.Network != "ext" || !f.Keep {
		t.Errorf("%d load balancers, %d floating IPs, %+v", balancers, floating, f)
	}
	w.service("named", object{"type": "NodePort"}, nil)
	w.until("the end of another type", func() bool { n, _ := w.region.count(); return n == 2 && w.at("named") == "" })
	w.service("chosen", object{"loadBalancerIP": nil}, object{internalNote: "true"})
	w.until("an internal one", func() bool { return w.at("chosen") == "10.100.0.9" })
	w.region.set(func() { w.region.closed = true })
	w.service("closed", nil, nil)
	w.until("one without a way out", func() bool { return w.at("closed") == "10.100.0.9" })
	if err := w.c.Clean(t.Context(), "c1"); err != nil {
		t.Fatal(err)
	}
}

// TestFamilies has Services of IPv6 reached by it, and floating IPs for IPv4 alone.
func TestFamilies(t *testing.T) {
	w := start(t)
	w.service("six", object{"ipFamilies": []any{"IPv6"}, "loadBalancerIP": "fd00::77", "loadBalancerSourceRanges": []any{"fd00::/8", "10.0.0.0/8"}}, nil)
	w.service("both", object{"ipFamilies": []any{"IPv6", "IPv4"}, "externalTrafficPolicy": "Local", "healthCheckNodePort": 31000}, nil)
	w.until("six", func() bool { return w.at("six") == "fd00::9" })
	w.until("both", func() bool { return w.at("both") == "fd00::9 203.0.113.7" })
	n1, n2 := clusters{}.Places("")["n1"], clusters{}.Places("")["n2"]
	six, _ := w.balancer("six")
	if !six.IPv6 || six.Address6 != netip.MustParseAddr("fd00::77") || six.SubnetID6 != "sub6" || !slices.Equal(six.Allowed, []string{"fd00::/8"}) ||
		!slices.Equal(six.Members, []Member{{"n1", n1.Six, n1.Four}, {"n2", n2.Six, n2.Four}}) {
		t.Errorf("%+v", six)
	}
	if both, _ := w.balancer("both"); !slices.Equal(both.Members, []Member{{Name: "n1", Address: n1.Four}, {Name: "n1", Address: n1.Six}, {Name: "n2", Address: n2.Four}, {Name: "n2", Address: n2.Six}}) {
		t.Errorf("%+v", both)
	}
	if _, floating := w.region.count(); floating != 1 {
		t.Errorf("there are %d floating IPs", floating)
	}
	w.service("both", object{"ipFamilies": []any{"IPv6"}}, nil)
	w.until("it without IPv4", func() bool { _, floating := w.region.count(); return floating == 0 && w.at("both") == "fd00::9" })
}

// TestTroubles tells owners what is wrong, and goes on when it is not any more.
func TestTroubles(t *testing.T) {
	w := start(t)
	w.region.set(func() {
		w.region.refuse = errs.New(errs.QuotaExceeded, "Quota has been met for resources: Load Balancer")
	})
	w.service("web", nil, nil)
	w.until("the event", func() bool { return strings.Contains(w.event("SyncLoadBalancerFailed"), "Quota has been met") })
	w.region.set(func() { w.region.refuse = nil })
	w.service("web", nil, object{"touched": "yes"}) // the same again rests for a while
	w.until("the address", func() bool { return w.at("web") != "" })
	for _, c := range []struct {
		name, says  string
		spec, notes object
	}{
		{"sctp", "not SCTP", object{"ports": []any{object{"protocol": "SCTP", "port": 1, "nodePort": 30001}}}, nil},
		{"noport", "no node port", object{"ports": []any{object{"protocol": "TCP", "port": 1}}}, nil},
		{"proxy", "proxy-protocol is not supported", nil, object{notes + "proxy-protocol": "true"}},
		{"subnet", "cluster's own network", nil, object{subnetNote: "another"}},
		{"range", `source range "x"`, object{"loadBalancerSourceRanges": []any{"x"}}, nil},
		{"six-range", "no source range is of the Service's ipFamilies", object{"loadBalancerSourceRanges": []any{"fd00::/8"}}, nil},
		{"truth", "neither true nor false", nil, object{keepNote: "perhaps"}},
		{"number", "no such number", nil, object{delayNote: "0"}},
		{"method", "is not known", nil, object{methodNote: "FASTEST"}},
		{"ip", "no address of the Service's ipFamilies", object{"loadBalancerIP": "fd00::7"}, nil},
	} {
		w.service(c.name, c.spec, c.notes)
		w.until(c.name, func() bool {
			w.api.mu.Lock()
			defer w.api.mu.Unlock()
			for path, o := range w.api.objects {
				if strings.Contains(path, "/events/"+c.name+".") && strings.Contains(o["message"].(string), c.says) {
					return true
				}
			}
			return false
		})
	}
	if n, _ := w.region.count(); n != 1 {
		t.Errorf("there are %d load balancers", n)
	}
}
