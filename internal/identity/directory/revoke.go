package directory

import (
	"context"
	"time"

	"github.com/strata-cloud/strata/internal/identity/token"
	"github.com/strata-cloud/strata/internal/store"
)

// key is the one field by which a revocation is looked up.
func (r *Revocation) key() string {
	switch {
	case r.AuditID != "":
		return "audit:" + r.AuditID
	case r.TrustID != "":
		return "trust:" + r.TrustID
	case r.AppCredID != "":
		return "appcred:" + r.AppCredID
	case r.UserID != "":
		return "user:" + r.UserID
	}
	return "project:" + r.ProjectID
}

// Revoked tells whether a token has been voided.
func (d *Directory) Revoked(p *token.Payload) bool {
	if d.Revocations.Len() == 0 {
		return false
	}
	keys := []string{"audit:" + token.AuditText(p.AuditID), "user:" + p.UserID}
	if p.Scope == token.Project || p.Scope == token.Trust {
		keys = append(keys, "project:"+p.ScopeID)
	}
	if p.TrustID != "" {
		keys = append(keys, "trust:"+p.TrustID)
	}
	if p.AppCredID != "" {
		keys = append(keys, "appcred:"+p.AppCredID)
	}
	for _, k := range keys {
		for _, r := range d.Revocations.By("match", k) {
			if !p.IssuedAt.After(r.IssuedBefore) {
				return true
			}
		}
	}
	return false
}

// TxRevoke voids the tokens that match r and were issued until now.
func (d *Directory) TxRevoke(tx *store.Tx, r Revocation) error {
	r.ID = NewID()
	r.IssuedBefore = time.Now().UTC()
	r.Until = r.IssuedBefore.Add(d.tokenTTL)
	return d.Revocations.TxCreate(tx, &r)
}

// PurgeRevocations forgets what can no longer match a living token.
func (d *Directory) PurgeRevocations(ctx context.Context, now time.Time) (int, error) {
	var due []string
	for _, r := range d.Revocations.All() {
		if now.After(r.Until) {
			due = append(due, r.ID)
		}
	}
	for at := 0; at < len(due); at += 64 {
		batch := due[at:min(at+64, len(due))]
		err := d.Write(ctx, func(tx *store.Tx) error {
			for _, id := range batch {
				if err := txDrop(tx, d.Revocations, id); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return at, err
		}
	}
	return len(due), nil
}
