// Package keypair is the public keys that users put into servers (compute API,
// /os-keypairs). A private key is made on request and shown once, never kept.
package keypair

import (
	"context"
	"regexp"
	"strings"
	"time"

	"github.com/strata-cloud/strata/internal/compute/wire"
	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/policy"
	"github.com/strata-cloud/strata/internal/rest"
	"github.com/strata-cloud/strata/internal/store"
)

// Key is a keypair as a server uses it.
type Key struct {
	Name        string    `json:"name"`
	UserID      string    `json:"user_id"`
	Type        string    `json:"type"` // ssh or x509
	PublicKey   string    `json:"public_key"`
	Fingerprint string    `json:"fingerprint"`
	Created     time.Time `json:"created"`
}

func (k *Key) id() string { return k.UserID + "/" + k.Name }

// Pairs is the collection of keypairs and its part of the API.
type Pairs struct {
	all    *store.Collection[Key]
	ledger *store.Ledger
	limit  func(*policy.Credentials) int
}

// New registers the collection: call it before db.Start. limit is how many pairs
// a caller may have, -1 for any number; the ledger counts them.
func New(db *store.DB, ledger *store.Ledger, limit func(*policy.Credentials) int) *Pairs {
	return &Pairs{ledger: ledger, limit: limit, all: store.Register(db, store.Schema[Key]{Service: "compute", Kind: "keypair", Version: 1,
		ID:    (*Key).id,
		Index: map[string]func(*Key) []string{"user": func(k *Key) []string { return []string{k.UserID} }}})}
}

// Get gives a user's pair of that name, or NotFound.
func (s *Pairs) Get(user, name string) (*Key, error) {
	return s.all.Get((&Key{UserID: user, Name: name}).id())
}

// Routes are the keypairs' rows of the compute API.
func (s *Pairs) Routes() []rest.Route {
	fields := `"name":{"type":"string","minLength":1,"maxLength":255},"public_key":{"type":"string"}`
	body := func(lo, hi rest.Version, fields, required string) rest.Schema {
		return rest.SchemaIn(lo, hi, `{"type":"object","properties":{"keypair":{"type":"object","properties":{`+fields+`},"required":[`+required+`],"additionalProperties":false}},"required":["keypair"],"additionalProperties":false}`)
	}
	typed := fields + `,"type":{"type":"string","enum":["ssh","x509"]}`
	owned := typed + `,"user_id":{"type":"string","minLength":1,"maxLength":255}`
	return []rest.Route{
		{Method: "GET", Path: "/os-keypairs", Policy: "os_compute_api:os-keypairs:index", Handle: s.list},
		{Method: "POST", Path: "/os-keypairs", Policy: "os_compute_api:os-keypairs:create", Handle: s.create, Body: []rest.Schema{
			body(rest.V(2, 1), rest.V(2, 1), fields, `"name"`), body(rest.V(2, 2), rest.V(2, 9), typed, `"name"`),
			body(rest.V(2, 10), rest.V(2, 91), owned, `"name"`), body(rest.V(2, 92), rest.Version{}, owned, `"name","public_key"`)}},
		{Method: "GET", Path: "/os-keypairs/{name}", Policy: "os_compute_api:os-keypairs:show", Handle: s.show},
		{Method: "DELETE", Path: "/os-keypairs/{name}", Policy: "os_compute_api:os-keypairs:delete", Handle: s.remove},
	}
}

// Policies are upstream's names and defaults.
func Policies() []policy.Rule {
	var rules []policy.Rule
	for _, n := range []string{"index", "show", "create", "delete"} {
		rules = append(rules, policy.Rule{Name: "os_compute_api:os-keypairs:" + n, Check: "(rule:context_is_admin) or user_id:%(user_id)s"})
	}
	return rules
}

// ownerOf is the user whose keys the request is about: user_id= is for administrators since 2.10.
func ownerOf(r *rest.Request) (string, error) {
	owner := r.Creds.UserID
	if asked := r.Query().Get("user_id"); asked != "" && r.AtLeast(2, 10) {
		owner = asked
	}
	return owner, r.Enforce(policy.Target{"user_id": owner})
}

func view(r *rest.Request, k *Key) map[string]any {
	v := map[string]any{"name": k.Name, "public_key": k.PublicKey, "fingerprint": k.Fingerprint}
	if r.AtLeast(2, 2) {
		v["type"] = k.Type
	}
	return v
}

