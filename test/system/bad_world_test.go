package system

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/keypairs"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/layer3/floatingips"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/layer3/routers"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/security/groups"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/networks"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/ports"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/subnets"

	"github.com/strata-cloud/strata/test/cloud"
)

// answer is what came back on a request, as it was on the wire.
type answer struct {
	status int
	body   []byte
}

// ask sends a request of a user as it is, without a client's checks.
func ask(t testing.TB, sc *gophercloud.ServiceClient, method, path, body string) answer {
	t.Helper()
	req := must[*http.Request](t)(http.NewRequestWithContext(t.Context(), method, sc.ServiceURL(strings.TrimPrefix(path, "/")), strings.NewReader(body)))
	req.Header.Set("X-Auth-Token", sc.Token())
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json")
	for k, v := range sc.MoreHeaders {
		req.Header.Set(k, v)
	}
	if sc.Microversion != "" {
		req.Header.Set("OpenStack-API-Version", sc.Type+" "+sc.Microversion)
	}
	resp := must[*http.Response](t)(http.DefaultClient.Do(req))
	defer resp.Body.Close()
	return answer{resp.StatusCode, must[[]byte](t)(io.ReadAll(resp.Body))}
}

// said gives the message of a fault in the service's own envelope, and fails the test for any other.
func (a answer) said(t testing.TB, service string) string {
	t.Helper()
	if service == "image" {
		var fault struct{ Code, Title, Message string }
		if err := json.Unmarshal(a.body, &fault); err != nil || !strings.HasPrefix(fault.Code, strconv.Itoa(a.status)+" ") || fault.Title == "" {
			t.Errorf("the image envelope is %s (%v)", a.body, err)
		}
		return fault.Message
	}
	var v map[string]json.RawMessage
	if err := json.Unmarshal(a.body, &v); err != nil || len(v) != 1 {
		t.Errorf("the envelope is %s (%v)", a.body, err)
		return string(a.body)
	}
	var fault struct {
		Code    int    `json:"code"`
		Type    string `json:"type"`
		Message string `json:"message"`
	}
	for key, raw := range v {
		ok := json.Unmarshal(raw, &fault) == nil && fault.Message != ""
		switch service {
		case "compute":
			ok = ok && fault.Code == a.status && key != "error"
		case "network":
			ok = ok && key == "NeutronError" && fault.Type != ""
		case "identity":
			ok = ok && key == "error" && fault.Code == a.status
		}
		if !ok {
			t.Errorf("the %s envelope is %s", service, a.body)
		}
	}
	return fault.Type + " " + fault.Message
}

// world is a cloud with a user who owns one of each, and a stranger from another project.
type world struct {
	c                     *cloud.Cloud
	admin, user, stranger clients
	project               string
	ids                   map[string]string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	return populate(t, cloud.New(t))
}

func populate(t *testing.T, c *cloud.Cloud) *world {
	t.Helper()
	w := &world{c: c, ids: map[string]string{}}
	ctx := t.Context()
	w.admin = clientsOf(t, w.c.Provider(ctx, "strata"))
	w.user, w.project = newUser(t, w.c, w.admin)
	w.stranger = clientsOf(t, w.c.Provider(ctx, "strata-demo"))
	n := w.user.network
	w.ids["PROJECT"], w.ids["PUBLIC"] = w.project, publicNetwork(t, w.user)
	w.ids["NETWORK"] = must[*networks.Network](t)(networks.Create(ctx, n, networks.CreateOpts{Name: "n"}).Extract()).ID
	w.ids["SUBNET"] = must[*subnets.Subnet](t)(subnets.Create(ctx, n, subnets.CreateOpts{NetworkID: w.ids["NETWORK"], CIDR: "10.66.0.0/24", IPVersion: 4}).Extract()).ID
	p := must[*ports.Port](t)(ports.Create(ctx, n, ports.CreateOpts{NetworkID: w.ids["NETWORK"]}).Extract())
	w.ids["PORT"], w.ids["MAC"], w.ids["ADDRESS"] = p.ID, p.MACAddress, p.FixedIPs[0].IPAddress
	w.ids["ROUTER"] = must[*routers.Router](t)(routers.Create(ctx, n, routers.CreateOpts{GatewayInfo: &routers.GatewayInfo{NetworkID: w.ids["PUBLIC"]}}).Extract()).ID
	must[*routers.InterfaceInfo](t)(routers.AddInterface(ctx, n, w.ids["ROUTER"], routers.AddInterfaceOpts{SubnetID: w.ids["SUBNET"]}).Extract())
	w.ids["GROUP"] = must[*groups.SecGroup](t)(groups.Create(ctx, n, groups.CreateOpts{Name: "g"}).Extract()).ID
	w.ids["FIP"] = must[*floatingips.FloatingIP](t)(floatingips.Create(ctx, n, floatingips.CreateOpts{FloatingNetworkID: w.ids["PUBLIC"]}).Extract()).ID
	must[*keypairs.KeyPair](t)(keypairs.Create(ctx, w.user.compute, keypairs.CreateOpts{Name: "own"}).Extract())
	w.ids["IMAGE"] = w.image(t, "raw", bytes.Repeat([]byte("no system "), 1000))
	var last machine
	await(t, "the machine to settle", func() bool { // networks are made after the answer
		now := look(t, c.Name())
		same := cmp.Equal(last, now)
		last = now
		return same
	})
	return w
}

