package compute

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/strata-cloud/strata/internal/compute/wire"
	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/rest"
)

func digest(text string) string {
	sum := sha256.Sum224([]byte(text))
	return hex.EncodeToString(sum[:])
}

func (s *Service) limitMetadata(v *Server) error {
	if limit := s.quotas.Limits(v.ProjectID)["metadata_items"]; limit >= 0 && len(v.Metadata) > limit {
		return errs.Forbiddenf("Maximum number of metadata items exceeds %d", limit)
	}
	return nil
}

func (s *Service) showMetadata(_ context.Context, r *rest.Request) (*rest.Response, error) {
	v, err := s.authorized(r)
	if err != nil {
		return nil, err
	}
	return rest.JSON(200, map[string]any{"metadata": emptyMap(v.Metadata)}), nil
}

func (s *Service) showMetadataItem(_ context.Context, r *rest.Request) (*rest.Response, error) {
	v, err := s.authorized(r)
	if err != nil {
		return nil, err
	}
	key := r.Path("key")
	val, ok := v.Metadata[key]
	if !ok {
		return nil, errs.NotFoundf("Metadata item was not found")
	}
	return rest.JSON(200, map[string]any{"meta": map[string]string{key: val}}), nil
}

// writeMetadata merges into or replaces the metadata.
func (s *Service) writeMetadata(replace bool) rest.Handler {
	return func(ctx context.Context, r *rest.Request) (*rest.Response, error) {
		var b struct {
			Metadata map[string]string `json:"metadata"`
		}
		if err := r.Decode(&b); err != nil {
			return nil, err
		}
		m, err := s.changeMetadata(ctx, r, func(m map[string]string) error {
			if replace {
				clear(m)
			}
			for k, v := range b.Metadata {
				m[k] = v
			}
			return nil
		})
		return rest.JSON(200, map[string]any{"metadata": m}), err
	}
}

func (s *Service) writeMetadataItem(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	var b struct {
		Meta map[string]string `json:"meta"`
	}
	if err := r.Decode(&b); err != nil {
		return nil, err
	}
	key := r.Path("key")
	val, ok := b.Meta[key]
	if !ok || len(b.Meta) != 1 {
		return nil, errs.Invalidf("Request body and URI mismatch")
	}
	_, err := s.changeMetadata(ctx, r, func(m map[string]string) error { m[key] = val; return nil })
	return rest.JSON(200, map[string]any{"meta": map[string]string{key: val}}), err
}

func (s *Service) deleteMetadataItem(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	key := r.Path("key")
	_, err := s.changeMetadata(ctx, r, func(m map[string]string) error {
		if _, ok := m[key]; !ok {
			return errs.NotFoundf("Metadata item was not found")
		}
		delete(m, key)
		return nil
	})
	return rest.Empty(204), err
}

func (s *Service) changeMetadata(ctx context.Context, r *rest.Request, fn func(map[string]string) error) (map[string]string, error) {
	v, err := s.authorized(r)
	if err != nil {
		return nil, err
	}
	if err := s.unlocked(r, v); err != nil {
		return nil, err
	}
	v, err = s.servers.Update(ctx, v.ID, func(v *Server) error {
		if v.Metadata == nil {
			v.Metadata = map[string]string{}
		}
		if err := fn(v.Metadata); err != nil {
			return err
		}
		v.Updated = wire.Now()
		return s.limitMetadata(v)
	})
	if err != nil {
		return nil, err
	}
	return v.Metadata, s.refreshGuest(ctx, v.ID)
}

func (s *Service) listTags(_ context.Context, r *rest.Request) (*rest.Response, error) {
	v, err := s.authorized(r)
	if err != nil {
		return nil, err
	}
	return rest.JSON(200, map[string]any{"tags": emptyList(v.Tags)}), nil
}

func (s *Service) hasTag(_ context.Context, r *rest.Request) (*rest.Response, error) {
	v, err := s.authorized(r)
	if err != nil {
		return nil, err
	}
	if !slices.Contains(v.Tags, r.Path("tag")) {
		return nil, errs.NotFoundf("Server %s has no tag '%s'", v.ID, r.Path("tag"))
	}
	return rest.Empty(204), nil
}

func (s *Service) changeTags(ctx context.Context, r *rest.Request, fn func([]string) ([]string, error)) (*Server, error) {
	v, err := s.authorized(r)
	if err != nil {
		return nil, err
	}
	return s.servers.Update(ctx, v.ID, func(v *Server) (err error) {
		v.Tags, err = fn(v.Tags)
		return err
	})
}

