package cli

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/servers"
	"github.com/spf13/cobra"
)

// launchOptions are the flags of launch.
type launchOptions struct {
	cloud, image, flavor, network, key, userData, user string
	noFloating, reuse                                  bool
	timeout                                            time.Duration
}

func (a *app) launch() *cobra.Command {
	o := launchOptions{}
	c := &cobra.Command{Use: "launch NAME", Short: "Make a server with a floating IP and wait until it can be logged into",
		Example: "  strata launch web\n  strata launch web --flavor m1.tiny --user-data setup.sh",
		Args:    oneName("strata launch NAME"),
		RunE:    func(cmd *cobra.Command, args []string) error { return a.runLaunch(cmd.Context(), args[0], &o) }}
	f := c.Flags()
	cloudFlag(c, &o.cloud)
	f.StringVar(&o.image, "image", "tiny", "name or id of the image")
	f.StringVar(&o.flavor, "flavor", "m1.nano", "name or id of the flavor")
	f.StringVar(&o.network, "network", "private", "name or id of the network")
	f.StringVar(&o.key, "key", "", "private key file (default: ~/.ssh/id_ed25519 when it has no passphrase, else one made in the data directory)")
	f.StringVar(&o.user, "user", "", "log-in user (default: the image's os_admin_user)")
	f.StringVar(&o.userData, "user-data", "", "file with user data: a script or cloud-config")
	f.BoolVar(&o.noFloating, "no-floating-ip", false, "give the server no floating IP and do not wait for SSH")
	f.BoolVar(&o.reuse, "reuse", false, "when there is a server of this name, wake it up if need be, check and show it")
	f.DurationVar(&o.timeout, "timeout", 5*time.Minute, "how long the server may take to answer on SSH")
	return c
}

func oneName(usage string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) != 1 || args[0] == "" {
			return usageError{fmt.Errorf("name one server: %s", usage)}
		}
		return nil
	}
}

func cloudFlag(c *cobra.Command, to *string) {
	c.Flags().StringVar(to, "cloud", "strata-demo", "entry of clouds.yaml whose project to use")
}

// launching is one run of launch.
type launching struct {
	*app
	*client
	o      *launchOptions
	name   string
	key    *sshKey
	server *servers.Server
	addr   string
	user   string
	begun  time.Time
	phases []phase
	made   []string // commands that remove what this run made, newest first
}

// phase is a part of the way, with its time.
type phase struct {
	Name    string  `json:"name"`
	Seconds float64 `json:"seconds"`
}

func (a *app) runLaunch(ctx context.Context, name string, o *launchOptions) error {
	ctx, cancel := context.WithTimeoutCause(ctx, o.timeout, fmt.Errorf("not within %s (--timeout gives it longer)", o.timeout))
	defer cancel()
	c, err := a.connect(ctx, o.cloud)
	if err != nil {
		return err
	}
	l := &launching{app: a, client: c, o: o, name: name, begun: time.Now()}
	if l.key, err = a.sshKey(o.key, true); err != nil {
		return err
	}
	if err := l.run(ctx); err != nil {
		return l.failed(ctx, a.explain(err))
	}
	return l.report()
}

func (l *launching) run(ctx context.Context) error {
	old, err := l.serversNamed(ctx, l.name)
	if err != nil {
		return err
	}
	switch {
	case len(old) > 0 && !l.o.reuse:
		return usageError{fmt.Errorf("there is a server %s already (%s): choose another name, log in with strata ssh %s, or use --reuse", l.name, old[0].Status, l.name)}
	case len(old) > 0:
		l.server = &old[0]
		err = l.reuse(ctx)
	default:
		err = l.create(ctx)
	}
	if err != nil || l.o.noFloating {
		return err
	}
	return l.timed("SSH log-in", func() error { return l.logIn(ctx) })
}

// reuse wakes up the server that is there.
func (l *launching) reuse(ctx context.Context) error {
	l.progress("server %s is there (%s)", l.name, l.server.Status)
	var doing string
	var err error
	switch api, id := l.computeAPI, l.server.ID; l.server.Status {
	case "SHUTOFF":
		doing, err = "starting", servers.Start(ctx, api, id).ExtractErr()
	case "PAUSED":
		doing, err = "unpausing", servers.Unpause(ctx, api, id).ExtractErr()
	case "SUSPENDED":
		doing, err = "resuming", servers.Resume(ctx, api, id).ExtractErr()
	}
	if err != nil {
		return fmt.Errorf("%s server %s: %w", doing, l.name, err)
	}
	if doing != "" {
		l.progress("%s it", doing)
	}
	return l.settle(ctx)
}

// create asks for everything at once and then waits: the floating IP is made
// while the server boots.
func (l *launching) create(ctx context.Context) error {
	opts, err := l.createOptions(ctx)
	if err != nil {
		return err
	}
	err = l.timed("request", func() error {
		s, err := servers.Create(ctx, l.computeAPI, opts, nil).Extract()
		if err != nil {
			return fmt.Errorf("creating server %s: %w", l.name, err)
		}
		l.server = s
		l.undo("openstack server delete " + s.ID)
		return nil
	})
	if err != nil {
		return err
	}
	l.progress("server %s is requested (%s)", l.name, l.server.ID)
	return l.settle(ctx)
}

// settle waits until the server is active and has its floating IP.
func (l *launching) settle(ctx context.Context) error {
	if !l.o.noFloating {
		if err := l.timed("floating IP", func() error { return l.floatingIP(ctx) }); err != nil {
			return err
		}
	}
	return l.timed("ACTIVE", func() error { return l.waitActive(ctx) })
}

// timed runs a part of the way, and says how long it took.
func (l *launching) timed(name string, fn func() error) error {
	start := time.Now()
	if err := fn(); err != nil {
		return err
	}
	l.phases = append(l.phases, phase{name, time.Since(start).Seconds()})
	l.progress("  %-12s %s", name, took(start))
	return nil
}

func (l *launching) undo(command string) { l.made = append([]string{command}, l.made...) }

// readUserData reads the file of --user-data.
func (o *launchOptions) readUserData() ([]byte, error) {
	if o.userData == "" {
		return nil, nil
	}
	data, err := os.ReadFile(o.userData)
	if err != nil {
		return nil, usageError{fmt.Errorf("--user-data: %w", err)}
	}
	const most = 65535 / 4 * 3 // the API takes 65535 characters of base64
	if len(data) > most {
		return nil, usageError{fmt.Errorf("--user-data: %s has %d bytes, more than %d: let a short script fetch the rest", o.userData, len(data), most)}
	}
	return data, nil
}
