package container

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/containerd/containerd/v2/plugins"
	dockerbuild "github.com/docker/docker/api/types/build"
	"github.com/docker/docker/api/types/events"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/strata-cloud/strata/internal/container/bridge"
	"github.com/strata-cloud/strata/internal/container/build"
	"github.com/strata-cloud/strata/internal/container/engine"
	"github.com/strata-cloud/strata/internal/wait"
)

func buildDir(cfg Config) string { return filepath.Join(cfg.Dir, "build") }

// buildRunDir is where the runc of builds keeps its state.
func buildRunDir(cfg Config) string { return filepath.Join(runDir(cfg.Name), "build") }

// openBuilder starts BuildKit with the first build: an engine that builds nothing
// does not pay for it.
func (d *Daemon) openBuilder() (*build.Builder, error) {
	d.building.Lock()
	defer d.building.Unlock()
	if d.builder != nil {
		return d.builder, nil
	}
	if err := d.ctx.Err(); err != nil { // it would be closed by no one
		return nil, err
	}
	b, err := build.Open(d.ctx, build.Config{Dir: buildDir(d.cfg), RunDir: buildRunDir(d.cfg), Client: d.engine.Client, Namespace: engine.Namespace, Snapshotter: d.engine.Snapshotter,
		Group: cgroupParent(d.cfg.Name), Hosts: d.remote.Hosts, Log: d.cfg.Log, Sandbox: d.sandbox, Name: d.nameBuilt, HostGateway: bridge.HostAddr(d.cfg.Name).String()})
	if err != nil {
		return nil, err
	}
	d.builder = b
	return b, nil
}

func (d *Daemon) closeBuilder() error {
	d.building.Lock()
	defer d.building.Unlock()
	if d.builder == nil {
		return nil
	}
	return d.builder.Close()
}

// nameBuilt gives an image that was built its name.
func (d *Daemon) nameBuilt(ctx context.Context, name string, target ocispec.Descriptor) error {
	if err := d.name(ctx, name, target); err != nil || strings.HasPrefix(name, dangling) {
		return err
	}
	d.tellImage(events.ActionTag, target.Digest.String(), familiar(name))
	return d.undangle(ctx, target)
}

// cleanBuilds ends what a build has left that died with its process.
func (d *Daemon) cleanBuilds() error {
	if err := endBuilds(d.ctx, d.cfg); err != nil {
		return err
	}
	return cleanBuilds(d.cfg)
}

func cleanBuilds(cfg Config) error {
	layers := filepath.Join(cfg.Dir, "containerd", "root", plugins.SnapshotPlugin.String()+".overlayfs")
	if err := build.Clean(buildDir(cfg), buildRunDir(cfg), layers); err != nil {
		return fmt.Errorf("cleaning up after builds: %w", err)
	}
	return nil
}

// endBuilds kills what is in the control groups of builds.
func endBuilds(ctx context.Context, cfg Config) error {
	var tops []string
	for _, dir := range groupDirs(cfg.Name) {
		if _, err := os.Stat(filepath.Join(dir, build.Group)); err == nil {
			tops = append(tops, filepath.Join(dir, build.Group))
		}
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	err := wait.Until(ctx, "processes of builds to end", 5*time.Millisecond, func(context.Context) (bool, error) {
		left := false
		for _, top := range tops {
			groups, _ := filepath.Glob(filepath.Join(top, "*", "cgroup.procs"))
			for _, g := range groups {
				raw, _ := os.ReadFile(g) // it may be gone
				for f := range bytes.FieldsSeq(raw) {
					pid, err := strconv.Atoi(string(f))
					if err != nil || pid < 2 {
						continue
					}
					left = true
					if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
						return false, fmt.Errorf("ending process %d of a build: %w", pid, err)
					}
				}
			}
		}
		return !left, nil
	})
	return errors.Join(err, removeGroups(ctx, tops))
}

// Build makes an image.
func (d *Daemon) Build(ctx context.Context, o build.Options, body io.Reader, tell build.Sink) (string, error) {
	b, err := d.openBuilder()
	if err != nil {
		return "", err
	}
	return b.Build(ctx, o, body, tell)
}

// CancelBuild ends a build.
func (d *Daemon) CancelBuild(id string) error {
	b, err := d.openBuilder()
	if err == nil {
		b.Cancel(id)
	}
	return err
}

// BuildCache lists what builds have kept.
func (d *Daemon) BuildCache(ctx context.Context) ([]*dockerbuild.CacheRecord, error) {
	if !build.Used(buildDir(d.cfg)) {
		return []*dockerbuild.CacheRecord{}, nil
	}
	b, err := d.openBuilder()
	if err != nil {
		return nil, err
	}
	return b.Usage(ctx)
}

// PruneBuilds removes what builds have kept.
func (d *Daemon) PruneBuilds(ctx context.Context, o build.PruneOptions) (ids []string, freed int64, err error) {
	if build.Used(buildDir(d.cfg)) {
		b, err := d.openBuilder()
		if err != nil {
			return nil, 0, err
		}
		if ids, freed, err = b.Prune(ctx, o); err != nil {
			return nil, 0, err
		}
	}
	d.Events.send(events.BuilderEventType, events.ActionPrune, "", map[string]string{"reclaimed": strconv.FormatInt(freed, 10)})
	return ids, freed, nil
}

// ServeBuildKit speaks BuildKit's protocol on a connection until that ends.
func (d *Daemon) ServeBuildKit(conn net.Conn) error {
	b, err := d.openBuilder()
	if err == nil {
		b.Serve(conn)
	}
	return err
}

// BuildSession takes a client's session.
func (d *Daemon) BuildSession(ctx context.Context, w http.ResponseWriter, r *http.Request) error {
	b, err := d.openBuilder()
	if err != nil {
		return err
	}
	return b.Session(ctx, w, r)
}
