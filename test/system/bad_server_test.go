package system

import (
	"encoding/binary"
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/servers"
)

// TestImpossibleServers asks for servers that no node can run: each ends in ERROR
// with a fault that says why, keeps nothing, and can be deleted.
func TestImpossibleServers(t *testing.T) {
	w := newWorld(t)
	w.limit(t, "compute", `"ram":-1,"cores":-1,"instances":-1`)
	for _, f := range []string{`"id":"huge","name":"huge","vcpus":1,"ram":1000000000,"disk":1`, `"id":"wide","name":"wide","vcpus":100000,"ram":64,"disk":1`,
		`"id":"deep","name":"deep","vcpus":1,"ram":64,"disk":100000000`, `"id":"open","name":"open","vcpus":1,"ram":64,"disk":0`} {
		if a := ask(t, w.admin.compute, "POST", "flavors", `{"flavor":{`+f+`}}`); a.status != 200 {
			t.Fatalf("making flavor %s: %d %s", f, a.status, a.body)
		}
	}
	plain := qemuImage(t, "create", "-q", "-f", "qcow2", "FILE", "10M")
	w.ids["LARGE"] = w.image(t, "qcow2", sized(plain, 1<<62))
	corrupt := append([]byte(nil), plain...)
	binary.BigEndian.PutUint64(corrupt[40:], 0x12345) // the first table is not where a cluster begins
	w.ids["CORRUPT"] = w.image(t, "qcow2", corrupt)
	of := func(flavor, image string) string {
		return strings.NewReplacer(`"42"`, `"`+flavor+`"`, "$IMAGE", image).Replace(server(""))
	}
	w.refused(t, w.user, []bad{
		{"image larger than the flavor", "compute", "POST", "servers", strings.Replace(on(`"none"`), "$IMAGE", "$LARGE", 1), 400, "Flavor's disk is too small for requested image"},
		{"as much disk as an image of 4 EiB asks for", "compute", "POST", "servers", of("open", "$LARGE"), 403, "flavors with zero disk"},
	})
	w.unchanged(t, func() {
		for _, x := range []struct{ name, body, fault string }{
			{"memory", of("huge", "$IMAGE"), "No valid host was found"},
			{"CPUs", of("wide", "$IMAGE"), "No valid host was found"},
			{"disk", of("deep", "$IMAGE"), "No valid host was found"},
			{"corrupt image", of("42", "$CORRUPT"), "disk"},
			{"address of another network", on(`[{"uuid":"$NETWORK","fixed_ip":"192.0.2.9"}]`), "192.0.2.9"},
		} {
			t.Run(x.name, func(t *testing.T) {
				id := w.boot(t, x.body)
				s := w.user.awaitServer(t, id, "ERROR")
				if s.Fault.Code != 500 || !strings.Contains(s.Fault.Message, x.fault) || strings.Contains(s.Fault.Message, w.c.Dir) {
					t.Errorf("the fault is %+v, want %q", s.Fault, x.fault)
				}
				if n := taps(t, w.c); n != 0 || len(qemus(t, w.c)) != 0 {
					t.Errorf("%d taps and QEMU processes %v are left", n, qemus(t, w.c))
				}
				if a := ask(t, w.user.network, "GET", "ports?device_id="+id, ""); string(a.body) != `{"ports":[]}` {
					t.Errorf("ports are left: %s", a.body)
				}
				assertAllocations(t, w.admin, 0)
				w.remove(t, id)
			})
		}
	})
}

