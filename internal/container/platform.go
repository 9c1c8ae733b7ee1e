package container

import (
	"context"
	"encoding/json"
	"errors"
	"slices"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/image"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/strata-cloud/strata/internal/errs"
)

// anyPlatform matches every platform, and prefers this machine's.
type anyPlatform struct{ platforms.MatchComparer }

// Match implements platforms.Matcher.
func (anyPlatform) Match(ocispec.Platform) bool { return true }

// matchPlatform is what a client asks for: one platform exactly, or, with nil, all.
func matchPlatform(p *ocispec.Platform) platforms.MatchComparer {
	if p == nil {
		return anyPlatform{platforms.Default()}
	}
	return platforms.OnlyStrict(*p)
}

// part is a manifest of an image. There are several where it is for several platforms,
// or has attestations.
type part struct {
	desc     ocispec.Descriptor
	manifest ocispec.Manifest
	config   imageFile
	here     bool // with all that belongs to it
}

// imageFile is what a part's configuration tells.
type imageFile struct {
	ocispec.Platform
	RootFS ocispec.RootFS `json:"rootfs"`
}

// The annotations of a manifest that is about another one, as BuildKit writes them.
const (
	referenceType   = "vnd.docker.reference.type"
	referenceDigest = "vnd.docker.reference.digest"
	attestation     = "attestation-manifest"
)

func (p part) attests() bool { return p.desc.Annotations[referenceType] == attestation }

// pseudo tells whether a part is no image: containers cannot be made from it.
func (p part) pseudo() bool {
	return p.attests() || len(p.manifest.Layers) > 0 && !slices.ContainsFunc(p.manifest.Layers, func(l ocispec.Descriptor) bool { return images.IsLayerType(l.MediaType) })
}

// parts lists the manifests of an image, whether they are here or not.
func (d *Daemon) parts(ctx context.Context, target ocispec.Descriptor) (out []part, err error) {
	cs := d.engine.Client.ContentStore()
	switch {
	case images.IsIndexType(target.MediaType):
		children, err := images.Children(ctx, cs, target)
		if err != nil {
			return nil, ignoreMissing(err)
		}
		for _, c := range children {
			more, err := d.parts(ctx, c)
			if err != nil {
				return nil, err
			}
			out = append(out, more...)
		}
		return out, nil
	case !images.IsManifestType(target.MediaType):
		return nil, nil
	}
	p := part{desc: target}
	if p.here, _, _, _, err = images.Check(ctx, cs, target, platforms.All); err != nil && !errdefs.IsNotFound(err) {
		return nil, err
	}
	if err := readBlob(ctx, cs, target, &p.manifest); err != nil {
		p.here = false
		return []part{p}, ignoreMissing(err)
	}
	if err := readBlob(ctx, cs, p.manifest.Config, &p.config); err != nil {
		p.here = false
		return []part{p}, ignoreMissing(err)
	}
	return []part{p}, nil
}

func readBlob(ctx context.Context, cs content.Provider, desc ocispec.Descriptor, v any) error {
	raw, err := content.ReadBlob(ctx, cs, desc)
	if err != nil {
		return err
	}
	return json.Unmarshal(raw, v)
}

// platform is what a part is for: by its own words, or those of who refers to it.
func (p part) platform() ocispec.Platform {
	if p.desc.Platform != nil {
		return *p.desc.Platform
	}
	return p.config.Platform
}

// partFor gives the part of an image that is here and fits best.
func (d *Daemon) partFor(ctx context.Context, i *Image, m platforms.MatchComparer) (best part, ok bool, err error) {
	all, err := d.parts(ctx, i.Descriptor())
	for _, p := range all {
		if p.here && !p.pseudo() && m.Match(p.platform()) && (!ok || m.Less(p.platform(), best.platform())) {
			best, ok = p, true
		}
	}
	return best, ok, err
}

// OfPlatform is the part of an image that is for a platform, as an image of its own.
func (d *Daemon) OfPlatform(ctx context.Context, i *Image, ref string, p ocispec.Platform) (*Image, error) {
	ctx = d.request(ctx)
	m := platforms.OnlyStrict(p)
	found, ok, err := d.partFor(ctx, i, m)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, noPlatform(ref, p)
	}
	one := &Image{ID: found.desc.Digest.String(), names: i.names, Created: i.Created,
		image: client.NewImageWithPlatform(d.engine.Client, images.Image{Name: i.names[0], Target: found.desc, CreatedAt: i.Created}, m)}
	return one, one.load(ctx)
}

// noPlatform is dockerd's answer where an image is not for the platform.
func noPlatform(ref string, p ocispec.Platform) error {
	return errs.NotFoundf("image with reference %s was found but does not provide the specified platform (%s)", ref, platforms.FormatAll(p))
}

// ownPart describes the manifest of an image that this machine runs; nil when there is none.
func (d *Daemon) ownPart(ctx context.Context, i *Image) *ocispec.Descriptor {
	p, ok, err := d.partFor(ctx, i, i.image.Platform())
	if err != nil || !ok {
		return nil
	}
	of := p.platform()
	p.desc.Platform = &of
	return &p.desc
}

