package kube

import (
	"os"
	"path/filepath"

	"github.com/strata-cloud/strata/internal/process"
)

// volumesName is the controllers of volumes: an executable of its own, since their
// libraries and Kubernetes' cannot be in one.
const volumesName = "csi-controllers"

// ControlCSI is the socket beside a control plane where controllers of volumes call the
// region, NodeCSI the one where kubelet calls this machine about volumes, and KubeletDir is
// kubelet's own directory.
func (m *Machine) ControlCSI(cluster string) string {
	return filepath.Join(m.controlRun(cluster), "csi.sock")
}

func (m *Machine) NodeCSI(cluster string) string { return filepath.Join(m.run(cluster), "csi.sock") }

func (m *Machine) KubeletDir(cluster string) string { return m.kubelet(cluster) }

// controlRun has the sockets of a control plane.
func (m *Machine) controlRun(cluster string) string {
	return filepath.Join(m.Run, short(cluster)+"-control")
}

// volumes is the program that makes, attaches and changes volumes for the cluster.
func (p *plane) volumes() process.Program {
	out := p.make(volumesName, nil)
	out.Args = []string{p.volumesProgram, "--kubeconfig=" + p.config(volumesName+".conf"), "--csi=" + p.csi}
	return out
}

// tidyControl removes what a control plane leaves outside of its directory.
func (m *Machine) tidyControl(cluster string) error {
	if err := os.RemoveAll(m.controlRun(cluster)); err != nil {
		return err
	}
	os.Remove(m.Run) // unless somebody else has something there
	return nil
}
