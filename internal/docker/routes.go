package docker

// routes is every operation that there is. What is passed on is judged by the id in its
// path: that is the container's.
func (s *Service) routes() []route {
	return []route{
		{"GET", "/_ping", "", s.ping},
		{"HEAD", "/_ping", "", s.ping},
		{"GET", "/version", "", s.version},
		{"GET", "/info", "get_all", s.info},
		{"GET", "/events", "get_all", s.events},

		{"GET", "/containers/json", "get_all", s.list},
		{"POST", "/containers/create", "create", s.create},
		{"GET", "/containers/{id}/json", "get_one", s.inspect},
		{"GET", "/containers/{id}/top", "top", s.pass},
		{"GET", "/containers/{id}/logs", "logs", s.pass},
		{"GET", "/containers/{id}/stats", "stats", s.stats},
		{"GET", "/containers/{id}/changes", "get_one", s.pass},
		{"POST", "/containers/{id}/start", "start", s.pass},
		{"POST", "/containers/{id}/stop", "stop", s.pass},
		{"POST", "/containers/{id}/restart", "reboot", s.pass},
		{"POST", "/containers/{id}/kill", "kill", s.pass},
		{"POST", "/containers/{id}/pause", "pause", s.pass},
		{"POST", "/containers/{id}/unpause", "unpause", s.pass},
		{"POST", "/containers/{id}/wait", "get_one", s.wait},
		{"POST", "/containers/{id}/resize", "resize", s.pass},
		{"POST", "/containers/{id}/attach", "attach", s.pass},
		{"GET", "/containers/{id}/export", "get_archive", s.pass},
		{"HEAD", "/containers/{id}/archive", "get_archive", s.pass},
		{"GET", "/containers/{id}/archive", "get_archive", s.pass},
		{"PUT", "/containers/{id}/archive", "put_archive", s.pass},
		{"POST", "/containers/{id}/rename", "rename", s.rename},
		{"DELETE", "/containers/{id}", "delete", s.remove},

		{"POST", "/containers/{id}/exec", "execute", s.execCreate},
		{"POST", "/exec/{id}/start", "execute", s.execPass},
		{"POST", "/exec/{id}/resize", "execute", s.execPass},
		{"GET", "/exec/{id}/json", "execute", s.execPass},

		{"GET", "/images/json", "get_all", s.imageList},
		{"POST", "/images/create", "create", s.imagePull},
		{"GET", "/images/{name}/json", "get_all", s.imageInspect},

		{"GET", "/volumes", "get_all", s.volumeList},
		{"POST", "/volumes/create", "create", s.volumeCreate},
		{"POST", "/volumes/prune", "delete", s.volumePrune},
		{"GET", "/volumes/{id}", "get_one", s.volumeInspect},
		{"DELETE", "/volumes/{id}", "delete", s.volumeRemove},

		{"GET", "/networks", "get_all", s.networkList},
		{"POST", "/networks/create", "create", s.networkCreate},
		{"POST", "/networks/prune", "delete", s.networkPrune},
		{"GET", "/networks/{id}", "get_one", s.networkInspect},
		{"DELETE", "/networks/{id}", "delete", s.networkRemove},
		{"POST", "/networks/{id}/connect", "network_attach", s.networkConnect},
		{"POST", "/networks/{id}/disconnect", "network_detach", s.networkDisconnect},
	}
}
