package dockerapi

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/distribution/reference"
	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/image"

	core "github.com/strata-cloud/strata/internal/container"
	"github.com/strata-cloud/strata/internal/dockerwire"
	"github.com/strata-cloud/strata/internal/errs"
)

// images views the list of them.
func (s *Server) images(r *request, f filters.Args) ([]image.Summary, error) {
	list, err := s.engine.Images(r.Context())
	if err != nil {
		return nil, err
	}
	wantDangling, err := f.GetBoolOrDefault("dangling", false)
	if err != nil {
		return nil, errs.Invalidf("%s", err)
	}
	var before, since time.Time
	for key, at := range map[string]*time.Time{"before": &before, "since": &since} {
		for _, ref := range f.Get(key) {
			i, err := s.engine.Image(r.Context(), ref)
			if err != nil {
				return nil, err
			}
			*at = i.Created
		}
	}
	used := map[string]int64{}
	containers, err := s.engine.List(core.ListOptions{All: true}, nil)
	if err != nil {
		return nil, err
	}
	for _, c := range containers {
		used[c.ImageID]++
	}
	out := []image.Summary{}
	for _, i := range list {
		tags, digests, cfg := i.Tags(), i.Digests(), i.Config()
		switch {
		case f.Contains("dangling") && wantDangling != (len(tags) == 0),
			!before.IsZero() && !i.Created.Before(before), !since.IsZero() && !i.Created.After(since),
			!labelled(f, cfg.Config.Labels):
			continue
		}
		if f.Contains("reference") {
			if tags, digests = referred(f.Get("reference"), tags, digests); len(tags) == 0 {
				continue
			}
		}
		size, desc := s.engine.Size(r.Context(), i), i.Descriptor()
		out = append(out, image.Summary{ID: i.ID, RepoTags: tags, RepoDigests: digests, Created: i.Created.Unix(), Size: size, SharedSize: -1,
			Labels: cfg.Config.Labels, Containers: used[i.ID], Descriptor: &desc})
	}
	return out, nil
}

// referred are the names of an image that patterns ask for.
func referred(patterns, tags, digests []string) (t, d []string) {
	t = slices.DeleteFunc(tags, func(t string) bool {
		return !slices.ContainsFunc(patterns, func(p string) bool { return matchesReference(p, t) })
	})
	d = slices.DeleteFunc(digests, func(d string) bool {
		repo, _, _ := strings.Cut(d, "@")
		return !slices.ContainsFunc(t, func(t string) bool { return strings.HasPrefix(t, repo+":") })
	})
	return t, d
}

func matchesReference(pattern, tag string) bool {
	r, err := reference.ParseNormalizedNamed(tag)
	if err != nil {
		return false
	}
	ok, err := reference.FamiliarMatch(pattern, r)
	return err == nil && ok
}

func (s *Server) imageTag(w http.ResponseWriter, r *request) error {
	if err := s.engine.Tag(r.Context(), r.Vars["name"], r.Value("repo"), r.Value("tag")); err != nil {
		return err
	}
	w.WriteHeader(http.StatusCreated)
	return nil
}

func (s *Server) imageRemove(w http.ResponseWriter, r *request) error {
	of, err := r.platforms("platforms", "1.50")
	if err != nil {
		return err
	}
	var gone []core.Removed
	if len(of) > 0 {
		gone, err = s.engine.RemovePlatforms(r.Context(), r.Vars["name"], of, r.Flag("force"))
	} else {
		gone, err = s.engine.RemoveImage(r.Context(), r.Vars["name"], r.Flag("force"))
	}
	if err != nil {
		return err
	}
	return dockerwire.Answer(w, http.StatusOK, gone)
}

func (s *Server) imagePrune(w http.ResponseWriter, r *request) error {
	f, spared, err := r.pruning("dangling")
	if err != nil {
		return err
	}
	onlyDangling, err := f.GetBoolOrDefault("dangling", true)
	if err != nil {
		return errs.Invalidf("%s", err)
	}
	gone, freed, err := s.engine.PruneImages(r.Context(), !onlyDangling, func(i *core.Image) bool { return spared(i.Created, i.Config().Config.Labels) })
	if err != nil {
		return err
	}
	if gone == nil {
		gone = []core.Removed{}
	}
	s.engine.Events.Pruned(events.ImageEventType, freed)
	return dockerwire.Answer(w, http.StatusOK, map[string]any{"ImagesDeleted": gone, "SpaceReclaimed": freed})
}

// progress is one line of a long answer.
type progress struct {
	ID     string         `json:"id,omitempty"`
	Status string         `json:"status,omitempty"`
	Stream string         `json:"stream,omitempty"`
	Error  string         `json:"error,omitempty"`
	Detail map[string]any `json:"errorDetail,omitempty"`
	Aux    any            `json:"aux,omitempty"`
}

// lines answers with progress. A failure before the first line has a status; one
// after it is a line.
func lines(w http.ResponseWriter, work func(say func(progress)) error) error {
	begun := false
	out := json.NewEncoder(w)
	say := func(p progress) {
		if !begun {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusOK)
			begun = true
		}
		out.Encode(p)
		flush(w)
	}
	err := work(say)
	if err == nil || !begun {
		return err
	}
	say(progress{Error: err.Error(), Detail: map[string]any{"message": err.Error()}})
	return dockerwire.Late(err)
}

func (s *Server) imageLoad(w http.ResponseWriter, r *request) error {
	of, err := r.platform("1.48")
	if err != nil {
		return err
	}
	return lines(w, func(say func(progress)) error {
		loaded, err := s.engine.Load(r.Context(), r.Body, of)
		for _, l := range loaded {
			say(progress{Stream: l + "\n"})
		}
		return err
	})
}

func (s *Server) imageSave(w http.ResponseWriter, r *request) error {
	names := r.Form["names"]
	if name := r.Vars["name"]; name != "" {
		names = []string{name}
	}
	of, err := r.platform("1.48")
	if err != nil {
		return err
	}
	begun := false
	err = s.engine.Save(r.Context(), names, of, func() {
		begun = true
		w.Header().Set("Content-Type", "application/x-tar")
		w.WriteHeader(http.StatusOK)
	}, w)
	if err != nil && begun {
		panic(http.ErrAbortHandler) // or the client would take half an archive for all of it
	}
	return err
}

// imageCreate imports, or pulls.
func (s *Server) imageCreate(w http.ResponseWriter, r *request) error {
	if p := r.Value("platform"); p != "" {
		if err := core.CheckPlatform(p); err != nil {
			return err
		}
	}
	if src := r.Value("fromSrc"); src != "" {
		if src != "-" {
			return errs.Invalidf("importing from an address is not supported by this engine: send the archive")
		}
		return lines(w, func(say func(progress)) error {
			id, err := s.engine.ImportImage(r.Context(), r.Body, core.ImportOptions{Repo: r.Value("repo"), Tag: r.Value("tag"), Message: r.Value("message"), Changes: r.Form["changes"]})
			if err == nil {
				say(progress{Status: id})
			}
			return err
		})
	}
	cred, err := credentials(r.Header.Get("X-Registry-Auth"))
	if err != nil {
		return err
	}
	return lines(w, func(say func(progress)) error {
		return s.engine.Pull(r.Context(), r.Value("fromImage"), r.Value("tag"), cred, func(id, status string) { say(progress{ID: id, Status: status}) })
	})
}