func (s *Pairs) list(_ context.Context, r *rest.Request) (*rest.Response, error) {
	owner, err := ownerOf(r)
	if err != nil {
		return nil, err
	}
	page, err := rest.PageOf(r.Query(), 1000)
	if err != nil {
		return nil, err
	}
	if !r.AtLeast(2, 35) {
		page = rest.Page{}
	}
	page.Sorts = []rest.Sort{{Key: "name"}}
	list := append([]*Key(nil), s.all.By("user", owner)...)
	list, more, err := rest.Paginate(list, page, func(k *Key) string { return k.Name }, func(k *Key, _ string) (string, bool) { return k.Name, true })
	if err != nil {
		return nil, err
	}
	views := make([]any, len(list))
	for i, k := range list {
		views[i] = map[string]any{"keypair": view(r, k)}
	}
	body := map[string]any{"keypairs": views}
	if more {
		body["keypairs_links"] = []any{map[string]string{"rel": "next", "href": rest.NextLink(r.Base(), "/compute/v2.1/os-keypairs", r.Query(), list[len(list)-1].Name)}}
	}
	return rest.JSON(200, body), nil
}

func (s *Pairs) ofPath(r *rest.Request) (*Key, error) {
	owner, err := ownerOf(r)
	if err != nil {
		return nil, err
	}
	k, err := s.all.Get((&Key{UserID: owner, Name: r.Path("name")}).id())
	if err != nil {
		return nil, errs.NotFoundf("Keypair %s not found for user %s", r.Path("name"), owner)
	}
	return k, nil
}

func (s *Pairs) show(_ context.Context, r *rest.Request) (*rest.Response, error) {
	k, err := s.ofPath(r)
	if err != nil {
		return nil, err
	}
	v := view(r, k)
	v["user_id"], v["created_at"], v["deleted"], v["deleted_at"], v["updated_at"] = k.UserID, wire.Stamp(&k.Created), false, nil, nil
	v["id"] = rowNumber(k)
	return rest.JSON(200, map[string]any{"keypair": v}), nil
}

// rowNumber stands for upstream's row number, an integer that clients show.
func rowNumber(k *Key) int64 { return k.Created.UnixMilli() & 0x7fffffff }

func (s *Pairs) remove(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	k, err := s.ofPath(r)
	if err != nil {
		return nil, err
	}
	status := 202
	if r.AtLeast(2, 2) {
		status = 204
	}
	return rest.Empty(status), s.all.Delete(ctx, k.id())
}

var keyNameOld, keyName = regexp.MustCompile(`^[a-zA-Z0-9 _-]+$`), regexp.MustCompile(`^[a-zA-Z0-9 _@.-]+$`)

func (s *Pairs) create(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	var b struct {
		Keypair struct {
			Name      string `json:"name"`
			PublicKey string `json:"public_key"`
			Type      string `json:"type"`
			UserID    string `json:"user_id"`
		} `json:"keypair"`
	}
	if err := r.Decode(&b); err != nil {
		return nil, err
	}
	in := b.Keypair
	k := &Key{Name: strings.TrimSpace(in.Name), UserID: r.Creds.UserID, Type: in.Type, PublicKey: in.PublicKey, Created: wire.Now()}
	if in.UserID != "" {
		k.UserID = in.UserID
	}
	if err := r.Enforce(policy.Target{"user_id": k.UserID}); err != nil {
		return nil, err
	}
	if k.Type == "" {
		k.Type = "ssh"
	}
	if valid := r.AtLeast(2, 92) && keyName.MatchString(k.Name) || keyNameOld.MatchString(k.Name); !valid {
		return nil, errs.Invalidf("Keypair data is invalid: Keypair name contains unsafe characters")
	}
	private, err := k.fill()
	if err != nil {
		return nil, err
	}
	if err := s.add(ctx, r.Creds, k); err != nil {
		return nil, err
	}
	v := view(r, k)
	v["user_id"] = k.UserID
	if private != "" {
		v["private_key"] = private
	}
	status := 200
	if r.AtLeast(2, 2) {
		status = 201
	}
	return rest.JSON(status, map[string]any{"keypair": v}), nil
}

// add stores a key within the quota that the caller's project sets for its users
// (nova/compute/api.py, _validate_new_key_pair).
func (s *Pairs) add(ctx context.Context, c *policy.Credentials, k *Key) error {
	return s.ledger.Do(ctx, func(tx *store.Tx) error {
		if _, err := s.all.TxGet(tx, k.id()); err == nil {
			return errs.Conflictf("Key pair '%s' already exists.", k.Name)
		}
		if limit := s.limit(c); limit >= 0 && s.all.TxCount(tx, "user", k.UserID) >= limit {
			return errs.New(errs.QuotaExceeded, "Quota exceeded, too many key pairs.")
		}
		return s.all.TxCreate(tx, k)
	})
}
