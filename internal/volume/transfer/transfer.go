// Package transfer is how a volume goes from one project to another: its owner
// offers it under a key, and whoever knows the key takes it.
//
// Invariants: a volume that is offered is awaiting-transfer and has one transfer;
// of the key only a hash is kept; the quota of the project that takes the volume
// is charged in the transaction that moves it.
package transfer

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"time"

	"github.com/google/uuid"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/policy"
	"github.com/strata-cloud/strata/internal/rest"
	"github.com/strata-cloud/strata/internal/store"
	"github.com/strata-cloud/strata/internal/volume/block"
	"github.com/strata-cloud/strata/internal/volume/wire"
)

// Transfer is the record of an offer.
type Transfer struct {
	ID          string    `json:"id"`
	Name        *string   `json:"name,omitempty"`
	VolumeID    string    `json:"volume_id"`
	ProjectID   string    `json:"project_id"` // that offers
	Salt        []byte    `json:"salt"`
	Hash        []byte    `json:"hash"` // of the key
	NoSnapshots bool      `json:"no_snapshots,omitempty"`
	Created     time.Time `json:"created"`
}

// Service is the transfers.
type Service struct {
	*block.Core
	transfers *store.Collection[Transfer]
}

// New registers the collection: call it before db.Start.
func New(core *block.Core) *Service {
	return &Service{core, store.Register(core.DB, store.Schema[Transfer]{Service: "volume", Kind: "transfer", Version: 1,
		ID:     func(t *Transfer) string { return t.ID },
		Unique: map[string]func(*Transfer) []string{"volume": func(t *Transfer) []string { return []string{t.VolumeID} }},
		Index:  map[string]func(*Transfer) []string{"project": func(t *Transfer) []string { return []string{t.ProjectID} }}})}
}

// Routes are this package's part of the API, under its older and its newer name.
func (s *Service) Routes() []rest.Route {
	var out []rest.Route
	old := `"volume_id":` + wire.UUID + `,"name":` + wire.Name
	accept := wire.Body("accept", wire.Object(`"auth_key":{"type":["string","integer"],"minLength":1}`, `"auth_key"`, "false"))
	for at, min := range map[string]rest.Version{"/os-volume-transfer": {}, "/volume-transfers": rest.V(3, 55)} {
		fields := old
		if at == "/volume-transfers" {
			fields += `,"no_snapshots":` + wire.Bool
		}
		out = append(out,
			rest.Route{Method: "GET", Path: at, Policy: "volume:get_all_transfers", Min: min, Handle: s.list(at, false)},
			rest.Route{Method: "GET", Path: at + "/detail", Policy: "volume:get_all_transfers", Min: min, Handle: s.list(at, true)},
			rest.Route{Method: "POST", Path: at, Policy: "volume:create_transfer", Min: min, Body: wire.Body("transfer", wire.Object(fields, `"volume_id"`, "false")), Handle: s.create(at)},
			rest.Route{Method: "GET", Path: at + "/{id}", Policy: "volume:get_transfer", Min: min, Handle: s.show(at)},
			rest.Route{Method: "DELETE", Path: at + "/{id}", Policy: "volume:delete_transfer", Min: min, Handle: s.remove},
			rest.Route{Method: "POST", Path: at + "/{id}/accept", Policy: "volume:accept_transfer", Min: min, Body: accept, Handle: s.accept(at)})
	}
	return out
}

func (t *Transfer) view(r *rest.Request, at string, detail bool) map[string]any {
	v := map[string]any{"id": t.ID, "name": t.Name, "volume_id": t.VolumeID, "links": wire.Links(r, at[1:], t.ID)}
	if detail {
		v["created_at"] = wire.Stamp(t.Created)
		if r.AtLeast(3, 55) {
			v["no_snapshots"] = t.NoSnapshots
		}
		if r.AtLeast(3, 57) {
			v["source_project_id"], v["destination_project_id"], v["accepted"] = t.ProjectID, nil, false
		}
	}
	return v
}

func digest(salt []byte, key string) []byte {
	h := hmac.New(sha256.New, salt)
	h.Write([]byte(key))
	return h.Sum(nil)
}

func (s *Service) list(at string, detail bool) rest.Handler {
	return func(_ context.Context, r *rest.Request) (*rest.Response, error) {
		q, err := wire.ReadQuery(r)
		if err != nil {
			return nil, err
		}
		found := s.transfers.By("project", r.Creds.ProjectID)
		if q.AllProjects {
			found = s.transfers.All()
		}
		page, err := wire.Cut(q, found, "Transfer", func(t *Transfer) string { return t.ID }, wire.Keys[*Transfer]{"id": func(t *Transfer) string { return t.ID },
			"created_at": func(t *Transfer) string { return t.Created.Format("2006-01-02T15:04:05.000000") }, "volume_id": func(t *Transfer) string { return t.VolumeID }})
		if err != nil {
			return nil, err
		}
		var views []any
		last := ""
		for _, t := range page {
			views, last = append(views, t.view(r, at, detail)), t.ID
		}
		return wire.Listing(r, q, "transfers", at[1:], views, last, len(found)), nil
	}
}

// hexKey is n random bytes in hexadecimal.
func hexKey(n int) (string, error) {
	raw := make([]byte, n)
	_, err := rand.Read(raw)
	return hex.EncodeToString(raw), err
}

