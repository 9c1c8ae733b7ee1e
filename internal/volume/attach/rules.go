package attach

import (
	"context"
	"slices"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/store"
	"github.com/strata-cloud/strata/internal/volume/block"
	"github.com/strata-cloud/strata/internal/volume/wire"
)

// Service is the rules of attaching.
type Service struct{ *block.Core }

// New makes the rules over the records.
func New(core *block.Core) *Service { return &Service{core} }

// Claim is a wish to use a volume.
type Claim struct {
	ID, VolumeID, Server, Mode string
	Compute                    bool
	// Container: a file system is made of it, which one host writes.
	Container bool
}

// Reserve claims the volume. The same claim again changes nothing.
func (s *Service) Reserve(ctx context.Context, c Claim) (*block.Attachment, error) {
	var out *block.Attachment
	err := s.DB.Txn(ctx, func(tx *store.Tx) error {
		if have, err := s.Attachments.TxGet(tx, c.ID); err == nil {
			out = have
			return nil
		}
		v, err := s.Volumes.TxGet(tx, c.VolumeID)
		if err != nil {
			return wire.NotFound("Volume", c.VolumeID)
		}
		if err := s.free(tx, v, c.Server); err != nil {
			return err
		}
		if err := s.written(tx, v, c); err != nil {
			return err
		}
		if v.ReadOnly != nil && *v.ReadOnly && c.Mode == "rw" {
			return wire.InvalidVolume("Invalid attaching mode 'rw' for volume %s.", v.ID)
		}
		out = &block.Attachment{ID: c.ID, VolumeID: v.ID, ProjectID: v.ProjectID, Server: c.Server, Mode: c.Mode, Status: block.AttachReserved, Compute: c.Compute, Container: c.Container, Created: wire.Now()}
		if err := s.Attachments.TxCreate(tx, out); err != nil {
			return err
		}
		return s.rest(tx, v.ID)
	})
	return out, err
}

// written refuses a file system on a volume that somebody else writes, or reads while
// it is written: each would see what the other's memory has not.
func (s *Service) written(tx *store.Tx, v *block.Volume, c Claim) error {
	for _, a := range s.Attachments.TxBy(tx, "volume", v.ID) {
		if (c.Container || a.Container) && (c.Mode != "ro" || a.Mode != "ro") {
			return wire.InvalidVolume("Volume %s is attached elsewhere: a file system is shared read-only alone.", v.ID)
		}
	}
	return nil
}

// free tells whether somebody may claim the volume now. A server that has it
// already may claim it again: it is about to move.
func (s *Service) free(tx *store.Tx, v *block.Volume, server string) error {
	may := []block.Status{block.Available, block.Downloading}
	if v.Multiattach {
		may = append(may, block.InUse, block.Reserved, block.Attaching, block.Detaching)
	}
	if v.In(may...) {
		return nil
	}
	if v.In(block.InUse, block.Reserved, block.Attaching) && server != "" {
		for _, a := range s.Attachments.TxBy(tx, "volume", v.ID) {
			if a.Server == server {
				return nil
			}
		}
	}
	if v.Multiattach {
		may = may[:3]
	}
	return wire.InvalidVolume("Volume %s status must be %s to reserve, but the current status is %s.", v.ID, block.Words(may...), v.Status)
}

// rest gives the volume the status that its attachments make, unless something else
// is being done with it; the states in also are no such thing.
func (s *Service) rest(tx *store.Tx, id string, also ...block.Status) error {
	rest := s.Rest(tx, id)
	_, err := s.TxUpdate(tx, id, func(v *block.Volume) error {
		if v.In(block.Available, block.Reserved, block.Attaching, block.Detaching, block.InUse) || v.In(also...) {
			v.Status = rest
		}
		return nil
	})
	if errs.Is(err, errs.NotFound) {
		return nil
	}
	return err
}

// Change alters an attachment and settles its volume.
func (s *Service) Change(ctx context.Context, id string, fn func(*block.Volume, *block.Attachment) error) (*block.Attachment, error) {
	var out *block.Attachment
	err := s.DB.Txn(ctx, func(tx *store.Tx) error {
		a, err := s.Attachments.TxGet(tx, id)
		if err != nil {
			return notFound(id)
		}
		v, err := s.Volumes.TxGet(tx, a.VolumeID)
		if err != nil {
			return wire.NotFound("Volume", a.VolumeID)
		}
		if out, err = s.Attachments.TxUpdate(tx, id, func(a *block.Attachment) error { return fn(v, a) }); err != nil {
			return err
		}
		return s.rest(tx, v.ID)
	})
	return out, err
}

func notFound(id string) error {
	return errs.NotFoundf("Volume attachment could not be found with filter: attachment_id = %s.", id)
}

