package guest

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

const debianDiskSize = 2 << 30

// debianPackages make a machine that cloud-init can set up and a user can log in to.
var debianPackages = []string{
	"linux-image-cloud-amd64", "systemd-sysv", "systemd-resolved", "dbus", "udev", "cloud-init", "cloud-guest-utils", "netplan.io",
	"openssh-server", "sudo", "ca-certificates", "curl", "e2fsprogs", "fdisk", "iproute2", "iputils-ping", "less", "netbase", "vim-tiny",
}

// debianFiles are written into the finished tree.
var debianFiles = map[string]string{
	"etc/fstab":    "LABEL=" + rootLabel + " / ext4 defaults,noatime 0 1\n",
	"etc/hostname": "debian\n",
	"etc/hosts":    "127.0.0.1 localhost\n::1 localhost\n",
	"etc/cloud/cloud.cfg.d/90-strata.cfg": `locale: false
manage_etc_hosts: true
datasource_list: [ConfigDrive, OpenStack, None]
system_info:
  default_user:
    name: ` + User + `
    lock_passwd: true
    groups: [adm, sudo]
    sudo: ["ALL=(ALL) NOPASSWD:ALL"]
    shell: /bin/bash
`,
}

// debianArgs is the kernel command line of the Debian guest.
const debianArgs = "root=LABEL=" + rootLabel + " ro console=tty0 console=ttyS0,115200 net.ifnames=0 no_timer_check"

// debian builds the Debian guest.
func (b *builder) debian(ctx context.Context) error {
	tree, err := b.unpacked(ctx, tinyPackages) // for GRUB
	if err != nil {
		return err
	}
	suite := debianSuite()
	root := filepath.Join(b.tmp, "root")
	b.say("installing Debian %s into a directory; this takes about two minutes", suite)
	_, err = run(ctx, "", "mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", "--include="+strings.Join(debianPackages, ","),
		"--aptopt=Acquire::Languages \"none\"", "--dpkgopt=path-exclude=/usr/share/man/*", "--dpkgopt=path-exclude=/usr/share/locale/*", suite, root)
	if err != nil {
		return fmt.Errorf("installing Debian: %w", err)
	}
	kernel, initrd, err := finishDebian(root)
	if err != nil {
		return fmt.Errorf("finishing Debian: %w", err)
	}
	b.say("making the disk")
	raw, qcow := filepath.Join(b.tmp, "disk.raw"), filepath.Join(b.tmp, "disk.qcow2")
	if err := b.makeDisk(ctx, tree, root, raw, debianDiskSize); err != nil {
		return fmt.Errorf("making the disk: %w", err)
	}
	if _, err := run(ctx, "", "qemu-img", "convert", "-c", "-O", "qcow2", "-o", "compression_type=zstd", raw, qcow); err != nil {
		return err
	}
	return publish([][2]string{{kernel, KernelPath(b.Output)}, {initrd, InitrdPath(b.Output)}, {qcow, b.Output}})
}

// finishDebian writes our files, removes what must be each machine's own, and
// returns the kernel and the initial ramdisk.
func finishDebian(root string) (kernel, initrd string, err error) {
	kernels, err := filepath.Glob(filepath.Join(root, "boot/vmlinuz-*"))
	if err != nil || len(kernels) != 1 {
		return "", "", fmt.Errorf("expected one kernel, found %d: %w", len(kernels), err)
	}
	release := strings.TrimPrefix(filepath.Base(kernels[0]), "vmlinuz-")
	cfg := fmt.Sprintf("serial --unit=0 --speed=115200\nterminal_input serial\nterminal_output serial\n"+
		"linux /boot/vmlinuz-%s %s\ninitrd /boot/initrd.img-%s\nboot\n", release, debianArgs, release)
	if err := writeFile(filepath.Join(root, "boot/grub/grub.cfg"), []byte(cfg), 0o644); err != nil {
		return "", "", err
	}
	for name, text := range debianFiles {
		if err := writeFile(filepath.Join(root, name), []byte(text), 0o644); err != nil {
			return "", "", err
		}
	}
	own, err := filepath.Glob(filepath.Join(root, "etc/ssh/ssh_host_*"))
	if err != nil {
		return "", "", err
	}
	for _, f := range own {
		if err := os.Remove(f); err != nil {
			return "", "", err
		}
	}
	// An empty file makes systemd give the machine an id of its own.
	if err := writeFile(filepath.Join(root, "etc/machine-id"), nil, 0o444); err != nil {
		return "", "", err
	}
	return kernels[0], filepath.Join(root, "boot/initrd.img-"+release), nil
}

// debianSuite is the host's release when it is a Debian, else the stable one.
func debianSuite() string {
	f, err := os.Open("/etc/os-release")
	if err != nil {
		return "stable"
	}
	defer f.Close()
	vals := map[string]string{}
	for sc := bufio.NewScanner(f); sc.Scan(); {
		k, v, _ := strings.Cut(sc.Text(), "=")
		vals[k] = strings.Trim(v, `"`)
	}
	if vals["ID"] == "debian" && vals["VERSION_CODENAME"] != "" {
		return vals["VERSION_CODENAME"]
	}
	return "stable"
}
