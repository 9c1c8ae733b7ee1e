package dockerapi

import (
	"fmt"
	"maps"
	"strings"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/system"
	"github.com/docker/docker/api/types/versions"

	core "github.com/strata-cloud/strata/internal/container"
	"github.com/strata-cloud/strata/internal/errs"
)

// What has changed from version to version of the API, as far as it is about one field
// or another (moby, api/docs/CHANGELOG.md and api/server/router).

// infoView is system.Info with the fields that older clients read.
type infoView struct {
	system.Info
	BridgeNfIptables  *bool `json:",omitempty"`
	BridgeNfIp6tables *bool `json:",omitempty"` //lint:ignore ST1003 as it is spelled on the wire
}

func viewInfo(version string, i system.Info) infoView {
	v := infoView{Info: i}
	before := func(other string) bool { return versions.LessThan(version, other) }
	if before("1.44") {
		v.Runtimes = maps.Clone(i.Runtimes)
		for name, rt := range v.Runtimes {
			v.Runtimes[name] = system.RuntimeWithStatus{Runtime: rt.Runtime}
		}
	}
	if before("1.46") {
		v.Containerd = nil
	}
	if before("1.49") {
		v.FirewallBackend = nil
		for _, c := range []*system.Commit{&v.ContainerdCommit, &v.RuncCommit, &v.InitCommit} {
			c.Expected = c.ID //lint:ignore SA1019 they are served
		}
	}
	if before("1.50") {
		no := false
		v.DiscoveredDevices, v.BridgeNfIptables, v.BridgeNfIp6tables = nil, &no, &no
	}
	return v
}

// viewSummaries makes of the list of containers what clients of a version read.
func viewSummaries(version string, list []container.Summary) {
	for n := range list {
		if versions.LessThan(version, "1.46") {
			list[n].HostConfig.Annotations = nil
		}
		if versions.LessThan(version, "1.48") {
			list[n].ImageManifestDescriptor = nil
		}
	}
}

// viewContainer makes of an inspection what clients of a version read.
func viewContainer(version string, v *core.Inspection) {
	if versions.LessThan(version, "1.45") {
		shortAliases(v.ID, v.NetworkSettings.Networks)
	}
	if versions.LessThan(version, "1.48") {
		v.ImageManifestDescriptor = nil
	}
}

// readCreate takes out of a request what its version of the API did not know, and
// refuses what it cannot mean.
func readCreate(version string, req *container.CreateRequest) (warnings []string, err error) {
	h, n := req.HostConfig, req.NetworkingConfig
	if n != nil && versions.LessThan(version, "1.44") && len(n.EndpointsConfig) > 1 {
		return nil, errs.Invalidf("Container cannot be created with multiple network endpoints before API version 1.44")
	}
	if n != nil && versions.LessThan(version, "1.48") {
		for _, e := range n.EndpointsConfig {
			if e != nil {
				e.GwPriority = 0
			}
		}
	}
	if h == nil {
		return nil, nil
	}
	if versions.LessThan(version, "1.40") {
		h.KernelMemory = 0 // later kernels have no such limit
	}
	for _, m := range h.Mounts {
		switch {
		case versions.LessThan(version, "1.45") && m.VolumeOptions != nil && m.VolumeOptions.Subpath != "":
			return nil, errs.Invalidf("VolumeOptions.Subpath needs API v1.45 or newer")
		case versions.LessThan(version, "1.48") && m.Type == mount.TypeImage:
			return nil, errs.Invalidf(`Mount type "Image" needs API v1.48 or newer`)
		}
	}
	if versions.LessThan(version, "1.48") {
		return nil, nil
	}
	return volumeDriverWarning(h), deviceSysctls(h)
}

// volumeDriverWarning says that --volume-driver is not for --mount, which the client said
// itself before 1.48.
func volumeDriverWarning(h *container.HostConfig) []string {
	for _, m := range h.Mounts {
		named := m.VolumeOptions != nil && m.VolumeOptions.DriverConfig != nil && m.VolumeOptions.DriverConfig.Name != ""
		if h.VolumeDriver != "" && m.Type == mount.TypeVolume && !named {
			return []string{"WARNING: the container-wide volume-driver configuration is ignored for volumes specified via 'mount'. Use '--mount type=volume,volume-driver=...' instead"}
		}
	}
	return nil
}

// deviceSysctls refuses settings of one device, which are the endpoint's since 1.48.
func deviceSysctls(h *container.HostConfig) error {
	if !h.NetworkMode.IsPrivate() {
		return nil
	}
	for k := range h.Sysctls {
		if p := strings.SplitN(k, ".", 5); len(p) == 5 && p[0] == "net" && strings.HasPrefix(p[3], "eth") {
			return fmt.Errorf("interface specific sysctl setting %q must be supplied using driver option '%s'", k, core.EndpointSysctls)
		}
	}
	return nil
}

// readNetwork takes out of a request for a network what its version did not know.
func readNetwork(version string, req *network.CreateRequest) {
	if versions.LessThan(version, "1.48") {
		req.EnableIPv4 = nil
	}
}
