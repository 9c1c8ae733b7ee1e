package volumes

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/kubernetes-csi/external-attacher/v4/pkg/attacher"
	attaching "github.com/kubernetes-csi/external-attacher/v4/pkg/controller"
	provisioning "github.com/kubernetes-csi/external-provisioner/v6/pkg/controller"
	resizing "github.com/kubernetes-csi/external-resizer/v2/pkg/controller"
	resizecsi "github.com/kubernetes-csi/external-resizer/v2/pkg/csi"
	"github.com/kubernetes-csi/external-resizer/v2/pkg/resizer"
	common "github.com/kubernetes-csi/external-snapshotter/v8/pkg/common-controller"
	snapmetrics "github.com/kubernetes-csi/external-snapshotter/v8/pkg/metrics"
	sidecar "github.com/kubernetes-csi/external-snapshotter/v8/pkg/sidecar-controller"
	"github.com/kubernetes-csi/external-snapshotter/v8/pkg/snapshotter"
	storagelisters "k8s.io/client-go/listers/storage/v1"
	"k8s.io/client-go/util/workqueue"
	translate "k8s.io/csi-translation-lib"
	"k8s.io/klog/v2"
	"sigs.k8s.io/sig-storage-lib-external-provisioner/v13/controller"
)

// run runs all controllers until ctx ends.
func (w *world) run(ctx context.Context) error {
	var runs []func(context.Context)
	for _, make := range []func(context.Context) ([]func(context.Context), error){w.provisioner, w.attacher, w.resizer, w.snapshotter} {
		more, err := make(ctx)
		if err != nil {
			return err
		}
		runs = append(runs, more...)
	}
	w.core.Start(ctx.Done())
	w.snapped.Start(ctx.Done())
	w.core.WaitForCacheSync(ctx.Done())
	w.snapped.WaitForCacheSync(ctx.Done())
	var group sync.WaitGroup
	for _, r := range runs {
		group.Go(func() { r(ctx) })
	}
	group.Wait()
	return ctx.Err()
}

// provisioner makes volumes for claims, and removes them (cmd/csi-provisioner).
func (w *world) provisioner(ctx context.Context) ([]func(context.Context), error) {
	identity := strconv.FormatInt(time.Now().UnixMilli(), 10) + "-" + strconv.Itoa(rand.IntN(10000)) + "-" + w.driver
	claims := w.core.Core().V1().PersistentVolumeClaims()
	var attachments storagelisters.VolumeAttachmentLister
	if w.rpcs[csi.ControllerServiceCapability_RPC_PUBLISH_UNPUBLISH_VOLUME] {
		attachments = w.core.Storage().V1().VolumeAttachments().Lister()
	}
	p := provisioning.NewCSIProvisioner(w.kube, callLimit, identity, "pvc", -1, w.conn, w.snap, w.driver, w.plugin, w.rpcs, "",
		false, false, translate.New(), w.core.Storage().V1().StorageClasses().Lister(), nil, nil, claims.Lister(), attachments, nil,
		true, "ext4", nil, true, true, nil)
	make := controller.NewProvisionController(ctx, w.kube, w.driver, p, controller.LeaderElection(false), controller.FailedProvisionThreshold(0), controller.FailedDeleteThreshold(0),
		controller.RateLimiter(slower()), controller.Threadiness(workers), controller.CreateProvisionedPVLimiter(workqueue.DefaultTypedControllerRateLimiter[string]()),
		controller.ClaimsInformer(claims.Informer()), controller.RetryIntervalMax(retryLast), controller.AddFinalizer(true))
	// The source of a clone is not removed before that is made.
	queue := workqueue.NewTypedRateLimitingQueueWithConfig(slower(), workqueue.TypedRateLimitingQueueConfig[string]{Name: "claims"})
	clones := provisioning.NewCloningProtectionController(w.kube, claims.Lister(), claims.Informer(), queue, w.rpcs)
	return []func(context.Context){make.Run, func(ctx context.Context) { clones.Run(ctx, workers, nil) }}, nil
}

// attacher brings volumes to nodes (cmd/csi-attacher).
func (w *world) attacher(context.Context) ([]func(context.Context), error) {
	limit := callLimit
	volumes, attachments := w.core.Core().V1().PersistentVolumes(), w.core.Storage().V1().VolumeAttachments()
	h := attaching.NewCSIHandler(w.kube, w.driver, attacher.NewAttacher(w.conn), attacher.NewVolumeLister(w.conn, 0), volumes.Lister(), w.core.Storage().V1().CSINodes().Lister(), attachments.Lister(),
		&limit, w.rpcs[csi.ControllerServiceCapability_RPC_PUBLISH_READONLY], w.rpcs[csi.ControllerServiceCapability_RPC_SINGLE_NODE_MULTI_WRITER], translate.New(), "ext4")
	published := w.rpcs[csi.ControllerServiceCapability_RPC_LIST_VOLUMES] && w.rpcs[csi.ControllerServiceCapability_RPC_LIST_VOLUMES_PUBLISHED_NODES]
	c := attaching.NewCSIAttachController(klog.Background(), w.kube, w.driver, h, attachments, volumes, slower(), slower(), published, time.Minute)
	return []func(context.Context){func(ctx context.Context) { c.Run(ctx, workers, nil) }}, nil
}

// resizer makes volumes larger (cmd/csi-resizer).
func (w *world) resizer(ctx context.Context) ([]func(context.Context), error) {
	client, err := resizecsi.New(ctx, w.address, callLimit, w.metrics)
	if err != nil {
		return nil, fmt.Errorf("the resizer's connection to the driver: %w", err)
	}
	r, err := resizer.NewResizerFromClient(client, callLimit, w.kube, w.driver)
	if err != nil {
		return nil, err
	}
	c := resizing.NewResizeController(w.driver, r, w.kube, resync, w.core, slower(), true, retryLast)
	return []func(context.Context){func(ctx context.Context) { c.Run(workers, ctx, nil) }}, nil
}

// snapshotter makes snapshots: of any driver's volumes up to the object that names one, and
// of this driver's (cmd/snapshot-controller, cmd/csi-snapshotter).
func (w *world) snapshotter(context.Context) ([]func(context.Context), error) {
	v1 := w.snapped.Snapshot().V1()
	all := common.NewCSISnapshotCommonController(w.snap, w.kube, v1.VolumeSnapshots(), v1.VolumeSnapshotContents(), v1.VolumeSnapshotClasses(), nil, nil, nil,
		w.core.Core().V1().PersistentVolumeClaims(), w.core.Core().V1().PersistentVolumes(), nil, snapmetrics.NewMetricsManager(), resync, slower(), slower(), slower(), slower(), false, true, false)
	own := sidecar.NewCSISnapshotSideCarController(w.snap, w.kube, w.driver, v1.VolumeSnapshotContents(), v1.VolumeSnapshotClasses(), snapshotter.NewSnapshotter(w.conn), nil, callLimit, resync,
		"snapshot", -1, "groupsnapshot", -1, true, slower(), false, nil, nil, slower())
	return []func(context.Context){func(ctx context.Context) { all.Run(workers, ctx.Done(), nil) }, func(ctx context.Context) { own.Run(workers, ctx.Done(), nil) }}, nil
}
