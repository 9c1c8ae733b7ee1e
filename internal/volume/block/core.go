package block

import (
	"cmp"
	"context"
	"encoding/json"
	"log/slog"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/nodes"
	"github.com/strata-cloud/strata/internal/policy"
	"github.com/strata-cloud/strata/internal/rest"
	"github.com/strata-cloud/strata/internal/saga"
	"github.com/strata-cloud/strata/internal/store"
	"github.com/strata-cloud/strata/internal/volume/quota"
	"github.com/strata-cloud/strata/internal/volume/voltype"
	"github.com/strata-cloud/strata/internal/volume/wire"
)

// Zone is the one availability zone.
const Zone = "nova"

// Core is the records and what all parts of the service do with them.
type Core struct {
	DB             *store.DB
	Sagas          *saga.Engine
	Nodes          *nodes.Registry
	Log            *slog.Logger
	Ledger         *store.Ledger // counts quotas: whatever adds to a project's usage goes through it
	Volumes        *store.Collection[Volume]
	Snapshots      *store.Collection[Snapshot]
	Groups         *store.Collection[Group]
	GroupSnapshots *store.Collection[GroupSnapshot]
	Attachments    *store.Collection[Attachment]
	Backups        *store.Collection[Backup]
	Messages       *store.Collection[Message]
	Frozen         *store.Collection[Frozen]
	Types          *voltype.Types
	Quotas         *quota.Quotas
}

// New registers the collections: call it before db.Start.
func New(db *store.DB, sagas *saga.Engine, reg *nodes.Registry, log *slog.Logger) *Core {
	c := &Core{DB: db, Sagas: sagas, Nodes: reg, Log: log, Ledger: db.Ledger("volume"), Volumes: registerVolumes(db), Snapshots: registerSnapshots(db),
		Groups: registerGroups(db), GroupSnapshots: registerGroupSnapshots(db), Attachments: registerAttachments(db), Backups: registerBackups(db), Messages: registerMessages(db),
		Frozen: registerFrozen(db)}
	c.Types = voltype.New(db, func(id string) int { return c.Volumes.Count("type", id) }, func(id string) int { return c.Groups.Count("volume_type", id) })
	c.Quotas = quota.New(db, c.usage, c.Types.Names)
	return c
}

// Job is the state of every saga of the service. Volume is what it is about: a
// volume, or a group or a group snapshot.
type Job struct {
	Volume string          `json:"volume"`
	Args   json.RawMessage `json:"args,omitempty"`
	// Stop ends the saga early: a step found that the rest is not to be done.
	Stop bool `json:"stop,omitempty"`
}

// Read reads the arguments that the saga was begun with.
func (j *Job) Read(v any) error { return json.Unmarshal(j.Args, v) }

// Begin starts a saga on the volume, or on a group or a group snapshot, in the
// caller's transaction. The sagas of one run one after another.
func (c *Core) Begin(tx *store.Tx, requestID string, who *policy.Credentials, kind, action, volume string, args any) error {
	j := Job{Volume: volume}
	if args != nil {
		raw, err := json.Marshal(args)
		if err != nil {
			return err
		}
		j.Args = raw
	}
	return c.Sagas.Begin(tx, saga.Start{ID: uuid.NewString(), Kind: kind, Resource: volume, Action: action, RequestID: requestID,
		ProjectID: who.ProjectID, UserID: who.UserID, State: j})
}

// FindVolume gives a volume that the caller may know of: its project's, or any for
// an administrator. Others do not learn that it exists.
func (c *Core) FindVolume(who *policy.Credentials, id string) (*Volume, error) {
	v, err := c.Volumes.Get(id)
	if err != nil || !(who.Admin() || who.ProjectID == v.ProjectID) {
		return nil, wire.NotFound("Volume", id)
	}
	return v, nil
}

// FindSnapshot is FindVolume for a snapshot.
func (c *Core) FindSnapshot(who *policy.Credentials, id string) (*Snapshot, error) {
	s, err := c.Snapshots.Get(id)
	if err != nil || !(who.Admin() || who.ProjectID == s.ProjectID) {
		return nil, wire.NotFound("Snapshot", id)
	}
	return s, nil
}

// VolumeOf is the volume that the path names, if the route's policy allows it.
func (c *Core) VolumeOf(r *rest.Request) (*Volume, error) {
	v, err := c.FindVolume(r.Creds, r.Path("id"))
	if err != nil {
		return nil, err
	}
	return v, r.Enforce(v.Target())
}

// SnapshotOf is the snapshot that the path names, if the route's policy allows it.
func (c *Core) SnapshotOf(r *rest.Request) (*Snapshot, error) {
	s, err := c.FindSnapshot(r.Creds, r.Path("id"))
	if err != nil {
		return nil, err
	}
	return s, r.Enforce(policy.Target{"project_id": s.ProjectID, "user_id": s.UserID})
}

