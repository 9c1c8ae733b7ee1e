// Package qemu runs QEMU's tools for disks: qemu-img and the servers qemu-nbd and
// qemu-storage-daemon.
//
// Tenants write to the files that these programs parse, so they run as an
// unprivileged user that can reach only the directory they work in. Passphrases
// go through pipes: they are on no command line and in no file.
package qemu
