package docker

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/docker/docker/api/types/filters"

	"github.com/strata-cloud/strata/internal/dockerwire"
	"github.com/strata-cloud/strata/internal/errs"
)

func noFilters() filters.Args { return filters.NewArgs() }

func quantity(n, limit int) string {
	if limit < 0 {
		return fmt.Sprintf("%d (no limit)", n)
	}
	return fmt.Sprintf("%d of %d", n, limit)
}

// nodesAgain is how often a follower of events looks which nodes there are.
const nodesAgain = 2 * time.Second

// events merges those of all nodes that are about the project's containers.
func (s *Service) events(w http.ResponseWriter, r *request) error {
	f, err := filters.FromJSON(r.Value("filters"))
	if err != nil {
		return errs.Invalidf("%s", err)
	}
	if err := f.Validate(map[string]bool{"container": true, "event": true, "type": true, "label": true, "image": true}); err != nil {
		return errs.Invalidf("%s", err)
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(s.life, cancel)()
	if until := r.Value("until"); until != "" {
		at, err := strconv.ParseFloat(until, 64)
		if err != nil {
			return errs.Invalidf("invalid value for \"until\": %q", until)
		}
		var end context.CancelFunc
		ctx, end = context.WithDeadline(ctx, time.Unix(0, int64(at*1e9)))
		defer end()
	}
	m := &merger{s: s, on: map[string]bool{}, project: r.who.ProjectID, out: json.NewEncoder(w), flush: http.NewResponseController(w).Flush, containers: f.Get("container")}
	theirs := f.Clone()
	for _, c := range f.Get("container") { // names are the project's: they are looked at here
		theirs.Del("container", c)
	}
	theirs.Del("type", "container")
	theirs.Add("type", "container")
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusOK)
	_ = m.flush()
	m.follow(ctx, r, theirs)
	return nil
}

// merger writes the events of several nodes.
type merger struct {
	s          *Service
	project    string
	containers []string
	mu         sync.Mutex
	on         map[string]bool // nodes that are read from
	out        *json.Encoder
	flush      func() error
}

// follow reads from every node that there is, and from those that come.
func (m *merger) follow(ctx context.Context, r *request, f filters.Args) {
	var group sync.WaitGroup
	defer group.Wait()
	text, err := filters.ToJSON(f)
	if err != nil {
		return
	}
	q := url.Values{"filters": {text}}
	for _, k := range []string{"since", "until"} {
		if v := r.Value(k); v != "" {
			q.Set(k, v)
		}
	}
	t := time.NewTicker(nodesAgain)
	defer t.Stop()
	for {
		for _, n := range m.s.Nodes.Infos.All() {
			if !n.Containers || m.s.away(n.ID) || !m.begin(n.ID) {
				continue
			}
			query := q.Encode()
			group.Go(func() {
				defer m.done(n.ID)
				m.read(ctx, n.ID, query)
			})
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			q.Del("since") // what a node that comes back has from before was told, or is lost
		}
	}
}

// begin notes that a node is read from; false: it is already.
func (m *merger) begin(node string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	was := m.on[node]
	m.on[node] = true
	return !was
}

func (m *merger) done(node string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.on, node)
}

func (m *merger) read(ctx context.Context, node, query string) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+node+"/v"+dockerwire.MaxVersion+"/events?"+query, nil)
	if err != nil {
		return
	}
	resp, err := m.s.transport(node).RoundTrip(r)
	if err != nil {
		return
	}
	defer resp.Body.Close()
	d := json.NewDecoder(resp.Body)
	d.UseNumber()
	for {
		var v map[string]any
		if d.Decode(&v) != nil {
			return
		}
		if _, isEvent := v["Type"]; isEvent {
			m.write(v)
		}
	}
}

// write passes an event on if it is about a container of the project, under its name.
func (m *merger) write(v map[string]any) {
	actor, _ := v["Actor"].(map[string]any)
	id, _ := actor["ID"].(string)
	c, err := m.s.containers.Get(id)
	if err != nil || c.ProjectID != m.project {
		return
	}
	if attrs, ok := actor["Attributes"].(map[string]any); ok {
		attrs["name"], attrs["image"], attrs["node.name"] = c.Name, c.Image, c.Node
	}
	if _, ok := v["from"]; ok {
		v["from"] = c.Image
	}
	if len(m.containers) > 0 {
		named := false
		for _, ref := range m.containers {
			named = named || ref == c.Name || ref == c.ID
		}
		if !named {
			return
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.out.Encode(v) == nil {
		_ = m.flush()
	}
}
