package nodes

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"regexp"
	"strings"
	"time"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/store"
)

// Member is a machine that joined the pool. Removing it ends what its certificate is good for.
type Member struct {
	ID     string    `json:"id"` // the node's name
	Addr   string    `json:"addr"`
	Joined time.Time `json:"joined"`
	Role   string    `json:"role,omitempty"` // RoleControl, or a node only
	Peer   uint64    `json:"peer,omitempty"` // of a control member: its id in the store
}

// What machines are to a cloud. Those of the control plane are nodes, too.
const (
	RoleNode    = "node"
	RoleControl = "control"
)

// Token lets machines join until it expires. Only a hash of its secret is kept.
type Token struct {
	ID      string    `json:"id"`
	Hash    []byte    `json:"hash"`
	Expires time.Time `json:"expires"`
	Role    string    `json:"role,omitempty"` // of who joins by it; "": RoleNode
}

// MaxTokenLife bounds how long a token can be good for.
const MaxTokenLife = 30 * 24 * time.Hour

// NewToken makes a token for nodes and gives its text, ID.SECRET, which is told once.
func (r *Registry) NewToken(ctx context.Context, life time.Duration) (string, error) {
	return r.NewTokenFor(ctx, RoleNode, life)
}

// NewTokenFor is NewToken for a role.
func (r *Registry) NewTokenFor(ctx context.Context, role string, life time.Duration) (string, error) {
	if role != RoleNode && role != RoleControl {
		return "", errs.Invalidf("machines join as %s or as %s, not as %q", RoleNode, RoleControl, role)
	}
	if life <= 0 || life > MaxTokenLife {
		return "", errs.Invalidf("a token is good for at least a second and at most %s", MaxTokenLife)
	}
	raw := make([]byte, 40)
	if _, err := rand.Read(raw); err != nil {
		return "", err
	}
	id, secret := hex.EncodeToString(raw[:8]), hex.EncodeToString(raw[8:])
	sum := sha256.Sum256([]byte(secret))
	if err := r.dropExpired(ctx); err != nil {
		return "", err
	}
	return id + "." + secret, r.Tokens.Create(ctx, &Token{ID: id, Hash: sum[:], Expires: time.Now().Add(life).UTC(), Role: role})
}

func (r *Registry) dropExpired(ctx context.Context) error {
	for _, t := range r.Tokens.All() {
		if time.Now().After(t.Expires) {
			if err := r.Tokens.Delete(ctx, t.ID); err != nil && !errs.Is(err, errs.NotFound) {
				return err
			}
		}
	}
	return nil
}

// CheckToken tells whether the text is of a token that is still good.
func (r *Registry) CheckToken(text string) error {
	_, err := r.TokenRole(text)
	return err
}

// TokenRole is what a machine with the token becomes.
func (r *Registry) TokenRole(text string) (string, error) {
	id, secret, _ := strings.Cut(text, ".")
	sum := sha256.Sum256([]byte(secret))
	t, err := r.Tokens.Get(id)
	if err != nil || subtle.ConstantTimeCompare(t.Hash, sum[:]) != 1 {
		return "", errs.New(errs.Unauthenticated, "the token is not known here: make one with strata token create")
	}
	if time.Now().After(t.Expires) {
		return "", errs.New(errs.Unauthenticated, "the token expired at %s: make another with strata token create", t.Expires.Format(time.RFC3339))
	}
	return cmp.Or(t.Role, RoleNode), nil
}

// namePattern is a host name's label (RFC 1123), in lower case.
var namePattern = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*$`)

// CheckName tells whether a node can have the name.
func CheckName(name string) error {
	if len(name) > 253 || !namePattern.MatchString(name) {
		return errs.Invalidf("%q is no name for a node: use lower-case letters, digits, dots and hyphens", name)
	}
	return nil
}

// Join makes a machine a member. Conflict: the name is taken.
func (r *Registry) Join(ctx context.Context, m Member) error {
	if err := CheckName(m.ID); err != nil {
		return err
	}
	return r.db.Txn(ctx, func(tx *store.Tx) error {
		_, member := r.Members.TxGet(tx, m.ID)
		_, info := r.Infos.TxGet(tx, m.ID)
		if member == nil || info == nil {
			return errs.Conflictf("there is a node %s already: choose another with --name, or take that one out with strata node remove %s", m.ID, m.ID)
		}
		return r.Members.TxPut(tx, &m)
	})
}

// Admit tells whether a machine is a member.
func (r *Registry) Admit(node string) error {
	if _, err := r.Members.Get(node); err != nil {
		return errs.Forbiddenf("node %s was removed from the pool: strata reset makes it ready to join again", node)
	}
	return nil
}

// Leave takes a machine out of the pool. Conflict: servers are on it.
func (r *Registry) Leave(ctx context.Context, node string) error {
	return r.db.Txn(ctx, func(tx *store.Tx) error {
		if n := len(r.Instances.By("node", node)); n > 0 {
			return errs.Conflictf("%d servers are on node %s: move or delete them first", n, node)
		}
		if err := r.Members.TxDelete(tx, node); err != nil {
			return err
		}
		for _, err := range []error{r.Infos.TxDelete(tx, node), r.Exports.TxDelete(tx, node)} {
			if err != nil && !errs.Is(err, errs.NotFound) {
				return err
			}
		}
		return nil
	})
}
