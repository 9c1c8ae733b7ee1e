package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/wait"
)

// PeerOptions make an etcd one that others are members of, or can become.
type PeerOptions struct {
	Listen string // ADDRESS:PORT of the port for the other members
	Cert   string // file with this member's certificate and key
	CA     string // file with the authority of all members' certificates
	// CommonName is that of every member's certificate: no other is let in.
	CommonName string
	// URLs are published to the other members.
	URLs []string
	// Join are the members that there are when this one is new; nil: it is the
	// first, or has been one before.
	Join []Peer
}

// Peer is one of the members.
type Peer struct {
	ID      uint64   `json:"id"`
	Name    string   `json:"name"` // "" until it has started once
	URL     string   `json:"url"`  // of its port for the others
	URLs    []string `json:"urls"` // that it published
	Learner bool     `json:"learner,omitempty"`
}

// The pace of several members: who is silent for a second or two leads no more.
const (
	peerTickMs, peerElectionMs = 100, 1000
	// peerCatchUp entries are kept for a member that was away; one that missed more gets
	// the whole store.
	peerSnapshots, peerCatchUp = 5000, 5000
	maxLearners                = 8
	// changeTimeout bounds a change of who is a member.
	changeTimeout = 5 * time.Second
	// addTimeout is more than the 5 seconds for which a majority has to be connected
	// before etcd takes one more in.
	addTimeout = 10 * time.Second
)

func (p *PeerOptions) url() string { return "https://" + p.Listen }

// configure makes the settings those of one of several members.
func (p *PeerOptions) configure(cfg *embed.Config) error {
	own, err := url.Parse(p.url())
	if err != nil {
		return err
	}
	cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = []url.URL{*own}, []url.URL{*own}
	for _, s := range p.URLs {
		u, err := url.Parse(s)
		if err != nil {
			return err
		}
		cfg.AdvertiseClientUrls = append(cfg.AdvertiseClientUrls, *u)
	}
	cfg.InitialCluster = cfg.Name + "=" + p.url()
	if p.Join != nil {
		cfg.ClusterState = embed.ClusterStateFlagExisting
		for _, x := range p.Join {
			cfg.InitialCluster += "," + x.Name + "=" + x.URL
		}
	}
	cfg.PeerTLSInfo.CertFile, cfg.PeerTLSInfo.KeyFile, cfg.PeerTLSInfo.TrustedCAFile = p.Cert, p.Cert, p.CA
	cfg.PeerTLSInfo.ClientCertAuth, cfg.PeerTLSInfo.AllowedCNs, cfg.PeerTLSInfo.SkipClientSANVerify = true, []string{p.CommonName}, true
	cfg.TickMs, cfg.ElectionMs, cfg.PreVote = peerTickMs, peerElectionMs, true
	cfg.SnapshotCount, cfg.SnapshotCatchUpEntries = peerSnapshots, peerCatchUp
	cfg.MaxLearners = maxLearners
	return nil
}

// Member is an embedded etcd among others. It is open whoever leads.
type Member struct {
	etcd   *etcd
	peer   *PeerOptions
	joined chan struct{} // closed when it has been part of a majority
	done   chan struct{} // closed by Close
	once   sync.Once
	group  sync.WaitGroup
	err    error // why it has stopped by itself; after failed closed
	failed chan struct{}
}

