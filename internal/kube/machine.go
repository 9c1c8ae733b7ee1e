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
	Kubelet string // of kubelets' files, pods' volumes among them: short, for there are sockets in it
	Run     string // of sockets: shorter still, and empty after a restart of the machine
	Program string // the path of strata-kube
	Volumes string // of strata-csi
	Pause   string // of the program in pods' sandboxes
	Shim    string // of what runs containers
	ShimEnv string // NAME=VALUE that tells it that a cluster's containerd has started it
	Groups  string // the control group of clusters' pods
	Copies  *Copies
	Log     *slog.Logger
}

// The plugin that connects a worker's pods, and what it is told.
const (
	cniBinDir  = "cni/bin"
	cniConfDir = "cni/net.d"
)

// registriesDir is what containerd reads of registries (package images).
const registriesDir = "registries"

// CNI gives the directories where containerd of a cluster's worker looks for the programs
// and for the configuration of the pods' network.
func (m *Machine) CNI(cluster string) (bin, conf string) {
	dir := filepath.Join(m.Dir, cluster, workerDir)
	return filepath.Join(dir, cniBinDir), filepath.Join(dir, cniConfDir)
}

// CNISocket is where the plugin speaks to the agent.
func (m *Machine) CNISocket(cluster string) string { return filepath.Join(m.run(cluster), "cni.sock") }

// Registries is where containerd of a cluster's worker reads how registries are reached.
func (m *Machine) Registries(cluster string) string {
	return filepath.Join(m.Dir, cluster, workerDir, registriesDir)
}

// LoginSocket is where kubelet's plugin for credentials of registries speaks to the agent.
func (m *Machine) LoginSocket(cluster string) string {
	return filepath.Join(m.run(cluster), "login.sock")
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

// short tells a cluster's directories apart where names have to be short.
func short(cluster string) string { return cluster[:min(8, len(cluster))] }

// kubelet and run are a cluster's own of the machine's directories.
func (m *Machine) kubelet(cluster string) string { return filepath.Join(m.Kubelet, short(cluster)) }
func (m *Machine) run(cluster string) string     { return filepath.Join(m.Run, short(cluster)) }

func (m *Machine) socket(cluster string) string {
	return filepath.Join(m.run(cluster), "containerd.sock")
}

// keep has the programs of one directory run, with the files that are there now. after, if
// any, is called with the name of each that runs, before the next one is started: also when an
// earlier run has started it, and got no further.
func (m *Machine) keep(ctx context.Context, cluster, dir string, programs []process.Program, after func(name string) error) error {
	now, err := revision(filepath.Join(dir, configDir), filepath.Join(dir, pkiDir))
	if err != nil {
		return err
	}
	k := &process.Keeper{Dir: dir}
	for i := range programs {
		programs[i].Env = append(slices.Clone(programs[i].Env), "STRATA_REVISION="+now)
	}
	if k.Current(programs...) { // mostly: one look at /proc, where what follows takes many
		return nil
	}
	// What is replaced ends in the other order: what needs another one waits for it in vain.
	replaced := map[string]bool{}
	for _, p := range slices.Backward(programs) {
		if k.Running(p.Name) && !k.Current(p) {
			replaced[p.Name] = true
			if err := k.Stop(ctx, p.Name); err != nil {
				return err
			}
		}
	}
	for _, p := range programs {
		ran, words := k.Running(p.Name), k.LastWords(p.Name)
		started, err := k.Ensure(ctx, p)
		switch {
		case err != nil:
			return err
		case started && !ran && !replaced[p.Name] && words != "":
			m.Log.Warn("a program of a cluster has ended, and starts again", "cluster", cluster, "program", p.Name, "last", words)
		case started:
			m.Log.Info("a program of a cluster starts", "cluster", cluster, "program", p.Name)
		}
		if after != nil {
			if err := after(p.Name); err != nil {
				return err
			}
		}
	}
	return nil
}
