// Package nodes is the control plane's side of the pool: which nodes there are,
// what each should run, and what each says it runs.
//
// Four kinds of records, one writer each: Info, Status and Exports are written by a
// node's agent (through this package), Instance by the compute service. An agent
// sees only its own node's instances. Members are the machines that joined, by way
// of Tokens; whoever is none is not let in.
package nodes

import (
	"context"
	"fmt"
	"io"
	"net"
	"sync"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/store"
)

// Registry holds the pool's records.
type Registry struct {
	Infos     *store.Collection[nodeapi.NodeInfo]
	Instances *store.Collection[nodeapi.Instance]
	Statuses  *store.Collection[nodeapi.InstanceStatus]
	Members   *store.Collection[Member]
	Tokens    *store.Collection[Token]
	Exports   *store.Collection[nodeapi.ExportReport]

	db    *store.DB
	mu    sync.Mutex
	conns map[string]Conn

	leases leases
}

// Conn reaches a node's agent for what cannot wait for convergence.
type Conn interface {
	// ConsoleLog gives the last lines of the instance's serial log; 0 lines: all that is kept.
	ConsoleLog(ctx context.Context, instance string, lines int) ([]byte, error)
	// Console reaches a running instance's screen (kind vnc: RFB) or serial console
	// (kind serial), until the connection is closed. Conflict: it does not run.
	Console(ctx context.Context, instance, kind string) (net.Conn, error)
	// Diagnostics gives a running instance's counters. Conflict: it does not run.
	Diagnostics(ctx context.Context, instance string) (*nodeapi.Diagnostics, error)
	// Interrupt sends a running instance a non-maskable interrupt. Conflict: it does not run.
	Interrupt(ctx context.Context, instance string) error
	// SetPassword sets a user's password in a running instance, through the agent in
	// the guest. Unavailable: none answers. Conflict: it does not run.
	SetPassword(ctx context.Context, instance, user, password string) error
	// ReadDisk gives the content that one of the instance's own disks (by
	// Disk.Name) has at one moment, as a qcow2 image that depends on nothing.
	ReadDisk(ctx context.Context, instance, disk string) (io.ReadCloser, error)
}

// New registers the collections: call it before db.Start.
func New(db *store.DB) *Registry {
	return &Registry{
		db: db, conns: map[string]Conn{},
		Infos: store.Register(db, store.Schema[nodeapi.NodeInfo]{Service: "node", Kind: "info", Version: 1,
			ID: func(n *nodeapi.NodeInfo) string { return n.ID }}),
		Instances: store.Register(db, store.Schema[nodeapi.Instance]{Service: "node", Kind: "instance", Version: 1,
			ID:    func(i *nodeapi.Instance) string { return i.ID },
			Index: map[string]func(*nodeapi.Instance) []string{"node": func(i *nodeapi.Instance) []string { return []string{i.Node} }}}),
		Statuses: store.Register(db, store.Schema[nodeapi.InstanceStatus]{Service: "node", Kind: "status", Version: 1,
			ID:    func(s *nodeapi.InstanceStatus) string { return s.ID },
			Index: map[string]func(*nodeapi.InstanceStatus) []string{"node": func(s *nodeapi.InstanceStatus) []string { return []string{s.Node} }}}),
		Members: store.Register(db, store.Schema[Member]{Service: "node", Kind: "member", Version: 1, ID: func(m *Member) string { return m.ID }}),
		Tokens:  store.Register(db, store.Schema[Token]{Service: "node", Kind: "token", Version: 1, ID: func(t *Token) string { return t.ID }}),
		Exports: store.Register(db, store.Schema[nodeapi.ExportReport]{Service: "node", Kind: "export", Version: 1, ID: func(e *nodeapi.ExportReport) string { return e.Node }}),
	}
}

// Connect makes a node's agent reachable; nil disconnects it.
func (r *Registry) Connect(node string, c Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c == nil {
		delete(r.conns, node)
		return
	}
	r.conns[node] = c
}

// Conn gives the connection to a node's agent.
func (r *Registry) Conn(node string) (Conn, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c := r.conns[node]; c != nil {
		return c, nil
	}
	return nil, errs.New(errs.Unavailable, "node %s is not connected", node)
}

// Storage gives a node's volumes. NotFound: the node keeps none.
func (r *Registry) Storage(node string) (Storage, error) {
	c, err := r.Conn(node)
	if err != nil {
		return nil, err
	}
	if s, ok := c.(Storage); ok {
		return s, nil
	}
	return nil, errs.NotFoundf("node %s keeps no volumes", node)
}

// Reached waits until the node has reached or failed the instance's generation,
// and gives its status; a fault is the error. An instance that is to be deleted
// is reached when it is gone.
func (r *Registry) Reached(ctx context.Context, id string, gen int64) (*nodeapi.InstanceStatus, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	changed := r.Statuses.NotifyOf(ctx, id)
	for {
		if s, err := r.Statuses.Get(id); err == nil && s.Gen >= gen {
			if s.Fault != "" {
				return s, errs.New(errs.Internal, "%s", s.Fault)
			}
			return s, nil
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("waiting for the node of instance %s: %w", id, context.Cause(ctx))
		case <-changed:
		}
	}
}

// Report writes what an agent says of an instance; an older generation than the
// recorded one is ignored, and what is recorded already writes nothing: agents
// repeat themselves.
func (r *Registry) Report(ctx context.Context, s nodeapi.InstanceStatus) error {
	if old, err := r.Statuses.Get(s.ID); err == nil && sameStatus(*old, s) {
		return nil
	}
	return r.db.Txn(ctx, func(tx *store.Tx) error {
		if old, err := r.Statuses.TxGet(tx, s.ID); err == nil && old.Gen > s.Gen {
			return nil
		}
		if _, err := r.Instances.TxGet(tx, s.ID); errs.Is(err, errs.NotFound) {
			return nil // forgotten since: nobody would ever remove the status
		}
		return r.Statuses.TxPut(tx, &s)
	})
}

// sameStatus tells whether two statuses say the same, since whenever.
func sameStatus(a, b nodeapi.InstanceStatus) bool {
	a.Since = b.Since
	return a == b
}

// Forget removes the records of an instance that is gone.
func (r *Registry) Forget(ctx context.Context, id string) error {
	return r.db.Txn(ctx, func(tx *store.Tx) error {
		for _, err := range []error{r.Instances.TxDelete(tx, id), r.Statuses.TxDelete(tx, id)} {
			if err != nil && !errs.Is(err, errs.NotFound) {
				return err
			}
		}
		return nil
	})
}