// OpenMember starts the member. It does not wait for a majority: see Joined. The
// values of ctx are kept, its end is not: use Close.
func OpenMember(ctx context.Context, opt EtcdOptions, peer *PeerOptions) (*Member, error) {
	opt.defaults()
	opt.peer = peer
	lock, err := LockDir(opt.Dir)
	if err != nil {
		return nil, err
	}
	m := &Member{peer: peer, joined: make(chan struct{}), done: make(chan struct{}), failed: make(chan struct{}),
		etcd: &etcd{dir: opt.Dir, lock: lock, quota: opt.Quota, space: newSpaceGuard(opt.Dir)}}
	first, err := m.etcd.launch(opt)
	if err != nil {
		return nil, errors.Join(err, m.etcd.Close())
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	m.group.Go(func() {
		<-m.done
		cancel()
	})
	m.group.Go(func() { m.settle(ctx, first) })
	m.group.Go(m.watch)
	return m, nil
}

// settle waits for a majority and then makes known where this member is.
func (m *Member) settle(ctx context.Context, first bool) {
	m.group.Go(func() { m.hurry(ctx) })
	if m.etcd.ready(ctx, first) != nil {
		return // watch tells why
	}
	for ctx.Err() == nil {
		self, ok := m.Self()
		if !ok || self.URL == m.peer.url() {
			break
		}
		limit, cancel := context.WithTimeout(ctx, changeTimeout)
		_, err := m.etcd.client.MemberUpdate(limit, self.ID, []string{m.peer.url()})
		cancel()
		if err != nil {
			wait.Pause(ctx, time.Second)
		}
	}
	close(m.joined)
}

// hurry has the only voter stand for election at once: there is nobody to wait for.
// Not before it has been at rest for one tick, as elections by time are not either:
// raft takes none while it has entries of the start before it.
func (m *Member) hurry(ctx context.Context) {
	s := m.etcd.server.Server
	id, rest := uint64(s.MemberID()), time.Now()
	for end := rest.Add(2 * peerElectionMs * time.Millisecond); time.Now().Before(end) && ctx.Err() == nil && !m.Leads(); wait.Pause(ctx, 10*time.Millisecond) {
		if voters := m.voters(); len(voters) > 1 || len(voters) == 1 && voters[0].ID != id {
			return
		}
		if at := s.AppliedIndex(); at == 0 || at != s.CommittedIndex() {
			rest = time.Now()
		} else if time.Since(rest) > peerTickMs*time.Millisecond {
			_ = s.Process(ctx, &raftpb.Message{Type: raftpb.MsgTimeoutNow.Enum(), From: &id, To: &id}) // or it waits for its turn
		}
	}
}

// watch notices that the server stops by itself: it does when it was removed.
func (m *Member) watch() {
	select {
	case <-m.done:
		return
	case <-m.etcd.server.Server.StopNotify():
		m.err = errors.New("store: etcd has stopped by itself")
		if s := m.etcd.server.Server; s.IsIDRemoved(uint64(s.MemberID())) {
			m.err = errs.Forbiddenf("this machine was removed from the control plane: strata reset makes it ready to join again")
		}
		close(m.failed)
	}
}

// Joined is closed once the member has been part of a majority.
func (m *Member) Joined() <-chan struct{} { return m.joined }

// Failed is closed when the member has stopped by itself; Err tells why.
func (m *Member) Failed() <-chan struct{} { return m.failed }

// Err is why the member has stopped; call it after Failed.
func (m *Member) Err() error { return m.err }

// Backend is the store for the time in which this member leads: closing it leaves
// the member open.
func (m *Member) Backend() Backend { return lent{m.etcd} }

// lent is a backend that its user does not close.
type lent struct{ *etcd }

// Close implements Backend.
func (lent) Close() error { return nil }

// Peers are all members, in order of their names, as this one knows them.
func (m *Member) Peers() []Peer {
	var out []Peer
	for _, x := range m.etcd.server.Server.Cluster().Members() {
		p := Peer{ID: uint64(x.ID), Name: x.Name, URLs: x.ClientURLs, Learner: x.IsLearner}
		if len(x.PeerURLs) > 0 {
			p.URL = x.PeerURLs[0]
		}
		out = append(out, p)
	}
	slices.SortFunc(out, func(a, b Peer) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.URL, b.URL))
	})
	return out
}

func (m *Member) voters() []Peer {
	return slices.DeleteFunc(m.Peers(), func(p Peer) bool { return p.Learner })
}

func (m *Member) find(id uint64) (Peer, bool) {
	for _, p := range m.Peers() {
		if p.ID == id {
			return p, true
		}
	}
	return Peer{}, false
}

// Self is this member; false: it was removed.
func (m *Member) Self() (Peer, bool) { return m.find(uint64(m.etcd.server.Server.MemberID())) }

// Leader is the member that leads as far as this one knows.
func (m *Member) Leader() (Peer, bool) { return m.find(m.etcd.server.Server.Lead()) }

// Leads tells whether this member leads as far as it knows.
func (m *Member) Leads() bool {
	return m.etcd.server.Server.Leader() == m.etcd.server.Server.MemberID()
}

