package dockerapi

import (
	"net/http"
	"regexp"
	"slices"
	"strings"

	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/network"

	"github.com/strata-cloud/strata/internal/dockerwire"
	"github.com/strata-cloud/strata/internal/errs"
)

// predefined are the networks that are always there.
var predefined = []string{"bridge", "host", "none"}

func (s *Server) networkList(w http.ResponseWriter, r *request) error {
	f, err := r.filters("dangling", "driver", "id", "label", "name", "scope", "type")
	if err != nil {
		return err
	}
	used, err := s.usedNetworks()
	if err != nil {
		return err
	}
	out := []network.Inspect{}
	for _, n := range s.engine.Networks() {
		ok, err := wantsNetwork(f, n, used[n.ID])
		if err != nil {
			return err
		}
		if ok {
			n.Containers = map[string]network.EndpointResource{} // the list has none, as upstream
			out = append(out, n)
		}
	}
	return dockerwire.Answer(w, http.StatusOK, out)
}

func wantsNetwork(f filters.Args, n network.Inspect, used bool) (bool, error) {
	custom := !slices.Contains(predefined, n.Name)
	dangling, err := f.GetBoolOrDefault("dangling", false)
	if err != nil {
		return false, errs.Invalidf("%s", err)
	}
	for _, t := range f.Get("type") {
		if t != "custom" && t != "builtin" {
			return false, errs.Invalidf("invalid filter: 'type'='%s'", t)
		}
	}
	kind := "builtin"
	if custom {
		kind = "custom"
	}
	return f.ExactMatch("driver", n.Driver) && f.ExactMatch("scope", n.Scope) && f.MatchKVList("label", n.Labels) && f.FuzzyMatch("id", n.ID) && f.ExactMatch("type", kind) &&
		(!f.Contains("name") || slices.ContainsFunc(f.Get("name"), func(v string) bool { return matches(v, n.Name) })) &&
		(!f.Contains("dangling") || dangling == (custom && !used)), nil
}

// matches takes a regular expression, or text as it is when that is none.
func matches(want, is string) bool {
	re, err := regexp.Compile(want)
	if err != nil {
		return strings.Contains(is, want)
	}
	return re.MatchString(is)
}

// usedNetworks are those that some container, running or not, is on.
func (s *Server) usedNetworks() (map[string]bool, error) {
	used := map[string]bool{}
	for _, id := range s.engine.EndpointNetworks() {
		used[id] = true
	}
	return used, nil
}

func (s *Server) networkCreate(w http.ResponseWriter, r *request) error {
	var req network.CreateRequest
	if err := r.Read(&req); err != nil {
		return err
	}
	readNetwork(r.Version, &req)
	id, err := s.engine.CreateNetwork(req)
	if err != nil {
		return err
	}
	return dockerwire.Answer(w, http.StatusCreated, network.CreateResponse{ID: id})
}

func (s *Server) networkInspect(w http.ResponseWriter, r *request) error {
	n, err := s.engine.Network(r.Vars["id"])
	if err != nil {
		return err
	}
	if scope := r.Value("scope"); scope != "" && scope != n.Scope {
		return errs.NotFoundf("network %s not found", r.Vars["id"])
	}
	return dockerwire.Answer(w, http.StatusOK, n)
}

func (s *Server) networkRemove(w http.ResponseWriter, r *request) error {
	return done(w, s.engine.RemoveNetwork(r.Vars["id"]))
}

func (s *Server) networkConnect(w http.ResponseWriter, r *request) error {
	var req network.ConnectOptions
	if err := r.Read(&req); err != nil {
		return err
	}
	return ok(w, s.engine.Connect(r.Vars["id"], req.Container, req.EndpointConfig))
}

func (s *Server) networkDisconnect(w http.ResponseWriter, r *request) error {
	var req network.DisconnectOptions
	if err := r.Read(&req); err != nil {
		return err
	}
	return ok(w, s.engine.Disconnect(r.Vars["id"], req.Container, req.Force))
}

// ok answers 200, without a body, when nothing went wrong.
func ok(w http.ResponseWriter, err error) error {
	if err == nil {
		w.WriteHeader(http.StatusOK)
	}
	return err
}

func (s *Server) networkPrune(w http.ResponseWriter, r *request) error {
	_, spared, err := r.pruning()
	if err != nil {
		return err
	}
	used, err := s.usedNetworks()
	if err != nil {
		return err
	}
	gone := []string{}
	for _, n := range s.engine.Networks() {
		if slices.Contains(predefined, n.Name) || used[n.ID] || spared(n.Created, n.Labels) {
			continue
		}
		if err := s.engine.RemoveNetwork(n.ID); err != nil {
			if errs.Is(err, errs.NotFound) || errs.Is(err, errs.Forbidden) {
				continue
			}
			return err
		}
		gone = append(gone, n.Name)
	}
	s.engine.Events.Pruned(events.NetworkEventType, 0)
	return dockerwire.Answer(w, http.StatusOK, map[string]any{"NetworksDeleted": gone})
}
