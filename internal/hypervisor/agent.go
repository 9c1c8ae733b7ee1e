package hypervisor

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/strata-cloud/strata/internal/errs"
)

const (
	// agentPort is where QEMU's guest agent listens in the guest.
	agentPort = "org.qemu.guest_agent.0"
	// syncTimeout bounds the wait for an agent that may not be there, agentTimeout the
	// one for what it was told, and agentReply the length of what it says.
	syncTimeout  = 5 * time.Second
	agentTimeout = 30 * time.Second
	agentReply   = 64 << 10
	// agentMark comes before what a synchronised agent says; no JSON has it.
	agentMark = 0xff
)

// agent adds the channel to the guest agent.
func (b *argBuilder) agent(s *Spec) {
	if !s.GuestAgent {
		return
	}
	b.add("-chardev", "socket,id=agent,path="+agentSocket+",server=on,wait=off", "-device", "virtio-serial-pci,id=serial-bus",
		"-device", "virtserialport,bus=serial-bus.0,chardev=agent,name="+agentPort)
}

// SetPassword implements Driver.
func (d *QEMU) SetPassword(ctx context.Context, id, user, password string) error {
	return d.locked(ctx, id, "setting a password in", func(m *machine) error {
		if !m.running() {
			return errNotRunning(id)
		}
		c, err := dialIn(ctx, m.dir, agentSocket)
		if err != nil {
			return errs.New(errs.Unavailable, "the guest agent cannot be reached: %w", err)
		}
		defer c.Close()
		return setPassword(ctx, c, user, password)
	})
}

// setPassword tells the guest agent. The guest may say anything: only whether it did
// as told is taken from it. Unavailable: nobody answers.
func setPassword(ctx context.Context, c net.Conn, user, password string) error {
	stop := context.AfterFunc(ctx, func() { c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	id := time.Now().UnixNano() & 0x7fffffff
	in := bufio.NewReader(c)
	if err := c.SetDeadline(time.Now().Add(syncTimeout)); err != nil {
		return err
	}
	if err := syncAgent(in, c, id); err != nil {
		return errs.New(errs.Unavailable, "the guest agent does not answer: %w", err)
	}
	if err := c.SetDeadline(time.Now().Add(agentTimeout)); err != nil || ctx.Err() != nil {
		return errors.Join(err, ctx.Err()) // the end may have come before the new deadline
	}
	if err := tellAgent(c, nil, "guest-set-user-password", map[string]any{"username": user, "password": base64.StdEncoding.EncodeToString([]byte(password)), "crypted": false}); err != nil {
		return err
	}
	var r agentAnswer
	if err := r.read(in); err != nil {
		return fmt.Errorf("the guest agent's answer: %w", err)
	}
	if r.Error != nil {
		return errs.Invalidf("the guest agent refuses: %s", r.Error.Desc)
	}
	return nil
}

// syncAgent throws away what an earlier talk left in the channel.
func syncAgent(in *bufio.Reader, c net.Conn, id int64) error {
	if err := tellAgent(c, []byte{agentMark}, "guest-sync-delimited", map[string]any{"id": id}); err != nil {
		return err
	}
	for range agentReply {
		b, err := in.ReadByte()
		if err != nil {
			return err
		}
		if b != agentMark {
			continue
		}
		var r agentAnswer
		if err := r.read(in); err != nil {
			return err
		}
		if bytes.Equal(bytes.TrimSpace(r.Return), []byte(fmt.Sprint(id))) {
			return nil
		}
	}
	return fmt.Errorf("no end of noise")
}

type agentAnswer struct {
	Return json.RawMessage `json:"return"`
	Error  *qmpError       `json:"error"`
}

// read takes one line, of bounded length.
func (r *agentAnswer) read(in *bufio.Reader) error {
	var line []byte
	for len(line) < agentReply {
		b, err := in.ReadByte()
		if err != nil {
			return err
		}
		if b == '\n' {
			return json.Unmarshal(line, r)
		}
		line = append(line, b)
	}
	return fmt.Errorf("it is longer than %d bytes", agentReply)
}

func tellAgent(c io.Writer, before []byte, command string, args map[string]any) error {
	msg, err := json.Marshal(map[string]any{"execute": command, "arguments": args})
	if err != nil {
		return err
	}
	_, err = c.Write(append(append(before, msg...), '\n'))
	return err
}
