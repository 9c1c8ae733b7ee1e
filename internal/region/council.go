package region

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/strata-cloud/strata/internal/nodelink"
	"github.com/strata-cloud/strata/internal/registry"
	"github.com/strata-cloud/strata/internal/store"
	"github.com/strata-cloud/strata/internal/wait"
)

// council is this machine's part in a control plane that has several members, or can
// get them. One of them leads: it has the Region. The others have a copy of the store
// and pass clients' requests on to it.
type council struct {
	cfg      *Config
	begun    time.Time
	creds    *credentials
	member   *store.Member
	port     *nodelink.Switch
	agent    *Node // this machine as a node of the pool
	images   *memberCopies
	blobs    *memberCopies // of the registry
	api      *relay        // of clients' requests
	peers    *relay        // of what members ask each other
	took     atomic.Int64  // from the start until requests were answered, in ns
	stopPort func()        // ends the server of the cluster's port

	mu       sync.Mutex
	changed  chan struct{} // closed when any of what follows changes
	lead     uint64        // the member that leads; 0: none
	region   *Region       // while this member leads
	draining bool          // no more requests are begun here
	active   sync.WaitGroup
}

// raftLook is how often a member looks who leads.
const raftLook = 20 * time.Millisecond

// runCouncil is Run for a machine that others of the control plane can reach.
func runCouncil(ctx context.Context, cfg Config, join []store.Peer, ready func(*Region)) (err error) {
	c := &council{cfg: &cfg, begun: time.Now(), changed: make(chan struct{})}
	api, err := listen(&cfg)
	if err != nil {
		return err
	}
	defer closeListener(api, &err)
	l, err := net.Listen("tcp", cfg.Cluster)
	if err != nil {
		return fmt.Errorf("%w; choose another address with --cluster-listen", err)
	}
	defer closeListener(l, &err)
	if c.creds, err = newCredentials(&cfg); err != nil {
		return fmt.Errorf("this member's certificate: %w", err)
	}
	c.member, err = store.OpenMember(ctx, store.EtcdOptions{Dir: cfg.path("store"), Name: cfg.Node, Log: cfg.Log}, &store.PeerOptions{Listen: cfg.peerListen(),
		Cert: cfg.path(controlCertFile), CA: cfg.path(caCertFile), CommonName: controlName, URLs: []string{"https://" + cfg.Cluster, cfg.url()}, Join: join})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.member.Close()) }()
	c.api, c.peers = newRelay(c, nodelink.API), newRelay(c, nodelink.Council)
	c.images = &memberCopies{council: c, of: ofImages, dir: cfg.path("images")}
	c.blobs = &memberCopies{council: c, of: ofRegistry, dir: registry.BlobsDir(cfg.path(registryDir))}
	c.port = nodelink.NewSwitch(l)
	return c.run(ctx, api, ready)
}

func closeListener(l net.Listener, err *error) {
	if e := l.Close(); !errors.Is(e, net.ErrClosed) { // its server closes it too
		*err = errors.Join(*err, e)
	}
}

// run works until ctx ends. The API answers until leadership is handed over.
func (c *council) run(ctx context.Context, api net.Listener, ready func(*Region)) (err error) {
	all, end := context.WithCancel(context.WithoutCancel(ctx))
	var group sync.WaitGroup
	defer group.Wait()
	defer end()
	if c.agent, err = c.newAgent(all); err != nil {
		return fmt.Errorf("this machine as a node: %w", err)
	}
	c.switchPort(all, nil)
	defer func() { c.stopPort() }()
	for _, run := range []func(context.Context){c.watchRaft, c.runPort, c.creds.renew, c.images.run, c.blobs.run, c.runCopies, c.runAgent, c.runAdmin, c.followLeader, c.beMember} {
		group.Go(func() { run(all) })
	}
	srv := &http.Server{Handler: c, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10,
		BaseContext: func(net.Listener) context.Context { return all }}
	served := make(chan error, 1)
	group.Go(func() { served <- srv.Serve(api) })
	leading, depose := context.WithCancel(all)
	defer depose()
	roles := make(chan error, 1)
	group.Go(func() {
		roles <- c.roles(leading)
		close(roles)
	})
	group.Go(func() { c.tellReady(all, ready) })
	err = c.wait(ctx, served, roles)
	c.handOver(all, depose, roles)
	grace, cancel := context.WithTimeout(all, c.cfg.StopGrace)
	defer cancel()
	if e := srv.Shutdown(grace); e != nil {
		_ = srv.Close() // what has not finished by now does not
	}
	return err
}

// wait gives why the member stops; nil: it was told to.
func (c *council) wait(ctx context.Context, served, roles <-chan error) error {
	select {
	case <-ctx.Done():
		return nil
	case err := <-served:
		return err
	case err := <-roles:
		return err
	case <-c.member.Failed():
		return c.member.Err()
	}
}

// tellReady waits until requests are answered, here or by way of this member.
func (c *council) tellReady(ctx context.Context, ready func(*Region)) {
	err := wait.Until(ctx, "the control plane", raftLook, func(ctx context.Context) (bool, error) { return c.health(ctx) == nil, nil })
	if err == nil {
		c.took.Store(int64(time.Since(c.begun)))
		ready(&Region{cfg: *c.cfg, begun: c.begun, ready: time.Now()})
	}
}

