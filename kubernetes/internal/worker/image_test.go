package worker

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/images/archive"
	"github.com/containerd/containerd/v2/plugins/content/local"
	"github.com/containerd/platforms"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// TestImage has containerd's own reader take an image, and looks into it.
func TestImage(t *testing.T) {
	ctx, dir := t.Context(), t.TempDir()
	program := filepath.Join(dir, "strata-pause")
	if err := os.WriteFile(program, []byte("a program"), 0o755); err != nil {
		t.Fatal(err)
	}
	var first, second bytes.Buffer
	for _, w := range []io.Writer{&first, &second} {
		if err := writeImage(w, "localhost/strata/pause:1", program); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(first.Bytes(), second.Bytes()) {
		t.Error("the same program makes another image")
	}
	store, err := local.NewStore(filepath.Join(dir, "content"))
	if err != nil {
		t.Fatal(err)
	}
	index, err := archive.ImportIndex(ctx, store, &first)
	if err != nil {
		t.Fatal(err)
	}
	var list v1.Index
	read(t, store, index, &list)
	if len(list.Manifests) != 1 || list.Manifests[0].Annotations[images.AnnotationImageName] != "localhost/strata/pause:1" {
		t.Fatalf("the archive has %+v", list.Manifests)
	}
	m, err := images.Manifest(ctx, store, list.Manifests[0], platforms.Default())
	if err != nil {
		t.Fatal(err)
	}
	var config v1.Image
	read(t, store, m.Config, &config)
	if len(config.Config.Entrypoint) != 1 || config.Config.Entrypoint[0] != "/strata-pause" || config.Config.User != nobody {
		t.Errorf("it runs %v as %q", config.Config.Entrypoint, config.Config.User)
	}
	if len(m.Layers) != 1 || len(config.RootFS.DiffIDs) != 1 || m.Layers[0].Digest != config.RootFS.DiffIDs[0] {
		t.Fatalf("its layers are %v, of %v", m.Layers, config.RootFS.DiffIDs)
	}
	layer := tar.NewReader(bytes.NewReader(blob(t, store, m.Layers[0])))
	h, err := layer.Next()
	if err != nil || h.Name != "strata-pause" || h.Mode != 0o555 {
		t.Fatalf("in it is %+v, %v", h, err)
	}
	if body, err := io.ReadAll(layer); err != nil || string(body) != "a program" {
		t.Errorf("the program is %q, %v", body, err)
	}
	if h, err := layer.Next(); !errors.Is(err, io.EOF) {
		t.Errorf("there is more in it: %+v, %v", h, err)
	}
}

// TestNoImage of a program that is not there.
func TestNoImage(t *testing.T) {
	if err := writeImage(io.Discard, "x", filepath.Join(t.TempDir(), "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it says %v", err)
	}
}

func blob(t *testing.T, p content.Provider, d v1.Descriptor) []byte {
	t.Helper()
	raw, err := content.ReadBlob(t.Context(), p, d)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func read(t *testing.T, p content.Provider, d v1.Descriptor, to any) {
	t.Helper()
	if err := json.Unmarshal(blob(t, p, d), to); err != nil {
		t.Fatal(err)
	}
}