// image uploads content and gives the image's id.
func (w *world) image(t *testing.T, format string, content []byte) string {
	t.Helper()
	id := w.emptyImage(t, format)
	if err := uploadData(t.Context(), w.user.image, id, bytes.NewReader(content)); err != nil {
		t.Fatal(err)
	}
	return id
}

func (w *world) emptyImage(t *testing.T, format string) string {
	t.Helper()
	a := ask(t, w.user.image, "POST", "images", fmt.Sprintf(`{"name":"i","disk_format":%q,"container_format":"bare"}`, format))
	var v struct{ ID string }
	if err := json.Unmarshal(a.body, &v); err != nil || a.status != 201 {
		t.Fatalf("making an image: %d %s", a.status, a.body)
	}
	return v.ID
}

// fill puts ids in the place of their names.
func (w *world) fill(s string) string {
	for k, v := range w.ids {
		s = strings.ReplaceAll(s, "$"+k, v)
	}
	return s
}

func (w *world) client(c clients, service string) *gophercloud.ServiceClient {
	return map[string]*gophercloud.ServiceClient{"compute": c.compute, "network": c.network, "image": c.image, "identity": c.identity}[service]
}

// traces is everything that a refused request could have left in the cloud.
type traces struct {
	Ports, Instances, Images, QEMU []string
	Taps                           int
	Machine                        machine
	Limits, Quota, Allocations     string
}

func (w *world) traces(t *testing.T) traces {
	t.Helper()
	all := must[[]ports.Port](t)(func() ([]ports.Port, error) {
		pages, err := ports.List(w.admin.network, ports.ListOpts{}).AllPages(t.Context())
		if err != nil {
			return nil, err
		}
		return ports.ExtractPorts(pages)
	}())
	v := traces{Taps: taps(t, w.c), QEMU: qemus(t, w.c), Instances: entries(t, w.c.Dir+"/instances"), Images: entries(t, w.c.Dir+"/images")}
	v.Machine = look(t, w.c.Name())
	v.Machine.Groups = nil // the cloud's own group comes with its first server
	for _, p := range all {
		v.Ports = append(v.Ports, fmt.Sprint(p.ID, p.DeviceID, p.SecurityGroups, p.FixedIPs))
	}
	v.Limits = string(ask(t, w.user.compute, "GET", "limits", "").body)
	v.Quota = string(ask(t, w.user.network, "GET", "quotas/"+w.project+"/details.json", "").body)
	placement := *w.admin.placement
	placement.Microversion = "1.9"
	v.Allocations = string(ask(t, &placement, "GET", "usages?project_id="+w.project, "").body)
	return v
}

// unchanged runs fn and checks that it left no trace.
func (w *world) unchanged(t *testing.T, fn func()) {
	t.Helper()
	before := w.traces(t)
	fn()
	if diff := cmp.Diff(before, w.traces(t)); diff != "" {
		t.Errorf("a trace is left (-before +after):\n%s", diff)
	}
}

// bad is a request that must be refused.
type bad struct {
	name, service, method, path, body string
	status                            int
	want                              string // part of the message
}

func (w *world) refused(t *testing.T, who clients, table []bad) {
	t.Helper()
	w.unchanged(t, func() {
		for _, x := range table {
			t.Run(x.service+"/"+x.name, func(t *testing.T) {
				a := ask(t, w.client(who, x.service), x.method, w.fill(x.path), w.fill(x.body))
				if a.status != x.status {
					t.Fatalf("status %d, want %d: %.300s", a.status, x.status, a.body)
				}
				if said := a.said(t, x.service); !strings.Contains(said, w.fill(x.want)) {
					t.Errorf("it said %q, want %q", said, w.fill(x.want))
				}
			})
		}
	})
}

var (
	long   = strings.Repeat("x", 256)
	absent = "7d0c1a5e-0000-4000-8000-00000000dead"
)

// server is the body of a create with further fields, from the user's own parts.
func server(more string) string {
	return `{"server":{"name":"s","imageRef":"$IMAGE","flavorRef":"42","networks":[{"uuid":"$NETWORK"}]` + more + `}}`
}

// on is the body of a create on these networks.
func on(networks string) string {
	return `{"server":{"name":"s","imageRef":"$IMAGE","flavorRef":"42","networks":` + networks + `}}`
}
