package node

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"

	"github.com/strata-cloud/strata/internal/blockdev/volumes"
	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/nodeapi"
)

// MoveVolume implements nodes.Storage. A copy that an earlier call left is not
// trusted to be whole: it is made again.
func (s *Storage) MoveVolume(ctx context.Context, from, to nodeapi.VolumeRef) error {
	there, err := s.driver(to)
	if err != nil {
		return err
	}
	here, err := s.driver(from)
	if err != nil {
		return err
	}
	defer s.busy.Lock(from.ID)()
	if err := s.unused(ctx, from); err != nil {
		return err
	}
	same := from.Driver == to.Driver && from.Pool == to.Pool
	// A repeated call finds a volume in its place that has its new key already.
	if err := s.sweep(ctx, here, from, nil); err != nil && !(same && errs.Is(err, errs.Invalid)) {
		return err
	}
	if same {
		return recrypt(ctx, here, from, to)
	}
	if err := there.Delete(ctx, to); err != nil {
		return err
	}
	if err := copyTo(ctx, here, from, there, to); err != nil {
		return errors.Join(err, there.Delete(context.WithoutCancel(ctx), to))
	}
	return nil
}

func recrypt(ctx context.Context, d volumes.Driver, from, to nodeapi.VolumeRef) error {
	if (len(from.Key) > 0) == (len(to.Key) > 0) {
		return nil
	}
	r, ok := d.(volumes.Recrypter)
	if !ok {
		return errs.New(errs.NotImplemented, "the driver %s does not encrypt", from.Driver)
	}
	return r.Recrypt(ctx, from, to)
}

func copyTo(ctx context.Context, here volumes.Driver, from nodeapi.VolumeRef, there volumes.Driver, to nodeapi.VolumeRef) error {
	size, err := here.Size(ctx, from, "")
	if err != nil {
		return err
	}
	if err := there.Create(ctx, to, size, volumes.Origin{}); err != nil {
		return err
	}
	src, err := here.Open(ctx, from, "")
	if err != nil {
		return err
	}
	dst, err := there.Open(ctx, to, "")
	if err != nil {
		return errors.Join(err, src.Close())
	}
	return errors.Join(volumes.Copy(ctx, dst, src), dst.Close(), src.Close())
}

// adopter is the driver, if it can take volumes in and give them away.
func (s *Storage) adopter(driver string) (volumes.Adopter, error) {
	d, err := s.driver(nodeapi.VolumeRef{Driver: driver})
	if err != nil {
		return nil, err
	}
	if a, ok := d.(volumes.Adopter); ok {
		return a, nil
	}
	return nil, errs.New(errs.NotImplemented, "the driver %s does not manage what it did not make", driver)
}

// ForeignVolumes implements nodes.Storage.
func (s *Storage) ForeignVolumes(ctx context.Context, driver, pool string) ([]nodeapi.Foreign, error) {
	a, err := s.adopter(driver)
	if err != nil {
		return nil, err
	}
	return a.Foreign(ctx, pool)
}

// ForeignSnapshots implements nodes.Storage; frozen views are nobody's.
func (s *Storage) ForeignSnapshots(ctx context.Context, v nodeapi.VolumeRef) ([]nodeapi.Foreign, error) {
	var out []nodeapi.Foreign
	err := s.work(ctx, v, func(d volumes.Driver, _ volumes.User) error {
		names, err := d.Snapshots(ctx, v)
		if err != nil {
			return err
		}
		for _, n := range names {
			if strings.HasPrefix(n, viewMark) {
				continue
			}
			size, err := d.Size(ctx, v, n)
			if err != nil {
				return err
			}
			out = append(out, nodeapi.Foreign{Name: n, Bytes: size})
		}
		return nil
	})
	return out, err
}

// AdoptVolume implements nodes.Storage.
func (s *Storage) AdoptVolume(ctx context.Context, v nodeapi.VolumeRef, name string) error {
	a, err := s.adopter(v.Driver)
	if err != nil {
		return err
	}
	defer s.busy.Lock(v.ID)()
	return a.Adopt(ctx, v, name)
}

// ReleaseVolume implements nodes.Storage.
func (s *Storage) ReleaseVolume(ctx context.Context, v nodeapi.VolumeRef, name string) error {
	a, err := s.adopter(v.Driver)
	if err != nil {
		return err
	}
	return s.work(ctx, v, func(volumes.Driver, volumes.User) error {
		if err := s.unused(ctx, v); err != nil {
			return err
		}
		if err := a.Release(ctx, v, name); err != nil {
			return err
		}
		return os.RemoveAll(filepath.Join(s.Dir, v.ID))
	})
}
