package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/strata-cloud/strata/internal/region"
	"github.com/strata-cloud/strata/internal/simulate"
)

func (a *app) simulate() *cobra.Command {
	o := simulate.Options{Progress: a.progress}
	c := &cobra.Command{Use: "simulate", Short: "Measure a control plane under many simulated nodes", Args: cobra.NoArgs,
		Long: "Start a region of its own, let simulated nodes join it, make servers through its APIs, and print how fast that was and what it took.\n" +
			"The nodes start no guests. Everything is removed at the end. docs/scale.md says what is simulated and what is not.",
		Example: "  strata simulate --nodes 1000 --servers 20000",
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if os.Geteuid() != 0 {
				return fmt.Errorf("starting a region needs root, for network namespaces: try sudo strata simulate")
			}
			if err := region.CheckNode(); err != nil {
				return err
			}
			if cmd.Flags().Changed("data-dir") {
				o.Dir = a.dataDir
			}
			if !cmd.Flags().Changed("deletes") {
				o.Deletes = o.Servers / 10
			}
			if o.Program, err = os.Executable(); err != nil {
				return err
			}
			if o.Profiles != "" {
				if o.Profiles, err = filepath.Abs(o.Profiles); err != nil {
					return err
				}
				if err := os.MkdirAll(o.Profiles, 0o755); err != nil {
					return err
				}
			}
			r, err := simulate.Run(cmd.Context(), o)
			if err != nil {
				return err
			}
			return a.show(r, simulated(r)...)
		}}
	f := c.Flags()
	f.IntVar(&o.Nodes, "nodes", 100, "simulated nodes")
	f.IntVar(&o.Servers, "servers", 2000, "servers to make")
	f.IntVar(&o.Parallel, "parallel", 64, "clients: each makes a server, waits until it runs, and makes the next")
	f.IntVar(&o.PerProject, "per-project", 200, "servers of each project")
	f.IntVar(&o.PerNetwork, "per-network", 50, "servers of each network; 0: servers have no network")
	f.IntVar(&o.Deletes, "deletes", 0, "servers to delete again; default: a tenth")
	f.DurationVar(&o.Delay, "delay", 50*time.Millisecond, "time that a node takes to start or remove a server")
	f.StringVar(&o.Profiles, "profiles", "", "a directory for profiles of the region's CPU and memory")
	return c
}

// simulated are the tables of a simulation.
func simulated(r *simulate.Result) []table {
	head := table{}
	head.add("nodes, servers, clients", fmt.Sprintf("%d, %d, %d", r.Nodes, r.Servers, r.Parallel))
	head.add("start of an empty region", short(r.Start))
	head.add("restart under all nodes", fmt.Sprintf("ready after %s, all nodes back after %s, %s of CPU", short(r.Restart.Ready), short(r.Restart.Back), short(r.Restart.CPU)))
	head.add("list of 1,000 in detail", short(r.List))
	head.add("states of networks sent", r.States)
	head.add("store", fmt.Sprintf("%s, %s in use; %d revisions per server", bytesText(r.StoreSize), bytesText(r.StoreInUse), r.Revisions))
	head.add("memory per node, per server", fmt.Sprintf("%s, %s", bytesText(r.PerNode()), bytesText(r.PerServer())))
	rates := table{head: []string{"WORK", "DONE", "FAILED", "TOOK", "PER SECOND", "CONTROL CPU", "LOAD"}}
	for _, w := range []struct {
		name string
		simulate.Work
	}{{"join", r.Join}, {"create", r.Create}, {"delete", r.Delete}} {
		rates.add(w.name, w.Done, w.Failed, short(w.Took), fmt.Sprintf("%.0f", w.Rate), short(w.CPU), fmt.Sprintf("%.1f", w.Load))
	}
	times := table{head: []string{"FROM POST TO", "P50", "P99", "MAX", "OF"}}
	for _, q := range []struct {
		name string
		simulate.Quantiles
	}{{"host assigned", r.Assigned}, {"node told", r.Told}, {"ACTIVE", r.Active}} {
		times.add(q.name, short(q.P50), short(q.P99), short(q.Max), q.Of)
	}
	memory := table{head: []string{"MEMORY", "PSS", "RSS"}}
	for _, u := range []struct {
		name string
		simulate.Usage
	}{{"control, empty", r.Empty}, {"control, nodes joined", r.Joined}, {"control, servers made", r.Full}, {"control, restarted", r.Restarted}, {"all agents and clients", r.Agents}} {
		memory.add(u.name, bytesText(u.PSS), bytesText(u.RSS))
	}
	faults := table{}
	for _, f := range r.Faults {
		faults.add("failed: " + f)
	}
	return []table{head, rates, times, memory, faults}
}
