package qemu

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"time"
)

// qmpTimeout bounds a monitor's answers when the context has no deadline.
const qmpTimeout = 30 * time.Second

// QMP runs commands, one after the other, on the monitor socket in dir.
func QMP(ctx context.Context, dir, socket string, commands ...Command) error {
	d, err := os.Open(dir) // a socket's path has 107 bytes at most
	if err != nil {
		return err
	}
	defer d.Close()
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "unix", fmt.Sprintf("/proc/self/fd/%d/%s", d.Fd(), socket))
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(qmpTimeout)
	}
	conn.SetDeadline(deadline)
	dec := json.NewDecoder(conn)
	var greeting json.RawMessage
	if err := dec.Decode(&greeting); err != nil {
		return fmt.Errorf("reading a monitor's greeting: %w", err)
	}
	for _, c := range append([]Command{{Execute: "qmp_capabilities"}}, commands...) {
		if err := run(conn, dec, c); err != nil {
			return fmt.Errorf("%s: %w", c.Execute, err)
		}
	}
	return nil
}

// Command is one command of a monitor. Out, unless nil, takes its result.
type Command struct {
	Execute   string `json:"execute"`
	Arguments any    `json:"arguments,omitempty"`
	Out       any    `json:"-"`
}

// run waits for the answer to this very command: the first answers on a connection
// may be meant for a client before us that died.
func run(conn net.Conn, dec *json.Decoder, c Command) error {
	id := rand.Text()
	err := json.NewEncoder(conn).Encode(struct {
		Command
		ID string `json:"id"`
	}{c, id})
	if err != nil {
		return err
	}
	for {
		var rep struct {
			ID     string          `json:"id"`
			Return json.RawMessage `json:"return"`
			Error  *struct {
				Desc string `json:"desc"`
			} `json:"error"`
		}
		if err := dec.Decode(&rep); err != nil {
			return err
		}
		switch {
		case rep.ID != id: // or an event
		case rep.Error != nil:
			return errors.New(rep.Error.Desc)
		case c.Out != nil:
			return json.Unmarshal(rep.Return, c.Out)
		default:
			return nil
		}
	}
}
