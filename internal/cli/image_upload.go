package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/image/v2/imagedata"
	"github.com/gophercloud/gophercloud/v2/openstack/image/v2/images"

	"github.com/strata-cloud/strata/internal/guest"
)

// revisionProperty marks the images that this program made, and from what recipe.
const revisionProperty = "strata_revision"

// recipe is how a kind of guest is used.
type recipe struct {
	minDisk, minRAM int // GiB, MiB
	// direct makes servers boot the kernel without firmware and boot loader, which
	// saves seconds under emulation. A guest that upgrades its own kernel must not.
	direct bool
}

func recipeOf(kind string) recipe {
	if kind == guest.KindDebian {
		return recipe{2, 512, false}
	}
	if kind == guest.KindKubeWorker {
		return recipe{3, 768, true}
	}
	return recipe{1, 96, true}
}

// uploader puts a built guest into the cloud: its disk and, for direct boot, its
// kernel and initial ramdisk as hidden images that the disk's image refers to.
type uploader struct {
	*app
	*client
	kind, name, revision string
	found                []images.Image // public images, hidden ones too, that may be ours
}

func (u *uploader) list(ctx context.Context) error {
	for _, hidden := range []bool{false, true} {
		pages, err := images.List(u.imageAPI, images.ListOpts{Visibility: images.ImageVisibilityPublic, Hidden: hidden}).AllPages(ctx)
		if err != nil {
			return fmt.Errorf("listing images: %w", err)
		}
		list, err := images.ExtractImages(pages)
		if err != nil {
			return err
		}
		u.found = append(u.found, list...)
	}
	return nil
}

// find gives our image of that name and this revision.
func (u *uploader) find(name string) (*images.Image, bool) {
	for i := range u.found {
		img := &u.found[i]
		if img.Name == name && img.Status == images.ImageStatusActive && img.Properties[revisionProperty] == u.revision {
			return img, true
		}
	}
	return nil, false
}

func (u *uploader) present() (*images.Image, bool) {
	img, ok := u.find(u.name)
	return img, ok && !img.Hidden
}

func (u *uploader) upload(ctx context.Context, disk string) (*images.Image, error) {
	props := map[string]string{revisionProperty: u.revision, "os_distro": "debian", "os_type": "linux", "os_admin_user": guest.User,
		"architecture": "x86_64", "hw_disk_bus": "virtio", "hw_vif_model": "virtio"}
	how := recipeOf(u.kind)
	if how.direct {
		if err := u.kernel(ctx, disk, props); err != nil {
			return nil, err
		}
	}
	img, err := u.put(ctx, disk, images.CreateOpts{Name: u.name, DiskFormat: "qcow2", ContainerFormat: "bare", MinDisk: how.minDisk, MinRAM: how.minRAM, Properties: props})
	if err != nil {
		return nil, err
	}
	return img, u.retire(ctx)
}

// kernel uploads what servers boot directly, and names it in the properties.
func (u *uploader) kernel(ctx context.Context, disk string, props map[string]string) error {
	for _, part := range []struct{ property, format, suffix, file string }{
		{"kernel_id", "aki", "-kernel", guest.KernelPath(disk)}, {"ramdisk_id", "ari", "-initrd", guest.InitrdPath(disk)}} {
		img, ok := u.find(u.name + part.suffix)
		if !ok {
			var err error
			img, err = u.put(ctx, part.file, images.CreateOpts{Name: u.name + part.suffix, DiskFormat: part.format, ContainerFormat: part.format,
				Hidden: gophercloud.Enabled, Properties: map[string]string{revisionProperty: u.revision}})
			if err != nil {
				return err
			}
		}
		props[part.property] = img.ID
	}
	props["os_command_line"] = guest.KernelArgs
	return nil
}

// put makes an image from a file; what fails halfway is removed.
func (u *uploader) put(ctx context.Context, file string, o images.CreateOpts) (*images.Image, error) {
	start := time.Now()
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	visibility := images.ImageVisibilityPublic
	o.Visibility = &visibility
	img, err := images.Create(ctx, u.imageAPI, o).Extract()
	if err != nil {
		return nil, fmt.Errorf("creating image %s: %w", o.Name, err)
	}
	if err := imagedata.Upload(ctx, u.imageAPI, img.ID, f).ExtractErr(); err != nil {
		gone := images.Delete(context.WithoutCancel(ctx), u.imageAPI, img.ID).ExtractErr()
		return nil, errors.Join(fmt.Errorf("uploading image %s: %w", o.Name, err), gone)
	}
	if img, err = images.Get(ctx, u.imageAPI, img.ID).Extract(); err != nil {
		return nil, fmt.Errorf("looking at image %s: %w", o.Name, err)
	}
	if img.Status != images.ImageStatusActive {
		return nil, fmt.Errorf("image %s is %s after its upload: see openstack image show %s", o.Name, img.Status, img.ID)
	}
	u.progress("uploaded %s (%s, %s)", o.Name, bytesText(img.SizeBytes), took(start))
	return img, nil
}

// retire hides earlier revisions of the image, so that its name means the new
// one. Servers made from them keep working.
func (u *uploader) retire(ctx context.Context) error {
	for i := range u.found {
		img := &u.found[i]
		if img.Name != u.name || img.Hidden || img.Properties[revisionProperty] == nil {
			continue
		}
		if _, err := images.Update(ctx, u.imageAPI, img.ID, images.UpdateOpts{images.ReplaceImageHidden{NewHidden: true}}).Extract(); err != nil {
			return fmt.Errorf("hiding the earlier image %s: %w", img.ID, err)
		}
		u.progress("hid the earlier image %s", img.ID)
	}
	return nil
}
