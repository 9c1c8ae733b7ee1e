package simulate

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/nodes"
	"github.com/strata-cloud/strata/internal/wait"
)

// Options say what is simulated.
type Options struct {
	Program    string // the strata that runs the region
	Dir        string // a directory of its own, which is removed; "": a temporary one
	Nodes      int
	Servers    int
	Parallel   int           // clients, and nodes that join at one moment
	PerProject int           // servers of each project
	PerNetwork int           // servers of each network; 0: servers have no network
	Deletes    int           // servers to delete again
	Delay      time.Duration // until a node has carried out an order
	Profiles   string        // directory for profiles of the region; "": none
	Progress   func(format string, args ...any)
}

func (o *Options) validate() error {
	for _, x := range []struct {
		flag      string
		n, lo, hi int
	}{{"--nodes", o.Nodes, 1, 60_000}, {"--servers", o.Servers, 0, 1_000_000}, {"--parallel", o.Parallel, 1, 10_000},
		{"--per-project", o.PerProject, 1, 100_000}, {"--per-network", o.PerNetwork, 0, 60_000}, {"--deletes", o.Deletes, 0, o.Servers}} {
		if x.n < x.lo || x.n > x.hi {
			return errs.Invalidf("%s %d: choose between %d and %d", x.flag, x.n, x.lo, x.hi)
		}
	}
	if o.Delay < 0 {
		return errs.Invalidf("--delay %s is no time that passes", o.Delay)
	}
	return enoughFiles(o)
}

// enoughFiles refuses more nodes than this process can have connections to: two
// each at either end, and some of those of joining.
func enoughFiles(o *Options) error {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return err
	}
	if need := uint64(2*o.Nodes + 4*o.Parallel + 512); l.Max < need {
		return errs.Invalidf("%d nodes need %d open files and this process may have %d: choose fewer --nodes, or raise the limit (ulimit -Hn)", o.Nodes, need, l.Max)
	}
	return nil
}

// run is one simulation.
type run struct {
	Options
	res    Result
	region *control
	pool   *pool
	api    *session
	on     *tenants
	list   []*made
}

