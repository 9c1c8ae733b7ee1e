package container

import (
	"context"
	"errors"
	"fmt"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	remoteerrors "github.com/containerd/containerd/v2/core/remotes/errors"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/docker/docker/api/types/events"
	"github.com/opencontainers/go-digest"

	"github.com/strata-cloud/strata/internal/container/remote"
	"github.com/strata-cloud/strata/internal/errs"
)

// Pull fetches an image. say is called with what happens once the registry has the image.
func (d *Daemon) Pull(ctx context.Context, repo, tag string, cred remote.Credentials, say func(id, status string)) error {
	ctx = d.request(ctx)
	ref, name, err := pullRef(repo, tag)
	if err != nil {
		return err
	}
	resolver := d.remote.Resolver(cred, nil)
	_, desc, err := resolver.Resolve(ctx, name)
	if err != nil {
		return resolveError(err, name)
	}
	what := "latest"
	if t, ok := ref.(reference.Tagged); ok {
		what = t.Tag()
	}
	say(what, "Pulling from "+reference.Path(ref))
	before, err := d.engine.Client.ImageService().Get(ctx, name)
	had := err == nil
	if had && before.Target.Digest != desc.Digest {
		if err := d.keepDangling(ctx, name, before.Target); err != nil {
			return err
		}
	}
	if _, err := d.engine.Client.Pull(ctx, name, client.WithResolver(resolver), client.WithPullUnpack, client.WithPullSnapshotter(d.engine.Snapshotter)); err != nil {
		return fmt.Errorf("pulling %s: %w", familiar(name), err)
	}
	d.tellImage(events.ActionPull, desc.Digest.String(), familiar(name))
	say("", "Digest: "+desc.Digest.String())
	if had && before.Target.Digest == desc.Digest {
		say("", "Status: Image is up to date for "+familiar(name))
	} else {
		say("", "Status: Downloaded newer image for "+familiar(name))
	}
	return d.undangle(ctx, desc)
}

func pullRef(repo, tag string) (reference.Named, string, error) {
	if dg, err := digest.Parse(tag); err == nil {
		repo, tag = repo+"@"+dg.String(), ""
	}
	r, err := reference.ParseNormalizedNamed(repo)
	if err == nil && tag != "" {
		r, err = reference.WithTag(reference.TrimNamed(r), tag)
	}
	if err != nil {
		return nil, "", errs.Invalidf("invalid reference format: %s", err)
	}
	r = reference.TagNameOnly(r)
	return r, r.String(), nil
}

// resolveError says why a registry does not give an image.
func resolveError(err error, name string) error {
	var answer remoteerrors.ErrUnexpectedStatus
	switch {
	case errdefs.IsNotFound(err):
		return errs.NotFoundf("manifest for %s not found: manifest unknown", familiar(name))
	case errors.As(err, &answer) && (answer.StatusCode == 401 || answer.StatusCode == 403), errors.Is(err, docker.ErrInvalidAuthorization):
		return errs.NotFoundf("pull access denied for %s, repository does not exist or may require 'docker login': denied", familiar(name))
	}
	return errs.New(errs.Internal, "Get %q: the registry cannot be used: %s", familiar(name), err)
}