// TestMisfortune takes one server, whose image cannot boot, through what goes
// wrong in a server's life.
func TestMisfortune(t *testing.T) {
	w := newWorld(t)
	w.unchanged(t, func() {
		w.ids["BRIEF"] = w.image(t, "raw", []byte("no system either"))
		id := w.boot(t, strings.Replace(server(""), "$IMAGE", "$BRIEF", 1))
		w.ids["SERVER"] = id
		w.user.awaitServer(t, id, "ACTIVE") // a boot loader that finds nothing is still a running machine
		w.refused(t, w.user, []bad{
			w.wrongState("os-start", "start"), w.wrongState("unpause", "unpause"), w.wrongState("resume", "resume"),
			{"reboot of no kind", "compute", "POST", "servers/$SERVER/action", `{"reboot":{"type":"WARM"}}`, 400, ""},
			{"port in use", "compute", "POST", "servers", on(`[{"port":"` + w.portOf(t, id) + `"}]`), 409, "still in use"},
			{"network in use", "network", "DELETE", "networks/$NETWORK", "", 409, "NetworkInUse"},
		})
		t.Run("killed QEMU", func(t *testing.T) {
			w.killQEMU(t, id)
			w.user.awaitServer(t, id, "SHUTOFF")
			w.act(t, `{"pause":null}`, 409)
			w.act(t, `{"os-start":null}`, 202)
			w.user.awaitServer(t, id, "ACTIVE")
		})
		t.Run("deleted image", w.deletedImage)
		w.remove(t, id)
		w.act(t, `{"os-stop":null}`, 404)
		w.refused(t, w.user, []bad{{"delete again", "compute", "DELETE", "servers/$SERVER", "", 404, id}})
	})
}

func (w *world) wrongState(action, method string) bad {
	return bad{action, "compute", "POST", "servers/$SERVER/action", `{"` + action + `":null}`, 409, "Cannot '" + method + "' instance $SERVER while it is in vm_state active"}
}

// act does something to $SERVER.
func (w *world) act(t *testing.T, body string, status int) {
	t.Helper()
	if a := ask(t, w.user.compute, "POST", w.fill("servers/$SERVER/action"), body); a.status != status {
		t.Errorf("%s: %d %s, want %d", body, a.status, a.body, status)
	}
}

// deletedImage reboots a server whose image is gone: its disk needs it no more.
func (w *world) deletedImage(t *testing.T) {
	if a := ask(t, w.user.image, "DELETE", w.fill("images/$BRIEF"), ""); a.status != 204 {
		t.Fatalf("deleting the image: %d %s", a.status, a.body)
	}
	w.act(t, `{"reboot":{"type":"HARD"}}`, 202)
	await(t, "the reboot", func() bool {
		s := must[*servers.Server](t)(servers.Get(t.Context(), w.user.compute, w.ids["SERVER"]).Extract())
		return s.Status == "ACTIVE" && s.TaskState == ""
	})
	if n := len(qemus(t, w.c)); n != 1 {
		t.Errorf("%d QEMU processes run", n)
	}
}

// TestDeleteWhileBuilding deletes servers at any moment of their creation.
func TestDeleteWhileBuilding(t *testing.T) {
	w := newWorld(t)
	w.unchanged(t, func() {
		w.boot(t, server(`,"min_count":3`))
		var v struct{ Servers []struct{ ID string } }
		a := ask(t, w.user.compute, "GET", "servers", "")
		if err := json.Unmarshal(a.body, &v); err != nil || len(v.Servers) != 3 {
			t.Fatalf("being built: %s", a.body)
		}
		w.remove(t, v.Servers[0].ID, v.Servers[1].ID, v.Servers[2].ID)
	})
}

func (w *world) portOf(t *testing.T, server string) string {
	t.Helper()
	s := stack{clients: w.user, server: server}
	return s.portOf(t)
}

// killQEMU ends the process of a server with SIGKILL.
func (w *world) killQEMU(t *testing.T, id string) {
	t.Helper()
	links := must[[]string](t)(filepath.Glob("/proc/[0-9]*/cwd"))
	for _, l := range links {
		if dir, err := os.Readlink(l); err != nil || dir != filepath.Join(w.c.Dir, "instances", id) {
			continue
		}
		pid := must[int](t)(strconv.Atoi(strings.Split(l, "/")[2]))
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Fatalf("no QEMU runs for %s", id)
}
