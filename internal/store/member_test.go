package store_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/store"
	"github.com/strata-cloud/strata/internal/store/storetest"
	"github.com/strata-cloud/strata/internal/wait"
)

// memberName is the common name of members' certificates in tests.
const memberName = "Member"

// cluster is several members in one process.
type cluster struct {
	testing.TB
	dir     string
	ca      *x509.Certificate
	key     *ecdsa.PrivateKey
	members []*store.Member
	opts    []store.EtcdOptions
	peers   []*store.PeerOptions
}

func newCluster(t testing.TB) *cluster {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca"}, NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, tpl, tpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{TB: t, dir: t.TempDir(), key: key}
	if c.ca, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	c.file("ca.crt", &pem.Block{Type: "CERTIFICATE", Bytes: der})
	c.cert("member.crt", memberName)
	t.Cleanup(func() {
		for _, m := range c.members {
			if m == nil {
				continue
			}
			if err := m.Close(); err != nil {
				t.Error(err)
			}
		}
	})
	return c
}

func (c *cluster) file(name string, blocks ...*pem.Block) string {
	var out []byte
	for _, b := range blocks {
		out = append(out, pem.EncodeToMemory(b)...)
	}
	path := filepath.Join(c.dir, name)
	if err := os.WriteFile(path, out, 0o600); err != nil {
		c.Fatal(err)
	}
	return path
}

// cert makes a certificate of the members' authority.
func (c *cluster) cert(file, name string) string {
	tpl := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}}
	der, err := x509.CreateCertificate(rand.Reader, tpl, c.ca, &c.key.PublicKey, c.key)
	if err != nil {
		c.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(c.key)
	if err != nil {
		c.Fatal(err)
	}
	return c.file(file, &pem.Block{Type: "CERTIFICATE", Bytes: der}, &pem.Block{Type: "PRIVATE KEY", Bytes: raw})
}

func freeAddr(t testing.TB) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return netip.MustParseAddrPort(l.Addr().String()).String()
}

// start opens the next member, or the one before again.
func (c *cluster) start(at int, join []store.Peer) *store.Member {
	c.Helper()
	if at == len(c.members) {
		c.members = append(c.members, nil)
		c.opts = append(c.opts, store.EtcdOptions{Dir: filepath.Join(c.dir, fmt.Sprint("m", at)), Name: fmt.Sprint("m", at), Log: storetest.Quiet()})
		if len(c.peers) == at {
			c.peers = append(c.peers, c.peer())
		}
	}
	p := *c.peers[at]
	p.Join = join
	m, err := store.OpenMember(c.Context(), c.opts[at], &p)
	if err != nil {
		c.Fatal(err)
	}
	c.members[at] = m
	c.until("member "+fmt.Sprint(at)+" to take part", func(context.Context) (bool, error) {
		select {
		case <-m.Joined():
			return true, nil
		default:
			return false, nil
		}
	})
	return m
}

func (c *cluster) peer() *store.PeerOptions {
	addr := freeAddr(c)
	return &store.PeerOptions{Listen: addr, Cert: filepath.Join(c.dir, "member.crt"), CA: filepath.Join(c.dir, "ca.crt"), CommonName: memberName, URLs: []string{"https://" + addr}}
}

func (c *cluster) until(what string, cond func(context.Context) (bool, error)) {
	c.Helper()
	if err := wait.Until(storetest.Context(c), what, 5*time.Millisecond, cond); err != nil {
		c.Fatal(err)
	}
}

// join adds one more member and promotes it.
func (c *cluster) join() *store.Member {
	c.Helper()
	ctx, lead := storetest.Context(c), c.leader()
	p := c.peer()
	c.peers = append(c.peers, p)
	added, others, err := lead.Add(ctx, "https://"+p.Listen)
	if err != nil {
		c.Fatal(err)
	}
	m := c.start(len(c.members), others)
	if self, _ := m.Self(); !self.Learner || self.ID != added.ID {
		c.Errorf("the new member is %+v, want a learner with id %d", self, added.ID)
	}
	c.until("the new member to be promoted", func(context.Context) (bool, error) {
		err := lead.Promote(ctx, added.ID)
		if errs.Is(err, errs.Conflict) {
			return false, nil
		}
		return err == nil, err
	})
	c.until("the new member to know that", func(context.Context) (bool, error) {
		self, _ := m.Self()
		return !self.Learner, nil
	})
	return m
}

func (c *cluster) leader() (lead *store.Member) {
	c.Helper()
	c.until("a leader", func(context.Context) (bool, error) {
		for _, m := range c.members {
			if m != nil && m.Leads() {
				lead = m
			}
		}
		return lead != nil, nil
	})
	return lead
}

func (c *cluster) at(m *store.Member) int {
	for i, x := range c.members {
		if x == m {
			return i
		}
	}
	c.Fatal("no such member")
	return -1
}

type thing struct {
	ID string `json:"id"`
	N  int    `json:"n"`
}

// open opens the store as the leader does.
func (c *cluster) open(m *store.Member) (*store.DB, *store.Collection[thing]) {
	c.Helper()
	db, err := store.Open(c.Context(), store.Options{Backend: m.Backend(), Log: storetest.Quiet(), Member: fmt.Sprint("m", c.at(m)), Fenced: true})
	if err != nil {
		c.Fatal(err)
	}
	things := store.Register(db, store.Schema[thing]{Service: "t", Kind: "thing", Version: 1, ID: func(v *thing) string { return v.ID }})
	if err := db.Start(storetest.Context(c)); err != nil {
		c.Fatal(err)
	}
	c.Cleanup(func() { _ = db.Close() })
	return db, things
}

