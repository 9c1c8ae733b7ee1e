//go:build kube

package system

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2/openstack/loadbalancer/v2/loadbalancers"
	"github.com/gophercloud/gophercloud/v2/openstack/loadbalancer/v2/pools"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/layer3/floatingips"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/ports"

	"github.com/strata-cloud/strata/internal/netns"
	"github.com/strata-cloud/strata/internal/region"
	"github.com/strata-cloud/strata/test/hosts"
)

// TestClusterServices reaches Services of type LoadBalancer and Ingresses of a cluster from
// outside and from its network, while nodes come and go, and leaves nothing of them.
func TestClusterServices(t *testing.T) {
	p := newPool(t, 3)
	if err := p.Route(p.public, p.All[0]); err != nil {
		t.Fatal(err)
	}
	b := &published{kube: &kube{pool: p, conf: filepath.Join(t.TempDir(), "kubeconfig")}, c: p.clients("strata")}
	p.strata(p.All[0], "cluster", "create", "one", "--nodes", "2", "--timeout", "5")
	p.strata(p.All[0], "cluster", "kubeconfig", "one", "--file", b.conf)
	b.must("apply", "-f", "testdata/kube/services.yaml")
	b.must("rollout", "status", "daemonset/who", "--timeout=90s")
	for _, part := range []struct {
		name string
		run  func(*published)
	}{{"reached", (*published).reached}, {"ranges", (*published).ranges}, {"local", (*published).local}, {"nodes", (*published).nodesChange}, {"deleted by hand", (*published).byHand}, {"ingress", (*published).ingress}, {"gone", (*published).goes}} {
		t.Run(part.name, func(t *testing.T) { part.run(b.in(t)) })
	}
	p.strata(p.All[0], "cluster", "delete", "one")
	if left := b.left(); len(left) > 0 {
		t.Errorf("of the cluster there are left: %v", left)
	}
	for _, h := range p.All {
		if rules, err := h.Command(t.Context(), "ip", "rule").Output(); err != nil || strings.Contains(string(rules), "30900:") {
			t.Errorf("on %s there are the rules %s, %v", h.Name, rules, err)
		}
	}
}

// published is a cluster whose services others reach.
type published struct {
	*kube
	c clients
}

// in is the cluster in a subtest.
func (b *published) in(t *testing.T) *published {
	p := *b.pool
	p.T = t
	return &published{kube: &kube{pool: &p, conf: b.conf}, c: b.c}
}

// address is where a Service or an Ingress is reached.
func (b *published) address(what ...string) string {
	b.Helper()
	var at string
	b.until("the address of "+strings.Join(what, " "), time.Minute, func() (bool, error) {
		out, err := b.kubectl(append([]string{"get", "-o", "jsonpath={.status.loadBalancer.ingress[*].ip}"}, what...)...)
		at = out
		return at != "", err
	})
	return at
}

// ask has a name server tell which node answers, and whom it sees.
func (b *published) ask(ns *netns.NS, protocol, at string) (node, client string, err error) {
	ctx, cancel := context.WithTimeout(b.Context(), 3*time.Second)
	defer cancel()
	r := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (conn net.Conn, err error) {
		f := func() error { conn, err = (&net.Dialer{}).DialContext(ctx, protocol, at); return err }
		if ns == nil {
			return conn, f()
		}
		return conn, ns.Do(f)
	}}
	got, err := r.LookupTXT(ctx, "who.")
	if err != nil {
		return "", "", err
	}
	node, client, _ = strings.Cut(strings.Join(got, ""), " ")
	return node, client, nil
}

// answers waits until somebody answers, and counts who does then.
func (b *published) answers(ns *netns.NS, protocol, at string, n int) (nodes, seen map[string]int) {
	b.Helper()
	await(b.T, "an answer from "+at+" by "+protocol, func() bool { _, _, err := b.ask(ns, protocol, at); return err == nil })
	nodes, seen = map[string]int{}, map[string]int{}
	for range n {
		node, client, err := b.ask(ns, protocol, at)
		if err != nil {
			b.Errorf("asking %s by %s: %v, after %v", at, protocol, err, nodes)
			return nodes, seen
		}
		nodes[node]++
		seen[client]++
	}
	return nodes, seen
}

