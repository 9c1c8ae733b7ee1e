package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/gophercloud/gophercloud/v2/openstack/containerinfra/v1/clusters"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

func (a *app) kubectl() *cobra.Command {
	return &cobra.Command{Use: "kubectl [--cloud CLOUD] [--cluster CLUSTER] ...", Short: "Run kubectl with a cluster of the project",
		Example: "  strata kubectl get nodes\n  strata kubectl --cluster one apply -f shop.yaml",
		Long: "Run the kubectl that Strata brings, with a cluster of the project (of the entry strata-demo of clouds.yaml, or --cloud): the only one, or --cluster. What it may do there follows from the roles in the project. " +
			"All that follows is kubectl's. For a kubectl of your own there is strata cluster kubeconfig.",
		Args: cobra.ArbitraryArgs, DisableFlagParsing: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			cloud, cluster := "strata-demo", ""
			rest, err := leading(args, map[string]*string{"--data-dir": &a.dataDir, "--cloud": &cloud, "--cluster": &cluster})
			if err != nil {
				return usageError{err}
			}
			if err := a.check(); err != nil { // the directory as an absolute path
				return err
			}
			if len(rest) == 0 {
				return cmd.Help()
			}
			return a.explain(a.runKubectl(cmd.Context(), cloud, cluster, rest))
		}}
}

// leading takes flags from the beginning of arguments, until there is one that is not
// among these.
func leading(args []string, flags map[string]*string) (rest []string, err error) {
	for len(args) > 0 {
		name, value, ok := strings.Cut(args[0], "=")
		to := flags[name]
		if to == nil {
			return args, nil
		}
		if args = args[1:]; !ok {
			if len(args) == 0 {
				return nil, fmt.Errorf("the flag %s has no value", name)
			}
			value, args = args[0], args[1:]
		}
		*to = value
	}
	return nil, nil
}

// runKubectl becomes kubectl. Its configuration is in memory alone, for it has a secret.
func (a *app) runKubectl(ctx context.Context, cloud, cluster string, args []string) error {
	program, err := kubeProgram()
	if err != nil {
		return err
	}
	if cluster == "" {
		if cluster, err = a.onlyCluster(ctx, cloud); err != nil {
			return err
		}
	}
	text, err := a.kubeconfig(ctx, cloud, cluster)
	if err != nil {
		return err
	}
	file, err := inMemory("kubeconfig", text)
	if err != nil {
		return err
	}
	err = unix.Exec(program, append([]string{program, "kubectl"}, args...), append(os.Environ(), "KUBECONFIG="+file))
	return fmt.Errorf("running %s: %w", program, err)
}

// kubeProgram is the path of strata-kube, beside ours.
func kubeProgram() (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	if real, err := filepath.EvalSymlinks(self); err == nil {
		self = real
	}
	path := filepath.Join(filepath.Dir(self), "strata-kube")
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("kubectl is not here: %w; make kube builds it", err)
	}
	return path, nil
}

// onlyCluster is the project's cluster, if it has one.
func (a *app) onlyCluster(ctx context.Context, cloud string) (string, error) {
	c, err := a.clusterAPI(ctx, cloud)
	if err != nil {
		return "", err
	}
	pages, err := clusters.List(c, nil).AllPages(ctx)
	if err != nil {
		return "", fmt.Errorf("listing clusters: %w", err)
	}
	all, err := clusters.ExtractClusters(pages)
	switch {
	case err != nil:
		return "", err
	case len(all) == 0:
		return "", errors.New("the project has no cluster: strata cluster create NAME makes one")
	case len(all) == 1:
		return all[0].UUID, nil
	}
	var names []string
	for _, x := range all {
		names = append(names, x.Name)
	}
	return "", usageError{fmt.Errorf("the project has several clusters, %s: say which with --cluster", strings.Join(names, ", "))}
}

// inMemory makes a file that no other process finds, and which what is executed in our
// place can open, as often as it likes.
func inMemory(name, text string) (path string, err error) {
	fd, err := unix.MemfdCreate(name, 0)
	if err != nil {
		return "", err
	}
	if _, err := unix.Write(fd, []byte(text)); err != nil {
		return "", err
	}
	return fmt.Sprintf("/proc/self/fd/%d", fd), nil
}
