// Package reconcile keeps things true: a level-triggered loop per kind of object.
//
// A loop is told which keys may need work (by a watch or a timer) and calls one
// function for each, never twice at once for the same key. The function takes
// no input besides the key: it compares what is wanted with what is, acts, and
// may be called any number of times by any number of processes. An error puts
// the key back with a growing pause; success forgets the pause.
package reconcile

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// The pauses between tries of a failing key.
const (
	firstPause = 100 * time.Millisecond
	lastPause  = 30 * time.Second
)

// Loop reconciles keys.
type Loop struct {
	Name    string
	Log     *slog.Logger
	Workers int           // default 4
	Resync  time.Duration // how often every key of List is looked at anyway; 0: never
	List    func() []string
	Do      func(ctx context.Context, key string) error

	mu      sync.Mutex
	queued  map[string]bool
	working map[string]bool
	pauses  map[string]time.Duration
	timers  map[string]*time.Timer
	queue   []string
	wake    chan struct{}
}

// New makes a loop; Add may be called at once, work begins with Run.
func New(name string, log *slog.Logger, do func(ctx context.Context, key string) error) *Loop {
	return &Loop{Name: name, Log: log, Do: do, Workers: 4, queued: map[string]bool{}, working: map[string]bool{},
		pauses: map[string]time.Duration{}, timers: map[string]*time.Timer{}, wake: make(chan struct{}, 1)}
}

// Add says that a key may need work. Adding a queued key changes nothing; adding
// one that is being worked on makes it run once more.
func (l *Loop) Add(key string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.queued[key] {
		return
	}
	l.queued[key] = true
	if !l.working[key] {
		l.queue = append(l.queue, key)
		l.signal()
	}
}

func (l *Loop) signal() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// Run works until ctx ends and the work under way has returned.
func (l *Loop) Run(ctx context.Context) {
	var group sync.WaitGroup
	for range l.Workers {
		group.Go(func() { l.work(ctx) })
	}
	l.resync(ctx)
	group.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, t := range l.timers {
		t.Stop()
	}
}

func (l *Loop) resync(ctx context.Context) {
	if l.List == nil {
		<-ctx.Done()
		return
	}
	var tick <-chan time.Time
	if l.Resync > 0 {
		t := time.NewTicker(l.Resync)
		defer t.Stop()
		tick = t.C
	}
	for {
		for _, key := range l.List() {
			l.Add(key)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick:
		}
	}
}

func (l *Loop) work(ctx context.Context) {
	for {
		key, ok := l.take()
		if !ok {
			select {
			case <-ctx.Done():
				return
			case <-l.wake:
				continue
			}
		}
		if ctx.Err() != nil {
			return
		}
		err := l.Do(ctx, key)
		if err != nil && ctx.Err() == nil {
			l.Log.Warn("reconcile again later", "op", l.Name, "key", key, "err", err)
		}
		l.done(key, err)
	}
}

func (l *Loop) take() (string, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.queue) == 0 {
		return "", false
	}
	key := l.queue[0]
	l.queue = l.queue[1:]
	delete(l.queued, key)
	l.working[key] = true
	if len(l.queue) > 0 {
		l.signal()
	}
	return key, true
}

func (l *Loop) done(key string, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.working, key)
	if l.queued[key] {
		l.queue = append(l.queue, key)
		l.signal()
	}
	if err == nil {
		delete(l.pauses, key)
		return
	}
	pause := min(max(2*l.pauses[key], firstPause), lastPause)
	l.pauses[key] = pause
	if t := l.timers[key]; t != nil {
		t.Stop()
	}
	l.timers[key] = time.AfterFunc(pause, func() {
		l.mu.Lock()
		delete(l.timers, key)
		l.mu.Unlock()
		l.Add(key)
	})
}
