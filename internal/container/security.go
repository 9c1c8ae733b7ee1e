package container

import (
	"context"
	"strings"

	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/pkg/cap"
	"github.com/containerd/containerd/v2/pkg/oci"
	"github.com/docker/docker/api/types/container"
	"github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/strata-cloud/strata/internal/errs"
)

// capabilities applies --privileged, --cap-add and --cap-drop to Docker's set.
func capabilities(h *container.HostConfig) oci.SpecOpts {
	names := func(l []string) (out []string, all bool) {
		for _, c := range l {
			c = strings.ToUpper(c)
			if c == "ALL" {
				all = true
				continue
			}
			out = append(out, "CAP_"+strings.TrimPrefix(c, "CAP_"))
		}
		return out, all
	}
	add, addAll := names(h.CapAdd)
	drop, dropAll := names(h.CapDrop)
	var opts []oci.SpecOpts
	switch {
	case h.Privileged:
		return oci.Compose(oci.WithAllCurrentCapabilities, oci.WithHostDevices, oci.WithAllDevicesAllowed, oci.WithWriteableSysfs, oci.WithWriteableCgroupfs)
	case addAll:
		opts = append(opts, oci.WithAllCurrentCapabilities)
	case dropAll:
		opts = append(opts, oci.WithCapabilities(nil))
	}
	return oci.Compose(append(opts, oci.WithAddedCapabilities(add), oci.WithDroppedCapabilities(drop))...)
}

// checkCapabilities refuses names that the kernel does not have.
func checkCapabilities(h *container.HostConfig) error {
	known := map[string]bool{"CAP_ALL": true}
	for _, c := range cap.Known() {
		known[c] = true
	}
	for what, list := range map[string][]string{"CapAdd": h.CapAdd, "CapDrop": h.CapDrop} {
		for _, c := range list {
			if name := "CAP_" + strings.TrimPrefix(strings.ToUpper(c), "CAP_"); !known[name] {
				return errs.Invalidf("invalid %s: unknown capability: %q", what, name)
			}
		}
	}
	return nil
}

// security applies the profile of system calls, after capabilities, which it depends on.
func security(h *container.HostConfig) oci.SpecOpts {
	profile := "builtin"
	if h.Privileged {
		profile = "unconfined"
	}
	opts := []oci.SpecOpts{}
	for _, o := range h.SecurityOpt {
		switch key, value, _ := securityOpt(o); key {
		case "seccomp":
			profile = value
		case "no-new-privileges":
			opts = append(opts, oci.WithNoNewPrivileges)
		}
	}
	return oci.Compose(append(opts, seccompProfile(profile))...)
}

// seccompProfile takes "builtin", "unconfined" or the profile itself.
func seccompProfile(profile string) oci.SpecOpts {
	return func(_ context.Context, _ oci.Client, _ *containers.Container, s *oci.Spec) (err error) {
		s.Linux.Seccomp = nil
		switch profile {
		case "unconfined":
		case "builtin":
			s.Linux.Seccomp, err = seccomp.GetDefaultProfile(s)
		default:
			s.Linux.Seccomp, err = seccomp.LoadProfile(profile, s)
		}
		if err != nil {
			return errs.Invalidf("the seccomp profile: %s", err)
		}
		return nil
	}
}

// checkProfile refuses what will be no profile at the start.
func checkProfile(key, profile string) error {
	if key != "seccomp" || profile == "unconfined" || profile == "builtin" {
		return nil
	}
	s := &specs.Spec{Process: &specs.Process{Capabilities: &specs.LinuxCapabilities{}}, Linux: &specs.Linux{}}
	if _, err := seccomp.LoadProfile(profile, s); err != nil {
		return errs.Invalidf("decoding seccomp profile failed: %s", err)
	}
	return nil
}