// Lead is the id of the member that leads as far as this one knows; 0: none.
func (m *Member) Lead() uint64 { return m.etcd.server.Server.Lead() }

// Add makes room for one more member, which takes part in decisions only when it
// is promoted. Its start needs the members that there are.
func (m *Member) Add(ctx context.Context, url string) (added Peer, others []Peer, err error) {
	ctx, cancel := context.WithTimeout(ctx, addTimeout)
	defer cancel()
	res, err := m.etcd.client.MemberAddAsLearner(ctx, []string{url})
	for errors.Is(err, rpctypes.ErrUnhealthy) && ctx.Err() == nil {
		wait.Pause(ctx, 10*peerTickMs*time.Millisecond) // the one before it has just come
		res, err = m.etcd.client.MemberAddAsLearner(ctx, []string{url})
	}
	if err != nil {
		return Peer{}, nil, changeError(err)
	}
	added = Peer{ID: res.Member.ID, URL: url, Learner: true}
	for _, p := range m.Peers() {
		if p.ID == added.ID {
			continue
		}
		p.Name = cmp.Or(p.Name, strconv.FormatUint(p.ID, 16)) // of one that has not started yet
		others = append(others, p)
	}
	return added, others, nil
}

// Promote lets a member take part in decisions. Conflict: it has not caught up.
func (m *Member) Promote(ctx context.Context, id uint64) error {
	ctx, cancel := context.WithTimeout(ctx, changeTimeout)
	defer cancel()
	_, err := m.etcd.client.MemberPromote(ctx, id)
	if errors.Is(err, rpctypes.ErrMemberNotLearner) {
		return nil
	}
	return changeError(err)
}

// Remove takes a member out. Conflict: those that are left would not decide anything.
func (m *Member) Remove(ctx context.Context, id uint64) error {
	ctx, cancel := context.WithTimeout(ctx, changeTimeout)
	defer cancel()
	_, err := m.etcd.client.MemberRemove(ctx, id)
	if errors.Is(err, rpctypes.ErrMemberNotFound) {
		return nil
	}
	return changeError(err)
}

// changeError gives the reasons why who is a member was not changed.
func changeError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, rpctypes.ErrMemberLearnerNotReady):
		return errs.Conflictf("the new member has not caught up yet")
	case errors.Is(err, rpctypes.ErrTooManyLearners):
		return errs.Conflictf("%d members are joining already: wait until they have caught up, or take out those that never came", maxLearners)
	case errors.Is(err, rpctypes.ErrPeerURLExist), errors.Is(err, rpctypes.ErrMemberExist):
		return errs.Conflictf("a member with that address is there already: take it out with strata node remove, or choose another --cluster-listen")
	case errors.Is(err, rpctypes.ErrMemberNotEnoughStarted), errors.Is(err, rpctypes.ErrUnhealthy):
		return errs.Conflictf("too few members answer: without this one, those that are left would be no majority, or were not all there for the last 5 seconds")
	}
	return unavailable("changing who is a member", err)
}

// HandOver has another member lead, the one that was connected for longest; it does
// nothing when this member does not lead or is the only one.
func (m *Member) HandOver(ctx context.Context) error {
	s := m.etcd.server.Server
	if !m.Leads() || len(m.voters()) < 2 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, changeTimeout)
	defer cancel()
	gone := make(chan error, 1)
	go func() { gone <- s.TryTransferLeadershipOnShutdown() }() // bounded by etcd's own timeout
	select {
	case err := <-gone:
		if err != nil {
			return fmt.Errorf("handing leadership over: %w", err)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("handing leadership over: %w", ctx.Err())
	}
}

// Close stops the member.
func (m *Member) Close() error {
	m.once.Do(func() { close(m.done) })
	m.group.Wait()
	return m.etcd.Close()
}

// Rev is the newest revision that this member has.
func (m *Member) Rev() int64 { return m.etcd.server.Server.KV().Rev() }

// String names a peer in messages.
func (p Peer) String() string {
	if p.Name != "" {
		return p.Name
	}
	return "the member at " + p.URL + " (" + strconv.FormatUint(p.ID, 16) + ")"
}
