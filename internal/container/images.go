package container

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/docker/docker/api/types/events"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/strata-cloud/strata/internal/errs"
)

// imageConfig is what an image says about containers.
type imageConfig = dockerspec.DockerOCIImageConfig

// Image is one image under all its names. Its id is the digest of its manifest, or
// of its index of several.
type Image struct {
	ID      string
	Created time.Time
	names   []string // containerd's, never empty
	image   client.Image
	config  dockerspec.DockerOCIImage
}

// dangling begins the name of an image whose last name another has taken.
const dangling = "moby-dangling@"

// Tags are its names as docker writes them.
func (i *Image) Tags() []string {
	out := []string{}
	for _, n := range i.names {
		if !strings.HasPrefix(n, dangling) {
			out = append(out, familiar(n))
		}
	}
	return out
}

// Digests are its repositories with its digest.
func (i *Image) Digests() []string {
	out := []string{}
	for _, n := range i.names {
		if r, err := reference.ParseNormalizedNamed(n); err == nil && !strings.HasPrefix(n, dangling) {
			if d := reference.FamiliarName(r) + "@" + i.ID; !slices.Contains(out, d) {
				out = append(out, d)
			}
		}
	}
	return out
}

func familiar(name string) string {
	r, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return name
	}
	return reference.FamiliarString(r)
}

// canonical is containerd's name for what a client calls an image.
func canonical(ref string) (string, error) {
	r, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return "", errs.Invalidf("invalid reference format: %s", err)
	}
	return reference.TagNameOnly(r).String(), nil
}

// all lists images, the newest first.
func (d *Daemon) all(ctx context.Context) ([]*Image, error) {
	list, err := d.engine.Client.ImageService().List(ctx)
	if err != nil {
		return nil, err
	}
	byID := map[digest.Digest]*Image{}
	for _, i := range list {
		if known := byID[i.Target.Digest]; known != nil {
			known.names = append(known.names, i.Name)
			continue
		}
		byID[i.Target.Digest] = &Image{ID: i.Target.Digest.String(), names: []string{i.Name}, image: client.NewImage(d.engine.Client, i), Created: i.CreatedAt}
	}
	out := make([]*Image, 0, len(byID))
	for _, i := range byID {
		slices.Sort(i.names)
		if err := i.load(ctx); err != nil && !errdefs.IsNotFound(err) { // one for other machines has no config here
			return nil, fmt.Errorf("image %s: %w", i.ID, err)
		}
		out = append(out, i)
	}
	slices.SortFunc(out, func(a, b *Image) int { return b.Created.Compare(a.Created) })
	return out, nil
}

// load reads the image's configuration for this machine.
func (i *Image) load(ctx context.Context) error {
	desc, err := i.image.Config(ctx)
	if err != nil {
		return err
	}
	raw, err := content.ReadBlob(ctx, i.image.ContentStore(), desc)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(raw, &i.config); err != nil {
		return err
	}
	if i.config.Created != nil {
		i.Created = *i.config.Created
	}
	return nil
}

// image finds an image by name, id or the beginning of its id.
func (d *Daemon) image(ctx context.Context, ref string) (*Image, error) {
	if ref == "" {
		return nil, errs.Invalidf("no image is given")
	}
	list, err := d.all(ctx)
	if err != nil {
		return nil, err
	}
	name, nameErr := canonical(ref)
	hex := strings.TrimPrefix(ref, "sha256:")
	var found []*Image
	for _, i := range list {
		if nameErr == nil && slices.Contains(i.names, name) || slices.Contains(i.Digests(), ref) {
			return i, nil
		}
		if strings.HasPrefix(i.ID, "sha256:"+hex) {
			found = append(found, i)
		}
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) > 1:
		return nil, errs.Invalidf("multiple IDs found with provided prefix: %s", ref)
	case nameErr != nil:
		return nil, nameErr
	}
	return nil, errs.NotFoundf("No such image: %s", familiar(name))
}

