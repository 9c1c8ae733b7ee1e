package cli

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	application "github.com/strata-cloud/strata/internal/app"
	"github.com/strata-cloud/strata/internal/kubeapi"
)

// placed are the flags that say where applications are.
type placed struct {
	cloud, cluster string
	timeout        time.Duration
}

func (a *app) application() *cobra.Command {
	var p placed
	c := &cobra.Command{Use: "app", Short: "Run applications in a cluster, from an image or a compose file", Args: cobra.NoArgs,
		Long: "Run applications in a cluster of Kubernetes without writing its objects. An application is a namespace; each of its services is a Deployment, with a Service for its ports. " +
			"strata kubectl -n NAME get all shows them."}
	c.PersistentFlags().StringVar(&p.cloud, "cloud", "strata-demo", "entry of clouds.yaml whose project to use")
	c.PersistentFlags().StringVar(&p.cluster, "cluster", "", "name or id of the cluster (default: the project's only one)")
	c.PersistentFlags().DurationVar(&p.timeout, "timeout", 10*time.Minute, "how long to wait until what was asked for is so")
	c.AddCommand(a.appDeploy(&p), a.appList(&p), a.appScale(&p), a.appRollback(&p), a.appDelete(&p))
	return c
}

// inCluster calls do with the cluster that is meant.
func (a *app) inCluster(ctx context.Context, p *placed, do func(context.Context, *application.Cluster) error) error {
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	name := p.cluster
	if name == "" {
		var err error
		if name, err = a.onlyCluster(ctx, p.cloud); err != nil {
			return a.explain(err)
		}
	}
	text, err := a.kubeconfig(ctx, p.cloud, name)
	if err != nil {
		return a.explain(err)
	}
	cfg, err := kubeapi.FromKubeconfig([]byte(text))
	if err != nil {
		return err
	}
	cfg.Manager = application.Manager
	api, err := kubeapi.New(cfg)
	if err != nil {
		return err
	}
	defer api.Close()
	return a.explain(do(ctx, &application.Cluster{API: api, Say: a.progress}))
}

// deployOptions are the flags of strata app deploy.
type deployOptions struct {
	files, profiles []string
	image           string
	ports, env      []string
	volumes, hosts  []string
	replicas        int
	noWait, dryRun  bool
}

func (a *app) appDeploy(p *placed) *cobra.Command {
	var o deployOptions
	c := &cobra.Command{Use: "deploy [NAME]", Short: "Deploy an application, or a new version of it", Args: cobra.MaximumNArgs(1),
		Example: "  strata app deploy shop --file compose.yaml\n  strata app deploy web --image nginx:1.29 --port 80:8080 --replicas 3\n  strata app deploy web --image nginx:1.29 --dry-run",
		Long: "Deploy an application from compose files, with docker's own rules for variables and profiles, or from one image. What was deployed under the name before is updated, copy by copy. " +
			"Ports that are published get an address of a load balancer, and hosts lead to a service by the cluster's ingress; other ports are for the application's other services, which find each other by name.",
		RunE: func(cmd *cobra.Command, args []string) error {
			name := ""
			if len(args) > 0 {
				name = args[0]
			}
			what, err := o.app(cmd.Context(), name, cmd.Flags().Changed("replicas"))
			if err != nil {
				return usageError{err}
			}
			for _, h := range o.hosts {
				service, host, named := strings.Cut(h, "=")
				if !named {
					service, host = "", h
				}
				if err := what.Lead(host, service); err != nil {
					return usageError{err}
				}
			}
			return a.deploy(cmd.Context(), p, what, o)
		}}
	c.Flags().StringArrayVarP(&o.files, "file", "f", nil, "compose file; several are merged")
	c.Flags().StringArrayVar(&o.profiles, "profile", nil, "profile of the compose file")
	c.Flags().StringVar(&o.image, "image", "", "image of an application that is one service")
	c.Flags().StringArrayVarP(&o.ports, "port", "p", nil, "with --image: port that it listens on, PUBLIC:PORT for one that is reached from outside")
	c.Flags().StringArrayVar(&o.hosts, "host", nil, "name by which HTTP reaches it, through the cluster's ingress; SERVICE=NAME with --file")
	c.Flags().StringArrayVarP(&o.env, "env", "e", nil, "with --image: variable of its environment, NAME=VALUE")
	c.Flags().StringArrayVarP(&o.volumes, "volume", "v", nil, "with --image: volume, NAME:PATH or NAME:PATH:SIZE (default size "+application.DefaultSize+")")
	c.Flags().IntVar(&o.replicas, "replicas", 1, "with --image: how many copies run")
	c.Flags().BoolVar(&o.noWait, "no-wait", false, "do not wait until it is ready")
	c.Flags().BoolVar(&o.dryRun, "dry-run", false, "print the objects in JSON, and change nothing")
	return c
}

