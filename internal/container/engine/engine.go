package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/plugins"
	"github.com/containerd/plugin"
	"github.com/containerd/plugin/registry"

	"github.com/strata-cloud/strata/internal/container/shims"
	"github.com/strata-cloud/strata/internal/errs"

	runtimev2 "github.com/containerd/containerd/v2/core/runtime/v2"
	_ "github.com/containerd/containerd/v2/plugins/content/local/plugin"
	_ "github.com/containerd/containerd/v2/plugins/diff/walking/plugin"
	_ "github.com/containerd/containerd/v2/plugins/events"
	_ "github.com/containerd/containerd/v2/plugins/gc"
	_ "github.com/containerd/containerd/v2/plugins/leases"
	_ "github.com/containerd/containerd/v2/plugins/metadata"
	_ "github.com/containerd/containerd/v2/plugins/mount"
	_ "github.com/containerd/containerd/v2/plugins/server/ttrpc"
	_ "github.com/containerd/containerd/v2/plugins/services/containers"
	_ "github.com/containerd/containerd/v2/plugins/services/content"
	_ "github.com/containerd/containerd/v2/plugins/services/diff"
	_ "github.com/containerd/containerd/v2/plugins/services/events"
	_ "github.com/containerd/containerd/v2/plugins/services/images"
	_ "github.com/containerd/containerd/v2/plugins/services/introspection"
	_ "github.com/containerd/containerd/v2/plugins/services/namespaces"
	_ "github.com/containerd/containerd/v2/plugins/services/snapshots"
	_ "github.com/containerd/containerd/v2/plugins/services/tasks"
	_ "github.com/containerd/containerd/v2/plugins/services/warning"
	_ "github.com/containerd/containerd/v2/plugins/snapshots/native/plugin"
	_ "github.com/containerd/containerd/v2/plugins/snapshots/overlay/plugin"
)

// Namespace is containerd's for all that Docker's API shows, as dockerd has it.
const Namespace = "moby"

// Config says where an engine lives.
type Config struct {
	Dir       string // images, snapshots and what runs
	SocketDir string // of the shims; at most 42 bytes long
	Shim      string // the program, as an absolute path
	Log       *slog.Logger
}

// Engine is containerd at work.
type Engine struct {
	Client      *client.Client
	Snapshotter string // overlayfs, or native where that cannot be mounted
	Shim        string // what containerd calls one by
	Socket      string // that shims report to, with .ttrpc after it
	set         *plugin.Set
}

// server is a plugin that listens.
type server interface{ Start(context.Context) error }

// Runtime is the program that makes containers.
const Runtime = "runc"

// Missing says what this machine lacks for running containers; "" means nothing.
func Missing(shim string) string {
	if _, err := exec.LookPath(Runtime); err != nil {
		return "the program runc is not installed (Debian's package runc)"
	}
	if fi, err := os.Stat(shim); err != nil || fi.Mode()&0o111 == 0 {
		return "the program " + shim + " is not there: make build"
	}
	return ""
}

// Requirements lists the distribution's packages that containers need.
func Requirements() []string { return []string{"runc"} }

// Start brings containerd to life. Containers that run already are found again.
func Start(ctx context.Context, cfg Config) (*Engine, error) {
	if why := Missing(cfg.Shim); why != "" {
		return nil, errs.New(errs.Unavailable, "containers cannot run: %s", why)
	}
	state := filepath.Join(cfg.Dir, "state")
	for _, dir := range []string{cfg.Dir, cfg.SocketDir, state} {
		if err := os.MkdirAll(dir, 0o711); err != nil {
			return nil, err
		}
	}
	// As containerd does: root of a user namespace passes through to its container's files.
	if err := os.Chmod(state, 0o711); err != nil {
		return nil, err
	}
	ctx = withLog(ctx, cfg.Log)
	call := filepath.Join(cfg.Dir, "shim")
	if err := writeCall(call, cfg.Shim); err != nil {
		return nil, err
	}
	e := &Engine{set: plugin.NewPluginSet(), Shim: call, Socket: filepath.Join(cfg.SocketDir, "containerd.sock")}
	failed := map[string]error{}
	var servers []server
	for _, r := range registry.Graph(unwanted) {
		p, err := e.load(ctx, cfg, r)
		if err != nil {
			failed[r.URI()] = err
			continue
		}
		if s, ok := p.(server); ok && r.Type == plugins.ServerPlugin {
			servers = append(servers, s)
		}
	}
	err := e.connect(ctx, failed)
	for _, s := range servers {
		if err == nil {
			err = s.Start(ctx)
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("starting the container engine: %w", err), e.Close())
	}
	return e, nil
}

// writeCall writes what containerd calls a shim by. It has one clean up after each
// container whose connection it closes, even if all was deleted already: a start of the
// shim and one of runc for nothing. A shim leaves word in the container's directory.
func writeCall(path, shim string) error {
	text := "#!/bin/sh\n[ -e " + shims.Deleted + " ] || exec '" + strings.ReplaceAll(shim, "'", `'\''`) + "' \"$@\"\n"
	if err := os.WriteFile(path+".new", []byte(text), 0o700); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// unwanted leaves out what imported packages bring along besides.
func unwanted(r *plugin.Registration) bool {
	// gRPC services are for other processes; the one for events is what shims report to.
	return r.Type == plugins.GRPCPlugin && r.ID != "events"
}

// load sets one plugin up.
func (e *Engine) load(ctx context.Context, cfg Config, r plugin.Registration) (any, error) {
	sock := e.Socket
	ic := plugin.NewContext(ctx, e.set, map[string]string{
		plugins.PropertyRootDir:      filepath.Join(cfg.Dir, "root", r.URI()),
		plugins.PropertyStateDir:     filepath.Join(cfg.Dir, "state", r.URI()),
		plugins.PropertyGRPCAddress:  sock,
		plugins.PropertyTTRPCAddress: sock + ".ttrpc",
	})
	ic.RegisterReadiness = func() func() { return func() {} }
	ic.Config = r.Config
	switch c := r.Config.(type) {
	case *runtimev2.ShimConfig:
		ic.Config = &runtimev2.ShimConfig{SocketDir: filepath.Join(cfg.SocketDir, "s")}
	case interface{ SetAddress(string) }:
		c.SetAddress(sock + ".ttrpc")
	}
	p := r.Init(ic)
	if err := e.set.Add(p); err != nil {
		return nil, err
	}
	return p.Instance()
}

// Close ends containerd; containers go on.
func (e *Engine) Close() error {
	var all []error
	for _, p := range slices.Backward(e.set.GetAll()) {
		i, err := p.Instance()
		if err != nil {
			continue
		}
		if c, ok := i.(io.Closer); ok {
			all = append(all, c.Close())
		}
	}
	return errors.Join(all...)
}
