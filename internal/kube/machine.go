package kube

import (
	"context"
	"log/slog"
	"path/filepath"
	"slices"

	"github.com/strata-cloud/strata/internal/process"
)

// Machine is what this machine does for clusters.
type Machine struct {
	Dir     string // of clusters' files
	Run     string // of sockets: short, and empty after a restart of the machine
	Program string // the path of strata-kube
	Pause   string // of the program in pods' sandboxes
	Shim    string // of what runs containers
	ShimEnv string // NAME=VALUE that tells it that a cluster's containerd has started it
	Groups  string // the control group of clusters' pods
	Log     *slog.Logger
}

// The plugin that connects a worker's pods, and what it is told.
const (
	cniBinDir  = "cni/bin"
	cniConfDir = "cni/net.d"
)

// CNI gives the directories where containerd of a cluster's worker looks for the programs
// and for the configuration of the pods' network.
func (m *Machine) CNI(cluster string) (bin, conf string) {
	dir := filepath.Join(m.Dir, cluster, workerDir)
	return filepath.Join(dir, cniBinDir), filepath.Join(dir, cniConfDir)
}

// Ensure brings what this machine does for a cluster to run as it is wanted.
func (m *Machine) Ensure(ctx context.Context, c *Control, w *Worker) error {
	if c != nil {
		if err := m.ensureControl(ctx, c); err != nil {
			return err
		}
	}
	if w != nil {
		return m.ensureWorker(ctx, w)
	}
	return nil
}

// keep has the programs of one directory run, with the files that are there now.
func (m *Machine) keep(ctx context.Context, cluster, dir string, programs []process.Program) error {
	now, err := revision(filepath.Join(dir, configDir), filepath.Join(dir, pkiDir))
	if err != nil {
		return err
	}
	k := &process.Keeper{Dir: dir}
	for _, p := range programs {
		p.Env = slices.Clone(p.Env)
		p.Env = append(p.Env, "STRATA_REVISION="+now)
		started, err := k.Ensure(ctx, p)
		if err != nil {
			return err
		}
		if started {
			m.Log.Info("a program of a cluster starts", "cluster", cluster, "program", p.Name)
		}
	}
	return nil
}
