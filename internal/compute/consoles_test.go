package compute

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/coder/websocket"
)

// proxied serves the consoles too, and gives the address of an issued URL there.
func (c *client) proxied(issued string) string {
	c.t.Helper()
	srv := httptest.NewServer(c.svc.Consoles().Handler())
	c.t.Cleanup(srv.Close)
	u, err := url.Parse(issued)
	if err != nil {
		c.t.Fatal(err)
	}
	if path := u.Query().Get("path"); path != "" {
		return srv.URL + "/" + path
	}
	return srv.URL + u.RequestURI()
}

func (c *client) remote(protocol, kind, id string) string {
	c.t.Helper()
	a := c.do("member@2.6", "POST", "/servers/"+id+"/remote-consoles", `{"remote_console":{"protocol":"`+protocol+`","type":"`+kind+`"}}`).want(200)
	return a.body["remote_console"].(map[string]any)["url"].(string)
}

func dial(ctx context.Context, address, origin string) (*websocket.Conn, *http.Response, error) {
	h := http.Header{}
	if origin != "" {
		h.Set("Origin", origin)
	}
	return websocket.Dial(ctx, address, &websocket.DialOptions{HTTPHeader: h, Subprotocols: []string{"binary"}})
}

func TestConsoles(t *testing.T) {
	c := newClient(t)
	id := c.server("hero", "")
	var open []net.Conn
	for _, k := range []struct{ protocol, kind, greets string }{{"vnc", "novnc", "RFB 003.008\n"}, {"serial", "serial", "hero login: "}} {
		at := c.proxied(c.remote(k.protocol, k.kind, id))
		ws, resp, err := dial(t.Context(), at, "")
		if err != nil {
			t.Fatal(err)
		}
		if resp.Header.Get("Sec-WebSocket-Protocol") != "binary" {
			t.Errorf("%s: subprotocol %q", k.kind, resp.Header.Get("Sec-WebSocket-Protocol"))
		}
		both := websocket.NetConn(t.Context(), ws, websocket.MessageBinary)
		got := make([]byte, len(k.greets))
		if _, err := io.ReadFull(both, got); err != nil || string(got) != k.greets {
			t.Errorf("%s: %q, %v", k.kind, got, err)
		}
		if _, err := both.Write([]byte("echo")); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(both, got[:4]); err != nil || string(got[:4]) != "echo" {
			t.Errorf("%s: %q, %v", k.kind, got[:4], err)
		}
		open = append(open, both)
	}
	c.svc.Consoles().Close() // as when the program stops
	for _, both := range open {
		if _, err := both.Read(make([]byte, 1)); err == nil {
			t.Error("a session outlives the proxy")
		}
	}
}

func TestConsoleRefused(t *testing.T) {
	c := newClient(t)
	id := c.server("hero", "")
	at := c.proxied(c.remote("serial", "serial", id))
	host, _ := url.Parse(at)
	for _, k := range []struct {
		name, at, origin string
		want             int
	}{
		{"no token", strings.Split(at, "?")[0], "", 403},
		{"wrong token", at + "x", "", 403},
		{"another site", at, "http://evil.example", 403},
		{"another scheme", at, "https://" + host.Host, 403},
		{"our own page", at, "http://" + host.Host, 101},
		{"our own page behind another port", at, "http://" + host.Hostname(), 101},
	} {
		ws, resp, err := dial(t.Context(), k.at, k.origin)
		if resp == nil || resp.StatusCode != k.want {
			t.Errorf("%s: %v, %v", k.name, resp, err)
		}
		if ws != nil {
			ws.CloseNow()
		}
	}
	c.do("other@2.6", "POST", "/servers/"+id+"/remote-consoles", `{"remote_console":{"protocol":"vnc","type":"novnc"}}`).want(404)
	c.do("reader@2.6", "POST", "/servers/"+id+"/remote-consoles", `{"remote_console":{"protocol":"vnc","type":"novnc"}}`).want(403)
	c.do("member@2.6", "POST", "/servers/"+id+"/remote-consoles", `{"remote_console":{"protocol":"spice","type":"spice-html5"}}`).want(400)
	c.do("member@2.6", "POST", "/servers/"+id+"/remote-consoles", `{"remote_console":{"protocol":"vnc","type":"serial"}}`).want(400)
	c.do("member@2.5", "POST", "/servers/"+id+"/remote-consoles", `{"remote_console":{"protocol":"vnc","type":"novnc"}}`).want(404)
	c.do("member", "POST", "/servers/"+id+"/action", `{"os-getVNCConsole":{"type":"novnc"}}`).want(200)
	c.do("member@2.6", "POST", "/servers/"+id+"/action", `{"os-getVNCConsole":{"type":"novnc"}}`).want(400)

	secret := host.Query().Get("token")
	got := c.do("admin@2.31", "GET", "/os-console-auth-tokens/"+secret, "").want(200).body["console"].(map[string]any)
	if got["instance_uuid"] != id || got["host"] != "node-1" {
		t.Errorf("token: %v", got)
	}
	c.do("admin", "GET", "/os-console-auth-tokens/"+secret, "").want(401)
	c.do("admin@2.31", "GET", "/os-console-auth-tokens/nothing", "").want(404)
	c.do("member@2.31", "GET", "/os-console-auth-tokens/"+secret, "").want(403)

	c.do("member", "POST", "/servers/"+id+"/action", `{"os-stop":null}`).want(202)
	c.settled()
	c.do("member@2.6", "POST", "/servers/"+id+"/remote-consoles", `{"remote_console":{"protocol":"vnc","type":"novnc"}}`).want(409)
	c.do("member", "DELETE", "/servers/"+id, "").want(204)
	if _, resp, err := dial(t.Context(), at, ""); err == nil || resp.StatusCode != 403 {
		t.Errorf("the console of a deleted server: %v, %v", resp, err)
	}
	if err := c.svc.consoles.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := c.svc.consoles.Find(secret); err == nil {
		t.Error("the token is still there")
	}
}

