package cluster

import (
	"context"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/policy"
)

// Servers is the compute service, whose servers can be workers.
type Servers interface {
	// Kind finds what servers of the caller's are made from, by ids or names; "" is the
	// region's choice. NotFound.
	Kind(ctx context.Context, who *policy.Credentials, flavor, image string) (*ServerKind, Size, error)
	// Make begins to make a server that calls the region as the worker, in its project and
	// within its quotas. It may be repeated.
	Make(ctx context.Context, s ServerSpec) error
	// Server tells whether there is such a server, and why it has failed, if it has.
	Server(id string) (there bool, fault string)
	// Off tells whether a server does not run for certain: it was stopped, has crashed, or is gone.
	Off(id string) bool
	// Remove begins to delete one. Absent is fine.
	Remove(ctx context.Context, project, user, id string) error
}

// ServerKind is what a group's servers are made from.
type ServerKind struct {
	FlavorID string `json:"flavor_id"`
	ImageID  string `json:"image_id"`
}

// ServerSpec is a server that a cluster wants.
type ServerSpec struct {
	ServerKind
	ID, Worker, Cluster string // ids
	Name, Port, Key     string
	ProjectID, UserID   string
}

// bootLimit bounds how long a server may take until it is a node of its cluster: without
// hardware virtualisation that is minutes.
const bootLimit = 30 * time.Minute

var notInName = regexp.MustCompile(`[^a-z0-9]+`)

// serverName is the name of a server and of its node, which no other node of any cluster or
// of the pool has, however a project calls its clusters.
func serverName(cluster, id string) string {
	base := notInName.ReplaceAllString(strings.ToLower(cluster), "-")
	base = strings.Trim(base[:min(len(base), 40)], "-")
	return base + "-" + id[len(id)-12:]
}

// hireServer makes a server that is a worker of the group.
func (s *Service) hireServer(ctx context.Context, c *Cluster, g *Group) error {
	w := &Worker{ID: uuid.NewString(), ClusterID: c.ID, GroupID: g.ID, Port: uuid.NewString(), Server: uuid.NewString(), Created: now()}
	w.Node = serverName(c.Name, w.Server)
	if err := s.workers.Create(ctx, w); err != nil {
		return err
	}
	return s.install(ctx, c, g, w)
}

// install makes the worker's port and then its server, which is told how to call.
func (s *Service) install(ctx context.Context, c *Cluster, g *Group, w *Worker) error {
	if err := s.plugNode(ctx, c, w); err != nil {
		return err
	}
	port, ok := s.Networks.Plug(w.Port)
	if !ok {
		return errs.New(errs.Internal, "the port of node %s is gone", w.Node)
	}
	addr, err := port.IPv4()
	if err != nil {
		return err
	}
	next := *w
	next.Address = addr.String()
	if _, err := certify(c, &next); err != nil {
		return err
	}
	_, err = s.workers.Update(ctx, w.ID, func(w *Worker) error {
		w.Address, w.Kubelet, w.Serving, w.Proxy, w.Policies = next.Address, next.Kubelet, next.Serving, next.Proxy, next.Policies
		if w.Image == "" {
			w.Image = g.Server.ImageID
		}
		return nil
	})
	if err != nil {
		return err
	}
	spec := ServerSpec{ServerKind: *g.Server, ID: w.Server, Worker: w.ID, Cluster: c.ID, Name: w.Node, Port: w.Port, Key: deref(c.Keypair), ProjectID: c.ProjectID, UserID: c.UserID}
	if err := s.Servers.Make(ctx, spec); err != nil {
		return err
	}
	_, err = s.workers.Update(ctx, w.ID, func(w *Worker) error { w.Claimed = true; return nil })
	return err
}

// replaceServers has servers of another image take the place of a group's, a batch at a time:
// the new ones are there before the old ones go. A repeated run goes on where one has ended.
func (s *Service) replaceServers(ctx context.Context, c *Cluster, g *Group, j *job) error {
	g, err := s.groups.Update(ctx, g.ID, func(g *Group) error { g.Server = j.Server; return nil })
	if err != nil {
		return err
	}
	if err := s.confirm(ctx, c, g); err != nil {
		return err
	}
	for {
		have := s.present(g.ID)
		old := slices.DeleteFunc(slices.Clone(have), func(w *Worker) bool { return w.Image == g.Server.ImageID })
		if len(old) == 0 {
			return s.seeOff(ctx, c)
		}
		s.avoid(ctx, c, old)
		old = old[:min(len(old), max(j.Batch, 1))]
		for n := len(have); n < g.NodeCount+len(old); n++ {
			if err := s.hire(ctx, c, g); err != nil {
				return err
			}
		}
		for _, w := range s.present(g.ID) {
			if w.Image != g.Server.ImageID {
				continue
			}
			// It has what the upgrade brings, and is not to start it anew.
			if _, err := s.workers.Update(ctx, w.ID, func(w *Worker) error { w.Generation = j.Target; return nil }); err != nil {
				return err
			}
			if err := s.awaitWorker(ctx, c, w); err != nil {
				return err
			}
		}
		s.drain(ctx, c, old)
		if err := s.dismiss(ctx, c, old); err != nil {
			return err
		}
	}
}

// removeServers begins to delete those of the workers that are servers.
func (s *Service) removeServers(ctx context.Context, c *Cluster, list []*Worker) error {
	for _, w := range list {
		if w.Server == "" {
			continue
		}
		if err := s.Servers.Remove(ctx, c.ProjectID, c.UserID, w.Server); err != nil {
			return err
		}
	}
	return nil
}

// away tells whether nothing of a cluster is where its worker was.
func (s *Service) away(w *Worker) bool {
	if w.Server == "" {
		return s.absent(w.Node, w.ClusterID)
	}
	there, _ := s.Servers.Server(w.Server)
	return !there
}

// serverFault is why a worker's server will not be a node; "": nothing is known.
func (s *Service) serverFault(w *Worker) string {
	if w.Server == "" {
		return ""
	}
	there, fault := s.Servers.Server(w.Server)
	if !there {
		return "there is no server " + w.Server + " any more"
	}
	return fault
}

// serverKind is what the servers of another group of a cluster are made from; nil: its
// workers are machines of the pool.
func (s *Service) serverKind(ctx context.Context, who *policy.Credentials, c *Cluster, flavor, image *string) (*ServerKind, Size, error) {
	first, err := s.defaultWorkers(c.ID)
	if err != nil || first.Server == nil {
		return nil, Size{}, err
	}
	kind, size, err := s.Servers.Kind(ctx, who, deref(flavor), deref(image))
	return kind, size, badReference(err, "%v", err)
}
