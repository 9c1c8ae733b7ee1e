package dockerapi

import (
	"net/http"
	"slices"

	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/versions"
	"github.com/docker/docker/api/types/volume"

	core "github.com/strata-cloud/strata/internal/container"
	"github.com/strata-cloud/strata/internal/dockerwire"
	"github.com/strata-cloud/strata/internal/errs"
)

func (s *Server) volumeList(w http.ResponseWriter, r *request) error {
	f, err := r.filters("dangling", "driver", "label", "name")
	if err != nil {
		return err
	}
	dangling, err := f.GetBoolOrDefault("dangling", false)
	if err != nil {
		return errs.Invalidf("%s", err)
	}
	out := volume.ListResponse{Volumes: []*volume.Volume{}, Warnings: []string{}}
	for _, v := range s.engine.Volumes() {
		if f.ExactMatch("driver", v.Driver) && f.MatchKVList("label", v.Labels) && (!f.Contains("name") || slices.ContainsFunc(f.Get("name"), func(n string) bool { return matches(n, v.Name) })) &&
			(!f.Contains("dangling") || dangling == (len(v.Users) == 0)) {
			out.Volumes = append(out.Volumes, v.Volume)
		}
	}
	return dockerwire.Answer(w, http.StatusOK, out)
}

func (s *Server) volumeCreate(w http.ResponseWriter, r *request) error {
	var o volume.CreateOptions
	if err := r.Read(&o); err != nil {
		return err
	}
	v, err := s.engine.CreateVolume(o)
	if err != nil {
		return err
	}
	return dockerwire.Answer(w, http.StatusCreated, v)
}

func (s *Server) volumeInspect(w http.ResponseWriter, r *request) error {
	v, err := s.engine.Volume(r.Vars["id"])
	if err != nil {
		return err
	}
	return dockerwire.Answer(w, http.StatusOK, v)
}

func (s *Server) volumeRemove(w http.ResponseWriter, r *request) error {
	return done(w, s.engine.RemoveVolume(r.Vars["id"], r.Flag("force")))
}

func (s *Server) volumePrune(w http.ResponseWriter, r *request) error {
	f, err := r.filters("label", "label!", "all")
	if err != nil {
		return err
	}
	all, err := f.GetBoolOrDefault("all", false)
	if err != nil {
		return errs.Invalidf("%s", err)
	}
	all = all || versions.LessThan(r.Version, "1.42") // which knew no other way
	gone, freed := []string{}, int64(0)
	for _, v := range s.engine.Volumes() {
		if len(v.Users) > 0 || len(v.Options) > 0 || !v.Anonymous && !all || !labelled(f, v.Labels) {
			continue
		}
		size := core.DirSize(v.Mountpoint)
		if err := s.engine.RemoveVolume(v.Name, false); err != nil {
			if errs.Is(err, errs.NotFound) || errs.Is(err, errs.Conflict) {
				continue
			}
			return err
		}
		gone, freed = append(gone, v.Name), freed+size
	}
	s.engine.Events.Pruned(events.VolumeEventType, freed)
	return dockerwire.Answer(w, http.StatusOK, map[string]any{"VolumesDeleted": gone, "SpaceReclaimed": freed})
}
