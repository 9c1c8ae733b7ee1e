package identity

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/identity/directory"
	"github.com/strata-cloud/strata/internal/rest"
	"github.com/strata-cloud/strata/internal/store"
)

// maxTags and the rules of a tag are those of the API working group's guideline on tags.
const maxTags = 80

func checkTags(tags []string) ([]string, error) {
	if len(tags) > maxTags {
		return nil, errs.Invalidf("Invalid input for field 'tags': at most %d tags are allowed.", maxTags)
	}
	for i, t := range tags {
		if t == "" || len(t) > 255 || strings.ContainsAny(t, ",/") {
			return nil, errs.Invalidf("Invalid input for field 'tags': %q must have 1 to 255 characters and neither ',' nor '/'.", t)
		}
		if slices.Contains(tags[:i], t) {
			return nil, errs.Invalidf("Invalid input for field 'tags': %q is given twice.", t)
		}
	}
	return tags, nil
}

// setTags changes the tags of a project and returns it.
func (s *Service) setTags(ctx context.Context, id string, fn func([]string) ([]string, error)) (p *directory.Project, err error) {
	if _, err := s.project(id); err != nil {
		return nil, err
	}
	err = s.dir.Write(ctx, func(tx *store.Tx) error {
		p, err = s.dir.Projects.TxUpdate(tx, id, func(p *directory.Project) error {
			tags, err := fn(slices.Clone(p.Tags))
			if err == nil {
				p.Tags, err = checkTags(tags)
			}
			return err
		})
		return err
	})
	return p, err
}

func (r *request) tagsAnswer(p *directory.Project) *rest.Response {
	return rest.JSON(http.StatusOK, object{"tags": tagsView(p), "links": r.links(r.selfPath())})
}

func (m *mount) listTags(_ context.Context, r *request) (*rest.Response, error) {
	p, err := m.project(r.Path("project_id"))
	if err != nil {
		return nil, err
	}
	return r.tagsAnswer(p), nil
}

func (m *mount) replaceTags(ctx context.Context, r *request) (*rest.Response, error) {
	var body struct {
		Tags []string `json:"tags"`
	}
	if err := r.Decode(&body); err != nil {
		return nil, err
	}
	p, err := m.setTags(ctx, r.Path("project_id"), func([]string) ([]string, error) { return body.Tags, nil })
	if err != nil {
		return nil, err
	}
	return r.tagsAnswer(p), nil
}

func (m *mount) deleteTags(ctx context.Context, r *request) (*rest.Response, error) {
	if _, err := m.setTags(ctx, r.Path("project_id"), func([]string) ([]string, error) { return nil, nil }); err != nil {
		return nil, err
	}
	return rest.Empty(http.StatusNoContent), nil
}

func errNoTag(tag string) error { return errs.NotFoundf("Could not find project tag: %s.", tag) }

func (m *mount) checkTag(_ context.Context, r *request) (*rest.Response, error) {
	p, err := m.project(r.Path("project_id"))
	if err != nil {
		return nil, err
	}
	if !slices.Contains(p.Tags, r.Path("value")) {
		return nil, errNoTag(r.Path("value"))
	}
	return rest.Empty(http.StatusNoContent), nil
}

func (m *mount) addTag(ctx context.Context, r *request) (*rest.Response, error) {
	tag := r.Path("value")
	_, err := m.setTags(ctx, r.Path("project_id"), func(tags []string) ([]string, error) {
		if !slices.Contains(tags, tag) {
			tags = append(tags, tag)
		}
		return tags, nil
	})
	if err != nil {
		return nil, err
	}
	return rest.Empty(http.StatusCreated).With("Location", r.self(r.selfPath())), nil
}

func (m *mount) deleteTag(ctx context.Context, r *request) (*rest.Response, error) {
	tag := r.Path("value")
	_, err := m.setTags(ctx, r.Path("project_id"), func(tags []string) ([]string, error) {
		i := slices.Index(tags, tag)
		if i < 0 {
			return nil, errNoTag(tag)
		}
		return slices.Delete(tags, i, i+1), nil
	})
	if err != nil {
		return nil, err
	}
	return rest.Empty(http.StatusNoContent), nil
}