// Three members: what was acknowledged survives the leader, the next leader takes its
// epoch, and the one that was deposed writes nothing more.
func TestMembers(t *testing.T) {
	c := newCluster(t)
	begun := time.Now()
	first := c.start(0, nil)
	c.leader()
	t.Logf("the first member led after %v", time.Since(begun))
	db, things := c.open(first)
	if err := things.Create(t.Context(), &thing{ID: "before"}); err != nil {
		t.Fatal(err)
	}
	c.join()
	c.join()
	if err := things.Create(t.Context(), &thing{ID: "three"}); err != nil {
		t.Fatal(err)
	}
	old := c.leader()
	if old != first {
		t.Fatal("the lead changed without a reason")
	}
	epoch := db.Epoch()
	if err := old.HandOver(t.Context()); err != nil {
		t.Fatal(err)
	}
	next := c.leader()
	if next == old {
		t.Fatal("nothing was handed over")
	}
	db2, things2 := c.open(next)
	if db2.Epoch() <= epoch {
		t.Errorf("epoch %d after %d", db2.Epoch(), epoch)
	}
	for _, id := range []string{"before", "three"} {
		if _, err := things2.Get(id); err != nil {
			t.Errorf("%s is lost: %v", id, err)
		}
	}
	// The one that was deposed is still connected: its writes would get through.
	if err := things.Create(t.Context(), &thing{ID: "late"}); !errs.Is(err, errs.Unavailable) {
		t.Errorf("a write of who leads no more: %v", err)
	}
	if err := db.Ledger("l").Do(t.Context(), func(tx *store.Tx) error { return things.TxPut(tx, &thing{ID: "late"}) }); !errs.Is(err, errs.Unavailable) {
		t.Errorf("a ledger of who leads no more: %v", err)
	}
	if _, err := things2.Get("late"); !errs.Is(err, errs.NotFound) {
		t.Errorf("it was written: %v", err)
	}
	c.leaderDies(next, db2)
}

// leaderDies closes the leader's member; the others go on, and it comes back.
func (c *cluster) leaderDies(lead *store.Member, db *store.DB) {
	at := c.at(lead)
	if err := db.Close(); err != nil {
		c.Error(err)
	}
	begun := time.Now()
	if err := lead.Close(); err != nil {
		c.Error(err)
	}
	c.members[at] = nil
	next := c.leader()
	c.Logf("another member led %v after the leader began to stop", time.Since(begun))
	_, things := c.open(next)
	if err := things.Create(c.Context(), &thing{ID: "after"}); err != nil {
		c.Fatal(err)
	}
	back := c.start(at, nil)
	c.until("the member that was away to catch up", func(context.Context) (bool, error) { return back.Rev() == next.Rev(), nil })
}

// A member leaves only when those that stay are a majority.
func TestMemberLeaves(t *testing.T) {
	c := newCluster(t)
	first := c.start(0, nil)
	second := c.join()
	self, _ := second.Self()
	if err := second.Close(); err != nil {
		t.Fatal(err)
	}
	c.members = c.members[:1]
	if err := first.Remove(storetest.Context(t), self.ID); err == nil {
		t.Error("one of two members was taken out although the other is away")
	}
	if n := len(first.Peers()); n != 2 {
		t.Errorf("%d members, want 2", n)
	}
	alone, err := store.NewEtcd(storetest.Context(t), c.opts[1])
	if !errs.Is(err, errs.Conflict) {
		t.Errorf("one of two opened alone: %v", err)
	}
	if alone != nil {
		_ = alone.Close()
	}
	c.opts[1].Force = true
	alone, err = store.NewEtcd(storetest.Context(t), c.opts[1])
	if err != nil {
		t.Fatal(err)
	}
	if st, err := alone.Status(t.Context()); err != nil || st.Members != 1 || !st.Leads {
		t.Errorf("made the only member: %+v, %v", st, err)
	}
	if err := alone.Close(); err != nil {
		t.Error(err)
	}
}

// The peers' port lets nobody in who has no member's certificate.
func TestPeerPort(t *testing.T) {
	c := newCluster(t)
	c.start(0, nil)
	roots := x509.NewCertPool()
	roots.AddCert(c.ca)
	try := func(conf *tls.Config) error {
		conf.RootCAs = roots
		conn, err := tls.Dial("tcp", c.peers[0].Listen, conf)
		if err != nil {
			return err
		}
		defer conn.Close()
		if _, err := fmt.Fprint(conn, "GET /members HTTP/1.0\r\n\r\n"); err != nil {
			return err
		}
		_, err = conn.Read(make([]byte, 1)) // the refusal comes with the first read
		return err
	}
	pair := func(file string) *tls.Config {
		p, err := tls.LoadX509KeyPair(file, file)
		if err != nil {
			t.Fatal(err)
		}
		return &tls.Config{Certificates: []tls.Certificate{p}}
	}
	if err := try(pair(filepath.Join(c.dir, "member.crt"))); err != nil {
		t.Errorf("a member: %v", err)
	}
	if err := try(pair(c.cert("node.crt", "node-1"))); err == nil {
		t.Error("a node was let in")
	}
	if err := try(&tls.Config{}); err == nil {
		t.Error("somebody without a certificate was let in")
	}
}
