package cluster

import (
	"context"
	"unicode/utf8"

	"golang.org/x/time/rate"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/store"
)

// What a server says of its cluster comes from a machine of the project's. It is about that
// machine alone, of bounded size, and not more of it than a busy worker has to say.
const (
	mostText  = 1000
	callRate  = 10 // changes in a second
	callBurst = 300
)

// ServerWorker is the worker that calls by the region's link: its node and its cluster.
// Forbidden: there is none, or it is leaving.
func (s *Service) ServerWorker(id string) (node, cluster string, err error) {
	w, err := s.workers.Get(id)
	if err != nil || w.Server == "" || w.Leaving {
		return "", "", errs.Forbiddenf("there is no worker %s", id)
	}
	return w.Node, w.ClusterID, nil
}

// AllowServer counts a call that changes something.
func (s *Service) AllowServer(id string) error {
	l, _ := s.calls.LoadOrStore(id, rate.NewLimiter(callRate, callBurst))
	if !l.(*rate.Limiter).Allow() {
		return errs.New(errs.Unavailable, "worker %s changes too much in a moment", id)
	}
	return nil
}

// WatchServer streams what a worker that is a server is to do, until there is none.
func (s *Service) WatchServer(ctx context.Context, id string) <-chan []nodeapi.KubePart {
	type view struct {
		parts []nodeapi.KubePart
		gone  bool // which changes no part that it had no more
	}
	out := make(chan []nodeapi.KubePart)
	go func() {
		defer close(out)
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		look := func() view {
			node, _, err := s.ServerWorker(id)
			return view{ownParts(s.Parts(node)), err != nil}
		}
		for v := range store.Stream(ctx, s.DB, look, inParts()...) {
			if v.gone {
				return
			}
			select {
			case out <- v.parts:
			case <-ctx.Done():
				return
			}
		}
	}()
	return out
}

// ownParts are parts without a control plane, which no server hosts.
func ownParts(list []nodeapi.KubePart) []nodeapi.KubePart {
	out := []nodeapi.KubePart{}
	for _, p := range list {
		if p.Worker != nil {
			p.Control = nil
			out = append(out, p)
		}
	}
	return out
}

// ReportServer writes what such a worker says of itself.
func (s *Service) ReportServer(ctx context.Context, id string, parts []nodeapi.KubeStatus) error {
	node, cluster, err := s.ServerWorker(id)
	if err != nil {
		return err
	}
	own := []nodeapi.KubeStatus{}
	for _, p := range parts {
		if p.ID == cluster {
			own = append(own, nodeapi.KubeStatus{ID: cluster, Rev: clip(p.Rev, 64), Fault: clip(p.Fault, mostText)})
			break
		}
	}
	return s.DB.Txn(ctx, func(tx *store.Tx) error {
		if _, err := s.workers.TxGet(tx, id); err != nil {
			return errs.Forbiddenf("there is no worker %s", id)
		}
		if old, err := s.reports.TxGet(tx, node); err == nil && len(old.Parts) == len(own) && (len(own) == 0 || old.Parts[0] == own[0]) {
			return nil
		}
		return s.reports.TxPut(tx, &nodeapi.KubeReport{Node: node, Parts: own})
	})
}

// clip holds a text to a size.
func clip(text string, most int) string {
	if len(text) <= most {
		return text
	}
	for most > 0 && !utf8.RuneStart(text[most]) {
		most--
	}
	return text[:most]
}
