package voltype

import (
	"context"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/rest"
	"github.com/strata-cloud/strata/internal/volume/wire"
)

// encryptionView is what upstream shows of a type's encryption; all values are
// null when there is none (cinder/api/contrib/volume_type_encryption.py).
func encryptionView(t *Type) map[string]any {
	e := t.Encryption
	if e == nil {
		return map[string]any{}
	}
	v := map[string]any{"volume_type_id": t.ID, "provider": e.Provider, "cipher": wire.Null(e.Cipher), "key_size": nil, "control_location": e.Location,
		"encryption_id": e.ID, "created_at": wire.Stamp(e.Created), "updated_at": wire.Stamp(e.Updated), "deleted": false, "deleted_at": nil}
	if e.KeySize > 0 {
		v["key_size"] = e.KeySize
	}
	return v
}

func (s *Types) showEncryption(_ context.Context, r *rest.Request) (*rest.Response, error) {
	t, err := s.ofPath(r)
	if err != nil {
		return nil, err
	}
	return rest.JSON(200, encryptionView(t)), nil
}

func (s *Types) showEncryptionItem(_ context.Context, r *rest.Request) (*rest.Response, error) {
	t, err := s.ofPath(r)
	if err != nil {
		return nil, err
	}
	val, ok := encryptionView(t)[r.Path("key")]
	if !ok {
		return nil, noEncryption(t.ID)
	}
	return rest.JSON(200, map[string]any{r.Path("key"): val}), nil
}

func noEncryption(t string) error {
	return errs.NotFoundf("Volume type encryption for type %s does not exist.", t)
}

type encryptionBody struct {
	Encryption map[string]any `json:"encryption"`
}

// luks are the names of what a node can encrypt with.
var luks = map[string]bool{"luks": true, "nova.volume.encryptors.luks.LuksEncryptor": true, "os_brick.encryptors.luks.LuksEncryptor": true, "LuksEncryptor": true}

// Supported tells whether nodes can encrypt so. As upstream, a type may be
// described in ways that nothing implements; making its volumes is refused.
func (e *Encryption) Supported() bool { return luks[e.Provider] && e.Location == "front-end" }

func (e *Encryption) set(in map[string]any) {
	for k, v := range in {
		switch k {
		case "provider":
			e.Provider, _ = v.(string)
		case "cipher":
			e.Cipher, _ = v.(string)
		case "key_size":
			if v != nil {
				e.KeySize = wire.Number(v)
			}
		case "control_location":
			e.Location, _ = v.(string)
		}
	}
}

func (s *Types) createEncryption(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	var b encryptionBody
	if err := r.Decode(&b); err != nil {
		return nil, err
	}
	e := Encryption{ID: newID(), Location: "front-end", Created: wire.Now()}
	e.set(b.Encryption)
	t, err := s.change(ctx, r, func(t *Type) error {
		if t.Encryption != nil {
			return errs.Invalidf("Volume type encryption for type %s already exists.", t.ID)
		}
		if s.used(t.ID) > 0 {
			return errs.Invalidf("Cannot create encryption specs. Volume type in use.")
		}
		t.Encryption = &e
		return nil
	})
	if err != nil {
		return nil, err
	}
	v := map[string]any{"volume_type_id": t.ID, "encryption_id": e.ID, "provider": e.Provider, "control_location": e.Location, "cipher": wire.Null(e.Cipher), "key_size": nil}
	if e.KeySize > 0 {
		v["key_size"] = e.KeySize
	}
	return rest.JSON(200, map[string]any{"encryption": v}), nil
}

func (s *Types) updateEncryption(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	var b encryptionBody
	if err := r.Decode(&b); err != nil {
		return nil, err
	}
	_, err := s.change(ctx, r, func(t *Type) error {
		if s.used(t.ID) > 0 {
			return errs.Invalidf("Cannot update encryption specs. Volume type in use.")
		}
		if t.Encryption == nil {
			return noEncryption(t.ID)
		}
		t.Encryption.Updated = wire.Now()
		t.Encryption.set(b.Encryption)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return rest.JSON(200, b), nil
}

func (s *Types) deleteEncryption(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	_, err := s.change(ctx, r, func(t *Type) error {
		if t.Encryption == nil {
			return noEncryption(t.ID)
		}
		if s.used(t.ID) > 0 {
			return errs.Invalidf("Cannot delete encryption specs. Volume type in use.")
		}
		t.Encryption = nil
		return nil
	})
	return rest.Empty(202), err
}