// balancer is the load balancer of a Service.
func (b *published) balancer(namespace, service string) *loadbalancers.LoadBalancer {
	b.Helper()
	for _, lb := range b.balancers() {
		if strings.HasPrefix(lb.Name, "kube_service_") && strings.HasSuffix(lb.Name, "_"+namespace+"_"+service) && strings.HasPrefix(lb.Description, "Kubernetes external service "+namespace+"/"+service+" from cluster ") {
			return &lb
		}
	}
	return nil
}

func (b *published) balancers() []loadbalancers.LoadBalancer {
	b.Helper()
	page, err := loadbalancers.List(b.c.balancer, loadbalancers.ListOpts{}).AllPages(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	return must[[]loadbalancers.LoadBalancer](b)(loadbalancers.ExtractLoadBalancers(page))
}

// left are the load balancers, their ports and the floating IPs of the project.
func (b *published) left() (out []string) {
	b.Helper()
	for _, lb := range b.balancers() {
		out = append(out, lb.Name)
	}
	page, err := ports.List(b.c.network, ports.ListOpts{DeviceOwner: "Octavia"}).AllPages(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	for _, p := range must[[]ports.Port](b)(ports.ExtractPorts(page)) {
		out = append(out, "port "+p.Name)
	}
	page, err = floatingips.List(b.c.network, floatingips.ListOpts{}).AllPages(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	for _, f := range must[[]floatingips.FloatingIP](b)(floatingips.ExtractFloatingIPs(page)) {
		out = append(out, "floating IP "+f.FloatingIP)
	}
	return out
}

// pod is the network of a pod that is on the cluster's network, as a server would be, and its address.
func (b *published) pod(node string) (ns *netns.NS, at string) {
	b.Helper()
	i := slices.IndexFunc(b.All, func(h *hosts.Host) bool { return h.Name == node })
	b.until("the pod on "+node, time.Minute, func() (bool, error) {
		var list struct {
			Items []struct {
				Metadata struct{ Name string }
				Status   struct{ PodIP string }
			}
		}
		b.get(&list, "pods", "-l", "app=who", "--field-selector", "spec.nodeName="+node)
		for _, file := range must[[]string](b)(filepath.Glob(filepath.Join(b.All[i].DataDir, "kube", "*", "worker", "cni", "pods", "*.json"))) {
			var r struct{ Name, Netns string }
			if raw, err := os.ReadFile(file); err != nil || json.Unmarshal(raw, &r) != nil || len(list.Items) != 1 || r.Name != list.Items[0].Metadata.Name {
				continue
			}
			ns, at = must[*netns.NS](b)(netns.OpenFile(r.Name, r.Netns)), list.Items[0].Status.PodIP
			b.Cleanup(func() { ns.Close() })
			return at != "", nil
		}
		return false, nil
	})
	return ns, at
}

// workers are the cluster's nodes.
func (b *published) workers() []string {
	b.Helper()
	return strings.Fields(b.must("get", "nodes", "-o", "jsonpath={.items[*].metadata.name}"))
}

// reached asks from outside and from inside, by TCP and by UDP.
func (b *published) reached() {
	out := b.address("service", "who")
	a, err := netip.ParseAddr(out)
	if err != nil || !netip.MustParsePrefix(b.public).Contains(a) {
		b.Fatalf("the service is at %q, which is not in %s", out, b.public)
	}
	lb := b.balancer("default", "who")
	if lb == nil {
		b.Fatalf("of the load balancers %+v none is the service's", b.balancers())
	}
	inside, _ := b.pod(b.workers()[0])
	await(b.T, "both workers to answer", func() bool { nodes, _ := b.answers(nil, "tcp", out+":53", 4); return len(nodes) == 2 })
	for _, protocol := range []string{"tcp", "udp"} {
		if nodes, _ := b.answers(nil, protocol, out+":53", 20); len(nodes) != 2 {
			b.Errorf("from outside by %s: %v", protocol, nodes)
		}
		for _, at := range []string{lb.VipAddress, out} {
			if nodes, _ := b.answers(inside, protocol, at+":53", 20); len(nodes) != 2 {
				b.Errorf("from the cluster's network to %s by %s: %v", at, protocol, nodes)
			}
		}
	}
	if _, _, err := b.ask(nil, "tcp", out+":54"); err == nil {
		b.Error("there is an answer where the service has no port")
	}
}

// patch changes the Service.
func (b *published) patch(spec string) {
	b.Helper()
	b.must("patch", "service", "who", "--type=merge", "-p", `{"spec":`+spec+`}`)
}

// own is the address that clients from outside are seen with, which is that of the external
// network's node on it.
func (b *published) own() string {
	b.Helper()
	public := netip.MustParsePrefix(b.public)
	for _, word := range strings.Fields(string(must[[]byte](b)(b.All[0].Command(b.Context(), "ip", "-4", "-o", "address").Output()))) {
		if p, err := netip.ParsePrefix(word); err == nil && p.Bits() == public.Bits() && p.Masked() == public {
			return p.Addr().String()
		}
	}
	b.Fatalf("%s has no address on %s", b.All[0].Name, public)
	return ""
}

// ranges lets in who is named, and nobody else.
func (b *published) ranges() {
	at := b.address("service", "who") + ":53"
	own := b.own()
	b.patch(`{"loadBalancerSourceRanges":["192.0.2.0/24"]}`)
	await(b.T, "the ranges", func() bool { _, _, err := b.ask(nil, "tcp", at); return err != nil })
	if _, _, err := b.ask(nil, "udp", at); err == nil {
		b.Error("who is not named is let in by UDP")
	}
	b.patch(`{"loadBalancerSourceRanges":["192.0.2.0/24","` + own + `/32"]}`)
	b.answers(nil, "tcp", at, 4)
	b.answers(nil, "udp", at, 4)
	b.patch(`{"loadBalancerSourceRanges":null}`)
}

// local has pods see who asks, and only nodes that have one get anything.
func (b *published) local() {
	out := b.address("service", "who")
	vip := b.balancer("default", "who").VipAddress
	own := vip // the external network shows clients with a node's address here, which no node takes for a client's
	b.patch(`{"externalTrafficPolicy":"Local"}`)
	inside, podIP := b.pod(b.workers()[0])
	await(b.T, "the client's address", func() bool { _, seen, err := b.ask(inside, "tcp", vip+":53"); return err == nil && seen == podIP })
	await(b.T, "both workers to answer", func() bool { nodes, _ := b.answers(nil, "tcp", out+":53", 4); return len(nodes) == 2 })
	for _, protocol := range []string{"tcp", "udp"} {
		if nodes, seen := b.answers(nil, protocol, out+":53", 20); len(nodes) != 2 || seen[own] != 20 {
			b.Errorf("from outside by %s: %v, %v, want %s", protocol, nodes, seen, own)
		}
		// A pod that reaches itself is not shown to itself.
		if nodes, seen := b.answers(inside, protocol, vip+":53", 20); len(nodes) != 2 || seen[podIP] != nodes[b.workers()[1]] {
			b.Errorf("from the cluster's network by %s: %v, %v, want %s", protocol, nodes, seen, podIP)
		}
	}
	without, with := b.workers()[0], b.workers()[1]
	b.must("patch", "daemonset", "who", "--type=merge", "-p", `{"spec":{"template":{"spec":{"affinity":{"nodeAffinity":{"requiredDuringSchedulingIgnoredDuringExecution":{"nodeSelectorTerms":[{"matchExpressions":[{"key":"kubernetes.io/hostname","operator":"In","values":["`+with+`"]}]}]}}}}}}}`)
	b.must("rollout", "status", "daemonset/who", "--timeout=90s")
	await(b.T, "the node without a pod to be left out", func() bool {
		nodes := map[string]int{}
		for range 8 {
			node, _, err := b.ask(nil, "tcp", out+":53")
			if err != nil {
				return false
			}
			nodes[node]++
		}
		return nodes[with] == 8
	})
	b.Logf("%s has no pod and gets nothing", without)
	b.must("patch", "daemonset", "who", "--type=json", "-p", `[{"op":"remove","path":"/spec/template/spec/affinity"}]`)
	b.must("rollout", "status", "daemonset/who", "--timeout=90s")
	b.patch(`{"externalTrafficPolicy":"Cluster"}`)
}

// members are those of the Service's load balancer.
func (b *published) members() (out []string) {
	b.Helper()
	for _, p := range b.balancer("default", "who").Pools {
		page, err := pools.ListMembers(b.c.balancer, p.ID, pools.ListMembersOpts{}).AllPages(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		for _, m := range must[[]pools.Member](b)(pools.ExtractMembers(page)) {
			out = append(out, m.Name)
		}
	}
	return out
}

// nodesChange has the members follow the workers, and one of them lost.
func (b *published) nodesChange() {
	at := b.address("service", "who") + ":53"
	b.strata(b.All[0], "cluster", "scale", "one", "3")
	await(b.T, "a third member", func() bool { return len(b.members()) == 6 })
	b.must("rollout", "status", "daemonset/who", "--timeout=90s")
	await(b.T, "all three to answer", func() bool { nodes, _ := b.answers(nil, "tcp", at, 12); return len(nodes) == 3 })
	lb := b.balancer("default", "who").ID
	i := 1 + slices.IndexFunc(b.All[1:], func(h *hosts.Host) bool {
		has := must[[]string](b)(netns.List(region.Name(h.DataDir) + "-lb-" + lb))
		return len(has) == 0
	})
	lost := b.All[i]
	since := time.Now()
	if err := b.Cut(lost); err != nil {
		b.Fatal(err)
	}
	b.steady("tcp", at, 20, lost.Name)
	b.Logf("20 requests are answered one after the other %.1f s after %s was cut off", time.Since(since).Seconds(), lost.Name)
	if err := b.Join(lost); err != nil {
		b.Fatal(err)
	}
	b.awaitNodes(3)
	b.strata(b.All[0], "cluster", "scale", "one", "2")
	await(b.T, "two members", func() bool { return len(b.members()) == 4 })
	b.steady("udp", at, 20, "")
}

// steady waits until so many requests are answered one after the other, not by a node. Pods of a
// node that is lost are given up by the cluster after most of a minute, and until then asked by
// kube-proxy.
func (b *published) steady(protocol, at string, n int, not string) {
	b.Helper()
	since := time.Now()
	for good := 0; good < n; good++ {
		if node, _, err := b.ask(nil, protocol, at); err != nil || node == not {
			good = -1
		}
		if time.Since(since) > 2*time.Minute {
			b.Fatalf("requests to %s by %s do not go on", at, protocol)
		}
	}
}

// byHand has a load balancer come back that a user deletes.
func (b *published) byHand() {
	at := b.address("service", "who")
	lb := b.balancer("default", "who")
	b.done(loadbalancers.Delete(b.Context(), b.c.balancer, lb.ID, loadbalancers.DeleteOpts{Cascade: true}).ExtractErr())
	await(b.T, "it to be back", func() bool { return b.balancer("default", "who") != nil })
	b.steady("tcp", at+":53", 8, "")
	if now := b.address("service", "who"); now != at {
		b.Errorf("it is at %s now, and was at %s", now, at)
	}
}

// done takes an error that there should not be.
func (b *published) done(err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

// ingress leads hosts and paths to services, with TLS.
func (b *published) ingress() {
	if _, err := b.kubectl("-n", "kube-system", "get", "deployment", "ingress"); err == nil {
		b.Error("a cluster without Ingresses has a program for them")
	}
	roots := b.certificate("shop.example.org")
	b.must("apply", "-f", "testdata/kube/ingress.yaml")
	b.must("rollout", "status", "deployment/shop", "deployment/blog", "--timeout=90s")
	at := b.address("ingress", "web")
	b.must("-n", "kube-system", "rollout", "status", "deployment/ingress", "--timeout=90s")
	client := func(scheme, host, path string) (status int, body string) {
		tr := &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: host}, DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{Timeout: 3 * time.Second}).DialContext(ctx, network, at+map[string]string{"http": ":80", "https": ":443"}[scheme])
		}}
		defer tr.CloseIdleConnections()
		req := must[*http.Request](b)(http.NewRequestWithContext(b.Context(), http.MethodGet, scheme+"://"+host+path, nil))
		res, err := (&http.Client{Transport: tr, Timeout: 5 * time.Second}).Do(req)
		if err != nil {
			return 0, err.Error()
		}
		defer res.Body.Close()
		raw := must[[]byte](b)(io.ReadAll(res.Body))
		return res.StatusCode, strings.TrimSpace(string(raw))
	}
	await(b.T, "an answer of the ingress", func() bool { status, _ := client("http", "shop.example.org", "/"); return status == 200 })
	await(b.T, "the certificate", func() bool { status, _ := client("https", "shop.example.org", "/"); return status == 200 })
	for _, c := range []struct {
		scheme, host, path string
		status             int
		body               string
	}{
		{"http", "shop.example.org", "/", 200, "shop"}, {"https", "shop.example.org", "/", 200, "shop"}, {"http", "blog.example.org", "/blog/", 200, "blog"}, {"http", "any.example.org", "/blog/", 200, "blog"},
		{"http", "blog.example.org", "/only", 404, ""}, {"http", "else.where", "/", 404, "no Ingress is for this host and path"}, {"https", "else.where", "/", 0, ""},
	} {
		status, body := client(c.scheme, c.host, c.path)
		if status != c.status || c.body != "" && body != c.body {
			b.Errorf("%s://%s%s: %d %q", c.scheme, c.host, c.path, status, body)
		}
	}
	for _, file := range must[[]string](b)(filepath.Glob("/proc/[0-9]*/cmdline")) {
		if raw, err := os.ReadFile(file); err == nil && strings.HasPrefix(string(raw), "/strata-kube\x00ingress") {
			b.Logf("the ingress takes %s", memory(filepath.Dir(file)))
		}
	}
}

// memory is what a process takes.
func memory(dir string) string {
	raw, err := os.ReadFile(filepath.Join(dir, "smaps_rollup"))
	if err != nil {
		return err.Error()
	}
	var out []string
	for line := range strings.Lines(string(raw)) {
		if strings.HasPrefix(line, "Rss:") || strings.HasPrefix(line, "Pss:") || strings.HasPrefix(line, "Private_Dirty:") {
			out = append(out, strings.Join(strings.Fields(line), " "))
		}
	}
	return strings.Join(out, ", ")
}

// certificate makes the Secret of a host, and gives who vouches for it.
func (b *published) certificate(host string) *x509.CertPool {
	b.Helper()
	key := must[*ecdsa.PrivateKey](b)(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	t := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{host}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	raw := must[[]byte](b)(x509.CreateCertificate(rand.Reader, t, t, key.Public(), key))
	dir := b.TempDir()
	for name, block := range map[string]*pem.Block{"tls.crt": {Type: "CERTIFICATE", Bytes: raw}, "tls.key": {Type: "PRIVATE KEY", Bytes: must[[]byte](b)(x509.MarshalPKCS8PrivateKey(key))}} {
		b.done(os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600))
	}
	b.must("create", "secret", "tls", "shop", "--cert", filepath.Join(dir, "tls.crt"), "--key", filepath.Join(dir, "tls.key"))
	pool := x509.NewCertPool()
	pool.AddCert(must[*x509.Certificate](b)(x509.ParseCertificate(raw)))
	return pool
}

// goes deletes a Service, which takes all that it had with it.
func (b *published) goes() {
	before := b.left()
	at := b.address("service", "who")
	b.must("delete", "service", "who", "--timeout=30s")
	after := b.left()
	if len(before)-len(after) != 3 || slices.Contains(after, "floating IP "+at) || b.balancer("default", "who") != nil {
		b.Errorf("of %v there are left %v", before, after)
	}
	if _, _, err := b.ask(nil, "tcp", at+":53"); err == nil {
		b.Error("it still answers")
	}
	b.must("apply", "-f", "testdata/kube/services.yaml") // and goes with the cluster
	b.answers(nil, "tcp", b.address("service", "who")+":53", 2)
}
