package kube

import (
	"context"
	"fmt"
	"net/netip"
	"path/filepath"

	"github.com/strata-cloud/strata/internal/kube/authority"
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
	DNS     netip.Addr
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

func ProxyLeaf() authority.Leaf { return authority.Leaf{Name: "system:kube-proxy", Client: true} }

// bench is the files of a worker.
type bench struct {
	*Worker
	program, shim string
	dir           string
}

func (b *bench) pki(name string) string    { return filepath.Join(b.dir, pkiDir, name) }
func (b *bench) file(name string) string   { return filepath.Join(b.dir, name) }
func (b *bench) config(name string) string { return filepath.Join(b.dir, configDir, name) }
func (b *bench) socket() string            { return b.file("containerd.sock") }

func (b *bench) write() error {
	files := map[string][]byte{b.pki("ca.crt"): b.CA, b.config("containerd.toml"): b.containerdConfig(), b.config("kubelet.yaml"): b.kubeletConfig(), b.config("kube-proxy.yaml"): b.proxyConfig()}
	for name, p := range map[string]*authority.Pair{kubeletProgram: &b.Kubelet, "kubelet-serving": &b.Serving, proxyProgram: &b.Proxy} {
		files[b.pki(name+".crt")], files[b.pki(name+".key")] = p.Cert, p.Key
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

func (b *bench) containerdConfig() []byte {
	return fmt.Appendf(nil, `version = 3
root = %q
state = %q
[grpc]
  address = %q
[plugins."io.containerd.cri.v1.images".pinned_images]
  sandbox = "localhost/strata/pause:1"
[plugins."io.containerd.cri.v1.runtime"]
  restrict_oom_score_adj = true
[plugins."io.containerd.cri.v1.runtime".cni]
  conf_dir = %q
  bin_dirs = [%q]
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
  runtime_path = %q
`, b.file("containerd"), b.file("state"), b.socket(), b.file(cniConfDir), b.file(cniBinDir), b.shim)
}

func (b *bench) kubeletConfig() []byte {
	return fmt.Appendf(nil, `apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: %q
authentication:
  anonymous: {enabled: false}
  webhook: {enabled: true}
  x509: {clientCAFile: %q}
authorization: {mode: Webhook}
tlsCertFile: %q
tlsPrivateKeyFile: %q
cgroupDriver: cgroupfs
failCgroupV1: false
failSwapOn: false
containerRuntimeEndpoint: %q
clusterDNS: [%q]
clusterDomain: %q
healthzPort: 0
`, b.Address, b.pki("ca.crt"), b.pki("kubelet-serving.crt"), b.pki("kubelet-serving.key"), "unix://"+b.socket(), b.DNS, Domain)
}

func (b *bench) proxyConfig() []byte {
	return fmt.Appendf(nil, `apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
clusterCIDR: %q
clientConnection: {kubeconfig: %q}
hostnameOverride: %q
healthzBindAddress: ""
metricsBindAddress: ""
conntrack: {maxPerCore: 0, min: 0}
`, list(b.Pods), b.config(proxyProgram+".conf"), b.Node)
}

// programs are the worker's, in the order in which they start.
func (b *bench) programs() []process.Program {
	env := []string{"HOME=/", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	flags := map[string][]string{
		containerdProgram: {"--config", b.config("containerd.toml")},
		kubeletProgram: {"--config", b.config("kubelet.yaml"), "--kubeconfig", b.config(kubeletProgram + ".conf"), "--hostname-override", b.Node,
			"--node-ip", b.Address.String(), "--root-dir", b.file("kubelet-root")},
		proxyProgram: {"--config", b.config("kube-proxy.yaml")},
	}
	var out []process.Program
	for _, name := range []string{containerdProgram, kubeletProgram, proxyProgram} {
		out = append(out, process.Program{Name: name, Args: append([]string{b.program, name}, flags[name]...), Env: env})
	}
	return out
}

// ensureWorker brings a worker to run.
func (m *Machine) ensureWorker(ctx context.Context, w *Worker) error {
	b := &bench{Worker: w, program: m.Program, shim: m.Shim, dir: filepath.Join(m.Dir, w.ID, workerDir)}
	if err := b.write(); err != nil {
		return err
	}
	return m.keep(ctx, w.ID, b.dir, b.programs())
}
