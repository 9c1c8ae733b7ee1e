package container

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"path/filepath"
	"strings"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/pkg/archive/compression"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"github.com/strata-cloud/strata/internal/errs"
)

// checkImage refuses an image of an archive whose layers would lead out of their
// directory, or are more than fits. containerd would keep the former inside, too; an
// archive that tries is none that one wants to have loaded.
func (d *Daemon) checkImage(ctx context.Context, i images.Image) error {
	all, err := d.parts(ctx, i.Target)
	if err != nil {
		return err
	}
	for _, p := range all {
		for _, l := range p.manifest.Layers {
			if !images.IsLayerType(l.MediaType) {
				continue // an attestation: nothing unpacks it
			}
			if err := ignoreMissing(d.checkLayer(ctx, l)); err != nil { // it may be for other machines
				return err
			}
		}
	}
	return nil
}

func (d *Daemon) checkLayer(ctx context.Context, l ocispec.Descriptor) error {
	ra, err := d.engine.Client.ContentStore().ReaderAt(ctx, l)
	if err != nil {
		return err
	}
	defer ra.Close()
	var st unix.Statfs_t
	if err := unix.Statfs(d.cfg.Dir, &st); err != nil {
		return err
	}
	room := int64(st.Bavail) * st.Bsize
	// Over something that seeks, an uncompressed archive is read by its headers alone.
	var r io.Reader = io.NewSectionReader(ra, 0, ra.Size())
	if plain := l.MediaType == ocispec.MediaTypeImageLayer || l.MediaType == images.MediaTypeDockerSchema2Layer; !plain {
		s, err := compression.DecompressStream(r)
		if err != nil {
			return errs.Invalidf("layer %s cannot be read: %s", l.Digest, err)
		}
		defer s.Close()
		r = s
	}
	if err := checkTar(r, room); err != nil {
		return fmt.Errorf("layer %s: %w", l.Digest, err)
	}
	return nil
}

// maxFiles bounds the number of a layer's files.
const maxFiles = 10_000_000

// checkTar refuses an archive that leads out of its directory or takes too much.
func checkTar(r io.Reader, room int64) error {
	in := tar.NewReader(r)
	for n := 0; ; n++ {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return errs.Invalidf("the archive cannot be read: %s", err)
		}
		if out(h.Name) {
			return errs.Invalidf("the archive leads out of its directory: %s", h.Name)
		}
		if h.Typeflag == tar.TypeLink && out(h.Linkname) {
			return errs.Invalidf("the archive leads out of its directory: %s is a link to %s", h.Name, h.Linkname)
		}
		if room -= h.Size; room < 0 || n > maxFiles {
			return errs.Invalidf("the archive does not fit here: %s is too much", h.Name)
		}
	}
}

// out tells whether a name is not below the directory that it is for.
func out(name string) bool {
	clean := path.Clean(strings.TrimLeft(name, "/"))
	return clean != "." && !filepath.IsLocal(clean)
}
