package system

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/strata-cloud/strata/internal/region"
)

func (d *dock) dial(ctx context.Context) (net.Conn, error) {
	return (&net.Dialer{}).DialContext(ctx, "unix", filepath.Join(d.cloud.Dir, region.DockerSocket))
}

// socket attaches over a WebSocket.
func (d *dock) socket(path string, head http.Header) (*websocket.Conn, int, error) {
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return d.dial(ctx) }}}
	ws, res, err := websocket.Dial(d.t.Context(), "ws://docker"+path, &websocket.DialOptions{HTTPClient: client, HTTPHeader: head})
	code := 0
	if res != nil {
		code = res.StatusCode
	}
	return ws, code, err
}

// TestAttachSocket speaks with containers over WebSockets.
func TestAttachSocket(t *testing.T) {
	d := newDock(t)
	for _, c := range []struct {
		version string
		kind    websocket.MessageType
		query   string
	}{
		{"1.50", websocket.MessageBinary, "stream=1&stdin=1&stdout=1&stderr=1"},
		{"1.41", websocket.MessageBinary, "stream=1"},
		{"1.27", websocket.MessageText, "stream=1"},
	} {
		id := d.must("create", "-i", "busybox", "sh", "-c", "read a; echo got $a; echo err >&2; read b; exit 3")
		ws, code, err := d.socket("/v"+c.version+"/containers/"+id+"/attach/ws?"+c.query, nil)
		if err != nil {
			t.Fatalf("%s: %d %v", c.version, code, err)
		}
		d.must("start", id)
		if err := ws.Write(t.Context(), websocket.MessageBinary, []byte("word\n")); err != nil {
			t.Fatal(err)
		}
		got := ""
		for !strings.Contains(got, "got word\n") || !strings.Contains(got, "err\n") {
			kind, data, err := ws.Read(t.Context())
			if err != nil || kind != c.kind {
				t.Fatalf("%s: %v after %q: %v", c.version, kind, got, err)
			}
			got += string(data)
		}
		if err := ws.Write(t.Context(), websocket.MessageText, []byte("more\n")); err != nil {
			t.Fatal(err)
		}
		if _, _, err := ws.Read(t.Context()); websocket.CloseStatus(err) != websocket.StatusNormalClosure {
			t.Errorf("%s: the end of the container: %v", c.version, err)
		}
		if got := d.must("wait", id); got != "3" {
			t.Errorf("%s: exit code %s", c.version, got)
		}
		ws.CloseNow()
	}
	if _, code, err := d.socket("/v1.50/containers/nothing/attach/ws", nil); err == nil || code != http.StatusNotFound {
		t.Errorf("of no container: %d %v", code, err)
	}
	id := d.must("create", "busybox")
	if _, code, err := d.socket("/v1.50/containers/"+id+"/attach/ws?stream=1", http.Header{"Origin": {"https://elsewhere.example"}}); err == nil || code != http.StatusForbidden {
		t.Errorf("from another site's page: %d %v", code, err)
	}
	if code, _ := d.ask("GET", "/v1.50/containers/"+id+"/attach/ws?stream=1", nil, nil); code != http.StatusUpgradeRequired {
		t.Errorf("without an upgrade: %d", code)
	}
}

// attach attaches to a container's output, of which nothing is read yet.
func (d *dock) attach(id string) (net.Conn, *bufio.Reader) {
	d.t.Helper()
	conn := must[net.Conn](d.t)(d.dial(d.t.Context()))
	d.t.Cleanup(func() { conn.Close() })
	fmt.Fprintf(conn, "POST /v1.50/containers/%s/attach?stream=1&stdout=1 HTTP/1.1\r\nHost: docker\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 0\r\n\r\n", id)
	br := bufio.NewReader(conn)
	if line := must[string](d.t)(br.ReadString('\n')); !strings.Contains(line, "101") {
		d.t.Fatalf("attach: %s", line)
	}
	for line := "-"; line != "\r\n"; {
		line = must[string](d.t)(br.ReadString('\n'))
	}
	return conn, br
}

// output is what frames carry until they end.
func output(br *bufio.Reader) (out []byte, err error) {
	for {
		var head [8]byte
		if _, err := io.ReadFull(br, head[:]); err != nil {
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return out, err
		}
		chunk := make([]byte, binary.BigEndian.Uint32(head[4:]))
		if _, err := io.ReadFull(br, chunk); err != nil {
			return out, err
		}
		out = append(out, chunk...)
	}
}

// TestSlowClient attaches and does not read: the container waits, others do not, and in the
// end all that was written has come. A client who goes away is not waited for.
func TestSlowClient(t *testing.T) {
	d := newDock(t)
	const lines = 300_000
	args := []string{"create", "--rm", "--log-opt", "max-size=100k", "--log-opt", "max-file=3", "busybox", "seq", "1", fmt.Sprint(lines)}
	slow, gone := d.must(args...), d.must(args...)
	_, br := d.attach(slow)
	conn, _ := d.attach(gone)
	d.must("start", slow, gone)
	other := d.must("run", "-d", "busybox", "sh", "-c", "while :; do echo tick; sleep 0.1; done")
	d.eventually("another container to go on", func() bool { return strings.Count(d.must("logs", other), "tick") > 10 })
	for _, id := range []string{slow, gone} {
		if got := d.inspect(id, ".State.Running"); got != "true" {
			t.Fatalf("a container has not waited for its client")
		}
	}
	conn.Close()
	d.eventually("the container whose client is gone to end", func() bool { return d.run(nil, "inspect", gone).code != 0 })
	if got := d.inspect(slow, ".State.Running"); got != "true" {
		t.Error("it has not waited any longer")
	}
	got, err := output(br)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for line := range strings.Lines(string(got)) {
		if n++; line != fmt.Sprintf("%d\n", n) {
			t.Fatalf("line %d: %q", n, line)
		}
	}
	if n != lines {
		t.Errorf("%d of %d lines have come", n, lines)
	}
	d.eventually("the container to be removed", func() bool { return d.run(nil, "inspect", slow).code != 0 })
	stuck := d.must("create", "--log-opt", "max-size=100k", "--log-opt", "max-file=1", "busybox", "seq", "1", fmt.Sprint(lines))
	d.attach(stuck)
	d.must("start", stuck)
	begun := time.Now()
	if d.must("rm", "-f", stuck); time.Since(begun) > 5*time.Second {
		t.Errorf("a container that waits for its client was removed after %s", time.Since(begun))
	}
}
