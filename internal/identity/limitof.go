package identity

// LimitOf is the limit of a resource for a project, where the operator has registered one:
// the project's own, its domain's or the default (limits API of Keystone).
func (s *Service) LimitOf(projectID, resource string) (int, bool) {
	domain := ""
	if p, err := s.dir.Projects.Get(projectID); err == nil {
		domain = p.DomainID
	}
	for _, r := range s.dir.RegLimits.All() {
		if r.ResourceName != resource {
			continue
		}
		limit := r.DefaultLimit
		for _, l := range s.dir.Limits.All() {
			switch {
			case l.RegisteredID != r.ID:
			case l.ProjectID == projectID:
				return l.ResourceLimit, true
			case l.DomainID != "" && l.DomainID == domain:
				limit = l.ResourceLimit
			}
		}
		return limit, true
	}
	return 0, false
}
