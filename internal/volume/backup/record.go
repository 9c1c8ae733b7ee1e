package backup

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"

	"github.com/google/uuid"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/rest"
	"github.com/strata-cloud/strata/internal/store"
	"github.com/strata-cloud/strata/internal/volume/block"
	"github.com/strata-cloud/strata/internal/volume/wire"
)

// serviceName is what a record says it is for, in the form of upstream's drivers.
const serviceName = "cinder.backup.drivers.strata.VaultBackupDriver"

// exported is a record as users carry it, with upstream's names; what matters is
// sealed in Sealed, so that the rest may be changed and means nothing but words.
type exported struct {
	ID          string  `json:"id"`
	Name        *string `json:"display_name"`
	Description *string `json:"display_description"`
	Size        int     `json:"size"`
	Service     string  `json:"service"`
	Host        string  `json:"host"`
	Sealed      string  `json:"service_metadata"`
}

// export gives a backup's record (cinder/backup/api.py, export_record).
func (s *Service) export(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	b, err := s.find(r)
	if err != nil {
		return nil, err
	}
	if b.Status != block.Available {
		return nil, errs.Invalidf("Invalid backup: Backup status must be available and not %s.", b.Status)
	}
	note, err := json.Marshal(b)
	if err != nil {
		return nil, err
	}
	st, err := s.Nodes.Storage(b.Node)
	if err != nil {
		return nil, err
	}
	sealed, err := st.ExportBackup(ctx, b.ID, note)
	if err != nil {
		return nil, err
	}
	raw, err := json.Marshal(exported{b.ID, b.Name, b.Description, b.SizeGiB, serviceName, b.Node, sealed})
	if err != nil {
		return nil, err
	}
	return rest.JSON(200, map[string]any{"backup-record": map[string]string{"backup_service": serviceName, "backup_url": base64.StdEncoding.EncodeToString(raw)}}), nil
}

// decode reads a record (cinder/objects/backup.py, decode_record).
func decode(url string) (exported, error) {
	var e exported
	raw, err := base64.StdEncoding.DecodeString(url)
	if err != nil {
		return e, wire.InvalidInput("Can't decode backup record.")
	}
	if err := json.Unmarshal(raw, &e); err != nil {
		return e, wire.InvalidInput("Can't parse backup record.")
	}
	if e.ID == "" {
		return e, wire.InvalidInput("Provided backup record is missing an id")
	}
	if id, err := uuid.Parse(e.ID); err != nil || id.String() != e.ID {
		return e, wire.InvalidInput("The id of the provided backup record is no UUID in lower case.")
	}
	for _, word := range []*string{e.Name, e.Description} {
		if word != nil && len(*word) > 255 {
			return e, wire.InvalidInput("A name or a description of the provided backup record is longer than 255 bytes.")
		}
	}
	return e, nil
}

// importRecord makes a backup known that the vault still has. Only what the vault
// itself sealed is believed: where the data is, whose key it needs, how large it is.
func (s *Service) importRecord(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	var in struct {
		Record struct {
			Service string `json:"backup_service"`
			URL     string `json:"backup_url"`
		} `json:"backup-record"`
	}
	if err := r.Decode(&in); err != nil {
		return nil, err
	}
	if err := r.Enforce(r.Own()); err != nil {
		return nil, err
	}
	if in.Record.Service != serviceName {
		return nil, wire.InvalidInput("No backup service here reads records of %s.", in.Record.Service)
	}
	e, err := decode(in.Record.URL)
	if err != nil {
		return nil, err
	}
	b, err := s.recall(ctx, e)
	if err != nil {
		return nil, err
	}
	b.ID, b.Name, b.Description, b.ProjectID, b.UserID, b.Created = e.ID, wire.Trim(e.Name), wire.Trim(e.Description), r.Creds.ProjectID, r.Creds.UserID, wire.Now()
	b.Status, b.FailReason, b.RestoreTo, b.Updated = block.Creating, "", "", wire.Now()
	if _, err := s.Types.Find(r.Creds, b.TypeID); err != nil {
		b.TypeID = "" // of another cloud or of others only
	}
	err = s.Ledger.Do(ctx, func(tx *store.Tx) error {
		if _, err := s.Backups.TxGet(tx, b.ID); err == nil {
			return errs.Invalidf("Invalid backup: Backup already exists in database.")
		}
		// The manifest is whole without its parent, which may be another's or gone.
		if p, err := s.Backups.TxGet(tx, b.ParentID); b.ParentID != "" && (err != nil || p.ProjectID != b.ProjectID) {
			b.ParentID = ""
		}
		if err := s.Charge(tx, b.ProjectID, map[string]int{"backups": 1, "backup_gigabytes": b.SizeGiB}); err != nil {
			return err
		}
		if err := s.Backups.TxCreate(tx, b); err != nil {
			return err
		}
		return s.Begin(tx, r.ID, r.Creds, sagaImport, "import backup", b.ID, importArgs{args{b.ID, r.ID}, e.Sealed})
	})
	if err != nil {
		return nil, err
	}
	return rest.JSON(201, map[string]any{"backup": brief(r, b)}), nil
}

// recall finds the node whose vault sealed the record, and what it sealed.
func (s *Service) recall(ctx context.Context, e exported) (*block.Backup, error) {
	refused := error(errs.Invalidf("Invalid backup: The record is not of a backup that is kept here."))
	for _, n := range s.Nodes.Infos.All() {
		st, err := s.Nodes.Storage(n.ID)
		if err != nil {
			continue
		}
		rec, err := st.ReadRecord(ctx, e.Sealed, e.ID)
		switch {
		case errs.Is(err, errs.Invalid), errs.Is(err, errs.NotFound):
			continue
		case errs.Is(err, errs.Conflict):
			return nil, errs.Invalidf("Invalid backup: Another backup has the id %s.", e.ID)
		case err != nil:
			return nil, err
		}
		var b block.Backup
		if err := json.Unmarshal(rec.Note, &b); err != nil {
			return nil, err
		}
		b.Node, b.SizeGiB = n.ID, int((rec.Size+1<<30-1)>>30)
		return &b, nil
	}
	return nil, refused
}

type importArgs struct {
	args
	Record string
}

// adopt has the vault know the backup by its id. It has no undo: the data may be
// all that is left of the volume, and a record in error is its owner's to delete.
func (s *Service) adopt(ctx context.Context, j *block.Job) error {
	var a importArgs
	if err := j.Read(&a); err != nil {
		return err
	}
	b, err := s.Backups.Get(a.Backup)
	if err != nil {
		return err
	}
	st, err := s.Nodes.Storage(b.Node)
	if err != nil {
		return err
	}
	got, err := st.ImportBackup(ctx, b.ID, a.Record)
	if errs.Is(err, errs.Conflict) { // what has the id there is not this backup's to delete
		return errors.Join(err, s.set(ctx, b.ID, func(b *block.Backup) { b.Node = "" }))
	}
	if err != nil {
		return err
	}
	return s.set(ctx, b.ID, func(b *block.Backup) { b.Objects = got.Objects })
}

func (s *Service) imported(ctx context.Context, j *block.Job) error {
	return s.set(ctx, j.Volume, func(b *block.Backup) { b.Status = block.Available })
}

func (s *Service) importFailed(ctx context.Context, j *block.Job, cause error) error {
	s.Log.Warn("a backup was not imported", "op", "import backup", "err", cause)
	return s.set(ctx, j.Volume, func(b *block.Backup) {
		b.Status, b.FailReason = block.Errored, "The node could not import the backup."
	})
}
