package container

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	remoteerrors "github.com/containerd/containerd/v2/core/remotes/errors"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/registry"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/semaphore"

	"github.com/strata-cloud/strata/internal/container/remote"
	"github.com/strata-cloud/strata/internal/errs"
)

// Pushed is the end of a push.
type Pushed struct {
	Tag    string
	Digest string
	Size   int64
}

// pushes at a time, as dockerd has it.
const pushes = 5

// Push brings an image to its registry, or with no tag all images of the repository.
// of is the platform of which it is the part alone; nil: all that is here. say is called
// with what becomes of each part, done with the end of each image.
func (d *Daemon) Push(ctx context.Context, repo, tag string, of *ocispec.Platform, cred remote.Credentials, say func(id, status string), done func(Pushed)) error {
	ctx = d.request(ctx)
	r, err := reference.ParseNormalizedNamed(repo)
	if err != nil {
		return errs.Invalidf("invalid reference format: %s", err)
	}
	if !reference.IsNameOnly(r) {
		return errs.Invalidf("invalid reference format: the name has a tag or a digest already")
	}
	var names []string
	if tag != "" {
		name, err := tagged(repo, tag)
		if err != nil {
			return err
		}
		names = []string{name}
	} else if names, err = d.tagsOf(ctx, r.Name()); err != nil {
		return err
	}
	for _, name := range names {
		i, err := d.engine.Client.ImageService().Get(ctx, name)
		if errdefs.IsNotFound(err) {
			return errs.NotFoundf("An image does not exist locally with the tag: %s", reference.FamiliarName(r))
		}
		if err != nil {
			return err
		}
		say("", fmt.Sprintf("The push refers to repository [%s]", r.Name()))
		target, err := d.pushed(ctx, i, of)
		if err != nil {
			return err
		}
		end, err := d.push(ctx, i, target, cred, say)
		if err != nil {
			return pushError(err, familiar(name))
		}
		done(end)
		d.tellImage(events.ActionPush, i.Target.Digest.String(), familiar(name))
	}
	return nil
}

// tagsOf are the names that a repository has here.
func (d *Daemon) tagsOf(ctx context.Context, repo string) (out []string, err error) {
	list, err := d.engine.Client.ImageService().List(ctx)
	for _, i := range list {
		if strings.HasPrefix(i.Name, repo+":") {
			out = append(out, i.Name)
		}
	}
	if err == nil && len(out) == 0 {
		return nil, errs.NotFoundf("An image does not exist locally with the tag: %s", repo)
	}
	slices.Sort(out)
	return out, err
}

// pushed is what of an image a client wants pushed.
func (d *Daemon) pushed(ctx context.Context, i images.Image, of *ocispec.Platform) (ocispec.Descriptor, error) {
	if of == nil {
		return d.complete(ctx, i.Target)
	}
	p, ok, err := d.partFor(ctx, &Image{image: client.NewImage(d.engine.Client, i)}, matchPlatform(of))
	if err == nil && !ok {
		err = noPlatform(familiar(i.Name), *of)
	}
	return p.desc, err
}

// push brings one image.
func (d *Daemon) push(ctx context.Context, i images.Image, target ocispec.Descriptor, cred remote.Credentials, say func(id, status string)) (Pushed, error) {
	track := docker.NewInMemoryTracker()
	pusher, err := d.remote.Resolver(cred, track).Pusher(ctx, i.Name)
	if err != nil {
		return Pushed{}, err
	}
	var mu sync.Mutex
	tell := func(desc ocispec.Descriptor, status string) {
		if images.IsLayerType(desc.MediaType) {
			mu.Lock()
			defer mu.Unlock()
			say(desc.Digest.Encoded()[:12], status)
		}
	}
	wrap := func(h images.Handler) images.Handler {
		return images.HandlerFunc(func(ctx context.Context, desc ocispec.Descriptor) ([]ocispec.Descriptor, error) {
			tell(desc, "Preparing")
			children, err := h.Handle(ctx, desc)
			if err != nil {
				return children, err
			}
			status, _ := track.GetStatus(remotes.MakeRefKey(ctx, desc))
			switch {
			case status.MountedFrom != "":
				tell(desc, "Mounted from "+status.MountedFrom)
			case status.Exists:
				tell(desc, "Layer already exists")
			default:
				tell(desc, "Pushed")
			}
			return children, nil
		})
	}
	err = remotes.PushContent(ctx, pusher, target, d.engine.Client.ContentStore(), semaphore.NewWeighted(pushes), platforms.All, wrap)
	_, tag, _ := strings.Cut(i.Name[strings.LastIndexByte(i.Name, '/')+1:], ":")
	return Pushed{Tag: tag, Digest: target.Digest.String(), Size: target.Size}, err
}

