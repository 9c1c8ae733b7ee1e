package compute

import (
	"slices"

	"github.com/strata-cloud/strata/internal/compute/flavor"
	"github.com/strata-cloud/strata/internal/compute/keypair"
	"github.com/strata-cloud/strata/internal/compute/migration"
	"github.com/strata-cloud/strata/internal/compute/pool"
	"github.com/strata-cloud/strata/internal/compute/proxy"
	"github.com/strata-cloud/strata/internal/policy"
)

// Policies are upstream's names and secure-RBAC defaults (nova/policies/).
func Policies() []policy.Rule {
	const (
		admin  = "rule:context_is_admin"
		member = "rule:project_member_or_admin"
		reader = "rule:project_reader_or_admin"
	)
	rules := []policy.Rule{
		{Name: "context_is_admin", Check: "role:admin"},
		{Name: "project_member_or_admin", Check: "role:member and project_id:%(project_id)s or rule:context_is_admin"},
		{Name: "project_reader_or_admin", Check: "role:reader and project_id:%(project_id)s or rule:context_is_admin"},
		{Name: "compute:servers:create:requested_destination", Check: admin},
		{Name: "compute:server:topology:index", Check: reader},
	}
	for check, names := range map[string][]string{
		reader: {"servers:index", "servers:detail", "servers:show", "server-metadata:index", "server-metadata:show", "os-server-tags:index", "os-server-tags:show",
			"os-instance-actions:list", "os-instance-actions:show",
			"os-quota-sets:show", "os-quota-sets:detail", "os-server-groups:index", "os-server-groups:show", "os-simple-tenant-usage:show", "os-attach-interfaces:list", "os-volumes-attachments:index", "os-volumes-attachments:show", "os-attach-interfaces:show", "os-server-password:show",
			"ips:index", "ips:show", "os-security-groups:list", "os-security-groups:get", "os-security-groups:show"},
		member: {"servers:create", "os-volumes-attachments:create", "os-attach-interfaces:create", "os-attach-interfaces:delete", "os-volumes-attachments:update", "os-volumes-attachments:delete", "servers:update", "servers:delete", "servers:rebuild", "servers:resize", "servers:confirm_resize", "servers:revert_resize", "os-rescue", "os-unrescue", "servers:create_image", "servers:trigger_crash_dump", "os-create-backup", "os-shelve:shelve", "os-shelve:unshelve", "servers:start", "servers:stop", "servers:reboot", "os-pause-server:pause", "os-pause-server:unpause",
			"os-suspend-server:suspend", "os-suspend-server:resume", "os-lock-server:lock", "os-lock-server:unlock", "os-console-output", "os-remote-consoles", "os-security-groups:add", "os-security-groups:remove",
			"os-security-groups:create", "os-security-groups:update", "os-security-groups:delete", "os-security-groups:rule:create", "os-security-groups:rule:delete",
			"server-metadata:create", "server-metadata:update", "server-metadata:update_all", "server-metadata:delete",
			"os-server-tags:update", "os-server-tags:update_all", "os-server-tags:delete", "os-server-tags:delete_all",
			"os-server-groups:create", "os-server-groups:delete", "os-deferred-delete:force", "os-deferred-delete:restore", "os-server-password:clear", "os-admin-password"},
		admin: {"os-volumes-attachments:swap", "servers:index:get_all_tenants", "servers:detail:get_all_tenants", "servers:create:forced_host", "servers:create:zero_disk_flavor", "servers:show:host_status", "os-extended-server-attributes",
			"os-lock-server:unlock:unlock_override", "os-instance-actions:events",
			"os-quota-sets:update", "os-quota-sets:delete", "os-quota-class-sets:show", "os-quota-class-sets:update", "limits:other_project",
			"os-server-groups:index:all_projects", "os-simple-tenant-usage:list", "os-admin-actions:reset_state", "os-migrate-server:migrate", "os-migrate-server:migrate_live", "os-evacuate", "os-shelve:shelve_offload", "os-shelve:unshelve_to_host", "servers:allow_all_filters", "os-instance-actions:events:details",
			"os-console-auth-tokens", "os-server-diagnostics", "os-server-external-events:create"},
		"@": {"os-quota-sets:defaults", "limits", "extensions"},
	} {
		for _, n := range names {
			rules = append(rules, policy.Rule{Name: "os_compute_api:" + n, Check: check})
		}
	}
	return slices.Concat(rules, flavor.Policies(), keypair.Policies(), pool.Policies(), proxy.Policies(), migration.Policies())
}
