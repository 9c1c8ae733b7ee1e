package registry

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/registry/upstream"
	"github.com/strata-cloud/strata/internal/store"
)

// mirrors are the registries that images are brought in from.
type mirrors struct {
	Options
	records *store.Collection[Mirror]
	life    context.Context // of the service: what is brought in outlives a request
	bring   singleflight.Group

	loading sync.WaitGroup
	mu      sync.Mutex
	open    map[string]*upstream.Registry // by address and name
	away    map[string]time.Time          // until when, by name, tags that are here are not asked for
	loads   map[string]*download
}

func newMirrors(o Options) *mirrors {
	return &mirrors{Options: o, records: registerMirrors(o.DB), open: map[string]*upstream.Registry{}, away: map[string]time.Time{}, loads: map[string]*download{}}
}

// mirrorHost is what a registry is called in the names of images.
var mirrorHost = regexp.MustCompile(`^[a-z0-9]+([.-][a-z0-9]+)*(:[0-9]{1,5})?$`)

// CheckMirror takes a mirror as the operator gives it; without an address it is taken back.
func CheckMirror(host, address string) error {
	if !mirrorHost.MatchString(host) || !strings.ContainsAny(host, ".:") && host != "localhost" {
		return errs.Invalidf("%q is not the name of a registry as images' names have it, such as docker.io", host)
	}
	if address == "" {
		return nil
	}
	_, err := upstream.Check(address)
	return err
}

// start records what the operator has given.
func (m *mirrors) start(ctx context.Context) error {
	m.life = ctx
	return m.DB.Txn(ctx, func(tx *store.Tx) error {
		for host, address := range m.Mirrors {
			if err := CheckMirror(host, address); err != nil {
				return err
			}
			was, err := m.records.TxGet(tx, host)
			switch {
			case err == nil && address == "":
				err = m.records.TxDelete(tx, host)
			case err == nil && was.URL != address, errs.Is(err, errs.NotFound) && address != "":
				err = m.records.TxPut(tx, &Mirror{Host: host, URL: address, Since: now()})
			case errs.Is(err, errs.NotFound):
				err = nil
			}
			if err != nil {
				return fmt.Errorf("mirror of %s: %w", host, err)
			}
		}
		return nil
	})
}

// Mirrored are the registries that have a mirror.
func (s *Service) Mirrored() []string {
	out := []string{}
	for _, m := range s.mirror.records.All() {
		out = append(out, m.Host)
	}
	slices.Sort(out)
	return out
}

// mirrors tells whether there is a mirror of a registry.
func (s *Service) mirrors(host string) bool {
	_, err := s.mirror.records.Get(host)
	return err == nil
}

// upstream is a mirror's registry.
func (m *mirrors) upstream(r *Mirror) (*upstream.Registry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	key := r.Host + " " + r.URL
	if u := m.open[key]; u != nil {
		return u, nil
	}
	u, err := upstream.New(r.URL, func() (user, password string, err error) { return m.login(r.Host) })
	if err == nil {
		m.open[key] = u
	}
	return u, err
}

// loginsFile has credentials of upstream registries, as docker's config.json has them.
const loginsFile = "upstreams.json"

// hubKey is how docker login calls docker.io.
const hubKey = "https://index.docker.io/v1/"

// login reads the credentials for a registry each time, so that they can be changed.
func (m *mirrors) login(host string) (user, password string, err error) {
	raw, err := os.ReadFile(filepath.Join(m.Dir, loginsFile))
	if errors.Is(err, fs.ErrNotExist) {
		return "", "", nil
	} else if err != nil {
		return "", "", err
	}
	type entry struct{ Auth, Username, Password string }
	var file struct{ Auths map[string]entry }
	if json.Unmarshal(raw, &file) != nil { // its error would say what is in the file
		return "", "", fmt.Errorf("%s is not a file of docker's credentials", loginsFile)
	}
	e, ok := file.Auths[host]
	if !ok && host == hubDomain {
		e = file.Auths[hubKey]
	}
	if e.Auth == "" {
		return e.Username, e.Password, nil
	}
	both, err := base64.StdEncoding.DecodeString(e.Auth)
	user, password, ok = strings.Cut(string(both), ":")
	if err != nil || !ok {
		return "", "", fmt.Errorf("%s: the credentials for %s cannot be read", loginsFile, host)
	}
	return user, password, nil
}

// awayFor is how long the tags that are here are given out unasked after a registry was
// not reached.
const awayFor = 30 * time.Second

func (m *mirrors) isAway(host string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return time.Now().Before(m.away[host])
}

// reached notes whether a registry answers, and tells whether that is news.
func (m *mirrors) reached(host string, ok bool) (news bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, was := m.away[host]
	if ok {
		delete(m.away, host)
	} else {
		m.away[host] = time.Now().Add(awayFor)
	}
	return was == ok
}
