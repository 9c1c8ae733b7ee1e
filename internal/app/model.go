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
	Replicas        *int // nil: what there are, and 1 at first
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

// Image is an application of one service, which has the application's name.
func Image(name string, s Service) (*App, error) {
	if err := CheckName(name); err != nil {
		return nil, err
	}
	s.Name = name
	return &App{Name: name, Services: []Service{s}}, nil
}
