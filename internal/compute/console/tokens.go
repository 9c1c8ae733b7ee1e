package console

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"log/slog"
	"net"
	"net/url"
	"sync"
	"time"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/store"
)

// TTL is for how long a token opens a console: upstream's [consoleauth]token_ttl.
const TTL = 10 * time.Minute

// maxTokens bounds the live tokens of one server.
const maxTokens = 100

// Token is one permission; ID is the hash of what the client has.
type Token struct {
	ID      string    `json:"id"`
	Server  string    `json:"server"`
	Host    string    `json:"host"`
	Kind    string    `json:"kind"` // vnc or serial
	Expires time.Time `json:"expires"`
}

// Options configure the consoles.
type Options struct {
	DB *store.DB
	// Lives tells whether the server still is on the host.
	Lives func(server, host string) bool
	// Open reaches a console of a server on a host.
	Open func(ctx context.Context, server, host, kind string) (net.Conn, error)
	Log  *slog.Logger
	Now  func() time.Time // nil: time.Now
}

// Consoles hands out tokens and serves them.
type Consoles struct {
	Options
	tokens *store.Collection[Token]

	mu       sync.Mutex
	closed   bool
	sessions map[*session]bool
}

// New registers the collection: call it before db.Start.
func New(o Options) *Consoles {
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Consoles{Options: o, sessions: map[*session]bool{}, tokens: store.Register(o.DB, store.Schema[Token]{Service: "compute", Kind: "console", Version: 1,
		ID:    func(t *Token) string { return t.ID },
		Index: map[string]func(*Token) []string{"server": func(t *Token) []string { return []string{t.Server} }}})}
}

func hash(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}

// Issue gives the address of a console at the base by which the client came, scheme://host:port: a page with a viewer for vnc, as
// upstream's base URL of noVNC is, and a WebSocket for serial.
func (c *Consoles) Issue(ctx context.Context, at, server, host, kind string) (string, error) {
	secret := rand.Text()
	t := &Token{ID: hash(secret), Server: server, Host: host, Kind: kind, Expires: c.Now().Add(TTL).UTC()}
	err := c.DB.Txn(ctx, func(tx *store.Tx) error {
		live := 0
		for _, old := range c.tokens.TxBy(tx, "server", server) {
			if old.Expires.After(c.Now()) {
				live++
			} else if err := c.tokens.TxDelete(tx, old.ID); err != nil {
				return err
			}
		}
		if live >= maxTokens {
			return errs.Conflictf("Instance %s has %d console tokens already: let some expire.", server, live)
		}
		return c.tokens.TxPut(tx, t)
	})
	if err != nil {
		return "", err
	}
	base, err := url.Parse(at)
	if err != nil {
		return "", err
	}
	if kind == "serial" {
		base.Scheme = map[string]string{"http": "ws", "https": "wss"}[base.Scheme]
		base.Path, base.RawQuery = "/console/serial", "token="+secret
		return base.String(), nil
	}
	base.Path, base.RawQuery = "/console/vnc.html", "path="+url.QueryEscape("console/websockify?token="+secret)
	return base.String(), nil
}

// Find gives a token that still opens its console.
func (c *Consoles) Find(secret string) (*Token, error) {
	t, err := c.tokens.Get(hash(secret))
	if err != nil || !t.Expires.After(c.Now()) || !c.Lives(t.Server, t.Host) {
		return nil, errs.NotFoundf("Token not found")
	}
	return t, nil
}

// Sweep removes the tokens that have expired or whose server is gone.
func (c *Consoles) Sweep(ctx context.Context) error {
	for _, t := range c.tokens.All() {
		if t.Expires.After(c.Now()) && c.Lives(t.Server, t.Host) {
			continue
		}
		err := c.DB.Txn(ctx, func(tx *store.Tx) error { return c.tokens.TxDelete(tx, t.ID) })
		if err != nil && !errs.Is(err, errs.NotFound) {
			return err
		}
	}
	return nil
}
