package compute

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/strata-cloud/strata/internal/compute/proxy"
	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/rest"
)

const absentID = "99999999-9999-4999-8999-999999999999"

// proxiedImages plays an image service whose images are the member's.
type proxiedImages struct{ list []proxy.Image }

func (f *proxiedImages) List(context.Context, *rest.Request) ([]proxy.Image, error) {
	return f.list, nil
}

func (f *proxiedImages) at(r *rest.Request, id string) (*proxy.Image, error) {
	i := slices.IndexFunc(f.list, func(v proxy.Image) bool { return v.ID == id })
	if i < 0 || r.Creds.ProjectID != project1 {
		return nil, errs.NotFoundf("No image found with ID %s", id)
	}
	return &f.list[i], nil
}

func (f *proxiedImages) Get(_ context.Context, r *rest.Request, id string) (*proxy.Image, error) {
	return f.at(r, id)
}

func (f *proxiedImages) Delete(_ context.Context, r *rest.Request, id string) error {
	v, err := f.at(r, id)
	if err != nil {
		return err
	}
	if v.Properties["protected"] != "" {
		return errs.Forbiddenf("Image %s is protected and cannot be deleted.", id)
	}
	f.list = slices.DeleteFunc(f.list, func(v proxy.Image) bool { return v.ID == id })
	return nil
}

func (f *proxiedImages) SetProperties(_ context.Context, r *rest.Request, id string, edit func(map[string]string) error) (*proxy.Image, error) {
	v, err := f.at(r, id)
	if err != nil {
		return nil, err
	}
	now := map[string]string{}
	maps.Copy(now, v.Properties)
	if err := edit(now); err != nil {
		return nil, err
	}
	v.Properties = now
	return v, nil
}

func TestImageProxy(t *testing.T) {
	c := newClient(t)
	size, when := int64(1024), time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	c.withProxies(&proxiedImages{list: []proxy.Image{
		{ID: imageID, Name: "tiny", Status: "active", MinDisk: 1, MinRAM: 64, Size: &size, Created: when, Updated: when, Properties: map[string]string{"instance_uuid": "s1", "image_type": "snapshot"}},
		{ID: absentID[:35] + "0", Status: "queued", Created: when, Updated: when.Add(time.Hour), Properties: map[string]string{"protected": "yes"}},
	}}, nil)
	at := "/images/" + imageID
	c.do("member", "GET", at, "").want(200).is("ACTIVE", "image", "status").is(100, "image", "progress").is(1, "image", "minDisk").is(64, "image", "minRam").
		is(1024, "image", "OS-EXT-IMG-SIZE:size").is("2026-01-02T03:04:05Z", "image", "created").is("s1", "image", "server", "id").
		is("snapshot", "image", "metadata", "image_type").is("alternate", "image", "links", 2, "rel")
	c.do("member@2.35", "GET", "/images/detail", "").want(200).count(2, "images").is("SAVING", "images", 1, "status").is("<nil>", "images", 1, "name")
	for query, n := range map[string]int{"": 2, "?status=ACTIVE": 1, "?name=tiny": 1, "?name=x": 0, "?server=http://h/servers/s1": 1, "?type=snapshot": 1, "?type=backup": 0,
		"?minRam=64": 1, "?minDisk=2": 0, "?property-protected=yes": 1, "?changes-since=2026-01-02T04:00:00Z": 1, "?unknown=1": 2, "?limit=1": 1, "?marker=" + imageID: 1} {
		c.do("member", "GET", "/images"+query, "").want(200).count(n, "images")
	}
	c.do("member", "GET", "/images?limit=1", "").want(200).count(1, "images_links")
	for _, query := range []string{"?limit=x", "?limit=-1", "?marker=nope", "?changes-since=soon"} {
		c.do("member", "GET", "/images"+query, "").want(400)
	}
	for _, who := range []string{"member@2.36", "other"} {
		c.do(who, "GET", at, "").want(404)
		c.do(who, "DELETE", at, "").want(404)
	}
	c.do("member@2.36", "GET", "/images", "").want(404)
	c.do("member", "GET", "/images/", "").want(404)
	c.do("member", "DELETE", "/images/"+absentID[:35]+"0", "").want(403)
	c.do("member", "DELETE", at, "").want(204)
	c.do("member", "DELETE", at, "").want(404)
}

