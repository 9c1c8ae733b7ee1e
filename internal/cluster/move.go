package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/kube"
	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/saga"
	"github.com/strata-cloud/strata/internal/store"
)

// Copies are the copies of clusters' states that control members keep.
type Copies interface {
	// Newest names the newest copy of a cluster that members have which answer. NotFound.
	Newest(ctx context.Context, cluster string) (name string, made time.Time, err error)
}

// Moving says where a control plane is to be.
type Moving struct {
	To string `json:"to,omitempty"` // a control member; "": whichever has the fewest
	// Copy has it begin with the newest copy, whatever has happened since: where it is now is
	// not asked. It is what there is when that machine is lost.
	Copy bool `json:"copy,omitempty"`
}

// Moved is what came of it.
type Moved struct {
	Cluster string    `json:"cluster"`
	From    string    `json:"from"`
	To      string    `json:"to"`
	Address string    `json:"address"` // of the API now
	Copy    time.Time `json:"copy"`    // what it began with was made then
}

// move is the state of a saga that moves a control plane.
type move struct {
	From        string    `json:"from"`
	FromAddress string    `json:"from_address"`
	To          string    `json:"to"`
	Copy        bool      `json:"copy,omitempty"` // the newest that there is
	State       string    `json:"state,omitempty"`
	Made        time.Time `json:"made,omitzero"`
}

// Move brings a cluster's control plane to another control member, and tells when it works
// there. The cluster's API is away meanwhile; what runs in the cluster goes on. What is
// refused: Conflict, NotFound, NoCapacity.
func (s *Service) Move(ctx context.Context, ref string, m Moving) (*Moved, error) {
	c, err := s.named(ref)
	if err != nil {
		return nil, err
	}
	j := job{Cluster: c.ID, Move: &move{From: c.Member, FromAddress: c.Address, Copy: m.Copy}}
	if j.Move.To, err = s.target(c, m); err != nil {
		return nil, err
	}
	if m.Copy {
		if j.Move.State, j.Move.Made, err = s.Copies.Newest(ctx, c.ID); err != nil {
			return nil, err
		}
	} else if _, err := s.Nodes.Conn(c.Member); err != nil {
		return nil, errs.Conflictf("Member %s, which has the control plane of cluster %s, does not answer: start it, or have the control plane begin with its newest copy elsewhere (--copy).", c.Member, c.Name)
	}
	id := uuid.NewString()
	if err := s.beginMove(ctx, id, j); err != nil {
		return nil, err
	}
	return s.awaitMove(ctx, c.ID, id)
}

func (s *Service) beginMove(ctx context.Context, id string, j job) error {
	return s.ledger.Do(ctx, func(tx *store.Tx) error {
		if err := s.update(tx, j.Cluster, "Moving", CreateComplete, UpdateComplete, UpdateFailed); err != nil {
			return err
		}
		return s.Sagas.Begin(tx, saga.Start{ID: id, Kind: sagaMove, Resource: j.Cluster, Action: "move", State: j})
	})
}

// awaitMove waits for the end of a saga that moves.
func (s *Service) awaitMove(ctx context.Context, cluster, id string) (*Moved, error) {
	var end *saga.Record
	err := s.await(ctx, "the control plane of cluster "+cluster+" to move", func() (bool, error) {
		i := slices.IndexFunc(s.Sagas.Of(cluster), func(r *saga.Record) bool { return r.ID == id })
		if i < 0 {
			return false, errs.NotFoundf("Cluster %s could not be found.", cluster)
		}
		end = s.Sagas.Of(cluster)[i]
		return end.Finished(), nil
	})
	if err != nil {
		return nil, err
	}
	c, err := s.clusters.Get(cluster)
	if err != nil {
		return nil, err
	}
	var j job
	if err := json.Unmarshal(end.State, &j); err != nil {
		return nil, err
	}
	if end.Phase == saga.Failed {
		return nil, errs.New(errs.Internal, "The control plane of cluster %s is on %s: %s", c.Name, c.Member, end.Error)
	}
	return &Moved{Cluster: c.Name, From: j.Move.From, To: c.Member, Address: c.Address, Copy: j.Move.Made}, nil
}

// named gives a cluster of whatever project by its id or name.
func (s *Service) named(ref string) (*Cluster, error) {
	if c, err := s.clusters.Get(ref); err == nil {
		return c, nil
	}
	list := slices.DeleteFunc(slices.Clone(s.clusters.All()), func(c *Cluster) bool { return c.Name != ref })
	switch len(list) {
	case 0:
		return nil, errs.NotFoundf("Cluster %s could not be found.", ref)
	case 1:
		return list[0], nil
	}
	return nil, errs.Conflictf("%d clusters are called %s: name one by its id.", len(list), ref)
}

