package services

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"time"
)

// trouble is why a Service has not got what it wants.
type trouble struct {
	message string
	version string // of the Service
	count   int
	began   string
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
		t = &trouble{message: err.Error(), began: stamp()}
		k.troubles[id] = t
		k.Log.Info("a Service has no load balancer", "cluster", k.ID, "service", s.Metadata.Namespace+"/"+s.Metadata.Name, "err", err)
	}
	t.count++
	t.version, t.again = s.Metadata.ResourceVersion, time.Now().Add(min(firstRest<<min(t.count-1, 10), lastRest))
	k.event(ctx, s, "Warning", "SyncLoadBalancerFailed", "Error syncing load balancer: "+t.message, t.count)
}

func stamp() string { return time.Now().UTC().Format(time.RFC3339) }

// event tells the Service's owner something. What is told again is the same event.
func (k *keeper) event(ctx context.Context, s *service, kind, reason, message string, count int) {
	m := &s.Metadata
	sum := sha256.Sum256([]byte(m.UID + reason + message))
	name, now := cut(m.Name)[:min(len(m.Name), 200)]+"."+hex.EncodeToString(sum[:8]), stamp()
	first := now
	if t := k.troubles[m.UID]; t != nil {
		first = t.began
	}
	err := k.api.Apply(ctx, eventsKind, m.Namespace, name, fields{"apiVersion": "v1", "kind": "Event", "metadata": fields{"name": name, "namespace": m.Namespace},
		"involvedObject": fields{"kind": "Service", "apiVersion": "v1", "namespace": m.Namespace, "name": m.Name, "uid": m.UID, "resourceVersion": m.ResourceVersion},
		"type":           kind, "reason": reason, "message": message[:min(len(message), 1000)], "count": count, "firstTimestamp": first, "lastTimestamp": now,
		"source": fields{"component": "strata-" + Name}, "reportingComponent": "strata-" + Name})
	if err != nil && ctx.Err() == nil {
		k.Log.Debug("an event of a Service", "service", m.Namespace+"/"+m.Name, "err", err)
	}
}
