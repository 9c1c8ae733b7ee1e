package shims

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	taskapi "github.com/containerd/containerd/api/runtime/task/v3"
	containerdshim "github.com/containerd/containerd/v2/pkg/shim"
	"github.com/containerd/ttrpc"
)

// Size is how many containers are behind one shim. They all lose their log and their
// exit code if it is killed.
const Size = 16

// Pooled is set in the environment of a shim that ends only when its pool tells it to.
const Pooled = "STRATA_SHIM_POOLED"

// Plain is set in the environment of a shim that is containerd's own and nothing more, for
// containerds other than the engine's.
const Plain = "STRATA_SHIM_PLAIN"

// Deleted is a file in the directory of a container of which a shim has nothing left.
const Deleted = "deleted"

// Config says how shims are started and where they are found again.
type Config struct {
	Program   string
	Namespace string // containerd's
	Events    string // the socket that they report to
	Dir       string // with a short path: a socket's has at most 106 bytes
	Bundles   string // the directory below which containers' files are mounted
	Spaces    string // the directory of network namespaces, of whose mounts shims need none
	Log       *slog.Logger
}

// Pool is the shims of one engine.
type Pool struct {
	cfg   Config
	ctx   context.Context // of requests that end shims: they are seen through while we end
	apart bool            // shims have mount namespaces of their own
	group sync.WaitGroup

	mu      sync.Mutex
	taken   map[string]int // containers, by the shim's id
	readies int            // that are being started ahead
	closed  bool
}

// Open takes over the shims that run. Join tells which of them have containers.
func Open(ctx context.Context, cfg Config) (*Pool, error) {
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, err
	}
	p := &Pool{cfg: cfg, ctx: context.WithoutCancel(ctx), taken: map[string]int{}}
	var err error
	if p.apart, err = separate(cfg.Bundles); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(cfg.Dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if e.Type() != fs.ModeSocket {
			continue
		}
		conn, err := net.Dial("unix", filepath.Join(cfg.Dir, e.Name()))
		if err != nil { // it was killed
			p.forget(e.Name())
			continue
		}
		conn.Close()
		p.taken[e.Name()] = 0
	}
	return p, nil
}

func (p *Pool) path(id string) string { return filepath.Join(p.cfg.Dir, id) }

// Address is where containerd reaches a shim.
func (p *Pool) Address(id string) string { return "ttrpc+unix://" + p.path(id) }

// Take gives a place behind a shim to a container that is about to start, and has
// another shim get ready when it was the last.
func (p *Pool) Take() (id string, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if id = fullest(p.taken); id == "" {
		if id, err = p.start(); err != nil {
			return "", fmt.Errorf("starting a shim: %w", err)
		}
	}
	p.taken[id]++
	if !p.closed && p.readies == 0 && fullest(p.taken) == "" {
		p.readies++
		p.group.Go(p.ready)
	}
	return id, nil
}

// fullest is the shim with the most containers that has room for one more; "": none.
func fullest(taken map[string]int) (id string) {
	for s, n := range taken {
		if n < Size && (id == "" || n > taken[id] || n == taken[id] && s < id) {
			id = s
		}
	}
	return id
}

// ready starts a shim ahead.
func (p *Pool) ready() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.readies--
	if p.closed || fullest(p.taken) != "" {
		return
	}
	if _, err := p.start(); err != nil {
		p.cfg.Log.Warn("starting a shim ahead", "err", err)
	}
}

// start starts a shim. It is reached at once: its socket listens before it does.
func (p *Pool) start() (string, error) {
	var b [8]byte
	rand.Read(b[:])
	id := hex.EncodeToString(b[:])
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: p.path(id), Net: "unix"})
	if err != nil {
		return "", err
	}
	l.SetUnlinkOnClose(false)
	defer l.Close()
	sock, err := l.File()
	if err != nil {
		return "", err
	}
	defer sock.Close()
	log, err := os.OpenFile(p.path(id)+".log", os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return "", err
	}
	defer log.Close()
	cmd := exec.Command(p.cfg.Program, "-namespace", p.cfg.Namespace, "-id", id, "-address", p.cfg.Events)
	cmd.Dir, cmd.Stderr, cmd.ExtraFiles = p.cfg.Dir, log, []*os.File{sock}
	cmd.Env = append(os.Environ(), "TTRPC_ADDRESS="+p.cfg.Events+".ttrpc", Pooled+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a Ctrl-C is not for it
	if p.apart {
		cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWNS // not Unshareflags, with which Go makes all mounts private
		cmd.Env = append(cmd.Env, Without+"="+p.cfg.Spaces)
	}
	if err := cmd.Start(); err != nil {
		p.forget(id)
		return "", err
	}
	if err := containerdshim.AdjustOOMScore(cmd.Process.Pid); err != nil {
		p.cfg.Log.Warn("a shim's rank when memory runs out", "err", err)
	}
	p.taken[id] = 0
	go func() {
		err := cmd.Wait()
		if p.Lost(id) {
			p.cfg.Log.Error("a shim has ended by itself", "shim", id, "err", err)
		}
	}()
	return id, nil
}

// Join tells that a container that runs is behind a shim. One that is none of ours is
// of no interest.
func (p *Pool) Join(id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, ok := p.taken[id]; ok {
		p.taken[id]++
	}
}

// Release tells that a container has left, with all that was its.
func (p *Pool) Release(id string) {
	p.mu.Lock()
	n, ok := p.taken[id]
	if ok {
		p.taken[id] = n - 1
	}
	p.mu.Unlock()
	if ok && n == 1 {
		p.Trim()
	}
}

// Lost tells that a shim does not answer, and whether that is news.
func (p *Pool) Lost(id string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, ok := p.taken[id]
	delete(p.taken, id)
	p.forget(id)
	return ok
}

func (p *Pool) forget(id string) {
	os.Remove(p.path(id)) // what cannot be removed is found at the next start
	os.Remove(p.path(id) + ".log")
}

// Trim ends the shims without containers but one.
func (p *Pool) Trim() { p.trim(1) }

func (p *Pool) trim(keep int) {
	p.mu.Lock()
	var idle []string
	for id, n := range p.taken {
		if n > 0 {
			continue
		}
		if keep--; keep < 0 {
			idle = append(idle, id)
			delete(p.taken, id)
		}
	}
	p.mu.Unlock()
	for _, id := range idle {
		p.group.Go(func() { p.end(id) })
	}
}

// patience bounds the wait for a shim to end.
const patience = 5 * time.Second

func (p *Pool) end(id string) {
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "unix", p.path(id))
	if err == nil {
		client := ttrpc.NewClient(conn)
		_, err = taskapi.NewTTRPCTaskClient(client).Shutdown(ctx, &taskapi.ShutdownRequest{ID: id})
		client.Close()
	}
	if err != nil && !errors.Is(err, ttrpc.ErrClosed) && !errors.Is(err, syscall.ECONNREFUSED) {
		p.cfg.Log.Warn("ending a shim", "shim", id, "err", err)
	}
	p.forget(id)
}

// Close ends the shims without containers; the others go on.
func (p *Pool) Close() error {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.trim(0)
	p.group.Wait()
	if p.apart {
		return rejoin(p.cfg.Bundles)
	}
	return nil
}
