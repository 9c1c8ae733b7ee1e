package app

import (
	"regexp"
	"strings"
	"time"

	"github.com/strata-cloud/strata/internal/errs"
)

// App is an application.
type App struct {
	Name     string
	Services []Service
}

// Service is one program of an application, in one or more copies.
type Service struct {
	Name, Image     string
	Command, Args   []string // over the image's entrypoint and command
	Env             map[string]string
	WorkingDir      string
	User            *int64 // a number; nil: the image's
	Ports           []Port
	Hosts           []string // names by which HTTP reaches its first TCP port
	Replicas        *int     // nil: what there are, and 1 at first
	Mounts          []Mount
	Files           []File
	Health          *Health
	CPULimit        float64 // processors; 0: none
	CPUReserved     float64
	MemoryLimit     int64 // bytes; 0: none
	MemoryReserved  int64
	ReadOnly        bool
	Capabilities    []string // added
	CapabilitiesOff []string // dropped
	StopGrace       time.Duration
}

// Port is a port that others reach. Public is the port on an address from outside of the
// cluster; 0: only within the application.
type Port struct {
	Target, Public int
	Protocol       string // TCP or UDP
}

// Mount is a volume of the application in the files of a service.
type Mount struct {
	Volume, Path string
	Size         string // a quantity, such as 10Gi
	ReadOnly     bool
	Scratch      bool // lives and ends with one copy of the service
}

// File is a file from a config or a secret.
type File struct {
	Object, Path string
	Content      []byte
	Secret       bool
	Mode         *int32
}

// Health is a command that succeeds while a service is well.
type Health struct {
	Command                      []string
	Interval, Timeout, StartWait time.Duration
	Retries                      int32
}

// Defaults of volumes and of Service.Replicas.
const (
	DefaultSize     = "1Gi"
	defaultReplicas = 1
)

// label is a name as DNS has it, RFC 1123, which namespaces and services have.
var label = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)

// CheckName refuses what cannot be an application's name, or is the cluster's own.
func CheckName(name string) error {
	if !label.MatchString(name) {
		return errs.Invalidf("%q cannot be the name of an application: lower-case letters, digits and hyphens, at most 63", name)
	}
	if name == "default" || strings.HasPrefix(name, "kube-") {
		return errs.Invalidf("the name %s is the cluster's own", name)
	}
	return nil
}

// host is a name of DNS, perhaps with a wildcard for its first label.
var host = regexp.MustCompile(`^(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`)

// Lead has HTTP requests for a host go to a service; "" is the only one.
func (a *App) Lead(name, service string) error {
	if len(name) > 253 || !host.MatchString(name) {
		return errs.Invalidf("%q is no name of a host: lower-case letters, digits, hyphens and dots", name)
	}
	var to *Service
	for i := range a.Services {
		if s := &a.Services[i]; s.Name == service || service == "" && len(a.Services) == 1 {
			to = s
		}
	}
	switch {
	case to == nil && service == "":
		return errs.Invalidf("which service is host %s for? Give SERVICE=NAME", name)
	case to == nil:
		return errs.Invalidf("there is no service %s for host %s", service, name)
	case to.web() == 0:
		return errs.Invalidf("service %s has no TCP port that host %s could lead to", to.Name, name)
	}
	to.Hosts = append(to.Hosts, name)
	return nil
}

// web is the port that requests for hosts go to: the first of TCP.
func (s *Service) web() int {
	for _, p := range s.Ports {
		if p.Protocol == "TCP" {
			return p.Target
		}
	}
	return 0
}

// Image is an application of one service, which has the application's name.
func Image(name string, s Service) (*App, error) {
	if err := CheckName(name); err != nil {
		return nil, err
	}
	s.Name = name
	return &App{Name: name, Services: []Service{s}}, nil
}
