package compute

// Takes tells whether a host may get more work: it is alive and nobody has disabled it.
func (s *Service) Takes(host string) bool { return s.pool.Takes(host) }
