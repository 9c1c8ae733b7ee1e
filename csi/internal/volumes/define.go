package volumes

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"path"

	snapshotv1 "github.com/kubernetes-csi/external-snapshotter/client/v8/apis/volumesnapshot/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apiextensions "k8s.io/apiextensions-apiserver/pkg/client/clientset/clientset"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"
)

// crds are the definitions of volume snapshots, as their module has them.
//
//go:embed crds
var crds embed.FS

// defaultClass is the class of snapshots that name none.
const defaultClass = "strata"

// classMark tells on the definition of classes that a class has been made: who removes it
// does not want it.
const (
	classMark       = "csi.strata.cloud/class-made"
	classDefinition = "volumesnapshotclasses.snapshot.storage.k8s.io"
)

// define gives the cluster its kinds of snapshots, and a class of them once.
func define(ctx context.Context, config *rest.Config, w *world) error {
	client, err := apiextensions.NewForConfig(config)
	if err != nil {
		return err
	}
	list, err := definitions()
	if err != nil {
		return err
	}
	api, force := client.ApiextensionsV1().CustomResourceDefinitions(), true
	for name, raw := range list {
		if _, err := api.Patch(ctx, name, types.ApplyPatchType, raw, metav1.PatchOptions{FieldManager: "strata-csi", Force: &force}); err != nil {
			return err
		}
	}
	for _, list := range []func() error{ // each is served a moment later
		func() error {
			_, err := w.snap.SnapshotV1().VolumeSnapshotContents().List(ctx, metav1.ListOptions{Limit: 1})
			return err
		},
		func() error {
			_, err := w.snap.SnapshotV1().VolumeSnapshots("").List(ctx, metav1.ListOptions{Limit: 1})
			return err
		},
		func() error {
			_, err := w.snap.SnapshotV1().VolumeSnapshotClasses().List(ctx, metav1.ListOptions{Limit: 1})
			return err
		},
	} {
		if err := list(); err != nil {
			return err
		}
	}
	d, err := api.Get(ctx, classDefinition, metav1.GetOptions{})
	if err != nil || d.Annotations[classMark] != "" {
		return err
	}
	class := &snapshotv1.VolumeSnapshotClass{ObjectMeta: metav1.ObjectMeta{Name: defaultClass, Annotations: map[string]string{"snapshot.storage.kubernetes.io/is-default-class": "true"}},
		Driver: w.driver, DeletionPolicy: snapshotv1.VolumeSnapshotContentDelete}
	if _, err := w.snap.SnapshotV1().VolumeSnapshotClasses().Create(ctx, class, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
		return err
	}
	mark := fmt.Sprintf(`{"metadata":{"annotations":{%q:"true"}}}`, classMark)
	_, err = api.Patch(ctx, classDefinition, types.MergePatchType, []byte(mark), metav1.PatchOptions{FieldManager: "strata-csi-class"})
	return err
}

// definitions are what make kube has put beside this file, by name.
func definitions() (map[string][]byte, error) {
	files, err := crds.ReadDir("crds")
	if err != nil {
		return nil, err
	}
	out := map[string][]byte{}
	for _, f := range files {
		if path.Ext(f.Name()) != ".yaml" {
			continue
		}
		raw, err := crds.ReadFile("crds/" + f.Name())
		if err != nil {
			return nil, err
		}
		var d apiextensionsv1.CustomResourceDefinition
		if err := yaml.Unmarshal(raw, &d); err != nil {
			return nil, fmt.Errorf("%s: %w", f.Name(), err)
		}
		out[d.Name] = raw
	}
	if len(out) == 0 {
		return nil, errors.New("this program was built without the definitions of snapshots: make kube")
	}
	return out, nil
}
