package nodelink

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"

	"github.com/strata-cloud/strata/internal/listener"
	"github.com/strata-cloud/strata/internal/node"
	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/nodes"
)

// Upstream is the control plane as an agent on another machine calls it, for its own node.
type Upstream interface {
	// Instances and Networks are node.Control's.
	Instances(ctx context.Context) <-chan node.InstanceEvent
	Networks(ctx context.Context) <-chan nodeapi.NetState
	// NetChanges is Networks by what changes: the first is whole.
	NetChanges(ctx context.Context) <-chan nodeapi.NetChange
	// Exports and ReportExports are node.ExportControl's.
	Exports(ctx context.Context) <-chan []nodeapi.Export
	ReportExports(ctx context.Context, list []nodeapi.ExportStatus) error
	// LoadBalancers and ReportLoadBalancers are balance.Control's.
	LoadBalancers(ctx context.Context) <-chan []nodeapi.LoadBalancer
	ReportLoadBalancers(ctx context.Context, list []nodeapi.LoadBalancerStatus) error
	// Clusters and ReportClusters are node.ClusterControl's.
	Clusters(ctx context.Context) <-chan []nodeapi.KubePart
	ReportClusters(ctx context.Context, list []nodeapi.KubeStatus) error
	// PodPort, DropPodPort and PodPorts are podnet.Control's.
	PodPort(ctx context.Context, cluster string, p nodeapi.KubePod) (*nodeapi.ContainerPort, error)
	DropPodPort(ctx context.Context, cluster, port string) error
	PodPorts(ctx context.Context, cluster string) ([]string, error)
	// ReviewToken is tokenreview.Reviewer's.
	ReviewToken(ctx context.Context, cluster, token string) (*nodeapi.KubeUser, error)
	// CSI and ClusterVolume are csi.Control's.
	CSI(ctx context.Context, cluster, method string, body []byte) (*nodeapi.CSIAnswer, error)
	ClusterVolume(ctx context.Context, cluster, volume string) (*nodeapi.ContainerVolume, error)
	// PullLogin is images.Control's.
	PullLogin(ctx context.Context, cluster string) (*nodeapi.KubeLogin, error)
	Report(ctx context.Context, s nodeapi.InstanceStatus) error
	ReportPorts(ctx context.Context, ports []nodeapi.PortStatus) error
	ReportNode(ctx context.Context, n nodeapi.NodeInfo) error
	ReportPassword(ctx context.Context, id, password string) error
	Lease(ctx context.Context) (nodeapi.Lease, error)
	// ImageFormat gives the disk format of an image, OpenImage its data.
	ImageFormat(ctx context.Context, id string) (string, error)
	OpenImage(ctx context.Context, id string) (io.ReadCloser, error)
	// ImageFile names the file that control members have with an image's data.
	ImageFile(ctx context.Context, id string) (string, error)
	// OpenBlob gives content of the registry, by its digest.
	OpenBlob(ctx context.Context, digest string) (io.ReadCloser, error)
	// Mirrors are the registries of others that the region's registry mirrors, DialMirror a
	// connection to it, which speaks HTTP: for these without credentials.
	Mirrors(ctx context.Context) ([]string, error)
	DialMirror(ctx context.Context) (net.Conn, error)
	// Renew answers a certificate request for the same node with a certificate (both DER).
	Renew(ctx context.Context, csr []byte) ([]byte, error)
	// Members gives the addresses of all control members, host:port.
	Members(ctx context.Context) ([]string, error)
}

// Client is the agent's end: the control plane, as node.Control has it.
type Client struct {
	stub   Stub
	conn   *grpc.ClientConn
	known  *known
	conf   *tls.Config
	images string // directory of downloaded images
	log    *slog.Logger
	locks  sync.Map // of images under way, by id
}

var (
	_ node.Control       = (*Client)(nil)
	_ node.ExportControl = (*Client)(nil)
)

// Dial makes the agent's end. conf presents the node's certificate and trusts the
// cluster's authority; images is where downloaded images are kept. Where the control
// plane has more members, Know says so.
func Dial(addr string, conf *tls.Config, images string, log *slog.Logger) (*Client, error) {
	if err := os.MkdirAll(images, 0o711); err != nil {
		return nil, err
	}
	return dial(addr, conf, images, alive, log)
}

