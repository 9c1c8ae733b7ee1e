package services

import (
	"context"
	"time"

	"github.com/strata-cloud/strata/internal/kubeapi"
)

// trouble is why a Service has not got what it wants.
type trouble struct {
	message string
	version string // of the Service
	count   int
	began   time.Time
	again   time.Time
}

// How long a Service rests after a failure: twice as long each time, up to the last.
const (
	firstRest = 5 * time.Second
	lastRest  = 2 * time.Minute
)

// rests tells whether a Service has failed a moment ago, and is the same since.
func (k *keeper) rests(s *service) bool {
	t := k.troubles[s.Metadata.UID]
	return t != nil && t.version == s.Metadata.ResourceVersion && time.Now().Before(t.again)
}

// note remembers how it went with a Service, and tells its owner of an error.
func (k *keeper) note(ctx context.Context, s *service, err error) {
	id := s.Metadata.UID
	if err == nil {
		delete(k.troubles, id)
		return
	}
	t := k.troubles[id]
	if t == nil || t.message != err.Error() {
		t = &trouble{message: err.Error(), began: time.Now()}
		k.troubles[id] = t
		k.Log.Info("a Service has no load balancer", "cluster", k.ID, "service", s.Metadata.Namespace+"/"+s.Metadata.Name, "err", err)
	}
	t.count++
	t.version, t.again = s.Metadata.ResourceVersion, time.Now().Add(min(firstRest<<min(t.count-1, 10), lastRest))
	k.event(ctx, s, true, "SyncLoadBalancerFailed", "Error syncing load balancer: "+t.message, t.count)
}

// event tells the Service's owner something. What is told again is the same event.
func (k *keeper) event(ctx context.Context, s *service, warning bool, reason, message string, count int) {
	m := &s.Metadata
	e := kubeapi.Event{Of: kubeapi.Reference{Kind: kubeapi.Services, Namespace: m.Namespace, Name: m.Name, UID: m.UID, Version: m.ResourceVersion},
		Warning: warning, Reason: reason, Message: message, From: "strata-" + Name, Count: count}
	if t := k.troubles[m.UID]; t != nil {
		e.Since = t.began
	}
	if err := k.api.Tell(ctx, e); err != nil && ctx.Err() == nil {
		k.Log.Debug("an event of a Service", "service", m.Namespace+"/"+m.Name, "err", err)
	}
}
