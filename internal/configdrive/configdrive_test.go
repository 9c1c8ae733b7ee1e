package configdrive

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/strata-cloud/strata/internal/nodeapi"
)

func instance() *nodeapi.Instance {
	prefix, addr := netip.MustParsePrefix, netip.MustParseAddr
	return &nodeapi.Instance{
		ID: "b2c5a1d0-1111-4222-8333-444455556666", Name: "web 1", ProjectID: "proj",
		NICs: []nodeapi.NIC{{PortID: "aaaaaaaa-bbbb-cccc", MAC: "fa:16:3e:00:00:01", Tag: "front"}},
		Disks: []nodeapi.Disk{{Name: "root", Role: "root"}, {Role: "volume", Tag: "data", Device: "/dev/vdb",
			Volume: &nodeapi.VolumeSource{VolumeRef: nodeapi.VolumeRef{ID: "vol-1"}}}},
		Guest: nodeapi.GuestConfig{
			Hostname: "web-1.novalocal", AvailabilityZone: "nova", InstanceType: "m1.tiny", ReservationID: "r-1",
			ImageID: "0a0b0c0d-0000-4000-8000-000000000000", AdminPass: "secret",
			UserData: []byte("#!/bin/sh\nfind /run/t -type f | sort\ncat /run/t/openstack/latest/meta_data.json\n"),
			Metadata: map[string]string{"role": "web"}, SecurityGroups: []string{"default", "web"},
			Keys: []nodeapi.Key{{Name: "mine", Type: "ssh", PublicKey: "ssh-ed25519 AAAA mine"}},
			Network: []nodeapi.NetworkInfo{{
				PortID: "aaaaaaaa-bbbb-cccc", NetworkID: "net", MAC: "fa:16:3e:00:00:01", MTU: 1450, FloatingIP: "203.0.113.9",
				FixedIPs: []nodeapi.FixedIP{{SubnetID: "s4", Addr: addr("10.0.0.5")}, {SubnetID: "s6", Addr: addr("fd00::5")}},
				Subnets: []nodeapi.Subnet{
					{ID: "unused", CIDR: prefix("10.9.0.0/24")},
					{ID: "s4", CIDR: prefix("10.0.0.0/20"), Gateway: addr("10.0.0.1"), DNSServers: []netip.Addr{addr("9.9.9.9")},
						HostRoutes: []nodeapi.Route{{Destination: prefix("172.16.0.0/12"), NextHop: addr("10.0.0.2")}}},
					{ID: "s6", CIDR: prefix("fd00::/64"), Gateway: addr("fd00::1"), IPv6AddressMode: "slaac"},
				},
			}},
		},
	}
}

func get(t *testing.T, inst *nodeapi.Instance, path string) (int, string, http.Header) {
	t.Helper()
	w := httptest.NewRecorder()
	Serve(w, httptest.NewRequest(http.MethodGet, "http://169.254.169.254"+path, nil), inst, nil)
	return w.Code, w.Body.String(), w.Header()
}

func TestServe(t *testing.T) {
	inst := instance()
	for path, want := range map[string]string{
		"/":                                 "1.0\n2007-01-19\n2007-03-01\n2007-08-29\n2007-10-10\n2007-12-15\n2008-02-01\n2008-09-01\n2009-04-04\nlatest",
		"/latest":                           "meta-data/\nuser-data",
		"/latest/":                          "meta-data/\nuser-data",
		"/ec2/latest/meta-data/instance-id": "i-b2c5a1d0",
		"/latest/meta-data/hostname":        "web-1.novalocal",
		"/latest/meta-data/public-keys/":    "0=mine",
		"/latest/meta-data/public-keys/0/":  "openssh-key",
		"/latest/meta-data/public-keys/0/openssh-key":   "ssh-ed25519 AAAA mine",
		"/latest/meta-data/placement/availability-zone": "nova",
		"/latest/meta-data/security-groups":             "default\nweb",
		"/2009-04-04/meta-data/local-ipv4":              "10.0.0.5",
		"/2009-04-04/meta-data/public-ipv4":             "203.0.113.9",
		"/latest//meta-data/../meta-data/instance-type": "m1.tiny",
		"/latest/user-data":                             string(inst.Guest.UserData),
		"/openstack":                                    "2012-08-10\n2013-04-04\n2013-10-17\n2015-10-15\n2016-06-30\n2016-10-06\n2017-02-22\n2018-08-27\n2020-10-14\nlatest",
		"/openstack/latest/":                            "meta_data.json\nuser_data\npassword\nvendor_data.json\nnetwork_data.json\nvendor_data2.json",
		"/openstack/2012-08-10":                         "meta_data.json\nuser_data",
		"/openstack/latest/user_data":                   string(inst.Guest.UserData),
		"/openstack/latest/vendor_data.json":            "{}",
		"/latest/meta-data/": "ami-id\nami-launch-index\nami-manifest-path\nancestor-ami-ids\nblock-device-mapping/\nhostname\ninstance-action\n" +
			"instance-id\ninstance-type\nlocal-hostname\nlocal-ipv4\nplacement/\nproduct-codes\npublic-hostname\npublic-ipv4\npublic-keys/\nreservation-id\nsecurity-groups",
	} {
		if code, body, _ := get(t, inst, path); code != http.StatusOK || body != want {
			t.Errorf("%s: %d %q, want %q", path, code, body, want)
		}
	}
	for _, path := range []string{
		"/latest/meta-data/nothing", "/latest/meta-data/hostname/deeper", "/1999-01-01/", "/openstack/1999-01-01/meta_data.json",
		"/openstack/2012-08-10/password", "/openstack/latest/meta_data.json/x", "/openstack/2012-08-10/network_data.json",
		"/latest/meta-data/public-keys/0/_name", "/latest/meta-data/public-keys/1/openssh-key", "/1.0/meta-data/placement",
	} {
		if code, body, _ := get(t, inst, path); code != http.StatusNotFound {
			t.Errorf("%s: %d %q, want 404", path, code, body)
		}
	}
	w := httptest.NewRecorder()
	Serve(w, httptest.NewRequest(http.MethodPost, "/openstack/latest/meta_data.json", nil), inst, nil)
	if w.Code != http.StatusMethodNotAllowed {
		t.Errorf("a post is answered with %d", w.Code)
	}
}

