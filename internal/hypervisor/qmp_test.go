package hypervisor

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// fakeQEMU answers one connection: each command goes to answer, which writes lines.
func fakeQEMU(t *testing.T, answer func(command string, id int, say func(string))) string {
	t.Helper()
	dir := t.TempDir()
	l, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		fmt.Fprintln(c, `{"QMP": {"version": {}, "capabilities": []}}`)
		for r := bufio.NewScanner(c); r.Scan(); {
			var req struct {
				Execute string
				ID      int
			}
			if json.Unmarshal(r.Bytes(), &req) != nil {
				return
			}
			if req.Execute == "qmp_capabilities" {
				fmt.Fprintf(c, `{"return": {}, "id": %d}`+"\n", req.ID)
				continue
			}
			if req.Execute == "quit" {
				return
			}
			answer(req.Execute, req.ID, func(s string) { fmt.Fprintln(c, s) })
		}
	}()
	return dir
}

func TestMonitorMatchesRepliesByID(t *testing.T) {
	var held []func()
	dir := fakeQEMU(t, func(command string, id int, say func(string)) {
		say(`{"event": "NOISE", "data": {}}`)
		held = append(held, func() { say(fmt.Sprintf(`{"return": %q, "id": %d}`, command, id)) })
		if len(held) == 3 { // in the opposite order
			held[2]()
			held[1]()
			held[0]()
		}
	})
	var mu sync.Mutex
	noises := 0
	m, err := dialMonitor(t.Context(), dir, "s", func(e qmpEvent) {
		mu.Lock()
		defer mu.Unlock()
		if e.Name == "NOISE" {
			noises++
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	defer m.close()
	var group sync.WaitGroup
	for _, c := range []string{"one", "two", "three"} {
		group.Go(func() {
			var got string
			if err := m.run(t.Context(), c, nil, &got); err != nil || got != c {
				t.Errorf("%s got %q, %v", c, got, err)
			}
		})
	}
	group.Wait()
	mu.Lock()
	defer mu.Unlock()
	if noises != 3 {
		t.Errorf("%d events, want 3", noises)
	}
}

func TestMonitorErrors(t *testing.T) {
	dir := fakeQEMU(t, func(command string, id int, say func(string)) {
		if command == "refused" {
			say(fmt.Sprintf(`{"error": {"class": "GenericError", "desc": "no such device"}, "id": %d}`, id))
		}
	})
	m, err := dialMonitor(t.Context(), dir, "s", func(qmpEvent) {})
	if err != nil {
		t.Fatal(err)
	}
	defer m.close()
	var refused *qmpError
	if err := m.run(t.Context(), "refused", nil, nil); !errors.As(err, &refused) || refused.Desc != "no such device" {
		t.Errorf("a refusal is %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := m.run(ctx, "silence", nil, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a command without reply ends with %v", err)
	}
	if err := m.run(t.Context(), "quit", nil, nil); !errors.Is(err, errMonitorClosed) {
		t.Errorf("a command on a closing monitor ends with %v", err)
	}
	if err := m.run(t.Context(), "late", nil, nil); !errors.Is(err, errMonitorClosed) {
		t.Errorf("a command on a closed monitor ends with %v", err)
	}
}