func TestImageMetadataProxy(t *testing.T) {
	c := newClient(t)
	c.withProxies(&proxiedImages{list: []proxy.Image{{ID: imageID, Status: "active"}}}, nil)
	at := "/images/" + imageID + "/metadata"
	c.do("member@2.38", "GET", at, "").want(200).is("map[]", "metadata")
	c.do("member", "PUT", at, `{"metadata":{"a":"1","b":"2"}}`).want(200).is("map[a:1 b:2]", "metadata")
	c.do("member", "POST", at, `{"metadata":{"a":"3","c":"4"}}`).want(200).is("map[a:3 b:2 c:4]", "metadata")
	c.do("member", "GET", at+"/c", "").want(200).is("map[c:4]", "meta")
	c.do("member", "GET", at+"/d", "").want(404)
	c.do("member", "PUT", at+"/c", `{"meta":{"c":"5"}}`).want(200).is("map[c:5]", "meta")
	c.do("member", "PUT", at+"/c", `{"meta":{"d":"5"}}`).want(400)
	c.do("member", "PUT", at+"/c", `{"meta":{"c":5}}`).want(400)
	c.do("member", "POST", at, `{"metadata":{"":"x"}}`).want(400)
	c.do("member", "POST", at, `{"metadata":{"a":"`+strings.Repeat("x", 256)+`"}}`).want(400)
	c.do("member", "DELETE", at+"/c", "").want(204)
	c.do("member", "DELETE", at+"/c", "").want(404)
	c.do("member@2.39", "GET", at, "").want(404)
	c.do("other", "PUT", at, `{"metadata":{}}`).want(404)
	c.do("admin", "PUT", "/os-quota-sets/"+project1, `{"quota_set":{"metadata_items":2}}`).want(200)
	c.do("member", "POST", at, `{"metadata":{"x":"1"}}`).want(403)
	c.do("member", "GET", at, "").want(200).is("map[a:3 b:2]", "metadata")
}

// proxiedAddresses plays a network service with one pool of three addresses; the
// floating address 203.0.113.9 cannot be mapped.
type proxiedAddresses struct {
	nets *fakeNetworks
	ips  []proxy.FloatingIP
}

func (f *proxiedAddresses) Networks(context.Context, *rest.Request) ([]proxy.Network, error) {
	return []proxy.Network{{ID: networkID, Name: "private"}, {ID: imageID, Name: "public", External: true}}, nil
}

func (f *proxiedAddresses) Network(ctx context.Context, r *rest.Request, id string) (*proxy.Network, error) {
	list, err := f.Networks(ctx, r)
	if i := slices.IndexFunc(list, func(n proxy.Network) bool { return n.ID == id }); i >= 0 {
		return &list[i], err
	}
	return nil, errs.NotFoundf("Network %s could not be found.", id)
}

func (f *proxiedAddresses) FloatingIPs(_ context.Context, r *rest.Request) ([]proxy.FloatingIP, error) {
	if r.Creds.ProjectID != project1 {
		return nil, nil
	}
	return f.ips, nil
}

func (f *proxiedAddresses) one(r *rest.Request, ok func(*proxy.FloatingIP) bool) (*proxy.FloatingIP, error) {
	for i := range f.ips {
		if r.Creds.ProjectID == project1 && ok(&f.ips[i]) {
			return &f.ips[i], nil
		}
	}
	return nil, errs.NotFoundf("no such floating IP")
}

func (f *proxiedAddresses) FloatingIP(_ context.Context, r *rest.Request, id string) (*proxy.FloatingIP, error) {
	return f.one(r, func(x *proxy.FloatingIP) bool { return x.ID == id })
}

func (f *proxiedAddresses) FloatingIPNamed(_ context.Context, r *rest.Request, address string) (*proxy.FloatingIP, error) {
	return f.one(r, func(x *proxy.FloatingIP) bool { return x.Address.String() == address })
}

func (f *proxiedAddresses) Allocate(_ context.Context, _ *rest.Request, network string) (*proxy.FloatingIP, error) {
	if len(f.ips) == 3 {
		return nil, errs.New(errs.QuotaExceeded, "Quota exceeded for resources: ['floatingip'].")
	}
	n := len(f.ips)
	f.ips = append(f.ips, proxy.FloatingIP{ID: fmt.Sprint("ip-", n), Address: netip.AddrFrom4([4]byte{203, 0, 113, byte(7 + n)}), Pool: "public"})
	return &f.ips[n], nil
}