// Connect binds the attachment to the host that will use the volume. It waits until
// other hosts that did reach it no more.
func (s *Service) Connect(ctx context.Context, id, host, device, mode string, connector map[string]any) (*block.Attachment, error) {
	var before block.Attachment
	out, err := s.Change(ctx, id, func(v *block.Volume, a *block.Attachment) error {
		before = *a
		return bind(v, a, host, device, mode, connector)
	})
	if err != nil {
		return nil, err
	}
	return out, s.awaitClosed(ctx, &before, without(before.Peers, out.Peers))
}

func bind(v *block.Volume, a *block.Attachment, host, device, mode string, connector map[string]any) error {
	if v.In(block.Errored, block.ErrorRestoring, block.ErrorExtending, block.ErrorDeleting) {
		return wire.InvalidVolume("Volume attachments can not be updated if the volume is in an error state. The Volume %s currently has a status of: %s ", v.ID, v.Status)
	}
	if mode != "" {
		a.Mode = mode
	}
	if a.Mode == "" || a.Mode == "null" {
		a.Mode = "rw"
	}
	if v.ReadOnly != nil && *v.ReadOnly && a.Mode != "ro" {
		return wire.InvalidVolume("Invalid attaching mode '%s' for volume %s.", a.Mode, v.ID)
	}
	a.Host, a.Connector = host, connector
	if device != "" {
		a.Mountpoint = device
	}
	if a.Status == block.AttachReserved {
		a.Status = block.AttachAttaching
	}
	return keepOnly(v, a, host)
}

// Complete says that the volume is in use.
func (s *Service) Complete(ctx context.Context, id string) error {
	a, err := s.Change(ctx, id, func(_ *block.Volume, a *block.Attachment) error {
		if a.Status != block.AttachAttached {
			a.Status, a.AttachedAt = block.AttachAttached, wire.Now()
		}
		return nil
	})
	if err != nil {
		return err
	}
	_, err = s.Update(ctx, a.VolumeID, func(v *block.Volume) error {
		if v.ReadOnly == nil {
			v.ReadOnly = new(bool)
		}
		return nil
	})
	return err
}

// Detaching marks a volume as on its way out of a server.
func (s *Service) Detaching(ctx context.Context, id string, begin bool) error {
	from, to, vfrom, vto := block.AttachAttached, block.AttachDetaching, block.InUse, block.Detaching
	if !begin {
		from, to, vfrom, vto = to, from, vto, vfrom
	}
	return s.DB.Txn(ctx, func(tx *store.Tx) error {
		a, err := s.Attachments.TxGet(tx, id)
		if err != nil {
			return notFound(id)
		}
		if a.Status == to {
			return nil
		}
		if a.Status != from && begin {
			return wire.InvalidVolume("Unable to detach volume. Volume status must be 'in-use' and attach_status must be 'attached' to detach.")
		}
		if _, err := s.Attachments.TxUpdate(tx, id, func(a *block.Attachment) error { a.Status = to; return nil }); err != nil {
			return err
		}
		_, err = s.TxUpdate(tx, a.VolumeID, func(v *block.Volume) error {
			if v.Status == vfrom {
				v.Status = vto
			}
			return nil
		})
		return err
	})
}

// Release ends an attachment. Absent is fine. Hosts that reach the volume by it do so
// no more when it becomes free. also, unless nil, happens in the same transaction.
func (s *Service) Release(ctx context.Context, id string, also func(*store.Tx) error) error {
	if err := s.shut(ctx, id); err != nil {
		return err
	}
	return s.DB.Txn(ctx, func(tx *store.Tx) error {
		if err := s.freeTx(tx, id); err != nil || also == nil {
			return err
		}
		return also(tx)
	})
}

func (s *Service) freeTx(tx *store.Tx, id string) error {
	a, err := s.Attachments.TxGet(tx, id)
	if err != nil {
		return nil
	}
	if a.Status != block.AttachAttached && a.Status != block.AttachDetaching {
		return s.end(tx, a)
	}
	// A volume that nobody has any more is available, whatever it was declared to be.
	return s.end(tx, a, block.Errored, block.ErrorExtending)
}

func (s *Service) end(tx *store.Tx, a *block.Attachment, also ...block.Status) error {
	if err := s.Attachments.TxDelete(tx, a.ID); err != nil {
		return err
	}
	return s.rest(tx, a.VolumeID, also...)
}

// others lists the attachments of a volume, but for one.
func (s *Service) others(volume, but string) []*block.Attachment {
	return slices.DeleteFunc(slices.Clone(s.Attachments.By("volume", volume)), func(a *block.Attachment) bool { return a.ID == but })
}
