package nodelink

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"reflect"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/peer"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/listener"
	"github.com/strata-cloud/strata/internal/nodes"
)

// The protocols of the cluster's port, by ALPN.
const (
	Forward = "h2"             // the agent calls
	Reverse = "strata-agent"   // the agent is called
	Join    = "http/1.1"       // for machines that have no certificate yet
	API     = "strata-api"     // another control member passes clients' requests on
	Council = "strata-control" // control members speak to each other
)

// handshakeTimeout bounds what an unknown machine can hold open.
const handshakeTimeout = 10 * time.Second

// alive has both ends notice within seconds that the other is gone.
var (
	alive        = keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 5 * time.Second, PermitWithoutStream: true}
	aliveServer  = keepalive.ServerParameters{Time: 10 * time.Second, Timeout: 5 * time.Second}
	aliveAllowed = keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}
)

// Server is the control plane's end: the cluster's port.
type Server struct {
	// TLS has the member's certificate and the authority that clients' must be of.
	TLS *tls.Config
	// Control is what an agent may call, for its own node alone. Without it agents are
	// not let in, which sends them to another control member.
	Control func(node string) Upstream
	// Admit tells whether the node is still one of the pool.
	Admit func(node string) error
	// Workers is what a server may call that is a worker of a cluster, for itself alone: an
	// error if there is no such worker (any more). Without it they are not let in.
	Workers func(id string) (WorkerUpstream, error)
	// Connected is told of each node that can be called, and with nil that it cannot any more.
	Connected func(node string, c nodes.Conn)
	// Join answers machines that have no certificate yet.
	Join http.Handler
	// API and Council answer other control members: requests of clients that they
	// pass on, and their own. Without them the protocol is not spoken.
	API, Council http.Handler
	Log          *slog.Logger

	mu      sync.Mutex
	current map[string]*grpc.ClientConn // by node
	workers map[string]int              // connections of workers
}

// Serve answers until ctx ends.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	conf := s.TLS.Clone()
	conf.ClientAuth, conf.MinVersion = tls.VerifyClientCertIfGiven, tls.VersionTLS13
	p := s.protocols(l.Addr())
	conf.NextProtos = p.names()
	conf.GetConfigForClient = newHandshakes().turn
	calls := newServer(s.caller, grpc.Creds(handshaken{}), grpc.KeepaliveParams(aliveServer), grpc.KeepaliveEnforcementPolicy(aliveAllowed))
	asks := newServer(s.caller, grpc.Creds(handshaken{}), grpc.KeepaliveParams(patientServer), grpc.KeepaliveEnforcementPolicy(aliveAllowed), grpc.MaxRecvMsgSize(maxOfWorker), grpc.MaxConcurrentStreams(maxCallsOfWorker))
	var group sync.WaitGroup
	group.Go(func() { _ = calls.Serve(p.forward) }) // all end when their queue closes
	group.Go(func() { _ = asks.Serve(p.workers) })
	for proto, w := range p.web {
		group.Go(func() { _ = w.Serve(p.queues[proto]) })
	}
	end := func() error {
		calls.Stop()
		asks.Stop()
		return p.close()
	}
	stop := context.AfterFunc(ctx, func() {
		_ = l.Close()
		_ = end()
	})
	defer group.Wait()
	defer stop()
	for {
		c, err := l.Accept()
		if err != nil {
			return errors.Join(end(), ignoreClosed(err))
		}
		group.Go(func() { s.greet(ctx, tls.Server(c, conf), p) })
	}
}

// protocols are what is spoken on the port.
type protocols struct {
	agents  bool
	forward *listener.Queue            // of agents' calls
	workers *listener.Queue            // of workers' that are servers
	queues  map[string]*listener.Queue // of HTTP, by protocol
	web     map[string]*http.Server    // likewise
}

func (s *Server) protocols(at net.Addr) *protocols {
	p := &protocols{agents: s.Control != nil || s.Workers != nil, forward: listener.NewQueue(at), workers: listener.NewQueue(at), queues: map[string]*listener.Queue{}, web: map[string]*http.Server{}}
	p.speak(Join, at, &http.Server{Handler: s.Join, ReadTimeout: handshakeTimeout, WriteTimeout: time.Minute, MaxHeaderBytes: 16 << 10})
	for proto, h := range map[string]http.Handler{API: s.API, Council: s.Council} {
		if h != nil {
			p.speak(proto, at, &http.Server{Handler: h, ReadHeaderTimeout: handshakeTimeout, MaxHeaderBytes: 80 << 10})
		}
	}
	return p
}

func (p *protocols) speak(proto string, at net.Addr, w *http.Server) {
	p.queues[proto], p.web[proto] = listener.NewQueue(at), w
}

func (p *protocols) names() (out []string) {
	if p.agents {
		out = append(out, Forward, Reverse)
	}
	for proto := range p.web {
		out = append(out, proto)
	}
	return out
}

func (p *protocols) close() (err error) {
	for _, w := range p.web {
		err = errors.Join(err, w.Close())
	}
	return err
}

