package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/strata-cloud/strata/internal/region"
)

func (a *app) join() *cobra.Command {
	var token string
	var detach, verbose bool
	cfg := region.Config{}
	c := &cobra.Command{Use: "join https://HOST:PORT", Short: "Make this machine a node of a cloud and run it", Args: cobra.ExactArgs(1),
		Long: "Make this machine a node of a cloud and run it. strata token create, on a machine of the cloud, gives the address and the token.\n" +
			"From then on strata up starts this node, and strata reset takes everything of the cloud off this machine.",
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg.DataDir, cfg.Version = a.dataDir, Version
			if err := cfg.Validate(); err != nil {
				return usageError{err}
			}
			if os.Geteuid() != 0 {
				return fmt.Errorf("running a node needs root, for network namespaces and QEMU's users: try sudo strata join")
			}
			if err := region.CheckNode(); err != nil {
				return err
			}
			m, err := region.Join(cmd.Context(), &cfg, args[0], token)
			if err != nil {
				return err
			}
			what := "node"
			if m.Council != nil {
				what = "control member"
			}
			a.progress("this machine is %s %s of the cloud at %s", what, m.Node, m.Control)
			return a.runNode(cmd.Context(), cfg, detach, verbose)
		}}
	c.Flags().StringVar(&token, "token", "", "from strata token create")
	c.Flags().StringVar(&cfg.Listen, "listen", region.DefaultListen, "as a control member: address of the APIs, HOST:PORT; default: port 5000 of the address that reaches the cloud")
	c.Flags().StringVar(&cfg.Cluster, "cluster-listen", "", "as a control member: address for other machines, ADDRESS:PORT; default: port 5001 of that address")
	c.Flags().StringVar(&cfg.Node, "name", "", "name of the node; default: this machine's host name")
	hostFlags(c, &cfg)
	c.Flags().BoolVarP(&detach, "detach", "d", false, "return when the node works and leave it running")
	c.Flags().BoolVarP(&verbose, "verbose", "v", false, "log every step")
	if err := c.MarkFlagRequired("token"); err != nil {
		panic(err) // the flag is above
	}
	return c
}

// joined tells whether this data directory is a node's of another machine's cloud.
func joined(cfg *region.Config) (bool, error) {
	_, err := region.ReadMember(cfg)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return false, nil
	}
	return err == nil, err
}

// runNode runs the agent of a machine that joined, here or in a process of its own.
func (a *app) runNode(ctx context.Context, cfg region.Config, detach, verbose bool) error {
	if pid, ok := a.running(); ok {
		a.progress("this node runs already (pid %d)", pid)
		return nil
	}
	if !detach {
		cfg.Log = logger(verbose)
		return region.RunNode(ctx, cfg, func(n *region.Node) {
			a.progress("node %s works for the cloud at %s", n.Name(), n.Control())
		})
	}
	admin := region.NewAdmin(a.dataDir)
	pid, took, err := a.spawn(ctx, append([]string{"up", "--data-dir", a.dataDir}, hostArgs(&cfg)...), verbose, "the node to work", func(ctx context.Context, pid int) bool {
		s, err := admin.Status(ctx)
		return err == nil && s.PID == pid
	})
	if err != nil {
		return err
	}
	a.progress("the node works (%s, pid %d); its log is %s", took, pid, a.path("strata.log"))
	return nil
}