func (f *proxiedAddresses) Release(_ context.Context, _ *rest.Request, id string) error {
	f.ips = slices.DeleteFunc(f.ips, func(x proxy.FloatingIP) bool { return x.ID == id })
	return nil
}

func (f *proxiedAddresses) Map(_ context.Context, r *rest.Request, id, port, fixed string) error {
	x, err := f.one(r, func(x *proxy.FloatingIP) bool { return x.ID == id })
	if err != nil {
		return err
	}
	x.PortID, x.Device, x.Fixed = port, "", netip.Addr{}
	if port == "" {
		return nil
	}
	if x.Address.As4()[3] == 9 {
		return errs.Coded(errs.NotFound, "ExternalGatewayForFloatingIPNotFound", "External network is not reachable.")
	}
	x.Device, x.Fixed = f.nets.ports[port].DeviceID, netip.MustParseAddr(fixed)
	return nil
}

func (f *proxiedAddresses) AddAddress(_ context.Context, _ *rest.Request, port string) error {
	p := f.nets.ports[port]
	if len(p.FixedIPs) == 2 {
		return errs.Coded(errs.Conflict, "IpAddressGenerationFailure", "No more IP addresses available on network.")
	}
	p.FixedIPs = append(slices.Clone(p.FixedIPs), p.FixedIPs[0])
	p.FixedIPs[1].Addr = netip.MustParseAddr("10.0.0.200")
	return nil
}

func (f *proxiedAddresses) DropAddress(_ context.Context, _ *rest.Request, port, address string) error {
	p := f.nets.ports[port]
	if address != "10.0.0.200" {
		return errors.New("the wrong address")
	}
	p.FixedIPs = p.FixedIPs[:1]
	return nil
}

func TestFloatingIPProxy(t *testing.T) {
	c := newClient(t)
	c.withProxies(nil, &proxiedAddresses{nets: c.nets})
	id := c.server("web", "")
	c.do("member", "GET", "/os-floating-ips", "").want(200).count(0, "floating_ips")
	c.do("reader", "POST", "/os-floating-ips", `{}`).want(403)
	c.do("member", "POST", "/os-floating-ips", `{"pool":"mars"}`).want(404)
	c.do("member", "POST", "/os-floating-ips", `{"pool":7}`).want(400)
	c.do("member", "POST", "/os-floating-ips", `{"pool":"public"}`).want(200).is("203.0.113.7", "floating_ip", "ip").is("public", "floating_ip", "pool").
		is("<nil>", "floating_ip", "fixed_ip").is("<nil>", "floating_ip", "instance_id")
	c.do("member", "POST", "/os-floating-ips", `{"pool":"`+imageID+`"}`).want(200)
	c.do("member@2.35", "POST", "/os-floating-ips", "null").want(200)
	c.do("member", "POST", "/os-floating-ips", "null").want(403)
	c.do("member", "GET", "/os-floating-ip-pools", "").want(200).count(1, "floating_ip_pools").is("public", "floating_ip_pools", 0, "name")
	for _, path := range []string{"/os-floating-ips", "/os-floating-ips/ip-0", "/os-floating-ip-pools", "/os-networks", "/os-tenant-networks"} {
		c.do("member@2.36", "GET", path, "").want(404)
	}
	fixed := c.nets.Ports(id)[0].FixedIPs[0].Addr.String()
	add := func(address, more string) string {
		return `{"addFloatingIp":{"address":"` + address + `"` + more + `}}`
	}
	for body, status := range map[string]int{
		add("203.0.113.1", ""): 404,
		add("", ""):            400,
		add("203.0.113.9", ""): 400,
		add("203.0.113.7", `,"fixed_address":"192.0.2.1"`):    400,
		add("203.0.113.7", `,"fixed_address":"not"`):          400,
		`{"removeFloatingIp":{"address":"203.0.113.7"}}`:      409,
		`{"removeFloatingIp":{"address":"203.0.113.1"}}`:      404,
		`{"addFloatingIp":{"fixed_address":"` + fixed + `"}}`: 400,
	} {
		c.act("member", id, body).want(status)
	}
	c.act("other", id, add("203.0.113.7", "")).want(404)
	c.act("member@2.44", id, add("203.0.113.7", "")).want(400)
	c.act("member@2.43", id, add("203.0.113.7", `,"fixed_address":"`+fixed+`"`)).want(202)
	c.do("member", "GET", "/os-floating-ips/ip-0", "").want(200).is(id, "floating_ip", "instance_id").is(fixed, "floating_ip", "fixed_ip")
	second := c.server("two", "")
	c.act("member", second, add("203.0.113.7", "")).want(202)
	c.act("member", id, `{"removeFloatingIp":{"address":"203.0.113.7"}}`).want(409)
	c.act("member", second, `{"removeFloatingIp":{"address":"203.0.113.7"}}`).want(202)
	c.do("member", "GET", "/os-floating-ips/ip-0", "").want(200).is("<nil>", "floating_ip", "instance_id")
	c.do("other", "DELETE", "/os-floating-ips/ip-0", "").want(404)
	c.do("member", "DELETE", "/os-floating-ips/ip-0", "").want(202)
	c.do("member", "DELETE", "/os-floating-ips/ip-0", "").want(404)
}

