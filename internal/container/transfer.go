package container

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/images/archive"
	"github.com/containerd/containerd/v2/pkg/archive/compression"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/docker/docker/api/types/events"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/strata-cloud/strata/internal/errs"
)

// Load takes images from an archive as docker save and OCI tools write them: all of
// each, or the part for one platform.
func (d *Daemon) Load(ctx context.Context, r io.Reader, of *ocispec.Platform) (loaded []string, err error) {
	ctx = d.request(ctx)
	is := d.engine.Client.ImageService()
	before, err := is.List(ctx)
	if err != nil {
		return nil, err
	}
	opts := []client.ImportOpt{client.WithImportPlatform(matchPlatform(of)),
		client.WithDigestRef(func(dg digest.Digest) string { return dangling + dg.String() }), client.WithSkipDigestRef(func(name string) bool { return name != "" })}
	if of == nil {
		opts = append(opts, client.WithSkipMissing())
	}
	got, err := d.engine.Client.Import(ctx, r, opts...)
	if err != nil {
		return nil, loadError(err, of)
	}
	if len(got) == 0 {
		return nil, errs.Invalidf("there is no image in the archive")
	}
	for _, i := range got {
		if err := errors.Join(d.checkImage(ctx, i), d.provides(ctx, i, of)); err != nil {
			return nil, errors.Join(err, unload(ctx, is, got, before))
		}
	}
	for _, i := range got {
		for _, old := range before {
			if old.Name == i.Name && old.Target.Digest != i.Target.Digest {
				if err := d.keepDangling(ctx, old.Name, old.Target); err != nil {
					return nil, err
				}
			}
		}
		said, err := d.settleLoaded(ctx, i, of)
		if err != nil {
			return nil, err
		}
		loaded = append(loaded, said)
	}
	return loaded, nil
}

// settleLoaded unpacks an image of an archive, and says what it is.
func (d *Daemon) settleLoaded(ctx context.Context, i images.Image, of *ocispec.Platform) (string, error) {
	m := platforms.Default()
	if of != nil {
		m = matchPlatform(of)
	}
	unpacked := client.NewImageWithPlatform(d.engine.Client, i, m)
	if err := unpacked.Unpack(ctx, d.engine.Snapshotter); err != nil && (of != nil || !errdefs.IsNotFound(err)) { // it may be for other machines
		return "", fmt.Errorf("unpacking %s: %w", familiar(i.Name), err)
	}
	d.tellImage(events.ActionLoad, i.Target.Digest.String(), familiar(i.Name))
	if id, ok := strings.CutPrefix(i.Name, dangling); ok {
		return "Loaded image ID: " + id, nil
	}
	return "Loaded image: " + familiar(i.Name), d.undangle(ctx, i.Target)
}

func loadError(err error, of *ocispec.Platform) error {
	if of == nil {
		return errs.Invalidf("the archive cannot be loaded: %s", err)
	}
	p := platforms.FormatAll(*of)
	switch {
	case errors.Is(err, images.ErrEmptyWalk):
		return errs.NotFoundf("requested platform (%s) not found: %s", p, err)
	case errdefs.IsNotFound(err):
		return errs.NotFoundf("requested platform (%s) found, but some content is missing: %s", p, err)
	}
	return errs.Invalidf("the archive cannot be loaded: %s", err)
}

// provides refuses an image of an archive that has no part for the platform.
func (d *Daemon) provides(ctx context.Context, i images.Image, of *ocispec.Platform) error {
	if of == nil {
		return nil
	}
	_, ok, err := d.partFor(ctx, &Image{image: client.NewImage(d.engine.Client, i)}, matchPlatform(of))
	if err != nil || ok {
		return err
	}
	return errs.NotFoundf("image %s doesn't provide the requested platform (%s)", familiar(i.Name), platforms.FormatAll(*of))
}

// unload gives names back that an archive has taken.
func unload(ctx context.Context, is images.Store, got, before []images.Image) error {
	var all []error
	for _, i := range got {
		at := slices.IndexFunc(before, func(old images.Image) bool { return old.Name == i.Name })
		if at < 0 {
			all = append(all, ignoreMissing(is.Delete(ctx, i.Name)))
			continue
		}
		_, err := is.Update(ctx, before[at], "target")
		all = append(all, err)
	}
	return errors.Join(all...)
}

