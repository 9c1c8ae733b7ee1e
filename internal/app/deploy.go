package app

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/kubeapi"
	"github.com/strata-cloud/strata/internal/wait"
)

// Cluster deploys applications to one cluster.
type Cluster struct {
	API *kubeapi.Client
	// Say tells of progress, a line each.
	Say func(format string, args ...any)
}

// meta is what is read of any object.
type meta struct {
	Name              string            `json:"name"`
	Labels            map[string]string `json:"labels"`
	Annotations       map[string]string `json:"annotations"`
	Generation        int64             `json:"generation"`
	CreationTimestamp time.Time         `json:"creationTimestamp"`
	OwnerReferences   []struct{ UID string }
	UID               string `json:"uid"`
}

type list[T any] struct {
	Items []T `json:"items"`
}

type plain struct {
	Metadata meta `json:"metadata"`
}

// Deploy makes the cluster have the application, and removes what an earlier deployment
// had besides. Volumes stay until the application is deleted.
func (c *Cluster) Deploy(ctx context.Context, a *App) error {
	if err := c.mine(ctx, a.Name); err != nil && !errs.Is(err, errs.NotFound) {
		return err
	}
	keep := map[string]bool{}
	for _, o := range a.objects() {
		keep[o.kind.Kind+"/"+o.name] = true
		if err := c.API.Apply(ctx, o.kind, a.Name, o.name, o.body); err != nil {
			return fmt.Errorf("%s %s: %w", strings.ToLower(o.kind.Kind), o.name, err)
		}
	}
	for _, k := range []kubeapi.Kind{kubeapi.Deployments, kubeapi.Ingresses, kubeapi.Services, kubeapi.ConfigMaps, secrets} {
		var have list[plain]
		if err := c.API.List(ctx, k, a.Name, labelManagedBy+"="+Manager, &have); err != nil {
			return err
		}
		for _, x := range have.Items {
			if keep[k.Kind+"/"+x.Metadata.Name] {
				continue
			}
			if err := c.API.Delete(ctx, k, a.Name, x.Metadata.Name); err != nil {
				return err
			}
			c.Say("%s %s is removed", strings.ToLower(k.Kind), x.Metadata.Name)
		}
	}
	return nil
}

// mine refuses a namespace that is no application's; the error is NotFound when there is none.
func (c *Cluster) mine(ctx context.Context, name string) error {
	var ns plain
	if err := c.API.Get(ctx, kubeapi.Namespaces, "", name, &ns); err != nil {
		return err
	}
	if ns.Metadata.Labels[labelManagedBy] != Manager {
		return errs.Conflictf("the namespace %s is there and is no application's: choose another name", name)
	}
	return nil
}

// find is mine with an error for people.
func (c *Cluster) find(ctx context.Context, name string) error {
	err := c.mine(ctx, name)
	if errs.Is(err, errs.NotFound) {
		return errs.NotFoundf("there is no application %s in the cluster: strata app list", name)
	}
	return err
}

// Delete deletes an application with its volumes, and waits until it is gone.
func (c *Cluster) Delete(ctx context.Context, name string) error {
	err := c.mine(ctx, name)
	if errs.Is(err, errs.NotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := c.API.Delete(ctx, kubeapi.Namespaces, "", name); err != nil {
		return err
	}
	return wait.Until(ctx, "the application to be gone", lookEvery, func(ctx context.Context) (bool, error) {
		err := c.API.Get(ctx, kubeapi.Namespaces, "", name, &plain{})
		if errs.Is(err, errs.NotFound) {
			return true, nil
		}
		return false, err
	})
}

// lookEvery is how often the cluster is asked while something is awaited.
const lookEvery = 300 * time.Millisecond

// deployment is what is read of one.
type deployment struct {
	Metadata meta `json:"metadata"`
	Spec     struct {
		Replicas int `json:"replicas"`
		Template struct {
			Spec struct {
				Containers []struct {
					Image string `json:"image"`
				} `json:"containers"`
			} `json:"spec"`
		} `json:"template"`
	} `json:"spec"`
	Status struct {
		ObservedGeneration int64 `json:"observedGeneration"`
		Replicas           int   `json:"replicas"`
		UpdatedReplicas    int   `json:"updatedReplicas"`
		AvailableReplicas  int   `json:"availableReplicas"`
	} `json:"status"`
}

// done tells whether all copies are of the newest version and well.
func (d *deployment) done() bool {
	return d.Status.ObservedGeneration >= d.Metadata.Generation && d.Status.UpdatedReplicas == d.Spec.Replicas &&
		d.Status.AvailableReplicas == d.Spec.Replicas && d.Status.Replicas == d.Spec.Replicas
}

// Await waits until all services of an application have their copies, telling how far they
// are. When ctx ends before, the error says what the copies wait for.
func (c *Cluster) Await(ctx context.Context, name string) error {
	said := map[string]string{}
	err := wait.Until(ctx, "the application to be ready", lookEvery, func(ctx context.Context) (bool, error) {
		all, err := c.deployments(ctx, name)
		if err != nil {
			return false, err
		}
		ready := true
		for _, d := range all {
			text := fmt.Sprintf("%d of %d ready", min(d.Status.AvailableReplicas, d.Status.UpdatedReplicas), d.Spec.Replicas)
			if said[d.Metadata.Name] != text {
				c.Say("%s: %s", d.Metadata.Name, text)
				said[d.Metadata.Name] = text
			}
			ready = ready && d.done()
		}
		return ready, nil
	})
	if err == nil {
		return nil
	}
	why, e := c.troubles(context.WithoutCancel(ctx), name)
	if e != nil || len(why) == 0 {
		return err
	}
	return fmt.Errorf("%w: %s", err, strings.Join(why, "; "))
}

func (c *Cluster) deployments(ctx context.Context, name string) ([]deployment, error) {
	var all list[deployment]
	err := c.API.List(ctx, kubeapi.Deployments, name, labelManagedBy+"="+Manager, &all)
	return all.Items, err
}
