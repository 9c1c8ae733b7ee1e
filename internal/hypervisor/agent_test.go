package hypervisor

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/strata-cloud/strata/internal/errs"
)

// guestAgent answers as QEMU's guest agent does, after what is left in the channel.
func guestAgent(t *testing.T, c net.Conn, left, answer string) <-chan map[string]any {
	t.Helper()
	told := make(chan map[string]any, 1)
	go func() {
		defer c.Close()
		defer close(told)
		in := bufio.NewReader(c)
		for {
			line, err := in.ReadString('\n')
			if err != nil {
				return
			}
			var cmd struct {
				Execute   string         `json:"execute"`
				Arguments map[string]any `json:"arguments"`
			}
			if err := json.Unmarshal([]byte(strings.TrimPrefix(line, "\xff")), &cmd); err != nil {
				t.Error(err)
				return
			}
			reply := answer
			if cmd.Execute == "guest-sync-delimited" {
				reply = fmt.Sprintf("%s\xff{\"return\": %.0f}", left, cmd.Arguments["id"])
			} else {
				told <- cmd.Arguments
			}
			if _, err := fmt.Fprintf(c, "%s\n", reply); err != nil {
				return
			}
		}
	}()
	return told
}

func TestSetPasswordTellsTheAgent(t *testing.T) {
	for name, tc := range map[string]struct {
		left, answer string
		kind         errs.Kind
		fails        bool
	}{
		"done":       {answer: `{"return": {}}`},
		"stale":      {left: "{\"return\": 1}\n\xff{\"return\": 7}\n", answer: `{"return": {}}`},
		"refused":    {answer: `{"error": {"class": "GenericError", "desc": "no such user"}}`, fails: true, kind: errs.Invalid},
		"nonsense":   {answer: `what?`, fails: true, kind: errs.Internal},
		"no end":     {answer: strings.Repeat("x", agentReply+1), fails: true, kind: errs.Internal},
		"only noise": {left: strings.Repeat("x", agentReply), fails: true, kind: errs.Unavailable},
	} {
		here, there := net.Pipe()
		told := guestAgent(t, there, tc.left, tc.answer)
		err := setPassword(t.Context(), here, "root", "secret")
		if (err != nil) != tc.fails || err != nil && errs.KindOf(err) != tc.kind || err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", name, err)
		}
		here.Close()
		if args := <-told; err == nil && (args["username"] != "root" || args["password"] != "c2VjcmV0" || args["crypted"] != false) {
			t.Errorf("%s: the agent was told %v", name, args)
		}
	}
}

func TestSetPasswordDoesNotWaitForNobody(t *testing.T) {
	here, there := net.Pipe()
	defer there.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := setPassword(ctx, here, "root", "secret"); !errs.Is(err, errs.Unavailable) {
		t.Errorf("nobody answers: %v", err)
	}
}

func TestAgentChannel(t *testing.T) {
	s := goodSpec()
	if slices.ContainsFunc(commandLine(&s, TCG, 3, nil), func(a string) bool { return strings.Contains(a, agentPort) }) {
		t.Error("a channel that nobody asked for")
	}
	s.GuestAgent = true
	if !slices.Contains(commandLine(&s, TCG, 3, nil), "virtserialport,bus=serial-bus.0,chardev=agent,name="+agentPort) {
		t.Error("no channel")
	}
}