// Save writes images into an archive, all of each or the part for one platform. begin is
// called when nothing is wrong with what was asked for.
func (d *Daemon) Save(ctx context.Context, refs []string, of *ocispec.Platform, begin func(), w io.Writer) error {
	ctx = d.request(ctx)
	opts := []archive.ExportOpt{archive.WithPlatform(matchPlatform(of)), archive.WithSkipMissing(d.engine.Client.ContentStore())}
	if len(refs) == 0 {
		return errs.Invalidf("no image is given")
	}
	for _, ref := range refs {
		names, err := d.savedNames(ctx, ref)
		if err != nil {
			return err
		}
		for _, name := range names {
			opt, err := d.saveOne(ctx, name, of)
			if err != nil {
				return err
			}
			opts = append(opts, opt)
		}
	}
	begin()
	return d.engine.Client.Export(ctx, w, opts...)
}

// savedNames are the images that a client names: with a repository alone, all of it.
func (d *Daemon) savedNames(ctx context.Context, ref string) ([]string, error) {
	i, err := d.image(ctx, ref)
	if err == nil && strings.HasPrefix(i.ID, "sha256:"+strings.TrimPrefix(ref, "sha256:")) {
		return []string{ref}, nil
	}
	if r, err := reference.ParseNormalizedNamed(ref); err == nil && reference.IsNameOnly(r) {
		if tags, err := d.tagsOf(ctx, r.Name()); err == nil {
			return tags, nil
		}
	}
	if errs.Is(err, errs.NotFound) {
		return nil, errs.NotFoundf("No such image: %s", ref)
	}
	return []string{ref}, err
}

func (d *Daemon) saveOne(ctx context.Context, ref string, of *ocispec.Platform) (archive.ExportOpt, error) {
	i, err := d.image(ctx, ref)
	if err != nil {
		return nil, err
	}
	target := i.Descriptor()
	if of != nil {
		p, ok, err := d.partFor(ctx, i, matchPlatform(of))
		if err == nil && !ok {
			err = noPlatform(ref, *of)
		}
		if err != nil {
			return nil, err
		}
		target = p.desc
	}
	d.tellImage(events.ActionSave, i.ID, familiar(ref))
	if name, err := canonical(ref); err == nil && slices.Contains(i.names, name) {
		return archive.WithManifest(target, name), nil
	}
	target.Annotations = maps.Clone(target.Annotations)
	for _, name := range []string{images.AnnotationImageName, ocispec.AnnotationRefName} { // a name from where it came is not asked for
		delete(target.Annotations, name)
	}
	return archive.WithManifest(target), nil
}

// ImportOptions are what docker import says of an image.
type ImportOptions struct {
	Repo, Tag string
	Message   string
	Changes   []string
}

// ImportImage makes an image of one layer from a tar of a file system.
func (d *Daemon) ImportImage(ctx context.Context, r io.Reader, o ImportOptions) (id string, err error) {
	ctx = d.request(ctx)
	now := time.Now().UTC()
	if o.Message == "" {
		o.Message = "Imported from -"
	}
	cfg := dockerspec.DockerOCIImage{Image: ocispec.Image{Created: &now, Platform: platforms.DefaultSpec(), History: []ocispec.History{{Created: &now, Comment: o.Message}}}}
	for _, c := range o.Changes {
		if err := applyChange(&cfg.Config, c); err != nil {
			return "", err
		}
	}
	name := ""
	if o.Repo != "" {
		if name, err = tagged(o.Repo, o.Tag); err != nil {
			return "", err
		}
	}
	ctx, done, err := d.engine.Client.WithLease(ctx)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, done(ctx)) }()
	layer, err := d.writeLayer(ctx, r)
	if err != nil {
		return "", err
	}
	if err := d.checkLayer(ctx, layer); err != nil {
		return "", err
	}
	cfg.RootFS = ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{layer.Digest}}
	target, err := d.writeImage(ctx, cfg, []ocispec.Descriptor{layer})
	if err != nil {
		return "", err
	}
	if name == "" {
		name = dangling + target.Digest.String()
	}
	unpacked := client.NewImage(d.engine.Client, images.Image{Name: name, Target: target})
	if err := unpacked.Unpack(ctx, d.engine.Snapshotter); err != nil {
		return "", errs.Invalidf("the archive cannot be unpacked: %s", err)
	}
	if err := d.name(ctx, name, target); err != nil {
		return "", err
	}
	d.tellImage(events.ActionImport, target.Digest.String(), familiar(name))
	return target.Digest.String(), nil
}

