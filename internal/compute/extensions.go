package compute

import (
	"context"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/rest"
)

// extensions are upstream's names of what is implemented here; since microversions
// exist the list says nothing that clients need, but old ones ask for it. os-consoles
// stays there too, although of consoles os-remote-consoles is left.
var extensions = [][3]string{
	{"OS-DCF", "DiskConfig", "Disk Management Extension."},
	{"OS-EXT-AZ", "ExtendedAvailabilityZone", "Extended Availability Zone support."},
	{"OS-EXT-IPS", "ExtendedIps", "Adds type parameter to the ip list."},
	{"OS-EXT-IPS-MAC", "ExtendedIpsMac", "Adds mac address parameter to the ip list."},
	{"OS-EXT-SRV-ATTR", "ExtendedServerAttributes", "Extended Server Attributes support."},
	{"OS-EXT-STS", "ExtendedStatus", "Extended Status support."},
	{"OS-FLV-DISABLED", "FlavorDisabled", "Support to show the disabled status of a flavor."},
	{"OS-FLV-EXT-DATA", "FlavorExtraData", "Provide additional data for flavors."},
	{"OS-SCH-HNT", "SchedulerHints", "Pass arbitrary key/value pairs to the scheduler."},
	{"OS-SRV-USG", "ServerUsage", "Adds launched_at and terminated_at on Servers."},
	{"os-admin-password", "AdminPassword", "Admin password management support."},
	{"os-aggregates", "Aggregates", "Admin-only aggregate administration."},
	{"os-attach-interfaces", "AttachInterfaces", "Attach interface support."},
	{"os-availability-zone", "AvailabilityZone", "Manage availability zones."},
	{"os-config-drive", "ConfigDrive", "Config Drive Extension."},
	{"os-deferred-delete", "DeferredDelete", "Instance deferred delete."},
	{"os-consoles", "Consoles", "Console support."},
	{"os-console-output", "ConsoleOutput", "Console log output support, with tailing ability."},
	{"os-flavor-access", "FlavorAccess", "Flavor access support."},
	{"os-flavor-extra-specs", "FlavorExtraSpecs", "Flavors extra specs support."},
	{"os-flavor-manage", "FlavorManage", "Flavor create/delete API support."},
	{"os-floating-ip-pools", "FloatingIpPools", "Floating IPs support."},
	{"os-floating-ips", "FloatingIps", "Floating IPs support."},
	{"os-hosts", "Hosts", "Admin-only host administration."},
	{"os-hypervisors", "Hypervisors", "Admin-only hypervisor administration."},
	{"os-instance-actions", "InstanceActions", "View a log of actions and events taken on an instance."},
	{"os-instance-usage-audit-log", "OSInstanceUsageAuditLog", "Admin-only Task Log Monitoring."},
	{"os-keypairs", "Keypairs", "Keypair Support."},
	{"os-migrate-server", "MigrateServer", "Enable migrate and live-migrate server actions."},
	{"os-migrations", "Migrations", "Provide data on migrations."},
	{"os-multinic", "Multinic", "Multiple network support."},
	{"os-multiple-create", "MultipleCreate", "Allow multiple create in the Create Server v2.1 API."},
	{"os-networks", "Networks", "Admin-only Network Management Extension."},
	{"os-remote-consoles", "Consoles", "Interactive Console support."},
	{"os-server-diagnostics", "ServerDiagnostics", "Allow Admins to view server diagnostics through server action."},
	{"os-server-external-events", "ServerExternalEvents", "Server External Event Triggers."},
	{"os-quota-class-sets", "QuotaClasses", "Quota classes management support."},
	{"os-quota-sets", "Quotas", "Quotas management support."},
	{"os-security-groups", "SecurityGroups", "Security group support."},
	{"os-server-groups", "ServerGroups", "Server group support."},
	{"os-server-password", "ServerPassword", "Server password support."},
	{"os-services", "Services", "Services support."},
	{"os-simple-tenant-usage", "SimpleTenantUsage", "Simple tenant usage extension."},
	{"os-tenant-networks", "OSTenantNetworks", "Tenant-based Network Management Extension."},
	{"os-used-limits", "UsedLimits", "Provide data on limited resource that are being used."},
	{"os-user-data", "UserData", "Add user_data to the Create Server API."},
	{"os-volumes", "Volumes", "Volumes support."},
}

func (s *Service) extensionRoutes() []rest.Route {
	return []rest.Route{
		{Method: "GET", Path: "/extensions", Policy: "os_compute_api:extensions", Handle: listExtensions},
		{Method: "GET", Path: "/extensions/{alias}", Policy: "os_compute_api:extensions", Handle: showExtension},
	}
}

func extensionView(e [3]string) map[string]any {
	return map[string]any{"alias": e[0], "name": e[1], "description": e[2], "links": []any{},
		"namespace": "http://docs.openstack.org/compute/ext/fake_xml", "updated": "2014-12-03T00:00:00Z"}
}

func listExtensions(context.Context, *rest.Request) (*rest.Response, error) {
	views := make([]any, len(extensions))
	for i, e := range extensions {
		views[i] = extensionView(e)
	}
	return rest.JSON(200, map[string]any{"extensions": views}), nil
}

func showExtension(_ context.Context, r *rest.Request) (*rest.Response, error) {
	for _, e := range extensions {
		if e[0] == r.Path("alias") {
			return rest.JSON(200, map[string]any{"extension": extensionView(e)}), nil
		}
	}
	return nil, errs.NotFoundf("The resource could not be found.")
}
