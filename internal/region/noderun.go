package region

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/nodelink"
	"github.com/strata-cloud/strata/internal/store"
	"github.com/strata-cloud/strata/internal/wait"
)

// Node is a machine that joined: an agent without a control plane.
type Node struct {
	cfg    Config
	member *Member
	begun  time.Time
	host   *host
	client *nodelink.Client
	cert   certificate
}

// RunNode runs what a machine that joined is, calls ready when it works, and
// goes on until ctx ends. Servers keep running when it returns.
func RunNode(ctx context.Context, cfg Config, ready func(*Node)) (err error) {
	n := &Node{cfg: cfg, begun: time.Now()}
	if n.member, err = ReadMember(&cfg); err != nil {
		return err
	}
	n.cfg.Node, n.cfg.PublicCIDR, n.cfg.joined = n.member.Node, n.member.PublicCIDR, n.member.Addr
	if v := n.member.Council; v != nil {
		n.cfg.Listen, n.cfg.Cluster, n.cfg.ReclaimAfter = v.Listen, v.Cluster, v.ReclaimAfter
	}
	if err := n.cfg.Validate(); err != nil {
		return err
	}
	if v := n.member.Council; v != nil {
		return runCouncil(ctx, n.cfg, v.Peers, func(*Region) { ready(n) })
	}
	if len(n.cfg.RegistryMirrors) > 0 {
		return errs.Invalidf("--registry-mirror works on control members; this machine is only a node")
	}
	lock, err := store.LockDir(n.cfg.path("store"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	conf, err := n.tls()
	if err != nil {
		return err
	}
	if n.client, err = nodelink.Dial(n.member.Control, conf, n.cfg.path("images"), n.cfg.Log); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, n.client.Close()) }()
	n.client.Know(n.member.Members)
	ctx, stop := context.WithCancel(ctx)
	var group sync.WaitGroup
	defer group.Wait()
	defer stop()
	if n.host, err = newHost(ctx, &n.cfg, n.client); err != nil {
		return fmt.Errorf("this machine as a node: %w", err)
	}
	for _, run := range []func(context.Context){n.run, n.renew, n.followMembers, func(ctx context.Context) { serveAdmin(ctx, &n.cfg, n.adminRoutes()) }} {
		group.Go(func() { run(ctx) })
	}
	ready(n)
	<-ctx.Done()
	return nil
}

// run is the agent's work until ctx ends.
func (n *Node) run(ctx context.Context) {
	var group sync.WaitGroup
	group.Go(func() { n.introduce(ctx) })
	group.Go(func() { n.client.Serve(ctx, conn{n.host.agent, n.host.storage, n.host.containers}) })
	n.host.run(ctx)
	group.Wait()
}

// membersEvery is how often an agent asks where the control members are.
const membersEvery = 10 * time.Second

// followMembers keeps the list of the control members, so that the machine finds them
// when those that it joined by are gone.
func (n *Node) followMembers(ctx context.Context) {
	m := *n.member
	for ctx.Err() == nil {
		limit, cancel := context.WithTimeout(ctx, membersEvery)
		list, err := n.client.Members(limit)
		cancel()
		if err == nil && len(list) > 0 && !slices.Equal(list, m.Members) {
			n.client.Know(list)
			m.Members = list
			if err := m.write(&n.cfg); err != nil {
				n.cfg.Log.Warn("the list of control members is not kept", "err", err)
			}
		}
		wait.Pause(ctx, membersEvery)
	}
}

// Name is the node's name, and Control where its control plane is.
func (n *Node) Name() string    { return n.member.Node }
func (n *Node) Control() string { return n.member.Control }

// introduceAgain is how long the agent waits before it tells again what this machine is.
const introduceAgain = 500 * time.Millisecond

// introduce tells the control plane what this machine is, until it knows.
func (n *Node) introduce(ctx context.Context) {
	for {
		err := n.client.ReportNode(ctx, n.host.info)
		if err == nil || ctx.Err() != nil {
			return
		}
		n.cfg.Log.Warn("the control plane does not know this machine yet", "control", n.member.Control, "err", err)
		select {
		case <-time.After(introduceAgain):
		case <-ctx.Done():
		}
	}
}

// certificate is the node's own, which is replaced while connections use it.
type certificate struct {
	mu   sync.Mutex
	pair *tls.Certificate
}

func (c *certificate) get() *tls.Certificate {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.pair
}

func (c *certificate) set(pair *tls.Certificate) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pair = pair
}

// tls presents the node's certificate and trusts the cluster's authority alone.
func (n *Node) tls() (*tls.Config, error) {
	if err := n.loadCert(); err != nil {
		return nil, err
	}
	raw, err := os.ReadFile(n.cfg.path(caCertFile))
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(raw) {
		return nil, fmt.Errorf("%s holds no certificate", n.cfg.path(caCertFile))
	}
	return &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS13,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return n.cert.get(), nil }}, nil
}

// MemberTLS presents the certificate of a machine that joined, and trusts the
// cluster's authority alone.
func MemberTLS(cfg *Config) (*tls.Config, error) { return (&Node{cfg: *cfg}).tls() }

func (n *Node) loadCert() error {
	path := n.cfg.path(nodeCertFile)
	pair, err := tls.LoadX509KeyPair(path, path)
	if err != nil {
		return fmt.Errorf("this node's certificate: %w", err)
	}
	n.cert.set(&pair)
	return nil
}

// renewCheck is how often the certificate's age is looked at.
const renewCheck = time.Hour

// renew replaces the certificate when two thirds of its life are over.
func (n *Node) renew(ctx context.Context) {
	tick := time.NewTicker(renewCheck)
	defer tick.Stop()
	for {
		leaf := n.cert.get().Leaf
		if left, life := time.Until(leaf.NotAfter), leaf.NotAfter.Sub(leaf.NotBefore); left < life/3 {
			if err := n.renewNow(ctx); err != nil && ctx.Err() == nil {
				n.cfg.Log.Warn("this node's certificate is not renewed", "expires", leaf.NotAfter, "err", err)
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func (n *Node) renewNow(ctx context.Context) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: n.member.Node}}, key)
	if err != nil {
		return err
	}
	cert, err := n.client.Renew(ctx, csr)
	if err != nil {
		return err
	}
	if err := writeNodeCert(&n.cfg, key, cert); err != nil {
		return err
	}
	return n.loadCert()
}

func (n *Node) adminRoutes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) {
		pss, err := processPSS()
		answer(w, Status{Version: n.cfg.Version, PID: os.Getpid(), Node: n.member.Node, URL: "https://" + n.member.Control, Begun: n.begun, PSS: pss,
			Accel: n.host.info.Accelerator, Why: n.host.why}, err)
	})
	mux.HandleFunc("GET /trace", traceRoute(n.host))
	return mux
}

func traceRoute(h *host) http.HandlerFunc {
	return func(w http.ResponseWriter, q *http.Request) {
		answer(w, h.plane.Trace(q.Context(), q.FormValue("port")), nil)
	}
}

// decode reads a request of the operator's.
func decode(q *http.Request, to any) error {
	return json.NewDecoder(q.Body).Decode(to)
}
