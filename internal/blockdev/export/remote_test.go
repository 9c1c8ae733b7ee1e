package export

import (
	"bytes"
	"context"
	"encoding/hex"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/wait"
)

// client is qemu-io as a user of an export; key nil: without TLS.
func (w *world) client(ctx context.Context, addr, user string, key []byte, more string, args ...string) *exec.Cmd {
	w.Helper()
	host, port, err := net.SplitHostPort(addr)
	w.must(err)
	node := "driver=nbd,server.type=inet,server.host=" + host + ",server.port=" + port + ",export=" + Name + more
	if key != nil {
		dir := w.TempDir()
		w.must(os.WriteFile(filepath.Join(dir, keysFile), []byte(user+":"+hex.EncodeToString(key)+"\n"), 0o600))
		args = append(args, "--object", "tls-creds-psk,id=t,endpoint=client,username="+user+",dir="+dir)
		node += ",tls-creds=t"
	}
	return exec.CommandContext(ctx, "qemu-io", append(args, "--image-opts", node)...)
}

func (w *world) try(addr, user string, key []byte, args ...string) error {
	w.Helper()
	ctx, cancel := context.WithTimeout(w.Context(), 20*time.Second)
	defer cancel()
	out, err := w.client(ctx, addr, user, key, "", args...).CombinedOutput()
	w.Logf("as %s: %v %s", user, err, bytes.TrimSpace(out))
	return err
}

func TestServe(t *testing.T) {
	w := newWorld(t, "")
	one, two := bytes.Repeat([]byte{0xa5}, 32), bytes.Repeat([]byte{0x5a}, 32)
	// Clients come from the machine's first address, and the export is at another.
	users := map[string]User{"one": {PSK: one, Addr: "127.0.0.1"}, "two": {PSK: two, Addr: "127.0.0.1"}}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	addr, err := w.m.Serve(ctx, w.driver, w.ref, "127.0.0.2", users)
	w.must(err)
	if _, err := w.m.Ensure(ctx, w.driver, w.ref, w.at); !errs.Is(err, errs.Conflict) {
		t.Errorf("by a socket as well: %v", err)
	}
	write := []string{"-c", "write -P 3 0 64k", "-c", "flush"}
	local, _ := w.m.Reach(w.ref.ID)
	for _, c := range []struct {
		user string
		key  []byte
		ok   bool
	}{{"one", one, true}, {"two", two, true}, {local.User, local.PSK, true}, {"one", two, false}, {"three", one, false}, {"none", nil, false}} {
		if err := w.try(addr, c.user, c.key, write...); (err == nil) != c.ok {
			t.Errorf("as %s: %v, want success %v", c.user, err, c.ok)
		}
	}
	if st, err := os.Stat(filepath.Join(w.m.Dir, w.ref.ID, pskDir)); err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("the key's directory: %v, %v", st.Mode(), err)
	}
	if cmd, err := os.ReadFile("/proc/" + strconv.Itoa(w.pid()) + "/cmdline"); err != nil || strings.Contains(string(cmd), hex.EncodeToString(one)) {
		t.Errorf("a key is on the command line: %q, %v", cmd, err)
	}

	// A daemon that is killed, and one that a new manager finds, keep address and users.
	go w.m.Run(ctx)
	w.must(syscall.Kill(w.pid(), syscall.SIGKILL))
	w.must(wait.Until(ctx, "the export", 20*time.Millisecond, func(context.Context) (bool, error) { return w.try(addr, "one", one, write...) == nil, nil }))
	cancel()
	w.m, err = New(w.m.Config)
	w.must(err)
	w.must(w.m.Adopt(t.Context(), w.driver, w.ref))
	if got := w.m.Users(w.ref.ID); !slices.Equal(got, []string{"one", "two"}) {
		t.Errorf("users %v", got)
	}

	// Who is no user any more loses its connection, and others do not.
	delete(users, "two")
	kept, gone := w.session(addr, "one", one), w.session(addr, "two", two)
	kept.write(true)
	gone.write(true)
	again, err := w.m.Serve(t.Context(), w.driver, w.ref, "127.0.0.2", users)
	w.must(err)
	if again != addr {
		t.Errorf("served at %s, before at %s", again, addr)
	}
	gone.write(false)
	kept.write(true)
	if err := w.try(addr, "two", two, write...); err == nil {
		t.Error("a user that was dropped is let in again")
	}
	w.must(w.m.Revoke(t.Context(), w.ref.ID))
	kept.write(false)
	w.must(w.m.End(t.Context(), w.ref.ID))
	if left, _ := os.ReadDir(w.m.Dir); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// session is a client that stays connected.
type session struct {
	*world
	cmd *exec.Cmd
	in  *os.File
	n   int
}

func (w *world) session(addr, user string, key []byte) *session {
	w.Helper()
	r, in, err := os.Pipe()
	w.must(err)
	s := &session{world: w, in: in, cmd: w.client(w.Context(), addr, user, key, ",reconnect-delay=5")}
	out := must(os.CreateTemp(w.TempDir(), "out"))
	s.cmd.Stdin, s.cmd.Stdout, s.cmd.Stderr = r, out, out
	w.must(s.cmd.Start())
	w.must(r.Close())
	w.Cleanup(func() {
		in.Close()
		s.cmd.Wait()
		out.Close()
	})
	return s
}

// write writes, and tells whether that was to succeed.
func (s *session) write(ok bool) {
	s.Helper()
	s.n++
	_, err := s.in.WriteString("write -P 9 0 4k\n")
	s.must(err)
	var text string
	s.must(wait.Until(s.Context(), "a write", 20*time.Millisecond, func(context.Context) (bool, error) {
		raw, err := os.ReadFile(s.cmd.Stdout.(*os.File).Name())
		text = string(raw)
		return strings.Count(text, "wrote 4096/4096")+strings.Count(text, "failed") >= s.n, err
	}))
	lines := strings.Split(strings.TrimSpace(text), "\n")
	if failed := strings.Contains(strings.Join(lines[max(0, len(lines)-2):], " "), "failed"); failed == ok {
		s.Errorf("a write that is to succeed: %v, says %q", ok, text)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestPeers(t *testing.T) {
	for line, want := range map[string]string{
		"   0: 0100007F:5208 0B13C6C6:C350 01 00000000:00000000 00:00000000 00000000 0 0 1 1":   "198.198.19.11",
		"   0: 0100007F:5208 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 1 1":   "",
		"   0: 0100007F:5209 0B13C6C6:C350 01 00000000:00000000 00:00000000 00000000 0 0 1 1":   "",
		"  1: 00000000000000000000000001000000:5208 00000000000000000000000001000000:C350 01 0": "::1",
		"  sl  local_address rem_address   st tx_queue":                                         "",
	} {
		a, ok := peerIn(line, 0x5208)
		if ok != (want != "") || ok && a.String() != want {
			t.Errorf("%q: %v, %v, want %q", line, a, ok, want)
		}
	}
}
