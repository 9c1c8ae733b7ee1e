package docker

import (
	"encoding/json"
	"net/http"
	"path"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/docker/docker/api/types/filters"

	"github.com/strata-cloud/strata/internal/dockerwire"
	"github.com/strata-cloud/strata/internal/errs"
)

// short is an image's name without the project, which it is known by here.
func short(i *Image) string {
	_, name, _ := strings.Cut(i.Repo, "/")
	return name
}

// imageList lists the project's images in the region's registry: they are what every
// node can run.
func (s *Service) imageList(w http.ResponseWriter, r *request) error {
	f, err := filters.FromJSON(r.Value("filters"))
	if err != nil {
		return errs.Invalidf("%s", err)
	}
	if err := f.Validate(map[string]bool{"reference": true, "dangling": true}); err != nil {
		return errs.Invalidf("%s", err)
	}
	list, err := s.Images.Tagged(r.Context(), r.who)
	if err != nil {
		return err
	}
	byID := map[string]map[string]any{}
	out := []map[string]any{}
	for _, i := range list {
		name := short(i) + ":" + i.Tag
		if f.Contains("dangling") && !f.ExactMatch("dangling", "false") || !matchesReference(f.Get("reference"), short(i), i.Tag) {
			continue
		}
		v := byID[i.Digest]
		if v == nil {
			v = map[string]any{"Id": i.Digest, "ParentId": "", "RepoTags": []string{}, "RepoDigests": []string{}, "Created": i.Since.Unix(), "Size": int64(0), "SharedSize": -1, "Containers": -1, "Labels": nil}
			if info, err := s.Images.Info(i); err == nil {
				v["Size"] = info.Size
				if info.Created != nil {
					v["Created"] = info.Created.Unix()
				}
			}
			byID[i.Digest], out = v, append(out, v)
		}
		v["RepoTags"] = append(v["RepoTags"].([]string), name)
		if d := short(i) + "@" + i.Digest; !slices.Contains(v["RepoDigests"].([]string), d) {
			v["RepoDigests"] = append(v["RepoDigests"].([]string), d)
		}
	}
	slices.SortStableFunc(out, func(a, b map[string]any) int { return int(b["Created"].(int64) - a["Created"].(int64)) })
	return dockerwire.Answer(w, http.StatusOK, out)
}

func matchesReference(wanted []string, name, tag string) bool {
	return len(wanted) == 0 || slices.ContainsFunc(wanted, func(w string) bool {
		for _, have := range []string{name, name + ":" + tag} {
			if ok, err := path.Match(w, have); err == nil && ok {
				return true
			}
		}
		return false
	})
}

func (s *Service) imageInspect(w http.ResponseWriter, r *request) error {
	i, err := s.Images.Resolve(r.Context(), r.who, s.registries(r), r.Vars["name"])
	if err != nil {
		return err
	}
	info, err := s.Images.Info(i)
	if err != nil {
		return err
	}
	v := map[string]any{"Id": i.Digest, "RepoTags": []string{}, "RepoDigests": []string{short(i) + "@" + i.Digest}, "Parent": "", "Comment": "", "Architecture": runtime.GOARCH, "Os": "linux",
		"Size": info.Size, "Config": info.Config,
		"ContainerConfig": info.Config, // which went with API 1.45, and which docker-compose 1.29 looks for volumes in
		"Created":         i.Since.Format(time.RFC3339Nano), "GraphDriver": map[string]any{"Name": "overlayfs", "Data": nil}, "RootFS": map[string]any{"Type": "layers"}}
	if info.Created != nil {
		v["Created"] = info.Created.Format(time.RFC3339Nano)
	}
	if i.Tag != "" {
		v["RepoTags"] = []string{short(i) + ":" + i.Tag}
	}
	return dockerwire.Answer(w, http.StatusOK, v)
}

// imagePull finds out that an image is in the registry. There is nothing to fetch: a node
// does that when a container needs it.
func (s *Service) imagePull(w http.ResponseWriter, r *request) error {
	ref := r.Value("fromImage")
	if ref == "" {
		return errs.New(errs.NotImplemented, "importing an image is not there: push one to the registry of the cloud")
	}
	switch tag := r.Value("tag"); {
	case strings.HasPrefix(tag, "sha256:"):
		ref += "@" + tag
	case tag != "":
		ref += ":" + tag
	}
	i, err := s.Images.Resolve(r.Context(), r.who, s.registries(r), ref)
	if errs.Is(err, errs.NotFound) {
		where := ""
		if len(s.Registry) > 0 {
			where = ": push it to " + s.Registry[0] + "/" + r.who.ProjectID + "/NAME"
		}
		return errs.NotFoundf("the image %s is not in the registry of the cloud, which is where its containers' images are from%s", ref, where)
	} else if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	e := json.NewEncoder(w)
	for _, line := range []map[string]string{{"status": "Pulling from " + i.Repo, "id": i.Tag}, {"status": "Digest: " + i.Digest}, {"status": "Status: Image is in the registry of the cloud: " + short(i)}} {
		if err := e.Encode(line); err != nil {
			return dockerwire.Late(err)
		}
	}
	return nil
}
