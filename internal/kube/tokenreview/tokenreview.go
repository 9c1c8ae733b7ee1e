// Package tokenreview tells the API servers of clusters on this machine who the holder of a
// bearer token is. It is the webhook that kube-apiserver is told of
// (--authentication-token-webhook-config-file), and passes the question on: what a token is
// worth in a cluster is the cluster service's to say. It speaks TLS on loopback and answers
// nobody but the cluster's own API server, so that it is of no use for trying tokens.
//
// Source: Kubernetes, "Authenticating" (webhook token authentication), authentication.k8s.io/v1.
package tokenreview

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"reflect"
	"sync"
	"time"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/nodeapi"
)

// Reviewer judges tokens.
type Reviewer interface {
	// ReviewToken gives the user that a token stands for in a cluster. Unauthenticated: none.
	ReviewToken(ctx context.Context, cluster, token string) (*nodeapi.KubeUser, error)
}

// Endpoint is where one cluster's API server asks.
type Endpoint struct {
	Addr      string // on loopback
	Cert, Key []byte // of the server, in PEM
	CA        []byte // whom the client's certificate is from
	Client    string // its common name
}

// Path is the place of a cluster in a URL.
func Path(cluster string) string { return "/" + cluster }

// Server has the endpoints of this machine.
type Server struct {
	reviewer Reviewer
	log      *slog.Logger

	mu  sync.Mutex
	all map[string]*running
}

type running struct {
	as   Endpoint
	http *http.Server
	done chan struct{}
}

// New makes one without endpoints.
func New(r Reviewer, log *slog.Logger) *Server {
	return &Server{reviewer: r, log: log, all: map[string]*running{}}
}

// How long parts of a question may take.
const (
	headerLimit = 10 * time.Second
	reviewLimit = 20 * time.Second
	maxBody     = 256 << 10 // bytes
)

// Ensure has a cluster's endpoint answer; it may be repeated.
func (s *Server) Ensure(cluster string, e Endpoint) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.all[cluster]; r != nil {
		if reflect.DeepEqual(r.as, e) {
			return nil
		}
		s.end(cluster)
	}
	conf, err := e.tls()
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", e.Addr)
	if err != nil {
		return fmt.Errorf("where tokens of cluster %s are judged: %w", cluster, err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+Path(cluster), func(w http.ResponseWriter, r *http.Request) { s.answer(w, r, cluster) })
	run := &running{as: e, done: make(chan struct{}), http: &http.Server{Handler: mux, TLSConfig: conf, ReadHeaderTimeout: headerLimit, ReadTimeout: headerLimit, WriteTimeout: 2 * reviewLimit,
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug)}}
	go func() {
		defer close(run.done)
		if err := run.http.ServeTLS(l, "", ""); !errors.Is(err, http.ErrServerClosed) {
			s.log.Error("tokens of a cluster are not judged any more", "cluster", cluster, "err", err)
		}
	}()
	s.all[cluster] = run
	return nil
}

// tls trusts one client alone.
func (e *Endpoint) tls() (*tls.Config, error) {
	pair, err := tls.X509KeyPair(e.Cert, e.Key)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(e.CA)
	name := e.Client
	return &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool,
		VerifyConnection: func(c tls.ConnectionState) error {
			if c.PeerCertificates[0].Subject.CommonName != name {
				return fmt.Errorf("%q is not who may ask", c.PeerCertificates[0].Subject.CommonName)
			}
			return nil
		}}, nil
}

// Remove ends a cluster's endpoint. Absent is fine.
func (s *Server) Remove(cluster string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.end(cluster)
}

// Close ends all.
func (s *Server) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for cluster := range s.all {
		s.end(cluster)
	}
}

func (s *Server) end(cluster string) {
	if r := s.all[cluster]; r != nil {
		_ = r.http.Close() // it is asked again
		<-r.done
		delete(s.all, cluster)
	}
}

// review is a TokenReview of authentication.k8s.io/v1.
type review struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Spec       *spec  `json:"spec,omitempty"`
	Status     status `json:"status"`
}

type spec struct {
	Token string `json:"token"`
}

type status struct {
	Authenticated bool  `json:"authenticated"`
	User          *user `json:"user,omitempty"`
}

type user struct {
	Username string              `json:"username"`
	UID      string              `json:"uid"`
	Groups   []string            `json:"groups"`
	Extra    map[string][]string `json:"extra"`
}

const apiVersion = "authentication.k8s.io/v1"

// answer judges one token. That nobody can say what it is worth is an error, which the API
// server does not keep.
func (s *Server) answer(w http.ResponseWriter, r *http.Request, cluster string) {
	var in review
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody)).Decode(&in); err != nil || in.APIVersion != apiVersion || in.Kind != "TokenReview" || in.Spec == nil {
		http.Error(w, "this takes a TokenReview of "+apiVersion, http.StatusBadRequest)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), reviewLimit)
	defer cancel()
	out := review{APIVersion: apiVersion, Kind: "TokenReview"}
	u, err := s.reviewer.ReviewToken(ctx, cluster, in.Spec.Token)
	switch {
	case errs.Is(err, errs.Unauthenticated):
	case err != nil:
		s.log.Warn("a token of a cluster's user is not judged", "cluster", cluster, "err", err)
		http.Error(w, "nobody can say what the token is worth: "+err.Error(), http.StatusServiceUnavailable)
		return
	default:
		out.Status = status{Authenticated: true, User: &user{Username: u.Name, UID: u.UID, Groups: u.Groups, Extra: u.Extra}}
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(out) // who asked may have gone
}
