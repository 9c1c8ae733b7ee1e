package build

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	"github.com/containerd/containerd/v2/core/diff"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/pkg/gc"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/platforms"
	"github.com/moby/buildkit/cache/metadata"
	bkclient "github.com/moby/buildkit/client"
	"github.com/moby/buildkit/executor"
	"github.com/moby/buildkit/executor/resources"
	"github.com/moby/buildkit/executor/runcexecutor"
	"github.com/moby/buildkit/exporter"
	"github.com/moby/buildkit/session"
	snapshot "github.com/moby/buildkit/snapshot/containerd"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/util/archutil"
	"github.com/moby/buildkit/util/disk"
	"github.com/moby/buildkit/util/leaseutil"
	"github.com/moby/buildkit/util/network"
	"github.com/moby/buildkit/worker/base"
	"github.com/moby/buildkit/worker/label"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// buildWorker is BuildKit's, with Docker's exporter.
type buildWorker struct{ *base.Worker }

// Exporter gives the exporter of that name.
func (w *buildWorker) Exporter(name string, sm *session.Manager) (exporter.Exporter, error) {
	if name != exporterMoby {
		return w.Worker.Exporter(name, sm)
	}
	e, err := w.Worker.Exporter(bkclient.ExporterImage, sm)
	return mobyExporter{e}, err
}

func (b *Builder) newWorker() (*buildWorker, error) {
	c, ns := b.cfg.Client, b.cfg.Namespace
	id, err := base.ID(b.cfg.Dir)
	if err != nil {
		return nil, err
	}
	providers := map[pb.NetMode]network.Provider{pb.NetMode_UNSET: bridged{b.cfg.Sandbox, b.cfg.Log}, pb.NetMode_HOST: network.NewHostProvider(), pb.NetMode_NONE: network.NewNoneProvider()}
	exec, monitor, err := b.newExecutor(providers)
	if err != nil {
		return nil, err
	}
	md, err := metadata.NewStore(filepath.Join(b.cfg.Dir, "metadata.db"))
	if err != nil {
		return nil, errors.Join(err, monitor.Close())
	}
	content := snapshot.NewContentStore(c.ContentStore(), ns)
	lm := leaseutil.WithNamespace(c.LeasesService(), ns)
	w, err := base.NewWorker(b.ctx, base.WorkerOpt{
		ID:               id,
		Root:             b.cfg.Dir,
		Labels:           map[string]string{label.Executor: "oci", label.Snapshotter: b.cfg.Snapshotter, label.ContainerdNamespace: ns, label.Network: "bridge"},
		Platforms:        supported(),
		GCPolicy:         gcPolicy(b.cfg.Dir),
		BuildkitVersion:  kitVersion(),
		NetworkProviders: providers,
		Executor:         exec,
		Snapshotter:      snapshot.NewSnapshotter(b.cfg.Snapshotter, c.SnapshotService(b.cfg.Snapshotter), ns, nil),
		ContentStore:     content,
		Applier:          differ{c.DiffService(), c.DiffService(), ns},
		Differ:           differ{c.DiffService(), c.DiffService(), ns},
		ImageStore:       names{c.ImageService(), ns, b.cfg.Name},
		RegistryHosts:    b.cfg.Hosts,
		LeaseManager:     lm,
		GarbageCollect:   collect(lm),
		MetadataStore:    md,
		MountPoolRoot:    filepath.Join(b.cfg.Dir, "cachemounts"),
		ResourceMonitor:  monitor,
	})
	if err != nil {
		return nil, errors.Join(err, md.Close(), monitor.Close())
	}
	return &buildWorker{w}, nil
}

// newExecutor makes what runs the instructions of a build.
func (b *Builder) newExecutor(providers map[pb.NetMode]network.Provider) (executor.Executor, *resources.Monitor, error) {
	// BuildKit does not say where runc is to keep its state, which is thereby in a
	// place that no reset of ours would empty.
	program := filepath.Join(b.cfg.Dir, "runc")
	script := fmt.Sprintf("#!/bin/sh\nexec runc --root '%s' \"$@\"\n", b.cfg.RunDir)
	if err := os.WriteFile(program, []byte(script), 0o700); err != nil {
		return nil, nil, err
	}
	monitor, err := resources.NewMonitor()
	if err != nil {
		return nil, nil, err
	}
	e, err := runcexecutor.New(runcexecutor.Opt{Root: filepath.Join(b.cfg.Dir, executorDir), CommandCandidates: []string{program}, DefaultCgroupParent: b.cfg.Group, ResourceMonitor: monitor}, providers)
	if err != nil {
		return nil, nil, errors.Join(err, monitor.Close())
	}
	return e, monitor, nil
}

