package region

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/nodes"
	"github.com/strata-cloud/strata/internal/store"
	"github.com/strata-cloud/strata/internal/wait"
)

// connected keeps the registry true to which agents can be called.
func (r *Region) connected(node string, c nodes.Conn) {
	if c == nil {
		r.cfg.Log.Warn("a node is away", "node", node)
	} else {
		r.cfg.Log.Info("a node is here", "node", node)
	}
	r.Nodes.Connect(node, c)
}

// joinRequest is what a machine says that wants to be a node.
type joinRequest struct {
	Token string `json:"token"` // ID.SECRET
	Name  string `json:"name"`
	CSR   []byte `json:"csr"` // DER
	// Cluster is where others would reach it as a control member, ADDRESS:PORT.
	Cluster string `json:"cluster"`
}

// joinAnswer is what a machine needs to be one.
type joinAnswer struct {
	Role        string         `json:"role"`
	Certificate []byte         `json:"certificate"` // DER
	PublicCIDR  string         `json:"public_cidr"`
	Members     []string       `json:"members"` // cluster ports of the control members
	Control     *controlAnswer `json:"control,omitempty"`
}

// controlAnswer is what a control member needs besides. It can sign certificates and
// read the whole store: it is trusted like the first.
type controlAnswer struct {
	CAKey        []byte        `json:"ca_key"` // PEM
	Peers        []store.Peer  `json:"peers"`
	Admin        string        `json:"admin"` // passwords that the first start made
	Demo         string        `json:"demo"`
	Policy       []byte        `json:"policy,omitempty"`
	ReclaimAfter time.Duration `json:"reclaim_after"`
}

// maxJoin bounds the request of a machine that nobody knows, in bytes.
const maxJoin = 64 << 10

func (r *Region) joinRoute(w http.ResponseWriter, q *http.Request) {
	var in joinRequest
	err := json.NewDecoder(http.MaxBytesReader(w, q.Body, maxJoin)).Decode(&in)
	if err != nil {
		err = errs.Invalidf("that is no request to join: %w", err)
	}
	var out *joinAnswer
	if err == nil {
		out, err = r.join(q.Context(), &in, q.RemoteAddr)
	}
	if err != nil {
		r.cfg.Log.Warn("a machine could not join", "addr", q.RemoteAddr, "node", in.Name, "err", err)
	}
	answer(w, out, err)
}

func (r *Region) join(ctx context.Context, in *joinRequest, from string) (*joinAnswer, error) {
	role, err := r.Nodes.TokenRole(in.Token)
	if err != nil {
		return nil, err
	}
	cert, err := r.signNode(in.Name, in.CSR)
	if err != nil {
		return nil, err
	}
	host, _, _ := net.SplitHostPort(from)
	m := nodes.Member{ID: in.Name, Addr: host, Joined: time.Now().UTC(), Role: role}
	if err := r.Nodes.Join(ctx, m); err != nil {
		return nil, err
	}
	out := &joinAnswer{Role: role, Certificate: cert, PublicCIDR: r.cfg.PublicCIDR, Members: r.council.addrs()}
	if role == nodes.RoleControl {
		if out.Control, err = r.addControl(ctx, &m, in.Cluster); err != nil {
			return nil, errors.Join(err, r.Nodes.Leave(context.WithoutCancel(ctx), m.ID))
		}
	}
	r.cfg.Log.Info("a machine joined", "node", in.Name, "addr", host, "role", role)
	return out, nil
}

// addControl makes room for a control member.
func (r *Region) addControl(ctx context.Context, m *nodes.Member, cluster string) (*controlAnswer, error) {
	if err := validCluster(cluster); err != nil || cluster == "" {
		return nil, errs.Invalidf("a control member tells where others reach it: %q is no ADDRESS:PORT", cluster)
	}
	out := &controlAnswer{ReclaimAfter: r.cfg.ReclaimAfter}
	pass, err := ensureClouds(&r.cfg)
	if err != nil {
		return nil, err
	}
	out.Admin, out.Demo = pass.admin, pass.demo
	if out.CAKey, err = os.ReadFile(r.cfg.path(caKeyFile)); err != nil {
		return nil, err
	}
	if c, err := r.copied(ofImages); err == nil {
		out.Policy = c.Policy
	}
	added, peers, err := r.council.member.Add(ctx, "https://"+peerListen(cluster))
	if err != nil {
		return nil, err
	}
	out.Peers, m.Peer = peers, added.ID
	return out, r.DB.Txn(ctx, func(tx *store.Tx) error { return r.Nodes.Members.TxPut(tx, m) })
}

