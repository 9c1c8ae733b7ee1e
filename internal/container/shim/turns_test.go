package shim

import (
	"os/exec"
	"strings"
	"testing"
	"time"

	runc "github.com/containerd/go-runc"
)

// ending is a monitor whose programs have ended.
type ending struct{ monitor }

func (*ending) Wait(*exec.Cmd, chan runc.Exit) (int, error) { return 7, nil }

// TestTurns has no more containers be made at a time than there are turns, whichever shims
// make them, and lets all else pass.
func TestTurns(t *testing.T) {
	dir := t.TempDir()
	shim := func() *turns {
		x := newTurns(dir, &ending{})
		x.most = 2
		return x
	}
	one, two := shim(), shim()
	start := func(x *turns, what string) (*exec.Cmd, chan runc.Exit) {
		t.Helper()
		cmd := exec.Command("runc", strings.Fields("--root /r "+what)...)
		ec, err := x.Start(cmd)
		if err != nil {
			t.Error(err)
		}
		return cmd, ec
	}
	end := func(x *turns, cmd *exec.Cmd, ec chan runc.Exit) {
		t.Helper()
		if code, err := x.Wait(cmd, ec); code != 7 || err != nil {
			t.Errorf("code %d, %v", code, err)
		}
	}
	first, ec1 := start(one, "create --bundle /b a")
	second, ec2 := start(two, "delete b")
	start(two, "exec a")
	third := make(chan struct{})
	go func() {
		defer close(third)
		cmd, ec := start(two, "create --bundle /b c")
		end(two, cmd, ec)
	}()
	select {
	case <-third:
		t.Error("three containers are made with two turns")
	case <-time.After(50 * time.Millisecond):
	}
	end(one, first, ec1)
	end(two, second, ec2) // whoever waits does so for one turn, and either may be the one
	select {
	case <-third:
	case <-time.After(10 * time.Second):
		t.Error("a turn that has ended is not taken")
	}
}