// greet shakes hands and hands the connection to what its protocol says.
func (s *Server) greet(ctx context.Context, c *tls.Conn, p *protocols) {
	limit, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	if err := c.HandshakeContext(limit); err != nil {
		s.Log.Debug("a machine was not let in", "addr", c.RemoteAddr().String(), "err", err)
		_ = c.Close()
		return
	}
	st := c.ConnectionState()
	unit, name, err := callerOf(st)
	switch proto := st.NegotiatedProtocol; {
	case proto == Join || proto == "":
		p.queues[Join].Put(ctx, c)
	case proto == API || proto == Council:
		if !ofControl(st) {
			s.Log.Warn("a machine that is no control member was not let in", "addr", c.RemoteAddr().String(), "protocol", proto)
			_ = c.Close()
			return
		}
		p.queues[proto].Put(ctx, plain{c}) // net/http closes TLS with a protocol that it does not know
	case err != nil || !p.agents:
		_ = c.Close()
	case proto == Forward && unit == NodeUnit:
		p.forward.Put(ctx, c)
	case proto == Forward && unit == WorkerUnit:
		s.ofWorker(ctx, name, c, p)
	case proto == Reverse && unit == NodeUnit && s.Control != nil:
		s.reversed(ctx, name, c)
	default:
		_ = c.Close()
	}
}

// plain hides that a connection is TLS.
type plain struct{ net.Conn }

// ofControl tells whether a certificate is a control member's.
func ofControl(st tls.ConnectionState) bool {
	return len(st.VerifiedChains) > 0 && slices.Equal(st.VerifiedChains[0][0].Subject.OrganizationalUnit, []string{ControlUnit})
}

// callerOf is who a certificate is of, and of which kind: a node or a worker.
func callerOf(st tls.ConnectionState) (unit, name string, err error) {
	if len(st.VerifiedChains) == 0 {
		return "", "", errs.New(errs.Unauthenticated, "a node shows a certificate of the cluster's authority")
	}
	leaf := st.VerifiedChains[0][0]
	if units := leaf.Subject.OrganizationalUnit; len(units) != 1 || !slices.Contains([]string{NodeUnit, WorkerUnit}, units[0]) || leaf.Subject.CommonName == "" {
		return "", "", errs.New(errs.Forbidden, "the certificate of %s is not a node's", leaf.Subject.CommonName)
	}
	return leaf.Subject.OrganizationalUnit[0], leaf.Subject.CommonName, nil
}

// The organizational units in certificates: of nodes, of control members, and of servers
// that are workers of clusters.
const (
	NodeUnit    = "strata-node"
	ControlUnit = "strata-control"
	WorkerUnit  = "strata-worker"
)

// caller finds what the caller may call.
func (s *Server) caller(ctx context.Context) (*Export, error) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return nil, errs.New(errs.Unauthenticated, "the caller is not known")
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok {
		return nil, errs.New(errs.Unauthenticated, "the caller shows no certificate")
	}
	unit, name, err := callerOf(info.State)
	switch {
	case err != nil:
		return nil, err
	case unit == WorkerUnit:
		return s.workerExport(name)
	case s.Control == nil:
		return nil, errs.Forbiddenf("nodes do not call here")
	}
	if err := s.Admit(name); err != nil {
		return nil, err
	}
	return NewExport(s.Control(name), reflect.TypeFor[Upstream]()), nil
}

// reversed makes the agent callable for as long as its connection lasts.
func (s *Server) reversed(ctx context.Context, node string, c net.Conn) {
	defer c.Close()
	if err := s.Admit(node); err != nil {
		s.Log.Warn("a node was not let in", "node", node, "err", err)
		return
	}
	ended := make(chan struct{})
	client, err := clientOver(&closing{Conn: c, ended: ended})
	if err != nil {
		s.Log.Error("a node's connection", "node", node, "err", err)
		return
	}
	defer client.Close()
	client.Connect()
	s.set(node, client)
	defer s.unset(node, client)
	select {
	case <-ended:
	case <-ctx.Done():
	}
}

// set makes a connection the node's; it takes the place of one whose end has not
// been noticed yet.
func (s *Server) set(node string, c *grpc.ClientConn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current == nil {
		s.current = map[string]*grpc.ClientConn{}
	}
	s.current[node] = c
	s.Connected(node, Remote{Stub{c}})
}

func (s *Server) unset(node string, c *grpc.ClientConn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current[node] == c {
		delete(s.current, node)
		s.Connected(node, nil)
	}
}

// clientOver makes a gRPC client of one connection that there is already.
func clientOver(c net.Conn) (*grpc.ClientConn, error) {
	var once sync.Once
	return grpc.NewClient("passthrough:///agent", grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithKeepaliveParams(alive),
		grpc.WithIdleTimeout(0), callOptions(), grpc.WithReadBufferSize(readBuffer), grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) {
			err := net.ErrClosed // of every connection but the first
			once.Do(func() { err = nil })
			return c, err
		}))
}

func callOptions() grpc.DialOption {
	return grpc.WithDefaultCallOptions(grpc.ForceCodec(codec{}), grpc.MaxCallRecvMsgSize(maxMessage))
}

// closing tells when a connection was closed.
type closing struct {
	net.Conn
	once  sync.Once
	ended chan struct{}
}

// Close implements net.Conn.
func (c *closing) Close() error {
	c.once.Do(func() { close(c.ended) })
	return c.Conn.Close()
}

// handshaken gives gRPC connections whose handshake is done.
type handshaken struct {
	credentials.TransportCredentials
}

// ServerHandshake implements credentials.TransportCredentials.
func (handshaken) ServerHandshake(c net.Conn) (net.Conn, credentials.AuthInfo, error) {
	t, ok := c.(*tls.Conn)
	if w, is := c.(*worker); is {
		t, ok = w.tls, true
	}
	if !ok {
		return nil, nil, errors.New("the connection is not TLS")
	}
	return c, credentials.TLSInfo{State: t.ConnectionState(), CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity}}, nil
}

// Info implements credentials.TransportCredentials.
func (handshaken) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "tls"}
}

// Clone implements credentials.TransportCredentials.
func (h handshaken) Clone() credentials.TransportCredentials { return h }
