package kube

import (
	"bytes"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/kube/authority"
)

// TestBackup copies what a control plane's etcd holds, and begins another one with it.
func TestBackup(t *testing.T) {
	set, err := authority.New("one")
	if err != nil {
		t.Fatal(err)
	}
	c := &Control{ID: "0b7e2c1e-0d0f-4f0e-9a0a-000000000001", Name: "one", Address: netip.MustParseAddrPort("127.0.0.1:6443"),
		Services: []netip.Prefix{netip.MustParsePrefix("10.254.0.0/16")}, Authorities: *set, EtcdPort: freePair(t)}
	before, after := t.TempDir(), t.TempDir()
	one := &plane{Control: c, dir: filepath.Join(before, c.ID, controlDir)}
	if err := one.write(); err != nil {
		t.Fatal(err)
	}
	if ids, err := Controls(before); err != nil || len(ids) != 0 {
		t.Errorf("without data there are the control planes %v, %v", ids, err)
	}
	stop := one.serve(t)
	one.client(t, func(k *clientv3.Client) { put(t, k, "kept") })
	if ids, err := Controls(before); err != nil || len(ids) != 1 || ids[0] != c.ID {
		t.Errorf("there are the control planes %v, %v", ids, err)
	}
	var copied bytes.Buffer
	if err := Snapshot(t.Context(), before, c.ID, &copied); err != nil {
		t.Fatal(err)
	}
	one.client(t, func(k *clientv3.Client) { put(t, k, "later") })
	stop()
	if err := Put(before, c.ID, bytes.NewReader(copied.Bytes())); !errs.Is(err, errs.Conflict) {
		t.Errorf("a control plane with data is given other data: %v", err)
	}

	two := &plane{Control: c, dir: filepath.Join(after, c.ID, controlDir)}
	if err := Put(after, c.ID, bytes.NewReader(copied.Bytes()[:copied.Len()/2])); err != nil {
		t.Fatal(err)
	}
	if err := two.restore(); err == nil {
		t.Error("half a snapshot is taken for one")
	}
	if err := Put(after, c.ID, &copied); err != nil {
		t.Fatal(err)
	}
	defer two.restored(t)()
	two.client(t, func(k *clientv3.Client) {
		r, err := k.Get(t.Context(), "", clientv3.WithPrefix())
		if err != nil || len(r.Kvs) != 1 || string(r.Kvs[0].Value) != "kept" || r.Header.Revision < revisionBump {
			t.Errorf("the new one has %v, %v", r, err)
		}
	})
	if left, err := os.ReadDir(two.dir); err != nil || len(left) != 3 { // pki, config, data
		t.Errorf("beside its data there is %v, %v", left, err)
	}
}

// restored runs an etcd with what was put here, whatever was.
func (p *plane) restored(t *testing.T) (stop func()) {
	t.Helper()
	for range 2 { // the second finds all done
		if err := p.restore(); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.write(); err != nil {
		t.Fatal(err)
	}
	return p.serve(t)
}

func put(t *testing.T, k *clientv3.Client, value string) {
	t.Helper()
	if _, err := k.Put(t.Context(), "/registry/a", value); err != nil {
		t.Fatal(err)
	}
}

// freePair gives the first of two ports that are free on loopback.
func freePair(t *testing.T) int {
	t.Helper()
	for range 100 {
		a, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		port := a.Addr().(*net.TCPAddr).Port
		b, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port + 1})
		a.Close()
		if err == nil {
			b.Close()
			return port
		}
	}
	t.Fatal("no two ports are free")
	return 0
}

// serve runs an etcd with the control plane's data and certificates, as etcdFlags have it.
func (p *plane) serve(t *testing.T) (stop func()) {
	t.Helper()
	cfg := embed.NewConfig()
	cfg.Name, cfg.Dir, cfg.ZapLoggerBuilder = p.ID, filepath.Join(p.dir, dataDir), embed.NewZapLoggerBuilder(zap.NewNop())
	client, err := url.Parse(p.etcdURL())
	if err != nil {
		t.Fatal(err)
	}
	peer, err := url.Parse(p.peerURL())
	if err != nil {
		t.Fatal(err)
	}
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = []url.URL{*client}, []url.URL{*client}
	cfg.ListenPeerUrls, cfg.AdvertisePeerUrls, cfg.InitialCluster = []url.URL{*peer}, []url.URL{*peer}, p.ID+"="+p.peerURL()
	cfg.ClientTLSInfo.CertFile, cfg.ClientTLSInfo.KeyFile, cfg.ClientTLSInfo.TrustedCAFile, cfg.ClientTLSInfo.ClientCertAuth = p.pki("etcd.crt"), p.pki("etcd.key"), p.pki("etcd-ca.crt"), true
	cfg.PeerTLSInfo.CertFile, cfg.PeerTLSInfo.KeyFile, cfg.PeerTLSInfo.TrustedCAFile, cfg.PeerTLSInfo.ClientCertAuth = p.pki("etcd.crt"), p.pki("etcd.key"), p.pki("etcd-ca.crt"), true
	e, err := embed.StartEtcd(cfg)
	if err != nil {
		t.Fatal(err)
	}
	<-e.Server.ReadyNotify()
	return e.Close
}

func (p *plane) client(t *testing.T, do func(*clientv3.Client)) {
	t.Helper()
	tlsConfig, err := p.etcdTLS()
	if err != nil {
		t.Fatal(err)
	}
	k, err := clientv3.New(clientv3.Config{Endpoints: []string{p.etcdURL()}, TLS: tlsConfig, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	do(k)
}
