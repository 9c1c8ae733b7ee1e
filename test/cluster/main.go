// Command cluster starts and removes a cloud of several hosts on this machine, for
// development: make cluster NODES=3, make cluster-down.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"

	"github.com/strata-cloud/strata/internal/nodes"
	"github.com/strata-cloud/strata/internal/region"
	"github.com/strata-cloud/strata/test/hosts"
)

// publicCIDR is the cluster's external network (RFC 2544).
const publicCIDR = "198.18.255.0/24"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "cluster:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	dir := flag.String("dir", "", "where the hosts' data is")
	program := flag.String("strata", "bin/strata", "the program")
	n := flag.Int("nodes", 3, "how many hosts to make")
	control := flag.Int("control", 1, "how many of them are control members")
	flag.Parse()
	if *control < 1 || *control > *n {
		return fmt.Errorf("of %d hosts %d cannot be control members: choose 1 to %d", *n, *control, *n)
	}
	c := &cluster{ctx: ctx, dir: *dir, program: *program, control: *control, state: filepath.Join(*dir, "cluster.json")}
	switch flag.Arg(0) {
	case "up":
		return c.up(*n)
	case "down":
		return c.down()
	}
	return fmt.Errorf("say up or down")
}

type cluster struct {
	ctx                 context.Context
	dir, program, state string
	control             int
}

// remembered is what cluster-down must know.
type remembered struct {
	Nodes   int    `json:"nodes"`
	Network string `json:"network"`
}

func (c *cluster) up(n int) error {
	if _, err := os.Stat(c.state); err == nil {
		return fmt.Errorf("there is a cluster in %s already: make cluster-down removes it", c.dir)
	}
	network, err := hosts.FreeNetwork()
	if err != nil {
		return err
	}
	h, err := hosts.Of(c.dir, n, network)
	if err != nil {
		return err
	}
	raw, err := json.Marshal(remembered{n, network})
	if err != nil {
		return err
	}
	if err := os.MkdirAll(c.dir, 0o711); err != nil {
		return err
	}
	if err := os.WriteFile(c.state, raw, 0o600); err != nil {
		return err
	}
	if err := h.Make(); err != nil {
		return err
	}
	first := h.All[0]
	if err := c.strata(first, "up", "--detach", "--listen", first.Addr+":5000", "--cluster-listen", first.Addr+":5001", "--name", first.Name, "--public-cidr", publicCIDR); err != nil {
		return err
	}
	for i, x := range h.All[1:] {
		role := nodes.RoleNode
		if i+1 < c.control {
			role = nodes.RoleControl
		}
		if err := c.join(first, x, role); err != nil {
			return err
		}
	}
	if err := h.Route(publicCIDR, first); err != nil {
		return err
	}
	// Packages are reached from here only.
	if err := c.show(exec.CommandContext(c.ctx, c.program, "--data-dir", first.DataDir, "image", "build", "tiny")); err != nil {
		return err
	}
	fmt.Printf("\nThe cloud of %d hosts is at https://%s:5000. What to type next:\n\n  eval \"$(%s --data-dir %s env)\"\n  openstack hypervisor list\n  make cluster-down\n", n, first.Addr, c.program, first.DataDir)
	return nil
}

func (c *cluster) join(first, x *hosts.Host, role string) error {
	out, err := first.Command(c.ctx, c.program, "--data-dir", first.DataDir, "token", "create", "--role", role, "--output", "json").Output()
	if err != nil {
		return fmt.Errorf("making a token: %w", err)
	}
	var t region.Token
	if err := json.Unmarshal(out, &t); err != nil {
		return err
	}
	return c.strata(x, "join", t.Address, "--token", t.Token, "--name", x.Name, "--detach")
}

func (c *cluster) strata(x *hosts.Host, args ...string) error {
	fmt.Printf("%s: strata %s\n", x.Name, strings.Join(args[:1], " "))
	return c.show(x.Command(c.ctx, c.program, append([]string{"--data-dir", x.DataDir}, args...)...))
}

func (c *cluster) show(cmd *exec.Cmd) error {
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	return cmd.Run()
}

func (c *cluster) down() error {
	raw, err := os.ReadFile(c.state)
	if os.IsNotExist(err) {
		fmt.Println("there is no cluster in", c.dir)
		return nil
	} else if err != nil {
		return err
	}
	var r remembered
	if err := json.Unmarshal(raw, &r); err != nil {
		return err
	}
	h, err := hosts.Of(c.dir, r.Nodes, r.Network)
	if err != nil {
		return err
	}
	for _, x := range h.All {
		if err := c.strata(x, "reset", "--yes"); err != nil {
			return err
		}
	}
	if err := h.Remove(); err != nil {
		return err
	}
	return os.RemoveAll(c.dir)
}
