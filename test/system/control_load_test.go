package system

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/servers"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/networks"

	"github.com/strata-cloud/strata/internal/wait"
	"github.com/strata-cloud/strata/test/hosts"
)

// load is a client that makes networks, and now and then a server, one after
// another, by way of all members in turn. What was refused, or broke off, it repeats
// after it has looked by name.
type load struct {
	*pool
	image  string
	at     []clients
	cancel context.CancelFunc
	ended  chan struct{}

	mu       sync.Mutex
	away     *hosts.Host
	made     int
	times    []span // of requests that were answered well
	repeated int
	from     int // where counting begins
}

// span is from the first try until the answer.
type span struct{ begun, ended time.Time }

func (p *pool) load(image string) *load {
	p.Helper()
	l := &load{pool: p, image: image, ended: make(chan struct{})}
	for _, h := range p.members() {
		c := p.clientsAt(h, "strata")
		c.compute.ProviderClient.HTTPClient.Timeout = 15 * time.Second
		l.at = append(l.at, c)
	}
	ctx, cancel := context.WithCancel(p.Context())
	l.cancel = cancel
	go l.run(ctx)
	p.Cleanup(func() {
		cancel()
		<-l.ended
	})
	return l
}

func (l *load) run(ctx context.Context) {
	defer close(l.ended)
	for n := 0; ctx.Err() == nil; n++ {
		if err := l.one(ctx, n); err != nil {
			l.Errorf("request %d: %v", n, err)
			return
		}
		_ = wait.Until(ctx, "a moment", 100*time.Millisecond, moment()) // ends with ctx
	}
}

// moment is a condition that holds the second time.
func moment() func(context.Context) (bool, error) {
	n := 0
	return func(context.Context) (bool, error) { n++; return n > 1, nil }
}

// serverEvery is which of the requests makes a server.
const serverEvery = 25

// one makes thing n exactly once, whatever it takes.
func (l *load) one(ctx context.Context, n int) error {
	begun := time.Now()
	name := fmt.Sprintf("load-%d", n)
	for try := 0; ; try++ {
		err := l.create(context.WithoutCancel(ctx), l.next(n+try), n, name)
		if err == nil {
			break
		}
		if !repeatable(err) {
			return err
		}
		l.mu.Lock()
		l.repeated++
		l.mu.Unlock()
		if l.look(ctx, n+try, n, name) {
			break
		}
		if time.Since(begun) > time.Minute {
			return fmt.Errorf("not done for a minute: %w", err)
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.made = n + 1
	l.times = append(l.times, span{begun, time.Now()})
	return nil
}

func (l *load) create(ctx context.Context, c clients, n int, name string) error {
	if n%serverEvery == 0 {
		_, err := servers.Create(ctx, c.compute, servers.CreateOpts{Name: name, ImageRef: l.image, FlavorRef: "42", Networks: "none"}, nil).Extract()
		return err
	}
	_, err := networks.Create(ctx, c.network, networks.CreateOpts{Name: name}).Extract()
	return err
}

// look tells whether a thing is there, once somebody says.
func (l *load) look(ctx context.Context, from, n int, name string) bool {
	for try := from; ctx.Err() == nil; try++ {
		ids, err := l.ids(context.WithoutCancel(ctx), l.next(try), n, name)
		if err == nil {
			return len(ids) > 0
		}
		_ = wait.Until(ctx, "a moment", 50*time.Millisecond, moment())
	}
	return true
}

func (l *load) ids(ctx context.Context, c clients, n int, name string) ([]string, error) {
	if n%serverEvery == 0 {
		return serverIDs(ctx, c, name)
	}
	pages, err := networks.List(c.network, networks.ListOpts{Name: name}).AllPages(ctx)
	if err != nil {
		return nil, err
	}
	list, err := networks.ExtractNetworks(pages)
	var ids []string
	for _, x := range list {
		ids = append(ids, x.ID)
	}
	return ids, err
}

func serverIDs(ctx context.Context, c clients, name string) ([]string, error) {
	pages, err := servers.List(c.compute, servers.ListOpts{Name: "^" + name + "$"}).AllPages(ctx)
	if err != nil {
		return nil, err
	}
	list, err := servers.ExtractServers(pages)
	var ids []string
	for _, x := range list {
		ids = append(ids, x.ID)
	}
	return ids, err
}

// repeatable errors say that nothing was done, or that it is not known.
func repeatable(err error) bool {
	var status gophercloud.ErrUnexpectedResponseCode
	if errors.As(err, &status) {
		return status.Actual == http.StatusServiceUnavailable
	}
	return true
}

// next is a member that is not avoided.
func (l *load) next(n int) clients {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.members()[n%len(l.at)] == l.away {
		n++
	}
	return l.at[n%len(l.at)]
}

// avoid has requests go to other members than the host's; nil: to all.
func (l *load) avoid(h *hosts.Host) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.away = h
}

func (l *load) answered() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.times)
}

