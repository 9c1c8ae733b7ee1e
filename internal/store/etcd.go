package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"

	"github.com/strata-cloud/strata/internal/errs"
)

// EtcdOptions configure the embedded etcd.
type EtcdOptions struct {
	Dir   string       // data directory; made with mode 0700
	Name  string       // member name; default "strata"
	Log   *slog.Logger // default: slog.Default()
	Quota int64        // bytes at which etcd refuses writes; default 8 GiB
	// Force makes this the only member of the cluster, whoever was one before.
	Force bool

	peer *PeerOptions // nil: the only member, which nobody reaches
}

func (opt *EtcdOptions) defaults() {
	if opt.Log == nil {
		opt.Log = slog.Default()
	}
	if opt.Name == "" {
		opt.Name = etcdName
	}
	if opt.Quota == 0 {
		opt.Quota = defaultQuota
	}
}

const (
	etcdName       = "strata"
	etcdPeerURL    = "http://localhost:2380" // an identity in the member list; nothing listens there
	maxTxnOps      = 16384
	maxRequestSize = 8 << 20
	defaultQuota   = 8 << 30
)

// etcd is the Backend of a real cluster: one member within this process, spoken to
// by function calls, with no socket open.
type etcd struct {
	dir    string
	lock   *os.File
	server *embed.Etcd
	client *clientv3.Client
	space  *spaceGuard
	quota  int64
}

// NewEtcd starts the embedded etcd and returns when it serves. Only one process
// can have a directory open; the error for a second one names the first one's pid.
func NewEtcd(ctx context.Context, opt EtcdOptions) (Backend, error) {
	opt.defaults()
	lock, err := LockDir(opt.Dir)
	if err != nil {
		return nil, err
	}
	e := &etcd{dir: opt.Dir, lock: lock, quota: opt.Quota, space: newSpaceGuard(opt.Dir)}
	if err := e.start(ctx, opt); err != nil {
		return nil, errors.Join(err, e.Close())
	}
	return e, nil
}

func (e *etcd) start(ctx context.Context, opt EtcdOptions) error {
	first, err := e.launch(opt)
	if err != nil {
		return err
	}
	if n := len(e.server.Server.Cluster().Members()); n > 1 && !opt.Force {
		return errs.Conflictf("the store in %s is one of %d members' and is not opened alone: start the cloud with --cluster-listen, or make this its only member with strata cluster-reset", opt.Dir, n)
	}
	return e.ready(ctx, first)
}

// launch starts the server; whether there is a leader shows later. first tells
// that the store is new.
func (e *etcd) launch(opt EtcdOptions) (first bool, err error) {
	if err := e.space.check(minFree); err != nil {
		return false, err
	}
	cfg, err := etcdConfig(opt)
	if err != nil {
		return false, err
	}
	if first, err = beginFirst(opt.Dir); err != nil {
		return false, err
	}
	if e.server, err = embed.StartEtcd(cfg); err != nil {
		return false, fmt.Errorf("starting etcd in %s: %w", opt.Dir, err)
	}
	e.client = v3client.New(e.server.Server)
	return first, nil
}

// ready waits until the server has had a majority once.
func (e *etcd) ready(ctx context.Context, first bool) error {
	select {
	case <-e.server.Server.ReadyNotify():
	case err := <-e.server.Err():
		return fmt.Errorf("starting etcd in %s: %w", e.dir, err)
	case <-e.server.Server.StopNotify():
		return fmt.Errorf("starting etcd in %s: it has stopped", e.dir)
	case <-ctx.Done():
		return fmt.Errorf("starting etcd in %s: %w", e.dir, context.Cause(ctx))
	}
	if first {
		return endFirst(e.dir)
	}
	return nil
}

// etcdConfig tunes for one member: nobody to wait for in an election, few raft
// entries kept in memory since no follower has to catch up.
func etcdConfig(opt EtcdOptions) (*embed.Config, error) {
	peer, err := url.Parse(etcdPeerURL)
	if err != nil {
		return nil, err
	}
	cfg := embed.NewConfig()
	cfg.Dir = filepath.Join(opt.Dir, "etcd")
	cfg.Name = opt.Name
	cfg.ListenPeerUrls, cfg.ListenClientUrls = nil, nil
	cfg.AdvertisePeerUrls, cfg.AdvertiseClientUrls = []url.URL{*peer}, nil
	cfg.InitialCluster = opt.Name + "=" + etcdPeerURL
	cfg.TickMs, cfg.ElectionMs = 20, 100
	cfg.PreVote = false
	cfg.SnapshotCount, cfg.SnapshotCatchUpEntries = 2500, 100
	cfg.MaxTxnOps = maxTxnOps
	cfg.MaxRequestBytes = maxRequestSize
	cfg.QuotaBackendBytes = opt.Quota
	cfg.EnableGRPCGateway = false
	cfg.EnablePprof = false
	cfg.WarningApplyDuration = time.Second
	cfg.WarningUnaryRequestDuration = time.Second
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zapTo(opt.Log))
	cfg.ForceNewCluster = opt.Force
	if opt.peer != nil {
		return cfg, opt.peer.configure(cfg)
	}
	return cfg, nil
}

