package kube

import (
	"context"
	"net/netip"
	"path/filepath"

	"github.com/strata-cloud/strata/internal/cgroup"
	"github.com/strata-cloud/strata/internal/kube/authority"
	"github.com/strata-cloud/strata/internal/kube/credentials"
	"github.com/strata-cloud/strata/internal/process"
)

// Worker is this machine as a worker of a cluster. The identities are issued where the
// cluster's authorities are: a worker has none of their keys.
type Worker struct {
	ID      string // of the cluster
	Node    string // the worker's name in it
	Address netip.Addr
	URL     string // of the API
	CA      []byte // who vouches for the API, in PEM
	Kubelet authority.Pair
	Serving authority.Pair // of kubelet's own API
	Proxy   authority.Pair
	Pods    []netip.Prefix
	Inside  netip.Addr // its own in the network of pods; not valid: none
	Inside6 netip.Addr // of IPv6; not valid: pods have IPv4 alone
	DNS     netip.Addr
	// Registries are the names of the region's registry in images' names.
	Registries []string
	// Generation is as a control plane's.
	Generation int
}

// The names of a worker's programs, in the order in which they start.
const (
	containerdProgram = "containerd"
	kubeletProgram    = "kubelet"
	proxyProgram      = "kube-proxy"
)

// KubeletLeaf is the identity of a worker's kubelet; ServingLeaf that of its API;
// ProxyLeaf that of its kube-proxy.
func KubeletLeaf(node string) authority.Leaf {
	return authority.Leaf{Name: "system:node:" + node, Groups: []string{"system:nodes"}, Client: true}
}

func ServingLeaf(node string, addr netip.Addr) authority.Leaf {
	return authority.Leaf{Name: "system:node:" + node, Groups: []string{"system:nodes"}, Hosts: []string{addr.String(), node}, Server: true}
}

// PoliciesLeaf is who reads a cluster's network policies for a worker.
func PoliciesLeaf() authority.Leaf { return authority.Leaf{Name: policyReader, Client: true} }

const policyReader = "strata:policies"

func ProxyLeaf() authority.Leaf { return authority.Leaf{Name: "system:kube-proxy", Client: true} }

// shimName is where containerd finds what runs containers, by the name of the runtime. A
// path in its configuration is not enough: it forgets that of a pod's second container when
// it starts anew (core/runtime/v2/shim_load.go).
const (
	binDir   = "bin"
	shimName = binDir + "/containerd-shim-runc-v2"
)

// bench is the files of a worker.
type bench struct {
	*Worker
	machine *Machine
	dir     string
}

func (b *bench) pki(name string) string    { return filepath.Join(b.dir, pkiDir, name) }
func (b *bench) file(name string) string   { return filepath.Join(b.dir, name) }
func (b *bench) config(name string) string { return filepath.Join(b.dir, configDir, name) }
func (b *bench) socket() string            { return b.machine.socket(b.ID) }

func (b *bench) write() error {
	files := map[string][]byte{b.pki("ca.crt"): b.CA, b.config("containerd.toml"): b.containerdConfig(), b.config("kubelet.yaml"): b.kubeletConfig(), b.config("kube-proxy.yaml"): b.proxyConfig()}
	for name, p := range map[string]*authority.Pair{kubeletProgram: &b.Kubelet, "kubelet-serving": &b.Serving, proxyProgram: &b.Proxy} {
		files[b.pki(name+".crt")], files[b.pki(name+".key")] = p.Cert, p.Key
	}
	if len(b.Registries) > 0 {
		files[b.config(credentialsFile)] = b.credentialsConfig()
	}
	for path, raw := range files {
		if err := writeFile(path, raw); err != nil {
			return err
		}
	}
	if err := writeGeneration(b.config(generationFile), b.Generation); err != nil {
		return err
	}
	for _, name := range []string{kubeletProgram, proxyProgram} {
		if err := writeKubeconfig(b.config(name+".conf"), b.URL, b.pki("ca.crt"), b.pki(name+".crt"), b.pki(name+".key")); err != nil {
			return err
		}
	}
	return nil
}

// programs are the worker's, in the order in which they start.
func (b *bench) programs() []process.Program {
	flags := map[string][]string{
		containerdProgram: {"--config", b.config("containerd.toml")},
		kubeletProgram: {"--config", b.config("kubelet.yaml"), "--kubeconfig", b.config(kubeletProgram + ".conf"), "--hostname-override", b.Node,
			"--node-ip", b.nodeIPs(), "--root-dir", b.machine.kubelet(b.ID), "--cert-dir", b.file(pkiDir)},
		proxyProgram: {"--config", b.config("kube-proxy.yaml")},
	}
	if len(b.Registries) > 0 {
		flags[kubeletProgram] = append(flags[kubeletProgram], "--image-credential-provider-config", b.config(credentialsFile), "--image-credential-provider-bin-dir", b.file(credentialsBin))
	}
	var out []process.Program
	for _, name := range []string{containerdProgram, kubeletProgram, proxyProgram} {
		out = append(out, process.Program{Name: name, Args: append([]string{b.machine.Program, name}, flags[name]...),
			Env: []string{"HOME=/", "PATH=" + b.file(binDir) + ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}})
	}
	return out
}

// nodeIPs are the node's addresses as the cluster knows them, the one by which it is called
// first. That of IPv6 is the one among the pods: there need be no other.
func (b *bench) nodeIPs() string {
	if b.Inside6.IsValid() {
		return b.Address.String() + "," + b.Inside6.String()
	}
	return b.Address.String()
}

// ensureWorker brings a worker to run: containerd first, which must have what pods are
// made from before kubelet asks for it.
func (m *Machine) ensureWorker(ctx context.Context, w *Worker) error {
	b := m.bench(w)
	if err := b.write(); err != nil {
		return err
	}
	if err := m.groups(w.ID).Ensure(); err != nil {
		return err
	}
	if err := link(m.Program, Linked); err != nil {
		return err
	}
	for _, name := range []string{shimName, filepath.Join(credentialsBin, credentials.Program)} {
		if err := link(m.Shim, b.file(name)); err != nil {
			return err
		}
	}
	err := m.keep(ctx, w.ID, b.dir, b.programs(), func(name string) error {
		if name != containerdProgram {
			return nil
		}
		if err := m.serving(ctx, b.socket()); err != nil {
			return err
		}
		return b.load(ctx)
	})
	if err != nil {
		return err
	}
	return b.load(ctx) // what pods are made from may be another one by now
}

func (m *Machine) bench(w *Worker) *bench {
	return &bench{Worker: w, machine: m, dir: filepath.Join(m.Dir, w.ID, workerDir)}
}

// groups is the control group of a cluster's pods here.
func (m *Machine) groups(cluster string) cgroup.Tree { return cgroup.TreeOf(m.Groups + "/" + cluster) }