// app is the application that the flags describe.
func (o *deployOptions) app(ctx context.Context, name string, scaled bool) (*application.App, error) {
	switch {
	case len(o.files) > 0 && o.image != "":
		return nil, fmt.Errorf("an application is from a compose file or from an image: give --file or --image")
	case len(o.files) > 0:
		if len(o.ports)+len(o.env)+len(o.volumes) > 0 || scaled {
			return nil, fmt.Errorf("--port, --env, --volume and --replicas go with --image: write them into the compose file")
		}
		return application.Compose(ctx, name, o.files, o.profiles)
	case o.image == "" || name == "":
		return nil, fmt.Errorf("say what to deploy: strata app deploy NAME --file compose.yaml, or --image IMAGE")
	}
	s := application.Service{Image: o.image, Env: map[string]string{}}
	if scaled {
		s.Replicas = &o.replicas
	}
	for _, e := range o.env {
		k, v, ok := strings.Cut(e, "=")
		if !ok || k == "" {
			return nil, fmt.Errorf("--env %s: give NAME=VALUE", e)
		}
		s.Env[k] = v
	}
	for _, text := range o.ports {
		port, err := parsePort(text)
		if err != nil {
			return nil, err
		}
		s.Ports = append(s.Ports, port)
	}
	for _, text := range o.volumes {
		f := strings.Split(text, ":")
		if len(f) < 2 || len(f) > 3 || f[0] == "" || !strings.HasPrefix(f[1], "/") {
			return nil, fmt.Errorf("--volume %s: give NAME:PATH or NAME:PATH:SIZE", text)
		}
		m := application.Mount{Volume: f[0], Path: f[1], Size: application.DefaultSize}
		if len(f) == 3 {
			m.Size = f[2]
		}
		s.Mounts = append(s.Mounts, m)
	}
	return application.Image(name, s)
}

// parsePort reads PORT, PUBLIC:PORT, and either with /udp.
func parsePort(text string) (application.Port, error) {
	rest, protocol, _ := strings.Cut(text, "/")
	out := application.Port{Protocol: "TCP"}
	if protocol != "" {
		out.Protocol = strings.ToUpper(protocol)
	}
	public, target, both := strings.Cut(rest, ":")
	if !both {
		public, target = "", public
	}
	var err error
	if out.Target, err = strconv.Atoi(target); err == nil && public != "" {
		out.Public, err = strconv.Atoi(public)
	}
	if err != nil || out.Protocol != "TCP" && out.Protocol != "UDP" {
		return out, fmt.Errorf("--port %s: give PORT or PUBLIC:PORT, with /udp for UDP", text)
	}
	return out, nil
}

func (a *app) deploy(ctx context.Context, p *placed, what *application.App, o deployOptions) error {
	if o.dryRun {
		raw, err := what.Manifest()
		if err != nil {
			return err
		}
		a.printf("%s\n", raw)
		return nil
	}
	return a.inCluster(ctx, p, func(ctx context.Context, c *application.Cluster) error {
		if err := c.Deploy(ctx, what); err != nil {
			return err
		}
		if !o.noWait {
			if err := c.Await(ctx, what.Name); err != nil {
				return err
			}
			if err := c.AwaitAddresses(ctx, what.Name); err != nil {
				return err
			}
		}
		return a.showApps(ctx, c, what.Name)
	})
}

func (a *app) showApps(ctx context.Context, c *application.Cluster, name string) error {
	rows, err := c.List(ctx, name)
	if err != nil {
		return err
	}
	t := table{head: []string{"APP", "SERVICE", "READY", "IMAGE", "REVISION", "ADDRESSES"}}
	for _, r := range rows {
		t.add(r.App, r.Service, fmt.Sprintf("%d/%d", r.Ready, r.Wanted), r.Image, r.Revision, dash(strings.Join(r.Addresses, ", ")))
	}
	if err := a.show(rows, t); err != nil {
		return err
	}
	for _, r := range rows {
		for _, why := range r.Troubles {
			a.progress("%s: %s", r.Service, why)
		}
	}
	return nil
}

func (a *app) appList(p *placed) *cobra.Command {
	return &cobra.Command{Use: "list [NAME]", Short: "List applications with their services, or one and what it waits for", Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.inCluster(cmd.Context(), p, func(ctx context.Context, c *application.Cluster) error {
				return a.showApps(ctx, c, strings.Join(args, ""))
			})
		}}
}

// oneService reads APP or APP/SERVICE.
func oneService(text string) (name, service string) {
	name, service, _ = strings.Cut(text, "/")
	return name, service
}

// changed calls do with the service that is meant, and waits until all is as it should be.
func (a *app) changed(ctx context.Context, p *placed, text string, do func(ctx context.Context, c *application.Cluster, name, service string) error) error {
	name, service := oneService(text)
	return a.inCluster(ctx, p, func(ctx context.Context, c *application.Cluster) error {
		if err := do(ctx, c, name, service); err != nil {
			return err
		}
		if err := c.Await(ctx, name); err != nil {
			return err
		}
		return a.showApps(ctx, c, name)
	})
}

func (a *app) appScale(p *placed) *cobra.Command {
	return &cobra.Command{Use: "scale NAME[/SERVICE] COPIES", Short: "Change how many copies of a service run", Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := strconv.Atoi(args[1])
			if err != nil || n < 0 {
				return usageError{fmt.Errorf("%s is no number of copies", args[1])}
			}
			return a.changed(cmd.Context(), p, args[0], func(ctx context.Context, c *application.Cluster, name, service string) error {
				return c.Scale(ctx, name, service, n)
			})
		}}
}

func (a *app) appRollback(p *placed) *cobra.Command {
	var to int
	c := &cobra.Command{Use: "rollback NAME[/SERVICE]", Short: "Give a service its earlier version back", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.changed(cmd.Context(), p, args[0], func(ctx context.Context, c *application.Cluster, name, service string) error {
				return c.Rollback(ctx, name, service, to)
			})
		}}
	c.Flags().IntVar(&to, "to", 0, "the revision (default: the one before)")
	return c
}

func (a *app) appDelete(p *placed) *cobra.Command {
	return &cobra.Command{Use: "delete NAME", Short: "Delete an application with its volumes", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.inCluster(cmd.Context(), p, func(ctx context.Context, c *application.Cluster) error {
				if err := c.Delete(ctx, args[0]); err != nil {
					return err
				}
				a.progress("application %s is deleted", args[0])
				return nil
			})
		}}
}
