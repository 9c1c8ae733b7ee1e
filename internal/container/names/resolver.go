package names

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// Limits on questions to others, as dockerd has them.
const (
	forwardTimeout = 4 * time.Second
	maxForwards    = 1024 // at a time, of all containers
	maxTCPQueries  = 64   // over one connection
)

// Upstream is a name server that a container's other questions go to.
type Upstream struct {
	Addr string // host:port
	Host bool   // it is the host's, and asked from there
}

// View is what a resolver has to know of its container.
type View struct {
	Members   []Member // the one that leads outside first
	Outside   bool     // it reaches others than those on its networks
	Dots      bool     // it set ndots itself: a name without a dot is never asked of others
	Upstreams func() []Upstream
}

// Dial opens a connection from a container's own namespace.
type Dial func(ctx context.Context, network, addr string) (net.Conn, error)

// Server makes resolvers.
type Server struct {
	Table Table
	Log   *slog.Logger

	slots chan struct{}
}

// NewServer makes one that knows no one.
func NewServer(log *slog.Logger) *Server {
	return &Server{Log: log, slots: make(chan struct{}, maxForwards)}
}

// Resolver answers in one container.
type Resolver struct {
	server   *Server
	view     func() View
	dial     Dial
	udp, tcp *dns.Server
	done     sync.WaitGroup
	ctx      context.Context // ends what is asked of others with the resolver
	stop     context.CancelFunc
}

// Start answers on both sockets until Close. ctx ends what is asked of others.
func (s *Server) Start(ctx context.Context, pc net.PacketConn, l net.Listener, view func() View, dial Dial) *Resolver {
	r := &Resolver{server: s, view: view, dial: dial}
	r.ctx, r.stop = context.WithCancel(ctx)
	started := make(chan struct{}, 2)
	note := func() { started <- struct{}{} }
	r.udp = &dns.Server{PacketConn: pc, Handler: r, NotifyStartedFunc: note}
	r.tcp = &dns.Server{Listener: l, Handler: r, NotifyStartedFunc: note, MaxTCPQueries: maxTCPQueries}
	for _, srv := range []*dns.Server{r.udp, r.tcp} {
		r.done.Go(func() {
			if err := srv.ActivateAndServe(); err != nil {
				s.Log.Error("a container's name server ended", "err", err)
				note()
			}
		})
	}
	<-started // one that has not started cannot be shut down
	<-started
	return r
}

// Close ends the resolver and waits for it.
func (r *Resolver) Close() error {
	r.stop()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.ctx), forwardTimeout)
	defer cancel()
	err := errors.Join(r.udp.ShutdownContext(ctx), r.tcp.ShutdownContext(ctx))
	r.done.Wait()
	return err
}

// ServeDNS implements dns.Handler.
func (r *Resolver) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	network := w.RemoteAddr().Network()
	a := r.resolve(network, q)
	if network == "udp" {
		size := dns.MinMsgSize
		if opt := q.IsEdns0(); opt != nil {
			size = max(size, int(opt.UDPSize()))
		}
		a.Truncate(size)
	}
	if err := w.WriteMsg(a); err != nil {
		r.server.Log.Debug("answering a container's question for a name", "err", err)
	}
}

func (r *Resolver) resolve(network string, q *dns.Msg) *dns.Msg {
	if q.Opcode != dns.OpcodeQuery || len(q.Question) != 1 {
		return new(dns.Msg).SetRcode(q, dns.RcodeNotImplemented)
	}
	v := r.view()
	if q.Question[0].Qclass == dns.ClassINET {
		if a := r.server.Table.answer(v.Members, q); a != nil {
			return a
		}
	}
	kind := q.Question[0].Qtype
	if v.Dots && (kind == dns.TypeA || kind == dns.TypeAAAA) && !strings.Contains(strings.TrimSuffix(q.Question[0].Name, "."), ".") {
		m := new(dns.Msg).SetReply(q)
		m.RecursionAvailable = true
		return m
	}
	return r.forward(network, v, q)
}

// forward asks others, one after the other until one knows an answer.
func (r *Resolver) forward(network string, v View, q *dns.Msg) *dns.Msg {
	if v.Upstreams == nil {
		return new(dns.Msg).SetRcode(q, dns.RcodeServerFailure)
	}
	for _, u := range v.Upstreams() {
		if u.Host && !v.Outside {
			continue
		}
		if r.ctx.Err() != nil {
			break
		}
		select {
		case r.server.slots <- struct{}{}:
		default:
			return new(dns.Msg).SetRcode(q, dns.RcodeRefused)
		}
		a, err := r.ask(network, u, q)
		<-r.server.slots
		if err != nil {
			r.server.Log.Debug("asking for a container", "server", u.Addr, "err", err)
			continue
		}
		if a.Rcode == dns.RcodeServerFailure || a.Rcode == dns.RcodeRefused {
			continue
		}
		a.Compress = true
		return a
	}
	return new(dns.Msg).SetRcode(q, dns.RcodeServerFailure)
}

func (r *Resolver) ask(network string, u Upstream, q *dns.Msg) (*dns.Msg, error) {
	ctx, cancel := context.WithTimeout(r.ctx, forwardTimeout)
	defer cancel()
	dial := r.dial
	if u.Host {
		dial = new(net.Dialer).DialContext
	}
	conn, err := dial(ctx, network, u.Addr)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	defer context.AfterFunc(r.ctx, func() { conn.Close() })()
	c := &dns.Client{Net: network, Timeout: forwardTimeout, UDPSize: dns.MaxMsgSize}
	a, _, err := c.ExchangeWithConnContext(ctx, q, &dns.Conn{Conn: conn})
	return a, err
}
