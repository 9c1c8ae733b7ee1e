package system

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/layer3/routers"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/networks"

	"github.com/strata-cloud/strata/internal/region"
	"github.com/strata-cloud/strata/test/cloud"
)

// cloudCompose has two services on two networks, of which one has no way out, and a
// volume of block storage.
const cloudCompose = `version: "3.8"
services:
  web:
    image: busybox
    command: sh -c 'while :; do echo served | nc -l -p 80; done'
    networks: [front, back]
    environment: ["ROUND=${ROUND}"]
    depends_on:
      store: {condition: service_healthy}
  store:
    image: busybox
    command: sh -c 'cat /srv/kept; echo round ${ROUND} >> /srv/kept; while :; do echo stored | nc -l -p 80; done'
    volumes: ["kept:/srv"]
    networks:
      back: {aliases: [db]}
    restart: unless-stopped
    healthcheck: {test: ["CMD", "grep", "-q", "round", "/srv/kept"], interval: 500ms, retries: 50}
networks:
  front: {}
  back: {internal: true}
volumes:
  kept: {driver_opts: {size: "1"}}
`

// TestCloudCompose runs a project of compose's in a project of the cloud's, with Debian's
// docker-compose, and with the one that is installed, if any.
func TestCloudCompose(t *testing.T) {
	f := newDockPool(t, 2, 1)
	f.push(f.All[0], "demo/busybox:latest")
	x := f.tenant(f.All[0], "strata-demo")
	env := x.environment()
	eachCompose(t, func(t *testing.T, argv, more []string) {
		d := &dock{t: t, cloud: &cloud.Cloud{Dir: f.All[0].DataDir}, cli: f.cli, env: env}
		x.in(t).composes(&compose{d, argv, append(append([]string{}, env...), more...), t.TempDir()})
	})
}

// environment says to any client of docker's where the cloud is, and who it is itself.
// Debian's docker-compose wants a certificate for itself, which nobody looks at.
func (x *tenant) environment() []string {
	x.Helper()
	dir, h := x.TempDir(), x.All[0]
	key := must[*ecdsa.PrivateKey](x)(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	raw := must[[]byte](x)(x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key))
	der := must[[]byte](x)(x509.MarshalPKCS8PrivateKey(key))
	ca := must[[]byte](x)(os.ReadFile(must[*region.Clouds](x)(region.ReadClouds(filepath.Join(h.DataDir, region.CloudsFile))).Clouds["strata-demo"].CACert))
	for name, text := range map[string][]byte{"ca.pem": ca, "cert.pem": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw}), "key.pem": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			x.Fatal(err)
		}
	}
	return []string{"DOCKER_HOST=tcp://" + h.Addr + ":5000/docker", "DOCKER_TLS_VERIFY=1", "DOCKER_CERT_PATH=" + dir, "DOCKER_CONFIG=" + x.config, "COMPOSE_HTTP_TIMEOUT=120"}
}

func (x *tenant) composes(c *compose) {
	t := x.T
	if err := os.WriteFile(filepath.Join(c.dir, "compose.yaml"), []byte(cloudCompose), 0o600); err != nil {
		t.Fatal(err)
	}
	base := c.env
	round := func(n string) { c.env = append(base[:len(base):len(base)], "ROUND="+n) }
	round("1")
	t.Cleanup(func() { // of a failed test
		if t.Failed() {
			c.t.Logf("%s", c.run(nil, "ps", "-a").out)
		}
		for _, id := range strings.Fields(c.run(nil, "ps", "-aq").out) {
			c.run(nil, "rm", "-f", "-v", id)
		}
	})
	c.do("up", "-d")
	if w, s := c.service("web", "running"), c.service("store", "running"); len(w) != 1 || len(s) != 1 {
		t.Fatalf("running: web %v, store %v", w, s)
	}
	for _, name := range []string{"db", "store", c.service("store", "running")[0]} { // of the second network
		c.eventually("the name "+name, func() bool {
			return c.run(nil, "exec", c.service("web", "running")[0], "sh", "-c", "nc -w 2 "+name+" 80 </dev/null").out == "stored\n"
		})
	}
	if out := c.do("exec", "-T", "web", "sh", "-c", "echo $ROUND"); out != "1" {
		t.Errorf("exec: %q", out)
	}
	if out := c.do("ps"); !strings.Contains(out, "web") || !strings.Contains(out, "store") {
		t.Errorf("ps: %q", out)
	}
	if out := c.must("volume", "inspect", "--format", `{{.Status.size}} {{index .Labels "com.docker.compose.project"}}`, "shop_kept"); out != "1 shop" {
		t.Errorf("the volume: %q", out)
	}
	web := c.service("web", "running")[0]
	c.do("up", "-d") // is harmless
	if again := c.service("web", "running"); len(again) != 1 || again[0] != web {
		t.Errorf("a second up replaces %s: %v", web, again)
	}
	c.do("up", "-d", "--scale", "store=2")
	if s := c.service("store", "running"); len(s) != 2 {
		t.Errorf("scaled to two: %v", s)
	}
	c.do("up", "-d", "--scale", "store=1")
	round("2") // which makes both anew, with the volume
	c.do("up", "-d")
	c.eventually("what the volume kept", func() bool { return strings.Contains(c.do("logs", "store"), "round 1") })
	if again := c.service("web", "running"); len(again) != 1 || again[0] == web {
		t.Errorf("the container is still %v", again)
	}
	c.do("down", "-t", "0", "-v")
	x.nothingMade(c)
}

// nothingMade wants all that compose made to be gone.
func (x *tenant) nothingMade(c *compose) {
	t, label := x.T, "label=com.docker.compose.project=shop"
	for _, list := range [][]string{{"ps", "-aq", "--filter", label}, {"network", "ls", "-q", "--filter", label}, {"volume", "ls", "-q", "--filter", label}} {
		if out := c.must(list...); out != "" {
			t.Errorf("down leaves of %v: %s", list, out)
		}
	}
	cl := x.clients("strata-demo")
	nets := must[[]networks.Network](t)(func() ([]networks.Network, error) {
		pages, err := networks.List(cl.network, networks.ListOpts{ProjectID: "", Name: "shop_back"}).AllPages(t.Context())
		if err != nil {
			return nil, err
		}
		return networks.ExtractNetworks(pages)
	}())
	all := must[[]routers.Router](t)(func() ([]routers.Router, error) {
		pages, err := routers.List(cl.network, routers.ListOpts{Name: "shop_front"}).AllPages(t.Context())
		if err != nil {
			return nil, err
		}
		return routers.ExtractRouters(pages)
	}())
	if len(nets)+len(all) > 0 {
		t.Errorf("down leaves %v, %v", nets, all)
	}
}