func (e *etcd) Txn(ctx context.Context, compares []Compare, ops []Op) (TxnResult, error) {
	if err := e.space.admit(ctx, ops); err != nil {
		return TxnResult{}, err
	}
	cmps := make([]clientv3.Cmp, len(compares))
	for i, c := range compares {
		cmps[i] = clientv3.Compare(clientv3.ModRevision(c.Key), "=", c.ModRev)
	}
	then := make([]clientv3.Op, len(ops))
	for i, op := range ops {
		if op.Value == nil {
			then[i] = clientv3.OpDelete(op.Key)
		} else {
			then[i] = clientv3.OpPut(op.Key, string(op.Value))
		}
	}
	res, err := e.client.Txn(ctx).If(cmps...).Then(then...).Commit()
	if err != nil {
		return TxnResult{}, etcdError(err)
	}
	return TxnResult{OK: res.Succeeded, Rev: res.Header.Revision}, nil
}

// etcdError gives the errors that callers tell apart their kinds.
func etcdError(err error) error {
	switch {
	case errors.Is(err, rpctypes.ErrCompacted):
		return ErrCompacted
	case errors.Is(err, rpctypes.ErrRequestTooLarge), errors.Is(err, rpctypes.ErrTooManyOps):
		return errs.New(errs.TooLarge, "store: a transaction takes at most %d bytes and %d records: %w", maxRequestSize, maxTxnOps, err)
	case errors.Is(err, rpctypes.ErrNoSpace):
		return errs.New(errs.Unavailable, "store: the database has reached its quota; delete what is not needed: %w", err)
	}
	return err
}

func (e *etcd) Range(ctx context.Context, prefix string, opt RangeOptions) (RangeResult, error) {
	opts := []clientv3.OpOption{clientv3.WithPrefix(), clientv3.WithLimit(int64(opt.Limit))}
	if opt.Rev > 0 {
		// A revision that has been seen is here; no need to ask for the newest.
		opts = append(opts, clientv3.WithRev(opt.Rev), clientv3.WithSerializable())
	}
	res, err := e.client.Get(ctx, prefix, opts...)
	if err != nil {
		return RangeResult{}, etcdError(err)
	}
	out := RangeResult{More: res.More, Rev: res.Header.Revision, KVs: make([]KV, len(res.Kvs))}
	for i, kv := range res.Kvs {
		out.KVs[i] = KV{Key: string(kv.Key), Value: kv.Value, ModRev: kv.ModRevision}
	}
	return out, nil
}

func (e *etcd) Watch(ctx context.Context, from int64) <-chan Batch {
	out := make(chan Batch)
	go func() {
		defer close(out)
		for res := range e.client.Watch(ctx, "", clientv3.WithPrefix(), clientv3.WithRev(from)) {
			b, ok := batchOf(res)
			if !ok {
				continue
			}
			select {
			case out <- b:
			case <-ctx.Done():
				return
			}
			if b.Err != nil {
				return
			}
		}
	}()
	return out
}

func batchOf(res clientv3.WatchResponse) (Batch, bool) {
	if res.CompactRevision != 0 {
		return Batch{Err: ErrCompacted}, true
	}
	if err := res.Err(); err != nil {
		return Batch{Err: err}, true
	}
	if len(res.Events) == 0 {
		return Batch{}, false
	}
	b := Batch{Changes: make([]Change, len(res.Events))}
	for i, ev := range res.Events {
		b.Changes[i] = Change{Key: string(ev.Kv.Key), ModRev: ev.Kv.ModRevision}
		if ev.Type == clientv3.EventTypePut {
			b.Changes[i].Value = ev.Kv.Value
		}
		b.Rev = ev.Kv.ModRevision
	}
	return b, true
}

func (e *etcd) Compact(ctx context.Context, rev int64) error {
	_, err := e.client.Compact(ctx, rev)
	if errors.Is(err, rpctypes.ErrCompacted) {
		return nil
	}
	return err
}

// Defrag rewrites the database without its free space; writes wait meanwhile.
func (e *etcd) Defrag(context.Context) error { return e.server.Server.Backend().Defrag() }

// Snapshot writes etcd's own snapshot format: the database, then its SHA-256.
func (e *etcd) Snapshot(ctx context.Context, w io.Writer) error {
	r, err := e.client.Snapshot(ctx)
	if err != nil {
		return fmt.Errorf("reading a snapshot: %w", err)
	}
	defer r.Close()
	if _, err := io.Copy(w, r); err != nil {
		return fmt.Errorf("copying a snapshot: %w", err)
	}
	return nil
}

func (e *etcd) Status(context.Context) (Status, error) {
	s := e.server.Server
	st := Status{
		Revision:  s.KV().Rev(),
		Size:      s.Backend().Size(),
		InUse:     s.Backend().SizeInUse(),
		Quota:     e.quota,
		Members:   len(s.Cluster().Members()),
		LeaderEra: s.Term(),
		Leads:     s.Leader() == s.MemberID(),
	}
	for _, a := range s.Alarms() {
		st.Alarms = append(st.Alarms, a.Alarm.String())
	}
	return st, nil
}

func (e *etcd) Close() error {
	var err error
	if e.client != nil {
		err = e.client.Close()
		if errors.Is(err, context.Canceled) {
			err = nil
		}
	}
	if e.server != nil {
		e.server.Close()
	}
	return errors.Join(err, e.lock.Close())
}
