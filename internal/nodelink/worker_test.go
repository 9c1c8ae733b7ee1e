package nodelink

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"os"
	"reflect"
	"testing"
	"time"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/nodeapi"
)

// as is the calling end with a certificate of a kind.
func (w *world) as(name, unit string) *Client {
	w.Helper()
	c, err := DialWorker(w.addr, w.ca.conf(w.T, name, unit), slog.New(slog.DiscardHandler))
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { _ = c.Close() })
	return c
}

// TestWorkerCalls: a worker that is a server is told of itself, and calls nothing else of
// what a node can, with whatever arguments.
func TestWorkerCalls(t *testing.T) {
	w := newWorld(t)
	c := w.as("w1", WorkerUnit)
	if list := <-c.Clusters(t.Context()); len(list) != 1 || list[0].ID != "cluster of w1" {
		t.Errorf("it is to do %+v", list)
	}
	if err := c.ReportClusters(t.Context(), []nodeapi.KubeStatus{{ID: "x"}}); err != nil {
		t.Error(err)
	}
	if p, err := c.PodPort(t.Context(), "c", nodeapi.KubePod{Sandbox: "s", Device: "eth0"}); err != nil || p.ID != "w1 s eth0" {
		t.Errorf("%+v, %v", p, err)
	}
	if raw, err := c.Renew(t.Context(), []byte("csr")); err != nil || string(raw) != "w1 csr" {
		t.Errorf("%q, %v", raw, err)
	}
	if l, err := c.PullLogin(t.Context(), "c"); err != nil || l.Name != "w1" {
		t.Errorf("it pulls with %+v, %v", l, err)
	}
	allowed, all := reflect.TypeFor[WorkerUpstream](), reflect.TypeFor[Upstream]()
	refused := 0
	for i := range all.NumMethod() {
		m := all.Method(i)
		if _, ok := allowed.MethodByName(m.Name); ok {
			continue
		}
		refused++
		var args []any
		for j := 1; j < m.Type.NumIn(); j++ {
			args = append(args, reflect.Zero(m.Type.In(j)).Interface())
		}
		if err := c.stub.call(t.Context(), nil, m.Name, args...); !errs.Is(err, errs.NotImplemented) {
			t.Errorf("%s: %v", m.Name, err)
		}
		if err := follow(t.Context(), c.stub, m.Name, func(any) bool { return true }, args...); !errs.Is(err, errs.NotImplemented) {
			t.Errorf("%s as a stream: %v", m.Name, err)
		}
	}
	if refused < 15 {
		t.Errorf("only %d methods are refused", refused)
	}
	if err := c.ReportClusters(t.Context(), []nodeapi.KubeStatus{{Fault: string(make([]byte, maxOfWorker))}}); err == nil {
		t.Error("a message of any size is taken")
	}
}

// TestWorkerIsNoNode: it is let in by no other protocol, and only while there is such a worker.
func TestWorkerIsNoNode(t *testing.T) {
	w := newWorld(t)
	for _, proto := range []string{Reverse, API, Council} {
		conf := w.ca.conf(t, "w1", WorkerUnit)
		conf.NextProtos = []string{proto}
		raw, err := tls.Dial("tcp", w.addr, conf)
		if err != nil {
			t.Fatal(err)
		}
		_ = raw.SetReadDeadline(time.Now().Add(10 * time.Second))
		if n, err := raw.Read(make([]byte, 1)); n > 0 || err != io.EOF {
			t.Errorf("%s: %d bytes, %v", proto, n, err)
		}
		raw.Close()
	}
	w.mu.Lock()
	if len(w.conns) > 0 {
		t.Errorf("it is a node that can be called: %v", w.conns)
	}
	w.mu.Unlock()
	if err := w.as("w2", WorkerUnit).ReportClusters(t.Context(), nil); !errs.Is(err, errs.Unavailable) && !errs.Is(err, errs.Forbidden) {
		t.Errorf("no worker: %v", err)
	}
	c := w.as("w1", WorkerUnit)
	if err := c.ReportClusters(t.Context(), nil); err != nil {
		t.Error(err)
	}
	w.mu.Lock()
	w.gone["w1"] = true
	w.mu.Unlock()
	if err := c.ReportClusters(t.Context(), nil); !errs.Is(err, errs.Forbidden) { // by the same connection
		t.Errorf("a worker that was removed: %v", err)
	}
}

// TestWorkerConnections: one worker does not use up the port.
func TestWorkerConnections(t *testing.T) {
	w := newWorld(t)
	var open []*tls.Conn
	for range maxConnsOfWorker + 3 {
		conf := w.ca.conf(t, "w1", WorkerUnit)
		conf.NextProtos = []string{Forward}
		raw, err := tls.Dial("tcp", w.addr, conf)
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, raw)
	}
	lasting := 0
	for _, raw := range open {
		_ = raw.SetReadDeadline(time.Now().Add(time.Second))
		if n, err := raw.Read(make([]byte, 1)); n > 0 || errors.Is(err, os.ErrDeadlineExceeded) { // HTTP/2's settings, or silence
			lasting++
		}
	}
	for _, raw := range open {
		raw.Close()
	}
	if lasting != maxConnsOfWorker {
		t.Errorf("%d connections last, not %d", lasting, maxConnsOfWorker)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	c := w.as("w1", WorkerUnit)
	for err := c.ReportClusters(ctx, nil); err != nil; err = c.ReportClusters(ctx, nil) {
		if ctx.Err() != nil {
			t.Fatalf("after they have ended: %v", err)
		}
	}
	resp, err := (&http.Client{Transport: &http.Transport{TLSClientConfig: w.ca.conf(t, "w1", WorkerUnit)}}).Get("https://" + w.addr + "/join")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
}
