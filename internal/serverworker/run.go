package serverworker

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/strata-cloud/strata/internal/container/shims"
	"github.com/strata-cloud/strata/internal/kube"
	"github.com/strata-cloud/strata/internal/kube/csi"
	"github.com/strata-cloud/strata/internal/kube/images"
	"github.com/strata-cloud/strata/internal/kube/podnet"
	"github.com/strata-cloud/strata/internal/netns"
	"github.com/strata-cloud/strata/internal/node"
	"github.com/strata-cloud/strata/internal/nodelink"
	"github.com/strata-cloud/strata/internal/wait"
)

// Options say where things are; see the image's recipe (package guest).
type Options struct {
	UserData string // what the guest got of its cloud
	Dir      string // of all that is kept
	Run      string // of sockets
	Programs string // strata-kube and its companions
	Log      *slog.Logger
}

// metadata is where the user data is for whoever asks from here.
var metadata = netip.MustParseAddr("169.254.169.254")

// Run has the server work for its cluster until ctx ends. Its programs go on.
func Run(ctx context.Context, o Options) error {
	if err := unix.Mount("", "/", "", unix.MS_SHARED|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("making mounts visible to pods: %w", err)
	}
	state := filepath.Join(o.Dir, "worker")
	b, err := take(ctx, o.UserData, state)
	if err != nil {
		return err
	}
	id, err := newIdentity(state, b)
	if err != nil {
		return err
	}
	client, err := nodelink.DialWorker(b.Control[0], id.tls(), o.Log)
	if err != nil {
		return err
	}
	defer client.Close()
	client.Know(b.Control)
	m, err := newMachine(o, client)
	if err != nil {
		return err
	}
	defer m.pods.Close()
	defer m.volumes.Close()
	defer m.images.Close()
	o.Log.Info("working for a cluster", "cluster", b.Cluster, "worker", b.Worker, "control", b.Control)
	var group sync.WaitGroup
	group.Go(func() { id.renew(ctx, client.Renew, o.Log) })
	group.Go(func() { follow(ctx, client, b.Control) })
	node.NewClusters(client, m, o.Log).Run(ctx)
	group.Wait()
	return nil
}

// membersEvery is how often it is asked where the control members are.
const membersEvery = time.Minute

// follow keeps the list of the control members.
func follow(ctx context.Context, client *nodelink.Client, known []string) {
	for ctx.Err() == nil {
		limit, cancel := context.WithTimeout(ctx, membersEvery)
		list, err := client.Members(limit)
		cancel()
		if err == nil && len(list) > 0 && !slices.Equal(list, known) {
			client.Know(list)
			known = list
		}
		wait.Pause(ctx, membersEvery)
	}
}

// name marks what this program makes in the kernel.
const name = "worker"

func newMachine(o Options, client *nodelink.Client) (machine, error) {
	host, err := netns.Current()
	if err != nil {
		return machine{}, err
	}
	shim := filepath.Join(o.Programs, "strata-shim")
	m := &kube.Machine{Dir: filepath.Join(o.Dir, "kube"), Kubelet: filepath.Join(o.Dir, "kubelet"), Run: filepath.Join(o.Run, "kube"), Program: filepath.Join(o.Programs, "strata-kube"),
		Pause: filepath.Join(o.Programs, "strata-pause"), Shim: shim, ShimEnv: shims.Plain + "=1", Groups: "strata-kube", Log: o.Log}
	pods := podnet.New(podnet.Config{Name: name, Plugin: shim, Host: host, Dirs: m.CNI, Socket: m.CNISocket, Control: client, Own: true, Closed: []netip.Addr{metadata}, Forward: forward("ipv4/ip_forward"), Forward6: forward("ipv6/conf/all/forwarding"), Log: o.Log})
	volumes := csi.New(csi.Config{Node: m.NodeCSI, Kubelet: m.KubeletDir, Disks: func(string) csi.Disks { return csi.Attached{Dir: filepath.Join(o.Dir, "volumes")} }, Most: csi.MostAttached, Log: o.Log})
	pulls := images.New(images.Config{Control: client, Dir: m.Registries, Socket: m.LoginSocket, Log: o.Log})
	return machine{m, pods, pulls, volumes}, nil
}

// forward has this machine forward by a sysctl, which has nothing else to forward for. What the
// kernel has not is off.
func forward(key string) func(on bool) error {
	return func(on bool) error {
		value := "0"
		if on {
			value = "1"
		}
		err := os.WriteFile(filepath.Join("/proc/sys/net", key), []byte(value), 0o644)
		if !on && errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
}
