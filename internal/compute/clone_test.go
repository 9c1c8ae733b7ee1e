package compute

import (
	"testing"

	"github.com/strata-cloud/strata/internal/compute/flavor"
	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/saga"
)

func TestWhoAsksForClones(t *testing.T) {
	const unset = "-"
	for _, x := range []struct {
		spec, property string
		want           bool
	}{
		{unset, unset, false}, {"true", unset, true}, {"Yes", unset, true}, {"false", unset, false}, {"maybe", unset, false},
		{unset, "true", true}, {unset, "0", false}, {"true", "false", false}, {"false", "on", true},
	} {
		v := Server{Image: Image{Properties: map[string]string{}}, Flavor: flavor.Flavor{ExtraSpecs: map[string]string{}}}
		if x.spec != unset {
			v.Flavor.ExtraSpecs[cloneSpec] = x.spec
		}
		if x.property != unset {
			v.Image.Properties[cloneProperty] = x.property
		}
		if got := v.cloned(); got != x.want {
			t.Errorf("spec %s, property %s: %v", x.spec, x.property, got)
		}
		v.Shelf = &Image{}
		if v.cloned() {
			t.Error("a shelved server is cloned")
		}
	}
}

func TestCloneProperty(t *testing.T) {
	for val, ok := range map[string]bool{"true": true, "False": true, "": false, "always": false} {
		i := Image{Properties: map[string]string{cloneProperty: val}}
		if err := i.checkProperties(); (err == nil) != ok || err != nil && !errs.Is(err, errs.Invalid) {
			t.Errorf("property %q: %v", val, err)
		}
	}
}

func TestCloneIsToldToTheNode(t *testing.T) {
	w := newWorld(t, saga.Options{})
	v := Server{ID: "x", Image: Image{Properties: map[string]string{cloneProperty: "true"}}}
	var i nodeapi.Instance
	if err := w.svc.describe(&v, &i); err != nil || !i.Machine.Clone {
		t.Errorf("the node is told %+v, %v", i.Machine, err)
	}
}