func TestServeWithoutUserDataAndKeys(t *testing.T) {
	inst := instance()
	inst.Guest.UserData, inst.Guest.Keys = nil, nil
	if code, body, _ := get(t, inst, "/latest/"); code != 200 || body != "meta-data/" {
		t.Errorf("%d %q", code, body)
	}
	for _, path := range []string{"/latest/user-data", "/openstack/latest/user_data", "/latest/meta-data/public-keys/"} {
		if code, _, _ := get(t, inst, path); code != http.StatusNotFound {
			t.Errorf("%s: %d", path, code)
		}
	}
}

func TestMetaDataJSON(t *testing.T) {
	inst := instance()
	_, body, header := get(t, inst, "/openstack/latest/meta_data.json")
	if header.Get("Content-Type") != "application/json" {
		t.Errorf("content type %q", header.Get("Content-Type"))
	}
	var got map[string]any
	if err := json.Unmarshal([]byte(body), &got); err != nil {
		t.Fatal(err)
	}
	if seed, _ := got["random_seed"].(string); len(seed) != 684 {
		t.Errorf("a seed of %d characters", len(seed))
	}
	delete(got, "random_seed")
	want := map[string]any{
		"uuid": inst.ID, "meta": map[string]any{"role": "web"}, "hostname": "web-1.novalocal", "name": "web 1", "launch_index": 0.0,
		"availability_zone": "nova", "project_id": "proj", "dedicated_cpus": []any{},
		"public_keys": map[string]any{"mine": "ssh-ed25519 AAAA mine"},
		"keys":        []any{map[string]any{"name": "mine", "type": "ssh", "data": "ssh-ed25519 AAAA mine"}},
		"devices": []any{
			map[string]any{"type": "nic", "bus": "none", "address": "none", "mac": "fa:16:3e:00:00:01", "tags": []any{"front"}},
			map[string]any{"type": "disk", "bus": "none", "address": "none", "serial": "vol-1", "path": "/dev/vdb", "tags": []any{"data"}},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	docs, err := Documents(inst)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(docs["openstack/latest/meta_data.json"]), `"admin_pass":"secret"`) {
		t.Error("the config drive lacks the admin password")
	}
	for _, old := range []string{"random_seed", "project_id", "devices", "dedicated_cpus"} {
		if strings.Contains(string(docs["openstack/2012-08-10/meta_data.json"]), old) {
			t.Errorf("the oldest version has %s", old)
		}
	}
}

func TestNetworkData(t *testing.T) {
	_, body, _ := get(t, instance(), "/openstack/latest/network_data.json")
	want := `{"links":[{"id":"tapaaaaaaaa-bb","vif_id":"aaaaaaaa-bbbb-cccc","type":"bridge","mtu":1450,"ethernet_mac_address":"fa:16:3e:00:00:01"}],` +
		`"networks":[{"id":"network0","type":"ipv4","link":"tapaaaaaaaa-bb","ip_address":"10.0.0.5","netmask":"255.255.240.0","routes":[` +
		`{"network":"0.0.0.0","netmask":"0.0.0.0","gateway":"10.0.0.1"},{"network":"172.16.0.0","netmask":"255.240.0.0","gateway":"10.0.0.2"}],` +
		`"network_id":"net","services":[{"type":"dns","address":"9.9.9.9"}]},` +
		`{"id":"network1","type":"ipv6_slaac","link":"tapaaaaaaaa-bb","ip_address":"fd00::5","netmask":"ffff:ffff:ffff:ffff::","routes":[` +
		`{"network":"::","netmask":"::","gateway":"fd00::1"}],"network_id":"net","services":[]}],"services":[{"type":"dns","address":"9.9.9.9"}]}`
	if body != want {
		t.Errorf("got\n%s\nwant\n%s", body, want)
	}
	inst := instance()
	inst.Guest.Network[0].Subnets[1].DHCP = true
	_, body, _ = get(t, inst, "/openstack/latest/network_data.json")
	if !strings.Contains(body, `{"id":"network0","type":"ipv4_dhcp","link":"tapaaaaaaaa-bb","network_id":"net"}`) {
		t.Errorf("with DHCP %s", body)
	}
}

func TestEnsureReplacesAndLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	target := filepath.Join(dir, "config.iso")
	for range 2 {
		if err := Ensure(instance(), target); err != nil {
			t.Fatal(err)
		}
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 1 {
		t.Errorf("files %v, %v", left, err)
	}
	st, err := os.Stat(target)
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", st, err)
	}
	inst := instance()
	inst.Guest.UserData = nil
	if err := Ensure(inst, filepath.Join(dir, "missing", "config.iso")); err == nil {
		t.Error("written into a directory that is not there")
	}
}
