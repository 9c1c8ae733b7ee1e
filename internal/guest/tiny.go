package guest

import (
	"compress/gzip"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
)

const (
	sector = 512
	// partitionStart leaves the customary first MiB to the boot loader.
	partitionStart = 1 << 20
	// tinyDiskSize is the virtual size of the tiny image; the guest grows into larger disks.
	tinyDiskSize = 96 << 20
	rootLabel    = "strata-root"
)

// smallRecipe is a guest of busybox with some programs more.
type smallRecipe struct {
	packages []string
	programs []string // of packages, by their place in the guest
	modules  []string // that the kernel loads on demand
	files    []string // directories of our own files, the later in place of the earlier
	extra    map[string]string
	disk     int64 // virtual size
}

func tinyRecipe() *smallRecipe {
	return &smallRecipe{packages: tinyPackages, programs: tinyPrograms, modules: extraModules, files: []string{"files/root"}, disk: tinyDiskSize}
}

// small builds a small guest.
func (b *builder) small(ctx context.Context, r *smallRecipe) error {
	b.say("finding packages")
	tree, err := b.unpacked(ctx, r.packages)
	if err != nil {
		return err
	}
	release, err := kernelRelease(tree)
	if err != nil {
		return err
	}
	mods, err := readModules(tree, release)
	if err != nil {
		return fmt.Errorf("reading kernel modules: %w", err)
	}
	b.say("making the root filesystem (kernel %s)", release)
	kernel := filepath.Join(tree, "boot/vmlinuz-"+release)
	initrd := filepath.Join(b.tmp, "initrd.img")
	if err := b.makeInitrd(tree, release, mods, initrd); err != nil {
		return fmt.Errorf("making the initial ramdisk: %w", err)
	}
	root := filepath.Join(b.tmp, "root")
	if err := makeRoot(ctx, r, tree, root, release, mods); err != nil {
		return fmt.Errorf("making the root filesystem: %w", err)
	}
	for from, name := range map[string]string{kernel: "vmlinuz", initrd: "initrd.img"} {
		if err := copyFile(from, filepath.Join(root, "boot", name), 0o644); err != nil {
			return err
		}
	}
	b.say("making the disk")
	raw := filepath.Join(b.tmp, "disk.raw")
	if err := b.makeDisk(ctx, tree, root, raw, r.disk); err != nil {
		return fmt.Errorf("making the disk: %w", err)
	}
	qcow := filepath.Join(b.tmp, "disk.qcow2")
	if _, err := run(ctx, "", "qemu-img", "convert", "-c", "-O", "qcow2", raw, qcow); err != nil {
		return err
	}
	kcopy := filepath.Join(b.tmp, "vmlinuz")
	if err := copyFile(kernel, kcopy, 0o644); err != nil {
		return err
	}
	return publish([][2]string{{kcopy, KernelPath(b.Output)}, {initrd, InitrdPath(b.Output)}, {qcow, b.Output}})
}

// makeInitrd makes the initial ramdisk: busybox, the modules of virtual
// hardware, and our init.
func (b *builder) makeInitrd(tree, release string, mods moduleSet, out string) error {
	dir := filepath.Join(b.tmp, "initrd")
	for _, d := range []string{"bin", "dev", "proc", "sys", "root"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return err
		}
	}
	bb, err := lookIn(tree, "bin/busybox")
	if err != nil {
		return err
	}
	if err := copyFile(bb, filepath.Join(dir, "bin/busybox"), 0o755); err != nil {
		return err
	}
	for _, applet := range []string{"sh", "modprobe", "mount", "umount", "printf", "dd", "blockdev", "usleep", "cat", "switch_root"} {
		if err := os.Symlink("busybox", filepath.Join(dir, "bin", applet)); err != nil {
			return err
		}
	}
	set, err := mods.closure(bootModules)
	if err != nil {
		return err
	}
	if err := installModules(dir, release, set); err != nil {
		return err
	}
	script, err := files.ReadFile("files/initrd-init")
	if err != nil {
		return err
	}
	if err := writeFile(filepath.Join(dir, "init"), script, 0o755); err != nil {
		return err
	}
	return writeInitrd(dir, out)
}

