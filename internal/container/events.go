package container

import (
	"strconv"
	"sync"
	"time"

	"github.com/docker/docker/api/types/events"
)

// remembered is how many events a client can look back on, as with dockerd.
const remembered = 256

// Events tells of what happens.
type Events struct {
	mu   sync.Mutex
	past []events.Message
	subs map[chan events.Message]struct{}
}

func newEvents() *Events { return &Events{subs: map[chan events.Message]struct{}{}} }

// send tells everyone who listens. One who does not keep up is cut off rather than
// waited for.
func (e *Events) send(t events.Type, action events.Action, id string, attrs map[string]string) {
	now := time.Now()
	m := events.Message{Type: t, Action: action, Actor: events.Actor{ID: id, Attributes: attrs}, Scope: "local", Time: now.Unix(), TimeNano: now.UnixNano()}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.past = append(e.past, m)
	if len(e.past) > remembered {
		e.past = e.past[len(e.past)-remembered:]
	}
	for ch := range e.subs {
		select {
		case ch <- m:
		default:
			delete(e.subs, ch)
			close(ch)
		}
	}
}

// Pruned tells that what was not used of a kind is gone, and how much that has freed.
func (e *Events) Pruned(t events.Type, freed int64) {
	e.send(t, events.ActionPrune, "", map[string]string{"reclaimed": strconv.FormatInt(freed, 10)})
}

// Subscribe gives the events that are remembered and those to come; stop ends it.
func (e *Events) Subscribe() (past []events.Message, next <-chan events.Message, stop func()) {
	ch := make(chan events.Message, 256)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.subs[ch] = struct{}{}
	past = append(past, e.past...)
	return past, ch, func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		if _, ok := e.subs[ch]; ok {
			delete(e.subs, ch)
			close(ch)
		}
	}
}

// listeners is how many listen.
func (e *Events) listeners() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.subs)
}
