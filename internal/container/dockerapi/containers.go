package dockerapi

import (
	"encoding/json"
	"net/http"
	"slices"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/versions"

	core "github.com/strata-cloud/strata/internal/container"
	"github.com/strata-cloud/strata/internal/dockerwire"
	"github.com/strata-cloud/strata/internal/errs"
)

func (s *Server) containerList(w http.ResponseWriter, r *request) error {
	f, err := r.filters()
	if err != nil {
		return err
	}
	limit, err := r.number("limit")
	if err != nil {
		return err
	}
	opt := core.ListOptions{All: r.Flag("all"), Filters: f}
	if limit != nil {
		opt.Limit = *limit
	}
	list, err := s.engine.List(opt, func(id, ref string) bool {
		i, err := s.engine.Image(r.Context(), ref)
		return err == nil && i.ID == id
	})
	if err != nil {
		return err
	}
	if r.Flag("size") {
		for i := range list {
			list[i].SizeRw, list[i].SizeRootFs = s.engine.ContainerSize(r.Context(), list[i].ID)
		}
	}
	viewSummaries(r.Version, list)
	return dockerwire.Answer(w, http.StatusOK, list)
}

func (s *Server) containerCreate(w http.ResponseWriter, r *request) error {
	var req container.CreateRequest
	if err := r.Read(&req); err != nil {
		return err
	}
	if p := r.Value("platform"); p != "" {
		if err := core.CheckPlatform(p); err != nil {
			return err
		}
	}
	more, err := readCreate(r.Version, &req)
	if err != nil {
		return err
	}
	id, warnings, err := s.engine.Create(r.Context(), r.Value("name"), req)
	if err != nil {
		return err
	}
	return dockerwire.Answer(w, http.StatusCreated, container.CreateResponse{ID: id, Warnings: append(append([]string{}, warnings...), more...)})
}

func (s *Server) containerInspect(w http.ResponseWriter, r *request) error {
	v, err := s.engine.Inspect(r.Vars["id"])
	if err != nil {
		return err
	}
	viewContainer(r.Version, &v)
	if r.Flag("size") {
		rw, root := s.engine.ContainerSize(r.Context(), v.ID)
		v.SizeRw, v.SizeRootFs = &rw, &root
	}
	return dockerwire.Answer(w, http.StatusOK, v)
}

// shortAliases adds what older clients look for: a container's short id among its
// aliases on networks with names.
func shortAliases(id string, nets map[string]*network.EndpointSettings) {
	for _, e := range nets {
		if len(e.DNSNames) > 0 && !slices.Contains(e.Aliases, id[:12]) {
			e.Aliases = append(slices.Clone(e.Aliases), id[:12])
		}
	}
}

func (s *Server) containerTop(w http.ResponseWriter, r *request) error {
	t, err := s.engine.Top(r.Context(), r.Vars["id"], r.Value("ps_args"))
	if err != nil {
		return err
	}
	return dockerwire.Answer(w, http.StatusOK, t)
}

func (s *Server) containerStats(w http.ResponseWriter, r *request) error {
	stream := r.Value("stream") == "" || r.Flag("stream")
	var prev *container.StatsResponse
	if !stream && !r.Flag("one-shot") { // upstream gives a difference over a second
		first, err := s.engine.Stats(r.Context(), r.Vars["id"])
		if err != nil {
			return err
		}
		prev = first
	}
	t := time.NewTicker(time.Second)
	defer t.Stop()
	out := json.NewEncoder(w)
	for first := true; ; first = false {
		if !first || prev != nil {
			select {
			case <-t.C:
			case <-r.Context().Done():
				return nil
			}
		}
		now, err := s.engine.Stats(r.Context(), r.Vars["id"])
		if err != nil {
			if first {
				return err
			}
			return nil // it is gone
		}
		if prev != nil {
			now.PreCPUStats, now.PreRead = prev.CPUStats, prev.Read
		}
		prev = now
		w.Header().Set("Content-Type", "application/json")
		if err := out.Encode(now); err != nil {
			return dockerwire.Late(err)
		}
		if !stream {
			return nil
		}
		flush(w)
	}
}