// Manifests tells of every manifest of an image.
func (d *Daemon) Manifests(ctx context.Context, i *Image) ([]image.ManifestSummary, error) {
	ctx = d.request(ctx)
	all, err := d.parts(ctx, i.Descriptor())
	out := make([]image.ManifestSummary, 0, len(all))
	for _, p := range all {
		out = append(out, d.manifestView(ctx, p))
	}
	return out, err
}

func (d *Daemon) manifestView(ctx context.Context, p part) image.ManifestSummary {
	v := image.ManifestSummary{ID: p.desc.Digest.String(), Descriptor: p.desc, Available: p.here, Kind: image.ManifestKindImage}
	for _, b := range d.present(ctx, p) {
		v.Size.Content += b.Size
	}
	v.Size.Total = v.Size.Content
	if p.pseudo() {
		v.Kind = image.ManifestKindUnknown
		if of, err := digest.Parse(p.desc.Annotations[referenceDigest]); p.attests() && err == nil {
			v.Kind, v.AttestationData = image.ManifestKindAttestation, &image.AttestationProperties{For: of}
		}
		return v
	}
	v.ImageData = &image.ImageProperties{Platform: p.platform(), Containers: []string{}}
	if !p.here {
		return v
	}
	v.ImageData.Size.Unpacked = d.unpackedSize(ctx, p)
	v.Size.Total += v.ImageData.Size.Unpacked
	for _, c := range d.list() {
		if m := c.record().Manifest; m != nil && m.Digest == p.desc.Digest {
			v.ImageData.Containers = append(v.ImageData.Containers, c.id)
		}
	}
	return v
}

// present are the blobs of a part that are here, the manifest first.
func (d *Daemon) present(ctx context.Context, p part) (out []ocispec.Descriptor) {
	for _, b := range append([]ocispec.Descriptor{p.desc, p.manifest.Config}, p.manifest.Layers...) {
		if ok, err := content.Exists(ctx, d.engine.Client.ContentStore(), b); err == nil && ok {
			out = append(out, b)
		}
	}
	return out
}

// unpackedSize is what the layers of a part take where they are unpacked.
func (d *Daemon) unpackedSize(ctx context.Context, p part) (sum int64) {
	for _, id := range identity.ChainIDs(slices.Clone(p.config.RootFS.DiffIDs)) {
		if u, err := d.engine.Client.SnapshotService(d.engine.Snapshotter).Usage(ctx, id.String()); err == nil {
			sum += u.Size
		}
	}
	return sum
}

// RemovePlatforms removes the content of an image that is for these platforms; its names
// stay. What another part or image has, too, is kept.
func (d *Daemon) RemovePlatforms(ctx context.Context, ref string, of []ocispec.Platform, force bool) ([]Removed, error) {
	ctx = d.request(ctx)
	if !force {
		return nil, errs.Invalidf("Content will be removed from all images referencing this variant. Use --force to force delete.")
	}
	i, err := d.image(ctx, ref)
	if err != nil {
		return nil, err
	}
	gone := map[digest.Digest]bool{}
	var parts []part
	for _, p := range of {
		found, ok, err := d.partFor(ctx, i, platforms.OnlyStrict(p))
		if err == nil && !ok {
			err = noPlatform(ref, p)
		}
		if err != nil {
			return nil, errs.New(errs.KindOf(err), "failed to delete platform %s for image %s: %w", platforms.Format(p), i.ID, err)
		}
		if !gone[found.desc.Digest] {
			gone[found.desc.Digest], parts = true, append(parts, found)
		}
	}
	needed, err := d.neededBeside(ctx, gone)
	if err != nil {
		return nil, err
	}
	return d.removeParts(ctx, i, parts, needed)
}

// removeParts removes the blobs of parts, except those that others need.
func (d *Daemon) removeParts(ctx context.Context, i *Image, parts []part, needed map[digest.Digest]bool) ([]Removed, error) {
	out := []Removed{}
	for _, p := range parts {
		for _, b := range d.present(ctx, p) {
			if needed[b.Digest] {
				continue
			}
			if err := ignoreMissing(d.engine.Client.ContentStore().Delete(ctx, b.Digest)); err != nil {
				return out, err
			}
		}
		out = append(out, Removed{Deleted: p.desc.Digest.String()})
		d.tellImage(events.ActionDelete, i.ID, p.desc.Digest.String())
	}
	return out, nil
}

// neededBeside are the blobs that images need which are not of the manifests that go.
func (d *Daemon) neededBeside(ctx context.Context, gone map[digest.Digest]bool) (map[digest.Digest]bool, error) {
	list, err := d.all(ctx)
	if err != nil {
		return nil, err
	}
	needed := map[digest.Digest]bool{}
	var failed error
	for _, i := range list {
		all, err := d.parts(ctx, i.Descriptor())
		failed = errors.Join(failed, err)
		for _, p := range all {
			if gone[p.desc.Digest] {
				continue
			}
			for _, b := range d.present(ctx, p) {
				needed[b.Digest] = true
			}
		}
	}
	return needed, failed
}
