package image

import (
	"github.com/strata-cloud/strata/internal/image/metadef"
	"github.com/strata-cloud/strata/internal/policy"
)

// Policies are upstream's names and secure-RBAC defaults (glance/policies/image.py).
func Policies() []policy.Rule {
	const (
		admin  = "rule:context_is_admin"
		owner  = "project_id:%(project_id)s"
		member = admin + " or (role:member and " + owner + ")"
		reader = admin + " or (role:reader and " + owner + ")"
		ofUs   = "project_id:%(member_id)s"
		seen   = "(" + owner + " or " + ofUs + " or 'community':%(visibility)s or 'public':%(visibility)s or 'shared':%(visibility)s)"
	)
	return append([]policy.Rule{
		{Name: "context_is_admin", Check: "role:admin"},
		{Name: "add_image", Check: member}, // upstream's %(owner)s is the same as %(project_id)s
		{Name: "delete_image", Check: member},
		{Name: "get_image", Check: admin + " or (role:reader and " + seen + ")"},
		{Name: "get_images", Check: reader},
		{Name: "modify_image", Check: member},
		{Name: "publicize_image", Check: admin},
		{Name: "communitize_image", Check: member},
		{Name: "download_image", Check: admin + " or (role:member and " + seen + ")"},
		{Name: "upload_image", Check: member},
		{Name: "add_member", Check: member},
		{Name: "delete_member", Check: member},
		{Name: "get_member", Check: admin + " or (role:reader and (" + owner + " or " + ofUs + "))"},
		{Name: "get_members", Check: admin + " or (role:reader and (" + owner + " or " + ofUs + "))"},
		{Name: "modify_member", Check: admin + " or (role:member and " + ofUs + ")"},
		{Name: "deactivate", Check: member},
		{Name: "reactivate", Check: member},
	}, metadef.Policies()...)
}
