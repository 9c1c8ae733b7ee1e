package pool

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/store"
	"github.com/strata-cloud/strata/internal/volume/block"
	"github.com/strata-cloud/strata/internal/volume/voltype"
)

// Disabled is the record of a service that gets no new volumes.
type Disabled struct {
	ID     string    `json:"id"` // BINARY/HOST
	Reason string    `json:"reason,omitempty"`
	Since  time.Time `json:"since"`
}

// Pools chooses among the nodes' pools.
type Pools struct {
	core     *block.Core
	disabled *store.Collection[Disabled]
}

// New registers the collection: call it before db.Start.
func New(core *block.Core) *Pools {
	return &Pools{core: core, disabled: store.Register(core.DB, store.Schema[Disabled]{Service: "volume", Kind: "disabled", Version: 1,
		ID: func(d *Disabled) string { return d.ID }})}
}

// Place is a pool of a node.
type Place struct {
	Node string
	nodeapi.Pool
}

// Name is the pool's name in the API.
func (p Place) Name() string { return block.Host(p.Node, p.Driver, p.Pool.Name) }

// backend is the name of the service that has the pool.
func (p Place) backend() string {
	name, _, _ := strings.Cut(p.Name(), "#")
	return name
}

// backendName is what types call the pool.
func (p Place) backendName() string { return strings.TrimPrefix(p.backend(), p.Node+"@") }

// All asks every connected node for its pools. A node that does not answer has none now.
func (s *Pools) All(ctx context.Context) []Place {
	var out []Place
	for _, n := range s.core.Nodes.Infos.All() {
		st, err := s.core.Nodes.Storage(n.ID)
		if err != nil {
			continue
		}
		pools, err := st.Pools(ctx)
		if err != nil {
			s.core.Log.Warn("a node does not tell its pools", "node", n.ID, "err", err)
			continue
		}
		for _, p := range pools {
			out = append(out, Place{n.ID, p})
		}
	}
	slices.SortFunc(out, func(a, b Place) int { return strings.Compare(a.Name(), b.Name()) })
	return out
}

// errNoPlace is upstream's text for it.
var errNoPlace = errs.New(errs.NoCapacity, "No valid backend was found. No weighed backends available")

// Choose finds the pool with the most room that can hold a volume of the type.
func (s *Pools) Choose(ctx context.Context, t *voltype.Type, gib int) (*Place, error) {
	return s.ChooseOn(ctx, "", t, gib)
}

// ChooseNear is Choose that prefers the pools of a node.
func (s *Pools) ChooseNear(ctx context.Context, node string, t *voltype.Type, gib int) (*Place, error) {
	if p, err := s.ChooseOn(ctx, node, t, gib); err == nil || node == "" {
		return p, err
	}
	return s.Choose(ctx, t, gib)
}

// ChooseOn is Choose among the pools of one node, unless "".
func (s *Pools) ChooseOn(ctx context.Context, node string, t *voltype.Type, gib int) (*Place, error) {
	return s.choose(ctx, func(p Place) bool { return node == "" || p.Node == node }, t, gib)
}

// ChooseIn is Choose among the pools of one back end.
func (s *Pools) ChooseIn(ctx context.Context, backend string, t *voltype.Type, gib int) (*Place, error) {
	return s.choose(ctx, func(p Place) bool { return p.backend() == backend }, t, gib)
}

// ChooseBackend finds the back end with the most room that has pools for volumes of
// all the types.
func (s *Pools) ChooseBackend(ctx context.Context, typeIDs []string) (string, error) {
	free, rest := map[string]float64{}, map[string][]string{}
	for _, p := range s.All(ctx) {
		if !s.open(p) {
			continue
		}
		b := p.backend()
		if _, known := rest[b]; !known {
			rest[b] = typeIDs
		}
		free[b] += p.FreeGiB
		rest[b] = slices.DeleteFunc(slices.Clone(rest[b]), func(id string) bool {
			t, err := s.core.Types.Get(id)
			return err == nil && p.Suits(t)
		})
	}
	best := ""
	for b, missing := range rest {
		if len(missing) == 0 && (best == "" || free[b] > free[best] || free[b] == free[best] && b < best) {
			best = b
		}
	}
	if best == "" {
		return "", errNoPlace
	}
	return best, nil
}

