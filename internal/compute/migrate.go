package compute

import (
	"context"
	"slices"

	"github.com/google/uuid"

	"github.com/strata-cloud/strata/internal/compute/migration"
	"github.com/strata-cloud/strata/internal/compute/wire"
	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/rest"
	"github.com/strata-cloud/strata/internal/store"
)

func (s *Service) migrateRoutes() []rest.Route {
	const host = `{"anyOf":[{"type":"null"},{"type":"object","properties":{"host":{"anyOf":[{"type":"null"},{"type":"string","minLength":1,"maxLength":255,"pattern":"^[a-zA-Z0-9-._]*$"}]}},"additionalProperties":false}]}`
	to := wire.Body("migrate", host)[0]
	to.Min = rest.V(2, 56)
	return []rest.Route{{Method: "POST", Path: "/servers/{id}/action", Action: "migrate", Policy: "os_compute_api:os-migrate-server:migrate", Body: []rest.Schema{to}, Handle: s.migrate}}
}

// migrate is what an administrator asks of a server to free its host, cold: a
// resize to the same flavor on another host. Its disks are the same ones before and
// after, so that a revert brings them back as they are by then.
func (s *Service) migrate(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	v, err := s.changeable(r)
	if err != nil {
		return nil, err
	}
	host := ""
	if r.AtLeast(2, 56) {
		var b struct {
			Migrate *struct {
				Host string `json:"host"`
			} `json:"migrate"`
		}
		if err := r.Decode(&b); err != nil {
			return nil, err
		}
		if b.Migrate != nil {
			host = b.Migrate.Host
		}
	}
	if err := v.allows("migrate", []VMState{Active, Stopped}, nil); err != nil {
		return nil, err
	}
	if _, err := s.otherHosts(ctx, v, host, "cold migrate"); err != nil {
		return nil, err
	}
	_, err = s.beginRemake(ctx, r, v.ID, "migrate", wasStopped, func(tx *store.Tx, v *Server) error {
		v.Resize = &Resize{ID: uuid.NewString(), Flavor: v.Flavor, DiskSet: v.DiskSet, Stopped: wasStopped(v), From: v.Host, Asked: host, Away: true}
		return s.moves.Begin(tx, migration.Migration{ID: v.Resize.ID, Server: v.ID, ProjectID: v.ProjectID, UserID: r.Creds.UserID, Kind: migration.Cold,
			Status: migration.PreMigrating, Source: v.Host, Target: host, OldFlavor: v.Flavor.ID, NewFlavor: v.Flavor.ID})
	})
	return rest.Empty(202), err
}

// otherHosts lists where the server could move to, best first; host restricts it to one.
func (s *Service) otherHosts(ctx context.Context, v *Server, host, how string) ([]string, error) {
	if err := s.knownHost(host); err != nil {
		return nil, err
	}
	if host != "" && host == v.Host {
		return nil, errs.Invalidf("Cannot migrate to the host where the server exists.")
	}
	moved := *v
	moved.AskedHost = host // where it was forced to at create binds it no more
	hosts, err := s.chooseHosts(ctx, &moved, v.resources())
	if err != nil && !errs.Is(err, errs.NoCapacity) {
		return nil, err
	}
	hosts = slices.DeleteFunc(hosts, func(h string) bool { return h == v.Host })
	if len(hosts) == 0 {
		return nil, errs.Invalidf("No valid host was found. No valid host found for %s", how)
	}
	return hosts, nil
}

func (s *Service) knownHost(host string) error {
	if host == "" {
		return nil
	}
	if _, err := s.Nodes.Infos.Get(host); err != nil {
		return errs.Invalidf("Compute host %s could not be found.", host)
	}
	return nil
}
