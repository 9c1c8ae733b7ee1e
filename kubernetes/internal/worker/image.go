package worker

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path"
	"runtime"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// nobody is who the program runs as, if nothing else is said.
const nobody = "65535:65535"

// refName is where containerd looks for the name of an image in an archive.
const refName = "io.containerd.image.name"

// writeImage writes the archive of an image (OCI image layout) that has one program at
// its root, by the name of its file. The same program makes the same image.
func writeImage(w io.Writer, name, program string) error {
	body, err := os.ReadFile(program)
	if err != nil {
		return err
	}
	entry := "/" + path.Base(program)
	layer, err := layerOf(entry[1:], body)
	if err != nil {
		return err
	}
	a := &layout{w: tar.NewWriter(w)}
	config := a.blob("application/vnd.oci.image.config.v1+json", document(v1.Image{
		Platform: v1.Platform{Architecture: runtime.GOARCH, OS: "linux"},
		Config:   v1.ImageConfig{User: nobody, Entrypoint: []string{entry}, WorkingDir: "/"},
		RootFS:   v1.RootFS{Type: "layers", DiffIDs: []digest.Digest{digest.FromBytes(layer)}},
	}))
	manifest := a.blob(v1.MediaTypeImageManifest, document(v1.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageManifest,
		Config: config, Layers: []v1.Descriptor{a.blob(v1.MediaTypeImageLayer, layer)}}))
	manifest.Annotations = map[string]string{refName: name}
	a.file("oci-layout", document(v1.ImageLayout{Version: v1.ImageLayoutVersion}))
	a.file("index.json", document(v1.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageIndex, Manifests: []v1.Descriptor{manifest}}))
	if a.err != nil {
		return a.err
	}
	return a.w.Close()
}

// layerOf is a file system of one program.
func layerOf(name string, body []byte) ([]byte, error) {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o555, Size: int64(len(body))}); err != nil {
		return nil, err
	}
	if _, err := w.Write(body); err != nil {
		return nil, err
	}
	err := w.Close()
	return out.Bytes(), err
}

// layout is one that is being written; the first error stays.
type layout struct {
	w   *tar.Writer
	err error
}

func (a *layout) file(name string, body []byte) {
	if a.err == nil {
		a.err = a.w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o444, Size: int64(len(body))})
	}
	if a.err == nil {
		_, a.err = a.w.Write(body)
	}
}

func (a *layout) blob(kind string, body []byte) v1.Descriptor {
	d := digest.FromBytes(body)
	a.file("blobs/sha256/"+d.Encoded(), body)
	return v1.Descriptor{MediaType: kind, Digest: d, Size: int64(len(body))}
}

func document(v any) []byte {
	raw, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("worker: %T is no JSON: %v", v, err))
	}
	return raw
}