// settle waits for some requests to be answered.
func (l *load) settle() {
	l.Helper()
	from := l.answered()
	l.until("requests to be answered", func() bool { return l.answered() > from+10 })
}

func (l *load) until(what string, cond func() bool) {
	l.Helper()
	ctx, cancel := context.WithTimeout(l.Context(), 90*time.Second)
	defer cancel()
	err := wait.Until(ctx, what, 5*time.Millisecond, func(context.Context) (bool, error) {
		select {
		case <-l.ended:
			return false, errors.New("the load has ended")
		default:
			return cond(), nil
		}
	})
	if err != nil {
		l.Fatal(err)
	}
}

// outage is the longest time without an answer from a moment on, until requests are
// answered again.
func (l *load) outage(since time.Time) (d time.Duration) {
	l.Helper()
	l.until("answers", func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return len(l.times) > 10 && l.times[len(l.times)-10].ended.After(since)
	})
	l.mu.Lock()
	defer l.mu.Unlock()
	last := since
	for _, t := range l.times {
		if t.ended.After(since) {
			d, last = max(d, t.ended.Sub(last)), t.ended
		}
	}
	return d
}

// longest is the longest time that a request from i on took.
func (l *load) longest(i int) (d time.Duration) {
	for ; i < len(l.times); i++ {
		d = max(d, l.times[i].ended.Sub(l.times[i].begun))
	}
	return d
}

// count begins to count.
func (l *load) count() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.from, l.repeated = len(l.times), 0
}

// counted are the slowest request since count, and how many were repeated.
func (l *load) counted() (slowest time.Duration, repeated int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.longest(l.from), l.repeated
}

// end stops the load: what was asked for is there exactly once.
func (l *load) end() {
	l.Helper()
	l.cancel()
	<-l.ended
	for n := range l.made {
		name := fmt.Sprintf("load-%d", n)
		ids, err := l.ids(context.WithoutCancel(l.Context()), l.at[n%len(l.at)], n, name)
		if err != nil || len(ids) != 1 {
			l.Errorf("%s is there %d times (%v)", name, len(ids), err)
		} else if n%serverEvery == 0 {
			l.at[0].awaitServer(l, ids[0], "ACTIVE")
		}
	}
	l.Logf("%d requests were answered", l.made)
}

// websocket opens a console and closes it.
func (p *pool) websocket(url string) {
	p.Helper()
	roots := x509.NewCertPool()
	raw, err := os.ReadFile(p.All[0].DataDir + "/ca.crt")
	if err != nil {
		p.Fatal(err)
	}
	roots.AppendCertsFromPEM(raw)
	ctx, cancel := context.WithTimeout(p.Context(), 10*time.Second)
	defer cancel()
	ws, _, err := websocket.Dial(ctx, url, &websocket.DialOptions{HTTPClient: &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}, Subprotocols: []string{"binary"}})
	if err != nil {
		p.Errorf("the console at %s: %v", strings.Split(url, "?")[0], err)
		return
	}
	if err := ws.CloseNow(); err != nil {
		p.Error(err)
	}
}

var _ testing.TB = (*load)(nil)
