package build

import (
	"strconv"
	"strings"

	"github.com/containerd/platforms"
	"github.com/docker/docker/api/types/registry"
	"github.com/docker/go-units"
	bkclient "github.com/moby/buildkit/client"

	"github.com/strata-cloud/strata/internal/errs"
)

// frontendName is the language of Dockerfiles.
const frontendName = "dockerfile.v0"

// Output is where the result of a build goes.
type Output struct {
	Type  string
	Attrs map[string]string
}

// Options are what POST /build says.
type Options struct {
	Classic    bool // tell of it as the classic builder does
	Dockerfile string
	Target     string
	Remote     string // where the context is, unless it is the request's body
	SessionID  string
	BuildID    string
	Tags       []string
	Args       map[string]*string
	Labels     map[string]string
	CacheFrom  []string
	NoCache    bool
	Pull       bool
	Quiet      bool
	Platform   string
	Network    string
	ExtraHosts []string
	ShmSize    int64
	Ulimits    []*units.Ulimit
	Outputs    []Output
	Auth       map[string]registry.AuthConfig
}

// What Remote says when the context comes by other ways.
const (
	remoteSession = "client-session"
	remoteUpload  = "upload-request"
	uploadPrefix  = "upload-request:" // of BuildID, in the request that brings it
)

// attrs says it in the words of BuildKit's frontend.
func (o *Options) attrs(hostGateway string) (map[string]string, error) {
	a := map[string]string{"image-resolve-mode": "local"}
	if o.Pull {
		a["image-resolve-mode"] = "pull"
	}
	if o.Target != "" {
		a["target"] = o.Target
	}
	if o.Dockerfile != "" && o.Dockerfile != "." {
		a["filename"] = o.Dockerfile
	}
	for k, v := range o.Args {
		if v != nil { // a name alone is one that the client's environment lacks
			a["build-arg:"+k] = *v
		}
	}
	for k, v := range o.Labels {
		a["label:"+k] = v
	}
	if o.NoCache {
		a["no-cache"] = ""
	}
	if len(o.CacheFrom) > 0 && !o.Classic { // the classic builder means images that are here: the cache has them
		a["cache-from"] = strings.Join(o.CacheFrom, ",")
	}
	if o.Platform != "" {
		if _, err := platforms.Parse(o.Platform); err != nil {
			return nil, errs.Invalidf("invalid platform %q: %s", o.Platform, err)
		}
		a["platform"] = o.Platform
	}
	switch o.Network {
	case "host", "none":
		a["force-network-mode"] = o.Network
	case "", "default", "bridge":
	default:
		return nil, errs.Invalidf("network mode %q not supported by buildkit", o.Network)
	}
	if o.ShmSize > 0 {
		a["shm-size"] = strconv.FormatInt(o.ShmSize, 10)
	}
	if o.Classic {
		a["cmdline"] = "" // "# syntax=" is for BuildKit: the classic builder takes it for a comment
	}
	return a, o.lists(a, hostGateway)
}

func (o *Options) lists(a map[string]string, hostGateway string) error {
	var hosts, limits []string
	for _, h := range o.ExtraHosts {
		host, ip, ok := strings.Cut(h, ":")
		if !ok || host == "" || ip == "" {
			return errs.Invalidf("invalid host %s", h)
		}
		if ip == "host-gateway" {
			ip = hostGateway
		}
		hosts = append(hosts, host+"="+ip)
	}
	for _, u := range o.Ulimits {
		limits = append(limits, u.String())
	}
	if len(hosts) > 0 {
		a["add-hosts"] = strings.Join(hosts, ",")
	}
	if len(limits) > 0 {
		a["ulimit"] = strings.Join(limits, ",")
	}
	return nil
}

// exporter is where the result goes; "" is nowhere: only the cache is filled.
func (o *Options) exporter() (string, map[string]string, error) {
	name, attrs := exporterMoby, map[string]string{}
	switch {
	case len(o.Outputs) > 1:
		return "", nil, errs.Invalidf("multiple outputs not supported")
	case len(o.Outputs) == 1 && o.Outputs[0].Type == "cacheonly":
		return "", nil, nil
	case len(o.Outputs) == 1:
		name = o.Outputs[0].Type
		for k, v := range o.Outputs[0].Attrs {
			attrs[k] = v
		}
	}
	tags, err := normalize(o.Tags)
	if err != nil {
		return "", nil, err
	}
	if len(tags) > 0 && (name == exporterMoby || name == bkclient.ExporterImage) {
		attrs["name"] = strings.Join(tags, ",")
	}
	return name, attrs, nil
}
