package conformance

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"text/template"

	"github.com/strata-cloud/strata/internal/guest/guesttest"
	"github.com/strata-cloud/strata/internal/region"
	"github.com/strata-cloud/strata/test/cloud"
)

// sets names regular expressions over test ids, which are run one after another; SET
// may also be one itself.
var sets = map[string][]string{
	"smoke":    {`^tempest\.api\.(identity|image|compute|network|volume)\..*\[.*\bsmoke\b`},
	"identity": {`^tempest\.api\.identity\.`},
	"image":    {`^tempest\.api\.image\.v2`},
	"network":  {`^tempest\.api\.network\.`},
	"compute":  {`^tempest\.api\.compute\.`},
	"volume":   {`^tempest\.api\.volume\.`},
	// Of the plugin's tests, those of what there is: no appliances, flavors, zones and layer 7.
	balancerSet: {`^octavia_tempest_plugin\.tests\.api\.v2\.test_(load_balancer|listener|pool|member|healthmonitor|provider)\.`},
	"scenario":  {aggregates, `^tempest\.scenario\.(?!test_aggregates_basic_ops)`},
	poolSet: {aggregates, `^tempest\.(api\.compute\.(admin\.(test_live_migration|test_migrations|test_servers_on_multinodes|test_servers_negative|test_hosts)|servers\.test_server_group)` +
		`|scenario\.(test_server_multinode|test_network_advanced_server_ops))`},
}

// aggregates wants a host without servers, which no other test may make meanwhile.
const aggregates = `^tempest\.scenario\.test_aggregates_basic_ops`

// poolSet names the tests that want two nodes, balancerSet those of the plugin for load
// balancers.
const (
	poolSet     = "pool"
	balancerSet = "loadbalancer"
)

// mixed have members of IPv4 behind a VIP of IPv6, which is refused; without IPv6 they are
// run once more.
const mixed = `^octavia_tempest_plugin\.tests\.api\.v2\.test_member\.MemberAPITest2`

var conf = template.Must(template.New("tempest.conf").Parse(`[DEFAULT]
log_dir = {{.Dir}}/logs
log_file = tempest.log
[oslo_concurrency]
lock_path = {{.Dir}}/lock
[auth]
use_dynamic_credentials = true
admin_username = admin
admin_password = {{.Password}}
admin_project_name = admin
admin_domain_name = Default
create_isolated_networks = true
tempest_roles = member
[identity]
uri_v3 = {{.URL}}/identity/v3
auth_version = v3
region = RegionOne
{{with .CACert}}ca_certificates_file = {{.}}
{{end}}v3_endpoint_type = public
[identity-feature-enabled]
api_v2 = false
api_v2_admin = false
security_compliance = false
application_credentials = true
access_rules = true
project_tags = true
trust = true
[service_available]
nova = true
glance = true
neutron = true
cinder = true
swift = false
horizon = false
load_balancer = true
[compute]
image_ref = {{.Image}}
image_ref_alt = {{.Image}}
flavor_ref = 42
flavor_ref_alt = 84
min_compute_nodes = {{.Nodes}}
max_microversion = latest
build_timeout = 120
[compute-feature-enabled]
scheduler_enabled_filters = all
resize = true
cold_migration = {{.Moves}}
live_migration = {{.Moves}}
block_migration_for_live_migration = {{.Moves}}
block_migrate_cinder_iscsi = {{.Moves}}
volume_backed_live_migration = {{.Moves}}
can_migrate_between_any_hosts = {{.Moves}}
shelve = true
snapshot = true
rescue = true
stable_rescue = true
# The tests of multi-attach ask for it by a parameter that cinder has removed.
volume_multiattach = false
interface_attach = true
attach_encrypted_volume = true
vnc_console = true
serial_console = true
config_drive = true
personality = false
metadata_service = true
change_password = false
swap_volume = false
[volume]
catalog_type = block-storage
min_microversion = 3.0
max_microversion = latest
vendor_name = Strata
storage_protocol = local
disk_format = qcow2
build_timeout = 60
backend_names = local,second
manage_volume_ref = source-name,volume-%s
manage_snapshot_ref = source-name,%s
[volume-feature-enabled]
backup = true
snapshot = true
clone = true
manage_snapshot = true
manage_volume = true
multi_backend = true
extend_attached_volume = true
extend_attached_encrypted_volume = true
consistency_group = false
[validation]
run_validation = true
connect_method = floating
auth_method = keypair
image_ssh_user = strata
image_alt_ssh_user = strata
ssh_key_type = ecdsa
ping_timeout = 120
ssh_timeout = 180
[image]
disk_formats = raw,ami,ari,aki
container_formats = bare,ami,ari,aki
http_image = {{.URL}}/
[image-feature-enabled]
import_image = true
[network]
public_network_id = {{.Public}}
floating_network_name = public
project_network_cidr = 10.100.0.0/16
project_network_mask_bits = 28
[network-feature-enabled]
ipv6 = true
ipv6_subnet_attributes = true
port_security = true
api_extensions = {{.NetworkExtensions}}
[placement]
min_microversion = 1.0
max_microversion = latest
[load_balancer]
provider = strata
enabled_provider_drivers = strata:Connections are distributed by the nodes' kernels (TCP and UDP).,amphora:Another name of strata that clients use by default.,octavia:Another name of strata that clients use by default.
# Administrators may everything, and members what is of their project.
RBAC_test_type = owner_or_admin
admin_role = admin
member_role = member
observer_role = reader
global_observer_role = admin
check_interval = 0.5
build_interval = 0.5
lb_build_interval = 0.5
check_timeout = 120
test_with_ipv6 = {{not .OnlyIPv4}}
lb_build_timeout = 120
[loadbalancer-feature-enabled]
l7_protocol_enabled = false
terminated_tls_enabled = false
l4_protocol = TCP
# A 501 skips a test.
not_implemented_is_error = false
[scenario]
img_file = {{.Dir}}/tiny.img
`))

