package image

import (
	"context"
	"slices"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/rest"
)

// shared gives the image of the path for work on its members; only shared images
// have any.
func (s *Service) shared(ctx context.Context, r *rest.Request, rule string) (*Image, error) {
	v, err := s.Image(ctx, r.Creds, r.Path("id"))
	if err != nil {
		return nil, errs.NotFoundf("Image %s not found.", r.Path("id"))
	}
	if v.Visibility != Shared {
		return nil, errs.Forbiddenf("Only shared images have members.")
	}
	return v, allow(r, rule, v)
}

func (s *Service) listMembers(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	v, err := s.shared(ctx, r, "get_members")
	if err != nil {
		return nil, err
	}
	views := []any{}
	for i := range v.Members {
		if m := &v.Members[i]; r.Creds.Admin() || v.Owner == r.Creds.ProjectID || m.ProjectID == r.Creds.ProjectID {
			views = append(views, m.view(v.ID))
		}
	}
	return rest.JSON(200, map[string]any{"members": views, "schema": "/v2/schemas/members"}), nil
}

// memberOf finds the membership that the path names, as far as the caller may know
// of it: a member does not see the others.
func memberOf(r *rest.Request, v *Image) (*Member, error) {
	m := v.member(r.Path("member"))
	if m == nil || !(r.Creds.Admin() || v.Owner == r.Creds.ProjectID || m.ProjectID == r.Creds.ProjectID) {
		return nil, errs.NotFoundf("%s not found in the member list of the image %s.", r.Path("member"), v.ID)
	}
	return m, nil
}

// showMember answers 404 to whoever may not look, so as to tell nothing.
func (s *Service) showMember(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	v, err := s.shared(ctx, r, "get_member")
	if errs.Is(err, errs.Forbidden) {
		return nil, errs.NotFoundf("%s", err.Error())
	}
	if err != nil {
		return nil, err
	}
	m, err := memberOf(r, v)
	if err != nil {
		return nil, err
	}
	return rest.JSON(200, m.view(v.ID)), nil
}

func (s *Service) addMember(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	var b map[string]any
	if err := r.Decode(&b); err != nil {
		return nil, err
	}
	project, ok := b["member"].(string)
	switch {
	case !ok:
		return nil, errs.Invalidf("Member to be added not specified")
	case project == "":
		return nil, errs.Invalidf("Member can't be empty")
	case len(project) > maxName:
		return nil, errs.Invalidf("Member is longer than 255 characters")
	}
	if _, err := s.shared(ctx, r, "add_member"); err != nil {
		return nil, err
	}
	v, err := s.images.Update(ctx, r.Path("id"), func(v *Image) error {
		if v.member(project) != nil {
			return errs.Conflictf("Member %s is duplicated for image %s", project, v.ID)
		}
		if len(v.Members) >= maxMembers {
			return errs.New(errs.TooLarge, "The limit has been exceeded on the number of allowed image members for this image. Attempted: %d, Maximum: %d", len(v.Members)+1, maxMembers)
		}
		v.Members = append(v.Members, Member{ProjectID: project, Status: "pending", Created: now(), Updated: now()})
		return nil
	})
	if err != nil {
		return nil, err
	}
	return rest.JSON(200, v.member(project).view(v.ID)), nil
}

// updateMember accepts or rejects. It is the member's own decision, not the owner's.
func (s *Service) updateMember(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	var b map[string]any
	if err := r.Decode(&b); err != nil {
		return nil, err
	}
	status, ok := b["status"].(string)
	if !ok {
		return nil, errs.Invalidf("Status not specified")
	}
	v, err := s.shared(ctx, r, "get_member")
	if err != nil {
		return nil, err
	}
	if _, err := memberOf(r, v); err != nil {
		return nil, err
	}
	if err := allow(r, "modify_member", v); err != nil {
		return nil, err
	}
	if !slices.Contains([]string{"pending", "accepted", "rejected"}, status) {
		return nil, errs.Invalidf("Incorrect request: Status must be \"pending\", \"accepted\" or \"rejected\".")
	}
	v, err = s.images.Update(ctx, v.ID, func(v *Image) error {
		m, err := memberOf(r, v)
		if err == nil && m.Status != status {
			m.Status, m.Updated = status, now()
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return rest.JSON(200, v.member(r.Path("member")).view(v.ID)), nil
}

func (s *Service) removeMember(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	if _, err := s.shared(ctx, r, "delete_member"); err != nil {
		return nil, err
	}
	_, err := s.images.Update(ctx, r.Path("id"), func(v *Image) error {
		if _, err := memberOf(r, v); err != nil {
			return err
		}
		v.Members = slices.DeleteFunc(v.Members, func(m Member) bool { return m.ProjectID == r.Path("member") })
		return nil
	})
	return rest.Empty(204), err
}
