package kube

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/strata-cloud/strata/internal/kube/authority"
	"github.com/strata-cloud/strata/internal/kube/credentials"
	"github.com/strata-cloud/strata/internal/process"
)

// cleanupEnv names the file to which kube-proxy --cleanup writes.
const cleanupEnv = "KUBE_TEST_CLEANUP"

// TestMain is the programs of clusters as well: they only wait, but for containerd, which
// answers after a while.
func TestMain(m *testing.M) {
	if len(os.Args) < 2 || !strings.HasPrefix(os.Args[1], "--kubeconfig=") && !slices.Contains(append(append(controlPrograms, workerPrograms...), workerProgram), os.Args[1]) {
		os.Exit(m.Run())
	}
	if os.Args[1] == workerProgram {
		os.Exit(0)
	}
	if file := os.Getenv(cleanupEnv); file != "" {
		if err := os.WriteFile(file, []byte(strings.Join(os.Args[1:], " ")), 0o600); err != nil {
			panic(err)
		}
		os.Exit(0)
	}
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGTERM)
	if os.Args[1] == containerdProgram {
		defer answerCalls(os.Args[3])()
	}
	<-end
}

// answerCalls serves whoever calls containerd at the address in its configuration, the second
// time that it is asked.
func answerCalls(config string) (stop func()) {
	raw, err := os.ReadFile(config)
	if err != nil {
		panic(err)
	}
	at := regexp.MustCompile(`address = "(.+)"`).FindSubmatch(raw)
	if err := os.MkdirAll(filepath.Dir(string(at[1])), 0o700); err != nil {
		panic(err)
	}
	l, err := net.Listen("unix", string(at[1]))
	if err != nil {
		panic(err)
	}
	var asked atomic.Int64
	s := grpc.NewServer(grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
		if err := stream.RecvMsg(&emptypb.Empty{}); err != nil {
			return err
		}
		if asked.Add(1) == 1 {
			return status.Error(codes.Unknown, "server is not initialized yet")
		}
		if err := os.WriteFile(filepath.Join(filepath.Dir(filepath.Dir(config)), "answered"), nil, 0o600); err != nil {
			return err
		}
		return stream.SendMsg(&emptypb.Empty{})
	}))
	go s.Serve(l) //nolint:errcheck // until it is stopped
	return s.Stop
}

// machine is one whose programs only wait.
func machine(t *testing.T) *Machine {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return &Machine{Dir: filepath.Join(dir, "kube"), Kubelet: filepath.Join(dir, "kubelet"), Run: filepath.Join(dir, "run"), Program: program, Volumes: program, Pause: program, Shim: "/bin/true", ShimEnv: "A=1", Groups: "strata-kube-test-" + strconv.Itoa(os.Getpid()), Log: slog.New(slog.DiscardHandler)}
}

func parts(t *testing.T, at netip.AddrPort) (*Control, *Worker) {
	t.Helper()
	set, err := authority.New("one")
	if err != nil {
		t.Fatal(err)
	}
	c := &Control{ID: "c1", Name: "one", Address: at, Pods: []netip.Prefix{netip.MustParsePrefix("10.100.0.0/16")},
		Services: []netip.Prefix{netip.MustParsePrefix("10.254.0.0/16")}, EtcdPort: 12379, Authorities: *set}
	issue := func(l authority.Leaf) authority.Pair {
		p, err := set.Cluster.Issue(l)
		if err != nil {
			t.Fatal(err)
		}
		return *p
	}
	w := &Worker{ID: "c1", Node: "node-1", Address: at.Addr(), URL: c.URL(), CA: set.Cluster.Cert, Kubelet: issue(KubeletLeaf("node-1")), Serving: issue(ServingLeaf("node-1", at.Addr())),
		Proxy: issue(ProxyLeaf()), Pods: c.Pods, DNS: c.DNSIP()}
	return c, w
}

// running lists the programs of a part that run.
func running(m *Machine, part string, names ...string) (out []string) {
	k := &process.Keeper{Dir: filepath.Join(m.Dir, "c1", part)}
	for _, n := range names {
		if k.Running(n) {
			out = append(out, n)
		}
	}
	return out
}

