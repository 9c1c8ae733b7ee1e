// Package volumes is Kubernetes' controllers of volumes in one process: those that upstream
// has as five programs beside a driver (external-provisioner, -attacher, -resizer,
// -snapshotter and its snapshot-controller), over one connection to the driver and one
// cache of the cluster's objects.
//
// It is an executable of its own. The libraries register feature gates of names that
// Kubernetes' have as well, which ends a process that has both.
//
// The driver's socket may come and go: calls that fail are repeated. The API is waited for.
package volumes

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/kubernetes-csi/csi-lib-utils/connection"
	"github.com/kubernetes-csi/csi-lib-utils/metrics"
	"github.com/kubernetes-csi/csi-lib-utils/rpc"
	snapshots "github.com/kubernetes-csi/external-snapshotter/client/v8/clientset/versioned"
	snapshotscheme "github.com/kubernetes-csi/external-snapshotter/client/v8/clientset/versioned/scheme"
	snapshotinformers "github.com/kubernetes-csi/external-snapshotter/client/v8/informers/externalversions"
	"google.golang.org/grpc"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/util/workqueue"
)

// Main is the program.
func Main(ctx context.Context, args []string) int {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	switch err := run(ctx, args, os.Stderr); {
	case errors.Is(err, flag.ErrHelp):
		return 2
	case err != nil && ctx.Err() == nil:
		fmt.Fprintln(os.Stderr, "strata-csi:", err)
		return 1
	}
	return 0
}

// How often and how fast things are done.
const (
	callLimit  = 2 * time.Minute // of a call of the driver
	resync     = 15 * time.Minute
	retryFirst = time.Second
	retryLast  = time.Minute
	workers    = 10
	qps        = 50
	burst      = 100
	apiPause   = time.Second
)

// world is what the controllers share.
type world struct {
	kube    kubernetes.Interface
	snap    snapshots.Interface
	core    informers.SharedInformerFactory
	snapped snapshotinformers.SharedInformerFactory
	conn    *grpc.ClientConn
	metrics metrics.CSIMetricsManager
	address string
	driver  string
	plugin  rpc.PluginCapabilitySet
	rpcs    rpc.ControllerCapabilitySet
}

func run(ctx context.Context, args []string, help io.Writer) error {
	set := flag.NewFlagSet("strata-csi", flag.ContinueOnError)
	set.SetOutput(help)
	kubeconfig := set.String("kubeconfig", "", "of the cluster")
	address := set.String("csi", "", "the driver's socket")
	if err := set.Parse(args[1:]); err != nil {
		return err
	}
	w := &world{address: "unix://" + *address}
	if err := w.dial(ctx); err != nil {
		return err
	}
	defer w.conn.Close()
	config, err := clientcmd.BuildConfigFromFlags("", *kubeconfig)
	if err != nil {
		return err
	}
	config.QPS, config.Burst = qps, burst
	if err := w.clients(config); err != nil {
		return err
	}
	if err := await(ctx, "the cluster's definitions of snapshots", func(ctx context.Context) error { return define(ctx, config, w) }); err != nil {
		return err
	}
	return w.run(ctx)
}

// dial waits for the driver, and asks what it can do.
func (w *world) dial(ctx context.Context) (err error) {
	w.metrics = metrics.NewCSIMetricsManager("")
	w.conn, err = connection.Connect(ctx, w.address, w.metrics, connection.OnConnectionLoss(func(context.Context) bool { return true }))
	if err != nil {
		return err
	}
	return await(ctx, "the driver", func(ctx context.Context) error {
		if w.driver, err = rpc.GetDriverName(ctx, w.conn); err != nil {
			return err
		}
		if w.plugin, err = rpc.GetPluginCapabilities(ctx, w.conn); err != nil {
			return err
		}
		w.rpcs, err = rpc.GetControllerCapabilities(ctx, w.conn)
		return err
	})
}

// await does something until it goes well.
func await(ctx context.Context, what string, do func(context.Context) error) error {
	told := ""
	for {
		limit, cancel := context.WithTimeout(ctx, 10*time.Second)
		err := do(limit)
		cancel()
		if err == nil {
			return nil
		}
		if err.Error() != told {
			told = err.Error()
			fmt.Fprintf(os.Stderr, "strata-csi: %s: %v\n", what, err)
		}
		pause := time.NewTimer(apiPause)
		select {
		case <-ctx.Done():
			pause.Stop()
			return ctx.Err()
		case <-pause.C:
		}
	}
}

func (w *world) clients(config *rest.Config) (err error) {
	core := rest.CopyConfig(config)
	core.ContentType = runtime.ContentTypeProtobuf
	if w.kube, err = kubernetes.NewForConfig(core); err != nil {
		return err
	}
	if w.snap, err = snapshots.NewForConfig(config); err != nil {
		return err
	}
	if err := snapshotscheme.AddToScheme(scheme.Scheme); err != nil { // for events
		return err
	}
	w.core = informers.NewSharedInformerFactory(w.kube, resync)
	w.snapped = snapshotinformers.NewSharedInformerFactory(w.snap, resync)
	return nil
}

// slower is a pause that grows with each failure.
func slower() workqueue.TypedRateLimiter[string] {
	return workqueue.NewTypedItemExponentialFailureRateLimiter[string](retryFirst, retryLast)
}
