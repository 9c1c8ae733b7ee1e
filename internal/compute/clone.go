package compute

import (
	"github.com/strata-cloud/strata/internal/compute/flavor"
	"github.com/strata-cloud/strata/internal/errs"
)

// What asks for instant clones: an extra spec of the flavor or a property of the
// image. The image knows whether its guest can be cloned, so its word counts more.
const (
	cloneSpec     = "strata:clone"
	cloneProperty = "strata_clone"
)

// cloned tells whether the server's first start may go on from an earlier boot of
// its image, as the node finds possible. What was shelved, or is rescued, boots.
func (v *Server) cloned() bool {
	if v.Shelf != nil || v.Rescue != nil {
		return false
	}
	if val, ok := v.Image.Properties[cloneProperty]; ok {
		yes, _ := flavor.Bool(val)
		return yes
	}
	yes, _ := flavor.Bool(v.Flavor.ExtraSpecs[cloneSpec])
	return yes
}

// checkProperties refuses values that properties of ours cannot take.
func (i *Image) checkProperties() error {
	val, ok := i.Properties[cloneProperty]
	if _, valid := flavor.Bool(val); ok && !valid {
		return errs.Invalidf("Invalid image metadata. Error: property %s takes true or false, not '%s'.", cloneProperty, val)
	}
	return nil
}
