package docker

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/versions"
	"github.com/docker/docker/api/types/volume"
	"github.com/google/uuid"

	"github.com/strata-cloud/strata/internal/dockerwire"
	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/policy"
)

// Volume is one of the project's, of block storage.
type Volume struct {
	ID, Name, ProjectID, Status, Type string
	Node                              string // that keeps it
	SizeGiB                           int
	Created                           time.Time
	Metadata                          map[string]string
	Multiattach, ReadOnly             bool
}

// Attachment is what a node's containers have a volume by.
type Attachment struct {
	ID, VolumeID, Host string
	ReadOnly           bool
}

// Volumes is the volume service.
type Volumes interface {
	Of(project string) []Volume
	Get(id string) (Volume, bool)
	// Make accepts a new volume; Await waits until it is ready.
	Make(ctx context.Context, c *policy.Credentials, v Volume) error
	Await(ctx context.Context, id string) error
	Remove(ctx context.Context, c *policy.Credentials, id string) error
	// Attach claims a volume for a node, unless that is done, and takes it from any other.
	// Invalid: the volume's state does not allow it.
	Attach(ctx context.Context, a Attachment) (nodeapi.ContainerVolume, error)
	Release(ctx context.Context, id string) error
}

// DefaultSize is a volume's of which no size is said, in GiB.
const DefaultSize = 10

const (
	volumeDriver = "strata"
	// Metadata of ours begins so; all other is labels.
	ourMetadata  = "strata:"
	madeHere     = ourMetadata + "docker" // it is a volume that was made by this API
	driverAsked  = ourMetadata + "driver"
	optionAsked  = ourMetadata + "option:"
	maxMetadata  = 255 // Cinder's, of keys and values
	optionSize   = "size"
	optionType   = "type"
	readyVolumes = 2 * time.Minute
)

// NewVolume is a volume that a client asks for.
type NewVolume struct {
	Name, Driver    string
	Options, Labels map[string]string
}

// mayElsewhere judges another service's rule for the caller's own project.
func (s *Service) mayElsewhere(c *policy.Credentials, rule string) error {
	if s.Policy.Allows(rule, c, policy.Target{"project_id": c.ProjectID, "tenant_id": c.ProjectID, "network:project_id": c.ProjectID}) {
		return nil
	}
	return errs.Forbiddenf("policy does not allow %s to be performed", rule)
}

// findVolume finds one of the project's by id or name. NotFound: there is none.
func (s *Service) findVolume(project, ref string) (*Volume, error) {
	var named []Volume
	for _, v := range s.Volumes.Of(project) {
		if v.ID == ref {
			return &v, nil
		}
		if v.Name == ref && ref != "" {
			named = append(named, v)
		}
	}
	switch len(named) {
	case 0:
		return nil, errs.NotFoundf("get %s: no such volume", ref)
	case 1:
		return &named[0], nil
	}
	return nil, errs.Invalidf("%d volumes have the name %s: use an id", len(named), ref)
}

// ensureVolume finds a volume of the project's, or makes it.
func (s *Service) ensureVolume(r *request, n NewVolume) (*Volume, error) {
	s.making.Lock() // two clients that ask for one name get one volume
	defer s.making.Unlock()
	v, err := s.findVolume(r.who.ProjectID, n.Name)
	if !errs.Is(err, errs.NotFound) {
		if err == nil {
			err = s.mayElsewhere(r.who, "volume:get")
		}
		return v, err
	}
	if err := s.mayElsewhere(r.who, "volume:create"); err != nil {
		return nil, err
	}
	want, err := n.record()
	if err != nil {
		return nil, err
	}
	if err := s.Volumes.Make(r.Context(), r.who, *want); err != nil {
		return nil, err
	}
	return s.findVolume(r.who.ProjectID, want.ID)
}

