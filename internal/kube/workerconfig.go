package kube

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"

	"github.com/strata-cloud/strata/internal/kube/credentials"
)

// SandboxImage is what pods' sandboxes are made from. Add-ons whose program is in
// strata-kube run in it as well, for it has nothing else.
const SandboxImage = "localhost/strata/pause:1"

// containerdConfig keeps all that containerd makes in the worker's directory, and has it
// look for nothing elsewhere.
func (b *bench) containerdConfig() []byte {
	return fmt.Appendf(nil, `version = 3
root = %q
state = %q
imports = []
disabled_plugins = ["io.containerd.nri.v1.nri", "io.containerd.image-verifier.v1.bindir", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.blockfile", "io.containerd.snapshotter.v1.erofs", "io.containerd.tracing.processor.v1.otlp"]
[grpc]
  address = %q
[plugins."io.containerd.internal.v1.opt"]
  path = %q
[plugins."io.containerd.shim.v1.manager"]
  socket_dir = %q
  env = [%q]
[plugins."io.containerd.cri.v1.images".pinned_images]
  sandbox = %q
[plugins."io.containerd.cri.v1.images".registry]
  config_path = %q
[plugins."io.containerd.cri.v1.runtime"]
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  tolerate_missing_hugetlb_controller = true
[plugins."io.containerd.cri.v1.runtime".cni]
  conf_dir = %q
  bin_dirs = [%q]
  use_internal_loopback = true
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
  Root = %q
`, b.file("containerd-root"), b.file("state"), b.socket(), b.file("opt"), b.machine.run(b.ID), b.machine.ShimEnv, SandboxImage, b.machine.Registries(b.ID), b.file(cniConfDir), b.file(cniBinDir), filepath.Join(b.machine.run(b.ID), "runc"))
}

// kubeletConfig leaves a machine's disk to its owner: what is short is told in bytes, for
// a worker's file system is that of the region as well, of any size and with anything on it.
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
cgroupRoot: %q
failCgroupV1: false
failSwapOn: false
containerRuntimeEndpoint: %q
podLogsDir: %q
volumePluginDir: %q
evictionHard: {memory.available: 100Mi, nodefs.available: 1Gi, imagefs.available: 1Gi, nodefs.inodesFree: 1%%}
imageGCHighThresholdPercent: 100
clusterDNS: [%q]
clusterDomain: %q
healthzPort: 0
`, b.Address, b.pki("ca.crt"), b.pki("kubelet-serving.crt"), b.pki("kubelet-serving.key"), b.machine.groups(b.ID).Path(), "unix://"+b.socket(), b.file(podLogs), b.file("volume-plugins"), b.DNS, Domain)
}

// credentialsFile tells kubelet of the plugin, which is in credentialsBin.
const (
	credentialsFile = "credentials.yaml"
	credentialsBin  = "credentials"
)

// credentialsConfig has kubelet ask the plugin for the region's registry. What it is given says
// itself how long it is good.
func (b *bench) credentialsConfig() []byte {
	return fmt.Appendf(nil, `apiVersion: kubelet.config.k8s.io/v1
kind: CredentialProviderConfig
providers:
- name: %q
  apiVersion: %q
  matchImages: ["%s"]
  defaultCacheDuration: 0s
  args: [%q]
`, credentials.Program, credentials.APIVersion, strings.Join(b.Registries, `", "`), b.machine.LoginSocket(b.ID))
}

// proxyConfig has ports of nodes at the machine's address and at those on the cluster's network,
// from where load balancers come, and ask how kube-proxy is. A family without an address would
// have them at all of the machine's.
func (b *bench) proxyConfig() []byte {
	at, health := []string{netip.PrefixFrom(b.Address, b.Address.BitLen()).String()}, ""
	if b.Inside.IsValid() {
		if b.Inside != b.Address { // which are one of a server
			at = append(at, netip.PrefixFrom(b.Inside, b.Inside.BitLen()).String())
		}
		health = netip.AddrPortFrom(b.Inside, ProxyHealthPort).String()
	}
	if b.Inside6.IsValid() {
		at = append(at, netip.PrefixFrom(b.Inside6, b.Inside6.BitLen()).String())
	}
	return fmt.Appendf(nil, `apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
clusterCIDR: %q
detectLocalMode: InterfaceNamePrefix
detectLocal: {interfaceNamePrefix: %q}
clientConnection: {kubeconfig: %q}
hostnameOverride: %q
nodePortAddresses: ["%s"]
healthzBindAddress: %q
metricsBindAddress: ""
conntrack: {maxPerCore: 0, min: 0}
`, list(b.Pods), podDevices, b.config(proxyProgram+".conf"), b.Node, strings.Join(at, `", "`), health)
}

// podDevices begin the names of pods' devices (package podnet). What comes by others, also
// from the network that pods are on, is no pod of this machine: a load balancer's VIP, a server.
const podDevices = "kp-"

// ProxyHealthPort is where a worker's kube-proxy says how it is.
const ProxyHealthPort = 10256
