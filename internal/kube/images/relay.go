package images

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httputil"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	// secretHeader shows that a request is containerd's.
	secretHeader = "X-Strata-Worker"
	// namespaceKey is the parameter in which containerd says whose images it wants, where it
	// asks another than the registry itself.
	namespaceKey = "ns"
	// tokenPath is where the region's registry issues tokens.
	tokenPath = "/v2/token"
)

// headerLimit bounds how long a request's header may take to come.
const headerLimit = 10 * time.Second

// relay passes containerd's requests on to the region's registry.
type relay struct {
	url    string
	secret string
	cert   []byte // in PEM
	proxy  *httputil.ReverseProxy
	http   *http.Server
	link   *http.Transport
	done   chan struct{}

	mu      sync.Mutex
	names   []string // of the region's own registry
	mirrors []string // registries that it mirrors
}

func newRelay(control Control, log *slog.Logger) (*relay, error) {
	pair, cert, err := selfSigned()
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	r := &relay{url: "https://" + l.Addr().String(), secret: rand.Text(), cert: cert, done: make(chan struct{})}
	r.link = &http.Transport{MaxIdleConnsPerHost: 4, IdleConnTimeout: 10 * time.Second, DisableCompression: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return control.DialMirror(context.WithoutCancel(ctx)) // which ends with the dialling
	}}
	quiet := slog.NewLogLogger(log.Handler(), slog.LevelDebug)
	r.proxy = &httputil.ReverseProxy{Rewrite: r.rewrite, Transport: r.link, FlushInterval: -1, ErrorLog: quiet, ErrorHandler: func(w http.ResponseWriter, q *http.Request, err error) {
		if q.Context().Err() == nil {
			log.Warn("an image of the region's registry is not pulled", "path", q.URL.Path, "err", err)
		}
		refuse(w, http.StatusServiceUnavailable, "UNAVAILABLE", "The control plane cannot be reached.")
	}}
	r.http = &http.Server{Handler: r, ReadHeaderTimeout: headerLimit, IdleTimeout: time.Minute, MaxHeaderBytes: 64 << 10, ErrorLog: quiet,
		TLSConfig: &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{*pair}}}
	go func() {
		defer close(r.done)
		_ = r.http.ServeTLS(l, "", "") // until close
	}()
	return r, nil
}

// certLife is longer than any agent runs.
const certLife = 10 * 365 * 24 * time.Hour

// selfSigned makes a certificate for loopback, whose key is nowhere else.
func selfSigned() (*tls.Certificate, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	t := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "Strata images"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(certLife),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	der, err := x509.CreateCertificate(rand.Reader, t, t, &key.PublicKey, key)
	if err != nil {
		return nil, nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), nil
}

func (r *relay) close() {
	_ = r.http.Close() // it is asked again
	<-r.done
	r.link.CloseIdleConnections()
}

// serves says which registries' images are asked for here.
func (r *relay) serves(names, mirrors []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.names, r.mirrors = names, mirrors
}

// own tells whether a request is for the region's own registry; ok, whether it is for one that
// is served. Tokens are the region's own alone: mirrors need none.
func (r *relay) own(q *http.Request) (own, ok bool) {
	if q.URL.Path == tokenPath {
		return true, true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	ns := q.URL.Query().Get(namespaceKey)
	own = slices.Contains(r.names, ns)
	return own, own || slices.Contains(r.mirrors, ns)
}

// ServeHTTP implements http.Handler. Nothing is written by way of it.
func (r *relay) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	_, ok := r.own(q)
	reads := q.Method == http.MethodGet || q.Method == http.MethodHead || q.Method == http.MethodPost && q.URL.Path == tokenPath
	switch {
	case subtle.ConstantTimeCompare([]byte(q.Header.Get(secretHeader)), []byte(r.secret)) != 1:
		refuse(w, http.StatusForbidden, "DENIED", "This is for the machine's own containerd.")
	case !reads:
		refuse(w, http.StatusMethodNotAllowed, "UNSUPPORTED", "Workers only pull.")
	case !ok || !strings.HasPrefix(q.URL.Path, "/v2/"):
		refuse(w, http.StatusNotFound, "NAME_UNKNOWN", "The region does not serve this registry.")
	default:
		r.proxy.ServeHTTP(w, q)
	}
}

// rewrite has the region's own registry see a request as any client's, and a mirror one
// without credentials.
func (r *relay) rewrite(p *httputil.ProxyRequest) {
	p.Out.URL.Scheme, p.Out.URL.Host, p.Out.Host = "http", "registry", p.In.Host
	p.Out.Header.Del(secretHeader)
	query := p.In.URL.Query()
	if own, _ := r.own(p.In); own {
		query.Del(namespaceKey)
	} else {
		p.Out.Header.Del("Authorization")
	}
	p.Out.URL.RawQuery = query.Encode()
}

// refuse answers as a registry does.
func refuse(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"errors": []any{map[string]string{"code": code, "message": message}}}) // who asked may have gone
}
