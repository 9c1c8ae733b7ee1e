package kube

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/strata-cloud/strata/internal/wait"
)

const (
	// workerProgram is strata-kube's own, for a worker's containerd.
	workerProgram = "worker"
	// workerTimeout bounds what it does.
	workerTimeout = 2 * time.Minute
)

// Linked is where add-ons' pods find strata-kube on every worker, wherever it is installed.
const Linked = "/run/strata/strata-kube"

// link has a program found at another path.
func link(program, at string) error {
	if to, err := os.Readlink(at); err == nil && to == program {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
		return err
	}
	if err := os.Remove(at); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.Symlink(program, at)
}

// load gives the image of sandboxes to containerd, unless that has been done.
func (b *bench) load(ctx context.Context) error {
	i, err := os.Stat(b.machine.Pause)
	if err != nil {
		return fmt.Errorf("pods cannot be made: %w; make kube builds it", err)
	}
	done := b.file("containerd-root/loaded")
	now := fmt.Appendf(nil, "%s %s %d %s\n", SandboxImage, b.machine.Pause, i.Size(), i.ModTime().UTC().Format(time.RFC3339Nano))
	if before, err := os.ReadFile(done); err == nil && bytes.Equal(before, now) {
		return nil
	}
	if err := b.machine.tool(ctx, b.socket(), "load", "--image", SandboxImage, "--program", b.machine.Pause); err != nil {
		return err
	}
	return writeFile(done, now)
}

// How often a containerd that starts is asked, and for how long.
const (
	servingAgain = 50 * time.Millisecond
	servingLimit = 30 * time.Second
)

// serving waits until a worker's containerd answers kubelet. A kubelet that starts before
// tells the cluster that the node is not ready, and all of its pods lose their clients.
func (m *Machine) serving(ctx context.Context, socket string) error {
	c, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.Config{BaseDelay: servingAgain, Multiplier: 1, MaxDelay: servingAgain}}))
	if err != nil {
		return err
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(ctx, servingLimit)
	defer cancel()
	return wait.Until(ctx, "containerd", servingAgain, func(ctx context.Context) (bool, error) {
		// Messages without fields stand for cri-api's StatusRequest and StatusResponse.
		return c.Invoke(ctx, "/runtime.v1.RuntimeService/Status", &emptypb.Empty{}, &emptypb.Empty{}, grpc.WaitForReady(true)) == nil, nil
	})
}

// tool does something to a worker's containerd.
func (m *Machine) tool(ctx context.Context, socket, verb string, flags ...string) error {
	ctx, cancel := context.WithTimeout(ctx, workerTimeout)
	defer cancel()
	out, err := exec.CommandContext(ctx, m.Program, append([]string{workerProgram, verb, "--socket", socket}, flags...)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("strata-kube %s %s: %w: %s", workerProgram, verb, err, bytes.TrimSpace(out[max(0, len(out)-500):]))
	}
	return nil
}
