package node

import (
	"context"
	"log/slog"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/reconcile"
)

// ClusterControl is the control plane as it says what this node does for Kubernetes clusters.
type ClusterControl interface {
	// Clusters streams that, as a whole.
	Clusters(ctx context.Context) <-chan []nodeapi.KubePart
	// ReportClusters tells how it goes, as a whole.
	ReportClusters(ctx context.Context, list []nodeapi.KubeStatus) error
}

// ClusterMachine is what runs the programs of clusters here.
type ClusterMachine interface {
	// Ensure has the part run as it is wanted; it may be repeated.
	Ensure(ctx context.Context, p nodeapi.KubePart) error
	// API tells what a control plane here says of its cluster.
	API(ctx context.Context, p nodeapi.KubePart) *nodeapi.KubeAPI
	// Sealed names the last copy of a control plane that is about to move; "": none yet.
	Sealed(id string) string
	// Remove ends what runs for a cluster, and removes what it has. Absent is fine.
	Remove(ctx context.Context, id string) error
	// List gives the clusters of which there is something here.
	List() ([]string, error)
}

const (
	// clusterResync is how often programs are looked after, and control planes asked.
	clusterResync = 5 * time.Second
	// clusterSoon is the pause while a control plane is not ready.
	clusterSoon = 500 * time.Millisecond
)

// Clusters keeps true what this node is to do for clusters.
type Clusters struct {
	control ClusterControl
	machine ClusterMachine
	log     *slog.Logger
	loop    *reconcile.Loop
	report  chan struct{}

	mu     sync.Mutex
	known  bool // what is wanted has been told: before, nothing is removed
	afresh bool // all is to be reported, whatever was
	// first are clusters that have not been looked at since the agent began, before which
	// it says nothing: that there is nothing would be taken for an end.
	first  map[string]bool
	wanted map[string]nodeapi.KubePart
	states map[string]nodeapi.KubeStatus
}

// NewClusters makes what Run runs.
func NewClusters(control ClusterControl, machine ClusterMachine, log *slog.Logger) *Clusters {
	c := &Clusters{control: control, machine: machine, log: log, report: make(chan struct{}, 1), first: map[string]bool{}, wanted: map[string]nodeapi.KubePart{}, states: map[string]nodeapi.KubeStatus{}}
	c.loop = reconcile.New("clusters of Kubernetes", log, c.reconcile)
	c.loop.Resync, c.loop.List = clusterResync, c.all
	return c
}

// Run works until ctx ends. The programs go on.
func (c *Clusters) Run(ctx context.Context) {
	var group sync.WaitGroup
	group.Go(func() { c.loop.Run(ctx) })
	group.Go(func() { c.send(ctx) })
	for list := range c.control.Clusters(ctx) {
		c.take(list)
	}
	group.Wait()
}

// take takes up what is wanted now.
func (c *Clusters) take(list []nodeapi.KubePart) {
	ids, err := c.machine.List() // also of an earlier agent
	if err != nil {
		c.log.Error("clusters cannot be listed", "err", err)
	}
	c.mu.Lock()
	ids = slices.AppendSeq(ids, maps.Keys(c.wanted))
	c.wanted = map[string]nodeapi.KubePart{}
	for _, p := range list {
		c.wanted[p.ID] = p
	}
	ids = slices.AppendSeq(ids, maps.Keys(c.wanted))
	if !c.known {
		for _, id := range ids {
			c.first[id] = true
		}
	}
	c.known, c.afresh = true, true
	c.mu.Unlock()
	for _, id := range ids {
		c.loop.Add(id)
	}
	c.tell()
}

// all are the clusters that may need work.
func (c *Clusters) all() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.known {
		return nil
	}
	ids := slices.Collect(maps.Keys(c.wanted))
	for id := range c.states {
		if _, ok := c.wanted[id]; !ok {
			ids = append(ids, id)
		}
	}
	return ids
}

// reconcile brings what there is of a cluster to what is wanted, and tells.
func (c *Clusters) reconcile(ctx context.Context, id string) error {
	c.mu.Lock()
	p, ok := c.wanted[id]
	c.mu.Unlock()
	st := nodeapi.KubeStatus{ID: id, Rev: p.Rev}
	var err error
	if ok {
		if err = c.machine.Ensure(ctx, p); err != nil {
			st.Fault = err.Error()
		}
		if p.Control != nil && p.Control.Sealed {
			st.Sealed = c.machine.Sealed(id)
		} else if p.Control != nil {
			st.API = c.machine.API(ctx, p)
		}
	} else if err = c.machine.Remove(ctx, id); err != nil {
		st.Fault = err.Error()
	}
	if ctx.Err() != nil {
		return err
	}
	c.mu.Lock()
	if ok || err != nil {
		c.states[id] = st
	} else {
		delete(c.states, id)
	}
	delete(c.first, id)
	c.mu.Unlock()
	c.tell()
	if st.API != nil && st.API.Fault != "" {
		time.AfterFunc(clusterSoon, func() { c.loop.Add(id) })
	}
	return err
}

func (c *Clusters) tell() {
	select {
	case c.report <- struct{}{}:
	default:
	}
}

// send tells the control plane what has changed, again until it has heard.
func (c *Clusters) send(ctx context.Context) {
	again := time.NewTimer(0)
	defer again.Stop()
	<-again.C
	var last []nodeapi.KubeStatus
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.report:
		case <-again.C:
		}
		list, afresh := c.statuses()
		if list == nil || !afresh && reflect.DeepEqual(list, last) {
			continue
		}
		if err := c.control.ReportClusters(ctx, list); err != nil && ctx.Err() == nil {
			c.log.Warn("clusters could not be reported", "err", err)
			last = nil
			again.Reset(reportAgain)
			continue
		}
		last = list
	}
}

// statuses are what is told; nil: nothing yet. Of what is wanted and was not looked at yet
// nothing is said.
func (c *Clusters) statuses() (list []nodeapi.KubeStatus, afresh bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.known || len(c.first) > 0 {
		return nil, false
	}
	list = make([]nodeapi.KubeStatus, 0, len(c.states))
	for _, st := range c.states {
		list = append(list, st)
	}
	slices.SortFunc(list, func(a, b nodeapi.KubeStatus) int { return strings.Compare(a.ID, b.ID) })
	afresh, c.afresh = c.afresh, false
	return list, afresh
}