var (
	controlPrograms = []string{etcdProgram, apiserverProgram, managerProgram, schedulerProgram, metricsProgram, volumesName}
	workerPrograms  = []string{containerdProgram, kubeletProgram, proxyProgram}
)

// TestKeepAndRemove has both parts run, takes one, and then the other.
func TestKeepAndRemove(t *testing.T) {
	m, ctx := machine(t), t.Context()
	t.Cleanup(func() {
		if err := m.Remove(context.Background(), "c1"); err != nil {
			t.Error(err)
		}
	})
	cleanup := filepath.Join(t.TempDir(), "cleanup")
	t.Setenv(cleanupEnv, cleanup) // not passed on to programs that go on
	c, w := parts(t, netip.MustParseAddrPort("127.0.0.1:6443"))
	if err := m.Keep(ctx, "c1", c, w); err != nil {
		t.Fatal(err)
	}
	if got := running(m, controlDir, controlPrograms...); !reflect.DeepEqual(got, controlPrograms) {
		t.Errorf("of the control plane there run %v", got)
	}
	if got := running(m, workerDir, workerPrograms...); !reflect.DeepEqual(got, workerPrograms) {
		t.Errorf("of the worker there run %v", got)
	}
	if ids, err := m.Clusters(); err != nil || !reflect.DeepEqual(ids, []string{"c1"}) {
		t.Errorf("there are %v, %v", ids, err)
	}
	containerd, err := os.Stat(filepath.Join(m.Dir, "c1", workerDir, "answered"))
	kubelet, err2 := os.Stat(filepath.Join(m.Dir, "c1", workerDir, kubeletProgram, "log"))
	if err := errors.Join(err, err2); err != nil || kubelet.ModTime().Before(containerd.ModTime()) {
		t.Errorf("kubelet has started before containerd answered, %v", err)
	}
	if to, err := os.Readlink(filepath.Join(m.Dir, "c1", workerDir, credentialsBin, credentials.Program)); err != nil || to != m.Shim {
		t.Errorf("kubelet's plugin is %s, %v", to, err)
	}
	pids := func() string {
		raw, err := filepath.Glob("/proc/[0-9]*/cwd")
		if err != nil {
			t.Fatal(err)
		}
		out := ""
		for _, l := range raw {
			if at, err := os.Readlink(l); err == nil && at == filepath.Join(m.Dir, "c1", controlDir, etcdProgram) {
				out += l + " "
			}
		}
		return out
	}
	before := pids()
	if err := m.Keep(ctx, "c1", c, w); err != nil || pids() != before {
		t.Errorf("a repetition starts programs anew: %s, then %s, %v", before, pids(), err)
	}
	c.Generation++
	if err := m.Keep(ctx, "c1", c, w); err != nil || pids() == before {
		t.Errorf("another generation does not start programs anew: %v", err)
	}
	if err := m.Keep(ctx, "c1", c, nil); err != nil {
		t.Fatal(err)
	}
	if got := running(m, workerDir, workerPrograms...); len(got) > 0 || len(running(m, controlDir, controlPrograms...)) != len(controlPrograms) {
		t.Errorf("after the worker's end there run %v", got)
	}
	if raw, err := os.ReadFile(cleanup); err != nil || string(raw) != "kube-proxy --cleanup" {
		t.Errorf("the rules of services: %q, %v", raw, err)
	}
	if err := m.Remove(ctx, "c1"); err != nil {
		t.Fatal(err)
	}
	if ids, err := m.Clusters(); err != nil || len(ids) > 0 || len(running(m, controlDir, controlPrograms...)) > 0 {
		t.Errorf("after the end there are %v, %v", ids, err)
	}
	if err := m.Remove(ctx, "c1"); err != nil {
		t.Errorf("removed again: %v", err)
	}
}

