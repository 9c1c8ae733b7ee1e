package compute

import (
	"context"
	"fmt"
	"testing"

	"github.com/google/uuid"

	"github.com/strata-cloud/strata/internal/saga"
	"github.com/strata-cloud/strata/internal/saga/sagatest"
)

// sagaInterface demands that the record, the node and the network service agree on
// which ports the server has, whatever happens on the way.
func sagaInterface(t *testing.T, kind string, ours, before bool) {
	sagatest.Run(t, func(t *testing.T, opt saga.Options) *sagatest.World {
		w := newWorld(t, opt)
		v := w.running(t.Context(), t)
		n := NIC{PortID: uuid.NewString(), NetworkID: networkID, Ours: ours}
		if !ours {
			n.PortID = w.nets.addPort(project1)
		}
		j := &job{Server: v.ID, Args: fmt.Appendf(nil, `{"port_id":%q,"network_id":%q,"ours":%t}`, n.PortID, networkID, ours)}
		if err := w.svc.setNIC(t.Context(), v.ID, n, true); err != nil {
			t.Fatal(err)
		}
		if before {
			for _, step := range []func(context.Context, *job) error{w.svc.plugPort, w.svc.orderNICs, w.svc.deviceAwait} {
				if err := step(t.Context(), j); err != nil {
					t.Fatal(err)
				}
			}
		}
		return &sagatest.World{Engine: w.engine,
			Begin: func(ctx context.Context) (string, error) { return v.ID, w.begin(ctx, kind, kind, v, "", n) },
			Check: func(t *testing.T, end *saga.Record) {
				w.clean(t)
				got, err := w.svc.servers.Get(v.ID)
				if err != nil {
					t.Fatal(err)
				}
				inst, err := w.nodes.Instances.Get(v.ID)
				if err != nil {
					t.Fatal(err)
				}
				if len(inst.NICs) != len(got.NICs) || end.Phase == saga.Done && (got.nic(n.PortID) != nil) == before {
					t.Errorf("%s: the server has %v, the node %v", end.Phase, got.NICs, inst.NICs)
				}
			}}
	})
}

func TestSagaPlug(t *testing.T) {
	t.Run("own", func(t *testing.T) { sagaInterface(t, sagaPlug, true, false) })
	t.Run("given", func(t *testing.T) { sagaInterface(t, sagaPlug, false, false) })
}

func TestSagaUnplug(t *testing.T) {
	t.Run("own", func(t *testing.T) { sagaInterface(t, sagaUnplug, true, true) })
	t.Run("given", func(t *testing.T) { sagaInterface(t, sagaUnplug, false, true) })
}

func TestInterfaces(t *testing.T) {
	c := newClient(t)
	id := c.server("a", "")
	at := "/servers/" + id + "/os-interface"
	given := c.nets.addPort(project1)
	byPort := `{"interfaceAttachment":{"port_id":"` + given + `"}}`
	for body, status := range map[string]int{
		`{"interfaceAttachment":{"port_id":"` + given + `","net_id":"` + networkID + `"}}`: 400,
		`{"interfaceAttachment":{"fixed_ips":[{"ip_address":"10.0.0.9"}]}}`:                400,
		`{"interfaceAttachment":{"net_id":"` + uuid.NewString() + `"}}`:                    404,
		`{"interfaceAttachment":{"port_id":"` + uuid.NewString() + `"}}`:                   404,
		`{"interfaceAttachment":{"net_id":"` + networkID + `","tag":"early"}}`:             400,
		`{"interfaceAttachment":{"net_id":"` + networkID + `","fixed_ips":[]}}`:            400,
		`{"interfaceAttachment":{"port_id":"` + c.nets.addPort(project2) + `"}}`:           404,
	} {
		c.do("member", "POST", at, body).want(status)
	}
	if got := c.do("member", "POST", at, byPort).want(200).body["interfaceAttachment"].(map[string]any); got["port_id"] != given {
		t.Errorf("attached %v", got)
	}
	c.do("member", "POST", at, byPort).want(409)
	own := c.do("member@2.70", "POST", at, `{"interfaceAttachment":{"tag":"second"}}`).want(200).body["interfaceAttachment"].(map[string]any)
	if own["tag"] != "second" || own["net_id"] != networkID {
		t.Errorf("attached %v", own)
	}
	c.settled()
	c.do("reader", "DELETE", at+"/"+given, "").want(403)
	for _, port := range []string{given, own["port_id"].(string)} {
		c.do("member", "DELETE", at+"/"+port, "").want(202)
		c.settled()
		c.do("member", "DELETE", at+"/"+port, "").want(404)
	}
	if p, err := c.nets.Port(t.Context(), owner, given); err != nil || p.DeviceID != "" {
		t.Errorf("the user's port is %v, %v", p, err)
	}
	if _, err := c.nets.Port(t.Context(), owner, own["port_id"].(string)); err == nil {
		t.Error("the port made for the server is still there")
	}
	c.clean(t)
}

// A port that was deleted in the network service is none of the server's any more.
func TestPortGone(t *testing.T) {
	c := newClient(t)
	id := c.server("a", "")
	v, err := c.svc.servers.Get(id)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.nets.ReleasePort(t.Context(), v.NICs[0].PortID, false); err != nil {
		t.Fatal(err)
	}
	if err := c.svc.refreshGuest(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if v, err = c.svc.servers.Get(id); err != nil || len(v.NICs) != 0 {
		t.Errorf("the server has %v, %v", v.NICs, err)
	}
	if i, err := c.nodes.Instances.Get(id); err != nil || len(i.NICs) != 0 {
		t.Errorf("the node has %v, %v", i.NICs, err)
	}
	c.do("member", "POST", "/servers/"+id+"/action", `{"reboot":{"type":"HARD"}}`).want(202)
	c.settled()
	c.clean(t)
}