// done answers 204 when nothing went wrong.
func done(w http.ResponseWriter, err error) error {
	if err == nil {
		w.WriteHeader(http.StatusNoContent)
	}
	return err
}

func (s *Server) containerStart(w http.ResponseWriter, r *request) error {
	return done(w, s.engine.Start(r.Vars["id"]))
}

func (s *Server) containerStop(w http.ResponseWriter, r *request) error {
	t, err := r.number("t")
	if err != nil {
		return err
	}
	return done(w, s.engine.Stop(r.Context(), r.Vars["id"], r.Value("signal"), t))
}

func (s *Server) containerRestart(w http.ResponseWriter, r *request) error {
	t, err := r.number("t")
	if err != nil {
		return err
	}
	return done(w, s.engine.Restart(r.Context(), r.Vars["id"], r.Value("signal"), t))
}

func (s *Server) containerKill(w http.ResponseWriter, r *request) error {
	return done(w, s.engine.Kill(r.Vars["id"], r.Value("signal")))
}

func (s *Server) containerPause(w http.ResponseWriter, r *request) error {
	return done(w, s.engine.Pause(r.Vars["id"]))
}

func (s *Server) containerUnpause(w http.ResponseWriter, r *request) error {
	return done(w, s.engine.Unpause(r.Vars["id"]))
}

func (s *Server) containerRename(w http.ResponseWriter, r *request) error {
	return done(w, s.engine.Rename(r.Vars["id"], r.Value("name")))
}

func (s *Server) containerRemove(w http.ResponseWriter, r *request) error {
	if r.Flag("link") {
		return done(w, s.engine.RemoveLink(r.Vars["name"]))
	}
	return done(w, s.engine.Remove(r.Vars["name"], r.Flag("force"), r.Flag("v")))
}

func (s *Server) containerResize(w http.ResponseWriter, r *request) error {
	h, width, err := r.size()
	if err != nil {
		return err
	}
	if err := s.engine.Resize(r.Vars["id"], h, width); err != nil {
		return err
	}
	w.WriteHeader(http.StatusOK)
	return nil
}

// size reads a terminal's.
func (r *request) size() (height, width uint32, err error) {
	h, err := r.number("h")
	if err != nil {
		return 0, 0, err
	}
	w, err := r.number("w")
	if err != nil {
		return 0, 0, err
	}
	if h == nil || w == nil || *h < 0 || *w < 0 || *h > 1<<16 || *w > 1<<16 {
		return 0, 0, errs.Invalidf("invalid size of a terminal: h=%s w=%s", r.Value("h"), r.Value("w"))
	}
	return uint32(*h), uint32(*w), nil
}

func (s *Server) containerWait(w http.ResponseWriter, r *request) error {
	cond := container.WaitCondition(r.Value("condition"))
	if versions.LessThan(r.Version, "1.30") {
		cond = ""
	}
	wait, err := s.engine.NewWait(r.Vars["id"], cond)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusOK) // a client begins to rely on the wait with the header
	flush(w)
	code, err := wait(r.Context())
	out := container.WaitResponse{StatusCode: int64(code)}
	if err != nil {
		if r.Context().Err() != nil {
			return nil
		}
		out.Error = &container.WaitExitError{Message: err.Error()}
	}
	if err := json.NewEncoder(w).Encode(out); err != nil {
		return dockerwire.Late(err)
	}
	return nil
}

func (s *Server) containerPrune(w http.ResponseWriter, r *request) error {
	_, spared, err := r.pruning()
	if err != nil {
		return err
	}
	gone, err := s.engine.PruneContainers(spared)
	if err != nil {
		return err
	}
	s.engine.Events.Pruned(events.ContainerEventType, 0)
	return dockerwire.Answer(w, http.StatusOK, container.PruneReport{ContainersDeleted: gone})
}