func writeInitrd(dir, out string) error {
	f, err := os.Create(out)
	if err != nil {
		return err
	}
	z := gzip.NewWriter(f)
	return errors.Join(writeCPIO(z, dir), z.Close(), f.Close())
}

// makeDisk makes a raw disk with one MBR partition that has the tree at root,
// and GRUB in front of it.
func (b *builder) makeDisk(ctx context.Context, tree, root, raw string, size int64) error {
	f, err := os.Create(raw)
	if err != nil {
		return err
	}
	err = f.Truncate(size)
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	// Room in the group descriptors for growth to 256 GiB while mounted.
	_, err = run(ctx, "", "mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", "-L", rootLabel, "-d", root,
		"-O", "^metadata_csum_seed,^orphan_file", "-J", "size=4",
		"-E", "offset="+strconv.Itoa(partitionStart)+",root_owner=0:0,resize=67108864", "-m", "0",
		raw, strconv.FormatInt((size-partitionStart)/1024, 10)+"k")
	if err != nil {
		return err
	}
	boot, core, err := b.grub(ctx, tree)
	if err != nil {
		return err
	}
	return writeBootSectors(raw, boot, core, size)
}

// grub makes GRUB's two parts for BIOS machines with the packages' own
// grub-mkimage, run with the packages' own libraries.
func (b *builder) grub(ctx context.Context, tree string) (boot, core []byte, err error) {
	mkimage, err := lookIn(tree, "usr/bin/grub-mkimage")
	if err != nil {
		return nil, nil, err
	}
	ld, err := lookLibrary(tree, "ld-linux-x86-64.so.2")
	if err != nil {
		return nil, nil, err
	}
	mods := filepath.Join(tree, "usr/lib/grub/i386-pc")
	out := filepath.Join(b.tmp, "core.img")
	libs := filepath.Join(tree, "lib/x86_64-linux-gnu") + ":" + filepath.Join(tree, "usr/lib/x86_64-linux-gnu")
	_, err = run(ctx, "", ld, "--library-path", libs, mkimage, "-d", mods, "-O", "i386-pc", "-o", out,
		"-p", "(hd0,msdos1)/boot/grub", "biosdisk", "part_msdos", "ext2", "normal", "linux", "serial", "echo", "configfile", "boot", "minicmd")
	if err != nil {
		return nil, nil, fmt.Errorf("making GRUB: %w", err)
	}
	if core, err = os.ReadFile(out); err != nil {
		return nil, nil, err
	}
	boot, err = os.ReadFile(filepath.Join(mods, "boot.img"))
	return boot, core, err
}

// writeBootSectors writes the master boot record and GRUB's core behind it.
func writeBootSectors(raw string, boot, core []byte, size int64) error {
	if len(boot) < sector || len(core) > partitionStart-sector {
		return fmt.Errorf("GRUB's parts have sizes %d and %d, which do not fit", len(boot), len(core))
	}
	mbr := make([]byte, sector)
	copy(mbr, boot[:440])
	entry := mbr[446:462]
	entry[0] = 0x80 // active
	copy(entry[1:4], []byte{0xfe, 0xff, 0xff})
	entry[4] = 0x83 // Linux
	copy(entry[5:8], []byte{0xfe, 0xff, 0xff})
	binary.LittleEndian.PutUint32(entry[8:], partitionStart/sector)
	binary.LittleEndian.PutUint32(entry[12:], uint32((size-partitionStart)/sector))
	mbr[510], mbr[511] = 0x55, 0xaa
	f, err := os.OpenFile(raw, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err1 := f.WriteAt(mbr, 0)
	_, err2 := f.WriteAt(core, sector)
	return errors.Join(err1, err2, f.Close())
}