// TestObserve asks an API, which demands the administrator's certificate.
func TestObserve(t *testing.T) {
	m, ctx := machine(t), t.Context()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c, _ := parts(t, netip.MustParseAddrPort(l.Addr().String()))
	p := &plane{Control: c, dir: filepath.Join(m.Dir, c.ID, controlDir)}
	if err := p.write(); err != nil {
		t.Fatal(err)
	}
	ready, deleted, applied := false, []string{}, []string{}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		if names := r.TLS.PeerCertificates; len(names) == 0 || names[0].Subject.CommonName != "strata-admin" {
			w.WriteHeader(http.StatusUnauthorized)
		} else if !ready {
			http.Error(w, "etcd failed", http.StatusInternalServerError)
		}
	})
	mux.HandleFunc("PATCH /", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("fieldManager") == "" || r.Header.Get("Content-Type") != "application/apply-patch+yaml" {
			w.WriteHeader(http.StatusUnsupportedMediaType)
			return
		}
		applied = append(applied, r.URL.Path)
		w.WriteHeader(http.StatusCreated)
	})
	mux.HandleFunc("GET /version", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"gitVersion":"v1.37.0"}`) })
	mux.HandleFunc("DELETE /api/v1/nodes/{name}", func(w http.ResponseWriter, r *http.Request) {
		deleted = append(deleted, r.PathValue("name"))
		w.WriteHeader(http.StatusNotFound)
	})
	mux.HandleFunc("GET /api/v1/nodes", func(w http.ResponseWriter, _ *http.Request) {
		condition := func(status string) []any {
			return []any{map[string]string{"type": "Ready", "status": status, "reason": "KubeletNotReady", "message": "no network"}}
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"items": []any{
			map[string]any{"metadata": map[string]string{"name": "a"}, "status": map[string]any{"conditions": condition("True")}},
			map[string]any{"metadata": map[string]string{"name": "b"}, "status": map[string]any{"conditions": condition("False")}},
			map[string]any{"metadata": map[string]string{"name": "c"}}}})
	})
	pair, err := tls.LoadX509KeyPair(p.pki("apiserver.crt"), p.pki("apiserver.key"))
	if err != nil {
		t.Fatal(err)
	}
	srv := &httptest.Server{Listener: l, Config: &http.Server{Handler: mux, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)}, TLS: &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequestClientCert}}
	srv.StartTLS()
	defer srv.Close()
	if _, err := m.Observe(ctx, c, nil); err == nil {
		t.Error("an API that is not ready is taken for ready")
	}
	ready = true
	s, err := m.Observe(ctx, c, []string{"gone"})
	if err != nil {
		t.Fatal(err)
	}
	want := &State{Version: "v1.37.0", Nodes: []Node{{Name: "a", Ready: true}, {Name: "b", Why: "KubeletNotReady no network"}, {Name: "c", Why: "it has not said that it is ready"}}}
	if !reflect.DeepEqual(s, want) || !reflect.DeepEqual(deleted, []string{"gone"}) {
		t.Errorf("it is %+v; deleted: %v", s, deleted)
	}
	first := slices.Clone(applied)
	for _, path := range []string{"/apis/apps/v1/namespaces/kube-system/deployments/coredns", "/api/v1/namespaces/kube-system/services/kube-dns", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/strata:kubelet-clients",
		"/apis/rbac.authorization.k8s.io/v1/clusterroles/strata:policies", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/strata:policies",
		"/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/strata:admin", "/apis/apiregistration.k8s.io/v1/apiservices/v1beta1.metrics.k8s.io"} {
		if !slices.Contains(first, path) {
			t.Errorf("the cluster was given %v, not %s", first, path)
		}
	}
	if _, err := m.Observe(ctx, c, nil); err != nil || len(applied) != len(first) {
		t.Errorf("it was given again: %v, %v", applied[len(first):], err)
	}
	c.Services = []netip.Prefix{netip.MustParsePrefix("10.96.0.0/16")}
	if _, err := m.Observe(ctx, c, nil); err != nil || len(applied) != 2*len(first) {
		t.Errorf("what has changed was not given: %v, %v", applied[len(first):], err)
	}
	other, _ := parts(t, c.Address)
	c.Authorities = other.Authorities
	if _, err := m.Observe(ctx, c, nil); err == nil {
		t.Error("an API of another authority is believed")
	}
}
