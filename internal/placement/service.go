package placement

import (
	"context"
	"iter"
	"log/slog"
	"maps"
	"slices"

	"github.com/google/uuid"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/store"
)

// Options configure the service.
type Options struct {
	DB  *store.DB
	Log *slog.Logger
}

// Service is the placement service.
type Service struct {
	Options
	collections
	ledger *store.Ledger
	hosts  hosts
	traitSet,
	classSet map[string]bool // the standard ones
}

// New registers the collections: call it before db.Start.
func New(o Options) *Service {
	return &Service{Options: o, collections: register(o.DB), ledger: o.DB.Ledger("placement"),
		traitSet: setOf(standardTraits()), classSet: setOf(standardClasses())}
}

func setOf(names []string) map[string]bool {
	out := make(map[string]bool, len(names))
	for _, n := range names {
		out[n] = true
	}
	return out
}

// Need is what a consumer wants from one host.
type Need struct {
	VCPU, MemoryMiB, DiskGiB int
	RequiredTraits           []string
	ForbiddenTraits          []string
}

func (n Need) resources() map[string]int64 {
	out := map[string]int64{}
	for class, amount := range map[string]int{"VCPU": n.VCPU, "MEMORY_MB": n.MemoryMiB, "DISK_GB": n.DiskGiB} {
		if amount > 0 {
			out[class] = int64(amount)
		}
	}
	return out
}

// Node is a node as a resource provider.
type Node struct {
	ID, Name  string
	VCPUs     int
	MemoryMiB int
	DiskGiB   int
	// Reserved for the host itself; nova's reserved_host_* options.
	ReservedVCPUs, ReservedMemoryMiB, ReservedDiskGiB int
	Traits                                            []string
}

// ProviderID is the uuid of a node's provider: the node's id if it is a uuid, else
// one made from it, the same each time.
func ProviderID(node string) string {
	if u, err := uuid.Parse(node); err == nil {
		return u.String()
	}
	return uuid.NewSHA1(uuid.NameSpaceOID, []byte("strata node "+node)).String()
}

// initialRatios are what an inventory starts with; an operator's later change
// through the API is kept. VCPU's is nova's initial_cpu_allocation_ratio of most
// releases (16; 4 since 2023.1): a small machine holds many idle guests.
var initialRatios = map[string]float64{"VCPU": 16, "MEMORY_MB": 1, "DISK_GB": 1}

// EnsureProvider makes the node's provider, or brings inventories and traits up to
// date. Custom traits, aggregates, ratios and other inventories that were set
// through the API stay. It writes only what differs.
func (s *Service) EnsureProvider(ctx context.Context, n Node) error {
	id := ProviderID(n.ID)
	return s.ledger.Do(ctx, func(tx *store.Tx) error {
		old, err := s.providers.TxGet(tx, id)
		if errs.Is(err, errs.NotFound) {
			p := &Provider{UUID: id, Root: id, Created: now(), Updated: now()}
			n.describe(p)
			return s.checkedPut(tx, p)
		} else if err != nil {
			return err
		}
		p := *old
		p.Inventories = maps.Clone(old.Inventories)
		n.describe(&p)
		if p.Name == old.Name && p.Node == old.Node && maps.Equal(p.Inventories, old.Inventories) && slices.Equal(p.Traits, old.Traits) {
			return nil
		}
		p.Generation++
		p.Updated = now()
		return s.checkedPut(tx, &p)
	})
}

func (s *Service) checkedPut(tx *store.Tx, p *Provider) error {
	for _, t := range p.Traits {
		if !s.knownTrait(tx, t) {
			return errs.Invalidf("No such trait %s", t)
		}
	}
	if other, taken := s.providers.TxUnique(tx, "name", p.Name); taken && other.UUID != p.UUID {
		return duplicate("name: " + p.Name)
	}
	return s.providers.TxPut(tx, p)
}