// record is the volume as the volume service is to have it.
func (n *NewVolume) record() (*Volume, error) {
	if n.Driver != "" && n.Driver != "local" && n.Driver != volumeDriver {
		return nil, errs.NotFoundf("create %s: error looking up volume plugin %s: plugin %q not found", n.Name, n.Driver, n.Driver)
	}
	if !nameRE.MatchString(n.Name) {
		return nil, errs.Invalidf("create %s: %q includes invalid characters for a volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed", n.Name, n.Name)
	}
	v := &Volume{ID: uuid.NewString(), Name: n.Name, SizeGiB: DefaultSize, Metadata: map[string]string{madeHere: "volume"}}
	for k, val := range n.Labels {
		if strings.HasPrefix(k, ourMetadata) {
			return nil, errs.Invalidf("labels that begin with %s are not a client's", ourMetadata)
		}
		v.Metadata[k] = val
	}
	if n.Driver != "" {
		v.Metadata[driverAsked] = n.Driver
	}
	for k, val := range n.Options {
		var err error
		switch k {
		case optionSize:
			v.SizeGiB, err = sizeOf(val)
		case optionType:
			v.Type = val
		default:
			err = errs.Invalidf("unknown option %q of a volume: there are %s (GiB) and %s (a volume type)", k, optionSize, optionType)
		}
		if err != nil {
			return nil, err
		}
		v.Metadata[optionAsked+k] = val
	}
	for k, val := range v.Metadata {
		if k == "" || len(k) > maxMetadata || len(val) > maxMetadata || len(n.Name) > maxMetadata {
			return nil, errs.Invalidf("a volume's name, and the names and values of its labels, have at most %d bytes", maxMetadata)
		}
	}
	return v, nil
}

// volumeView is a volume as Docker shows one. It goes by its id if its name is not its alone.
func volumeView(v Volume, name string) *volume.Volume {
	out := &volume.Volume{Name: name, Driver: volumeDriver, Mountpoint: "", Labels: map[string]string{}, Options: map[string]string{}, Scope: "global", CreatedAt: v.Created.Format(time.RFC3339),
		Status: map[string]any{"id": v.ID, "size": v.SizeGiB, "status": v.Status, "type": v.Type}}
	for k, val := range v.Metadata {
		option, asked := strings.CutPrefix(k, optionAsked)
		switch {
		case asked:
			out.Options[option] = val
		case k == driverAsked:
			out.Driver = val
		case !strings.HasPrefix(k, ourMetadata):
			out.Labels[k] = val
		}
	}
	return out
}

func (s *Service) volumeViews(project string) (out []*volume.Volume, of []Volume) {
	of = s.Volumes.Of(project)
	count := map[string]int{}
	for _, v := range of {
		count[v.Name]++
	}
	for _, v := range of {
		name := v.Name
		if name == "" || count[name] > 1 {
			name = v.ID
		}
		out = append(out, volumeView(v, name))
	}
	return out, of
}

func (s *Service) volumeList(w http.ResponseWriter, r *request) error {
	if err := s.mayElsewhere(r.who, "volume:get_all"); err != nil {
		return err
	}
	f, err := filters.FromJSON(r.Value("filters"))
	if err != nil {
		return errs.Invalidf("%s", err)
	}
	if err := f.Validate(map[string]bool{"dangling": true, "driver": true, "label": true, "name": true}); err != nil {
		return errs.Invalidf("%s", err)
	}
	dangling, err := f.GetBoolOrDefault("dangling", false)
	if err != nil {
		return errs.Invalidf("%s", err)
	}
	out := volume.ListResponse{Volumes: []*volume.Volume{}, Warnings: []string{}}
	views, of := s.volumeViews(r.who.ProjectID)
	for i, v := range views {
		named := !f.Contains("name") || slices.ContainsFunc(f.Get("name"), func(n string) bool { return matchText(n, v.Name) })
		if !named || !f.ExactMatch("driver", v.Driver) || !f.MatchKVList("label", v.Labels) {
			continue
		}
		if f.Contains("dangling") {
			users, err := s.inUse(r.Context(), r.who.ProjectID, of[i].ID)
			if err != nil {
				return err
			}
			if dangling != (len(users) == 0 && of[i].Status != "in-use") {
				continue
			}
		}
		out.Volumes = append(out.Volumes, v)
	}
	return dockerwire.Answer(w, http.StatusOK, out)
}

