package region

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/nodelink"
	"github.com/strata-cloud/strata/internal/store"
)

// worker is the control plane for a worker of a cluster that is a server: for itself, and for
// as long as its record is there.
type worker struct {
	r                 *Region
	id, node, cluster string
}

var _ nodelink.WorkerUpstream = worker{}

// worker finds the worker that calls.
func (r *Region) worker(id string) (nodelink.WorkerUpstream, error) {
	node, cluster, err := r.Cluster.ServerWorker(id)
	if err != nil {
		return nil, err
	}
	return worker{r, id, node, cluster}, nil
}

func (w worker) Clusters(ctx context.Context) <-chan []nodeapi.KubePart {
	return w.r.Cluster.WatchServer(ctx, w.id)
}

func (w worker) ReportClusters(ctx context.Context, list []nodeapi.KubeStatus) error {
	if err := w.r.Cluster.AllowServer(w.id); err != nil {
		return err
	}
	return w.r.Cluster.ReportServer(store.Freeing(ctx), w.id, list)
}

// own refuses what is about another cluster.
func (w worker) own(cluster string) error {
	if cluster != w.cluster {
		return errs.Forbiddenf("node %s does not work for cluster %s", w.node, cluster)
	}
	return nil
}

func (w worker) PodPort(ctx context.Context, cluster string, p nodeapi.KubePod) (*nodeapi.ContainerPort, error) {
	if err := w.own(cluster); err != nil {
		return nil, err
	}
	if err := w.r.Cluster.AllowServer(w.id); err != nil {
		return nil, err
	}
	return w.r.Cluster.PodPort(ctx, w.node, cluster, p)
}

func (w worker) DropPodPort(ctx context.Context, cluster, port string) error {
	if err := w.own(cluster); err != nil {
		return err
	}
	if err := w.r.Cluster.AllowServer(w.id); err != nil {
		return err
	}
	return w.r.Cluster.DropPodPort(store.Freeing(ctx), w.node, cluster, port)
}

func (w worker) PodPorts(_ context.Context, cluster string) ([]string, error) {
	if err := w.own(cluster); err != nil {
		return nil, err
	}
	return w.r.Cluster.PodPorts(w.node, cluster), nil
}

// DialMirror connects to the registry as it answers machines of the pool: with a token what is
// in it, and what is mirrored without one.
func (w worker) DialMirror(ctx context.Context) (net.Conn, error) {
	if err := w.r.Cluster.AllowServer(w.id); err != nil {
		return nil, err
	}
	return w.r.dialMirror(ctx)
}

func (w worker) PullLogin(_ context.Context, cluster string) (*nodeapi.KubeLogin, error) {
	if err := w.own(cluster); err != nil {
		return nil, err
	}
	if err := w.r.Cluster.AllowServer(w.id); err != nil {
		return nil, err
	}
	return w.r.Cluster.PullLogin(w.node, cluster)
}

// Renew signs for this worker, whatever name is asked for.
func (w worker) Renew(_ context.Context, csr []byte) ([]byte, error) {
	if err := w.r.Cluster.AllowServer(w.id); err != nil {
		return nil, err
	}
	req, err := x509.ParseCertificateRequest(csr)
	if err == nil {
		err = req.CheckSignature()
	}
	if err != nil {
		return nil, errs.Invalidf("that is no certificate request: %w", err)
	}
	return w.r.signWorker(w.id, req.PublicKey)
}

func (w worker) Members(context.Context) ([]string, error) { return w.r.workerAddrs(), nil }

// workerAddrs are where workers that are servers call, which reach it by their router: the
// cluster's port, or where a cloud of one machine has its clusters' APIs.
func (r *Region) workerAddrs() []string {
	if r.council != nil {
		return r.council.addrs()
	}
	a := poolForCluster{r}.Address(r.cfg.Node)
	if !a.IsValid() {
		return nil
	}
	return []string{netip.AddrPortFrom(a, workerPort).String()}
}

// workerPort is where a cloud of one machine listens for workers.
const workerPort = 5003

// runWorkers answers workers that are servers, in a cloud that no other machine can join.
func (r *Region) runWorkers(ctx context.Context) {
	if err := r.serveWorkers(ctx); err != nil && ctx.Err() == nil {
		r.cfg.Log.Error("workers of clusters that are servers cannot call", "err", err)
	}
}

func (r *Region) serveWorkers(ctx context.Context) error {
	addrs := r.workerAddrs()
	if len(addrs) == 0 {
		return fmt.Errorf("this machine has no address that others reach")
	}
	ca, key, err := ensureCA(&r.cfg)
	if err != nil {
		return err
	}
	cert, err := issue(ca, key, namesAt(addrs[0]))
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca)
	// The address is on a device of the data plane, which may be made later.
	early := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) (err error) {
		if e := c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_FREEBIND, 1) }); e != nil {
			return e
		}
		return err
	}}
	l, err := early.Listen(ctx, "tcp", addrs[0])
	if err != nil {
		return err
	}
	s := &nodelink.Server{TLS: &tls.Config{Certificates: []tls.Certificate{cert}, ClientCAs: roots, MinVersion: tls.VersionTLS13}, Workers: r.worker, Join: http.NotFoundHandler(), Log: r.cfg.Log}
	return s.Serve(ctx, l)
}
