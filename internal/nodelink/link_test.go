package nodelink

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/node"
	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/nodes"
	"github.com/strata-cloud/strata/internal/nodes/nodestest"
	"github.com/strata-cloud/strata/internal/wait"
)

// authority signs for tests.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca"}, NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, tpl, tpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return authority{cert, key}
}

func (a authority) conf(t *testing.T, name, unit string) *tls.Config {
	t.Helper()
	tpl := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name, OrganizationalUnit: []string{unit}}, NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}}
	der, err := x509.CreateCertificate(rand.Reader, tpl, a.cert, &a.key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: a.key}}, RootCAs: pool, ClientCAs: pool, MinVersion: tls.VersionTLS13}
}

// plane is a control plane of one node's wishes.
type plane struct {
	mu      sync.Mutex
	wanted  []nodeapi.Instance
	reports []nodeapi.InstanceStatus
	ports   []nodeapi.PortStatus
	exports []nodeapi.ExportStatus

	clusters []nodeapi.KubeStatus
}

// view is what one node is shown of it.
type view struct {
	*plane
	node string
}

func (v view) Instances(ctx context.Context) <-chan node.InstanceEvent {
	out := make(chan node.InstanceEvent)
	go func() {
		defer close(out)
		v.mu.Lock()
		wanted := slices.Clone(v.wanted)
		v.mu.Unlock()
		events := []node.InstanceEvent{}
		for _, i := range wanted {
			if i.Node == v.node {
				events = append(events, node.InstanceEvent{ID: i.ID, Instance: &i})
			}
		}
		for _, e := range append(events, node.InstanceEvent{Synced: true}) {
			select {
			case out <- e:
			case <-ctx.Done():
				return
			}
		}
		<-ctx.Done()
	}()
	return out
}

func (v view) LoadBalancers(context.Context) <-chan []nodeapi.LoadBalancer { return nil }

func (v view) ReportLoadBalancers(context.Context, []nodeapi.LoadBalancerStatus) error { return nil }

func (v view) Networks(context.Context) <-chan nodeapi.NetState { return nil }

func (v view) NetChanges(ctx context.Context) <-chan nodeapi.NetChange {
	out := make(chan nodeapi.NetChange, 2)
	out <- nodeapi.NetChange{Gen: 6, Whole: true, Networks: []nodeapi.Network{{ID: "none"}, {ID: "net of " + v.node}}}
	out <- nodeapi.NetChange{Gen: 7, Gone: []string{"none"}}
	context.AfterFunc(ctx, func() { close(out) })
	return out
}

func (v view) Report(_ context.Context, s nodeapi.InstanceStatus) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if s.Node != v.node {
		return errs.Forbiddenf("node %s is not %s", v.node, s.Node)
	}
	v.reports = append(v.reports, s)
	return nil
}

func (v view) ReportPorts(_ context.Context, ports []nodeapi.PortStatus) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.ports = append(v.ports, ports...)
	return nil
}

func (v view) Exports(ctx context.Context) <-chan []nodeapi.Export {
	out := make(chan []nodeapi.Export, 1)
	out <- []nodeapi.Export{{VolumeRef: nodeapi.VolumeRef{ID: "volume of " + v.node}, Clients: []nodeapi.ExportClient{{User: "u", PSK: []byte{1, 2}}}}}
	context.AfterFunc(ctx, func() { close(out) })
	return out
}

func (v view) ReportExports(_ context.Context, list []nodeapi.ExportStatus) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.exports = append(v.exports, list...)
	return nil
}

func (v view) Clusters(ctx context.Context) <-chan []nodeapi.KubePart {
	out := make(chan []nodeapi.KubePart, 1)
	out <- []nodeapi.KubePart{{ID: "cluster of " + v.node, Control: &nodeapi.KubeControl{Address: netip.MustParseAddrPort("192.0.2.1:6443")}}}
	context.AfterFunc(ctx, func() { close(out) })
	return out
}

func (v view) PodPort(_ context.Context, cluster string, p nodeapi.KubePod) (*nodeapi.ContainerPort, error) {
	if cluster != "c" {
		return nil, errs.Forbiddenf("node %s does not work for cluster %s", v.node, cluster)
	}
	return &nodeapi.ContainerPort{ID: v.node + " " + p.Sandbox + " " + p.Device}, nil
}

