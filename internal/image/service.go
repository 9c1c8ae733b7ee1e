package image

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/image/metadef"
	"github.com/strata-cloud/strata/internal/policy"
	"github.com/strata-cloud/strata/internal/store"
)

// Inspector looks at an image's bytes as they stream by.
type Inspector interface {
	// Write takes the next bytes. An error ends the inspection: the content is unsafe.
	io.Writer
	// Finish tells what the content is: a name such as "qcow2", "raw" when it is
	// nothing else; the size of the disk in bytes, 0 when it is not known; and in
	// unsafe why it must not be used, such as a reference to another file.
	Finish() (format string, virtualSize int64, unsafe error)
}

// Options configure the service.
type Options struct {
	DB  *store.DB
	Log *slog.Logger
	// Dir holds the data; it is made if it is absent. One file system, because
	// files are renamed inside it.
	Dir string
	// NewInspector makes an inspector for one stream.
	NewInspector func() Inspector
	// MaxSize bounds one image in bytes. Default 1 TiB, upstream's image_size_cap.
	MaxSize int64
	// ProjectLimit bounds the data of a project in bytes; 0: no limit.
	ProjectLimit int64
}

// Service is the image service.
type Service struct {
	Options
	images  *store.Collection[Image]
	ledger  *store.Ledger
	metadef *metadef.Catalogue

	mu   sync.Mutex
	busy map[string]bool // files being written, which the sweep leaves alone
}

// New registers the collection: call it before db.Start.
func New(o Options) *Service {
	if o.MaxSize == 0 {
		o.MaxSize = 1 << 40
	}
	return &Service{Options: o, images: register(o.DB), ledger: o.DB.Ledger("image"), metadef: metadef.New(o.DB), busy: map[string]bool{}}
}

// Start makes the directory and clears what a crash left: call it after db.Start
// and before serving.
func (s *Service) Start(ctx context.Context) error {
	if err := os.MkdirAll(s.Dir, 0o750); err != nil {
		return err
	}
	if err := s.requeue(ctx); err != nil {
		return err
	}
	return s.Sweep()
}

// Image gives an image that the caller may see; NotFound otherwise. It is
// shared: never change it.
func (s *Service) Image(_ context.Context, c *policy.Credentials, id string) (*Image, error) {
	v, err := s.images.Get(id)
	if err != nil || !v.visibleTo(c) {
		return nil, errs.NotFoundf("No image found with ID %s", id)
	}
	return v, nil
}

// Path is the local file with the data of an active image, to be read only. It
// stays valid until the image is deleted.
func (s *Service) Path(id string) (string, error) {
	v, err := s.images.Get(id)
	if err != nil {
		return "", errs.NotFoundf("No image found with ID %s", id)
	}
	if v.Status != Active && v.Status != Deactivated {
		return "", errs.Conflictf("Image %s has no data: it is %s", id, v.Status)
	}
	path := s.file(v.Blob)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return "", errs.New(errs.Unavailable, "The data of image %s is not on this member of the control plane: it is there once another that has it answers", id)
	}
	return path, nil
}

// Files are the files that the records name, with their bytes.
func (s *Service) Files() map[string]int64 {
	out := map[string]int64{}
	for _, v := range s.images.All() {
		if v.Blob != "" && v.Size != nil {
			out[v.Blob] = *v.Size
		}
		if v.Staged != nil {
			out[v.Staged.Blob] = v.Staged.Result.Size
		}
	}
	return out
}

// Open opens the data of an active image. The reader works even if the image is
// deleted meanwhile.
func (s *Service) Open(_ context.Context, id string) (*os.File, error) {
	path, err := s.Path(id)
	if err != nil {
		return nil, err
	}
	return os.Open(path)
}

// Named lists the active images of that name and owner, oldest first.
func (s *Service) Named(owner, name string) []*Image {
	var out []*Image
	for _, v := range s.images.By("owner", owner) {
		if v.Status == Active && v.Name != nil && *v.Name == name {
			out = append(out, v)
		}
	}
	slices.SortFunc(out, func(a, b *Image) int { return a.Created.Compare(b.Created) })
	return out
}

func (s *Service) file(name string) string { return filepath.Join(s.Dir, name) }
