package simulate

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/nodelink"
	"github.com/strata-cloud/strata/internal/region"
	"github.com/strata-cloud/strata/internal/wait"
)

// pool is the simulated nodes, and what they have seen.
type pool struct {
	dir    string // of the nodes' certificates
	delay  time.Duration
	group  sync.WaitGroup
	states atomic.Int64 // of networks that nodes were told

	mu     sync.Mutex
	agents []*agent
	back   map[string]bool      // nodes that know all that is wanted of them
	seen   map[string]*sighting // by server
}

// sighting is what nodes know of a server.
type sighting struct {
	told    time.Time     // the first order reached its node
	running chan struct{} // closed when the control plane knows that it runs
	gone    chan struct{} // and that nothing is left of it
	ran     sync.Once
	went    sync.Once
}

func newPool(dir string, delay time.Duration) *pool {
	return &pool{dir: dir, delay: delay, back: map[string]bool{}, seen: map[string]*sighting{}}
}

// sight gives what is known of a server.
func (p *pool) sight(id string) *sighting {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.seen[id]
	if s == nil {
		s = &sighting{running: make(chan struct{}), gone: make(chan struct{})}
		p.seen[id] = s
	}
	return s
}

func (p *pool) isTold(id string) {
	s := p.sight(id)
	p.mu.Lock()
	defer p.mu.Unlock()
	if s.told.IsZero() {
		s.told = time.Now()
	}
}

func (p *pool) toldAt(id string) time.Time {
	s := p.sight(id)
	p.mu.Lock()
	defer p.mu.Unlock()
	return s.told
}

func (p *pool) isDone(i *nodeapi.Instance) {
	s := p.sight(i.ID)
	if i.Deleted {
		s.went.Do(func() { close(s.gone) })
	} else if i.Power == nodeapi.PowerRunning {
		s.ran.Do(func() { close(s.running) })
	}
}

func (p *pool) isBack(node string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.back[node] = true
}

// away forgets who was back: the control plane stops.
func (p *pool) away() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.back = map[string]bool{}
}

// present is how many nodes know all that is wanted of them.
func (p *pool) present() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.back)
}

// allBack waits until every node knows all that is wanted of it.
func (p *pool) allBack(ctx context.Context, n int) error {
	return wait.Until(ctx, fmt.Sprintf("%d nodes to be connected", n), 20*time.Millisecond, func(context.Context) (bool, error) {
		return p.present() >= n, nil
	})
}

// join makes n nodes members of the region, several at once, and runs them until ctx ends.
func (p *pool) join(ctx context.Context, n, parallel int, t *region.Token) error {
	ids, failed := make(chan int), make(chan error, parallel)
	var workers sync.WaitGroup
	stop, cancel := context.WithCancel(ctx)
	defer cancel()
	for range parallel {
		workers.Go(func() {
			for i := range ids {
				if err := p.joinOne(ctx, i, t); err != nil {
					failed <- fmt.Errorf("node %s: %w", nodeName(i), err)
					cancel()
					return
				}
			}
		})
	}
	for i := 1; i <= n && stop.Err() == nil; i++ {
		select {
		case ids <- i:
		case <-stop.Done():
		}
	}
	close(ids)
	workers.Wait()
	select {
	case err := <-failed:
		return err
	default:
		return context.Cause(ctx)
	}
}

// joinOne does for one node what strata join does on a machine.
func (p *pool) joinOne(ctx context.Context, i int, t *region.Token) error {
	cfg := region.Config{DataDir: filepath.Join(p.dir, nodeName(i)), Node: nodeName(i), Log: slog.New(slog.DiscardHandler)}
	m, err := region.Join(ctx, &cfg, t.Address, t.Token)
	if err != nil {
		return err
	}
	conf, err := region.MemberTLS(&cfg)
	if err != nil {
		return err
	}
	a := &agent{info: describe(i), pool: p, delay: p.delay, wanted: map[string]*nodeapi.Instance{}, gens: map[string]int64{}, plugs: map[string]bool{}}
	if a.link, err = nodelink.Dial(m.Control, conf, filepath.Join(p.dir, "images"), cfg.Log); err != nil {
		return err
	}
	p.mu.Lock()
	p.agents = append(p.agents, a)
	p.mu.Unlock()
	if err := a.introduce(ctx); err != nil {
		return err
	}
	p.group.Go(func() { a.run(ctx) })
	return nil
}

// close waits until all nodes have ended, once the context of join has.
func (p *pool) close() error {
	p.group.Wait()
	var err error
	for _, a := range p.agents {
		err = errors.Join(err, a.link.Close())
	}
	return err
}
