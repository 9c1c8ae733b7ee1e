package loadbalancer

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/network"
	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/policy"
	"github.com/strata-cloud/strata/internal/rest"
	"github.com/strata-cloud/strata/internal/store"
)

type tokens map[string]*policy.Credentials

func (t tokens) Authenticate(_ context.Context, token string) (*policy.Credentials, error) {
	if c := t[token]; c != nil {
		return c, nil
	}
	return nil, errs.New(errs.Unauthenticated, "The request you have made requires authentication.")
}

// users are the callers of all tests: an administrator, two projects' members and a reader.
var users = tokens{
	"admin": {UserID: "a", ProjectID: "adm", Roles: []string{"admin", "member", "reader"}},
	"alice": {UserID: "u", ProjectID: "p1", Roles: []string{"member", "reader"}},
	"bob":   {UserID: "v", ProjectID: "p2", Roles: []string{"member", "reader"}},
	"ro":    {UserID: "w", ProjectID: "p1", Roles: []string{"reader"}},
}

// networks is the network service as the load balancers see it.
type networks struct{ *network.Service }

func (n networks) Subnet(c *policy.Credentials, id string) (*Subnet, error) {
	sub, net, err := n.VisibleSubnet(c, id)
	if err != nil {
		return nil, err
	}
	return &Subnet{sub.ID, net, sub.CIDR}, nil
}

func (n networks) Network(c *policy.Credentials, id string) ([]Subnet, error) {
	list, err := n.VisibleSubnets(c, id)
	var out []Subnet
	for _, x := range list {
		out = append(out, Subnet{x.ID, id, x.CIDR})
	}
	return out, err
}

func (n networks) Port(ctx context.Context, c *policy.Credentials, id string) (*Port, error) {
	p, err := n.Service.Port(ctx, c, id)
	if err != nil {
		return nil, err
	}
	return &Port{p.ID, p.NetworkID, p.DeviceID, p.FixedIPs}, nil
}

func (n networks) Group(c *policy.Credentials, id string) error { return n.UsableGroup(c, id) }

func (n networks) TakeVIP(ctx context.Context, v VIPSpec, also func(*store.Tx, []nodeapi.FixedIP) error) error {
	return n.Service.TakeVIP(ctx, network.VIPSpec(v), also)
}

// world is the service beside a network service, with two nodes and a clock.
type world struct {
	*testing.T
	s     *Service
	net   *network.Service
	url   string
	hosts []Host
	clock time.Time

	network, subnet string // alice's
}

func (w *world) Hosts() []network.Host {
	var out []network.Host
	for _, h := range w.hosts {
		out = append(out, network.Host{ID: h.ID, Name: h.ID, Alive: h.Alive, Dead: h.Dead})
	}
	return out
}

func start(t *testing.T) *world {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	db, err := store.Open(t.Context(), store.Options{Backend: store.NewMemory(), Log: log, CompactEvery: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	w := &world{T: t, hosts: []Host{{ID: "n1", Alive: true}, {ID: "n2", Alive: true}}, clock: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	w.net = network.New(network.Options{DB: db, Log: log, Nodes: w})
	w.s = New(Options{DB: db, Log: log, Networks: networks{w.net}, Hosts: func() []Host { return w.hosts }, Now: func() time.Time { return w.clock }})
	if err := db.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	engine, err := policy.New("", Policies(), network.Policies())
	if err != nil {
		t.Fatal(err)
	}
	kit := &rest.Kit{Policy: engine, Log: log, Metrics: rest.NewMetrics(), AuthURL: "/identity", Auth: users}
	h, err := kit.Handler(w.s.API(), w.s.OlderAPI(), w.net.API())
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	w.url = srv.URL
	w.network = w.at("/network/v2.0", 201, "alice", "POST", "/networks", `{"network":{"name":"n"}}`)["network"].(view)["id"].(string)
	w.subnet = w.subnetOf(w.network, "10.0.0.0/24")
	return w
}

// subnetOf makes a subnet of alice's network.
func (w *world) subnetOf(network, cidr string) string {
	w.Helper()
	version := 4
	if strings.Contains(cidr, ":") {
		version = 6
	}
	body := fmt.Sprintf(`{"subnet":{"ip_version":%d,"cidr":"%s","network_id":"%s"}}`, version, cidr, network)
	return w.at("/network/v2.0", 201, "alice", "POST", "/subnets", body)["subnet"].(view)["id"].(string)
}

// at sends a request that must have the status, and gives the body.
func (w *world) at(api string, status int, token, method, path, body string) view {
	w.Helper()
	req, err := http.NewRequest(method, w.url+api+path, strings.NewReader(body))
	if err != nil {
		w.Fatal(err)
	}
	req.Header.Set("X-Auth-Token", token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		w.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		w.Fatal(err)
	}
	if resp.StatusCode != status {
		w.Fatalf("%s %s %s: %d %s, want %d", method, path, body, resp.StatusCode, raw, status)
	}
	out := view{}
	if len(bytes.TrimSpace(raw)) > 0 {
		if err := json.Unmarshal(raw, &out); err != nil {
			w.Fatalf("%s %s: %v in %s", method, path, err, raw)
		}
	}
	return out
}

func (w *world) want(status int, token, method, path, body string, args ...any) view {
	w.Helper()
	return w.at(prefix, status, token, method, path, fmt.Sprintf(body, args...))
}

// make makes something of alice's, has the nodes follow, and gives its id.
func (w *world) make(kind, path, fields string, args ...any) string {
	w.Helper()
	v := w.want(201, "alice", "POST", path, `{"`+kind+`":{`+fields+`}}`, args...)[kind].(view)
	w.settle()
	return v["id"].(string)
}

func (w *world) balancer() string {
	w.Helper()
	return w.make("loadbalancer", "/loadbalancers", `"name":"lb","vip_subnet_id":"%s"`, w.subnet)
}

func (w *world) get(path string) view {
	w.Helper()
	for _, v := range w.want(200, "alice", "GET", path, "") {
		if x, ok := v.(view); ok {
			return x
		}
	}
	w.Fatalf("GET %s gives no object", path)
	return nil
}

// settle has every node reach what it was told, with what it says of members.
func (w *world) settle(said ...string) {
	w.Helper()
	members := map[string]string{}
	for i := 0; i+1 < len(said); i += 2 {
		members[said[i]] = said[i+1]
	}
	for _, h := range w.hosts {
		if !h.Alive {
			continue
		}
		var list []Status
		for _, lb := range w.s.On(h.ID) {
			list = append(list, Status{ID: lb.ID, Gen: lb.Gen, Members: members, Listeners: map[string]nodeapi.LBTraffic{}})
		}
		if err := w.s.Report(w.Context(), h.ID, list); err != nil {
			w.Fatal(err)
		}
	}
}

func (w *world) status(path, provisioning, operating string) {
	w.Helper()
	v := w.get(path)
	if v["provisioning_status"] != provisioning || v["operating_status"] != operating {
		w.Errorf("%s is %v and %v, want %s and %s", path, v["provisioning_status"], v["operating_status"], provisioning, operating)
	}
}

// ports are alice's VIPs.
func (w *world) ports() []any {
	w.Helper()
	return w.at("/network/v2.0", 200, "alice", "GET", "/ports?device_owner=Octavia", "")["ports"].([]any)
}

const absent = "00000000-0000-4000-8000-000000000000"
