package nodelink

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"reflect"
	"time"

	"google.golang.org/grpc/keepalive"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/nodeapi"
)

// WorkerUpstream is the control plane as a worker of a cluster calls it that is a server of
// a project. The project's people own that machine with its key: this is all that they can
// call, and whoever implements it believes nothing that they say.
type WorkerUpstream interface {
	// Clusters and ReportClusters are node.ClusterControl's.
	Clusters(ctx context.Context) <-chan []nodeapi.KubePart
	ReportClusters(ctx context.Context, list []nodeapi.KubeStatus) error
	// PodPort, DropPodPort and PodPorts are podnet.Control's.
	PodPort(ctx context.Context, cluster string, p nodeapi.KubePod) (*nodeapi.ContainerPort, error)
	DropPodPort(ctx context.Context, cluster, port string) error
	PodPorts(ctx context.Context, cluster string) ([]string, error)
	// DialMirror and PullLogin are images.Control's.
	DialMirror(ctx context.Context) (net.Conn, error)
	PullLogin(ctx context.Context, cluster string) (*nodeapi.KubeLogin, error)
	// Renew answers a certificate request for the same worker with a certificate (both DER).
	Renew(ctx context.Context, csr []byte) ([]byte, error)
	// Members gives the addresses of all control members, host:port.
	Members(ctx context.Context) ([]string, error)
}

// What one worker gets of the port: bytes in a message, calls on a connection at a time,
// and connections.
const (
	maxOfWorker      = 1 << 20
	maxCallsOfWorker = 64
	maxConnsOfWorker = 4
)

// A server is slower than a machine to answer, most of all without hardware virtualisation
// on a busy host, and nothing is decided by whether it does.
var (
	patient       = keepalive.ClientParameters{Time: time.Minute, Timeout: 30 * time.Second, PermitWithoutStream: true}
	patientServer = keepalive.ServerParameters{Time: time.Minute, Timeout: 30 * time.Second}
)

// DialWorker is Dial for a worker that is a server.
func DialWorker(addr string, conf *tls.Config, log *slog.Logger) (*Client, error) {
	return dial(addr, conf, "", patient, log)
}

// ofWorker lets a worker call, unless it is none or has connections enough.
func (s *Server) ofWorker(ctx context.Context, id string, c *tls.Conn, p *protocols) {
	if _, err := s.workerExport(id); err != nil {
		s.Log.Debug("a worker was not let in", "worker", id, "err", err)
		_ = c.Close()
		return
	}
	if !s.countWorker(id, 1) {
		s.Log.Debug("a worker has too many connections", "worker", id)
		_ = c.Close()
		return
	}
	defer s.countWorker(id, -1)
	ended := make(chan struct{})
	p.workers.Put(ctx, &worker{closing: &closing{Conn: c, ended: ended}, tls: c})
	select {
	case <-ended:
	case <-ctx.Done():
	}
}

// worker is a worker's connection that tells when it was closed.
type worker struct {
	*closing
	tls *tls.Conn
}

// countWorker adds to a worker's connections; false: it would have too many.
func (s *Server) countWorker(id string, n int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.workers == nil {
		s.workers = map[string]int{}
	}
	if n > 0 && s.workers[id] >= maxConnsOfWorker {
		return false
	}
	if s.workers[id] += n; s.workers[id] == 0 {
		delete(s.workers, id)
	}
	return true
}

// workerExport is what a worker may call. It is asked before each call: a worker whose record
// is gone calls nothing any more, however long its certificate is good.
func (s *Server) workerExport(id string) (*Export, error) {
	if s.Workers == nil {
		return nil, errs.Forbiddenf("workers do not call here")
	}
	impl, err := s.Workers(id)
	if err != nil {
		return nil, err
	}
	return NewExport(impl, reflect.TypeFor[WorkerUpstream]()), nil
}
