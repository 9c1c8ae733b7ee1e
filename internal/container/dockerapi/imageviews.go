package dockerapi

import (
	"encoding/json"
	"net/http"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/api/types/storage"
	"github.com/docker/docker/api/types/versions"
	"github.com/docker/go-connections/nat"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	core "github.com/strata-cloud/strata/internal/container"
	"github.com/strata-cloud/strata/internal/dockerwire"
	"github.com/strata-cloud/strata/internal/errs"
)

// platforms reads a parameter of which there may be several, each a platform in JSON;
// clients before the version did not have it.
func (r *request) platforms(key, since string) (out []ocispec.Platform, err error) {
	if versions.LessThan(r.Version, since) {
		return nil, nil
	}
	for _, text := range r.Form[key] {
		var p ocispec.Platform
		if text == "" {
			continue
		}
		if err := json.Unmarshal([]byte(text), &p); err != nil {
			return nil, errs.Invalidf("failed to parse platform: %s", err)
		}
		if p.OS == "" || p.Architecture == "" {
			return nil, errs.Invalidf("both OS and Architecture must be provided")
		}
		out = append(out, p)
	}
	return out, nil
}

// platform reads the parameter of that name; nil: a client asks for none.
func (r *request) platform(since string) (*ocispec.Platform, error) {
	list, err := r.platforms("platform", since)
	switch {
	case err != nil || len(list) == 0:
		return nil, err
	case len(list) > 1:
		return nil, errs.Invalidf("multiple platform parameters not supported")
	}
	return &list[0], nil
}

func (s *Server) imageList(w http.ResponseWriter, r *request) error {
	f, err := r.filters("dangling", "label", "label!", "before", "since", "reference", "until")
	if err != nil {
		return err
	}
	if r.Value("filter") != "" {
		f.Add("reference", r.Value("filter"))
	}
	list, err := s.images(r, f)
	if err != nil {
		return err
	}
	if r.Flag("manifests") && versions.GreaterThanOrEqualTo(r.Version, "1.47") {
		for n := range list {
			i, err := s.engine.Image(r.Context(), list[n].ID)
			if errs.Is(err, errs.NotFound) {
				continue // removed meanwhile
			}
			if err == nil {
				list[n].Manifests, err = s.engine.Manifests(r.Context(), i)
			}
			if err != nil {
				return err
			}
		}
	}
	return dockerwire.Answer(w, http.StatusOK, viewImages(r.Version, list))
}

// viewImages makes of the list what clients of a version read.
func viewImages(version string, list []image.Summary) []image.Summary {
	for n := range list {
		i := &list[n]
		if versions.LessThan(version, "1.43") && len(i.RepoTags)+len(i.RepoDigests) == 0 {
			i.RepoTags, i.RepoDigests = []string{"<none>:<none>"}, []string{"<none>@<none>"}
		}
		if versions.LessThan(version, "1.44") {
			i.VirtualSize = i.Size //lint:ignore SA1019 they are served
		}
		if versions.LessThan(version, "1.48") {
			i.Descriptor = nil
		}
	}
	return list
}

func (s *Server) imageInspect(w http.ResponseWriter, r *request) error {
	of, err := r.platform("1.49")
	if err != nil {
		return err
	}
	manifests := r.Flag("manifests") && versions.GreaterThanOrEqualTo(r.Version, "1.48")
	if manifests && of != nil {
		return errs.Invalidf("conflicting options: manifests and platform options cannot both be set")
	}
	i, err := s.imageOf(r, of)
	if err != nil {
		return err
	}
	v := s.inspection(r, i)
	if manifests {
		if v.Manifests, err = s.engine.Manifests(r.Context(), i); err != nil {
			return err
		}
	}
	return dockerwire.Answer(w, http.StatusOK, viewInspection(r.Version, v))
}

// imageOf is the image that the path names, or its part for a platform.
func (s *Server) imageOf(r *request, of *ocispec.Platform) (*core.Image, error) {
	i, err := s.engine.Image(r.Context(), r.Vars["name"])
	if err != nil || of == nil {
		return i, err
	}
	return s.engine.OfPlatform(r.Context(), i, r.Vars["name"], *of)
}

func (s *Server) inspection(r *request, i *core.Image) image.InspectResponse {
	cfg, desc := i.Config(), i.Descriptor()
	v := image.InspectResponse{ID: i.ID, RepoTags: i.Tags(), RepoDigests: i.Digests(), Created: i.Created.Format(time.RFC3339Nano), Author: cfg.Author, Config: &cfg.Config,
		Architecture: cfg.Architecture, Variant: cfg.Variant, Os: cfg.OS, OsVersion: cfg.OSVersion, Size: s.engine.Size(r.Context(), i), GraphDriver: storage.DriverData{Name: s.engine.Snapshotter()},
		RootFS: image.RootFS{Type: "layers"}, Descriptor: &desc}
	for _, d := range cfg.RootFS.DiffIDs {
		v.RootFS.Layers = append(v.RootFS.Layers, d.String())
	}
	if len(cfg.History) > 0 {
		v.Comment = cfg.History[len(cfg.History)-1].Comment
	}
	return v
}

// legacyInspection has an image's configuration in the shape of a container's, as before 1.50.
type legacyInspection struct {
	image.InspectResponse
	Config *container.Config
}

// viewInspection makes of an inspection what clients of a version read.
func viewInspection(version string, v image.InspectResponse) any {
	if versions.LessThan(version, "1.44") {
		v.VirtualSize = v.Size //lint:ignore SA1019 they are served
	}
	if versions.LessThan(version, "1.45") {
		// Docker-compose 1 looks into it when it replaces a container. There is none, as of
		// images that dockerd's BuildKit has made.
		v.ContainerConfig = &container.Config{} //lint:ignore SA1019 it is served
	}
	if versions.LessThan(version, "1.48") {
		v.Descriptor = nil
	}
	if versions.LessThan(version, "1.50") {
		return legacyInspection{v, legacyConfig(v.Config)}
	}
	return v
}

func legacyConfig(c *dockerspec.DockerOCIImageConfig) *container.Config {
	out := &container.Config{User: c.User, Env: c.Env, Entrypoint: c.Entrypoint, Cmd: c.Cmd, Volumes: c.Volumes, WorkingDir: c.WorkingDir, Labels: c.Labels, StopSignal: c.StopSignal,
		Healthcheck: c.Healthcheck, OnBuild: c.OnBuild, Shell: c.Shell}
	for p := range c.ExposedPorts {
		if out.ExposedPorts == nil {
			out.ExposedPorts = nat.PortSet{}
		}
		out.ExposedPorts[nat.Port(p)] = struct{}{}
	}
	return out
}

func (s *Server) imageHistory(w http.ResponseWriter, r *request) error {
	of, err := r.platform("1.48")
	if err != nil {
		return err
	}
	i, err := s.imageOf(r, of)
	if err != nil {
		return err
	}
	layers, err := s.engine.History(r.Context(), i)
	if err != nil {
		return err
	}
	out := []image.HistoryResponseItem{}
	for n, l := range layers {
		item := image.HistoryResponseItem{ID: "<missing>", CreatedBy: l.History.CreatedBy, Comment: l.History.Comment, Size: l.Size, Tags: []string{}}
		if l.History.Created != nil {
			item.Created = l.History.Created.Unix()
		}
		if n == 0 {
			item.ID, item.Tags = i.ID, i.Tags()
		}
		out = append(out, item)
	}
	return dockerwire.Answer(w, http.StatusOK, out)
}
