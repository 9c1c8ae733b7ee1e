package dockerapi

import (
	"encoding/json"
	"net/http"
	"runtime"
	"time"

	"github.com/docker/docker/api/types"
	"github.com/docker/docker/api/types/build"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/api/types/volume"

	core "github.com/strata-cloud/strata/internal/container"
	"github.com/strata-cloud/strata/internal/dockerwire"
)

func (s *Server) ping(w http.ResponseWriter, r *request) error {
	h := w.Header()
	h.Set("Builder-Version", "2")
	h.Set("Cache-Control", "no-cache, no-store, must-revalidate")
	h.Set("Pragma", "no-cache")
	h.Set("Content-Type", "text/plain; charset=utf-8")
	if r.Method == http.MethodHead {
		return nil
	}
	_, err := w.Write([]byte("OK"))
	return err
}

func (s *Server) version(w http.ResponseWriter, _ *request) error {
	v := types.Version{Version: s.product, APIVersion: dockerwire.MaxVersion, MinAPIVersion: dockerwire.MinVersion, GoVersion: runtime.Version(), Os: runtime.GOOS, Arch: runtime.GOARCH, KernelVersion: core.Kernel()}
	v.Platform.Name = "Strata"
	v.Components = []types.ComponentVersion{{Name: "Engine", Version: s.product, Details: map[string]string{"ApiVersion": dockerwire.MaxVersion, "MinAPIVersion": dockerwire.MinVersion, "GoVersion": v.GoVersion, "Os": v.Os, "Arch": v.Arch, "KernelVersion": v.KernelVersion, "Experimental": "false", "BuildTime": "", "GitCommit": ""}}}
	return dockerwire.Answer(w, http.StatusOK, v)
}

func (s *Server) info(w http.ResponseWriter, r *request) error {
	i, err := s.engine.Info(r.Context())
	if err != nil {
		return err
	}
	i.ServerVersion = s.product
	return dockerwire.Answer(w, http.StatusOK, viewInfo(r.Version, i))
}

func (s *Server) events(w http.ResponseWriter, r *request) error {
	since, err := r.timestamp("since")
	if err != nil {
		return err
	}
	until, err := r.timestamp("until")
	if err != nil {
		return err
	}
	f, err := r.filters("container", "daemon", "event", "image", "label", "network", "scope", "type", "volume")
	if err != nil {
		return err
	}
	past, next, stop := s.engine.Events.Subscribe()
	defer stop()
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusOK)
	out := json.NewEncoder(w)
	say := func(m events.Message) error {
		if !wantsEvent(f, m) {
			return nil
		}
		if err := out.Encode(viewEvent(m)); err != nil {
			return dockerwire.Late(err)
		}
		return nil
	}
	if !since.IsZero() {
		for _, m := range past {
			if at := time.Unix(0, m.TimeNano); at.Before(since) || !until.IsZero() && at.After(until) {
				continue
			}
			if err := say(m); err != nil {
				return err
			}
		}
	}
	flush(w)
	var end <-chan time.Time
	if !until.IsZero() {
		t := time.NewTimer(time.Until(until))
		defer t.Stop()
		end = t.C
	}
	for {
		select {
		case m, ok := <-next:
			if !ok {
				return nil
			}
			if err := say(m); err != nil {
				return err
			}
			flush(w)
		case <-end:
			return nil
		case <-r.Context().Done():
			return nil
		}
	}
}

// event is a message with the fields that clients before 1.22 read.
type event struct {
	Status string `json:"status,omitempty"`
	ID     string `json:"id,omitempty"`
	From   string `json:"from,omitempty"`
	events.Message
}

func viewEvent(m events.Message) event {
	e := event{Message: m}
	if m.Type == events.ContainerEventType || m.Type == events.ImageEventType {
		e.Status, e.ID, e.From = string(m.Action), m.Actor.ID, m.Actor.Attributes["image"]
	}
	return e
}

func flush(w http.ResponseWriter) {
	if f, ok := w.(http.Flusher); ok {
		f.Flush()
	}
}

func wantsEvent(f filters.Args, m events.Message) bool {
	object := func(key string) bool {
		if !f.Contains(key) {
			return true
		}
		name := m.Actor.Attributes["name"]
		if key == "image" && m.Type == events.ContainerEventType {
			name = m.Actor.Attributes["image"]
		} else if string(m.Type) != key {
			return false
		}
		return f.FuzzyMatch(key, m.Actor.ID) || f.ExactMatch(key, name)
	}
	return f.ExactMatch("type", string(m.Type)) && f.FuzzyMatch("event", string(m.Action)) && f.ExactMatch("scope", m.Scope) && f.MatchKVList("label", m.Actor.Attributes) &&
		object("container") && object("image") && object("network") && object("volume") && object("daemon")
}

func (s *Server) diskUsage(w http.ResponseWriter, r *request) error {
	var out struct {
		types.DiskUsage
		Images []image.Summary
	}
	out.Images, out.DiskUsage = []image.Summary{}, types.DiskUsage{Containers: []*container.Summary{}, Volumes: []*volume.Volume{}, BuildCache: []*build.CacheRecord{}}
	kinds := map[string]bool{}
	for _, t := range r.Form["type"] {
		kinds[t] = true
	}
	wants := func(kind string) bool { return len(kinds) == 0 || kinds[kind] }
	if wants("image") {
		list, err := s.images(r, filters.NewArgs())
		if err != nil {
			return err
		}
		for _, i := range list {
			out.LayersSize += i.Size
		}
		out.Images = viewImages(r.Version, list)
	}
	if wants("container") {
		list, err := s.engine.List(core.ListOptions{All: true}, nil)
		if err != nil {
			return err
		}
		for i := range list {
			list[i].SizeRw, list[i].SizeRootFs = s.engine.ContainerSize(r.Context(), list[i].ID)
			out.Containers = append(out.Containers, &list[i])
		}
	}
	if wants("volume") {
		for _, v := range s.engine.Volumes() {
			if len(v.Options) > 0 { // what is mounted there is elsewhere, as with dockerd
				continue
			}
			v.Volume.UsageData = &volume.UsageData{RefCount: int64(len(v.Users)), Size: core.DirSize(v.Mountpoint)}
			out.Volumes = append(out.Volumes, v.Volume)
		}
	}
	if wants("build-cache") {
		var err error
		if out.BuildCache, err = s.engine.BuildCache(r.Context()); err != nil {
			return err
		}
	}
	return dockerwire.Answer(w, http.StatusOK, out)
}