// open tells whether the pool's back end takes new volumes: it is neither disabled nor frozen.
func (s *Pools) open(p Place) bool {
	_, err := s.disabled.Get(binary + "/" + p.backend())
	return err != nil && !s.core.IsFrozen(p.backend())
}

func (s *Pools) choose(ctx context.Context, in func(Place) bool, t *voltype.Type, gib int) (*Place, error) {
	var fit []Place
	for _, p := range s.All(ctx) {
		if in(p) && s.open(p) && p.Holds(gib) && p.Suits(t) {
			fit = append(fit, p)
		}
	}
	if len(fit) == 0 {
		return nil, errNoPlace
	}
	best := slices.MaxFunc(fit, func(a, b Place) int { return cmp.Compare(a.FreeGiB, b.FreeGiB) })
	return &best, nil
}

// overcommit is upstream's max_over_subscription_ratio.
const overcommit = 20

// Holds tells whether the pool has room: a thin one may promise more than it has,
// as long as it has as much free as the volume could ever take.
func (p Place) Holds(gib int) bool {
	if float64(gib) > p.FreeGiB {
		return false
	}
	return !p.Thin || p.Provisioned+float64(gib) <= p.TotalGiB*overcommit
}

// Capabilities are what types' extra specs are compared with.
func (p Place) Capabilities() map[string]string {
	return map[string]string{"volume_backend_name": p.backendName(), "vendor_name": "Strata", "storage_protocol": p.Driver, "pool_name": p.Pool.Name,
		"driver_version": "1.0", "multiattach": yes(p.Multiattach), "thin_provisioning_support": yes(p.Thin), "thick_provisioning_support": yes(!p.Thin), "encryption": yes(p.Encryption)}
}

func yes(b bool) string {
	if b {
		return "True"
	}
	return "False"
}

// Suits tells whether the pool has what the type asks for: an extra spec without a
// scope or with the scope "capabilities" names a capability (cinder/scheduler/filters/capabilities_filter.py).
func (p Place) Suits(t *voltype.Type) bool {
	have := p.Capabilities()
	for key, want := range t.Specs {
		scope, rest, scoped := strings.Cut(key, ":")
		if scoped && scope != "capabilities" {
			continue
		}
		if scoped {
			key = rest
		}
		got, ok := have[key]
		if !ok || !meets(got, want) {
			return false
		}
	}
	return t.Encryption == nil || p.Encryption
}

// meets compares a capability with a requirement, which may begin with an operator
// (cinder/scheduler/filters/extra_specs_ops.py).
func meets(got, want string) bool {
	words := strings.Fields(want)
	if len(words) < 2 {
		return strings.EqualFold(got, want)
	}
	arg := strings.Join(words[1:], " ")
	switch words[0] {
	case "<is>":
		return strings.EqualFold(got, arg)
	case "<in>":
		return strings.Contains(got, arg)
	case "s==":
		return got == arg
	case "s!=":
		return got != arg
	case "<or>":
		return slices.Contains(words[1:], got)
	}
	return compare(words[0], got, arg, want)
}

func compare(op, got, arg, whole string) bool {
	x, err1 := strconv.ParseFloat(got, 64)
	y, err2 := strconv.ParseFloat(arg, 64)
	if err1 != nil || err2 != nil {
		return got == whole
	}
	switch op {
	case "=", ">=":
		return x >= y
	case "==":
		return x == y
	case "!=":
		return x != y
	case "<=":
		return x <= y
	}
	return got == whole
}
