package simulate

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/strata-cloud/strata/internal/region"
	"github.com/strata-cloud/strata/internal/wait"
)

// control is the region, in a process of its own.
type control struct {
	program string
	dir     string // its data directory
	listen  string
	cluster string
	public  string
	admin   *region.Admin

	cmd   *exec.Cmd
	ended chan struct{} // closed when the process has
	err   error         // how it ended; read it after that
}

// controlNode is the name of the region's own node, which runs no servers here.
const controlNode = "control"

const (
	startTimeout = 2 * time.Minute
	stopTimeout  = 30 * time.Second
)

// plan chooses where the region is to be.
func plan(program, dir string) (*control, error) {
	c := &control{program: program, dir: dir, admin: region.NewAdmin(dir)}
	for _, to := range []*string{&c.listen, &c.cluster} {
		addr, err := freeAddr()
		if err != nil {
			return nil, err
		}
		*to = addr
	}
	public, err := freeNet()
	c.public = public
	return c, err
}

// freeAddr is an address on loopback that nothing listens on now.
func freeAddr() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// freeNet is a network for benchmarks (RFC 2544) that this machine has no address in.
func freeNet() (string, error) {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return "", err
	}
	for i := 255; i >= 0; i-- {
		begin, taken := fmt.Sprintf("198.19.%d.", i), false
		for _, a := range addrs {
			taken = taken || strings.HasPrefix(a.String(), begin)
		}
		if !taken {
			return begin + "0/24", nil
		}
	}
	return "", errors.New("this machine uses all of 198.19.0.0/16, where the simulated region has its external network")
}

// start starts the process and gives the time until it answers.
func (c *control) start(ctx context.Context) (time.Duration, error) {
	begin := time.Now()
	if err := c.spawn(); err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	client := region.HealthClient(&region.Config{DataDir: c.dir, Listen: c.listen})
	err := wait.Until(ctx, "the region to answer at "+c.listen, 5*time.Millisecond, func(ctx context.Context) (bool, error) {
		select {
		case <-c.ended:
			return false, fmt.Errorf("the region did not start (%w): see %s", c.err, c.log())
		default:
			return c.healthy(ctx, client), nil
		}
	})
	return time.Since(begin), err
}

func (c *control) log() string { return filepath.Join(c.dir, "strata.log") }

func (c *control) url() string { return "http://" + c.listen }

func (c *control) healthy(ctx context.Context, client *http.Client) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.url()+"/healthz", nil)
	if err != nil {
		return false
	}
	resp, err := client.Do(req)
	if err != nil {
		return false
	}
	return resp.Body.Close() == nil && resp.StatusCode == http.StatusOK && resp.Header.Get("X-Strata-Pid") == strconv.Itoa(c.pid())
}

// spawn starts the process. The kernel ends it with the thread that started it,
// which therefore waits for its end.
func (c *control) spawn() error {
	log, err := os.OpenFile(c.log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	c.cmd = exec.Command(c.program, "up", "--data-dir", c.dir, "--listen", c.listen, "--cluster-listen", c.cluster, "--public-cidr", c.public, "--name", controlNode)
	c.cmd.Stdout, c.cmd.Stderr = log, log
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	c.ended = make(chan struct{})
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := c.cmd.Start()
		started <- err
		if err == nil {
			c.err = c.cmd.Wait()
		}
		close(c.ended)
	}()
	return errors.Join(<-started, log.Close())
}

func (c *control) pid() int { return c.cmd.Process.Pid }

// stop ends the process as strata down does, and kills it when that takes too long.
func (c *control) stop() error {
	if c.cmd == nil || c.cmd.Process == nil {
		return nil
	}
	_ = c.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	select {
	case <-c.ended:
		return nil
	case <-time.After(stopTimeout):
	}
	_ = c.cmd.Process.Kill()
	<-c.ended
	return fmt.Errorf("the region did not stop within %s and was killed", stopTimeout)
}

// remove takes every trace of the region off this machine.
func (c *control) remove(ctx context.Context) error {
	return region.Reset(ctx, region.Config{DataDir: c.dir}, func(string) {})
}

// idle waits until no saga is under way.
func (c *control) idle(ctx context.Context) error {
	return wait.Until(ctx, "operations of the region to end", 50*time.Millisecond, func(ctx context.Context) (bool, error) {
		s, err := c.admin.Status(ctx)
		return err == nil && s.Sagas == 0, err
	})
}

// Usage is what a process takes.
type Usage struct {
	PSS int64         `json:"pss"` // bytes
	RSS int64         `json:"rss"` // bytes
	CPU time.Duration `json:"cpu_ns"`
}

// usage is what the region's process takes now.
func (c *control) usage() (Usage, error) { return usageOf(c.pid()) }

// ticks is the unit of CPU times in /proc (USER_HZ).
const ticks = time.Second / 100

func usageOf(pid int) (Usage, error) {
	var u Usage
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return u, err
	}
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	for _, i := range []int{11, 12} { // utime and stime (proc(5))
		n, err := strconv.ParseInt(fields[i], 10, 64)
		if err != nil {
			return u, err
		}
		u.CPU += time.Duration(n) * ticks
	}
	f, err := os.Open(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return u, err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		for name, to := range map[string]*int64{"Pss:": &u.PSS, "Rss:": &u.RSS} {
			if rest, ok := strings.CutPrefix(lines.Text(), name); ok {
				kib, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
				if err != nil {
					return u, err
				}
				*to = kib << 10
			}
		}
	}
	return u, lines.Err()
}
