// Package worker is what is done to the container runtime of a cluster's worker from
// outside of the cluster: it is given images that come from no registry, that of pods'
// sandboxes first, and is emptied before the worker goes.
//
// It is a program of strata-kube, so that a worker needs nothing else, whether it is a
// machine of the pool or a server.
package worker

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// Name is what the program is called by.
const Name = "worker"

const usage = `Usage: strata-kube worker COMMAND --socket PATH [FLAGS]

Commands:
  load --image NAME --program PATH   make an image of one program, and give it to containerd
  load --archive PATH                give containerd the images of a file (docker save, OCI layout)
  empty                              end all pods
`

// Main is the program.
func Main(ctx context.Context, args []string) int {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	switch err := run(ctx, args, os.Stderr); {
	case errors.Is(err, flag.ErrHelp):
		return 2
	case err != nil:
		fmt.Fprintln(os.Stderr, "worker:", err)
		return 1
	}
	return 0
}

func run(ctx context.Context, args []string, help io.Writer) error {
	set := flag.NewFlagSet(Name, flag.ContinueOnError)
	set.SetOutput(help)
	set.Usage = func() { fmt.Fprint(help, usage) }
	socket := set.String("socket", "", "containerd's")
	image := set.String("image", "", "what the image is called")
	program := set.String("program", "", "what is in it")
	archive := set.String("archive", "", "a file of images")
	timeout := set.Duration("timeout", time.Minute, "when to give up")
	if len(args) < 2 {
		set.Usage()
		return flag.ErrHelp
	}
	if err := set.Parse(args[2:]); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, *timeout)
	defer cancel()
	switch args[1] {
	case "load":
		if *archive != "" {
			return loadArchive(ctx, *socket, *archive)
		}
		return load(ctx, *socket, *image, *program)
	case "empty":
		return empty(ctx, *socket)
	}
	set.Usage()
	return flag.ErrHelp
}