func (s *Service) volumeCreate(w http.ResponseWriter, r *request) error {
	var o volume.CreateOptions
	if err := r.Read(&o); err != nil {
		return err
	}
	if o.ClusterVolumeSpec != nil {
		return errs.Invalidf("volumes of a swarm are not there")
	}
	if o.Name == "" {
		o.Name = newID()
	}
	v, err := s.ensureVolume(r, NewVolume{Name: o.Name, Driver: o.Driver, Options: o.DriverOpts, Labels: o.Labels})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), readyVolumes)
	defer cancel()
	if err := s.Volumes.Await(ctx, v.ID); err != nil {
		return err
	}
	return dockerwire.Answer(w, http.StatusCreated, volumeView(*v, o.Name))
}

func (s *Service) volumeInspect(w http.ResponseWriter, r *request) error {
	if err := s.mayElsewhere(r.who, "volume:get"); err != nil {
		return err
	}
	v, err := s.findVolume(r.who.ProjectID, r.Vars["id"])
	if err != nil {
		return err
	}
	return dockerwire.Answer(w, http.StatusOK, volumeView(*v, r.Vars["id"]))
}

func (s *Service) volumeRemove(w http.ResponseWriter, r *request) error {
	if err := s.mayElsewhere(r.who, "volume:delete"); err != nil {
		return err
	}
	v, err := s.findVolume(r.who.ProjectID, r.Vars["id"])
	if errs.Is(err, errs.NotFound) && r.Flag("force") {
		w.WriteHeader(http.StatusNoContent)
		return nil
	} else if err != nil {
		return err
	}
	if err := s.dropVolume(r, v); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (s *Service) dropVolume(r *request, v *Volume) error {
	users, err := s.inUse(r.Context(), r.who.ProjectID, v.ID)
	if err != nil {
		return err
	}
	if len(users) > 0 {
		return errs.Conflictf("remove %s: volume is in use - [%s]", v.Name, users[0])
	}
	err = s.Volumes.Remove(r.Context(), r.who, v.ID)
	if errs.Is(err, errs.Invalid) { // its state, not the request
		return errs.Conflictf("remove %s: volume is in use: %s", v.Name, err)
	}
	return err
}

// volumePrune removes volumes that were made here, and that no one has. None of them
// is without a name, so that nothing goes unless all is asked for.
func (s *Service) volumePrune(w http.ResponseWriter, r *request) error {
	if err := s.mayElsewhere(r.who, "volume:delete"); err != nil {
		return err
	}
	f, err := filters.FromJSON(r.Value("filters"))
	if err != nil {
		return errs.Invalidf("%s", err)
	}
	if err := f.Validate(map[string]bool{"label": true, "label!": true, "all": true}); err != nil {
		return errs.Invalidf("%s", err)
	}
	all, err := f.GetBoolOrDefault("all", false)
	if err != nil {
		return errs.Invalidf("%s", err)
	}
	all = all || versions.LessThan(r.Version, "1.42") // which knew no other way
	gone, freed := []string{}, int64(0)
	views, of := s.volumeViews(r.who.ProjectID)
	for i, v := range of {
		labels := views[i].Labels
		if !all || v.Metadata[madeHere] == "" || v.Status != "available" || !f.MatchKVList("label", labels) || f.Contains("label!") && f.MatchKVList("label!", labels) {
			continue
		}
		if err := s.dropVolume(r, &v); errs.Is(err, errs.Conflict) || errs.Is(err, errs.NotFound) {
			continue
		} else if err != nil {
			return err
		}
		gone, freed = append(gone, views[i].Name), freed+int64(v.SizeGiB)<<30
	}
	return dockerwire.Answer(w, http.StatusOK, map[string]any{"VolumesDeleted": gone, "SpaceReclaimed": freed})
}

// volumeFilter has nodes look for a volume by what they call it.
func volumeFilter(recs []*Container, ref string) []string {
	ids := map[string]bool{ref: true}
	for _, c := range recs {
		for _, m := range c.Volumes {
			if m.Name == ref {
				ids[m.ID] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(ids))
}