// describe writes what the node knows into its provider.
func (n Node) describe(p *Provider) {
	p.Name, p.Node = n.Name, n.ID
	if p.Inventories == nil {
		p.Inventories = map[string]Inventory{}
	}
	for class, amount := range map[string][2]int{"VCPU": {n.VCPUs, n.ReservedVCPUs}, "MEMORY_MB": {n.MemoryMiB, n.ReservedMemoryMiB},
		"DISK_GB": {n.DiskGiB, n.ReservedDiskGiB}} {
		total, ratio := int64(amount[0]), initialRatios[class]
		if old, ok := p.Inventories[class]; ok {
			ratio = old.Ratio
		}
		if total < 1 {
			continue
		}
		p.Inventories[class] = Inventory{Total: total, Reserved: min(int64(amount[1]), total), MinUnit: 1, MaxUnit: total, StepSize: 1, Ratio: ratio}
	}
	traits := slices.Clone(n.Traits)
	for _, t := range p.Traits {
		if custom(t) {
			traits = append(traits, t)
		}
	}
	slices.Sort(traits)
	p.Traits = slices.Compact(traits)
}

// RemoveProvider forgets a node's provider; Conflict while something is allocated
// from it. Absent is fine.
func (s *Service) RemoveProvider(ctx context.Context, node string) error {
	err := s.deleteProvider(ctx, ProviderID(node))
	if errs.Is(err, errs.NotFound) {
		return nil
	}
	return err
}

// Candidates gives the ids of the nodes that can hold the need, the one with the
// most free memory first, as far as they are asked for. soon is what callers are
// about to claim, in MiB by node: it changes the order alone.
func (s *Service) Candidates(_ context.Context, need Need, soon map[string]int) (iter.Seq[string], error) {
	return s.hosts.fitting(s.providers.All(), need, soon), nil
}

func (p *Provider) has(required, forbidden []string) bool {
	for _, t := range required {
		if _, ok := slices.BinarySearch(p.Traits, t); !ok {
			return false
		}
	}
	for _, t := range forbidden {
		if _, ok := slices.BinarySearch(p.Traits, t); ok {
			return false
		}
	}
	return true
}

// Claim allocates the need on a node for the consumer, in place of what it had.
// It is NoCapacity when the node cannot hold it any more.
func (s *Service) Claim(ctx context.Context, consumer, node, projectID, userID string, need Need) error {
	want := need.resources()
	id := ProviderID(node)
	return s.ledger.Do(ctx, func(tx *store.Tx) error {
		p, err := s.providers.TxGet(tx, id)
		if err != nil {
			return errs.New(errs.NoCapacity, "Node %s offers no resources.", node)
		}
		if !p.has(need.RequiredTraits, need.ForbiddenTraits) {
			return errs.New(errs.NoCapacity, "Node %s does not have the traits that are asked for.", node)
		}
		if len(want) == 0 {
			return s.release(tx, consumer)
		}
		a := allotment{consumer: consumer, project: projectID, user: userID, kind: "INSTANCE", allocations: map[string]map[string]int64{id: want}}
		if err := s.replace(tx, a); errs.Is(err, errs.Conflict) {
			return errs.New(errs.NoCapacity, "%w", err)
		} else if err != nil {
			return err
		}
		return nil
	})
}

// Holding is what a consumer shall hold on a node; no node: nothing.
type Holding struct {
	Consumer, Node string
	Need           Need
}

// ClaimAll gives several consumers exactly these holdings at one moment, or changes
// nothing: they may swap nodes that are full. It is NoCapacity when a node cannot hold them;
// traits are for who chooses the node, since what is there may stay.
func (s *Service) ClaimAll(ctx context.Context, projectID, userID string, list ...Holding) error {
	return s.ledger.Do(ctx, func(tx *store.Tx) error {
		var all []allotment
		for _, h := range list {
			a := allotment{consumer: h.Consumer, project: projectID, user: userID, kind: "INSTANCE"}
			if want := h.Need.resources(); h.Node != "" && len(want) > 0 {
				if _, err := s.providers.TxGet(tx, ProviderID(h.Node)); err != nil {
					return errs.New(errs.NoCapacity, "Node %s offers no resources.", h.Node)
				}
				a.allocations = map[string]map[string]int64{ProviderID(h.Node): want}
			}
			all = append(all, a)
		}
		if err := s.replace(tx, all...); errs.Is(err, errs.Conflict) {
			return errs.New(errs.NoCapacity, "%w", err)
		} else if err != nil {
			return err
		}
		return nil
	})
}

// Release gives back all that the consumer holds. Absent is fine.
func (s *Service) Release(ctx context.Context, consumer string) error {
	return s.ledger.Do(ctx, func(tx *store.Tx) error { return s.release(tx, consumer) })
}

func (s *Service) release(tx *store.Tx, consumer string) error {
	return s.replace(tx, allotment{consumer: consumer})
}