// writeLayer keeps a tar, uncompressed.
func (d *Daemon) writeLayer(ctx context.Context, r io.Reader) (ocispec.Descriptor, error) {
	none := ocispec.Descriptor{}
	plain, err := compression.DecompressStream(r)
	if err != nil {
		return none, errs.Invalidf("the archive cannot be read: %s", err)
	}
	defer plain.Close()
	w, err := content.OpenWriter(ctx, d.engine.Client.ContentStore(), content.WithRef("import-"+newID()))
	if err != nil {
		return none, err
	}
	defer w.Close()
	n, err := io.Copy(w, plain)
	if err != nil {
		return none, errs.Invalidf("reading the archive: %s", err)
	}
	dg := w.Digest()
	if err := w.Commit(ctx, n, dg); err != nil && !errdefs.IsAlreadyExists(err) {
		return none, err
	}
	return ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: dg, Size: n}, nil
}

// writeImage keeps a configuration and the manifest over it.
func (d *Daemon) writeImage(ctx context.Context, cfg dockerspec.DockerOCIImage, layers []ocispec.Descriptor) (ocispec.Descriptor, error) {
	write := func(mediaType string, v any, labels map[string]string) (ocispec.Descriptor, error) {
		raw, err := json.Marshal(v)
		desc := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(raw), Size: int64(len(raw))}
		if err == nil {
			err = content.WriteBlob(ctx, d.engine.Client.ContentStore(), desc.Digest.String(), bytes.NewReader(raw), desc, content.WithLabels(labels))
		}
		return desc, err
	}
	config, err := write(ocispec.MediaTypeImageConfig, cfg, nil)
	if err != nil {
		return config, err
	}
	m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Config: config, Layers: layers}
	refs := map[string]string{"containerd.io/gc.ref.content.config": config.Digest.String()}
	for i, l := range layers {
		refs[fmt.Sprintf("containerd.io/gc.ref.content.l.%d", i)] = l.Digest.String()
	}
	return write(ocispec.MediaTypeImageManifest, m, refs)
}

// applyChange applies an instruction of a Dockerfile that is about the configuration.
func applyChange(c *imageConfig, change string) error {
	word, rest, _ := strings.Cut(strings.TrimSpace(change), " ")
	rest = strings.TrimSpace(rest)
	command := func() []string {
		var argv []string
		if json.Unmarshal([]byte(rest), &argv) == nil {
			return argv
		}
		return []string{"/bin/sh", "-c", rest}
	}
	pairs := func(into func(k, v string)) error {
		for f := range strings.FieldsSeq(rest) {
			k, v, ok := strings.Cut(f, "=")
			if !ok {
				return errs.Invalidf("Syntax error - can't find = in %q. Must be of the form: name=value", f)
			}
			into(k, strings.Trim(v, `"'`))
		}
		return nil
	}
	switch strings.ToUpper(word) {
	case "CMD":
		c.Cmd = command()
	case "ENTRYPOINT":
		c.Entrypoint = command()
	case "ENV":
		return pairs(func(k, v string) { c.Env = append(c.Env, k+"="+v) })
	case "LABEL":
		return pairs(func(k, v string) { c.Labels = over(c.Labels, map[string]string{k: v}) })
	case "WORKDIR":
		c.WorkingDir = rest
	case "USER":
		c.User = rest
	case "STOPSIGNAL":
		c.StopSignal = rest
	case "EXPOSE", "VOLUME":
		for f := range strings.FieldsSeq(rest) {
			if word = strings.ToUpper(word); word == "VOLUME" {
				c.Volumes = set(c.Volumes, f)
				continue
			}
			if !strings.Contains(f, "/") {
				f += "/tcp"
			}
			c.ExposedPorts = set(c.ExposedPorts, f)
		}
	default:
		return errs.Invalidf("%s is not a valid change command", word)
	}
	return nil
}

func set(m map[string]struct{}, k string) map[string]struct{} {
	if m == nil {
		m = map[string]struct{}{}
	}
	m[k] = struct{}{}
	return m
}
