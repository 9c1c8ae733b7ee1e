package vault

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/nodeapi"
)

// secretBlob is the key that seals exported records. It is kept with the backups,
// so that their records can be read wherever the vault is.
const secretBlob = "secrets/records"

const secretSize = 32

// record is what an exported record seals.
type record struct {
	Backup string `json:"backup"`
	Note   []byte `json:"note"`
}

var errRecord = errs.Invalidf("this is no record of a backup in this vault")

// Export seals a note about a backup: without the vault it cannot be read, and
// none can be made up, so that a record is all that is needed to import the backup.
func (v *Vault) Export(ctx context.Context, id string, note []byte) (string, error) {
	if _, err := v.manifest(ctx, id); err != nil {
		return "", err
	}
	seal, err := v.sealer(ctx, true)
	if err != nil {
		return "", err
	}
	plain, err := json.Marshal(record{id, note})
	if err != nil {
		return "", err
	}
	nonce := make([]byte, seal.NonceSize())
	if _, err := rand.Read(nonce); err != nil {
		return "", err
	}
	return base64.RawURLEncoding.EncodeToString(seal.Seal(nonce, nonce, plain, []byte(secretBlob))), nil
}

// Record opens an exported record. Invalid: it is not of this vault; NotFound: its
// backup is gone; Conflict: as is the id of a backup that is not the same.
func (v *Vault) Record(ctx context.Context, text, as string) (nodeapi.BackupRecord, error) {
	r, m, err := v.open(ctx, text, as)
	if err != nil {
		return nodeapi.BackupRecord{}, err
	}
	return nodeapi.BackupRecord{Note: r.Note, Size: m.Size}, nil
}

// Import makes the backup that a record is about known by id as well. Each of the
// two may be deleted without the other. Its errors are Record's.
func (v *Vault) Import(ctx context.Context, id, text string) (nodeapi.BackupResult, error) {
	v.making.RLock()
	defer v.making.RUnlock()
	r, m, err := v.open(ctx, text, id)
	if err != nil {
		return nodeapi.BackupResult{}, err
	}
	if id == r.Backup {
		return m.result(), nil
	}
	blob, err := manifestBlob(id)
	if err != nil {
		return nodeapi.BackupResult{}, err
	}
	m.Stored = 0 // for this one nothing is stored
	data, err := m.encode()
	if err != nil {
		return nodeapi.BackupResult{}, err
	}
	if err := v.blobs.Put(ctx, blob, data); err != nil {
		return nodeapi.BackupResult{}, fmt.Errorf("importing backup %s: %w", id, err)
	}
	return m.result(), nil
}

func (v *Vault) open(ctx context.Context, text, as string) (record, *manifest, error) {
	var r record
	seal, err := v.sealer(ctx, false)
	if err != nil {
		return r, nil, err
	}
	raw, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil || len(raw) < seal.NonceSize() {
		return r, nil, errRecord
	}
	plain, err := seal.Open(nil, raw[:seal.NonceSize()], raw[seal.NonceSize():], []byte(secretBlob))
	if err != nil || json.Unmarshal(plain, &r) != nil {
		return r, nil, errRecord
	}
	m, err := v.manifest(ctx, r.Backup)
	if err != nil {
		return r, nil, err
	}
	switch have, err := v.manifest(ctx, as); {
	case errs.Is(err, errs.NotFound):
	case err != nil:
		return r, nil, err
	case have.Size != m.Size || have.Sealed != m.Sealed || !slices.Equal(have.names, m.names):
		return r, nil, errs.Conflictf("backup %s is in the vault and is another one", as)
	}
	return r, m, nil
}

// sealer is made of the vault's secret, which is made when it is first needed.
func (v *Vault) sealer(ctx context.Context, create bool) (cipher.AEAD, error) {
	v.secret.Lock()
	defer v.secret.Unlock()
	key, err := v.blobs.Get(ctx, secretBlob)
	switch {
	case errs.Is(err, errs.NotFound) && create:
		key = make([]byte, secretSize)
		if _, err := rand.Read(key); err != nil {
			return nil, err
		}
		if err := v.blobs.Put(ctx, secretBlob, key); err != nil {
			return nil, err
		}
	case errs.Is(err, errs.NotFound):
		return nil, errRecord // none was ever exported
	case err != nil:
		return nil, err
	}
	if len(key) != secretSize {
		return nil, errs.New(errs.Internal, "the vault's %s is damaged", secretBlob)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}
