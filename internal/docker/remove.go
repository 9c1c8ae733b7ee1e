package docker

import (
	"context"
	"net/http"
	"net/url"
	"strings"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/store"
)

// remove removes a container: as its node does if that can be asked, else from the
// records, and from the node once it is back.
func (s *Service) remove(w http.ResponseWriter, r *request) error {
	c, err := s.find(r.who.ProjectID, r.Vars["id"])
	if err != nil {
		return err
	}
	if r.Flag("link") {
		return errs.Invalidf("links between containers are not supported")
	}
	if c.State == Ready {
		q := r.URL.Query()
		err := s.ask(r.Context(), c.Node, http.MethodDelete, "/containers/"+c.ID, url.Values{"force": q["force"], "v": q["v"]}, nil)
		if err != nil && !errs.Is(err, errs.NotFound) && !errs.Is(err, errs.Unavailable) {
			return err
		}
	}
	if err := s.leave(r.Context(), c.ID); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// away tells whether a node cannot be asked.
func (s *Service) away(node string) bool {
	_, err := s.Nodes.Conn(node)
	return err != nil
}

// leave hides a container from its project, and removes what is left of it.
func (s *Service) leave(ctx context.Context, id string) error {
	_, err := s.containers.Update(ctx, id, func(c *Container) error { c.State = Removing; return nil })
	if errs.Is(err, errs.NotFound) {
		return nil
	} else if err != nil {
		return err
	}
	if err := s.reconcile(ctx, id); err != nil {
		s.loop.Add(id) // it goes on without us
	}
	return nil
}

// drop undoes a create that failed.
func (s *Service) drop(ctx context.Context, id string) {
	if err := s.leave(ctx, id); err != nil {
		s.Log.Warn("what is left of a container that was not made", "container", id, "err", err)
		s.loop.Add(id)
	}
}

// unfinished are the containers that may need work though nobody asks for it.
func (s *Service) unfinished() (ids []string) {
	for _, c := range s.containers.All() {
		if c.State != Ready || c.AutoRemove || s.orphan(s.life, c) {
			ids = append(ids, c.ID)
		}
	}
	return ids
}

// reconcile does what is due for a container.
func (s *Service) reconcile(ctx context.Context, id string) error {
	c, err := s.containers.Get(id)
	if errs.Is(err, errs.NotFound) {
		return nil
	} else if err != nil {
		return err
	}
	switch c.State {
	case Creating:
		s.mu.Lock()
		active := s.active[id]
		s.mu.Unlock()
		if active {
			return nil
		}
	case Ready:
		if s.orphan(ctx, c) {
			break
		}
		if gone, err := s.gone(ctx, c); err != nil || !gone {
			return err
		}
	case Removing:
		return s.clear(ctx, c)
	}
	if c, err = s.containers.Update(ctx, id, func(c *Container) error { c.State = Removing; return nil }); err != nil {
		return err
	}
	return s.clear(ctx, c)
}

// orphan tells whether a container has nobody left: its project was deleted, or its node
// was taken out of the pool, with all that is there.
func (s *Service) orphan(ctx context.Context, c *Container) bool {
	if !s.Identity.HasProject(ctx, c.ProjectID) {
		return true
	}
	_, err := s.Nodes.Infos.Get(c.Node)
	return c.Node != "" && errs.Is(err, errs.NotFound)
}

// remains tells whether a container is still there, now: one that goes with its end may
// have been removed by its engine a moment ago.
func (s *Service) remains(ctx context.Context, c *Container) (bool, error) {
	if !c.AutoRemove {
		return true, nil
	}
	if err := s.reconcile(ctx, c.ID); err != nil {
		return true, err
	}
	_, err := s.containers.Get(c.ID)
	return err == nil, nil
}

// gone tells whether the engine has removed a container that was made so.
func (s *Service) gone(ctx context.Context, c *Container) (bool, error) {
	if !c.AutoRemove || s.away(c.Node) {
		return false, nil
	}
	err := s.ask(ctx, c.Node, http.MethodGet, "/containers/"+c.ID+"/json", nil, nil)
	switch {
	case errs.Is(err, errs.NotFound):
		return true, nil
	case errs.Is(err, errs.Unavailable):
		return false, nil
	}
	return false, err
}

// clear gives back what a container had, at once, and removes its record when its node
// has nothing of it any more.
func (s *Service) clear(ctx context.Context, c *Container) error {
	ctx = store.Freeing(ctx)
	for _, p := range c.Ports {
		if err := s.Networks.ReleasePort(ctx, p.ID); err != nil {
			return err
		}
	}
	if err := s.Placement.Release(ctx, c.ConsumerID()); err != nil {
		return err
	}
	left, err := s.offNode(ctx, c)
	if err != nil {
		return err
	}
	// A node that is away cannot write to a volume that is taken from it.
	if err := s.letGo(ctx, c); err != nil {
		return err
	}
	if !left {
		return nil // the resync looks again
	}
	if err := s.containers.Delete(ctx, c.ID); err != nil && !errs.Is(err, errs.NotFound) {
		return err
	}
	return nil
}

// offNode removes a container from its node; false: the node cannot be asked.
func (s *Service) offNode(ctx context.Context, c *Container) (bool, error) {
	if c.Node == "" {
		return true, nil
	}
	if _, err := s.Nodes.Infos.Get(c.Node); err != nil {
		return true, nil // it was taken out of the pool
	}
	err := s.ask(ctx, c.Node, http.MethodDelete, "/containers/"+c.ID, url.Values{"force": {"1"}, "v": {"1"}}, nil)
	switch {
	case errs.Is(err, errs.Unavailable):
		return false, nil
	case errs.Is(err, errs.NotFound):
		return true, nil
	}
	return err == nil, err
}

// rename gives a container another name; its node does not know of either.
func (s *Service) rename(w http.ResponseWriter, r *request) error {
	c, err := s.find(r.who.ProjectID, r.Vars["id"])
	if err != nil {
		return err
	}
	name := strings.TrimPrefix(r.Value("name"), "/")
	if name == "" {
		return errs.Invalidf("Neither old nor new names may be empty")
	}
	if !nameRE.MatchString(name) {
		return errs.Invalidf("Invalid container name (%s), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed", name)
	}
	err = s.ledger.Do(r.Context(), func(tx *store.Tx) error {
		if other, taken := s.containers.TxUnique(tx, "name", nameKey(c.ProjectID, name)); taken {
			return errs.Conflictf("Conflict. The container name %q is already in use by container %q. You have to remove (or rename) that container to be able to reuse that name.", "/"+name, other.ID)
		}
		_, err := s.containers.TxUpdate(tx, c.ID, func(c *Container) error { c.Name = name; return nil })
		return err
	})
	if err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