// health tells whether requests are answered.
func (c *council) health(ctx context.Context) error {
	if c.leads() != nil {
		return nil
	}
	_, err := c.leaderStatus(ctx)
	return err
}

// roles leads whenever the members want this one to.
func (c *council) roles(ctx context.Context) error {
	for ctx.Err() == nil {
		_, changed := c.state()
		if c.member.Leads() {
			err := c.takeLead(ctx)
			if err == nil || ctx.Err() != nil || !c.member.Leads() {
				continue
			}
			if len(c.member.Peers()) < 2 {
				return err
			}
			c.cfg.Log.Error("this member cannot lead", "err", err)
			if err := c.member.HandOver(ctx); err != nil {
				c.cfg.Log.Warn("leadership", "err", err)
			}
			wait.Pause(ctx, time.Second)
			continue
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
	return nil
}

// takeLead builds the region and has it answer until this member leads no more.
func (c *council) takeLead(ctx context.Context) (err error) {
	ctx, end := context.WithCancel(ctx)
	defer end()
	r := &Region{cfg: *c.cfg, begun: time.Now(), council: c}
	if err := r.open(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.DB.Close()) }()
	var group sync.WaitGroup
	defer group.Wait()
	defer end()
	if err := r.start(ctx, &group); err != nil {
		return err
	}
	r.ready = time.Now()
	c.switchPort(ctx, r)
	defer c.switchPort(ctx, nil)
	c.set(func() { c.region = r })
	c.cfg.Log.Info("this member leads", "epoch", r.DB.Epoch(), "took", r.Took())
	defer r.Nodes.EndLeases()
	defer r.Compute.Consoles().Close()
	defer c.set(func() { c.region = nil })
	for c.member.Leads() {
		_, changed := c.state()
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
	c.cfg.Log.Warn("this member leads no more", "epoch", r.DB.Epoch())
	return nil
}

// switchPort has the cluster's port answered as a leader, or as a standby without a
// region. What was begun by the server before ends.
func (c *council) switchPort(ctx context.Context, r *Region) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	s, l, ended, before := c.clusterServer(r), c.port.Next(), make(chan struct{}), c.stopPort
	go func() {
		defer close(ended)
		if err := s.Serve(ctx, l); err != nil && ctx.Err() == nil {
			c.cfg.Log.Error("the cluster's port", "err", err)
		}
	}()
	c.stopPort = func() {
		cancel()
		<-ended
	}
	if before != nil {
		before()
	}
}

// handOver ends this member's lead: requests that are under way finish, others wait
// until the next leader can answer them.
func (c *council) handOver(ctx context.Context, depose func(), roles <-chan error) {
	c.set(func() { c.draining = true })
	if r := c.leads(); r != nil {
		r.Compute.Consoles().Close()
		r.Docker.Close()
	}
	idle := make(chan struct{})
	go func() {
		c.active.Wait()
		close(idle)
	}()
	select {
	case <-idle:
	case <-time.After(c.cfg.StopGrace / 2):
	}
	if err := c.member.HandOver(ctx); err != nil {
		c.cfg.Log.Warn("leadership", "err", err)
	}
	depose()
	<-roles
}

// set changes the state and wakes who waits for changes.
func (c *council) set(change func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change()
	close(c.changed)
	c.changed = make(chan struct{})
}

// state is who leads, and a channel that is closed when that, or what this member
// does, changes.
func (c *council) state() (lead uint64, changed <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lead, c.changed
}

// leads gives the region while this member leads, else nil.
func (c *council) leads() *Region {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.region
}

// works tells whether requests are begun in the region.
func (c *council) works(r *Region) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.region == r && !c.draining
}

// begin gives the region for one request, while this member leads; done ends the request.
func (c *council) begin() (r *Region, done func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.region == nil || c.draining {
		return nil, nil
	}
	c.active.Add(1)
	return c.region, c.active.Done
}

// fetchedDir has images' data that the agent of a control member has fetched, because
// the copy was not there yet.
const fetchedDir = "fetched"

// newAgent makes this machine a node of the pool. It calls the leader as any other
// machine's agent does, so that servers and agent do not notice who leads.
func (c *council) newAgent(ctx context.Context) (_ *Node, err error) {
	n := &Node{cfg: *c.cfg, begun: c.begun, member: &Member{Node: c.cfg.Node, Control: c.cfg.Cluster, Addr: c.cfg.addr(), PublicCIDR: c.cfg.PublicCIDR}}
	if n.client, err = nodelink.Dial(c.cfg.Cluster, c.creds.client(&c.creds.node), c.cfg.path(fetchedDir), c.cfg.Log); err != nil {
		return nil, err
	}
	if n.host, err = newHost(ctx, c.cfg, nearby{n.client, c.images}); err != nil {
		return nil, errors.Join(err, n.client.Close())
	}
	n.host.copies.Fetch = c.fetchCopy
	return n, nil
}

func (c *council) runAgent(ctx context.Context) {
	c.agent.run(ctx)
	if err := c.agent.client.Close(); err != nil {
		c.cfg.Log.Warn("the agent's connection", "err", err)
	}
}
