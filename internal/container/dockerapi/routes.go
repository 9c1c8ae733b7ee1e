package dockerapi

// routes is every operation that there is. {name} matches over slashes, since images'
// names have them.
func (s *Server) routes() []route {
	return []route{
		{"GET", "/_ping", s.ping},
		{"HEAD", "/_ping", s.ping},
		{"GET", "/version", s.version},
		{"GET", "/info", s.info},
		{"GET", "/events", s.events},
		{"GET", "/system/df", s.diskUsage},
		{"POST", "/auth", s.login},
		{"POST", "/commit", s.commit},

		{"GET", "/containers/json", s.containerList},
		{"POST", "/containers/create", s.containerCreate},
		{"POST", "/containers/prune", s.containerPrune},
		{"GET", "/containers/{id}/json", s.containerInspect},
		{"GET", "/containers/{id}/top", s.containerTop},
		{"GET", "/containers/{id}/logs", s.containerLogs},
		{"GET", "/containers/{id}/stats", s.containerStats},
		{"POST", "/containers/{id}/start", s.containerStart},
		{"POST", "/containers/{id}/stop", s.containerStop},
		{"POST", "/containers/{id}/restart", s.containerRestart},
		{"POST", "/containers/{id}/kill", s.containerKill},
		{"POST", "/containers/{id}/pause", s.containerPause},
		{"POST", "/containers/{id}/unpause", s.containerUnpause},
		{"POST", "/containers/{id}/rename", s.containerRename},
		{"POST", "/containers/{id}/wait", s.containerWait},
		{"POST", "/containers/{id}/resize", s.containerResize},
		{"POST", "/containers/{id}/attach", s.containerAttach},
		{"POST", "/containers/{id}/update", s.containerUpdate},
		{"HEAD", "/containers/{id}/archive", s.archiveStat},
		{"GET", "/containers/{id}/archive", s.archiveGet},
		{"PUT", "/containers/{id}/archive", s.archivePut},
		{"GET", "/containers/{id}/changes", s.containerChanges},
		{"GET", "/containers/{id}/export", s.containerExport},
		{"DELETE", "/containers/{id}", s.containerRemove},

		{"POST", "/containers/{id}/exec", s.execCreate},
		{"POST", "/exec/{id}/start", s.execStart},
		{"POST", "/exec/{id}/resize", s.execResize},
		{"GET", "/exec/{id}/json", s.execInspect},

		{"GET", "/images/json", s.imageList},
		{"GET", "/images/get", s.imageSave},
		{"POST", "/images/create", s.imageCreate},
		{"POST", "/images/load", s.imageLoad},
		{"POST", "/images/prune", s.imagePrune},
		{"GET", "/images/{name}/json", s.imageInspect},
		{"GET", "/images/{name}/history", s.imageHistory},
		{"GET", "/images/{name}/get", s.imageSave},
		{"POST", "/images/{name}/tag", s.imageTag},
		{"POST", "/images/{name}/push", s.imagePush},
		{"GET", "/images/search", s.imageSearch},
		{"DELETE", "/images/{name}", s.imageRemove},

		{"GET", "/distribution/{name}/json", s.distribution},

		{"POST", "/build", s.build},
		{"POST", "/build/cancel", s.buildCancel},
		{"POST", "/build/prune", s.buildPrune},
		{"POST", "/session", s.buildSession},
		{"POST", "/grpc", s.grpc},

		{"GET", "/networks", s.networkList},
		{"POST", "/networks/create", s.networkCreate},
		{"POST", "/networks/prune", s.networkPrune},
		{"GET", "/networks/{id}", s.networkInspect},
		{"DELETE", "/networks/{id}", s.networkRemove},

		{"GET", "/volumes", s.volumeList},
		{"POST", "/volumes/create", s.volumeCreate},
		{"POST", "/volumes/prune", s.volumePrune},
		{"GET", "/volumes/{id}", s.volumeInspect},
		{"DELETE", "/volumes/{id}", s.volumeRemove},
	}
}
