package kube

import (
	"strconv"

	"github.com/strata-cloud/strata/internal/process"
)

// The server of metrics runs beside the API server, which has it as an aggregated API: its
// service leads to a port of the member, which only the gate makes one on loopback. It reads
// kubelets by who it is in the cluster, and by the gate: those of servers have no other way.
const (
	metricsUser      = "strata:metrics"
	metricsNamespace = "kube-system"
	// metricsEvery is how often kubelets are read.
	metricsEvery = "15s"
)

func (p *plane) metrics() process.Program {
	conf := p.config(metricsProgram + ".conf")
	out := p.make(metricsProgram, []string{"--kubeconfig=" + conf, "--authentication-kubeconfig=" + conf, "--authorization-kubeconfig=" + conf, "--authentication-skip-lookup",
		"--client-ca-file=" + p.pki("ca.crt"), "--requestheader-client-ca-file=" + p.pki("front-proxy-ca.crt"), "--requestheader-allowed-names=front-proxy-client",
		"--requestheader-extra-headers-prefix=X-Remote-Extra-", "--requestheader-group-headers=X-Remote-Group", "--requestheader-username-headers=X-Remote-User",
		"--bind-address=127.0.0.1", "--secure-port=" + strconv.Itoa(p.MetricsPort), "--tls-cert-file=" + p.pki(metricsProgram+".crt"), "--tls-private-key-file=" + p.pki(metricsProgram+".key"),
		"--kubelet-preferred-address-types=InternalIP", "--metric-resolution=" + metricsEvery, "--profiling=false",
		"--gate=" + p.gate})
	out.Env = append(out.Env, "NO_PROXY="+p.Address.String()) // the API, which is beside it
	return out
}
