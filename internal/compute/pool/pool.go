package pool

import (
	"context"
	"hash/fnv"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/nodes"
	"github.com/strata-cloud/strata/internal/policy"
	"github.com/strata-cloud/strata/internal/rest"
	"github.com/strata-cloud/strata/internal/store"
)

// DefaultZone is the zone of every host that no aggregate puts elsewhere.
const DefaultZone = "nova"

// zoneKey is the metadata key that makes an aggregate a zone.
const zoneKey = "availability_zone"

// Aggregate is a named group of hosts with metadata.
type Aggregate struct {
	ID       int               `json:"id"`
	UUID     string            `json:"uuid"`
	Name     string            `json:"name"`
	Hosts    []string          `json:"hosts,omitempty"`
	Metadata map[string]string `json:"metadata,omitempty"`
	Created  time.Time         `json:"created"`
	Updated  *time.Time        `json:"updated,omitempty"`
}

// ServiceState is what an operator wants of a host's compute service.
type ServiceState struct {
	Host       string     `json:"host"`
	Disabled   bool       `json:"disabled"`
	Reason     string     `json:"reason,omitempty"`
	ForcedDown bool       `json:"forced_down"`
	Updated    *time.Time `json:"updated,omitempty"`
}

// Sequence hands out numbers.
type Sequence struct {
	ID   string `json:"id"`
	Last int    `json:"last"`
}

// Server is what this package needs to know of a server on a host.
type Server struct {
	ID, Name         string
	ProjectID        string
	VCPUs            int
	MemoryMiB        int
	DiskGiB          int
	Running, Working bool // powered on; a task is under way
}

// Pool is the set of hosts.
type Pool struct {
	nodes      *nodes.Registry
	db         *store.DB
	servers    func(host string) []Server
	provider   func(host string) string
	aggregates *store.Collection[Aggregate]
	services   *store.Collection[ServiceState]
	sequences  *store.Collection[Sequence]
}

// New registers the collections: call it before db.Start. servers lists the
// servers on a host that are not deleted; provider gives the UUID of a host's
// resource provider, which upstream's compute node shares.
func New(db *store.DB, reg *nodes.Registry, servers func(host string) []Server, provider func(host string) string) *Pool {
	return &Pool{nodes: reg, db: db, servers: servers, provider: provider,
		aggregates: store.Register(db, store.Schema[Aggregate]{Service: "compute", Kind: "aggregate", Version: 1,
			ID:     func(a *Aggregate) string { return strconv.Itoa(a.ID) },
			Unique: map[string]func(*Aggregate) []string{"name": func(a *Aggregate) []string { return []string{a.Name} }},
			Index:  map[string]func(*Aggregate) []string{"host": func(a *Aggregate) []string { return a.Hosts }}}),
		services: store.Register(db, store.Schema[ServiceState]{Service: "compute", Kind: "service", Version: 1,
			ID: func(s *ServiceState) string { return s.Host }}),
		sequences: store.Register(db, store.Schema[Sequence]{Service: "compute", Kind: "sequence", Version: 1,
			ID: func(s *Sequence) string { return s.ID }}),
	}
}

// Zone is the availability zone of a host.
func (p *Pool) Zone(host string) string {
	for _, a := range p.aggregates.By("host", host) {
		if z := a.Metadata[zoneKey]; z != "" {
			return z
		}
	}
	return DefaultZone
}

// Metadata is what the host's aggregates say of it. A value may be a list with
// commas (nova/scheduler/filters/utils.py, aggregate_metadata_get_by_host).
func (p *Pool) Metadata(host string) map[string][]string {
	out := map[string][]string{}
	for _, a := range p.aggregates.By("host", host) {
		for k, list := range a.Metadata {
			for _, x := range strings.Split(list, ",") {
				out[k] = append(out[k], strings.TrimSpace(x))
			}
		}
	}
	return out
}

// HasZone tells whether a zone has a host that takes new servers.
func (p *Pool) HasZone(name string) bool {
	return slices.ContainsFunc(p.nodes.Infos.All(), func(n *nodeapi.NodeInfo) bool { return p.enabled(n.ID) && p.Zone(n.ID) == name })
}