func (s *Service) create(at string) rest.Handler {
	return func(ctx context.Context, r *rest.Request) (*rest.Response, error) {
		var b struct {
			Transfer struct {
				Volume      string  `json:"volume_id"`
				Name        *string `json:"name"`
				NoSnapshots any     `json:"no_snapshots"`
			} `json:"transfer"`
		}
		if err := r.Decode(&b); err != nil {
			return nil, err
		}
		v, err := s.FindVolume(r.Creds, b.Transfer.Volume)
		if err != nil {
			return nil, err
		}
		if err := r.Enforce(v.Target()); err != nil {
			return nil, err
		}
		if v.Cipher && !(at == "/volume-transfers" && r.AtLeast(3, 70)) {
			return nil, wire.InvalidVolume("transferring encrypted volume is not supported")
		}
		key, err := hexKey(16)
		if err != nil {
			return nil, err
		}
		salt, err := hexKey(8)
		if err != nil {
			return nil, err
		}
		t := &Transfer{ID: uuid.NewString(), Name: wire.Trim(b.Transfer.Name), VolumeID: v.ID, ProjectID: v.ProjectID, Salt: []byte(salt), Hash: digest([]byte(salt), key),
			NoSnapshots: b.Transfer.NoSnapshots != nil && wire.Truthy(b.Transfer.NoSnapshots), Created: wire.Now()}
		err = s.DB.Txn(ctx, func(tx *store.Tx) error {
			_, err := s.TxUpdate(tx, v.ID, func(v *block.Volume) error {
				if v.Status != block.Available {
					return wire.InvalidVolume("status must be available")
				}
				if v.GroupID != "" { // a group's volumes are its project's
					return wire.InvalidVolume("Volume %s must not be part of a group.", v.ID)
				}
				v.Status = block.AwaitingTransfer
				return nil
			})
			if err != nil {
				return err
			}
			return s.transfers.TxCreate(tx, t)
		})
		if err != nil {
			return nil, err
		}
		view := t.view(r, at, true)
		view["auth_key"] = key
		return rest.JSON(202, map[string]any{"transfer": view}), nil
	}
}

func (s *Service) find(r *rest.Request) (*Transfer, error) {
	t, err := s.transfers.Get(r.Path("id"))
	if err != nil || !(r.Creds.Admin() || r.Creds.ProjectID == t.ProjectID) {
		return nil, wire.NotFound("Transfer", r.Path("id"))
	}
	return t, r.Enforce(policy.Target{"project_id": t.ProjectID})
}

func (s *Service) show(at string) rest.Handler {
	return func(_ context.Context, r *rest.Request) (*rest.Response, error) {
		t, err := s.find(r)
		if err != nil {
			return nil, err
		}
		return rest.JSON(200, map[string]any{"transfer": t.view(r, at, true)}), nil
	}
}

func (s *Service) remove(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	t, err := s.find(r)
	if err != nil {
		return nil, err
	}
	return rest.Empty(202), s.DB.Txn(ctx, func(tx *store.Tx) error {
		if err := s.transfers.TxDelete(tx, t.ID); err != nil {
			return wire.NotFound("Transfer", t.ID)
		}
		_, err := s.TxUpdate(tx, t.VolumeID, func(v *block.Volume) error {
			if v.Status == block.AwaitingTransfer {
				v.Status = block.Available
			}
			return nil
		})
		if errs.Is(err, errs.NotFound) {
			return nil
		}
		return err
	})
}

func (s *Service) accept(at string) rest.Handler {
	return func(ctx context.Context, r *rest.Request) (*rest.Response, error) {
		var b struct {
			Accept struct {
				Key any `json:"auth_key"`
			} `json:"accept"`
		}
		if err := r.Decode(&b); err != nil {
			return nil, err
		}
		t, err := s.transfers.Get(r.Path("id"))
		if err != nil {
			return nil, wire.NotFound("Transfer", r.Path("id"))
		}
		key, _ := b.Accept.Key.(string)
		if subtle.ConstantTimeCompare(digest(t.Salt, key), t.Hash) != 1 {
			return nil, errs.Invalidf("Invalid auth key: Attempt to transfer %s with invalid auth key.", t.ID)
		}
		if err := s.Ledger.Do(ctx, func(tx *store.Tx) error { return s.move(tx, r.Creds, t) }); err != nil {
			return nil, err
		}
		return rest.JSON(202, map[string]any{"transfer": t.view(r, at, false)}), nil
	}
}

// move gives the volume, and its snapshots unless they stay, to the caller's project.
func (s *Service) move(tx *store.Tx, c *policy.Credentials, t *Transfer) error {
	if err := s.transfers.TxDelete(tx, t.ID); err != nil {
		return wire.NotFound("Transfer", t.ID)
	}
	v, err := s.Volumes.TxGet(tx, t.VolumeID)
	if err != nil {
		return wire.NotFound("Volume", t.VolumeID)
	}
	if v.Status != block.AwaitingTransfer {
		return wire.InvalidVolume("Transfer %s: Volume id %s expected in awaiting-transfer state.", t.ID, v.ID)
	}
	more := s.VolumeCost(v.TypeID, v.SizeGiB)
	snaps := s.Snapshots.TxBy(tx, "volume", v.ID)
	if t.NoSnapshots {
		snaps = nil
	}
	for _, x := range snaps {
		for k, n := range s.SnapshotCost(x.TypeID, x.SizeGiB) {
			more[k] += n
		}
	}
	if c.ProjectID != v.ProjectID {
		if err := s.Charge(tx, c.ProjectID, more); err != nil {
			return err
		}
	}
	for _, x := range snaps {
		if _, err := s.Snapshots.TxUpdate(tx, x.ID, func(x *block.Snapshot) error { x.ProjectID, x.UserID = c.ProjectID, c.UserID; return nil }); err != nil {
			return err
		}
	}
	_, err = s.TxUpdate(tx, v.ID, func(v *block.Volume) error {
		v.ProjectID, v.UserID, v.Status = c.ProjectID, c.UserID, block.Available
		return nil
	})
	return err
}
