package worker

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"

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

// load makes an image of a program and gives it to containerd, which keeps it.
func load(ctx context.Context, socket, image, program string) error {
	var archive bytes.Buffer
	if err := writeImage(&archive, image, program); err != nil {
		return fmt.Errorf("making the image %s: %w", image, err)
	}
	return give(ctx, socket, &archive, containerd.WithImageLabels(map[string]string{pinnedLabel: pinned}))
}

// loadArchive gives containerd the images of a file, as docker save or an OCI layout has them.
func loadArchive(ctx context.Context, socket, path string) error {
	archive, err := os.Open(path)
	if err != nil {
		return err
	}
	defer archive.Close()
	return give(ctx, socket, archive)
}

func give(ctx context.Context, socket string, archive io.Reader, opts ...containerd.ImportOpt) error {
	c, err := connect(ctx, socket)
	if err != nil {
		return err
	}
	defer c.Close()
	ctx = namespaces.WithNamespace(ctx, criNamespace)
	list, err := c.Import(ctx, archive, opts...)
	if err != nil {
		return fmt.Errorf("giving images to containerd: %w", err)
	}
	for _, i := range list {
		if err := containerd.NewImage(c, i).Unpack(ctx, ""); err != nil {
			return fmt.Errorf("unpacking the image %s: %w", i.Name, err)
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
