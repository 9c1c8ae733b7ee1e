package compute

import (
	"context"
	"regexp"
	"strings"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/policy"
	"github.com/strata-cloud/strata/internal/rest"
	"github.com/strata-cloud/strata/internal/store"
)

// keyOwner is the user whose keys the request is about: user_id= is for administrators since 2.10.
func keyOwner(r *rest.Request) (string, error) {
	owner := r.Creds.UserID
	if asked := r.Query().Get("user_id"); asked != "" && r.AtLeast(2, 10) {
		owner = asked
	}
	return owner, r.Enforce(policy.Target{"user_id": owner})
}

func keyView(r *rest.Request, k *Key) map[string]any {
	v := map[string]any{"name": k.Name, "public_key": k.PublicKey, "fingerprint": k.Fingerprint}
	if r.AtLeast(2, 2) {
		v["type"] = k.Type
	}
	return v
}

func (s *Service) listKeypairs(_ context.Context, r *rest.Request) (*rest.Response, error) {
	owner, err := keyOwner(r)
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
	list := append([]*Key(nil), s.keys.By("user", owner)...)
	list, more, err := rest.Paginate(list, page, func(k *Key) string { return k.Name }, func(k *Key, _ string) (string, bool) { return k.Name, true })
	if err != nil {
		return nil, err
	}
	views := make([]any, len(list))
	for i, k := range list {
		views[i] = map[string]any{"keypair": keyView(r, k)}
	}
	body := map[string]any{"keypairs": views}
	if more {
		body["keypairs_links"] = []any{map[string]string{"rel": "next", "href": rest.NextLink(r.Base(), "/compute/v2.1/os-keypairs", r.Query(), list[len(list)-1].Name)}}
	}
	return rest.JSON(200, body), nil
}

func (s *Service) keypair(r *rest.Request) (*Key, error) {
	owner, err := keyOwner(r)
	if err != nil {
		return nil, err
	}
	k, err := s.keys.Get((&Key{UserID: owner, Name: r.Path("name")}).id())
	if err != nil {
		return nil, errs.NotFoundf("Keypair %s not found for user %s", r.Path("name"), owner)
	}
	return k, nil
}

func (s *Service) showKeypair(_ context.Context, r *rest.Request) (*rest.Response, error) {
	k, err := s.keypair(r)
	if err != nil {
		return nil, err
	}
	v := keyView(r, k)
	v["user_id"], v["created_at"], v["deleted"], v["deleted_at"], v["updated_at"] = k.UserID, timeOrNil(&k.Created), false, nil, nil
	v["id"] = keyNumber(k)
	return rest.JSON(200, map[string]any{"keypair": v}), nil
}

// keyNumber stands for upstream's row number, an integer that clients show.
func keyNumber(k *Key) int64 { return k.Created.UnixMilli() & 0x7fffffff }

func (s *Service) deleteKeypair(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	k, err := s.keypair(r)
	if err != nil {
		return nil, err
	}
	status := 202
	if r.AtLeast(2, 2) {
		status = 204
	}
	return rest.Empty(status), s.keys.Delete(ctx, k.id())
}

var keyNameOld, keyName = regexp.MustCompile(`^[a-zA-Z0-9 _-]+$`), regexp.MustCompile(`^[a-zA-Z0-9 _@.-]+$`)

func (s *Service) createKeypair(ctx context.Context, r *rest.Request) (*rest.Response, error) {
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
	k := &Key{Name: strings.TrimSpace(in.Name), UserID: r.Creds.UserID, Type: in.Type, PublicKey: in.PublicKey, Created: now()}
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
	if err := s.addKey(ctx, k); err != nil {
		return nil, err
	}
	v := keyView(r, k)
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

// addKey stores a key within the user's quota.
func (s *Service) addKey(ctx context.Context, k *Key) error {
	return s.ledger.Do(ctx, func(tx *store.Tx) error {
		if _, err := s.keys.TxGet(tx, k.id()); err == nil {
			return errs.Conflictf("Key pair '%s' already exists.", k.Name)
		}
		if limit := s.layered(classDefault)["key_pairs"]; limit >= 0 && s.keys.TxCount(tx, "user", k.UserID) >= limit {
			return errs.New(errs.QuotaExceeded, "Quota exceeded, too many key pairs.")
		}
		return s.keys.TxCreate(tx, k)
	})
}