// Run simulates and measures. Nothing is left when it returns.
func Run(ctx context.Context, o Options) (res *Result, err error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	dir, err := workDir(o.Dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	r := &run{Options: o, res: Result{Nodes: o.Nodes, Servers: o.Servers, Parallel: o.Parallel, PerNetwork: o.PerNetwork, CPUs: runtime.NumCPU()}}
	if r.region, err = plan(o.Program, filepath.Join(dir, "region")); err != nil {
		return nil, err
	}
	if err := os.Mkdir(r.region.dir, 0o711); err != nil {
		return nil, err
	}
	r.pool = newPool(filepath.Join(dir, "nodes"), o.Delay)
	agents, stop := context.WithCancel(ctx)
	defer func() {
		stop()
		o.Progress("removing the region")
		err = errors.Join(err, r.pool.close(), r.region.stop(), r.region.remove(context.WithoutCancel(ctx)))
	}()
	for _, phase := range []func(context.Context) error{r.begin, func(ctx context.Context) error { return r.join(ctx, agents) }, r.create, r.look, r.erase, r.restart} {
		if err := phase(ctx); err != nil {
			return nil, err
		}
	}
	return &r.res, nil
}

// workDir makes the directory of a run, which nothing else may be in.
func workDir(dir string) (string, error) {
	if dir == "" {
		made, err := os.MkdirTemp("", "strata-simulate-")
		if err != nil {
			return "", err
		}
		return made, os.Chmod(made, 0o711)
	}
	if err := os.Mkdir(dir, 0o711); err != nil {
		return "", fmt.Errorf("the simulation wants a directory of its own, which it removes: %w", err)
	}
	return dir, nil
}

// begin starts the region.
func (r *run) begin(ctx context.Context) (err error) {
	r.Progress("starting a region at %s", r.region.url())
	if r.res.Start, err = r.region.start(ctx); err != nil {
		return err
	}
	if r.api, err = logIn(r.region.dir, r.region.url(), r.Parallel); err != nil {
		return err
	}
	r.res.Empty, err = r.region.usage()
	return err
}

// join lets the nodes join, which run until the second context ends.
func (r *run) join(ctx, agents context.Context) error {
	token, err := r.region.admin.NewToken(ctx, nodes.RoleNode, time.Hour)
	if err != nil {
		return err
	}
	begin := time.Now()
	told := make(chan struct{})
	watch, stop := context.WithCancel(ctx)
	go func() {
		defer close(told)
		for wait.Pause(watch, progressEvery) == nil {
			r.Progress("nodes: %d of %d", r.pool.present(), r.Nodes)
		}
	}()
	err = r.pool.join(agents, r.Nodes, min(r.Parallel, 32), token)
	if err == nil {
		err = r.pool.allBack(ctx, r.Nodes)
	}
	stop()
	<-told
	if err != nil {
		return err
	}
	r.res.Joined, err = r.region.usage()
	r.res.Join = work(begin, r.res.Empty, r.res.Joined, r.Nodes, 0)
	r.Progress("%d nodes are there after %s", r.Nodes, r.res.Join.Took.Round(time.Millisecond))
	return err
}

// work sums a phase up.
func work(begin time.Time, before, after Usage, done, failed int) Work {
	took := time.Since(begin)
	return Work{Took: took, CPU: after.CPU - before.CPU, Done: done, Failed: failed, Rate: float64(done) / took.Seconds(), Load: load()}
}

// create makes the servers.
func (r *run) create(ctx context.Context) error {
	if r.Servers == 0 {
		return nil
	}
	var err error
	if r.on, err = prepare(ctx, r.api, &r.Options, r.Progress); err != nil {
		return err
	}
	before, err := r.region.usage()
	if err != nil {
		return err
	}
	from, err := r.region.admin.Status(ctx)
	if err != nil {
		return err
	}
	states := r.pool.states.Load()
	profiled := r.profile(ctx)
	begin := time.Now()
	r.list = r.on.create(ctx, r.pool, &r.Options, r.Progress)
	if err := errors.Join(context.Cause(ctx), r.region.idle(ctx)); err != nil {
		return err
	}
	if r.res.Full, err = r.region.usage(); err != nil {
		return err
	}
	failed := r.count(r.list)
	r.res.Create = work(begin, before, r.res.Full, r.Servers-failed, failed)
	if err := profiled(); err != nil {
		return err
	}
	r.res.States = r.pool.states.Load() - states
	to, err := r.region.admin.Status(ctx)
	if err != nil {
		return err
	}
	r.res.StoreSize, r.res.StoreInUse = to.Store.Size, to.Store.InUse
	r.res.Revisions = (to.Store.Revision - from.Store.Revision) / int64(r.Servers)
	return r.heap(ctx)
}

// count counts failures and keeps some of them.
func (r *run) count(list []*made) int {
	n := 0
	for _, m := range list {
		if m.fault != nil {
			n++
			r.res.keep(m.fault)
		}
	}
	return n
}

// sample is how many servers' logs are read at most.
const sample = 2000

// look measures what is there.
func (r *run) look(ctx context.Context) (err error) {
	if r.res.Agents, err = usageOf(os.Getpid()); err != nil || r.res.Create.Done == 0 {
		return err
	}
	var told, assigned, active []time.Duration
	every := max(1, len(r.list)/sample)
	for i, m := range r.list {
		if m.fault != nil {
			continue
		}
		told = append(told, m.told.Sub(m.posted))
		if i%every != 0 {
			continue
		}
		at, err := m.moments(ctx)
		if err != nil {
			return err
		}
		assigned, active = append(assigned, at.assigned.Sub(m.posted)), append(active, at.active.Sub(m.posted))
	}
	r.res.Told, r.res.Assigned, r.res.Active = quantiles(told), quantiles(assigned), quantiles(active)
	if n := 1000; r.res.Create.Done >= n {
		r.res.List, err = r.on.listDetail(ctx, n)
	}
	return err
}

// erase deletes some of the servers.
func (r *run) erase(ctx context.Context) error {
	var list []*made
	for _, m := range r.list {
		if m.fault == nil && len(list) < r.Deletes {
			list = append(list, m)
		}
	}
	if len(list) == 0 {
		return nil
	}
	before, err := r.region.usage()
	if err != nil {
		return err
	}
	begin := time.Now()
	erase(ctx, r.pool, list, r.Parallel, r.Progress)
	if err := errors.Join(context.Cause(ctx), r.region.idle(ctx)); err != nil {
		return err
	}
	after, err := r.region.usage()
	failed := r.count(list)
	r.res.Delete = work(begin, before, after, len(list)-failed, failed)
	return err
}

// backTimeout bounds the wait for all nodes after a restart.
const backTimeout = 5 * time.Minute

// restart stops the region and starts it, with all nodes there.
func (r *run) restart(ctx context.Context) error {
	r.Progress("restarting the region under %d nodes", r.Nodes)
	begin := time.Now()
	if err := r.region.stop(); err != nil {
		return err
	}
	r.res.Restart.Stop = time.Since(begin)
	r.pool.away()
	begin = time.Now()
	ready, err := r.region.start(ctx)
	if err != nil {
		return err
	}
	r.res.Restart.Ready = ready
	limit, cancel := context.WithTimeout(ctx, backTimeout)
	defer cancel()
	switch err := r.pool.allBack(limit, r.Nodes); {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil: // that is a figure too
		r.res.keep(fmt.Errorf("%d of %d nodes were back %s after the restart", r.pool.present(), r.Nodes, backTimeout))
	default:
		r.res.Restart.Back = time.Since(begin)
	}
	r.res.Restarted, err = r.region.usage()
	r.res.Restart.CPU = r.res.Restarted.CPU
	return err
}
