package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
)

// sshDial tries to log into a server.
type sshDial struct {
	addr, user string
	key        *sshKey
	hostKey    ssh.HostKeyCallback
}

// sshTry bounds one try: a guest that boots may swallow the first packets.
const sshTry = 3 * time.Second

// try logs in and runs the command true.
func (d *sshDial) try(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, sshTry)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", net.JoinHostPort(d.addr, "22"))
	if err != nil {
		return err
	}
	defer conn.Close()
	if end, ok := ctx.Deadline(); ok {
		// A guest under emulation needs a while for the key exchange, once it listens.
		if err := conn.SetDeadline(end.Add(10 * time.Second)); err != nil {
			return err
		}
	}
	c, chans, reqs, err := ssh.NewClientConn(conn, d.addr, &ssh.ClientConfig{User: d.user, Auth: []ssh.AuthMethod{ssh.PublicKeys(d.key.signer)}, HostKeyCallback: d.hostKey})
	if err != nil {
		return err
	}
	client := ssh.NewClient(c, chans, reqs)
	defer client.Close()
	session, err := client.NewSession()
	if err != nil {
		return err
	}
	defer session.Close()
	return session.Run("true")
}

// hopeless passes on the errors that time does not heal.
func (d *sshDial) hopeless(err error) error {
	var changed *knownhosts.KeyError
	if errors.As(err, &changed) {
		return fmt.Errorf("%s shows another host key than at its first log-in: %w", d.addr, err)
	}
	return nil
}

// knownHosts remembers the host keys of servers, by server and not by address,
// as floating IPs move.
type knownHosts struct{ file string }

func (a *app) knownHosts() (knownHosts, error) {
	h := knownHosts{a.path(filepath.Join(keysDir, "known_hosts"))}
	if err := os.MkdirAll(filepath.Dir(h.file), 0o700); err != nil {
		return h, err
	}
	f, err := os.OpenFile(h.file, os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return h, err
	}
	return h, f.Close()
}

// hostAlias is the name of a server in known_hosts.
func hostAlias(serverID string) string { return "strata-" + serverID }

// check accepts the first key that the alias shows, and no other afterwards.
func (h knownHosts) check(alias string) ssh.HostKeyCallback {
	return func(_ string, remote net.Addr, key ssh.PublicKey) error {
		known, err := knownhosts.New(h.file)
		if err != nil {
			return err
		}
		err = known(alias+":22", remote, key)
		var unknown *knownhosts.KeyError
		if !errors.As(err, &unknown) || len(unknown.Want) > 0 {
			return err
		}
		f, err := os.OpenFile(h.file, os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(f, knownhosts.Line([]string{alias}, key))
		return errors.Join(err, f.Close())
	}
}

// options are what ssh needs to agree with launch.
func (h knownHosts) options(alias string) []string {
	return []string{"-o", "UserKnownHostsFile=" + strings.ReplaceAll(h.file, " ", `\ `), "-o", "GlobalKnownHostsFile=/dev/null", "-o", "HostKeyAlias=" + alias,
		"-o", "StrictHostKeyChecking=accept-new", "-o", "LogLevel=ERROR"}
}