func (v view) DropPodPort(_ context.Context, cluster, port string) error {
	return errs.NotFoundf("%s %s %s", v.node, cluster, port)
}

func (v view) ReviewToken(_ context.Context, cluster, token string) (*nodeapi.KubeUser, error) {
	if token != "good" {
		return nil, errs.New(errs.Unauthenticated, "no")
	}
	return &nodeapi.KubeUser{Name: v.node + " " + cluster}, nil
}

func (v view) CSI(_ context.Context, cluster, method string, body []byte) (*nodeapi.CSIAnswer, error) {
	return &nodeapi.CSIAnswer{Message: v.node + " " + cluster + " " + method, Body: body}, nil
}

func (v view) ClusterVolume(_ context.Context, cluster, volume string) (*nodeapi.ContainerVolume, error) {
	return nil, errs.NotFoundf("cluster %s has no volume %s on %s", cluster, volume, v.node)
}

func (v view) PodPorts(_ context.Context, cluster string) ([]string, error) {
	return []string{v.node + " " + cluster}, nil
}

func (v view) ReportClusters(_ context.Context, list []nodeapi.KubeStatus) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.clusters = append(v.clusters, list...)
	return nil
}

func (v view) ReportNode(context.Context, nodeapi.NodeInfo) error { return nil }

func (v view) ReportPassword(_ context.Context, id, password string) error {
	return errs.Conflictf("%s has a password already", id)
}

func (v view) Lease(context.Context) (nodeapi.Lease, error) {
	return nodeapi.Lease{TTL: time.Second, Servers: []string{"of " + v.node}}, nil
}

func (v view) ImageFormat(_ context.Context, id string) (string, error) {
	if id == "none" {
		return "", errs.NotFoundf("there is no image %s", id)
	}
	return "qcow2", nil
}

func (v view) OpenImage(_ context.Context, id string) (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(imageData(id))), nil
}

func (v view) Renew(_ context.Context, csr []byte) ([]byte, error) {
	return append([]byte(v.node+" "), csr...), nil
}

func (v view) ImageFile(_ context.Context, id string) (string, error) { return "file of " + id, nil }

func (v view) OpenBlob(_ context.Context, digest string) (io.ReadCloser, error) {
	return io.NopCloser(strings.NewReader("content of " + digest)), nil
}

func (v view) Mirrors(context.Context) ([]string, error) { return []string{"docker.io"}, nil }

func (v view) DialMirror(context.Context) (net.Conn, error) { return nil, errs.NotFoundf("no mirror") }

func (v view) PullLogin(_ context.Context, cluster string) (*nodeapi.KubeLogin, error) {
	if cluster != "c" {
		return nil, errs.Forbiddenf("node %s does not work for cluster %s", v.node, cluster)
	}
	return &nodeapi.KubeLogin{Name: v.node, Password: "p", Lasts: time.Minute}, nil
}

func (v view) Members(context.Context) ([]string, error) { return []string{"one:1", "two:2"}, nil }

// imageData takes several frames.
func imageData(id string) []byte {
	return bytes.Repeat([]byte(id), frameSize)
}

// called is the agent of a test: a simulated node with an echo for a console.
type called struct{ *nodestest.Agent }

func (called) Console(context.Context, string, string) (net.Conn, error) {
	a, b := net.Pipe()
	go func() {
		_, _ = io.Copy(b, b)
		_ = b.Close()
	}()
	return a, nil
}

// world is a control plane that listens.
type world struct {
	*testing.T
	ca    authority
	addr  string
	plane *plane

	mu    sync.Mutex
	conns map[string]nodes.Conn
	gone  map[string]bool // nodes that were removed
}

func newWorld(t *testing.T) *world {
	w := &world{T: t, ca: newAuthority(t), plane: &plane{}, conns: map[string]nodes.Conn{}, gone: map[string]bool{}}
	w.listen("127.0.0.1:0")
	return w
}