// Images lists them.
func (d *Daemon) Images(ctx context.Context) ([]*Image, error) { return d.all(d.request(ctx)) }

// Image finds one.
func (d *Daemon) Image(ctx context.Context, ref string) (*Image, error) {
	return d.image(d.request(ctx), ref)
}

// Config is the image's configuration.
func (i *Image) Config() dockerspec.DockerOCIImage { return i.config }

// Descriptor says what the image is in a registry.
func (i *Image) Descriptor() ocispec.Descriptor { return i.image.Target() }

// Size is what it takes on disk: its content, and its layers unpacked.
func (d *Daemon) Size(ctx context.Context, i *Image) int64 {
	n, err := i.image.Usage(d.request(ctx), client.WithSnapshotUsage())
	if err != nil {
		return 0
	}
	return n
}

// name gives an image one more name. What had the name before becomes dangling.
func (d *Daemon) name(ctx context.Context, name string, target ocispec.Descriptor) error {
	d.images.Lock()
	defer d.images.Unlock()
	is := d.engine.Client.ImageService()
	old, err := is.Get(ctx, name)
	if errdefs.IsNotFound(err) {
		_, err = is.Create(ctx, images.Image{Name: name, Target: target})
		return err
	}
	if err != nil {
		return err
	}
	if old.Target.Digest == target.Digest {
		return nil
	}
	if err := d.keepDangling(ctx, name, old.Target); err != nil {
		return err
	}
	_, err = is.Update(ctx, images.Image{Name: name, Target: target}, "target")
	return err
}

// keepDangling keeps an image whose name is taken, if that is its last.
func (d *Daemon) keepDangling(ctx context.Context, name string, target ocispec.Descriptor) error {
	is := d.engine.Client.ImageService()
	list, err := is.List(ctx)
	if err != nil {
		return err
	}
	for _, i := range list {
		if i.Name != name && i.Target.Digest == target.Digest {
			return nil
		}
	}
	_, err = is.Create(ctx, images.Image{Name: dangling + target.Digest.String(), Target: target})
	if errdefs.IsAlreadyExists(err) {
		return nil
	}
	return err
}

// undangle drops the name by which keepDangling kept an image: it has another one again.
func (d *Daemon) undangle(ctx context.Context, target ocispec.Descriptor) error {
	return ignoreMissing(d.engine.Client.ImageService().Delete(ctx, dangling+target.Digest.String()))
}

// Tag gives an image one more name.
func (d *Daemon) Tag(ctx context.Context, ref, repo, tag string) error {
	ctx = d.request(ctx)
	i, err := d.image(ctx, ref)
	if err != nil {
		return err
	}
	name, err := tagged(repo, tag)
	if err != nil {
		return err
	}
	if err := d.name(ctx, name, i.Descriptor()); err != nil {
		return err
	}
	d.tellImage(events.ActionTag, i.ID, familiar(name))
	return d.undangle(ctx, i.Descriptor())
}

func tagged(repo, tag string) (string, error) {
	r, err := reference.ParseNormalizedNamed(repo)
	if err != nil {
		return "", errs.Invalidf("invalid reference format: %s", err)
	}
	if _, ok := r.(reference.Digested); ok {
		return "", errs.Invalidf("refusing to create a tag with a digest reference")
	}
	if tag != "" {
		if r, err = reference.WithTag(reference.TrimNamed(r), tag); err != nil {
			return "", errs.Invalidf("invalid tag format: %s", err)
		}
	}
	return reference.TagNameOnly(r).String(), nil
}

func (d *Daemon) tellImage(action events.Action, id, name string) {
	d.Events.send(events.ImageEventType, action, id, map[string]string{"name": name})
}

// Removed is what the removal of an image did.
type Removed struct {
	Untagged string `json:",omitempty"`
	Deleted  string `json:",omitempty"`
}