// complete is what of an image can be pushed. Of one for several machines only this
// machine's part may be here.
func (d *Daemon) complete(ctx context.Context, target ocispec.Descriptor) (ocispec.Descriptor, error) {
	cs := d.engine.Client.ContentStore()
	if !images.IsIndexType(target.MediaType) {
		return target, nil
	}
	whole := true
	var own *ocispec.Descriptor
	children, err := images.Children(ctx, cs, target)
	if err != nil {
		return target, err
	}
	for _, m := range children {
		have, _, _, missing, err := images.Check(ctx, cs, m, platforms.All)
		if err != nil || !have || len(missing) > 0 {
			whole = false
			continue
		}
		if m.Platform != nil && platforms.Default().Match(*m.Platform) && own == nil {
			own = &m
		}
	}
	switch {
	case whole:
		return target, nil
	case own == nil:
		return target, errs.NotFoundf("the image has no content for %s here", platforms.Format(platforms.DefaultSpec()))
	}
	return *own, nil
}

// pushError says what a registry has refused.
func pushError(err error, name string) error {
	var answer remoteerrors.ErrUnexpectedStatus
	switch {
	case errors.As(err, &answer) && (answer.StatusCode == 401 || answer.StatusCode == 403), errors.Is(err, docker.ErrInvalidAuthorization):
		return errs.New(errs.Forbidden, "denied: requested access to the resource is denied: %s", name)
	case errs.KindOf(err) != errs.Internal:
		return err
	}
	return fmt.Errorf("pushing %s: %w", name, err)
}

// Distribution tells what a registry has under a name.
func (d *Daemon) Distribution(ctx context.Context, ref string, cred remote.Credentials) (registry.DistributionInspect, error) {
	ctx = d.request(ctx)
	var out registry.DistributionInspect
	name, err := canonical(ref)
	if err != nil {
		return out, err
	}
	resolver := d.remote.Resolver(cred, nil)
	name, desc, err := resolver.Resolve(ctx, name)
	if err != nil {
		return out, resolveError(err, ref)
	}
	out.Descriptor = ocispec.Descriptor{MediaType: desc.MediaType, Digest: desc.Digest, Size: desc.Size}
	fetcher, err := resolver.Fetcher(ctx, name)
	if err != nil {
		return out, err
	}
	if images.IsIndexType(desc.MediaType) {
		var index ocispec.Index
		if err := fetchJSON(ctx, fetcher, desc, &index); err != nil {
			return out, err
		}
		for _, m := range index.Manifests {
			if m.Platform != nil {
				out.Platforms = append(out.Platforms, *m.Platform)
			}
		}
		return out, nil
	}
	var manifest ocispec.Manifest
	if err := fetchJSON(ctx, fetcher, desc, &manifest); err != nil {
		return out, err
	}
	var p ocispec.Platform
	if images.IsConfigType(manifest.Config.MediaType) {
		if err := fetchJSON(ctx, fetcher, manifest.Config, &p); err != nil {
			return out, err
		}
	}
	if p.OS != "" || p.Architecture != "" {
		out.Platforms = append(out.Platforms, p)
	}
	return out, nil
}

// maxManifest bounds what is read of a registry into memory.
const maxManifest = 8 << 20

// fetchJSON reads something small, and believes it if its digest is right.
func fetchJSON(ctx context.Context, f remotes.Fetcher, desc ocispec.Descriptor, v any) error {
	if desc.Size > maxManifest {
		return errs.Invalidf("%s of %d bytes is too large", desc.Digest, desc.Size)
	}
	r, err := f.Fetch(ctx, desc)
	if err != nil {
		return err
	}
	defer r.Close()
	raw, err := io.ReadAll(io.LimitReader(r, maxManifest))
	if err != nil {
		return err
	}
	if desc.Digest.Algorithm().FromBytes(raw) != desc.Digest {
		return errs.New(errs.Internal, "what the registry gives for %s is something else", desc.Digest)
	}
	return json.Unmarshal(raw, v)
}