// Target is what policies judge a volume by.
func (v *Volume) Target() policy.Target {
	return policy.Target{"project_id": v.ProjectID, "user_id": v.UserID}
}

// Host is where the volume is, in the API's form.
func (v *Volume) Host() string {
	if v.Node == "" {
		return ""
	}
	return Host(v.Node, v.Driver, v.Pool)
}

// filesDriver is the driver whose pools are back ends of their own, as directories
// that have nothing in common; other drivers are one back end.
const filesDriver = "local"

// Host is the name of a node's pool in the API: NODE@BACKEND#POOL.
func Host(node, driver, pool string) string {
	if driver == filesDriver {
		driver = pool
	}
	return node + "@" + driver + "#" + pool
}

// Ref names the volume to its node.
func (v *Volume) Ref() nodeapi.VolumeRef {
	return nodeapi.VolumeRef{ID: v.ID, Driver: v.Driver, Pool: v.Pool, Key: v.Key}
}

// SnapshotOnNode is what the node calls the snapshot of that id; "" is none.
func (c *Core) SnapshotOnNode(id string) string {
	if s, err := c.Snapshots.Get(id); err == nil {
		return s.OnNode()
	}
	return id
}

// In tells whether the volume's status is one of them.
func (v *Volume) In(of ...Status) bool { return slices.Contains(of, v.Status) }

// Words lists states as upstream does: "a, b or c".
func Words(of ...Status) string {
	words := make([]string, len(of))
	for i, s := range of {
		words[i] = string(s)
	}
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:len(words)-1], ", ") + " or " + words[len(words)-1]
}

// Update changes a volume's record; NotFound in upstream's words when it is gone.
func (c *Core) Update(ctx context.Context, id string, fn func(*Volume) error) (*Volume, error) {
	var out *Volume
	err := c.DB.Txn(ctx, func(tx *store.Tx) (err error) {
		out, err = c.TxUpdate(tx, id, fn)
		return err
	})
	return out, err
}

// TxUpdate is Update in the caller's transaction.
func (c *Core) TxUpdate(tx *store.Tx, id string, fn func(*Volume) error) (*Volume, error) {
	if _, err := c.Volumes.TxGet(tx, id); err != nil {
		return nil, wire.NotFound("Volume", id)
	}
	return c.Volumes.TxUpdate(tx, id, func(v *Volume) error {
		v.Updated = wire.Now()
		return fn(v)
	})
}

// Settle is Update for sagas: a volume that is gone is no error.
func (c *Core) Settle(ctx context.Context, id string, fn func(*Volume)) error {
	_, err := c.Update(ctx, id, func(v *Volume) error { fn(v); return nil })
	if errs.Is(err, errs.NotFound) {
		return nil
	}
	return err
}

// Rest is the status of a volume that nothing is being done with.
func (c *Core) Rest(tx *store.Tx, id string) Status {
	status := Available
	for _, a := range c.Attachments.TxBy(tx, "volume", id) {
		switch a.Status {
		case AttachAttached, AttachDetaching:
			return InUse
		case AttachAttaching:
			status = Attaching
		case AttachReserved:
			if status == Available {
				status = Reserved
			}
		}
	}
	return status
}

// Storage reaches the node that keeps the volume. One in a shared pool is reached
// where a server has it open, since the work is done there, or else by any node that
// has the pool.
func (c *Core) Storage(v *Volume) (nodes.Storage, error) {
	if v.Driver == filesDriver {
		return c.Nodes.Storage(v.Node)
	}
	var failed error
	for _, node := range c.reached(v) {
		st, err := c.Nodes.Storage(node)
		if err == nil {
			return st, nil
		}
		failed = cmp.Or(failed, err)
	}
	return nil, failed
}

// reached lists the nodes that reach a volume of a shared pool, in the order in which
// they are to be asked.
func (c *Core) reached(v *Volume) []string {
	var out []string
	for _, a := range c.Attachments.By("volume", v.ID) {
		if a.Compute && a.Host != "" {
			out = append(out, a.Host)
		}
	}
	out = append(out, v.Node)
	keeper, err := c.Nodes.Infos.Get(v.Node) // NotFound: it left the pool of servers
	for _, n := range c.Nodes.Infos.All() {
		if n.ID != v.Node && slices.ContainsFunc(n.SharedPools, func(p string) bool {
			return strings.HasPrefix(p, v.Driver+":") && strings.HasSuffix(p, "/"+v.Pool) && (err != nil || slices.Contains(keeper.SharedPools, p))
		}) {
			out = append(out, n.ID)
		}
	}
	return out
}
