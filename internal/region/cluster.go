package region

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/nodelink"
	"github.com/strata-cloud/strata/internal/nodes"
)

// listenCluster opens the port where machines join and agents call.
func (r *Region) listenCluster(ctx context.Context, group *sync.WaitGroup) error {
	if r.cfg.Cluster == "" {
		return nil
	}
	conf, err := r.clusterTLS()
	if err != nil {
		return fmt.Errorf("the cluster's certificate: %w", err)
	}
	l, err := net.Listen("tcp", r.cfg.Cluster)
	if err != nil {
		return fmt.Errorf("%w; choose another address with --cluster-listen", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /join", r.joinRoute)
	s := &nodelink.Server{TLS: conf, Log: r.cfg.Log, Join: mux, Admit: r.Nodes.Admit, Connected: r.connected,
		Control: func(node string) nodelink.Upstream { return upstream{control{r, node}} }}
	group.Go(func() {
		if err := s.Serve(ctx, l); err != nil && ctx.Err() == nil {
			r.cfg.Log.Error("the cluster's port", "err", err)
		}
	})
	return nil
}

func (r *Region) clusterTLS() (*tls.Config, error) {
	ca, key, err := ensureCA(&r.cfg)
	if err != nil {
		return nil, err
	}
	leaf, err := issue(ca, key, []string{r.cfg.addr(), r.cfg.Node})
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	pool.AddCert(ca)
	return &tls.Config{Certificates: []tls.Certificate{leaf}, ClientCAs: pool, MinVersion: tls.VersionTLS13}, nil
}

// connected keeps the registry true to which agents can be called.
func (r *Region) connected(node string, c nodes.Conn) {
	if c == nil {
		r.cfg.Log.Warn("a node is away", "node", node)
	} else {
		r.cfg.Log.Info("a node is here", "node", node)
	}
	r.Nodes.Connect(node, c)
}

// joinRequest is what a machine says that wants to be a node.
type joinRequest struct {
	Token string `json:"token"` // ID.SECRET
	Name  string `json:"name"`
	CSR   []byte `json:"csr"` // DER
}

// joinAnswer is what a machine needs to be one.
type joinAnswer struct {
	Certificate []byte `json:"certificate"` // DER
	PublicCIDR  string `json:"public_cidr"`
}

// maxJoin bounds the request of a machine that nobody knows, in bytes.
const maxJoin = 64 << 10

func (r *Region) joinRoute(w http.ResponseWriter, q *http.Request) {
	var in joinRequest
	err := json.NewDecoder(http.MaxBytesReader(w, q.Body, maxJoin)).Decode(&in)
	if err != nil {
		err = errs.Invalidf("that is no request to join: %w", err)
	}
	var out *joinAnswer
	if err == nil {
		out, err = r.join(q.Context(), &in, q.RemoteAddr)
	}
	if err != nil {
		r.cfg.Log.Warn("a machine could not join", "addr", q.RemoteAddr, "node", in.Name, "err", err)
	}
	answer(w, out, err)
}

func (r *Region) join(ctx context.Context, in *joinRequest, from string) (*joinAnswer, error) {
	if err := r.Nodes.CheckToken(in.Token); err != nil {
		return nil, err
	}
	if in.Name == r.cfg.Node {
		return nil, errs.Conflictf("there is a node %s already: choose another with --name", in.Name)
	}
	cert, err := r.signNode(in.Name, in.CSR)
	if err != nil {
		return nil, err
	}
	host, _, _ := net.SplitHostPort(from)
	if err := r.Nodes.Join(ctx, nodes.Member{ID: in.Name, Addr: host, Joined: time.Now().UTC()}); err != nil {
		return nil, err
	}
	r.cfg.Log.Info("a machine joined", "node", in.Name, "addr", host)
	return &joinAnswer{Certificate: cert, PublicCIDR: r.cfg.PublicCIDR}, nil
}

// TokenRequest asks for a token over the admin socket.
type TokenRequest struct {
	Life time.Duration `json:"life"` // ns
}

// Token is what strata join needs on another machine.
type Token struct {
	Token   string    `json:"token"`
	Address string    `json:"address"` // https://HOST:PORT
	Expires time.Time `json:"expires"`
}

func (r *Region) newToken(ctx context.Context, life time.Duration) (Token, error) {
	if r.cfg.Cluster == "" {
		return Token{}, errs.Conflictf("this cloud listens for no other machines: start it with --cluster-listen ADDRESS:%s", ClusterPort)
	}
	ca, _, err := ensureCA(&r.cfg)
	if err != nil {
		return Token{}, err
	}
	secret, err := r.Nodes.NewToken(ctx, life)
	if err != nil {
		return Token{}, err
	}
	return Token{Token: caHash(ca.Raw) + "." + secret, Address: "https://" + r.cfg.Cluster, Expires: time.Now().Add(life).UTC()}, nil
}

// removeNode takes a machine out of the pool.
func (r *Region) removeNode(ctx context.Context, node string) error {
	err := r.Nodes.Leave(ctx, node)
	if errs.Is(err, errs.NotFound) {
		err = errs.NotFoundf("no node that joined is called %s", node)
	}
	if err != nil {
		return err
	}
	r.Nodes.Connect(node, nil)
	return r.Placement.RemoveProvider(ctx, node)
}
