package nodelink

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"reflect"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/peer"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/nodes"
)

// The protocols of the cluster's port, by ALPN.
const (
	Forward = "h2"           // the agent calls
	Reverse = "strata-agent" // the agent is called
	Join    = "http/1.1"     // for machines that have no certificate yet
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
	// Control is what an agent may call, for its own node alone.
	Control func(node string) Upstream
	// Admit tells whether the node is still one of the pool.
	Admit func(node string) error
	// Connected is told of each node that can be called, and with nil that it cannot any more.
	Connected func(node string, c nodes.Conn)
	// Join answers machines that have no certificate yet.
	Join http.Handler
	Log  *slog.Logger

	mu      sync.Mutex
	current map[string]*grpc.ClientConn // by node
}

// Serve answers until ctx ends.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	conf := s.TLS.Clone()
	conf.NextProtos = []string{Forward, Reverse, Join}
	conf.ClientAuth, conf.MinVersion = tls.VerifyClientCertIfGiven, tls.VersionTLS13
	forward, join := newQueue(l.Addr()), newQueue(l.Addr())
	calls := newServer(s.caller, grpc.Creds(handshaken{}), grpc.KeepaliveParams(aliveServer), grpc.KeepaliveEnforcementPolicy(aliveAllowed))
	web := &http.Server{Handler: s.Join, ReadTimeout: handshakeTimeout, WriteTimeout: time.Minute, MaxHeaderBytes: 16 << 10}
	var group sync.WaitGroup
	group.Go(func() { _ = calls.Serve(forward) }) // both end when their queue closes
	group.Go(func() { _ = web.Serve(join) })
	stop := context.AfterFunc(ctx, func() {
		_ = l.Close()
		calls.Stop()
		_ = web.Close()
	})
	defer group.Wait()
	defer stop()
	for {
		c, err := l.Accept()
		if err != nil {
			calls.Stop()
			return errors.Join(web.Close(), ignoreClosed(err))
		}
		group.Go(func() { s.greet(ctx, tls.Server(c, conf), forward, join) })
	}
}

// greet shakes hands and hands the connection to what its protocol says.
func (s *Server) greet(ctx context.Context, c *tls.Conn, forward, join *queue) {
	limit, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	if err := c.HandshakeContext(limit); err != nil {
		s.Log.Debug("a machine was not let in", "addr", c.RemoteAddr().String(), "err", err)
		_ = c.Close()
		return
	}
	node, err := nodeOf(c.ConnectionState())
	switch proto := c.ConnectionState().NegotiatedProtocol; {
	case proto == Join || proto == "":
		join.put(ctx, c)
	case err != nil:
		_ = c.Close()
	case proto == Forward:
		forward.put(ctx, c)
	case proto == Reverse:
		s.reversed(ctx, node, c)
	}
}

// nodeOf is the node that a certificate is of.
func nodeOf(st tls.ConnectionState) (string, error) {
	if len(st.VerifiedChains) == 0 {
		return "", errs.New(errs.Unauthenticated, "a node shows a certificate of the cluster's authority")
	}
	leaf := st.VerifiedChains[0][0]
	if len(leaf.Subject.OrganizationalUnit) != 1 || leaf.Subject.OrganizationalUnit[0] != NodeUnit || leaf.Subject.CommonName == "" {
		return "", errs.New(errs.Forbidden, "the certificate of %s is not a node's", leaf.Subject.CommonName)
	}
	return leaf.Subject.CommonName, nil
}

// NodeUnit is the organizational unit in a node's certificate.
const NodeUnit = "strata-node"

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
	node, err := nodeOf(info.State)
	if err != nil {
		return nil, err
	}
	if err := s.Admit(node); err != nil {
		return nil, err
	}
	return NewExport(s.Control(node), reflect.TypeFor[Upstream]()), nil
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
		grpc.WithIdleTimeout(0), callOptions(), grpc.WithReadBufferSize(readBuffer), grpc.WithSharedWriteBuffer(true), grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) {
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
