package docker

import (
	"net/http"
	"time"

	"github.com/strata-cloud/strata/internal/dockerwire"
	"github.com/strata-cloud/strata/internal/errs"
)

// inspect gives what the node knows, under the project's names.
func (s *Service) inspect(w http.ResponseWriter, r *request) error {
	c, err := s.placed(r.who.ProjectID, r.Vars["id"])
	if err != nil {
		return err
	}
	err = s.forward(w, r, c.Node, "/containers/"+c.ID+"/json", rewritten(func(v map[string]any) { s.details(c, v) }))
	if errs.Is(err, errs.Unavailable) {
		return dockerwire.Answer(w, http.StatusOK, s.absent(c, err))
	}
	return err
}

// details makes a node's view the project's: its own names, and nothing of the node's paths.
func (s *Service) details(c *Container, v map[string]any) {
	v["Name"] = "/" + c.Name
	v["Node"] = map[string]any{"Name": c.Node}
	for _, path := range []string{"ResolvConfPath", "HostnamePath", "HostsPath", "LogPath"} {
		v[path] = ""
	}
	v["GraphDriver"] = map[string]any{"Name": "overlayfs", "Data": nil}
	if config, ok := v["Config"].(map[string]any); ok {
		config["Image"] = c.Image
		labels, _ := config["Labels"].(map[string]any)
		if labels == nil {
			labels = map[string]any{}
		}
		labels[LabelNode] = c.Node
		config["Labels"] = labels
	}
	if h, ok := v["HostConfig"].(map[string]any); ok {
		h["NetworkMode"] = modeOf(c)
		c.asAsked(h)
	}
	c.mountNames(v["Mounts"])
	if n, ok := v["NetworkSettings"].(map[string]any); ok {
		n["Networks"] = s.endpoints(c)
	}
}

// absent is a container whose node does not answer.
func (s *Service) absent(c *Container, why error) map[string]any {
	never := time.Time{}.Format(time.RFC3339Nano)
	v := map[string]any{"Id": c.ID, "Created": c.Created.Format(time.RFC3339Nano), "Path": "", "Args": []any{}, "Image": c.ImageID, "Driver": "overlayfs", "Platform": "linux",
		"State":  map[string]any{"Status": "unknown", "Running": false, "Error": why.Error(), "StartedAt": never, "FinishedAt": never},
		"Config": map[string]any{}, "HostConfig": map[string]any{}, "NetworkSettings": map[string]any{}, "Mounts": []any{}, "ExecIDs": nil}
	s.details(c, v)
	return v
}