// target is the member that a control plane moves to.
func (s *Service) target(c *Cluster, m Moving) (string, error) {
	if c.Member == "" || c.Authorities == nil {
		return "", errs.Conflictf("Cluster %s has no control plane.", c.Name)
	}
	if m.To == "" {
		to, _, err := s.chooseMember(c.Member)
		if errs.Is(err, errs.NoCapacity) {
			err = errs.New(errs.NoCapacity, "There is no control member but %s: strata token create --role control lets another machine become one.", c.Member)
		}
		return to, err
	}
	if m.To == c.Member && !m.Copy {
		return "", errs.Conflictf("The control plane of cluster %s is on %s already.", c.Name, m.To)
	}
	if !slices.Contains(s.Pool.Members(), m.To) {
		return "", errs.NotFoundf("There is no control member %s.", m.To)
	}
	_, err := s.Nodes.Conn(m.To)
	return m.To, err
}

// Hosted are the names of the clusters whose control planes a machine has.
func (s *Service) Hosted(node string) (names []string) {
	for _, c := range s.clusters.By("member", node) {
		names = append(names, c.Name)
	}
	slices.Sort(names)
	return names
}

// Hosts are the machines that have the clusters' control planes, by the clusters' ids; "":
// none has it yet.
func (s *Service) Hosts() map[string]string {
	out := map[string]string{}
	for _, c := range s.clusters.All() {
		out[c.ID] = c.Member
	}
	return out
}

// seal has the last copy made where the control plane is.
func (s *Service) seal(ctx context.Context, j *job) error {
	if j.Move.Copy {
		return nil
	}
	if _, err := s.clusters.Update(ctx, j.Cluster, func(c *Cluster) error { c.Sealed = true; return nil }); err != nil {
		return err
	}
	return s.patiently(ctx, "node "+j.Move.From+" to make the last copy of cluster "+j.Cluster, j.Move.From, j.Cluster, func(st *nodeapi.KubeStatus) (bool, string) {
		last, ok := kube.ParseCopy(st.Sealed)
		j.Move.State, j.Move.Made = last.Name, last.Made
		return ok, ""
	})
}

// moveLimit bounds how long the control plane may take to end, and to begin.
const moveLimit = 5 * time.Minute

// patiently waits for a node to do its part of a cluster as is says, for as long as the node
// is there; what fails on the way may succeed later.
func (s *Service) patiently(ctx context.Context, what, node, cluster string, is func(*nodeapi.KubeStatus) (ok bool, fault string)) error {
	ctx, cancel := context.WithTimeout(ctx, moveLimit)
	defer cancel()
	last := "nothing"
	err := s.await(ctx, what, func() (bool, error) {
		if _, err := s.Nodes.Conn(node); err != nil {
			return false, err
		}
		ok, err := s.reached(node, cluster)
		if err != nil {
			last = err.Error()
		}
		st := s.reported(node, cluster)
		if !ok || err != nil || st == nil {
			return false, nil
		}
		ok, fault := is(st)
		if fault != "" {
			last = fault
		}
		return ok, nil
	})
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%w; it says: %s", err, last)
	}
	return err
}

// unseal has the control plane go on where it is.
func (s *Service) unseal(ctx context.Context, j *job) error {
	_, err := s.clusters.Update(ctx, j.Cluster, func(c *Cluster) error { c.Sealed = false; return nil })
	return ignoreAbsent(err)
}

// moveOver has the control plane begin with the copy where it is to be.
func (s *Service) moveOver(ctx context.Context, j *job) error {
	c, err := s.clusters.Get(j.Cluster)
	if err != nil {
		return err
	}
	addr := s.Pool.Address(j.Move.To)
	if !addr.IsValid() {
		return errs.New(errs.Unavailable, "node %s has no address", j.Move.To)
	}
	return s.settleAt(ctx, c, j.Move.To, netip.AddrPortFrom(addr, c.apiPort()).String(), j.Move.State)
}

// moveBack has it begin with the copy where it was. That machine had the newest copy of all
// that it was told; one that was lost is left alone, and may be moved from again.
func (s *Service) moveBack(ctx context.Context, j *job) error {
	c, err := s.clusters.Get(j.Cluster)
	if err != nil || j.Move.Copy || j.Move.State == "" {
		return ignoreAbsent(err)
	}
	if err := s.settleAt(ctx, c, j.Move.From, j.Move.FromAddress, j.Move.State); err != nil {
		return ignoreAbsent(err)
	}
	return s.makeGate(ctx, j)
}

// settleAt has a control plane on a member, which begins with a copy.
func (s *Service) settleAt(ctx context.Context, c *Cluster, member, address, state string) error {
	if err := s.dropGate(ctx, c); err != nil {
		return err
	}
	_, err := s.clusters.Update(ctx, c.ID, func(c *Cluster) error {
		if c.Status == DeleteInProgress {
			return errs.Conflictf("cluster %s is going", c.ID)
		}
		c.Member, c.Address, c.Gate, c.State, c.Sealed = member, address, "", state, false
		return nil
	})
	return err
}

// awaitMoved waits until the API answers where it is now. The workers go there by themselves.
func (s *Service) awaitMoved(ctx context.Context, j *job) error {
	c, err := s.clusters.Get(j.Cluster)
	if err != nil {
		return err
	}
	return s.patiently(ctx, "the control plane on node "+c.Member, c.Member, c.ID, func(st *nodeapi.KubeStatus) (bool, string) {
		if st.API == nil {
			return false, ""
		}
		return st.API.Fault == "", st.API.Fault
	})
}