// suite is a cloud as the tests of others know it.
type suite struct {
	*testing.T
	env []string
	// Of the configuration.
	Dir, URL, Password, CACert, Image, Public, NetworkExtensions string
	Nodes                                                        int
	Moves                                                        bool // servers have somewhere to go
	OnlyIPv4                                                     bool // for load balancers
}

// newSuite reads the clouds.yaml in a data directory.
func newSuite(t *testing.T, dataDir string, nodes int) *suite {
	t.Helper()
	all, err := region.ReadClouds(filepath.Join(dataDir, region.CloudsFile))
	if err != nil {
		t.Fatal(err)
	}
	admin := all.Clouds["strata"]
	s := &suite{T: t, URL: strings.TrimSuffix(admin.Auth["auth_url"], "/identity/v3"), Password: admin.Auth["password"], CACert: admin.CACert, Nodes: nodes, Moves: nodes > 1}
	s.env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=" + t.TempDir(), "LC_ALL=C.UTF-8", "OS_REGION_NAME=RegionOne", "OS_IDENTITY_API_VERSION=3",
		"OS_CACERT=" + admin.CACert, "PYTHONWARNINGS=ignore"}
	for k, v := range admin.Auth {
		s.env = append(s.env, "OS_"+strings.ToUpper(k)+"="+v)
	}
	return s
}

// TestTempest runs a set of OpenStack's own conformance suite. Tests that fail by
// no fault of the cloud stand in skip.txt, each with its reason.
func TestTempest(t *testing.T) {
	set := cmp.Or(os.Getenv("SET"), "smoke")
	if set == poolSet {
		tempestPool(t)
		return
	}
	c := cloud.Plan(t)
	c.Flags = []string{"--volume-pool", "second=" + filepath.Dir(c.Dir)}
	c.Up()
	c.Tiny()
	newSuite(t, c.Dir, 1).run(set)
}

