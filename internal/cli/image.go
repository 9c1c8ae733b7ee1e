package cli

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/strata-cloud/strata/internal/guest"
)

// guestKinds are the images that can be built.
var guestKinds = [...]string{guest.KindTiny, guest.KindDebian, guest.KindKubeWorker}

func (a *app) image() *cobra.Command {
	c := &cobra.Command{Use: "image", Short: "Build guest images", Args: cobra.NoArgs}
	c.AddCommand(a.imageBuild())
	return c
}

func (a *app) imageBuild() *cobra.Command {
	var name string
	c := &cobra.Command{Use: "build KIND", Short: "Build a guest image from distribution packages and put it into the cloud", ValidArgs: guestKinds[:],
		Long:    "Build a guest image from this machine's distribution packages and put it into the cloud as a public image. What is there already is left alone.\n\nKinds: " + strings.Join(guestKinds[:], ", ") + ".",
		Example: "  strata image build tiny",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 || !slices.Contains(guestKinds[:], args[0]) {
				return usageError{fmt.Errorf("name the kind of image: strata image build %s", strings.Join(guestKinds[:], "|"))}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if name == "" {
				name = args[0]
			}
			return a.buildImage(cmd.Context(), args[0], name)
		}}
	c.Flags().StringVar(&name, "name", "", "name of the image in the cloud (default: the kind)")
	return c
}

// buildImage makes the image unless the cloud has it in this program's revision.
func (a *app) buildImage(ctx context.Context, kind, name string) error {
	start := time.Now()
	c, err := a.connect(ctx, "strata")
	if err != nil {
		return err
	}
	revision, programs, err := a.guestRevision(kind)
	if err != nil {
		return err
	}
	up := uploader{app: a, client: c, kind: kind, name: name, revision: revision}
	if err := up.list(ctx); err != nil {
		return a.explain(err)
	}
	if img, ok := up.present(); ok {
		a.progress("image %s is already there (%s, revision %s)", name, img.ID, up.revision)
		return a.showImage(img.ID, name, img.SizeBytes, 0)
	}
	if err := guest.Check(kind); err != nil {
		return err
	}
	if os.Geteuid() != 0 {
		return fmt.Errorf("building a guest image needs root, as files in it belong to several users: try sudo strata image build %s", kind)
	}
	disk := a.path(fmt.Sprintf("guest/%s-%s.qcow2", kind, up.revision))
	if _, err := os.Stat(disk); err != nil {
		a.progress("building image %s from distribution packages", kind)
		err := guest.Build(ctx, guest.Options{Kind: kind, Output: disk, WorkDir: a.path("guest"), Programs: programs, Progress: func(s string) { a.progress("  %s", s) }})
		if err != nil {
			return fmt.Errorf("building image %s: %w; it can be tried again: what was downloaded is kept in %s", kind, err, a.path("guest"))
		}
		a.progress("built in %s", took(start))
	}
	img, err := up.upload(ctx, disk)
	if err != nil {
		return a.explain(err)
	}
	a.progress("image %s is ready: %s, %s in all", name, bytesText(img.SizeBytes), took(start))
	return a.showImage(img.ID, name, img.SizeBytes, time.Since(start))
}

// guestRevision is that of a kind of guest, and where this project's programs are that go
// into it: beside this one.
func (a *app) guestRevision(kind string) (revision, programs string, err error) {
	if kind != guest.KindKubeWorker {
		return guest.Revision(), "", nil
	}
	exe, err := os.Executable()
	if err != nil {
		return "", "", err
	}
	if exe, err = filepath.EvalSymlinks(exe); err != nil {
		return "", "", err
	}
	programs = filepath.Dir(exe)
	revision, err = guest.WorkerRevision(programs)
	return revision, programs, err
}

func (a *app) showImage(id, name string, size int64, d time.Duration) error {
	if a.output != "json" {
		return nil // progress has said it
	}
	return a.show(map[string]any{"id": id, "name": name, "size": size, "seconds": d.Seconds()})
}
