package netpolicy

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
)

// Feed is what a cluster's API has of namespaces, pods and policies, kept current.
type Feed struct {
	url    string
	client *http.Client
	log    *slog.Logger

	mu      sync.Mutex
	state   State
	known   map[string]bool // the kinds that have been listed
	changed chan struct{}   // closed at a change
}

// NewFeed makes one of an API: whom to trust, and who we are, in PEM.
func NewFeed(api string, ca, cert, key []byte, log *slog.Logger) (*Feed, error) {
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(ca) {
		return nil, errors.New("the cluster has no authority")
	}
	tr := &http.Transport{TLSClientConfig: &tls.Config{Certificates: []tls.Certificate{pair}, RootCAs: roots, MinVersion: tls.VersionTLS12},
		DialContext: (&net.Dialer{Timeout: dialTimeout, KeepAlive: dialTimeout}).DialContext, ResponseHeaderTimeout: headTimeout, TLSHandshakeTimeout: dialTimeout}
	return &Feed{url: api, client: &http.Client{Transport: tr}, log: log, known: map[string]bool{}, changed: make(chan struct{}),
		state: State{Namespaces: map[string]*Namespace{}, Pods: map[string]*Pod{}, Policies: map[string]*Policy{}}}, nil
}

const (
	dialTimeout = 10 * time.Second
	headTimeout = 30 * time.Second
	// watchFor is how long one watch lasts; the API ends it then.
	watchFor = 5 * time.Minute
	page     = 500 // objects of an answer
	again    = time.Second
)

// kinds are what is followed.
const (
	namespaces = "/api/v1/namespaces"
	pods       = "/api/v1/pods"
	policies   = "/apis/networking.k8s.io/v1/networkpolicies"
)

// Run follows the API until ctx ends.
func (f *Feed) Run(ctx context.Context) {
	defer f.client.CloseIdleConnections()
	var group sync.WaitGroup
	group.Go(func() {
		follow(ctx, f, namespaces, func(n *Namespace) *Meta { return &n.Metadata }, f.state.Namespaces)
	})
	group.Go(func() { follow(ctx, f, pods, func(p *Pod) *Meta { return &p.Metadata }, f.state.Pods) })
	group.Go(func() { follow(ctx, f, policies, func(p *Policy) *Meta { return &p.Metadata }, f.state.Policies) })
	group.Wait()
}

// State is what there is now, and whether all of it has been listed; changed is closed when
// there is more to know. Its objects are not changed any more.
func (f *Feed) State() (s State, known bool, changed <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return State{maps.Clone(f.state.Namespaces), maps.Clone(f.state.Pods), maps.Clone(f.state.Policies)}, len(f.known) == 3, f.changed
}

// edit changes what is known.
func (f *Feed) edit(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
	close(f.changed)
	f.changed = make(chan struct{})
}

// follow lists one kind and watches it, and lists again where a watch cannot go on.
func follow[T any](ctx context.Context, f *Feed, path string, meta func(*T) *Meta, into map[string]*T) {
	told := ""
	for version := ""; ctx.Err() == nil; {
		var err error
		if version == "" {
			version, err = list(ctx, f, path, meta, into)
		} else {
			version, err = watch(ctx, f, path, version, meta, into)
		}
		if err == nil || ctx.Err() != nil {
			told = ""
			continue
		}
		if err.Error() != told && !errors.Is(err, errGone) {
			f.log.Warn("what policies of pods depend on is not heard", "path", path, "err", err)
			told = err.Error()
		}
		select {
		case <-time.After(again/2 + rand.N(again)):
		case <-ctx.Done():
		}
	}
}

// errGone: the API does not know that version any more.
var errGone = errors.New("the API has forgotten what was there")

func (f *Feed) get(ctx context.Context, path string, query url.Values) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, f.url+path+"?"+query.Encode(), nil)
	if err != nil {
		return nil, err
	}
	resp, err := f.client.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode == http.StatusOK {
		return resp.Body, nil
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusGone {
		return nil, errGone
	}
	raw, err := io.ReadAll(io.LimitReader(resp.Body, 500))
	return nil, errors.Join(fmt.Errorf("%s: %s: %s", path, resp.Status, strings.TrimSpace(string(raw))), err)
}

// list reads all of one kind, page by page.
func list[T any](ctx context.Context, f *Feed, path string, meta func(*T) *Meta, into map[string]*T) (version string, err error) {
	all := map[string]*T{}
	q := url.Values{"limit": {fmt.Sprint(page)}}
	for {
		body, err := f.get(ctx, path, q)
		if err != nil {
			return "", err
		}
		var l struct {
			Metadata struct{ ResourceVersion, Continue string }
			Items    []*T
		}
		err = errors.Join(json.NewDecoder(body).Decode(&l), body.Close())
		if err != nil {
			return "", fmt.Errorf("%s: %w", path, err)
		}
		for _, x := range l.Items {
			all[meta(x).key()] = x
		}
		version = l.Metadata.ResourceVersion
		if l.Metadata.Continue == "" {
			break
		}
		q.Set("continue", l.Metadata.Continue)
	}
	f.edit(func() {
		clear(into)
		maps.Copy(into, all)
		f.known[path] = true
	})
	return version, nil
}

// watch follows one kind from a version on; it gives the version from which to go on, and
// "" when it has to be listed again.
func watch[T any](ctx context.Context, f *Feed, path, version string, meta func(*T) *Meta, into map[string]*T) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, watchFor+headTimeout) // also of a connection that says nothing
	defer cancel()
	body, err := f.get(ctx, path, url.Values{"watch": {"1"}, "resourceVersion": {version}, "allowWatchBookmarks": {"true"}, "timeoutSeconds": {fmt.Sprint(int(watchFor.Seconds()))}})
	if errors.Is(err, errGone) {
		return "", err
	}
	if err != nil {
		return version, err
	}
	defer body.Close()
	for d := json.NewDecoder(body); ; {
		var ev struct {
			Type   string
			Object json.RawMessage
		}
		if err := d.Decode(&ev); err != nil {
			if ctx.Err() != nil || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
				return version, nil
			}
			return version, fmt.Errorf("%s: %w", path, err)
		}
		if ev.Type == "ERROR" { // the version is too old
			return "", errGone
		}
		x := new(T)
		if err := json.Unmarshal(ev.Object, x); err != nil {
			return "", fmt.Errorf("%s: %w", path, err)
		}
		m := meta(x)
		version = m.ResourceVersion
		switch ev.Type {
		case "ADDED", "MODIFIED":
			f.edit(func() { into[m.key()] = x })
		case "DELETED":
			f.edit(func() { delete(into, m.key()) })
		}
	}
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
