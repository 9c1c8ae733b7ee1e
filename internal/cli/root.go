package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"
)

// Version is set at link time.
var Version = "dev"

// app is what all commands share.
type app struct {
	out, errs io.Writer
	dataDir   string
	output    string // table or json
}

// usageError is a wrong command line: exit status 2.
type usageError struct{ error }

// Main runs the command line and gives the exit status.
func Main(args []string, out, errOut io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	a := &app{out: out, errs: errOut}
	root := a.root()
	root.SetArgs(args)
	root.SetOut(out)
	root.SetErr(errOut)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	var exit *exitError
	if errors.As(err, &exit) {
		return exit.status
	}
	fmt.Fprintln(errOut, "strata:", err)
	var usage usageError
	if errors.As(err, &usage) {
		return 2
	}
	return 1
}

// exitError passes on the exit status of a program that we ran.
type exitError struct{ status int }

func (e *exitError) Error() string { return fmt.Sprintf("exit status %d", e.status) }

func (a *app) root() *cobra.Command {
	root := &cobra.Command{Use: "strata", Short: "A private cloud region in one program", Version: Version,
		SilenceUsage: true, SilenceErrors: true, CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true},
		PersistentPreRunE: func(*cobra.Command, []string) error { return a.check() }}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.PersistentFlags().StringVar(&a.dataDir, "data-dir", startDataDir(), "where everything is kept (or STRATA_DATA_DIR)")
	root.PersistentFlags().StringVarP(&a.output, "output", "o", "table", "table or json")
	root.AddCommand(a.up(), a.down(), a.join(), a.token(), a.node(), a.status(), a.doctor(), a.image(), a.containers(), a.cluster(), a.kubectl(), a.kubeToken(), a.application(), a.launch(), a.ssh(), a.console(), a.env(), a.backup(), a.restore(), a.clusterReset(), a.reset(), a.simulate())
	usageArgs(root)
	return root
}

// usageArgs makes wrong arguments of any command a wrong usage.
func usageArgs(c *cobra.Command) {
	if check := c.Args; check != nil {
		c.Args = func(cmd *cobra.Command, args []string) error {
			if err := check(cmd, args); err != nil {
				return usageError{err}
			}
			return nil
		}
	}
	for _, sub := range c.Commands() {
		usageArgs(sub)
	}
}

func (a *app) check() error {
	if a.output != "table" && a.output != "json" {
		return usageError{fmt.Errorf("--output %s: use table or json", a.output)}
	}
	dir, err := filepath.Abs(a.dataDir)
	a.dataDir = dir
	return err
}

func (a *app) path(name string) string { return filepath.Join(a.dataDir, name) }

func (a *app) printf(format string, args ...any) { fmt.Fprintf(a.out, format, args...) }

// progress says what is going on, on standard error, so that output stays clean.
func (a *app) progress(format string, args ...any) { fmt.Fprintf(a.errs, format+"\n", args...) }
