package system

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// TestLinks links containers on the default bridge.
func TestLinks(t *testing.T) {
	d := newDock(t)
	wait := []string{"busybox", "sh", "-c", "while :; do sleep 0.1; done"}
	d.must(append([]string{"run", "-d", "--name", "db", "--hostname", "dbhost", "--expose", "5432", "-e", "PASSWORD=gordon"}, wait...)...)
	d.must(append([]string{"run", "-d", "--name", "web", "--link", "db:store"}, wait...)...)
	addr := d.inspect("db", ".NetworkSettings.IPAddress")
	hosts := func() string { return d.must("exec", "web", "cat", "/etc/hosts") }
	if got := hosts(); !strings.Contains(got, addr+"\tstore dbhost db") {
		t.Errorf("/etc/hosts: %s", got)
	}
	for _, where := range []string{d.must("exec", "web", "env"), d.must("run", "--rm", "--link", "db:store", "--name", "other", "busybox", "env")} {
		for _, want := range []string{"STORE_PORT=tcp://" + addr + ":5432\n", "STORE_PORT_5432_TCP_ADDR=" + addr + "\n", "STORE_ENV_PASSWORD=gordon", "/store"} {
			if !strings.Contains(where, want) {
				t.Errorf("the environment has no %s: %s", want, where)
			}
		}
	}
	if got := d.inspect("web", "json .HostConfig.Links"); got != `["/db:/web/store"]` {
		t.Errorf("links: %s", got)
	}
	if got := d.must("ps", "--no-trunc", "--format", "{{.Names}}", "--filter", "name=^/db"); got != "db,web/store" {
		t.Errorf("names: %s", got)
	}
	d.linkMoves(wait, hosts)
	d.linkRefusals(wait)
}

// linkMoves has the other end come back under another address and another name.
func (d *dock) linkMoves(wait []string, hosts func() string) {
	t := d.t
	d.must("stop", "-t", "0", "db")
	d.must(append([]string{"run", "-d", "--name", "taker"}, wait...)...)
	d.must("start", "db")
	moved := d.inspect("db", ".NetworkSettings.IPAddress")
	if got := hosts(); !strings.Contains(got, moved+"\tstore dbhost db") || strings.Count(got, "store") != 1 {
		t.Errorf("/etc/hosts after the other's restart, now %s: %s", moved, got)
	}
	d.must("rename", "db", "base")
	d.must("restart", "-t", "0", "web")
	if got := hosts(); !strings.Contains(got, moved+"\tstore dbhost base") {
		t.Errorf("/etc/hosts after the other's new name: %s", got)
	}
	d.cloud.Kill()
	d.cloud.Up()
	if got := d.inspect("web", "json .HostConfig.Links"); got != `["/base:/web/store"]` {
		t.Errorf("links after a restart of the engine: %s", got)
	}
}

func (d *dock) linkRefusals(wait []string) {
	t := d.t
	d.must("network", "create", "apart")
	d.must(append([]string{"run", "-d", "--name", "far", "--network", "apart"}, wait...)...)
	d.must("create", "--name", "idle", "busybox")
	for args, want := range map[string]string{
		"--link nothing:x":             "could not get container for nothing",
		"--link far:x":                 "Cannot link to /far, as it does not belong to the default network",
		"--link idle:x":                "Cannot link to a non running container: /idle AS /",
		"--network host --link base:x": "links",
	} {
		if r := d.run(nil, append(append([]string{"run", "--rm"}, strings.Fields(args)...), "busybox", "true")...); r.code != 125 || !strings.Contains(r.errs, want) {
			t.Errorf("%s: %d %s", args, r.code, r.errs)
		}
	}
	if r := d.run(nil, "rm", "--link", "base"); r.code == 0 || !strings.Contains(r.errs, "cannot remove the default link name") {
		t.Errorf("rm --link of a container: %+v", r)
	}
	d.must("rm", "--link", "web/store")
	if got := d.inspect("web", "json .HostConfig.Links") + d.must("exec", "web", "cat", "/etc/hosts"); strings.Contains(got, "store") {
		t.Errorf("after its removal: %s", got)
	}
	if code, _ := d.ask(http.MethodDelete, fmt.Sprintf("/v1.50/containers/%s?link=1", "web/store"), nil, nil); code != http.StatusNotFound {
		t.Errorf("a link that is gone: %d", code)
	}
	d.must("start", "idle")
}
