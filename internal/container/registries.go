package container

import (
	"context"

	"github.com/docker/docker/api/types/registry"

	"github.com/strata-cloud/strata/internal/container/remote"
)

// mirrorsOf are those of the region, if the engine has one.
func mirrorsOf(c Cloud) remote.Mirrors {
	if c == nil {
		return nil
	}
	return c
}

// Login checks credentials at a registry, and gives the token that stands for them if
// the registry has such.
func (d *Daemon) Login(ctx context.Context, address string, cred remote.Credentials) (string, error) {
	return d.remote.Login(ctx, address, cred)
}

// Search asks a registry for repositories.
func (d *Daemon) Search(ctx context.Context, term string, limit int, cred remote.Credentials) ([]registry.SearchResult, error) {
	return d.remote.Search(ctx, term, limit, cred)
}
