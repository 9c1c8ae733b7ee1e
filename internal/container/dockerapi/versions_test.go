package dockerapi

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/system"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	core "github.com/strata-cloud/strata/internal/container"
	"github.com/strata-cloud/strata/internal/dockerwire"
	"github.com/strata-cloud/strata/internal/errs"
)

// fields are the names that a value has on the wire.
func fields(t *testing.T, v any) map[string]any {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]any{}
	if err := json.Unmarshal(raw, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// TestFieldsOfVersions looks for each field on both sides of the version that it came or
// went with.
func TestFieldsOfVersions(t *testing.T) {
	info := func(v string) map[string]any {
		return fields(t, viewInfo(v, system.Info{FirewallBackend: &system.FirewallInfo{}, Containerd: &system.ContainerdInfo{}, RuncCommit: system.Commit{ID: "x"},
			DiscoveredDevices: []system.DeviceInfo{{ID: "x"}}}))
	}
	commit := func(v string) map[string]any { return info(v)["RuncCommit"].(map[string]any) }
	inspection := func(v string) map[string]any {
		return fields(t, viewInspection(v, image.InspectResponse{Size: 5, Config: &dockerspec.DockerOCIImageConfig{}, Descriptor: &ocispec.Descriptor{}}))
	}
	config := func(v string) map[string]any { return inspection(v)["Config"].(map[string]any) }
	listed := func(v string) map[string]any {
		return fields(t, viewImages(v, []image.Summary{{Size: 5, Descriptor: &ocispec.Descriptor{}}})[0])
	}
	summary := func(v string) map[string]any {
		l := []container.Summary{{ImageManifestDescriptor: &ocispec.Descriptor{}}}
		viewSummaries(v, l)
		return fields(t, l[0])
	}
	inspected := func(v string) map[string]any {
		i := core.Inspection{ContainerJSONBase: &container.ContainerJSONBase{}, ImageManifestDescriptor: &ocispec.Descriptor{}}
		viewContainer(v, &i)
		return fields(t, i)
	}
	for _, c := range []struct {
		field         string
		at            string // the first version that has it, or does not have it any more
		came          bool
		before, since map[string]any
	}{
		{"FirewallBackend", "1.49", true, info("1.48"), info("1.49")},
		{"DiscoveredDevices", "1.50", true, info("1.49"), info("1.50")},
		{"Containerd", "1.46", true, info("1.45"), info("1.46")},
		{"BridgeNfIptables", "1.50", false, info("1.49"), info("1.50")},
		{"BridgeNfIp6tables", "1.50", false, info("1.49"), info("1.50")},
		{"Expected", "1.49", false, commit("1.48"), commit("1.49")},
		{"Hostname", "1.50", false, config("1.49"), config("1.50")},
		{"AttachStdin", "1.50", false, config("1.49"), config("1.50")},
		{"VirtualSize", "1.44", false, inspection("1.43"), inspection("1.44")},
		{"Descriptor", "1.48", true, inspection("1.47"), inspection("1.48")},
		{"VirtualSize", "1.44", false, listed("1.43"), listed("1.44")},
		{"Descriptor", "1.48", true, listed("1.47"), listed("1.48")},
		{"ImageManifestDescriptor", "1.48", true, summary("1.47"), summary("1.48")},
		{"ImageManifestDescriptor", "1.48", true, inspected("1.47"), inspected("1.48")},
	} {
		_, before := c.before[c.field]
		_, since := c.since[c.field]
		if before == c.came || since != c.came {
			t.Errorf("%s at %s: before it %v, since then %v", c.field, c.at, before, since)
		}
	}
	if got := listed("1.42")["RepoTags"].([]any); len(got) != 1 || got[0] != "<none>:<none>" {
		t.Errorf("an image without a name in 1.42: %v", got)
	}
	if got := listed("1.43")["RepoTags"]; got != nil {
		t.Errorf("an image without a name in 1.43: %v", got)
	}
}

func TestCreateOfVersions(t *testing.T) {
	of := func(f func(*container.CreateRequest)) container.CreateRequest {
		r := container.CreateRequest{Config: &container.Config{}, HostConfig: &container.HostConfig{}, NetworkingConfig: &network.NetworkingConfig{}}
		f(&r)
		return r
	}
	mounts := of(func(r *container.CreateRequest) { r.HostConfig.Mounts = []mount.Mount{{Type: mount.TypeImage}} })
	driver := of(func(r *container.CreateRequest) {
		r.HostConfig.VolumeDriver, r.HostConfig.Mounts = "local", []mount.Mount{{Type: mount.TypeVolume}}
	})
	sysctl := of(func(r *container.CreateRequest) {
		r.HostConfig.Sysctls = map[string]string{"net.ipv4.conf.eth0.log_martians": "1"}
	})
	for _, c := range []struct {
		version  string
		req      container.CreateRequest
		ok       bool
		warnings int
	}{
		{"1.47", mounts, false, 0}, {"1.48", mounts, true, 0},
		{"1.47", driver, true, 0}, {"1.48", driver, true, 1},
		{"1.47", sysctl, true, 0}, {"1.48", sysctl, false, 0},
	} {
		warnings, err := readCreate(c.version, &c.req)
		if (err == nil) != c.ok || len(warnings) != c.warnings {
			t.Errorf("%s: %v, %v", c.version, warnings, err)
		}
	}
	for version, want := range map[string]int{"1.47": 0, "1.48": 7} {
		r := of(func(r *container.CreateRequest) {
			r.NetworkingConfig.EndpointsConfig = map[string]*network.EndpointSettings{"n": {GwPriority: 7}, "nil": nil}
		})
		if _, err := readCreate(version, &r); version == "1.47" && err != nil {
			t.Fatal(err)
		}
		if got := r.NetworkingConfig.EndpointsConfig["n"].GwPriority; got != want {
			t.Errorf("%s: the priority of a gateway is %d", version, got)
		}
	}
	no := false
	for version, kept := range map[string]bool{"1.47": false, "1.48": true} {
		n := network.CreateRequest{CreateOptions: network.CreateOptions{EnableIPv4: &no}}
		if readNetwork(version, &n); (n.EnableIPv4 != nil) != kept {
			t.Errorf("%s: EnableIPv4 is kept: %v", version, !kept)
		}
	}
}

func TestPlatformParameters(t *testing.T) {
	for _, c := range []struct {
		version string
		given   []string
		want    string // "" is none
		fault   string
	}{
		{"1.48", nil, "", ""},
		{"1.48", []string{`{"os":"linux","architecture":"arm64"}`}, "arm64", ""},
		{"1.47", []string{`{"os":"linux","architecture":"arm64"}`}, "", ""},
		{"1.47", []string{`garbage`}, "", ""},
		{"1.48", []string{`linux/arm64`}, "", "failed to parse platform"},
		{"1.48", []string{`{"os":"linux"}`}, "", "both OS and Architecture"},
		{"1.48", []string{`{"os":"linux","architecture":"a"}`, `{"os":"linux","architecture":"b"}`}, "", "multiple platform"},
	} {
		hr := httptest.NewRequest(http.MethodGet, "/v"+c.version+"/images/x/get?"+url.Values{"platform": c.given}.Encode(), nil)
		dr, err := dockerwire.Open(httptest.NewRecorder(), hr, "9")
		if err != nil {
			t.Fatal(err)
		}
		p, err := (&request{dr}).platform("1.48")
		got := ""
		if p != nil {
			got = p.Architecture
		}
		if got != c.want || (err == nil) != (c.fault == "") || err != nil && (!errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), c.fault)) {
			t.Errorf("%s %s: %q, %v", c.version, c.given, got, err)
		}
	}
}
