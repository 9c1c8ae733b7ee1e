package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"

	"github.com/spf13/cobra"
)

func (a *app) ssh() *cobra.Command {
	var cloud, key, user string
	c := &cobra.Command{Use: "ssh NAME [-- COMMAND...]", Short: "Log into a server over its floating IP",
		Example: "  strata ssh web\n  strata ssh web -- uptime",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usageError{fmt.Errorf("name a server: strata ssh NAME [-- COMMAND...]")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			argv, err := a.sshCommand(cmd.Context(), cloud, args[0], key, user)
			if err != nil {
				return a.explain(err)
			}
			return run(append(argv, args[1:]...))
		}}
	cloudFlag(c, &cloud)
	c.Flags().StringVar(&key, "key", "", "private key file")
	c.Flags().StringVar(&user, "user", "", "log-in user (default: the image's os_admin_user)")
	return c
}

// sshCommand finds the server and builds the command line that logs into it.
func (a *app) sshCommand(ctx context.Context, cloud, name, key, user string) ([]string, error) {
	program, err := exec.LookPath("ssh")
	if err != nil {
		return nil, fmt.Errorf("the program ssh is not installed: apt-get install openssh-client")
	}
	c, err := a.connect(ctx, cloud)
	if err != nil {
		return nil, err
	}
	server, err := a.oneServer(ctx, c, cloud, name)
	if err != nil {
		return nil, err
	}
	if server.Status != "ACTIVE" {
		return nil, fmt.Errorf("server %s is %s: start it with openstack server start %s", name, server.Status, server.ID)
	}
	addr, err := c.address(ctx, server.ID)
	if err != nil {
		return nil, err
	}
	if addr == "" {
		return nil, fmt.Errorf("server %s has no floating IP: openstack floating ip create public, then openstack server add floating ip %s ADDRESS", name, server.ID)
	}
	if user == "" {
		user = c.imageUser(ctx, server)
	}
	hosts, err := a.knownHosts()
	if err != nil {
		return nil, err
	}
	k, err := a.sshKey(key, false)
	if err != nil {
		return nil, err
	}
	argv := append([]string{program}, hosts.options(hostAlias(server.ID))...)
	return append(argv, "-i", k.file, "-l", user, addr), nil
}

// address is the server's floating IP, or "".
func (c *client) address(ctx context.Context, server string) (string, error) {
	list, err := c.ports(ctx, server)
	if err != nil {
		return "", err
	}
	var ids []string
	for _, p := range list {
		ids = append(ids, p.ID)
	}
	return c.floatingOf(ctx, ids)
}

// run runs a program on our terminal and passes on its exit status.
func run(argv []string) error {
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() > 0 {
		return &exitError{exit.ExitCode()}
	}
	return err
}
