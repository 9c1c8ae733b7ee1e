package qemu

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
)

// Tools runs QEMU's programs.
type Tools struct {
	// UID and GID are whom the programs run as; 0: as ourselves.
	UID, GID int
}

// Secret is a passphrase that a program gets under a name.
type Secret struct {
	ID  string
	Key []byte
}

// firstFD is the first descriptor that a child gets beyond the standard three.
const firstFD = 3

// unmeasured is what QEMU says when it could not measure how long a passphrase takes to
// try (crypto/pbkdf.c): on a busy machine the kernel may have charged it no time at all.
// It says so before it writes anything.
const unmeasured = "Unable to get accurate CPU usage"

// measurings is how often it is asked to measure.
const measurings = 10

// Img runs qemu-img in dir, where its files are, and gives what it printed.
func (t Tools) Img(ctx context.Context, dir string, secrets []Secret, verb string, args ...string) (out string, err error) {
	for range measurings {
		out, err = t.img(ctx, dir, secrets, verb, args...)
		if err == nil || !strings.Contains(err.Error(), unmeasured) {
			break
		}
	}
	return out, err
}

func (t Tools) img(ctx context.Context, dir string, secrets []Secret, verb string, args ...string) (string, error) {
	objects, pipes, err := t.pass(secrets, firstFD)
	if err != nil {
		return "", err
	}
	defer closeAll(pipes)
	cmd, err := t.Command(ctx, dir, "qemu-img", append(append([]string{verb}, objects...), args...)...)
	if err != nil {
		return "", err
	}
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = &out, &complaint, pipes
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return "", fmt.Errorf("qemu-img %s: %w: %s", verb, err, strings.TrimSpace(complaint.String()))
	}
	return out.String(), nil
}

// Command makes a command that runs in dir with no privileges.
func (t Tools) Command(ctx context.Context, dir, program string, args ...string) (*exec.Cmd, error) {
	path, err := exec.LookPath(program)
	if err != nil {
		return nil, fmt.Errorf("the program %s is missing: install the package %s", program, packageOf(program))
	}
	if os.Geteuid() == 0 && t.UID != 0 {
		setpriv, err := exec.LookPath("setpriv")
		if err != nil {
			return nil, fmt.Errorf("setpriv is missing: install the package util-linux: %w", err)
		}
		// We change the directory while we may still enter it.
		args = append([]string{"--reuid=" + strconv.Itoa(t.UID), "--regid=" + strconv.Itoa(t.GID), "--clear-groups",
			"--no-new-privs", "--bounding-set=-all", "--inh-caps=-all", "--", path}, args...)
		path = setpriv
	}
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Dir = dir
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return cmd, nil
}

// pass makes the arguments that define the secrets, and the pipes that they are
// in, for the descriptors from fd on.
func (t Tools) pass(secrets []Secret, fd int) (args []string, pipes []*os.File, err error) {
	for i, s := range secrets {
		r, err := t.pipe(s.Key)
		if err != nil {
			closeAll(pipes)
			return nil, nil, fmt.Errorf("handing over a key: %w", err)
		}
		pipes = append(pipes, r)
		args = append(args, "--object", fmt.Sprintf("secret,id=%s,format=base64,file=/dev/fd/%d", s.ID, fd+i))
	}
	return args, pipes, nil
}

// pipe has the key in it, for the programs' user alone.
func (t Tools) pipe(key []byte) (*os.File, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	if os.Geteuid() == 0 && t.UID != 0 {
		err = r.Chown(t.UID, t.GID)
	}
	if err == nil { // far less than a pipe's buffer
		_, err = w.WriteString(base64.StdEncoding.EncodeToString(key))
	}
	if err = errors.Join(err, w.Close()); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

// Own gives a file to the programs' user.
func (t Tools) Own(path string) error {
	if os.Geteuid() != 0 || t.UID == 0 {
		return nil
	}
	return os.Lchown(path, t.UID, t.GID)
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}

// packageOf is the Debian package that has the program.
func packageOf(program string) string {
	if program == "qemu-storage-daemon" {
		return "qemu-system-common"
	}
	return "qemu-utils"
}

// Daemon starts a program in dir that goes on when we end. What it says goes to log.
func (t Tools) Daemon(ctx context.Context, dir string, secrets []Secret, log *os.File, program string, args ...string) (*exec.Cmd, error) {
	objects, pipes, err := t.pass(secrets, firstFD)
	if err != nil {
		return nil, err
	}
	defer closeAll(pipes)
	cmd, err := t.Command(context.WithoutCancel(ctx), dir, program, append(objects, args...)...)
	if err != nil {
		return nil, err
	}
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = log, log, pipes
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("running %s: %w", program, err)
	}
	return cmd, nil
}
