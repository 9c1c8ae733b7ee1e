package app

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"

	"github.com/strata-cloud/strata/internal/errs"
)

// Compose reads an application from compose files, with variables of the environment and
// of the file .env beside the first. name "" is the project's.
func Compose(ctx context.Context, name string, files, profiles []string) (*App, error) {
	o, err := cli.NewProjectOptions(files, cli.WithWorkingDirectory(filepath.Dir(files[0])), cli.WithOsEnv, cli.WithDotEnv, cli.WithProfiles(profiles), cli.WithName(name))
	if err != nil {
		return nil, errs.Invalidf("%s", err)
	}
	p, err := o.LoadProject(ctx)
	if err != nil {
		return nil, errs.Invalidf("%s", err)
	}
	if err := CheckName(p.Name); err != nil {
		return nil, err
	}
	a := &App{Name: p.Name}
	for _, n := range slices.Sorted(maps.Keys(p.Services)) {
		s, err := fromCompose(p, p.Services[n])
		if err != nil {
			return nil, err
		}
		a.Services = append(a.Services, *s)
	}
	if len(a.Services) == 0 {
		return nil, errs.Invalidf("the compose file has no service for these profiles")
	}
	return a, nil
}

// refused says what of a service has no counterpart in a cluster, and what to do instead.
func refused(c types.ServiceConfig) error {
	for _, x := range []struct {
		is  bool
		why string
	}{
		{!label.MatchString(c.Name), "in a cluster a service's name has lower-case letters, digits and hyphens alone"},
		{c.Image == "", "it has no image: build and push it first, docker compose build and docker compose push, and name it with image"},
		{c.NetworkMode != "" && c.NetworkMode != "bridge", "network_mode " + c.NetworkMode + " is not for clusters"},
		{c.Privileged, "privileged is not for applications: write the objects yourself, with strata kubectl"},
		{len(c.Devices) > 0, "devices are not for applications: write the objects yourself, with strata kubectl"},
		{c.Pid != "" || c.Ipc != "", "pid and ipc are not for applications: write the objects yourself, with strata kubectl"},
		{len(c.VolumesFrom) > 0, "volumes_from: name the volume in both services"},
	} {
		if x.is {
			return errs.Invalidf("service %s: %s", c.Name, x.why)
		}
	}
	return nil
}

func fromCompose(p *types.Project, c types.ServiceConfig) (*Service, error) {
	if err := refused(c); err != nil {
		return nil, err
	}
	s := &Service{Name: c.Name, Image: c.Image, Command: c.Entrypoint, Args: c.Command, WorkingDir: c.WorkingDir, ReadOnly: c.ReadOnly,
		Capabilities: c.CapAdd, CapabilitiesOff: c.CapDrop, Env: map[string]string{}, Replicas: c.Scale}
	for k, v := range c.Environment {
		if v != nil {
			s.Env[k] = *v
		}
	}
	if c.StopGracePeriod != nil {
		s.StopGrace = time.Duration(*c.StopGracePeriod)
	}
	if c.User != "" {
		id, err := strconv.ParseInt(c.User, 10, 64)
		if err != nil {
			return nil, errs.Invalidf("service %s: user %s: in a cluster it is a number", c.Name, c.User)
		}
		s.User = &id
	}
	s.resources(c)
	for _, step := range []func(*types.Project, types.ServiceConfig) error{s.ports, s.volumes, s.files, s.health} {
		if err := step(p, c); err != nil {
			return nil, fmt.Errorf("service %s: %w", c.Name, err)
		}
	}
	return s, nil
}

func (s *Service) resources(c types.ServiceConfig) {
	s.CPULimit, s.MemoryLimit, s.MemoryReserved = float64(c.CPUS), int64(c.MemLimit), int64(c.MemReservation)
	if c.Deploy == nil {
		return
	}
	if c.Deploy.Replicas != nil {
		s.Replicas = c.Deploy.Replicas
	}
	if l := c.Deploy.Resources.Limits; l != nil {
		s.CPULimit, s.MemoryLimit = float64(l.NanoCPUs), int64(l.MemoryBytes)
	}
	if r := c.Deploy.Resources.Reservations; r != nil {
		s.CPUReserved, s.MemoryReserved = float64(r.NanoCPUs), int64(r.MemoryBytes)
	}
}

