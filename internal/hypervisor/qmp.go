package hypervisor

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// errMonitorClosed says that QEMU closed the monitor, mostly because it exited.
var errMonitorClosed = errors.New("monitor closed")

// commandTimeout bounds a QMP command whose context has no deadline.
const commandTimeout = 30 * time.Second

// qmpEvent is an asynchronous message of QEMU.
type qmpEvent struct {
	Name string          `json:"event"`
	Data json.RawMessage `json:"data"`
}

// qmpError is QEMU's refusal of a command.
type qmpError struct {
	Class string `json:"class"`
	Desc  string `json:"desc"`
}

func (e *qmpError) Error() string { return e.Desc }

type qmpReply struct {
	ID     uint64          `json:"id"`
	Return json.RawMessage `json:"return"`
	Error  *qmpError       `json:"error"`
	qmpEvent
}

// monitor is a client of one QEMU's QMP socket. Commands may be sent from
// several goroutines; replies are matched by id, events go to onEvent in order.
type monitor struct {
	conn    *net.UnixConn
	onEvent func(qmpEvent)
	done    chan struct{} // closed when the connection has ended

	write sync.Mutex

	mu      sync.Mutex
	next    uint64
	pending map[uint64]chan qmpReply
}

// dialIn connects to the socket named name in dir. The directory is reached by
// descriptor, since a socket's path has 107 bytes at most.
func dialIn(ctx context.Context, dir, name string) (net.Conn, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	var dialer net.Dialer
	return dialer.DialContext(ctx, "unix", fmt.Sprintf("/proc/self/fd/%d/%s", d.Fd(), name))
}

// dialMonitor connects to the socket named name in dir and negotiates.
func dialMonitor(ctx context.Context, dir, name string, onEvent func(qmpEvent)) (*monitor, error) {
	c, err := dialIn(ctx, dir, name)
	if err != nil {
		return nil, err
	}
	m := &monitor{conn: c.(*net.UnixConn), onEvent: onEvent, done: make(chan struct{}), pending: map[uint64]chan qmpReply{}}
	r := bufio.NewReader(c)
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(commandTimeout)
	}
	c.SetReadDeadline(deadline)
	if _, err := r.ReadBytes('\n'); err != nil {
		c.Close()
		return nil, fmt.Errorf("reading the monitor's greeting: %w", err)
	}
	c.SetReadDeadline(time.Time{})
	go m.read(r)
	if err := m.run(ctx, "qmp_capabilities", nil, nil); err != nil {
		m.close()
		return nil, fmt.Errorf("negotiating with the monitor: %w", err)
	}
	return m, nil
}

// close ends the connection and waits for its reader. The machine goes on.
func (m *monitor) close() {
	m.conn.Close()
	<-m.done
}

func (m *monitor) read(r *bufio.Reader) {
	defer close(m.done)
	defer m.conn.Close()
	dec := json.NewDecoder(r)
	for {
		var rep qmpReply
		if err := dec.Decode(&rep); err != nil {
			return
		}
		if rep.Name != "" {
			m.onEvent(rep.qmpEvent)
			continue
		}
		m.mu.Lock()
		ch := m.pending[rep.ID]
		delete(m.pending, rep.ID)
		m.mu.Unlock()
		if ch != nil {
			ch <- rep
		}
	}
}

// run sends a command and decodes its result into out, which may be nil.
func (m *monitor) run(ctx context.Context, command string, args, out any) error {
	return m.runFD(ctx, command, args, out, nil)
}

// runFD is run with a file passed along, for getfd and add-fd.
func (m *monitor) runFD(ctx context.Context, command string, args, out any, file *os.File) error {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	ch := make(chan qmpReply, 1)
	m.mu.Lock()
	m.next++
	id := m.next
	m.pending[id] = ch
	m.mu.Unlock()
	defer func() {
		m.mu.Lock()
		delete(m.pending, id)
		m.mu.Unlock()
	}()
	if err := m.send(id, command, args, file); err != nil {
		return fmt.Errorf("%s: %w", command, errors.Join(errMonitorClosed, err))
	}
	select {
	case rep := <-ch:
		if rep.Error != nil {
			return fmt.Errorf("%s: %w", command, rep.Error)
		}
		if out == nil {
			return nil
		}
		return json.Unmarshal(rep.Return, out)
	case <-m.done:
		return fmt.Errorf("%s: %w", command, errMonitorClosed)
	case <-ctx.Done():
		return fmt.Errorf("%s: %w", command, context.Cause(ctx))
	}
}

func (m *monitor) send(id uint64, command string, args any, file *os.File) error {
	msg, err := json.Marshal(struct {
		Execute   string `json:"execute"`
		Arguments any    `json:"arguments,omitempty"`
		ID        uint64 `json:"id"`
	}{command, args, id})
	if err != nil {
		return err
	}
	var oob []byte
	if file != nil {
		oob = unix.UnixRights(int(file.Fd()))
	}
	m.write.Lock()
	defer m.write.Unlock()
	m.conn.SetWriteDeadline(time.Now().Add(commandTimeout))
	_, _, err = m.conn.WriteMsgUnix(append(msg, '\n'), oob, nil)
	return err
}