func TestFixedIPProxy(t *testing.T) {
	c := newClient(t)
	c.withProxies(nil, &proxiedAddresses{nets: c.nets})
	id := c.server("web", "")
	c.act("member@2.43", id, `{"addFixedIp":{"networkId":"`+networkID+`"}}`).want(202)
	c.do("member", "GET", "/servers/"+id+"/ips", "").want(200).count(2, "addresses", "private")
	c.act("member", id, `{"addFixedIp":{"networkId":"`+networkID+`"}}`).want(400)
	c.act("member", id, `{"addFixedIp":{"networkId":"`+absentID+`"}}`).want(404)
	c.act("member", id, `{"addFixedIp":{}}`).want(400)
	c.act("member@2.44", id, `{"addFixedIp":{"networkId":"`+networkID+`"}}`).want(400)
	c.act("member", id, `{"removeFixedIp":{"address":"192.0.2.9"}}`).want(400)
	c.act("member", id, `{"removeFixedIp":{"address":"nine"}}`).want(400)
	c.act("other", id, `{"removeFixedIp":{"address":"10.0.0.200"}}`).want(404)
	c.act("admin", id, `{"lock":null}`).want(202)
	c.act("member", id, `{"removeFixedIp":{"address":"10.0.0.200"}}`).want(409)
	c.act("admin", id, `{"unlock":null}`).want(202)
	c.act("member", id, `{"removeFixedIp":{"address":"10.0.0.200"}}`).want(202)
	c.do("member", "GET", "/servers/"+id+"/ips", "").want(200).count(1, "addresses", "private")
}

func TestNetworkProxy(t *testing.T) {
	c := newClient(t)
	c.withProxies(nil, &proxiedAddresses{nets: c.nets})
	list := c.do("member", "GET", "/os-networks", "").want(200).count(2, "networks").is("private", "networks", 0, "label").is("<nil>", "networks", 0, "cidr")
	if _, there := list.at("networks", 0).(map[string]any)["vlan"]; there {
		t.Error("a member is shown an administrator's fields")
	}
	if _, there := c.do("admin", "GET", "/os-networks/"+networkID, "").want(200).at("network").(map[string]any)["vlan"]; !there {
		t.Error("an administrator is not shown their fields")
	}
	c.do("member", "GET", "/os-networks/"+absentID, "").want(404)
	c.do("member", "GET", "/os-tenant-networks", "").want(200).count(2, "networks").is("None", "networks", 0, "cidr")
	c.do("member@2.35", "GET", "/os-tenant-networks/"+networkID, "").want(200).is("map[cidr:None id:"+networkID+" label:private]", "network")
}

// withProxies gives the cloud the services that old routes show, and serves them.
func (c *client) withProxies(images proxy.Images, addresses proxy.Addresses) {
	c.t.Helper()
	c.svc.ImageProxy, c.svc.AddressProxy = images, addresses
	srv := httptest.NewServer(c.handler())
	c.t.Cleanup(srv.Close)
	c.url = srv.URL
}