// listen serves at the address and gives the function that stops it.
func (w *world) listen(addr string) (stop func()) {
	w.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		w.Fatal(err)
	}
	w.addr = l.Addr().String()
	pot := http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(http.StatusTeapot) })
	s := &Server{TLS: w.ca.conf(w.T, "control", "control"), Log: slog.New(slog.DiscardHandler), API: pot, Council: pot,
		Control: func(node string) Upstream { return view{w.plane, node} },
		Admit: func(node string) error {
			w.mu.Lock()
			defer w.mu.Unlock()
			if w.gone[node] {
				return errs.Forbiddenf("node %s was removed", node)
			}
			return nil
		},
		Workers: func(id string) (WorkerUpstream, error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			if w.gone[id] || id != "w1" {
				return nil, errs.Forbiddenf("there is no worker %s", id)
			}
			return view{w.plane, id}, nil
		},
		Connected: func(node string, c nodes.Conn) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.conns[node] = c
		},
		Join: http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { fmt.Fprint(rw, "joining") })}
	ctx, cancel := context.WithCancel(w.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := s.Serve(ctx, l); err != nil {
			w.Error(err)
		}
	}()
	stop = func() { cancel(); <-ended }
	w.Cleanup(stop)
	return stop
}

func (w *world) agent(name string) *Client {
	w.Helper()
	c, err := Dial(w.addr, w.ca.conf(w.T, name, NodeUnit), w.TempDir(), slog.New(slog.DiscardHandler))
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { _ = c.Close() })
	return c
}

// remote waits until the control plane can call the node, or cannot any more.
func (w *world) remote(name string, connected bool) (c nodes.Conn) {
	w.Helper()
	ctx, cancel := context.WithTimeout(w.Context(), 20*time.Second)
	defer cancel()
	if err := wait.Until(ctx, "the node's connection", time.Millisecond, func(context.Context) (bool, error) {
		w.mu.Lock()
		defer w.mu.Unlock()
		c = w.conns[name]
		return (c != nil) == connected, nil
	}); err != nil {
		w.Fatal(err)
	}
	return c
}

