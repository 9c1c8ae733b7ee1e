package simulate

import (
	"testing"
	"time"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/nodeapi"
)

func TestQuantiles(t *testing.T) {
	var list []time.Duration
	for i := range 101 {
		list = append(list, time.Duration(100-i))
	}
	if q := quantiles(list); q != (Quantiles{P50: 50, P99: 99, Max: 100, Of: 101}) {
		t.Errorf("%+v", q)
	}
	if q := quantiles(nil); q != (Quantiles{}) {
		t.Errorf("of nothing: %+v", q)
	}
}

func TestValidate(t *testing.T) {
	good := Options{Nodes: 10, Servers: 100, Parallel: 4, PerProject: 10}
	if err := good.validate(); err != nil {
		t.Error(err)
	}
	for what, change := range map[string]func(*Options){
		"no node":              func(o *Options) { o.Nodes = 0 },
		"too many for files":   func(o *Options) { o.Nodes = 60_000; o.Parallel = 10_000 },
		"less than no server":  func(o *Options) { o.Servers = -1 },
		"no client":            func(o *Options) { o.Parallel = 0 },
		"no project":           func(o *Options) { o.PerProject = 0 },
		"more deletes":         func(o *Options) { o.Deletes = 101 },
		"time that runs back":  func(o *Options) { o.Delay = -1 },
		"less than no network": func(o *Options) { o.PerNetwork = -1 },
	} {
		o := good
		if what == "too many for files" && enoughFiles(&Options{Nodes: 60_000, Parallel: 10_000}) == nil {
			continue // this machine lets a process have that many
		}
		if change(&o); !errs.Is(o.validate(), errs.Invalid) {
			t.Errorf("%s: %v", what, o.validate())
		}
	}
}

// TestFresh: a port is reported when it comes here, and again when it comes back.
func TestFresh(t *testing.T) {
	a := &agent{plugs: map[string]bool{}}
	here := nodeapi.Port{ID: "p", Local: true, AdminUp: true}
	elsewhere := nodeapi.Port{ID: "p", AdminUp: true}
	for i, step := range []struct {
		change nodeapi.NetChange
		want   int
	}{
		{nodeapi.NetChange{Ports: []nodeapi.Port{elsewhere}}, 0},
		{nodeapi.NetChange{Ports: []nodeapi.Port{here}}, 1},
		{nodeapi.NetChange{Ports: []nodeapi.Port{here}}, 0},
		{nodeapi.NetChange{Ports: []nodeapi.Port{elsewhere}}, 0},
		{nodeapi.NetChange{Ports: []nodeapi.Port{here}}, 1},
		{nodeapi.NetChange{Gone: []string{"p"}}, 0},
		{nodeapi.NetChange{Ports: []nodeapi.Port{here}}, 1},
	} {
		if got := a.fresh(step.change); len(got) != step.want {
			t.Errorf("step %d reports %v", i, got)
		}
	}
}