// enrol has this member in the list of those who may have agents.
func (r *Region) enrol(ctx context.Context) error {
	self, ok := r.council.member.Self()
	if !ok {
		return errs.Forbiddenf("it was removed from the control plane")
	}
	want := nodes.Member{ID: r.cfg.Node, Addr: r.cfg.addr(), Joined: time.Now().UTC(), Role: nodes.RoleControl, Peer: self.ID}
	if m, err := r.Nodes.Members.Get(want.ID); err == nil {
		want.Joined = m.Joined
		if *m == want {
			return nil
		}
	}
	return r.DB.Txn(ctx, func(tx *store.Tx) error { return r.Nodes.Members.TxPut(tx, &want) })
}

// TokenRequest asks for a token over the admin socket.
type TokenRequest struct {
	Life time.Duration `json:"life"` // ns
	Role string        `json:"role"` // of machines that join by it: node or control
}

// Token is what strata join needs on another machine.
type Token struct {
	Token   string    `json:"token"`
	Address string    `json:"address"` // https://HOST:PORT
	Expires time.Time `json:"expires"`
	Role    string    `json:"role"`
}

func (r *Region) newToken(ctx context.Context, in TokenRequest) (Token, error) {
	if r.cfg.Cluster == "" {
		return Token{}, errs.Conflictf("this cloud listens for no other machines: start it with --cluster-listen ADDRESS:%s", ClusterPort)
	}
	ca, _, err := ensureCA(&r.cfg)
	if err != nil {
		return Token{}, err
	}
	secret, err := r.Nodes.NewTokenFor(ctx, in.Role, in.Life)
	if err != nil {
		return Token{}, err
	}
	return Token{Token: caHash(ca.Raw) + "." + secret, Address: "https://" + r.cfg.Cluster, Expires: time.Now().Add(in.Life).UTC(), Role: in.Role}, nil
}

// removeNode takes a machine out of the pool.
func (r *Region) removeNode(ctx context.Context, node string) error {
	if err := r.removeControl(ctx, node); err != nil {
		return err
	}
	err := r.Nodes.Leave(ctx, node)
	if errs.Is(err, errs.NotFound) {
		err = errs.NotFoundf("no node that joined is called %s", node)
	}
	if err != nil {
		return err
	}
	r.Nodes.Connect(node, nil)
	return r.Placement.RemoveProvider(ctx, node)
}

// removeControl takes a control member's part in decisions away, which has to come
// first: what is left must be a majority.
func (r *Region) removeControl(ctx context.Context, node string) error {
	m, err := r.Nodes.Members.Get(node)
	if err != nil || m.Role != nodes.RoleControl {
		return nil
	}
	if n := len(r.Nodes.Instances.By("node", node)); n > 0 {
		return errs.Conflictf("%d servers are on node %s: move or delete them first", n, node)
	}
	if names := r.Cluster.Hosted(node); len(names) > 0 {
		return errs.Conflictf("node %s has the control planes of the clusters %s: strata cluster move brings them to another member", node, strings.Join(names, ", "))
	}
	if node == r.cfg.Node {
		if len(r.council.member.Peers()) < 2 {
			return errs.Conflictf("%s is the only control member: strata reset there removes the cloud", node)
		}
		if err := r.council.member.HandOver(ctx); err != nil {
			return err
		}
		return errs.Conflictf("%s led and has handed that over: remove it again on another control member", node)
	}
	return r.council.member.Remove(ctx, m.Peer)
}

// A new leader knows no agents. Nodes that have not called yet would look as if they
// were down, so work on servers begins when all have, or when some have and no more came
// for longer than an agent takes to notice that the old leader is gone.
const (
	gatherPause = 5 * time.Second
	gatherLimit = 20 * time.Second
)

func (r *Region) gather(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, gatherLimit)
	defer cancel()
	here, last := 0, time.Now()
	err := wait.Until(ctx, "the nodes' agents", raftLook, func(context.Context) (bool, error) {
		all, now := r.Nodes.Infos.All(), 0
		for _, n := range all {
			if _, err := r.Nodes.Conn(n.ID); err == nil {
				now++
			}
		}
		if now > here {
			here, last = now, time.Now()
		}
		return now == len(all) || here > 0 && time.Since(last) > gatherPause, nil
	})
	if err != nil {
		r.cfg.Log.Debug("agents are still coming", "here", here)
	}
}
