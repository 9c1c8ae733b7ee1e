package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/coder/websocket"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/remoteconsoles"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/servers"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

// leaveKey is Ctrl-], which leaves a console as it leaves telnet.
const leaveKey = 0x1d

func (a *app) console() *cobra.Command {
	var cloud string
	c := &cobra.Command{Use: "console SERVER", Short: "Join this terminal to a server's serial console; Ctrl-] leaves",
		Example: "  strata console web",
		Args:    oneName("strata console SERVER"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.explain(a.runConsole(cmd.Context(), cloud, args[0], os.Stdin))
		}}
	cloudFlag(c, &cloud)
	return c
}

func (a *app) runConsole(ctx context.Context, cloud, name string, in *os.File) error {
	c, err := a.connect(ctx, cloud)
	if err != nil {
		return err
	}
	server, err := a.oneServer(ctx, c, cloud, name)
	if err != nil {
		return err
	}
	remote, err := remoteconsoles.Create(ctx, c.computeAPI, server.ID, remoteconsoles.CreateOpts{
		Protocol: remoteconsoles.ConsoleProtocolSerial, Type: remoteconsoles.ConsoleTypeSerial}).Extract()
	if err != nil {
		return fmt.Errorf("asking for the serial console of server %s (%s): %w", name, server.Status, err)
	}
	ws, _, err := websocket.Dial(ctx, remote.URL, &websocket.DialOptions{HTTPClient: &c.computeAPI.HTTPClient, Subprotocols: []string{"binary"}})
	if err != nil {
		return fmt.Errorf("reaching the serial console of server %s: %w", name, err)
	}
	defer ws.CloseNow()
	fmt.Fprintf(a.errs, "The serial console of %s: Enter wakes it, Ctrl-] leaves.\n", name)
	restore, err := rawTerminal(in)
	if err != nil {
		return err
	}
	defer restore()
	err = join(ctx, ws, in, a.out)
	restore()
	fmt.Fprintln(a.errs)
	return err
}

// oneServer finds the project's server of that name or id.
func (a *app) oneServer(ctx context.Context, c *client, cloud, name string) (*servers.Server, error) {
	list, err := c.serversNamed(ctx, name)
	if err != nil {
		return nil, err
	}
	if len(list) == 0 {
		if s, err := servers.Get(ctx, c.computeAPI, name).Extract(); err == nil {
			return s, nil
		}
		return nil, usageError{fmt.Errorf("there is no server %s in the project of %s: see openstack server list, or make it with %s launch %s", name, cloud, a.self(), name)}
	}
	if len(list) > 1 {
		return nil, usageError{fmt.Errorf("%d servers are called %s in the project of %s: give the id of one", len(list), name, cloud)}
	}
	return &list[0], nil
}

// join carries bytes both ways until the console ends, the input ends, or its user leaves.
func join(ctx context.Context, ws *websocket.Conn, in io.Reader, out io.Writer) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, 2)
	go func() { ended <- typeInto(ctx, ws, in) }()
	go func() {
		for {
			_, r, err := ws.Reader(ctx)
			if err == nil {
				_, err = io.Copy(out, r)
			}
			if err != nil {
				ended <- consoleEnd(err)
				return
			}
		}
	}()
	err := <-ended
	if err == nil {
		_ = ws.Close(websocket.StatusNormalClosure, "")
	}
	return err
}

func typeInto(ctx context.Context, ws *websocket.Conn, in io.Reader) error {
	buf := make([]byte, 4096)
	for {
		n, err := in.Read(buf)
		text, leave := buf[:n], false
		if at := bytes.IndexByte(text, leaveKey); at >= 0 {
			text, leave = text[:at], true
		}
		if len(text) > 0 {
			if err := ws.Write(ctx, websocket.MessageBinary, text); err != nil {
				return consoleEnd(err)
			}
		}
		if leave || errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading the input: %w", err)
		}
	}
}

func consoleEnd(err error) error {
	if websocket.CloseStatus(err) == websocket.StatusNormalClosure || errors.Is(err, io.EOF) {
		return errors.New("the server closed its console: it was stopped or restarted")
	}
	return fmt.Errorf("the console's connection broke: %w", err)
}

// rawTerminal makes a terminal pass every key on, and gives what undoes that.
// What is no terminal stays as it is.
func rawTerminal(f *os.File) (restore func(), err error) {
	fd := int(f.Fd())
	before, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return func() {}, nil
	}
	raw := *before
	raw.Iflag &^= unix.IGNBRK | unix.BRKINT | unix.PARMRK | unix.ISTRIP | unix.INLCR | unix.IGNCR | unix.ICRNL | unix.IXON
	raw.Oflag &^= unix.OPOST
	raw.Lflag &^= unix.ECHO | unix.ECHONL | unix.ICANON | unix.ISIG | unix.IEXTEN
	raw.Cflag = raw.Cflag&^(unix.CSIZE|unix.PARENB) | unix.CS8
	raw.Cc[unix.VMIN], raw.Cc[unix.VTIME] = 1, 0
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, &raw); err != nil {
		return nil, fmt.Errorf("setting up the terminal: %w", err)
	}
	return func() { _ = unix.IoctlSetTermios(fd, unix.TCSETS, before) }, nil
}
