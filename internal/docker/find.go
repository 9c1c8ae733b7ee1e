package docker

import (
	"regexp"
	"slices"
	"strings"

	"github.com/strata-cloud/strata/internal/errs"
)

// nameRE is Docker's.
var nameRE = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]+$`)

// of lists the containers of a project that it sees, the newest first.
func (s *Service) of(project string) []*Container {
	list := slices.DeleteFunc(slices.Clone(s.containers.By("project", project)), func(c *Container) bool { return !c.seen() })
	slices.SortFunc(list, func(a, b *Container) int { return b.Created.Compare(a.Created) })
	return list
}

// find gives the project's container with the id, the name, or an id that begins so.
func (s *Service) find(project, ref string) (*Container, error) {
	missing := errs.NotFoundf("No such container: %s", ref)
	if ref == "" {
		return nil, missing
	}
	if c, err := s.containers.Get(ref); err == nil && c.ProjectID == project && c.seen() {
		return c, nil
	}
	if c, ok := s.containers.Unique("name", nameKey(project, strings.TrimPrefix(ref, "/"))); ok {
		return c, nil
	}
	var found *Container
	for _, c := range s.of(project) {
		if strings.HasPrefix(c.ID, ref) {
			if found != nil {
				return nil, errs.Invalidf("multiple IDs found with provided prefix: %s", ref)
			}
			found = c
		}
	}
	if found == nil {
		return nil, missing
	}
	return found, nil
}

// placed is find for a container that is on a node.
func (s *Service) placed(project, ref string) (*Container, error) {
	c, err := s.find(project, ref)
	if err == nil && c.State == Creating {
		err = errs.Conflictf("container %s is being created", ref)
	}
	return c, err
}
