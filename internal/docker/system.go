package docker

import (
	"net/http"
	"runtime"
	"slices"
	"time"

	"github.com/strata-cloud/strata/internal/dockerwire"
	"github.com/strata-cloud/strata/internal/errs"
)

func (s *Service) ping(w http.ResponseWriter, r *request) error {
	h := w.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("Cache-Control", "no-cache, no-store, must-revalidate")
	h.Set("Pragma", "no-cache")
	if r.Method == http.MethodHead {
		h.Set("Content-Length", "0")
		return nil
	}
	if _, err := w.Write([]byte("OK")); err != nil {
		return dockerwire.Late(err)
	}
	return nil
}

func (s *Service) version(w http.ResponseWriter, _ *request) error {
	return dockerwire.Answer(w, http.StatusOK, map[string]any{"Platform": map[string]string{"Name": "Strata: containers of a cloud"}, "Version": s.Version, "ApiVersion": dockerwire.MaxVersion, "MinAPIVersion": dockerwire.MinVersion,
		"Os": "linux", "Arch": runtime.GOARCH, "GoVersion": runtime.Version(), "KernelVersion": "", "GitCommit": "",
		"Components": []map[string]any{{"Name": "Strata", "Version": s.Version, "Details": map[string]string{"ApiVersion": dockerwire.MaxVersion, "MinAPIVersion": dockerwire.MinVersion, "Os": "linux", "Arch": runtime.GOARCH}}}})
}

// info is about the project: how many containers it has and may have, not which machines
// there are.
func (s *Service) info(w http.ResponseWriter, r *request) error {
	recs := s.of(r.who.ProjectID)
	used := map[string]int{}
	var lines [][2]string
	for _, l := range limits {
		n, limit := 0, l.limit
		if v, ok := s.Identity.LimitOf(r.who.ProjectID, l.resource); ok {
			limit = v
		}
		for _, c := range recs {
			n += l.of(c)
		}
		used[l.resource] = limit
		lines = append(lines, [2]string{l.resource, quantity(n, limit)})
	}
	list, err := s.Images.Tagged(r.Context(), r.who)
	if err != nil && !errs.Is(err, errs.Forbidden) {
		return err
	}
	digests := map[string]bool{}
	for _, i := range list {
		digests[i.Digest] = true
	}
	return dockerwire.Answer(w, http.StatusOK, map[string]any{"ID": r.who.ProjectID, "Name": r.who.ProjectName, "Containers": len(recs), "ContainersRunning": s.running(r, recs), "ContainersPaused": 0,
		"ContainersStopped": 0, "Images": len(digests), "Driver": "overlayfs", "DriverStatus": lines, "Plugins": map[string]any{"Volume": []string{}, "Network": []string{"strata"}, "Log": []string{"local", "json-file"}},
		"NCPU": used["container_cpu"], "MemTotal": int64(used["container_memory"]) << 20, "OperatingSystem": "Strata", "OSType": "linux", "Architecture": machine(), "ServerVersion": s.Version,
		"MemoryLimit": true, "CpuCfsPeriod": true, "CpuCfsQuota": true, "PidsLimit": true, "IPv4Forwarding": true, "SystemTime": time.Now().Format(time.RFC3339Nano), "LoggingDriver": "local",
		"CgroupDriver": "cgroupfs", "DefaultRuntime": "runc", "Runtimes": map[string]any{"runc": map[string]any{"path": "runc"}}, "Swarm": map[string]any{"LocalNodeState": "inactive"},
		"SecurityOptions": []string{"name=seccomp,profile=builtin"}, "Labels": []string{}, "Warnings": nil, "RegistryConfig": map[string]any{"IndexConfigs": map[string]any{}}})
}

// machine is what uname calls this kind of machine.
func machine() string {
	if runtime.GOARCH == "amd64" {
		return "x86_64"
	}
	return runtime.GOARCH
}

// running counts the containers that run.
func (s *Service) running(r *request, recs []*Container) int {
	n := 0
	for _, v := range s.summaries(r, slices.Clone(recs), noFilters()) {
		if v["State"] == "running" {
			n++
		}
	}
	return n
}