func (s *Service) replaceTags(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	var b struct {
		Tags []string `json:"tags"`
	}
	if err := r.Decode(&b); err != nil {
		return nil, err
	}
	v, err := s.changeTags(ctx, r, func([]string) ([]string, error) { return unique(b.Tags), nil })
	if err != nil {
		return nil, err
	}
	return rest.JSON(200, map[string]any{"tags": emptyList(v.Tags)}), nil
}

func (s *Service) addTag(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	tag, added := r.Path("tag"), false
	if tag == "" || len(tag) > 60 || strings.ContainsAny(tag, ",/") {
		return nil, errs.Invalidf("Tag '%s' is invalid. It must be a non empty string without characters '/' and ','. Validation pattern or length failed.", tag)
	}
	v, err := s.changeTags(ctx, r, func(have []string) ([]string, error) {
		if slices.Contains(have, tag) {
			return have, nil
		}
		if len(have) >= 50 {
			return nil, errs.Invalidf("The number of tags exceeded the per-server limit 50")
		}
		added = true
		return append(have, tag), nil
	})
	if err != nil {
		return nil, err
	}
	if !added {
		return rest.Empty(204), nil
	}
	return rest.Empty(201).With("Location", r.Base()+"/compute/v2.1/servers/"+v.ID+"/tags/"+tag), nil
}

func (s *Service) deleteTag(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	tag := r.Path("tag")
	_, err := s.changeTags(ctx, r, func(have []string) ([]string, error) {
		i := slices.Index(have, tag)
		if i < 0 {
			return nil, errs.NotFoundf("Server %s has no tag '%s'", r.Path("id"), tag)
		}
		return slices.Delete(slices.Clone(have), i, i+1), nil
	})
	return rest.Empty(204), err
}

func (s *Service) deleteTags(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	_, err := s.changeTags(ctx, r, func([]string) ([]string, error) { return nil, nil })
	return rest.Empty(204), err
}

func (s *Service) lock(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	v, err := s.authorized(r)
	if err != nil {
		return nil, err
	}
	var b struct {
		Lock *struct {
			Reason string `json:"locked_reason"`
		} `json:"lock"`
	}
	if r.AtLeast(2, 73) { // before, whatever came with the action was ignored
		if err := r.Decode(&b); err != nil {
			return nil, err
		}
	}
	_, err = s.servers.Update(ctx, v.ID, func(v *Server) error {
		v.Locked, v.LockedReason = "owner", ""
		if r.Creds.Admin() && r.Creds.ProjectID != v.ProjectID {
			v.Locked = "admin"
		}
		if b.Lock != nil {
			v.LockedReason = b.Lock.Reason
		}
		return nil
	})
	return rest.Empty(202), err
}

func (s *Service) unlock(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	v, err := s.authorized(r)
	if err != nil {
		return nil, err
	}
	if v.Locked == "admin" {
		if err := r.EnforceRule("os_compute_api:os-lock-server:unlock:unlock_override", target(v)); err != nil {
			return nil, err
		}
	}
	_, err = s.servers.Update(ctx, v.ID, func(v *Server) error { v.Locked, v.LockedReason = "", ""; return nil })
	return rest.Empty(202), err
}

func (s *Service) consoleOutput(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	v, err := s.authorized(r)
	if err != nil {
		return nil, err
	}
	var b struct {
		Get struct {
			Length any `json:"length"`
		} `json:"os-getConsoleOutput"`
	}
	if err := r.Decode(&b); err != nil {
		return nil, err
	}
	lines := 0
	if b.Get.Length != nil {
		if _, err := fmt.Sscan(fmt.Sprint(b.Get.Length), &lines); err != nil {
			return nil, errs.Invalidf("length must be a number of lines")
		}
		if lines == 0 {
			return rest.JSON(200, map[string]string{"output": ""}), nil
		}
	}
	conn, err := s.Nodes.Conn(v.Host)
	if err != nil {
		return nil, errs.Conflictf("Instance %s is not ready", v.ID)
	}
	out, err := conn.ConsoleLog(ctx, v.ID, max(lines, 0))
	if errs.Is(err, errs.NotFound) {
		return nil, errs.Conflictf("Instance %s is not ready", v.ID)
	} else if err != nil {
		return nil, err
	}
	return rest.JSON(200, map[string]string{"output": strings.ToValidUTF8(string(out), "\uFFFD")}), nil
}