// RemoveImage takes a name from an image and, with its last, the image.
func (d *Daemon) RemoveImage(ctx context.Context, ref string, force bool) ([]Removed, error) {
	ctx = d.request(ctx)
	i, err := d.image(ctx, ref)
	if err != nil {
		return nil, err
	}
	name, err := canonical(ref)
	byName := err == nil && slices.Contains(i.names, name)
	names := i.names
	if byName && len(i.names) > 1 {
		return d.untag(ctx, i, []string{name}, false)
	}
	if !byName && len(i.Tags()) > 1 && !force {
		return nil, errs.Conflictf("conflict: unable to delete %s (must be forced) - image is referenced in multiple repositories", short(i.ID))
	}
	for _, c := range d.list() {
		r := c.record()
		if !r.uses(i.ID) {
			continue
		}
		if r.State.Running() && !(byName && force) {
			return nil, errs.Conflictf("conflict: unable to delete %s (cannot be forced) - image is being used by running container %s", familiar(ref), r.ID[:12])
		}
		if !force && byName {
			return nil, errs.Conflictf("conflict: unable to remove repository reference %q (must force) - container %s is using its referenced image %s", ref, r.ID[:12], short(i.ID))
		}
		if !force {
			return nil, errs.Conflictf("conflict: unable to delete %s (must be forced) - image is being used by stopped container %s", short(i.ID), r.ID[:12])
		}
	}
	return d.untag(ctx, i, names, true)
}

func short(id string) string { return strings.TrimPrefix(id, "sha256:")[:12] }

// untag removes names; with the last goes the image, whose content is collected.
func (d *Daemon) untag(ctx context.Context, i *Image, names []string, last bool) ([]Removed, error) {
	d.images.Lock()
	defer d.images.Unlock()
	out := []Removed{}
	for n, name := range names {
		var opts []images.DeleteOpt
		if last && n == len(names)-1 {
			opts = append(opts, images.SynchronousDelete())
		}
		if err := ignoreMissing(d.engine.Client.ImageService().Delete(ctx, name, opts...)); err != nil {
			return out, err
		}
		if !strings.HasPrefix(name, dangling) {
			out = append(out, Removed{Untagged: familiar(name)})
			d.tellImage(events.ActionUnTag, i.ID, familiar(name))
		}
	}
	if last {
		out = append(out, Removed{Deleted: i.ID})
		d.tellImage(events.ActionDelete, i.ID, i.ID)
	}
	return out, nil
}

// Layer is a step of an image's history.
type Layer struct {
	History ocispec.History
	Size    int64
}

// History gives the steps of an image, the last one first.
func (d *Daemon) History(ctx context.Context, i *Image) ([]Layer, error) {
	ctx = d.request(ctx)
	var sizes []int64
	manifest, err := images.Manifest(ctx, i.image.ContentStore(), i.Descriptor(), i.image.Platform())
	if err != nil {
		return nil, err
	}
	for _, l := range manifest.Layers {
		sizes = append(sizes, l.Size)
	}
	var out []Layer
	n := 0
	for _, h := range i.config.History {
		l := Layer{History: h}
		if !h.EmptyLayer && n < len(sizes) {
			l.Size = sizes[n]
			n++
		}
		out = append(out, l)
	}
	slices.Reverse(out)
	return out, nil
}

// PruneImages removes images that no container uses: those without a name, or all.
func (d *Daemon) PruneImages(ctx context.Context, all bool, keep func(*Image) bool) ([]Removed, int64, error) {
	list, err := d.Images(ctx)
	if err != nil {
		return nil, 0, err
	}
	containers := d.list()
	var out []Removed
	var freed int64
	for _, i := range list {
		if slices.ContainsFunc(containers, func(c *live) bool { return c.record().uses(i.ID) }) || !all && len(i.Tags()) > 0 || keep(i) {
			continue
		}
		size := d.Size(ctx, i)
		gone, err := d.untag(d.request(ctx), i, i.names, true)
		if err != nil {
			return out, freed, err
		}
		out, freed = append(out, gone...), freed+size
	}
	return out, freed, nil
}
