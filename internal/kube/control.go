package kube

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/strata-cloud/strata/internal/kube/authority"
	"github.com/strata-cloud/strata/internal/process"
)

// Control is a cluster's control plane as it should run on this machine.
type Control struct {
	ID          string
	Name        string
	Address     netip.AddrPort // where the API listens, and workers and clients find it
	Hosts       []string       // more names and addresses of the API, for its certificate
	Pods        []netip.Prefix
	Services    []netip.Prefix
	EtcdPort    int // of etcd for its clients, on loopback; the next is for its peers
	ReviewPort  int // where users' tokens are judged, on loopback
	MetricsPort int // of the server of metrics, on loopback; by others it is found at Address
	Authorities authority.Set
	Generation  int // another one has the programs started anew

	State  string // the copy that its data begins with, on a machine to which it has moved
	Sealed bool   // it is about to move: etcd alone runs, for the last copy
}

// The names of a control plane's programs, in the order in which they start.
const (
	etcdProgram      = "etcd"
	apiserverProgram = "kube-apiserver"
	managerProgram   = "kube-controller-manager"
	schedulerProgram = "kube-scheduler"
	metricsProgram   = "metrics-server"
)

// Domain is the domain of a cluster's names.
const Domain = "cluster.local"

// ServiceIP is the address of the service kubernetes: the first of the services'.
func (c *Control) ServiceIP() netip.Addr { return c.Services[0].Masked().Addr().Next() }

// DNSIP is the address of the cluster's name server.
func (c *Control) DNSIP() netip.Addr {
	ip := c.Services[0].Masked().Addr()
	for range 10 {
		ip = ip.Next()
	}
	return ip
}

// URL is where the API is.
func (c *Control) URL() string { return "https://" + c.Address.String() }

// plane is the files of a control plane.
type plane struct {
	*Control
	program string // the path of strata-kube
	dir     string

	volumesProgram, csi string // the paths of strata-csi, and of the socket that it calls
	gate                string // the socket by which the API server reaches the cluster
}

func (p *plane) pki(name string) string { return filepath.Join(p.dir, pkiDir, name) }

func (p *plane) config(name string) string { return filepath.Join(p.dir, configDir, name) }

func (p *plane) etcdURL() string { return "https://127.0.0.1:" + strconv.Itoa(p.EtcdPort) }

// leaves are the certificates of the control plane, by file name.
func (p *plane) leaves() map[string]issued {
	a := &p.Authorities
	api := append([]string{p.Address.Addr().String(), "127.0.0.1", p.ServiceIP().String(), "localhost",
		"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc." + Domain}, p.Hosts...)
	return map[string]issued{
		"etcd":           {&a.Etcd, authority.Leaf{Name: "etcd", Hosts: []string{"127.0.0.1", "localhost"}, Server: true, Client: true}},
		"etcd-client":    {&a.Etcd, authority.Leaf{Name: apiserverProgram, Client: true}},
		"apiserver":      {&a.Cluster, authority.Leaf{Name: apiserverProgram, Hosts: api, Server: true}},
		"kubelet-client": {&a.Cluster, authority.Leaf{Name: "kube-apiserver-kubelet-client", Groups: []string{kubeletClients}, Client: true}},
		"front-proxy":    {&a.FrontProxy, authority.Leaf{Name: "front-proxy-client", Client: true}},
		managerProgram:   {&a.Cluster, authority.Leaf{Name: "system:kube-controller-manager", Client: true}},
		schedulerProgram: {&a.Cluster, authority.Leaf{Name: "system:kube-scheduler", Client: true}},
		volumesName:      {&a.Cluster, authority.Leaf{Name: "strata:" + volumesName, Client: true}},
		"admin":          {&a.Cluster, authority.Leaf{Name: "strata-admin", Groups: []string{"system:masters"}, Client: true}},
		metricsProgram:   {&a.Cluster, authority.Leaf{Name: metricsProgram, Hosts: []string{metricsProgram + "." + metricsNamespace + ".svc", "127.0.0.1"}, Server: true}},
		metricsUser:      {&a.Cluster, authority.Leaf{Name: metricsUser, Client: true}},
		reviewServer:     {&a.Cluster, authority.Leaf{Name: reviewServer, Hosts: []string{"127.0.0.1"}, Server: true}},
		reviewClient:     {&a.Cluster, authority.Leaf{Name: reviewClient, Client: true}},
	}
}

