package dataplane

import (
	"testing"
	"time"

	"github.com/strata-cloud/strata/internal/nodeapi"
)

func TestThinPath(t *testing.T) {
	w := newWorld(t)
	r := routerOf(1, 1)
	r.FloatingIPs = []nodeapi.FloatingIP{floating("f", 50, 1, 10)}
	w.state = nodeapi.NetState{
		Networks:       []nodeapi.Network{external(), network(1, 1)},
		Ports:          []nodeapi.Port{port(1, 1, 10, "open"), port(1, 1, 11, "closed")},
		Routers:        []nodeapi.Router{r},
		SecurityGroups: []nodeapi.SecurityGroup{group("open", ingress(1, -1, -1)), group("closed")},
	}
	w.apply()
	a, b := w.boot(portID(1, 1, 10)), w.boot(portID(1, 1, 11))
	t.Log(a.dhcp().Summary())
	b.dhcp()
	b.reaches("10.0.1.10")
	a.blocked("10.0.1.11")
	a.reaches("172.24.4.1")
	if !ping(nil, "172.24.4.50", 3*time.Second) {
		t.Fatal("the host does not reach the floating IP")
	}
	got, err := a.get("http://169.254.169.254/x")
	t.Log(got, err)
}
