package kube

import "strconv"

// The server of metrics runs beside the API server, which has it as an aggregated API: its
// service leads to a port of the member, which only the gate makes one on loopback. It reads
// kubelets by who it is in the cluster.
const (
	metricsUser      = "strata:metrics"
	metricsNamespace = "kube-system"
	// metricsEvery is how often kubelets are read.
	metricsEvery = "15s"
)

func (p *plane) metricsFlags() []string {
	conf := p.config(metricsProgram + ".conf")
	return []string{"--kubeconfig=" + conf, "--authentication-kubeconfig=" + conf, "--authorization-kubeconfig=" + conf, "--authentication-skip-lookup",
		"--client-ca-file=" + p.pki("ca.crt"), "--requestheader-client-ca-file=" + p.pki("front-proxy-ca.crt"), "--requestheader-allowed-names=front-proxy-client",
		"--requestheader-extra-headers-prefix=X-Remote-Extra-", "--requestheader-group-headers=X-Remote-Group", "--requestheader-username-headers=X-Remote-User",
		"--bind-address=127.0.0.1", "--secure-port=" + strconv.Itoa(p.MetricsPort), "--tls-cert-file=" + p.pki(metricsProgram+".crt"), "--tls-private-key-file=" + p.pki(metricsProgram+".key"),
		"--kubelet-preferred-address-types=InternalIP", "--metric-resolution=" + metricsEvery, "--profiling=false"}
}
