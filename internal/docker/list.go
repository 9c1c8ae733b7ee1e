package docker

import (
	"context"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/docker/docker/api/types/filters"

	"github.com/strata-cloud/strata/internal/dockerwire"
	"github.com/strata-cloud/strata/internal/errs"
)

// LabelNode is the label under which a container's node is shown.
const LabelNode = "strata.node"

// listPatience bounds how long a list waits for a node.
const listPatience = 5 * time.Second

// list gives the project's containers, of all nodes.
func (s *Service) list(w http.ResponseWriter, r *request) error {
	f, err := filters.FromJSON(r.Value("filters"))
	if err != nil {
		return errs.Invalidf("%s", err)
	}
	limit := 0
	if v := r.Value("limit"); v != "" {
		if limit, err = strconv.Atoi(v); err != nil {
			return errs.Invalidf("invalid limit: %q is not a number", v)
		}
	}
	recs, theirs, err := s.filter(r, f)
	if err != nil {
		return err
	}
	if !r.Flag("all") && limit <= 0 && !theirs.Contains("status") && !theirs.Contains("exited") {
		for _, state := range []string{"running", "paused", "restarting"} {
			theirs.Add("status", state)
		}
	}
	out := s.summaries(r, recs, theirs)
	if limit > 0 && len(out) > limit {
		out = out[:limit]
	}
	return dockerwire.Answer(w, http.StatusOK, out)
}

// ourFilters are those that the records answer; the others are the engines'.
var (
	ourFilters   = []string{"id", "name", "before", "since", "network", "ancestor"}
	theirFilters = []string{"label", "status", "exited", "health", "expose", "volume"}
)

// filter applies the filters that the records answer, and gives the others.
func (s *Service) filter(r *request, f filters.Args) ([]*Container, filters.Args, error) {
	theirs := filters.NewArgs()
	for _, k := range f.Keys() {
		switch {
		case slices.Contains(theirFilters, k):
			for _, v := range f.Get(k) {
				theirs.Add(k, v)
				if k == "volume" {
					for _, id := range volumeFilter(s.of(r.who.ProjectID), v) {
						theirs.Add(k, id)
					}
				}
			}
		case !slices.Contains(ourFilters, k):
			return nil, theirs, errs.Invalidf("invalid filter '%s'", k)
		}
	}
	recs := s.of(r.who.ProjectID)
	for key, keep := range map[string]func(c, than *Container) bool{
		"before": func(c, than *Container) bool { return c.Created.Before(than.Created) },
		"since":  func(c, than *Container) bool { return c.Created.After(than.Created) },
	} {
		for _, ref := range f.Get(key) {
			than, err := s.find(r.who.ProjectID, ref)
			if err != nil {
				return nil, theirs, err
			}
			recs = slices.DeleteFunc(recs, func(c *Container) bool { return !keep(c, than) })
		}
	}
	any := func(key string, ok func(v string) bool) bool {
		return !f.Contains(key) || slices.ContainsFunc(f.Get(key), ok)
	}
	return slices.DeleteFunc(recs, func(c *Container) bool {
		return !any("id", func(v string) bool { return matchText(v, c.ID) }) ||
			!any("name", func(v string) bool { return matchText(v, "/"+c.Name) || matchText(v, c.Name) }) ||
			!any("ancestor", func(v string) bool { return v == c.Image || strings.HasPrefix(c.ImageID, v) }) ||
			!any("network", func(v string) bool {
				return slices.ContainsFunc(c.Ports, func(p Port) bool { return p.Network == v || strings.HasPrefix(p.NetworkID, v) })
			})
	}), theirs, nil
}

// matchText takes a regular expression, or text as it is when that is none.
func matchText(want, is string) bool {
	re, err := regexp.Compile(want)
	if err != nil {
		return want == is
	}
	return re.MatchString(is)
}

// summaries asks every node at once for what it has of the containers.
func (s *Service) summaries(r *request, recs []*Container, f filters.Args) []map[string]any {
	byNode := map[string][]*Container{}
	for _, c := range recs {
		byNode[c.Node] = append(byNode[c.Node], c)
	}
	var mu sync.Mutex
	found := map[string]map[string]any{}
	var group sync.WaitGroup
	for node, list := range byNode {
		group.Go(func() {
			views := s.onNode(r, node, list, f)
			mu.Lock()
			defer mu.Unlock()
			maps.Copy(found, views)
		})
	}
	group.Wait()
	out := []map[string]any{}
	for _, c := range recs {
		if v := found[c.ID]; v != nil {
			out = append(out, s.summary(c, v))
		}
	}
	return out
}

// onNode gives what a node lists, by id. Of one that cannot be asked nobody knows more
// than that the container is there.
func (s *Service) onNode(r *request, node string, list []*Container, f filters.Args) map[string]map[string]any {
	out := map[string]map[string]any{}
	ctx, cancel := context.WithTimeout(r.Context(), listPatience)
	defer cancel()
	mine := f.Clone()
	for _, c := range list {
		if c.State == Ready {
			mine.Add("id", "^"+c.ID+"$")
		}
	}
	var views []map[string]any
	err := errs.New(errs.Unavailable, "it is being created")
	if text, e := filters.ToJSON(mine); mine.Contains("id") && e == nil {
		q := url.Values{"all": {"1"}, "filters": {text}}
		if r.Flag("size") {
			q.Set("size", "1")
		}
		if e := s.ask(ctx, node, http.MethodGet, "/containers/json", q, &views); e == nil {
			err = nil
		} else {
			s.Log.Debug("containers of a node that does not answer", "node", node, "err", e)
		}
	}
	for _, v := range views {
		if id, _ := v["Id"].(string); id != "" {
			out[id] = v
		}
	}
	for _, c := range list {
		switch {
		case c.State == Creating && err == nil, err != nil && !f.Contains("exited") && (!f.Contains("status") || f.ExactMatch("status", "running")):
			out[c.ID] = unknown(c)
		}
	}
	return out
}

// unknown is a summary of a container whose node does not answer.
func unknown(c *Container) map[string]any {
	state, text := "unknown", "Unknown (node "+c.Node+" is away)"
	if c.State == Creating {
		state, text = "created", "Being created"
	}
	return map[string]any{"Id": c.ID, "Image": c.Image, "ImageID": c.ImageID, "Command": "", "Created": c.Created.Unix(), "Ports": []any{}, "Labels": map[string]any{},
		"State": state, "Status": text, "Mounts": []any{}, "HostConfig": map[string]any{}}
}

// summary makes a node's view the project's.
func (s *Service) summary(c *Container, v map[string]any) map[string]any {
	v["Names"], v["Image"] = []string{"/" + c.Name}, c.Image
	labels, _ := v["Labels"].(map[string]any)
	if labels == nil {
		labels = map[string]any{}
	}
	labels[LabelNode] = c.Node
	v["Labels"] = labels
	c.mountNames(v["Mounts"])
	v["NetworkSettings"] = map[string]any{"Networks": s.endpoints(c)}
	if h, ok := v["HostConfig"].(map[string]any); ok {
		h["NetworkMode"] = modeOf(c)
	}
	return v
}

// modeOf is the network mode as a client would have given it.
func modeOf(c *Container) string {
	if len(c.Ports) == 0 {
		return "none"
	}
	return c.Ports[0].Network
}
