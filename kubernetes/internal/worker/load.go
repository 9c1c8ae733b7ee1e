package worker

import (
	"bytes"
	"context"
	"fmt"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/namespaces"
)

// Of what is the container runtime interface's in containerd: its namespace, and the
// label of images that are not removed when nobody uses them.
const (
	criNamespace = "k8s.io"
	pinnedLabel  = "io.cri-containerd.pinned"
	pinned       = "pinned"
)

// load makes an image of a program and gives it to containerd.
func load(ctx context.Context, socket, image, program string) error {
	var archive bytes.Buffer
	if err := writeImage(&archive, image, program); err != nil {
		return fmt.Errorf("making the image %s: %w", image, err)
	}
	c, err := connect(ctx, socket)
	if err != nil {
		return err
	}
	defer c.Close()
	ctx = namespaces.WithNamespace(ctx, criNamespace)
	list, err := c.Import(ctx, &archive, containerd.WithImageLabels(map[string]string{pinnedLabel: pinned}))
	if err != nil {
		return fmt.Errorf("giving the image %s to containerd: %w", image, err)
	}
	for _, i := range list {
		if err := containerd.NewImage(c, i).Unpack(ctx, ""); err != nil {
			return fmt.Errorf("unpacking the image %s: %w", image, err)
		}
	}
	return nil
}

// connect waits until containerd answers.
func connect(ctx context.Context, socket string) (*containerd.Client, error) {
	c, err := containerd.New(socket)
	if err != nil {
		return nil, fmt.Errorf("containerd at %s: %w", socket, err)
	}
	if ok, err := c.IsServing(ctx); err != nil || !ok {
		c.Close()
		return nil, fmt.Errorf("containerd at %s does not serve: %v", socket, err)
	}
	return c, nil
}
