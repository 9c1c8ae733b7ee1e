package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// Verdicts of a check.
const (
	fine = "ok"
	warn = "warn"
	bad  = "FAIL"
)

// finding is what one check saw.
type finding struct {
	Check   string `json:"check"`
	Verdict string `json:"verdict"` // ok, warn or FAIL
	Seen    string `json:"seen"`
	Fix     string `json:"fix,omitempty"` // what to do, unless it is fine
}

// findings collects what checks saw.
type findings []finding

// note adds a check that passed when ok, and otherwise the verdict with its fix.
func (f *findings) note(check string, ok bool, otherwise, seen, fix string) {
	if ok {
		*f = append(*f, finding{check, fine, seen, ""})
	} else {
		*f = append(*f, finding{check, otherwise, seen, fix})
	}
}

func (f findings) failed() int {
	n := 0
	for _, x := range f {
		if x.Verdict == bad {
			n++
		}
	}
	return n
}

func (a *app) doctor() *cobra.Command {
	var port, server, listen string
	c := &cobra.Command{Use: "doctor", Short: "Check the machine, the cloud and the network path of a server", Args: cobra.NoArgs,
		Long: "Check what a cloud needs of this machine and, when it runs, whether its parts agree. With --server or --port, check the way of packets hop by hop instead.\n" +
			"Everything that is not right comes with its fix. The exit status is 1 when something failed. Nothing is changed.",
		Example: "  strata doctor\n  strata doctor --server web",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var f findings
			var err error
			switch {
			case port != "" && server != "":
				return usageError{fmt.Errorf("choose one of --port and --server")}
			case port != "" || server != "":
				f, err = a.examinePath(cmd.Context(), port, server)
			default:
				f = a.examine(cmd.Context(), listen)
			}
			if err != nil {
				return a.explain(err)
			}
			return a.showFindings(f)
		}}
	c.Flags().StringVar(&port, "port", "", "id of a port whose way to check")
	c.Flags().StringVar(&server, "server", "", "name or id of a server whose ports' way to check")
	c.Flags().StringVar(&listen, "listen", "127.0.0.1:5000", "address that the cloud is to have, checked while it does not run")
	return c
}

// examine checks the machine and, when it runs, the cloud.
func (a *app) examine(ctx context.Context, listen string) findings {
	var f findings
	pid, running := a.running()
	a.progress("checking the machine")
	f.machine(ctx, a)
	if !running {
		f.address(listen)
		f = append(f, finding{"cloud", fine, "not running in " + a.dataDir, ""})
		return f
	}
	a.progress("checking the cloud (pid %d)", pid)
	f.cloud(ctx, a)
	return f
}

func (a *app) showFindings(f findings) error {
	t := table{head: []string{"", "CHECK", "SEEN"}}
	for _, x := range f {
		t.add(x.Verdict, x.Check, x.Seen)
		if x.Fix != "" {
			t.add("", "", "-> "+x.Fix)
		}
	}
	if err := a.show(f, t); err != nil {
		return err
	}
	if n := f.failed(); n > 0 {
		return fmt.Errorf("%s of %d failed; what to do stands after the arrows", strings.TrimSpace(plural(n, "check")), len(f))
	}
	return nil
}