func TestAgentCalls(t *testing.T) {
	w := newWorld(t)
	w.plane.wanted = []nodeapi.Instance{{ID: "i1", Node: "n1", Gen: 3}, {ID: "i2", Node: "n2"}}
	c, ctx := w.agent("n1"), t.Context()
	if err := c.Report(ctx, nodeapi.InstanceStatus{ID: "i1", Node: "n1", Gen: 3}); err != nil || len(w.plane.reports) != 1 {
		t.Errorf("%v, reports: %v", err, w.plane.reports)
	}
	if err := c.Report(ctx, nodeapi.InstanceStatus{ID: "i2", Node: "n2"}); !errs.Is(err, errs.Forbidden) {
		t.Errorf("a report for another node: %v", err)
	}
	if list := <-c.Clusters(ctx); len(list) != 1 || list[0].ID != "cluster of n1" || list[0].Control == nil || list[0].Control.Address.Port() != 6443 || list[0].Worker != nil {
		t.Errorf("for clusters it is to do %+v", list)
	}
	if p, err := c.PodPort(ctx, "c", nodeapi.KubePod{Sandbox: "s", Device: "eth0"}); err != nil || p.ID != "n1 s eth0" {
		t.Errorf("a pod's port: %v, %v", p, err)
	}
	if _, err := c.PodPort(ctx, "d", nodeapi.KubePod{}); !errs.Is(err, errs.Forbidden) {
		t.Errorf("a pod's port of another cluster: %v", err)
	}
	if err := c.DropPodPort(ctx, "c", "p"); !errs.Is(err, errs.NotFound) || !strings.Contains(err.Error(), "n1 c p") {
		t.Errorf("a pod's port is dropped: %v", err)
	}
	if u, err := c.ReviewToken(ctx, "c", "good"); err != nil || u.Name != "n1 c" {
		t.Errorf("a token: %+v, %v", u, err)
	}
	if _, err := c.ReviewToken(ctx, "c", "bad"); !errs.Is(err, errs.Unauthenticated) {
		t.Errorf("a bad token: %v", err)
	}
	if a, err := c.CSI(ctx, "c", "/csi.v1.Identity/Probe", []byte{1, 2}); err != nil || a.Message != "n1 c /csi.v1.Identity/Probe" || string(a.Body) != "\x01\x02" {
		t.Errorf("a call of the driver of volumes: %+v, %v", a, err)
	}
	if _, err := c.ClusterVolume(ctx, "c", "v"); !errs.Is(err, errs.NotFound) {
		t.Errorf("a volume that is not there: %v", err)
	}
	if l, err := c.PullLogin(ctx, "c"); err != nil || *l != (nodeapi.KubeLogin{Name: "n1", Password: "p", Lasts: time.Minute}) {
		t.Errorf("what pulls images: %+v, %v", l, err)
	}
	if _, err := c.PullLogin(ctx, "d"); !errs.Is(err, errs.Forbidden) {
		t.Errorf("what pulls images for another cluster: %v", err)
	}
	if list, err := c.PodPorts(ctx, "c"); err != nil || len(list) != 1 || list[0] != "n1 c" {
		t.Errorf("pods' ports: %v, %v", list, err)
	}
	if err := c.ReportClusters(ctx, []nodeapi.KubeStatus{{ID: "c", Rev: "1"}}); err != nil || len(w.plane.clusters) != 1 || w.plane.clusters[0].Rev != "1" {
		t.Errorf("%v, %v", w.plane.clusters, err)
	}
	if err := c.ReportPorts(ctx, []nodeapi.PortStatus{{PortID: "p", Up: true}}); err != nil || len(w.plane.ports) != 1 {
		t.Errorf("%v, ports: %v", err, w.plane.ports)
	}
	if err := c.ReportPassword(ctx, "i1", "x"); !errs.Is(err, errs.Conflict) {
		t.Errorf("a second password: %v", err)
	}
	events := c.Instances(ctx)
	if e := <-events; e.ID != "i1" || e.Instance.Gen != 3 {
		t.Errorf("first event: %+v", e)
	}
	if e := <-events; !e.Synced {
		t.Errorf("second event: %+v", e)
	}
	networks := c.Networks(ctx)
	s := <-networks
	for s.Gen != 7 { // the first state may be skipped
		s = <-networks
	}
	if len(s.Networks) != 1 || s.Networks[0].ID != "net of n1" {
		t.Errorf("networks: %+v", s)
	}
	path, format, err := c.Image(ctx, "image")
	if err != nil || format != "qcow2" {
		t.Fatal(format, err)
	}
	if raw, err := os.ReadFile(path); err != nil || !bytes.Equal(raw, imageData("image")) {
		t.Errorf("the image has %d bytes (%v)", len(raw), err)
	}
	if _, _, err := c.Image(ctx, "none"); !errs.Is(err, errs.NotFound) || err.Error() != "there is no image none" {
		t.Errorf("an image that is not there: %v", err)
	}
	if cert, err := c.Renew(ctx, []byte("csr")); err != nil || string(cert) != "n1 csr" {
		t.Errorf("%q, %v", cert, err)
	}
}

func TestAgentIsCalled(t *testing.T) {
	w := newWorld(t)
	c := w.agent("n1")
	ctx, leave := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); c.Serve(ctx, called{&nodestest.Agent{}}) }()
	r := w.remote("n1", true)
	storage := r.(nodes.Storage)
	ref := nodeapi.VolumeRef{ID: "v", Driver: "local", Pool: "local"}
	if err := storage.EnsureVolume(ctx, nodeapi.Volume{VolumeRef: ref, SizeGiB: 1, Source: nodeapi.VolumeOrigin{ImageID: "i"}}); err != nil {
		t.Fatal(err)
	}
	data, err := storage.ReadVolume(ctx, ref, "", "raw")
	if err != nil {
		t.Fatal(err)
	}
	if raw, err := io.ReadAll(data); err != nil || !strings.Contains(string(raw), "image i") {
		t.Errorf("%q, %v", raw, err)
	}
	if _, err := storage.ReadVolume(ctx, nodeapi.VolumeRef{ID: "none"}, "", "raw"); !errs.Is(err, errs.NotFound) {
		t.Errorf("a volume that is not there: %v", err)
	}
	console, err := r.Console(ctx, "i", "serial")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := console.Write([]byte("echo")); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 4)
	if _, err := io.ReadFull(console, got); err != nil || string(got) != "echo" {
		t.Errorf("%q, %v", got, err)
	}
	if err := console.Close(); err != nil {
		t.Error(err)
	}
	halfClosed(t, r.(Remote))
	leave()
	<-ended
	w.remote("n1", false)
	if _, err := storage.Pools(t.Context()); !errs.Is(err, errs.Unavailable) {
		t.Errorf("a call after the end: %v", err)
	}
}

