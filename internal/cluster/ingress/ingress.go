// Package ingress is the controller of a cluster's Ingresses: the first one brings the
// program that serves them, with a Service of type LoadBalancer, and each is told the
// address of that. What leads requests by them is the program's business, in pods of the cluster.
//
// What the controller has brought stays when the last Ingress goes: its address is
// in names that others keep. It can be deleted then (Deployment and Service "ingress" in kube-system).
//
// # Crash story
//
// Nothing is remembered: the Service tells which revision the cluster has been given. What
// its users change of that stays until there is another.
package ingress

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"github.com/strata-cloud/strata/internal/cluster"
	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/kube"
	"github.com/strata-cloud/strata/internal/kubeapi"
)

// Name is the controller's.
const Name = "ingress"

var classKind = kubeapi.Kind{APIVersion: "networking.k8s.io/v1", Kind: "IngressClass", Plural: "ingressclasses", Clusterly: true}

type address struct {
	IP       string `json:"ip,omitempty"`
	Hostname string `json:"hostname,omitempty"`
}

type meta struct {
	Name, Namespace string
	Annotations     map[string]string
}

// object is what is read of an Ingress or a Service.
type object struct {
	Metadata meta
	Spec     struct{ IngressClassName *string }
	Status   struct{ LoadBalancer struct{ Ingress []address } }
}

type class struct {
	Metadata meta
	Spec     struct{ Controller string }
}

// lookEvery is how often what has failed is tried again.
const lookEvery = 5 * time.Second

// keeper works for one cluster.
type keeper struct {
	api       *kubeapi.Client
	ingresses []object
	classes   []class
	services  []object
}

// New makes the controller.
func New(log *slog.Logger) cluster.Controller {
	return cluster.Controller{Name: Name, Run: func(ctx context.Context, t cluster.Target, api *kubeapi.Client) error {
		return run(ctx, log.With("cluster", t.ID), api)
	}}
}

func run(ctx context.Context, log *slog.Logger, api *kubeapi.Client) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	failed := func(err error) { log.Debug("following a cluster's Ingresses", "err", err) }
	ingresses, classes := kubeapi.Follow[object](ctx, api, kubeapi.Ingresses, "", failed), kubeapi.Follow[class](ctx, api, classKind, "", failed)
	services := kubeapi.Follow[object](ctx, api, kubeapi.Services, "k8s-app="+kube.IngressService, failed)
	k := &keeper{api: api}
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	known := [3]bool{}
	for {
		select {
		case k.ingresses = <-ingresses:
			known[0] = true
		case k.classes = <-classes:
			known[1] = true
		case k.services = <-services:
			known[2] = true
		case <-tick.C:
		case <-ctx.Done():
		}
		if ctx.Err() != nil {
			return nil
		}
		if !known[0] || !known[1] || !known[2] {
			continue
		}
		if err := k.sync(ctx); err != nil && ctx.Err() == nil {
			log.Warn("a cluster's Ingresses: again later", "err", err)
		}
	}
}

// sync brings everything to what is wanted now.
func (k *keeper) sync(ctx context.Context) error {
	ours := k.ours()
	if len(ours) == 0 {
		return nil
	}
	i := slices.IndexFunc(k.services, func(s object) bool {
		return s.Metadata.Namespace == kube.SystemNamespace && s.Metadata.Name == kube.IngressService
	})
	if i < 0 || k.services[i].Metadata.Annotations[kube.GivenNote] != kube.IngressRevision() {
		return kube.GiveIngress(ctx, k.api) // and then the Service is seen
	}
	at := k.services[i].Status.LoadBalancer.Ingress
	for _, in := range ours {
		if slices.Equal(in.Status.LoadBalancer.Ingress, at) {
			continue
		}
		to := slices.Clone(at)
		if to == nil {
			to = []address{}
		}
		err := k.api.Merge(ctx, kubeapi.Ingresses, in.Metadata.Namespace, in.Metadata.Name, "status", map[string]any{"status": map[string]any{"loadBalancer": map[string]any{"ingress": to}}})
		if err != nil && !errs.Is(err, errs.NotFound) {
			return err
		}
	}
	return nil
}

// ours are the Ingresses of a class that is ours.
func (k *keeper) ours() (out []object) {
	mine := map[string]bool{}
	for _, c := range k.classes {
		mine[c.Metadata.Name] = c.Spec.Controller == kube.IngressController
	}
	for _, in := range k.ingresses {
		name := in.Metadata.Annotations["kubernetes.io/ingress.class"]
		if in.Spec.IngressClassName != nil {
			name = *in.Spec.IngressClassName
		}
		if mine[name] {
			out = append(out, in)
		}
	}
	return out
}