func dial(addr string, conf *tls.Config, images string, alive keepalive.ClientParameters, log *slog.Logger) (*Client, error) {
	forward := conf.Clone()
	forward.NextProtos = []string{Forward}
	k := newKnown(addr)
	conn, err := grpc.NewClient(k.Scheme()+":///control", grpc.WithResolvers(k), grpc.WithContextDialer(dialPlain),
		grpc.WithTransportCredentials(credentials.NewTLS(forward)), grpc.WithKeepaliveParams(alive), grpc.WithIdleTimeout(0), callOptions(),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: redial}, MinConnectTimeout: handshakeTimeout}))
	if err != nil {
		return nil, fmt.Errorf("control plane at %s: %w", addr, err)
	}
	return &Client{stub: Stub{conn}, conn: conn, known: k, conf: conf, images: images, log: log}, nil
}

// Know says where the control plane's members are. A connection to what is not among
// them ends.
func (c *Client) Know(addrs []string) { c.known.set(addrs) }

// Members asks where the control plane's members are.
func (c *Client) Members(ctx context.Context) ([]string, error) {
	return ask[[]string](ctx, c.stub, "Members")
}

// Close ends the connection.
func (c *Client) Close() error { return c.conn.Close() }

// redial is how long a broken connection is left alone, on average. It grows with
// each failure up to redialMax, so that thousands of nodes do not ask a control
// plane to death that has just come back.
const (
	redial    = time.Second
	redialMax = 5 * time.Second
)

// Serve lets the control plane call impl, the agent, until ctx ends.
func (c *Client) Serve(ctx context.Context, impl any) {
	e := NewExport(impl, reflect.TypeFor[nodes.Conn](), reflect.TypeFor[nodes.Storage](), reflect.TypeFor[nodes.Mover](), reflect.TypeFor[nodes.Containers]())
	conf := c.conf.Clone()
	conf.NextProtos = []string{Reverse}
	c.again(ctx, "being called by the control plane", func(reached func()) error {
		addrs, _ := c.known.get()
		raw, addr, err := dialAny(ctx, addrs, conf)
		if err != nil {
			return err
		}
		c.log.Info("the control plane can call this node", "addr", addr)
		begin := time.Now()
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		go c.until(ctx, cancel, addr)
		err = serveOne(ctx, raw, e)
		if time.Since(begin) > redial { // it was let in
			reached()
		}
		return err
	})
}

