package kubeapi

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"time"
)

// Event is what an object's owner is told, by kubectl describe.
type Event struct {
	Of      Reference
	Warning bool
	Reason  string // in CamelCase, for programs
	Message string // for people; 1,024 bytes at most, the rest is cut
	From    string // which component tells it
	Count   int    // how often it has been told; 0: once
	Since   time.Time
}

// Reference names an object.
type Reference struct {
	Kind      Kind
	Namespace string // "" where the kind is in none
	Name, UID string
	Version   string // (resourceVersion) of the object that was looked at; may be ""
}

// maxMessage is how long an event's message may be (pkg/apis/core/validation/events.go);
// maxPrefix how much of an object's name begins that of its event.
const (
	maxMessage = 1024
	maxPrefix  = 200
)

// Tell writes an event. One that is told again is the same object with another count.
func (c *Client) Tell(ctx context.Context, e Event) error {
	kind, now := "Normal", time.Now()
	if e.Warning {
		kind = "Warning"
	}
	if e.Since.IsZero() {
		e.Since = now
	}
	namespace := e.Of.Namespace
	if namespace == "" {
		namespace = "default"
	}
	sum := sha256.Sum256([]byte(e.Of.UID + "\x00" + e.Reason + "\x00" + e.Message))
	name := e.Of.Name[:min(len(e.Of.Name), maxPrefix)] + "." + hex.EncodeToString(sum[:8])
	of := map[string]string{"apiVersion": e.Of.Kind.APIVersion, "kind": e.Of.Kind.Kind, "namespace": e.Of.Namespace, "name": e.Of.Name, "uid": e.Of.UID, "resourceVersion": e.Of.Version}
	return c.Apply(ctx, Events, namespace, name, map[string]any{"apiVersion": Events.APIVersion, "kind": Events.Kind, "metadata": map[string]string{"name": name, "namespace": namespace},
		"involvedObject": of, "type": kind, "reason": e.Reason, "message": e.Message[:min(len(e.Message), maxMessage)], "count": max(e.Count, 1),
		"firstTimestamp": stamp(e.Since), "lastTimestamp": stamp(now), "source": map[string]string{"component": e.From}, "reportingComponent": e.From})
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
