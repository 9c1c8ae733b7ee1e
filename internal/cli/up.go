package cli

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/strata-cloud/strata/internal/region"
	"github.com/strata-cloud/strata/internal/wait"
)

func (a *app) up() *cobra.Command {
	cfg := region.Config{}
	var detach, verbose bool
	c := &cobra.Command{Use: "up", Short: "Start the cloud on this machine", Args: cobra.NoArgs,
		Long: "Start the cloud on this machine. The first start makes its users, flavors and networks; credentials are in clouds.yaml in the data directory.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg.DataDir, cfg.Version = a.dataDir, Version
			if err := cfg.Validate(); err != nil {
				return usageError{err}
			}
			if os.Geteuid() != 0 {
				return fmt.Errorf("starting a cloud needs root, for network namespaces and QEMU's users: try sudo strata up")
			}
			if node, err := joined(&cfg); node || err != nil {
				return cmp.Or(err, a.runNode(cmd.Context(), cfg, detach, verbose))
			}
			if detach {
				return a.upDetached(cmd.Context(), &cfg, verbose)
			}
			if pid, err := a.runsAlready(cmd.Context(), &cfg); pid != 0 || err != nil {
				return cmp.Or(err, fmt.Errorf("the cloud in %s runs already (pid %d) at %s: stop it with strata down", a.dataDir, pid, region.URLOf(&cfg)))
			}
			cfg.Log = logger(verbose)
			return region.Run(cmd.Context(), cfg, func(r *region.Region) {
				a.progress("Strata is ready at %s (%s)", r.URL(), r.Took().Round(time.Millisecond))
			})
		}}
	c.Flags().StringVar(&cfg.Listen, "listen", region.DefaultListen, "address of the APIs, HOST:PORT; TLS off loopback")
	c.Flags().StringVar(&cfg.PublicCIDR, "public-cidr", region.DefaultPublicCIDR, "addresses of the external network; the first is this machine's")
	c.Flags().StringVar(&cfg.Cluster, "cluster-listen", "", "address where other machines join, ADDRESS:PORT; none can without")
	c.Flags().StringVar(&cfg.Node, "name", "", "this machine's name in the cloud; default: its host name")
	c.Flags().DurationVar(&cfg.ReclaimAfter, "reclaim-after", 0, "how long deleted servers can be restored, such as 24h; 0: not at all")
	hostFlags(c, &cfg)
	mirrorFlag(c, &cfg)
	c.Flags().BoolVarP(&detach, "detach", "d", false, "return when the cloud is ready and leave it running")
	c.Flags().BoolVarP(&verbose, "verbose", "v", false, "log every request and step")
	return c
}

func logger(verbose bool) *slog.Logger {
	level := slog.LevelInfo
	if verbose {
		level = slog.LevelDebug
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
}

// startTimeout bounds the wait for a detached cloud.
const startTimeout = 60 * time.Second

// upDetached starts this program again in a session of its own and waits until it answers.
func (a *app) upDetached(ctx context.Context, cfg *region.Config, verbose bool) error {
	if pid, err := a.runsAlready(ctx, cfg); pid != 0 || err != nil {
		if err == nil {
			a.progress("Strata is running already (pid %d) at %s", pid, region.URLOf(cfg))
		}
		return err
	}
	if err := region.Check(cfg); err != nil {
		return err
	}
	if err := os.MkdirAll(a.dataDir, 0o711); err != nil {
		return fmt.Errorf("making the data directory: %w; choose another with --data-dir", err)
	}
	args := []string{"up", "--data-dir", a.dataDir, "--listen", cfg.Listen, "--public-cidr", cfg.PublicCIDR, "--cluster-listen", cfg.Cluster, "--name", cfg.Node,
		"--reclaim-after", cfg.ReclaimAfter.String()}
	args = append(args, hostArgs(cfg)...)
	client := region.HealthClient(cfg)
	pid, took, err := a.spawn(ctx, args, verbose, "the cloud to answer at "+cfg.Listen, func(ctx context.Context, pid int) bool {
		return healthy(ctx, client, region.URLOf(cfg), pid)
	})
	if err != nil {
		return err
	}
	a.progress("Strata is ready at %s (%s, pid %d); its log is %s", region.URLOf(cfg), took, pid, a.path("strata.log"))
	return nil
}

// spawn starts this program again in a session of its own, with strata.log as its
// output, and waits until it is ready.
func (a *app) spawn(ctx context.Context, args []string, verbose bool, what string, ready func(ctx context.Context, pid int) bool) (pid int, took time.Duration, err error) {
	log, err := os.OpenFile(a.path("strata.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return 0, 0, err
	}
	defer log.Close()
	from, err := log.Seek(0, 2)
	if err != nil {
		return 0, 0, err
	}
	self, err := os.Executable()
	if err != nil {
		return 0, 0, err
	}
	if verbose {
		args = append(args, "--verbose")
	}
	cmd := exec.Command(self, args...)
	cmd.Stdout, cmd.Stderr, cmd.SysProcAttr = log, log, &syscall.SysProcAttr{Setsid: true}
	start := time.Now()
	if err := cmd.Start(); err != nil {
		return 0, 0, err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	err = wait.Until(ctx, what, 10*time.Millisecond, func(ctx context.Context) (bool, error) {
		select {
		case <-ended:
			return false, fmt.Errorf("it did not start: %s", a.lastError(from))
		default:
			return ready(ctx, cmd.Process.Pid), nil
		}
	})
	return cmd.Process.Pid, time.Since(start).Round(time.Millisecond), err
}

// runsAlready gives the pid of a cloud that answers, or 0 when none runs. A process
// that is just ending still has the data directory open: its end is waited for.
func (a *app) runsAlready(ctx context.Context, cfg *region.Config) (pid int, err error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	client := region.HealthClient(cfg)
	err = wait.Until(ctx, "the process that has "+a.dataDir+" open to answer or to end", 10*time.Millisecond, func(ctx context.Context) (bool, error) {
		var ok bool
		if pid, ok = a.running(); !ok {
			pid = 0
			return true, nil
		}
		if healthy(ctx, client, region.URLOf(cfg), pid) {
			return true, nil
		}
		if st, err := region.NewAdmin(a.dataDir).Status(ctx); err == nil && st.PID == pid && st.URL != region.URLOf(cfg) {
			return false, fmt.Errorf("the cloud in %s runs already (pid %d) at %s, not at %s: stop it with strata down, or choose another --data-dir", a.dataDir, pid, st.URL, region.URLOf(cfg))
		}
		return false, nil
	})
	return pid, err
}

// healthy tells whether the process with the pid answers.
func healthy(ctx context.Context, client *http.Client, url string, pid int) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/healthz", nil)
	if err != nil {
		return false
	}
	resp, err := client.Do(req)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	return resp.StatusCode == http.StatusOK && resp.Header.Get("X-Strata-Pid") == fmt.Sprint(pid)
}

// lastError is the last line that the log got since the offset.
func (a *app) lastError(from int64) string {
	raw, err := os.ReadFile(a.path("strata.log"))
	if err != nil || int64(len(raw)) <= from {
		return "see " + a.path("strata.log")
	}
	lines := strings.Split(strings.TrimSpace(string(raw[from:])), "\n")
	return strings.TrimPrefix(lines[len(lines)-1], "strata: ")
}