const executorDir = "executor"

const kitPackage = "github.com/moby/buildkit"

// kitVersion is the version of BuildKit that this program was made with.
func kitVersion() bkclient.BuildkitVersion {
	v := bkclient.BuildkitVersion{Package: kitPackage}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, d := range info.Deps {
			if d.Path == kitPackage {
				v.Version = d.Version
			}
		}
	}
	return v
}

// supported are this machine's platforms, with those that binfmt adds.
func supported() []ocispec.Platform {
	out := archutil.SupportedPlatforms(true)
	for i, p := range out {
		out[i] = platforms.Normalize(p)
	}
	return out
}

// collect has containerd remove what nothing refers to: the end of a lease starts that.
func collect(lm *leaseutil.Manager) func(context.Context) (gc.Stats, error) {
	return func(ctx context.Context) (gc.Stats, error) {
		l, err := lm.Create(ctx, leases.WithRandomID())
		if err != nil {
			return nil, err
		}
		return nil, lm.Delete(ctx, leases.Lease{ID: l.ID}, leases.SynchronousDelete)
	}
}

// gcPolicy bounds the cache as dockerd does (daemon/internal/builder-next/worker/gc.go).
func gcPolicy(dir string) []bkclient.PruneInfo {
	reserved, most, free := int64(2e9), int64(0), int64(0)
	if d, err := disk.GetDiskStat(dir); err == nil {
		part := func(percent int64) int64 { return (d.Total*percent/100/(1<<30) + 1) * 1e9 }
		reserved, most, free = part(10), part(80), part(20)
	}
	temporary := max(int64(float64(reserved)/100*math.E*math.Pi*math.Phi), 512e6)
	return []bkclient.PruneInfo{
		{Filter: []string{"type==source.local", "type==exec.cachemount", "type==source.git.checkout"}, KeepDuration: 48 * time.Hour, MaxUsedSpace: temporary},
		{KeepDuration: 60 * 24 * time.Hour, ReservedSpace: reserved, MaxUsedSpace: most, MinFreeSpace: free},
		{ReservedSpace: reserved, MaxUsedSpace: most, MinFreeSpace: free},
		{All: true, ReservedSpace: reserved, MaxUsedSpace: most, MinFreeSpace: free},
	}
}

// differ works in the namespace. containerd in our process does not set it by itself.
type differ struct {
	diff.Comparer
	apply diff.Applier
	ns    string
}

// Compare implements diff.Comparer.
func (d differ) Compare(ctx context.Context, lower, upper []mount.Mount, opts ...diff.Opt) (ocispec.Descriptor, error) {
	return d.Comparer.Compare(namespaces.WithNamespace(ctx, d.ns), lower, upper, opts...)
}

// Apply implements diff.Applier.
func (d differ) Apply(ctx context.Context, desc ocispec.Descriptor, mounts []mount.Mount, opts ...diff.ApplyOpt) (ocispec.Descriptor, error) {
	return d.apply.Apply(namespaces.WithNamespace(ctx, d.ns), desc, mounts, opts...)
}

// names is the engine's images, in the namespace; a name that is given away is ours to care for.
type names struct {
	store images.Store
	ns    string
	name  func(ctx context.Context, name string, target ocispec.Descriptor) error
}

// Get implements images.Store.
func (n names) Get(ctx context.Context, name string) (images.Image, error) {
	return n.store.Get(namespaces.WithNamespace(ctx, n.ns), name)
}

// List implements images.Store.
func (n names) List(ctx context.Context, filters ...string) ([]images.Image, error) {
	return n.store.List(namespaces.WithNamespace(ctx, n.ns), filters...)
}

// Create implements images.Store.
func (n names) Create(ctx context.Context, i images.Image) (images.Image, error) {
	ctx = namespaces.WithNamespace(ctx, n.ns)
	if err := n.name(ctx, i.Name, i.Target); err != nil {
		return images.Image{}, err
	}
	return n.store.Get(ctx, i.Name)
}

// Update implements images.Store.
func (n names) Update(ctx context.Context, i images.Image, _ ...string) (images.Image, error) {
	ctx = namespaces.WithNamespace(ctx, n.ns)
	if _, err := n.store.Get(ctx, i.Name); err != nil { // BuildKit creates it then
		return images.Image{}, err
	}
	return n.Create(ctx, i)
}

// Delete implements images.Store.
func (n names) Delete(ctx context.Context, name string, opts ...images.DeleteOpt) error {
	return n.store.Delete(namespaces.WithNamespace(ctx, n.ns), name, opts...)
}