// EnsureContainer and DockerAPI make called a node with containers: the engine answers
// when all that is sent has come.
func (called) EnsureContainer(_ context.Context, c nodeapi.Container) ([]string, error) {
	return []string{"made " + c.ID}, nil
}

func (called) DockerAPI(context.Context) (net.Conn, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		return nil, err
	}
	far, err := l.Accept()
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	go func() {
		all, _ := io.ReadAll(far)
		_, _ = far.Write([]byte("all: " + string(all)))
		_ = far.Close()
	}()
	return c, nil
}

// halfClosed ends one direction of a connection, and still reads the other.
func halfClosed(t *testing.T, r Remote) {
	t.Helper()
	if w, err := r.EnsureContainer(t.Context(), nodeapi.Container{ID: "c"}); err != nil || len(w) != 1 || w[0] != "made c" {
		t.Errorf("%q, %v", w, err)
	}
	for _, text := range []string{"", "input"} {
		c, err := r.DockerAPI(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
		if err := c.(halfCloser).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(c); err != nil || string(got) != "all: "+text {
			t.Errorf("%q, %v", got, err)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
}

// A control plane that restarts is found again, and what it has forgotten
// meanwhile is wanted no more.
func TestReconnect(t *testing.T) {
	w := newWorld(t)
	stop := w.listen("127.0.0.1:0")
	addr := w.addr
	w.plane.wanted = []nodeapi.Instance{{ID: "stays", Node: "n1"}, {ID: "goes", Node: "n1"}}
	c := w.agent("n1")
	events := c.Instances(t.Context())
	for range 3 {
		<-events
	}
	stop()
	w.plane.wanted = w.plane.wanted[:1]
	w.listen(addr)
	var told []string
	for e := range events {
		if e.Synced {
			break
		}
		told = append(told, fmt.Sprint(e.ID, e.Instance != nil))
	}
	if want := []string{"staystrue", "goesfalse"}; !slices.Equal(told, want) {
		t.Errorf("told %v, want %v", told, want)
	}
}

// An agent that dialled anew is not away when its old connection ends.
func TestLaterConnectionStays(t *testing.T) {
	w := newWorld(t)
	old, leave := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); w.agent("n1").Serve(old, called{&nodestest.Agent{}}) }()
	first := w.remote("n1", true)
	go w.agent("n1").Serve(t.Context(), called{&nodestest.Agent{}})
	limit, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := wait.Until(limit, "the later connection", time.Millisecond, func(context.Context) (bool, error) { return w.remote("n1", true) != first, nil }); err != nil {
		t.Fatal(err)
	}
	leave()
	<-ended
	if err := wait.Until(limit, "the end of the first connection", time.Millisecond, func(ctx context.Context) (bool, error) {
		_, err := first.(nodes.Storage).Pools(ctx)
		return errs.Is(err, errs.Unavailable), nil
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.remote("n1", true).(nodes.Storage).Pools(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestWhoIsLetIn(t *testing.T) {
	w := newWorld(t)
	stranger := w.agent("n1")
	stranger.conf = newAuthority(t).conf(t, "n1", NodeUnit)
	stranger.conf.RootCAs = w.ca.conf(t, "x", "x").RootCAs
	other, err := Dial(w.addr, stranger.conf, t.TempDir(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if _, err := other.Renew(t.Context(), nil); !errs.Is(err, errs.Unavailable) {
		t.Errorf("a certificate of another authority: %v", err)
	}
	noNode, err := Dial(w.addr, w.ca.conf(t, "n1", "something else"), t.TempDir(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer noNode.Close()
	if _, err := noNode.Renew(t.Context(), nil); !errs.Is(err, errs.Unavailable) {
		t.Errorf("a certificate that is no node's: %v", err)
	}
	w.mu.Lock()
	w.gone["n2"] = true
	w.mu.Unlock()
	if _, err := w.agent("n2").Renew(t.Context(), nil); !errs.Is(err, errs.Forbidden) {
		t.Errorf("a node that was removed: %v", err)
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: stranger.conf.RootCAs}}}
	resp, err := client.Get("https://" + w.addr + "/join")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if raw, err := io.ReadAll(resp.Body); err != nil || string(raw) != "joining" {
		t.Errorf("%q, %v", raw, err)
	}
}