// tempestPool runs the tests that want several nodes on a cloud of two hosts.
func tempestPool(t *testing.T) {
	t.Helper()
	dir, err := os.MkdirTemp("", "strata-tempest-")
	if err != nil {
		t.Fatal(err)
	}
	cluster := func(args ...string) {
		t.Helper()
		cmd := exec.Command("go", append([]string{"run", "../cluster", "--dir", filepath.Join(dir, "cluster"), "--strata", cloud.Program(t)}, args...)...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("cluster %v: %v\n%s", args, err, out)
		}
	}
	t.Cleanup(func() {
		cluster("down")
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(dir, 0o711); err != nil { // QEMU's user passes through
		t.Fatal(err)
	}
	guesttest.Tiny(t).Offer(t, filepath.Join(dir, "cluster", "alpha")) // whose image the cluster makes by itself
	cluster("--nodes", "2", "up")
	if !t.Failed() {
		newSuite(t, filepath.Join(dir, "cluster", "alpha"), 2).run(poolSet)
	}
}

// run configures the suite for the cloud and runs a set of it.
func (s *suite) run(set string) {
	s.Helper()
	dir := s.TempDir()
	s.command(dir, "tempest", "init", "ws")
	s.Dir = filepath.Join(dir, "ws")
	// What the suite uploads itself is the same image.
	s.openstack("image", "save", "tiny", "--file", filepath.Join(s.Dir, "tiny.img"))
	s.Image = s.openstack("image", "show", "tiny", "-f", "value", "-c", "id")
	s.Public = s.openstack("network", "show", "public", "-f", "value", "-c", "id")
	// A test of an extension that the cloud does not name is skipped.
	s.NetworkExtensions = strings.Join(strings.Fields(s.openstack("extension", "list", "--network", "-f", "value", "-c", "Alias")), ",")
	s.configure()
	exprs, ok := sets[set]
	if !ok {
		exprs = []string{set}
	}
	for _, expr := range exprs {
		s.judge(expr)
	}
	if set == balancerSet {
		s.OnlyIPv4 = true
		s.configure()
		s.judge(mixed)
	}
}

// configure tells the suite of the cloud.
func (s *suite) configure() {
	s.Helper()
	var text bytes.Buffer
	if err := conf.Execute(&text, s); err != nil {
		s.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(s.Dir, "etc", "tempest.conf"), text.Bytes(), 0o600); err != nil {
		s.Fatal(err)
	}
}

var (
	failed  = regexp.MustCompile(`(?m)^\{\d+\} (?:(?:setUp|tearDown)Class \()?([\w.]+).* \.\.\. FAILED`)
	passed  = regexp.MustCompile(`(?m)^ - Passed: (\d+)`)
	skipped = regexp.MustCompile(`(?m)^ - Skipped: (\d+)`)
)

// judge runs the tests and fails on every failure that skip.txt does not excuse.
func (s *suite) judge(expr string) {
	t := s.T
	t.Helper()
	cmd := exec.Command("tempest", "run", "--concurrency", "4", "--regex", expr)
	cmd.Dir, cmd.Env = s.Dir, s.env
	out, err := cmd.CombinedOutput()
	if keep := os.Getenv("TEMPEST_OUT"); keep != "" {
		if err := appendTo(keep, out); err != nil {
			t.Error(err)
		}
	}
	count := passed.FindSubmatch(out)
	if count == nil || string(count[1]) == "0" {
		t.Fatalf("no test passed (%v):\n%s", err, out[max(0, len(out)-4000):])
	}
	excused := excuses(t)
	failures := failed.FindAllSubmatch(out, -1)
	if err != nil && len(failures) == 0 {
		t.Errorf("no test failed, but the suite did (%v):\n%s", err, out[max(0, len(out)-4000):])
	}
	for _, m := range failures {
		name := string(m[1])
		reason := excused[name]
		if reason == "" {
			reason = excused[name[:strings.LastIndexByte(name, '.')]]
		}
		if reason != "" {
			t.Logf("excused: %s: %s", name, reason)
			continue
		}
		t.Errorf("failed: %s\n%s", name, traceback(out, name))
	}
	t.Logf("passed %s, skipped %s", count[1], skipped.FindSubmatch(out)[1])
}

func appendTo(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Close())
}

// traceback is what the suite printed about a failed test, after a line with its
// name and its attributes.
func traceback(out []byte, name string) string {
	at := regexp.MustCompile(`(?m)^((setUp|tearDown)Class \()?` + regexp.QuoteMeta(name) + `(\[.*\]|\))?\n---`).FindIndex(out)
	if at == nil {
		return ""
	}
	return string(out[at[0]:min(len(out), at[0]+3000)])
}

// excuses reads skip.txt: the name of a test or of its whole class, blanks, the reason.
func excuses(t *testing.T) map[string]string {
	t.Helper()
	f, err := os.Open("skip.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	out := map[string]string{}
	for s := bufio.NewScanner(f); s.Scan(); {
		line := strings.TrimSpace(s.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, reason, ok := strings.Cut(line, " ")
		if !ok {
			t.Fatalf("skip.txt gives no reason for %s", name)
		}
		out[name] = strings.TrimSpace(reason)
	}
	return out
}

func (s *suite) command(dir, name string, args ...string) string {
	s.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir, cmd.Env = dir, s.env
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		s.Fatal(fmt.Errorf("%s %s: %w\n%s%s", name, strings.Join(args, " "), err, out, errs.String()))
	}
	return strings.TrimSpace(string(out))
}

func (s *suite) openstack(args ...string) string {
	s.Helper()
	return s.command("", "openstack", args...)
}
