package region

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"

	"github.com/strata-cloud/strata/internal/container"
	"github.com/strata-cloud/strata/internal/container/dockerapi"
	"github.com/strata-cloud/strata/internal/container/engine"
	"github.com/strata-cloud/strata/internal/container/idmap"
	"github.com/strata-cloud/strata/internal/errs"
)

// Whether this machine has a container engine.
const (
	ContainersAuto = "auto" // when what it needs is installed
	ContainersOn   = "on"
	ContainersOff  = "off"
)

// DockerSocket is where docker's clients reach the engine, in the data directory.
const DockerSocket = "docker.sock"

const containersDir = "containers"

// shimProgram stands beside ours.
const shimProgram = "strata-shim"

func (c *Config) validContainers() error {
	mode, listen := c.Containers, c.ContainersListen
	switch mode {
	case "", ContainersAuto, ContainersOn, ContainersOff:
	default:
		return errs.Invalidf("--containers %s is none of auto, on and off", mode)
	}
	if c.ContainersRemap != "" {
		if err := idmap.Check(c.ContainersRemap); err != nil {
			return err
		}
		if mode == ContainersOff {
			return errs.Invalidf("%s needs a container engine, and --containers is off", idmap.Flag)
		}
	}
	if listen == "" {
		return nil
	}
	if _, port, err := net.SplitHostPort(listen); err != nil || port == "" || port == "0" {
		return errs.Invalidf("--containers-listen %s is not ADDRESS:PORT, such as 192.0.2.10:%s", listen, DockerPort)
	}
	if mode == ContainersOff {
		return errs.Invalidf("--containers-listen needs a container engine, and --containers is off")
	}
	return nil
}

// containers is this machine's container engine and its API.
type containers struct {
	engine   *container.Daemon
	api      *dockerapi.Server
	listener net.Listener
	socket   string       // path of listener
	remote   net.Listener // nil: there is none
}

// shim is the program that stands behind each container.
func shim() (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	if real, err := filepath.EvalSymlinks(self); err == nil {
		self = real
	}
	return filepath.Join(filepath.Dir(self), shimProgram), nil
}

// openContainers starts the engine; nil when this machine has none. Unless it was asked
// for, a machine whose engine does not start does all else.
func openContainers(ctx context.Context, cfg *Config, cloud container.Cloud) (*containers, error) {
	if cfg.Containers == ContainersOff {
		return nil, nil
	}
	shim, err := shim()
	if err != nil {
		return nil, err
	}
	wanted := cfg.Containers == ContainersOn || cfg.ContainersListen != "" || cfg.ContainersRemap != ""
	if why := engine.Missing(shim); why != "" && !wanted {
		cfg.Log.Info("no containers here", "why", why)
		return nil, nil
	}
	c, err := startContainers(ctx, cfg, shim, cloud)
	if err != nil && !wanted {
		cfg.Log.Error("no containers here: repair this, and start strata again", "err", err)
		return nil, nil
	}
	return c, err
}

func startContainers(ctx context.Context, cfg *Config, shim string, cloud container.Cloud) (*containers, error) {
	ids, err := remap(cfg)
	if err != nil {
		return nil, err
	}
	d, err := container.New(ctx, container.Config{Dir: cfg.path(containersDir), Name: Name(cfg.DataDir), Shim: shim, Log: cfg.Log, Remap: ids, Authority: cfg.path(caCertFile), Cloud: cloud})
	if err != nil {
		return nil, fmt.Errorf("container engine: %w", err)
	}
	l, err := listenDocker(cfg.path(DockerSocket))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("docker's socket: %w", err), d.Close())
	}
	c := &containers{engine: d, api: dockerapi.New(d, cfg.Version, cfg.Log), listener: l, socket: cfg.path(DockerSocket)}
	if cfg.ContainersListen != "" {
		if c.remote, err = listenDockerTLS(cfg); err != nil {
			return nil, errors.Join(fmt.Errorf("docker's clients from elsewhere: %w", err), l.Close(), d.Close())
		}
	}
	return c, nil
}

// remap is how containers' users are mapped; nil: not at all.
func remap(cfg *Config) (*idmap.Map, error) {
	if cfg.ContainersRemap == "" {
		return nil, nil
	}
	return idmap.Host.Lookup(cfg.ContainersRemap)
}

// listenDocker makes the socket, in the place of one that a crash left. Who may use
// it is root on this machine, as with dockerd's: it is made private and opened up to
// the group afterwards.
func listenDocker(path string) (net.Listener, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o660); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// run serves until ctx ends. Containers keep running.
func (c *containers) run(ctx context.Context, cfg *Config) {
	var group sync.WaitGroup
	for _, l := range []net.Listener{c.listener, c.remote} {
		if l == nil {
			continue
		}
		group.Go(func() {
			if err := c.api.Serve(ctx, l); err != nil {
				cfg.Log.Error("docker's API stands still", "addr", l.Addr(), "err", err)
				<-ctx.Done()
			}
		})
	}
	group.Wait()
	if err := c.engine.Close(); err != nil {
		cfg.Log.Warn("closing the container engine", "err", err)
	}
}