// write makes the files of the control plane.
func (p *plane) write() error {
	a := &p.Authorities
	for name, raw := range map[string][]byte{"ca.crt": a.Cluster.Cert, "ca.key": a.Cluster.Key, "etcd-ca.crt": a.Etcd.Cert, "front-proxy-ca.crt": a.FrontProxy.Cert, "service-account.key": a.ServiceAccount} {
		if err := writeFile(p.pki(name), raw); err != nil {
			return err
		}
	}
	for name, l := range p.leaves() {
		if err := l.ensure(p.pki(name)); err != nil {
			return fmt.Errorf("certificate %s: %w", name, err)
		}
	}
	if err := writeGeneration(p.config(generationFile), p.Generation); err != nil {
		return err
	}
	if err := writeFile(p.config(egressFile), p.egress()); err != nil {
		return err
	}
	if err := writeFile(p.config(etcdURLFile), []byte(p.etcdURL()+"\n")); err != nil {
		return err
	}
	for _, name := range []string{managerProgram, schedulerProgram, volumesName, "admin"} {
		if err := writeKubeconfig(p.config(name+".conf"), p.URL(), p.pki("ca.crt"), p.pki(name+".crt"), p.pki(name+".key")); err != nil {
			return err
		}
	}
	if err := writeKubeconfig(p.config(metricsProgram+".conf"), p.URL(), p.pki("ca.crt"), p.pki(metricsUser+".crt"), p.pki(metricsUser+".key")); err != nil {
		return err
	}
	return writeKubeconfig(p.config(reviewConfig), p.reviewURL(), p.pki("ca.crt"), p.pki(reviewClient+".crt"), p.pki(reviewClient+".key"))
}

// programs are the control plane's, in the order in which they start.
func (p *plane) programs() []process.Program {
	return []process.Program{
		p.make(etcdProgram, p.etcdFlags()),
		p.make(apiserverProgram, p.apiserverFlags()),
		p.make(managerProgram, p.managerFlags()),
		p.make(schedulerProgram, p.schedulerFlags()),
		p.metrics(),
		p.volumes(),
	}
}

