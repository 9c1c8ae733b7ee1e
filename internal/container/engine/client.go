package engine

import (
	"context"
	"fmt"

	containersapi "github.com/containerd/containerd/api/services/containers/v1"
	diffapi "github.com/containerd/containerd/api/services/diff/v1"
	imagesapi "github.com/containerd/containerd/api/services/images/v1"
	namespacesapi "github.com/containerd/containerd/api/services/namespaces/v1"
	tasksapi "github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/introspection"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/core/metadata"
	"github.com/containerd/containerd/v2/core/sandbox"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/containerd/v2/plugins"
	"github.com/containerd/containerd/v2/plugins/services"
	"github.com/containerd/errdefs"
	"github.com/containerd/plugin"
)

// snapshotters are by preference.
var snapshotters = [...]string{"overlayfs", "native"}

// connect makes the client over the plugins that are there.
func (e *Engine) connect(ctx context.Context, failed map[string]error) error {
	var opts []client.ServicesOpt
	need := func(t plugin.Type, id string, use func(any) client.ServicesOpt) error {
		p := e.set.Get(t, id)
		if p == nil {
			return fmt.Errorf("containerd's part %s.%s: %w", t, id, failed[t.String()+"."+id])
		}
		i, err := p.Instance()
		if err != nil {
			return fmt.Errorf("containerd's part %s.%s: %w", t, id, err)
		}
		opts = append(opts, use(i))
		return nil
	}
	for _, n := range []struct {
		t   plugin.Type
		id  string
		use func(any) client.ServicesOpt
	}{
		{plugins.EventPlugin, "exchange", func(i any) client.ServicesOpt { return client.WithEventService(i.(client.EventService)) }},
		{plugins.LeasePlugin, "manager", func(i any) client.ServicesOpt { return client.WithLeasesService(i.(leases.Manager)) }},
		{plugins.ServicePlugin, services.ContentService, func(i any) client.ServicesOpt { return client.WithContentStore(i.(content.Store)) }},
		{plugins.ServicePlugin, services.ImagesService, func(i any) client.ServicesOpt { return client.WithImageClient(i.(imagesapi.ImagesClient)) }},
		{plugins.ServicePlugin, services.SnapshotsService, e.useSnapshots},
		{plugins.ServicePlugin, services.ContainersService, func(i any) client.ServicesOpt { return client.WithContainerClient(i.(containersapi.ContainersClient)) }},
		{plugins.ServicePlugin, services.TasksService, func(i any) client.ServicesOpt { return client.WithTaskClient(i.(tasksapi.TasksClient)) }},
		{plugins.ServicePlugin, services.DiffService, func(i any) client.ServicesOpt { return client.WithDiffClient(i.(diffapi.DiffClient)) }},
		{plugins.ServicePlugin, services.NamespacesService, func(i any) client.ServicesOpt { return client.WithNamespaceClient(i.(namespacesapi.NamespacesClient)) }},
		{plugins.ServicePlugin, services.IntrospectionService, func(i any) client.ServicesOpt { return client.WithIntrospectionService(i.(introspection.Service)) }},
	} {
		if err := need(n.t, n.id, n.use); err != nil {
			return err
		}
	}
	if e.Snapshotter == "" {
		return fmt.Errorf("neither overlayfs nor plain copies can hold containers' files here: %w", failed[plugins.SnapshotPlugin.String()+".overlayfs"])
	}
	var err error
	if e.Client, err = client.New("", client.WithServices(opts...), client.WithDefaultNamespace(Namespace)); err != nil {
		return err
	}
	if err := e.Client.NamespaceService().Create(e.Context(ctx), Namespace, nil); err != nil && !errdefs.IsAlreadyExists(err) {
		return err
	}
	return e.share(ctx)
}

// Shared is the sandbox that all containers are in. containerd starts a shim for each
// container unless it is in a sandbox, whose shim it is told of: so ours may be started
// by us, beforehand.
const Shared = "strata"

func (e *Engine) share(ctx context.Context) error {
	p := e.set.Get(plugins.MetadataPlugin, "bolt")
	if p == nil {
		return fmt.Errorf("containerd has no metadata")
	}
	i, err := p.Instance()
	if err != nil {
		return err
	}
	_, err = metadata.NewSandboxStore(i.(*metadata.DB)).Create(e.Context(ctx), sandbox.Sandbox{ID: Shared})
	if errdefs.IsAlreadyExists(err) {
		return nil
	}
	return err
}

// useSnapshots chooses where containers' files are.
func (e *Engine) useSnapshots(i any) client.ServicesOpt {
	have := i.(map[string]snapshots.Snapshotter)
	for _, name := range snapshotters {
		if have[name] != nil {
			e.Snapshotter = name
			break
		}
	}
	return client.WithSnapshotters(have)
}

// Context is ctx for calls of the client.
func (e *Engine) Context(ctx context.Context) context.Context {
	return namespaces.WithNamespace(ctx, Namespace)
}