func (s *Service) ports(_ *types.Project, c types.ServiceConfig) error {
	for _, p := range c.Ports {
		x := Port{Target: int(p.Target), Protocol: strings.ToUpper(p.Protocol)}
		if p.HostIP == "127.0.0.1" || p.HostIP == "::1" {
			p.Published = "" // for whoever is on the machine: in a cluster, nobody
		} else if p.Published == "" {
			x.Public = x.Target
		}
		if p.Published != "" {
			n, err := strconv.Atoi(p.Published)
			if err != nil {
				return errs.Invalidf("the published port %s: in a cluster it is one number", p.Published)
			}
			x.Public = n
		}
		s.Ports = append(s.Ports, x)
	}
	for _, e := range c.Expose {
		text, protocol, _ := strings.Cut(e, "/")
		n, err := strconv.Atoi(text)
		if err != nil {
			return errs.Invalidf("expose %s: in a cluster it is one number", e)
		}
		x := Port{Target: n, Protocol: strings.ToUpper(protocol)}
		if x.Protocol == "" {
			x.Protocol = "TCP"
		}
		if !slices.ContainsFunc(s.Ports, func(o Port) bool { return o.Target == n && o.Protocol == x.Protocol }) {
			s.Ports = append(s.Ports, x)
		}
	}
	return nil
}

func (s *Service) volumes(p *types.Project, c types.ServiceConfig) error {
	for _, v := range c.Volumes {
		switch v.Type {
		case types.VolumeTypeTmpfs:
			s.Mounts = append(s.Mounts, Mount{Path: v.Target, Scratch: true})
		case types.VolumeTypeVolume:
			m := Mount{Volume: v.Source, Path: v.Target, ReadOnly: v.ReadOnly, Size: DefaultSize, Scratch: v.Source == ""}
			if size, ok := p.Volumes[v.Source].DriverOpts["size"]; ok {
				m.Size = size
			}
			s.Mounts = append(s.Mounts, m)
		default:
			return errs.Invalidf("%s %s: a cluster's nodes do not have your files: use a volume, or a config or secret for single files", v.Type, v.Source)
		}
	}
	for _, t := range c.Tmpfs {
		path, _, _ := strings.Cut(t, ":")
		s.Mounts = append(s.Mounts, Mount{Path: path, Scratch: true})
	}
	return nil
}

// maxFile bounds a file of a config or secret, in bytes: the cluster's API takes no more.
const maxFile = 1 << 20

func (s *Service) files(p *types.Project, c types.ServiceConfig) error {
	for _, r := range c.Configs {
		if err := s.file(types.FileReferenceConfig(r), types.FileObjectConfig(p.Configs[r.Source]), false); err != nil {
			return err
		}
	}
	for _, r := range c.Secrets {
		if err := s.file(types.FileReferenceConfig(r), types.FileObjectConfig(p.Secrets[r.Source]), true); err != nil {
			return err
		}
	}
	return nil
}

func (s *Service) file(r types.FileReferenceConfig, o types.FileObjectConfig, secret bool) error {
	f := File{Object: strings.ReplaceAll(r.Source, "_", "-"), Path: r.Target, Secret: secret, Content: []byte(o.Content)}
	switch {
	case bool(o.External):
		return errs.Invalidf("%s is external: give its file, content or environment", r.Source)
	case o.File != "":
		raw, err := os.ReadFile(o.File)
		if err != nil {
			return err
		}
		f.Content = raw
	case o.Environment != "":
		f.Content = []byte(os.Getenv(o.Environment))
	}
	if len(f.Content) > maxFile {
		return errs.Invalidf("%s is larger than 1 MiB: use a volume", r.Source)
	}
	if !strings.HasPrefix(f.Path, "/") {
		name := f.Path
		if name == "" {
			name = r.Source
		}
		f.Path = "/" + name
		if secret {
			f.Path = "/run/secrets/" + name
		}
	}
	if r.Mode != nil {
		mode := int32(*r.Mode)
		f.Mode = &mode
	}
	s.Files = append(s.Files, f)
	return nil
}

func (s *Service) health(_ *types.Project, c types.ServiceConfig) error {
	h := c.HealthCheck
	if h == nil || h.Disable || len(h.Test) < 2 {
		return nil
	}
	x := &Health{Command: h.Test[1:], Interval: 30 * time.Second, Timeout: 30 * time.Second, Retries: 3} // compose's defaults
	if h.Test[0] == "CMD-SHELL" {
		x.Command = []string{"/bin/sh", "-c", h.Test[1]}
	}
	for to, from := range map[*time.Duration]*types.Duration{&x.Interval: h.Interval, &x.Timeout: h.Timeout, &x.StartWait: h.StartPeriod} {
		if from != nil {
			*to = time.Duration(*from)
		}
	}
	if h.Retries != nil {
		x.Retries = int32(*h.Retries)
	}
	s.Health = x
	return nil
}
