// Package guest builds bootable guest images from distribution packages.
//
// Nothing is installed on the host: packages are downloaded with the host's
// own apt (its sources, its keys) into a work directory and unpacked there, and
// even GRUB's tools run from the unpacked tree. Build is the only entry; it
// caches packages and the unpacked tree in Options.WorkDir, so that a second
// build takes a few seconds and needs no network. Several builds may share a
// work directory: a lock serialises them.
//
// The kind "tiny" is a small Linux (Debian's cloud kernel, busybox, dropbear)
// with the log-in user "strata". Beside OUTPUT.qcow2 it exports the kernel and
// the initial ramdisk, so that the guest boots from its disk by BIOS and GRUB
// as well as directly. In a template (hypervisor.TemplateSKU) it waits to be cloned
// before it has an identity. The kind "debian" is a minimal Debian with systemd and
// cloud-init, made by mmdebstrap; it takes minutes and its log-in user is "strata" too.
package guest