// until calls end when the address is no control member's any more.
func (c *Client) until(ctx context.Context, end func(), addr string) {
	for {
		addrs, changed := c.known.get()
		if !slices.Contains(addrs, addr) {
			end()
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// serveOne answers calls on a connection until it breaks or ctx ends.
func serveOne(ctx context.Context, raw net.Conn, e *Export) error {
	q, ended := listener.NewQueue(raw.LocalAddr()), make(chan struct{})
	s := newServer(func(context.Context) (*Export, error) { return e, nil }, grpc.KeepaliveParams(aliveServer), grpc.KeepaliveEnforcementPolicy(aliveAllowed))
	var group sync.WaitGroup
	group.Go(func() { _ = s.Serve(q) }) // until Stop
	q.Put(ctx, &closing{Conn: raw, ended: ended})
	select {
	case <-ended:
	case <-ctx.Done():
	}
	s.Stop()
	group.Wait()
	return context.Cause(ctx)
}

// again does something until ctx ends, with a pause after each time. fn says when it
// has reached the control plane.
func (c *Client) again(ctx context.Context, what string, fn func(reached func()) error) {
	told := ""
	for pause := redial; ctx.Err() == nil; pause = min(2*pause, redialMax) {
		soon := false
		if err := fn(func() { soon = true }); err != nil && ctx.Err() == nil {
			soon = soon || isRefused(err)
			level := slog.LevelWarn
			if err.Error() == told { // and again, until there is a leader
				level = slog.LevelDebug
			}
			told = err.Error()
			c.log.Log(ctx, level, what+" is interrupted", "err", err)
		}
		if soon {
			pause = redial
		}
		select {
		case <-time.After(pause/2 + rand.N(pause)):
		case <-ctx.Done():
		}
	}
}

// isRefused tells whether nobody serves nodes where it was tried: nothing listens, or a
// member that does not lead, or not yet, turned it away before any cryptography.
// A leader is there a moment later, so that it is worth to ask again soon.
func isRefused(err error) bool {
	var alert tls.AlertError
	if errors.As(err, &alert) && alert == noProtocol || errors.Is(err, syscall.ECONNREFUSED) {
		return true
	}
	// gRPC keeps no more than the text.
	return strings.Contains(err.Error(), noProtocol.Error()) || strings.Contains(err.Error(), syscall.ECONNREFUSED.Error())
}

// noProtocol is TLS's alert no_application_protocol (RFC 7301, section 3.2).
const noProtocol tls.AlertError = 120

// Instances implements node.Control. What a new connection does not name any more
// is wanted no more.
func (c *Client) Instances(ctx context.Context) <-chan node.InstanceEvent {
	out := make(chan node.InstanceEvent)
	go func() {
		defer close(out)
		known := map[string]bool{}
		c.again(ctx, "following what this node should run", func(reached func()) error {
			seen := map[string]bool{}
			return follow(ctx, c.stub, "Instances", func(e node.InstanceEvent) bool {
				reached()
				for _, x := range changes(e, known, &seen) {
					select {
					case out <- x:
					case <-ctx.Done():
						return false
					}
				}
				return true
			})
		})
	}()
	return out
}

// changes are what an event of a connection means: at Synced also the end of what
// was known before and has not been named since. seen is nil from then on.
func changes(e node.InstanceEvent, known map[string]bool, seen *map[string]bool) []node.InstanceEvent {
	switch {
	case e.Synced:
		var out []node.InstanceEvent
		for id := range known {
			if *seen != nil && !(*seen)[id] {
				delete(known, id)
				out = append(out, node.InstanceEvent{ID: id})
			}
		}
		*seen = nil
		return append(out, e)
	case e.Instance == nil:
		delete(known, e.ID)
	default:
		known[e.ID] = true
		if *seen != nil {
			(*seen)[e.ID] = true
		}
	}
	return []node.InstanceEvent{e}
}

// Exports implements node.ExportControl.
func (c *Client) Exports(ctx context.Context) <-chan []nodeapi.Export {
	return states[[]nodeapi.Export](ctx, c, "following which volumes others reach", "Exports")
}

// LoadBalancers implements balance.Control.
func (c *Client) LoadBalancers(ctx context.Context) <-chan []nodeapi.LoadBalancer {
	return states[[]nodeapi.LoadBalancer](ctx, c, "following the load balancers of this node", "LoadBalancers")
}

// ReportLoadBalancers implements balance.Control.
func (c *Client) ReportLoadBalancers(ctx context.Context, list []nodeapi.LoadBalancerStatus) error {
	return c.stub.call(ctx, nil, "ReportLoadBalancers", list)
}

// Clusters implements node.ClusterControl.
func (c *Client) Clusters(ctx context.Context) <-chan []nodeapi.KubePart {
	return states[[]nodeapi.KubePart](ctx, c, "following what this node does for clusters", "Clusters")
}

// states follows something that each message tells as a whole.
func states[T any](ctx context.Context, c *Client, what, method string) <-chan T {
	out := make(chan T)
	go func() {
		defer close(out)
		c.again(ctx, what, func(reached func()) error {
			return follow(ctx, c.stub, method, func(s T) bool {
				reached()
				select {
				case out <- s:
					return true
				case <-ctx.Done():
					return false
				}
			})
		})
	}()
	return out
}

// Report implements node.Control.
func (c *Client) Report(ctx context.Context, s nodeapi.InstanceStatus) error {
	return c.stub.call(ctx, nil, "Report", s)
}

// ReportPorts implements node.Control; it insists, for nobody would report them again.
func (c *Client) ReportPorts(ctx context.Context, ports []nodeapi.PortStatus) error {
	err := c.stub.call(ctx, nil, "ReportPorts", ports)
	for ; err != nil && ctx.Err() == nil; err = c.stub.call(ctx, nil, "ReportPorts", ports) {
		select {
		case <-time.After(redial):
		case <-ctx.Done():
		}
	}
	return err
}

// ReportNode implements node.Control.
func (c *Client) ReportNode(ctx context.Context, n nodeapi.NodeInfo) error {
	return c.stub.call(ctx, nil, "ReportNode", n)
}

// ReportExports implements node.ExportControl.
func (c *Client) ReportExports(ctx context.Context, list []nodeapi.ExportStatus) error {
	return c.stub.call(ctx, nil, "ReportExports", list)
}

// ReportClusters implements node.ClusterControl.
func (c *Client) ReportClusters(ctx context.Context, list []nodeapi.KubeStatus) error {
	return c.stub.call(ctx, nil, "ReportClusters", list)
}

// PodPort implements podnet.Control.
func (c *Client) PodPort(ctx context.Context, cluster string, p nodeapi.KubePod) (*nodeapi.ContainerPort, error) {
	return ask[*nodeapi.ContainerPort](ctx, c.stub, "PodPort", cluster, p)
}

// DropPodPort implements podnet.Control.
func (c *Client) DropPodPort(ctx context.Context, cluster, port string) error {
	return c.stub.call(ctx, nil, "DropPodPort", cluster, port)
}

// ReviewToken implements tokenreview.Reviewer.
func (c *Client) ReviewToken(ctx context.Context, cluster, token string) (*nodeapi.KubeUser, error) {
	return ask[*nodeapi.KubeUser](ctx, c.stub, "ReviewToken", cluster, token)
}

// PodPorts implements podnet.Control.
func (c *Client) PodPorts(ctx context.Context, cluster string) ([]string, error) {
	return ask[[]string](ctx, c.stub, "PodPorts", cluster)
}

// CSI implements csi.Control.
func (c *Client) CSI(ctx context.Context, cluster, method string, body []byte) (*nodeapi.CSIAnswer, error) {
	return ask[*nodeapi.CSIAnswer](ctx, c.stub, "CSI", cluster, method, body)
}

// ClusterVolume implements csi.Control.
func (c *Client) ClusterVolume(ctx context.Context, cluster, volume string) (*nodeapi.ContainerVolume, error) {
	return ask[*nodeapi.ContainerVolume](ctx, c.stub, "ClusterVolume", cluster, volume)
}

// PullLogin implements images.Control.
func (c *Client) PullLogin(ctx context.Context, cluster string) (*nodeapi.KubeLogin, error) {
	return ask[*nodeapi.KubeLogin](ctx, c.stub, "PullLogin", cluster)
}

// ReportPassword implements node.Control.
func (c *Client) ReportPassword(ctx context.Context, id, password string) error {
	return c.stub.call(ctx, nil, "ReportPassword", id, password)
}

// Lease implements node.Control.
func (c *Client) Lease(ctx context.Context) (nodeapi.Lease, error) {
	return ask[nodeapi.Lease](ctx, c.stub, "Lease")
}

// ImageFormat gives the disk format of an image.
func (c *Client) ImageFormat(ctx context.Context, id string) (string, error) {
	return ask[string](ctx, c.stub, "ImageFormat", id)
}

// ImageFile names the file that control members have with an image's data.
func (c *Client) ImageFile(ctx context.Context, id string) (string, error) {
	return ask[string](ctx, c.stub, "ImageFile", id)
}

// OpenBlob gives content of the registry.
func (c *Client) OpenBlob(ctx context.Context, digest string) (io.ReadCloser, error) {
	return c.stub.reader(ctx, "OpenBlob", digest)
}

// Mirrors tells which registries the region's registry mirrors.
func (c *Client) Mirrors(ctx context.Context) ([]string, error) {
	return ask[[]string](ctx, c.stub, "Mirrors")
}

// DialMirror opens a connection to the region's registry. It lasts until it is closed, or
// ctx ends.
func (c *Client) DialMirror(ctx context.Context) (net.Conn, error) {
	return c.stub.dialled(ctx, "DialMirror")
}

// Renew asks for a new certificate.
func (c *Client) Renew(ctx context.Context, csr []byte) ([]byte, error) {
	return ask[[]byte](ctx, c.stub, "Renew", csr)
}

// Image implements node.Control: the data is fetched once and kept.
func (c *Client) Image(ctx context.Context, id string) (path, format string, err error) {
	if id != filepath.Base(id) {
		return "", "", fmt.Errorf("%q is no image id", id)
	}
	lock, _ := c.locks.LoadOrStore(id, &sync.Mutex{})
	lock.(*sync.Mutex).Lock()
	defer lock.(*sync.Mutex).Unlock()
	if format, err = c.ImageFormat(ctx, id); err != nil {
		return "", "", err
	}
	path = filepath.Join(c.images, id)
	if _, err := os.Stat(path); err == nil {
		return path, format, nil
	}
	return path, format, c.fetch(ctx, id, path)
}

// fetch downloads an image; it has its name only when it is complete.
func (c *Client) fetch(ctx context.Context, id, path string) error {
	r, err := c.stub.reader(ctx, "OpenImage", id)
	if err != nil {
		return err
	}
	defer r.Close()
	f, err := os.CreateTemp(c.images, id+".new-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = io.Copy(f, r)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("fetching image %s: %w", id, err)
	}
	if err := os.Chmod(f.Name(), 0o644); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