// Takes tells whether a host may get new servers: it is enabled and there.
func (p *Pool) Takes(host string) bool { return p.enabled(host) && p.Up(host) }

// Up tells whether the host's agent is there and no operator says otherwise.
func (p *Pool) Up(host string) bool {
	if st, err := p.services.Get(host); err == nil && st.ForcedDown {
		return false
	}
	_, err := p.nodes.Conn(host)
	return err == nil
}

// Status is what a server's owner may be told of its host: UP, DOWN or MAINTENANCE.
func (p *Pool) Status(host string) string {
	switch {
	case host == "":
		return ""
	case !p.Up(host):
		return "DOWN"
	case !p.enabled(host):
		return "MAINTENANCE"
	}
	return "UP"
}

func (p *Pool) enabled(host string) bool {
	st, err := p.services.Get(host)
	return err != nil || !st.Disabled
}

func (p *Pool) state(host string) ServiceState {
	if st, err := p.services.Get(host); err == nil {
		return *st
	}
	return ServiceState{Host: host}
}

// setState changes what an operator wants of a host.
func (p *Pool) setState(ctx context.Context, host string, fn func(*ServiceState)) error {
	return p.db.Txn(ctx, func(tx *store.Tx) error {
		st := ServiceState{Host: host}
		if have, err := p.services.TxGet(tx, host); err == nil {
			st = *have
		} else if !errs.Is(err, errs.NotFound) {
			return err
		}
		fn(&st)
		t := now()
		st.Updated = &t
		return p.services.TxPut(tx, &st)
	})
}

func now() time.Time { return time.Now().UTC().Truncate(time.Second) }

// serviceID is the UUID of a host's compute service.
func serviceID(host string) string {
	return uuid.NewSHA1(uuid.NameSpaceDNS, []byte("service."+host+".compute.strata")).String()
}

// rowID stands for upstream's row number of a host.
func rowID(host string) int {
	h := fnv.New32a()
	h.Write([]byte(host))
	return int(h.Sum32() & 0x7fffffff)
}

// hostOf finds the host that a path names: by UUID from since on, before by number.
// A UUID that is none is Invalid.
func (p *Pool) hostOf(r *rest.Request, since rest.Version, id func(string) string, notFound string) (*nodeapi.NodeInfo, error) {
	want := r.Path("id")
	if r.Version.AtLeast(since) {
		if _, err := uuid.Parse(want); err != nil {
			return nil, errs.Invalidf("Invalid uuid %s", want)
		}
	}
	for _, n := range p.nodes.Infos.All() {
		if r.Version.AtLeast(since) && id(n.ID) == want || !r.Version.AtLeast(since) && strconv.Itoa(rowID(n.ID)) == want {
			return n, nil
		}
	}
	return nil, errs.NotFoundf(notFound, want)
}

// Routes are the pool's rows of the compute API.
func (p *Pool) Routes() []rest.Route {
	return slices.Concat(p.aggregateRoutes(), p.zoneRoutes(), p.serviceRoutes(), p.hypervisorRoutes(), p.hostRoutes(), p.auditRoutes())
}

// Policies are upstream's names and defaults.
func Policies() []policy.Rule {
	rules := []policy.Rule{{Name: "os_compute_api:os-availability-zone:list", Check: "@"}}
	for _, n := range []string{"os-availability-zone:detail", "os-services:list", "os-services:update", "os-services:delete",
		"os-hypervisors:list", "os-hypervisors:list-detail", "os-hypervisors:show", "os-hypervisors:statistics", "os-hypervisors:uptime", "os-hypervisors:search", "os-hypervisors:servers",
		"os-hosts:list", "os-hosts:show", "os-hosts:update", "os-hosts:start", "os-hosts:shutdown", "os-hosts:reboot",
		"os-instance-usage-audit-log:list", "os-instance-usage-audit-log:show",
		"os-aggregates:index", "os-aggregates:create", "os-aggregates:show", "os-aggregates:update", "os-aggregates:delete", "os-aggregates:add_host", "os-aggregates:remove_host", "os-aggregates:set_metadata"} {
		rules = append(rules, policy.Rule{Name: "os_compute_api:" + n, Check: "rule:context_is_admin"})
	}
	return rules
}