func (p *plane) make(name string, flags []string) process.Program {
	return process.Program{Name: name, Args: append([]string{p.program, name}, flags...), Env: []string{"HOME=/", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"}}
}

func (p *plane) peerURL() string { return "https://127.0.0.1:" + strconv.Itoa(p.EtcdPort+1) }

func (p *plane) etcdFlags() []string {
	peer := p.peerURL()
	return []string{"--name=" + p.ID, "--data-dir=" + filepath.Join(p.dir, dataDir), "--logger=zap", "--log-level=warn",
		"--listen-client-urls=" + p.etcdURL(), "--advertise-client-urls=" + p.etcdURL(),
		"--listen-peer-urls=" + peer, "--initial-advertise-peer-urls=" + peer, "--initial-cluster=" + p.ID + "=" + peer,
		"--client-cert-auth", "--trusted-ca-file=" + p.pki("etcd-ca.crt"), "--cert-file=" + p.pki("etcd.crt"), "--key-file=" + p.pki("etcd.key"),
		"--peer-client-cert-auth", "--peer-trusted-ca-file=" + p.pki("etcd-ca.crt"), "--peer-cert-file=" + p.pki("etcd.crt"), "--peer-key-file=" + p.pki("etcd.key"),
		"--auto-compaction-mode=periodic", "--auto-compaction-retention=5m"}
}

func (p *plane) apiserverFlags() []string {
	return []string{"--advertise-address=" + p.Address.Addr().String(), "--bind-address=" + p.Address.Addr().String(), fmt.Sprintf("--secure-port=%d", p.Address.Port()),
		"--etcd-servers=" + p.etcdURL(), "--etcd-cafile=" + p.pki("etcd-ca.crt"), "--etcd-certfile=" + p.pki("etcd-client.crt"), "--etcd-keyfile=" + p.pki("etcd-client.key"),
		"--client-ca-file=" + p.pki("ca.crt"), "--tls-cert-file=" + p.pki("apiserver.crt"), "--tls-private-key-file=" + p.pki("apiserver.key"),
		"--kubelet-certificate-authority=" + p.pki("ca.crt"), "--kubelet-client-certificate=" + p.pki("kubelet-client.crt"), "--kubelet-client-key=" + p.pki("kubelet-client.key"),
		"--kubelet-preferred-address-types=InternalIP,Hostname",
		"--service-account-issuer=https://kubernetes.default.svc." + Domain, "--service-account-key-file=" + p.pki("service-account.key"), "--service-account-signing-key-file=" + p.pki("service-account.key"),
		"--service-cluster-ip-range=" + list(p.Services), "--authorization-mode=Node,RBAC", "--anonymous-auth=false",
		"--enable-admission-plugins=NodeRestriction", "--allow-privileged",
		"--requestheader-client-ca-file=" + p.pki("front-proxy-ca.crt"), "--requestheader-allowed-names=front-proxy-client", "--requestheader-extra-headers-prefix=X-Remote-Extra-",
		"--requestheader-group-headers=X-Remote-Group", "--requestheader-username-headers=X-Remote-User",
		"--proxy-client-cert-file=" + p.pki("front-proxy.crt"), "--proxy-client-key-file=" + p.pki("front-proxy.key"),
		"--shutdown-watch-termination-grace-period=1s", // else it waits a minute for those who watch
		"--authentication-token-webhook-config-file=" + p.config(reviewConfig), "--authentication-token-webhook-version=v1", "--authentication-token-webhook-cache-ttl=" + reviewTTL,
		// Services lead to pods here: the addresses that kube-proxy makes are not known to the machine.
		"--egress-selector-config-file=" + p.config(egressFile), "--enable-aggregator-routing",
		"--profiling=false"}
}

func (p *plane) managerFlags() []string {
	conf := p.config(managerProgram + ".conf")
	return []string{"--kubeconfig=" + conf, "--authentication-kubeconfig=" + conf, "--authorization-kubeconfig=" + conf, "--cluster-name=" + p.Name,
		"--cluster-signing-cert-file=" + p.pki("ca.crt"), "--cluster-signing-key-file=" + p.pki("ca.key"), "--root-ca-file=" + p.pki("ca.crt"),
		"--service-account-private-key-file=" + p.pki("service-account.key"), "--use-service-account-credentials",
		"--allocate-node-cidrs=false", "--service-cluster-ip-range=" + list(p.Services),
		"--secure-port=0", "--leader-elect=false", "--profiling=false"}
}

func (p *plane) schedulerFlags() []string {
	conf := p.config(schedulerProgram + ".conf")
	return []string{"--kubeconfig=" + conf, "--authentication-kubeconfig=" + conf, "--authorization-kubeconfig=" + conf,
		"--secure-port=0", "--leader-elect=false", "--profiling=false"}
}

func list(all []netip.Prefix) string {
	var out []string
	for _, p := range all {
		out = append(out, p.String())
	}
	return strings.Join(out, ",")
}

func (m *Machine) plane(c *Control) *plane {
	return &plane{Control: c, program: m.Program, dir: filepath.Join(m.Dir, c.ID, controlDir), volumesProgram: m.Volumes, csi: m.ControlCSI(c.ID), gate: m.ControlGate(c.ID)}
}

// ensureControl brings a control plane to run.
func (m *Machine) ensureControl(ctx context.Context, c *Control) error {
	p := m.plane(c)
	if err := m.adopt(ctx, p); err != nil {
		return err
	}
	if err := errors.Join(p.write(), p.restore()); err != nil {
		return err
	}
	if c.Sealed {
		return m.seal(ctx, p)
	}
	if err := p.unseal(); err != nil {
		return err
	}
	return m.keep(ctx, c.ID, p.dir, p.programs(), nil)
}
