package fusefile

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// Verb is how a program is told to be Main.
const Verb = "volume-file"

// Main mounts a disk as a file, and serves that until it is unmounted. Its arguments
// are the socket of the disk's NBD server, the export, the file, rw or ro, and the user
// that it is to be afterwards; 0: the same.
func Main(ctx context.Context, args []string, errs io.Writer) int {
	if err := serve(ctx, args); err != nil {
		fmt.Fprintln(errs, err)
		return 1
	}
	return 0
}

func serve(ctx context.Context, args []string) error {
	if len(args) != 5 {
		return errors.New("usage: " + Verb + " SOCKET EXPORT FILE rw|ro UID")
	}
	uid, err := strconv.Atoi(args[4])
	if err != nil {
		return fmt.Errorf("the user: %w", err)
	}
	disk, err := open(ctx, args[0], args[1])
	if err != nil {
		return err
	}
	s := &server{disk: disk, readOnly: args[3] == "ro"}
	if s.fd, err = unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0); err != nil {
		return fmt.Errorf("this machine has no FUSE: %w", err)
	}
	flags := uintptr(unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC)
	if s.readOnly {
		flags |= unix.MS_RDONLY
	}
	if err := unix.Mount("strata", args[2], "fuse", flags, fmt.Sprintf("fd=%d,rootmode=100600,user_id=0,group_id=0,max_read=%d", s.fd, maxWrite)); err != nil {
		return fmt.Errorf("mounting the volume's file: %w", err)
	}
	if err := drop(uid); err != nil {
		return err
	}
	return errors.Join(s.run(), disk.Close())
}

// drop gives up what was needed to mount. Root's rights go with its number.
func drop(uid int) error {
	if uid == 0 {
		return nil
	}
	if err := errors.Join(unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), unix.Setgroups(nil), unix.Setresgid(uid, uid, uid), unix.Setresuid(uid, uid, uid)); err != nil {
		return fmt.Errorf("giving up rights: %w", err)
	}
	if _, err := os.ReadDir("/proc/1/fd"); err == nil {
		return errors.New("rights are left")
	}
	return nil
}