func TestInsight(t *testing.T) {
	c := newClient(t)
	id := c.server("hero", "")
	c.do("member", "GET", "/servers/"+id+"/diagnostics", "").want(403)
	old := c.do("admin", "GET", "/servers/"+id+"/diagnostics", "").want(200).body
	for _, key := range []string{"cpu0_time", "vda_read", "vda_write_req", "vnet0_rx", "vnet0_tx_drop", "memory"} {
		if _, ok := old[key].(float64); !ok {
			t.Errorf("no %s in %v", key, old)
		}
	}
	v := c.do("admin@2.48", "GET", "/servers/"+id+"/diagnostics", "").want(200).body
	nic := v["nic_details"].([]any)[0].(map[string]any)
	if v["state"] != "running" || v["num_nics"] != 1.0 || nic["rx_packets"] != 1.0 || v["memory_details"].(map[string]any)["maximum"] == 0.0 {
		t.Errorf("diagnostics: %v", v)
	}
	if got := c.do("reader@2.78", "GET", "/servers/"+id+"/topology", "").want(200).body; len(got["nodes"].([]any)) != 0 || got["pagesize_kb"] != nil {
		t.Errorf("topology: %v", got)
	}
	c.do("reader@2.77", "GET", "/servers/"+id+"/topology", "").want(404)

	event := func(server, name, more string) string {
		return `{"server_uuid":"` + server + `","name":"` + name + `"` + more + `}`
	}
	const nobody = "99999999-9999-4999-8999-999999999999"
	c.do("member", "POST", "/os-server-external-events", `{"events":[`+event(id, "network-changed", "")+`]}`).want(403)
	c.do("admin", "POST", "/os-server-external-events", `{"events":[`+event(nobody, "network-changed", "")+`]}`).want(404)
	c.do("admin", "POST", "/os-server-external-events", `{"events":[`+event(id, "volume-extended", `,"tag":"x"`)+`]}`).want(400)
	c.do("admin", "POST", "/os-server-external-events", `{"events":[`+event(id, "network-changed", "")+`]}`).want(200)
	got := c.do("admin@2.51", "POST", "/os-server-external-events", `{"events":[`+event(id, "network-changed", "")+`,`+event(nobody, "network-changed", "")+`,`+event(id, "volume-extended", "")+`]}`).want(207)
	var codes []any
	for _, e := range got.body["events"].([]any) {
		codes = append(codes, e.(map[string]any)["code"])
	}
	if len(codes) != 3 || codes[0] != 200.0 || codes[1] != 404.0 || codes[2] != 400.0 {
		t.Errorf("codes: %v", codes)
	}
	c.do("member", "POST", "/servers/"+id+"/action", `{"os-stop":null}`).want(202)
	c.settled()
	c.do("admin", "GET", "/servers/"+id+"/diagnostics", "").want(409)
}
