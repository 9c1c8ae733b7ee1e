package flavor

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/rest"
)

// known are the extra specs of the namespaces that upstream checks from 2.86 on
// (nova/api/validation/extra_specs), and of our own, with the values that they take.
var known = []struct{ name, value *regexp.Regexp }{
	spec(`hw:(cpu_realtime|hide_hypervisor_id|locked_memory|boot_menu|vif_multiqueue_enabled|mem_encryption|pmu|virtio_packed_ring|ephemeral_encryption)`, boolText),
	spec(`hw:(numa_nodes|cpu_sockets|cpu_cores|cpu_threads|cpu_max_sockets|cpu_max_cores|cpu_max_threads|serial_port_count|redirected_usb_ports)`, `[0-9]+`),
	spec(`hw:(cpu_realtime_mask|cpu_dedicated_mask|numa_cpus\.[0-9]+|pmem)`, `.+`),
	spec(`hw:numa_mem\.[0-9]+`, `[0-9]+`),
	spec(`hw:cpu_policy`, `dedicated|shared|mixed`),
	spec(`hw:cpu_thread_policy`, `prefer|isolate|require`),
	spec(`hw:emulator_threads_policy`, `isolate|share`),
	spec(`hw:mem_page_size`, `(large|small|any|[0-9]+([kKMGT]i?)?(b|bit|B)?)`),
	spec(`hw:pci_numa_affinity_policy`, `required|preferred|legacy|socket`),
	spec(`hw:watchdog_action`, `none|pause|poweroff|reset|disabled`),
	spec(`hw:tpm_version`, `1\.2|2\.0`),
	spec(`hw:(tpm_model|tpm_secret_security|mem_encryption_model|viommu_model|sound_model|usb_model|ephemeral_encryption_format)`, `.+`),
	spec(`hw_rng:(rate_bytes|rate_period)`, `[0-9]+`),
	spec(`hw_rng:allowed`, boolText),
	spec(`hw_video:ram_max_mb`, `[0-9]+`),
	spec(`os:secure_boot`, `required|disabled|optional`),
	spec(`quota:(cpu_shares|cpu_period|cpu_quota|(memory|disk_io|vif|cpu)_(shares_share|reservation|limit)|disk_(read|write|total)_(bytes|iops)_sec|vif_(inbound|outbound)_(average|peak|burst))`, `-?[0-9]+`),
	spec(`quota:(memory|disk_io|vif|cpu)_shares_level`, `custom|high|normal|low`),
	spec(`resources[A-Za-z0-9_-]*:[A-Z0-9_]+`, `[0-9]+`),
	spec(`trait[A-Za-z0-9_-]*:[A-Z0-9_]+`, `required|forbidden`),
	spec(`(capabilities|aggregate_instance_extra_specs|pci_passthrough|vmware):.+`, `.+`),
	spec(`accel:device_profile`, `.+`),
	spec(`strata:(clone|ha)`, boolText),
}

const boolText = `(?i:true|t|on|y|yes|1|false|f|off|n|no|0)`

var truth = regexp.MustCompile(`^` + boolText + `$`)

// Bool reads the value of an extra spec that is true or false.
func Bool(val string) (yes, valid bool) {
	if !truth.MatchString(val) {
		return false, false
	}
	switch val[0] {
	case 't', 'T', 'y', 'Y', '1':
		return true, true
	}
	return strings.EqualFold(val, "on"), true
}

var specNamespaces = regexp.MustCompile(`^(accel|aggregate_instance_extra_specs|capabilities|hw|hw_rng|hw_video|os|pci_passthrough|quota|resources[A-Za-z0-9_-]*|strata|trait[A-Za-z0-9_-]*|vmware)$`)

func spec(name, value string) struct{ name, value *regexp.Regexp } {
	return struct{ name, value *regexp.Regexp }{regexp.MustCompile(`^(?:` + name + `)$`), regexp.MustCompile(`^(?:` + value + `)$`)}
}

// checkSpecs refuses, from 2.86 on, unknown specs in namespaces that mean something and values that they cannot take.
func checkSpecs(r *rest.Request, specs map[string]any) error {
	if !r.AtLeast(2, 86) {
		return nil
	}
next:
	for name, v := range specs {
		for _, k := range known {
			if !k.name.MatchString(name) {
				continue
			}
			if !k.value.MatchString(fmt.Sprint(v)) {
				return errs.Invalidf("Validation failed; '%v' is not of the format that extra spec '%s' takes.", v, name)
			}
			continue next
		}
		if namespace, _, ok := strings.Cut(name, ":"); ok && specNamespaces.MatchString(namespace) {
			return errs.Invalidf("Validation failed; extra spec '%s' does not appear to be a valid extra spec.", name)
		}
	}
	return nil
}
