package nodelink

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc/resolver"
)

// known are the addresses of the control members. One of them leads and lets agents
// in; the others refuse in the handshake, which sends an agent to the next. It is
// the resolver of the calling connection.
type known struct {
	mu      sync.Mutex
	addrs   []string
	changed chan struct{}
	cc      resolver.ClientConn
}

var (
	_ resolver.Builder  = (*known)(nil)
	_ resolver.Resolver = (*known)(nil)
)

func newKnown(addr string) *known {
	return &known{addrs: []string{addr}, changed: make(chan struct{})}
}

// Build implements resolver.Builder.
func (k *known) Build(_ resolver.Target, cc resolver.ClientConn, _ resolver.BuildOptions) (resolver.Resolver, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.cc = cc
	return k, k.tell()
}

// Scheme implements resolver.Builder.
func (k *known) Scheme() string { return "strata" }

// ResolveNow implements resolver.Resolver.
func (k *known) ResolveNow(resolver.ResolveNowOptions) {}

// Close implements resolver.Resolver.
func (k *known) Close() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.cc = nil
}

// tell passes the addresses on; mu is held. Certificates are of the address.
func (k *known) tell() error {
	if k.cc == nil {
		return nil
	}
	var s resolver.State
	for _, a := range k.addrs {
		host, _, err := net.SplitHostPort(a)
		if err != nil {
			return err
		}
		s.Endpoints = append(s.Endpoints, resolver.Endpoint{Addresses: []resolver.Address{{Addr: a, ServerName: host}}})
	}
	return k.cc.UpdateState(s)
}

// set replaces the addresses; a connection to one that is not among them ends.
func (k *known) set(addrs []string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(addrs) == 0 || slices.Equal(addrs, k.addrs) {
		return
	}
	k.addrs = slices.Clone(addrs)
	close(k.changed)
	k.changed = make(chan struct{})
	_ = k.tell() // what cannot be parsed cannot be dialled either
}

func (k *known) get() ([]string, <-chan struct{}) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.addrs), k.changed
}

// A host that is gone says nothing: the kernel asks for it, so that a connection to it
// ends within seconds.
func dialer() *net.Dialer {
	return &net.Dialer{Timeout: 5 * time.Second, KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 2 * time.Second, Interval: time.Second, Count: 3}}
}

func dialPlain(ctx context.Context, addr string) (net.Conn, error) {
	return dialer().DialContext(ctx, "tcp", addr)
}

// DialTLS connects to another control member.
func DialTLS(ctx context.Context, addr string, conf *tls.Config, proto string) (net.Conn, error) {
	conf = conf.Clone()
	conf.NextProtos = []string{proto}
	return (&tls.Dialer{Config: conf, NetDialer: dialer()}).DialContext(ctx, "tcp", addr)
}

// dialAny connects to all addresses at once and keeps the first connection.
func dialAny(ctx context.Context, addrs []string, conf *tls.Config) (net.Conn, string, error) {
	type result struct {
		conn net.Conn
		addr string
		err  error
	}
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	results := make(chan result, len(addrs))
	for _, a := range addrs {
		go func() {
			c, err := (&tls.Dialer{Config: conf, NetDialer: dialer()}).DialContext(ctx, "tcp", a)
			results <- result{c, a, err}
		}()
	}
	var failed []error
	for left := len(addrs); left > 0; left-- {
		r := <-results
		if r.err != nil {
			failed = append(failed, r.err)
			continue
		}
		cancel()
		go func() {
			for range left - 1 {
				if late := <-results; late.err == nil {
					_ = late.conn.Close()
				}
			}
		}()
		return r.conn, r.addr, nil
	}
	return nil, "", errors.Join(failed...)
}
