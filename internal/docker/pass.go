package docker

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"regexp"
	"strings"

	"github.com/docker/docker/api/types/container"

	"github.com/strata-cloud/strata/internal/errs"
)

// pass has the node answer for a container, under its id.
func (s *Service) pass(w http.ResponseWriter, r *request) error {
	c, err := s.placed(r.who.ProjectID, r.Vars["id"])
	if err != nil {
		return err
	}
	return s.forward(w, r, c.Node, pathOf(r, "/containers/", c.ID), nil)
}

// wait is pass, which for a container that its engine removes when it ends also has the
// records know that, before the client does: it may want the name or a volume again.
func (s *Service) wait(w http.ResponseWriter, r *request) error {
	c, err := s.placed(r.who.ProjectID, r.Vars["id"])
	if err != nil {
		return err
	}
	return s.forward(w, r, c.Node, pathOf(r, "/containers/", c.ID), func(resp *http.Response) error {
		if c.AutoRemove {
			resp.Body = &held{from: resp.Body, then: func() {
				if err := s.reconcile(r.Context(), c.ID); err != nil {
					s.Log.Debug("a container that has ended", "container", c.ID, "err", err)
				}
			}}
		}
		return nil
	})
}

// held is a body that is read as a whole, with something done before it is given.
type held struct {
	from io.ReadCloser
	then func()
	all  *bytes.Reader
}

// Read implements io.Reader.
func (h *held) Read(p []byte) (int, error) {
	if h.all == nil {
		raw, err := io.ReadAll(h.from)
		if err != nil {
			return 0, err
		}
		h.then()
		h.all = bytes.NewReader(raw)
	}
	return h.all.Read(p)
}

// Close implements io.Closer.
func (h *held) Close() error { return h.from.Close() }

// pathOf puts another id into a path.
func pathOf(r *request, prefix, id string) string {
	return prefix + id + strings.TrimPrefix(r.Path, prefix+r.Vars["id"])
}

// stats is pass, with the container's own name in each line.
func (s *Service) stats(w http.ResponseWriter, r *request) error {
	c, err := s.placed(r.who.ProjectID, r.Vars["id"])
	if err != nil {
		return err
	}
	return s.forward(w, r, c.Node, pathOf(r, "/containers/", c.ID), each(func(v map[string]any) { v["name"] = "/" + c.Name }))
}

// execCreate gives an id that has the container's in it.
func (s *Service) execCreate(w http.ResponseWriter, r *request) error {
	c, err := s.placed(r.who.ProjectID, r.Vars["id"])
	if err != nil {
		return err
	}
	var opt container.ExecOptions
	if err := r.Read(&opt); err != nil {
		return err
	}
	if opt.Privileged {
		return no(true, "a privileged command")
	}
	raw, err := json.Marshal(opt)
	if err != nil {
		return err
	}
	r.Body, r.ContentLength = io.NopCloser(strings.NewReader(string(raw))), int64(len(raw))
	return s.forward(w, r, c.Node, pathOf(r, "/containers/", c.ID), func(resp *http.Response) error {
		if resp.StatusCode != http.StatusCreated {
			return nil
		}
		resp.StatusCode = http.StatusOK
		err := rewritten(func(v map[string]any) {
			id, _ := v["Id"].(string)
			v["Id"] = id + c.ID
		})(resp)
		resp.StatusCode = http.StatusCreated
		return err
	})
}

// execID is what execCreate gave: the exec's id, then its container's.
var execID = regexp.MustCompile(`^([0-9a-f]{64})([0-9a-f]{64})$`)

// execPass has the node answer for an exec, when it is one of a container of the caller's.
func (s *Service) execPass(w http.ResponseWriter, r *request) error {
	missing := errs.NotFoundf("No such exec instance: %s", r.Vars["id"])
	m := execID.FindStringSubmatch(r.Vars["id"])
	if m == nil {
		return missing
	}
	c, err := s.containers.Get(m[2])
	if err != nil || c.ProjectID != r.who.ProjectID || !c.seen() {
		return missing
	}
	var have struct{ ContainerID string }
	if err := s.ask(r.Context(), c.Node, http.MethodGet, "/exec/"+m[1]+"/json", nil, &have); err != nil {
		return err
	}
	if have.ContainerID != c.ID { // of another project, for all we know
		return missing
	}
	var change func(*http.Response) error
	if r.Method == http.MethodGet {
		change = rewritten(func(v map[string]any) { v["ID"] = r.Vars["id"] })
	}
	return s.forward(w, r, c.Node, pathOf(r, "/exec/", m[1]), change)
}
