package cli

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/strata-cloud/strata/internal/kubeapi"
)

// Of objects what is looked at.
type (
	checkedMeta struct {
		Name, Namespace string
		Annotations     map[string]string
		Created         time.Time `json:"creationTimestamp"`
	}
	checkedCondition struct{ Type, Status, Reason, Message string }
	checkedNode      struct {
		Metadata checkedMeta
		Spec     struct{ Unschedulable bool }
		Status   struct {
			Conditions []checkedCondition
			NodeInfo   struct{ KubeletVersion string }
		}
	}
	checkedContainer struct {
		Name, Image  string
		RestartCount int
		State        struct {
			Waiting *struct{ Reason, Message string }
		}
	}
	checkedPod struct {
		Metadata checkedMeta
		Spec     struct{ NodeName string }
		Status   struct {
			Phase          string
			Conditions     []checkedCondition
			Containers     []checkedContainer `json:"containerStatuses"`
			InitContainers []checkedContainer `json:"initContainerStatuses"`
		}
	}
	checkedEvent struct {
		Reason, Message string
		InvolvedObject  struct{ Kind, Namespace, Name string }
	}
	checkedWorkload struct {
		Kind     string `json:"-"`
		Metadata checkedMeta
		Spec     struct{ Replicas *int }
		Status   struct {
			AvailableReplicas, NumberAvailable, DesiredNumberScheduled int
		}
	}
	checkedService struct {
		Metadata checkedMeta
		Spec     struct {
			Service *struct{ Name, Namespace string }
		}
		Status struct{ Conditions []checkedCondition }
	}
	checkedHooks struct {
		Metadata checkedMeta
		Webhooks []struct {
			Name          string
			FailurePolicy string
			ClientConfig  struct {
				Service *struct{ Name, Namespace string }
			}
		}
	}
)

func (p *checkedPod) key() string { return p.Metadata.Namespace + "/" + p.Metadata.Name }

func conditionOf(list []checkedCondition, kind string) checkedCondition {
	for _, c := range list {
		if c.Type == kind {
			return c
		}
	}
	return checkedCondition{Status: "Unknown"}
}

// listed reads all of a kind; what is not shown is told of as not looked at.
func listed[T any](ctx context.Context, k *clusterChecks, kind kubeapi.Kind) []T {
	var l struct{ Items []T }
	if err := k.api.List(ctx, kind, "", "", &l); err != nil {
		k.note(kind.Plural, false, warn, "not looked at: "+err.Error(), "ask with a role that may see them")
	}
	return l.Items
}

// inside looks at what the cluster says of itself.
func (k *clusterChecks) inside(ctx context.Context) {
	k.nodes = listed[checkedNode](ctx, k, kubeapi.Nodes)
	k.pods = listed[checkedPod](ctx, k, kubeapi.Pods)
	k.events = map[string][]checkedEvent{}
	for _, e := range listed[checkedEvent](ctx, k, kubeapi.Events) {
		if e.InvolvedObject.Kind == "Pod" {
			key := e.InvolvedObject.Namespace + "/" + e.InvolvedObject.Name
			k.events[key] = append(k.events[key], e)
		}
	}
	k.workers()
	k.addons(ctx)
	k.waiting()
	k.images()
	k.hooks(ctx)
	k.scaling()
	k.storage(ctx)
}

// workers looks at the nodes.
func (k *clusterChecks) workers() {
	k.note("workers", len(k.nodes) >= k.cluster.NodeCount, bad, fmt.Sprintf("%d of %d are nodes of the cluster", len(k.nodes), k.cluster.NodeCount),
		"strata cluster show "+k.cluster.Name+" and strata node list tell which machine is missing; strata cluster scale "+k.cluster.Name+" "+strconv.Itoa(k.cluster.NodeCount)+" tries again")
	for _, n := range k.nodes {
		name := "worker " + n.Metadata.Name
		ready := conditionOf(n.Status.Conditions, "Ready")
		what, fix := ": kubelet", "look on "+n.Metadata.Name+": strata status, and kube/"+k.cluster.UUID+"/worker/kubelet/log; a kubelet that hangs is ended by kill, and its agent starts another"
		if strings.Contains(ready.Message, "container runtime") || strings.Contains(ready.Message, "PLEG") {
			what, fix = ": containerd", "look on "+n.Metadata.Name+" at kube/"+k.cluster.UUID+"/worker/containerd/log; its agent starts what has ended"
		} else if strings.Contains(ready.Message, "network") {
			what, fix = ": network of pods", "strata doctor on "+n.Metadata.Name
		}
		k.note(name+what, ready.Status == "True", bad, strings.TrimSpace("Ready is "+ready.Status+" "+ready.Reason+" "+ready.Message), fix)
		for kind, fix := range map[string]string{"MemoryPressure": "give pods limits, or add workers", "DiskPressure": "make room on the machine's disk, or add workers", "PIDPressure": "find the pod that makes processes without end",
			"NetworkUnavailable": "strata doctor on " + n.Metadata.Name} {
			if c := conditionOf(n.Status.Conditions, kind); c.Status == "True" {
				k.note(name+": "+kind, false, bad, c.Reason+" "+c.Message, fix)
			}
		}
		if n.Spec.Unschedulable {
			k.note(name+": cordoned", false, warn, "it takes no new pods", "strata kubectl uncordon "+n.Metadata.Name+", unless somebody is at work there")
		}
		k.skew(name, n.Status.NodeInfo.KubeletVersion)
	}
}

// skew holds a kubelet to what may be older (Kubernetes, "Version Skew Policy").
func (k *clusterChecks) skew(node, version string) {
	api, kubelet := minor(k.cluster.COEVersion), minor(version)
	if api < 0 || kubelet < 0 {
		return
	}
	if kubelet > api || api-kubelet > 3 {
		k.note(node+": version", false, bad, fmt.Sprintf("kubelet %s with an API of %s", version, k.cluster.COEVersion), "strata cluster upgrade "+k.cluster.Name)
	} else if version != k.cluster.COEVersion {
		k.note(node+": version", false, warn, fmt.Sprintf("kubelet %s with an API of %s", version, k.cluster.COEVersion), "strata cluster upgrade "+k.cluster.Name)
	}
}

// minor is the second number of a version; less than 0: it has none.
func minor(version string) int {
	parts := strings.Split(version, ".")
	if len(parts) < 2 {
		return -1
	}
	n, err := strconv.Atoi(parts[1])
	if err != nil {
		return -1
	}
	return n
}

// addons looks at what every cluster has, and at aggregated APIs.
func (k *clusterChecks) addons(ctx context.Context) {
	var all []checkedWorkload
	for kind, plural := range map[string]string{"Deployment": "deployments", "DaemonSet": "daemonsets"} {
		for _, w := range listed[checkedWorkload](ctx, k, kubeapi.Kind{APIVersion: "apps/v1", Kind: kind, Plural: plural}) {
			if w.Metadata.Namespace == "kube-system" {
				w.Kind = strings.ToLower(kind)
				all = append(all, w)
			}
		}
	}
	slices.SortFunc(all, func(x, y checkedWorkload) int { return strings.Compare(x.Metadata.Name, y.Metadata.Name) })
	dns := false
	for _, w := range all {
		want, have := w.Status.DesiredNumberScheduled, w.Status.NumberAvailable
		if w.Spec.Replicas != nil {
			want, have = *w.Spec.Replicas, w.Status.AvailableReplicas
		}
		fix := fmt.Sprintf("strata kubectl -n kube-system describe %s %s", w.Kind, w.Metadata.Name)
		name, verdict, fine := "add-on "+w.Metadata.Name, warn, have >= want
		if w.Metadata.Name == "coredns" {
			dns, name = true, "name server (CoreDNS)"
			if fine = fine && want > 0; have == 0 {
				verdict = bad
			}
			if want == 0 {
				fix = "strata kubectl -n kube-system scale deployment coredns --replicas 2"
			}
		}
		k.note(name, fine, verdict, fmt.Sprintf("%d of %d copies are available", have, want), fix)
	}
	if !dns {
		k.note("name server (CoreDNS)", false, bad, "there is none, and pods find no names", "strata cluster upgrade "+k.cluster.Name+" gives add-ons again when they have changed; else apply one of your own")
	}
	for _, s := range listed[checkedService](ctx, k, kubeapi.Kind{APIVersion: "apiregistration.k8s.io/v1", Kind: "APIService", Plural: "apiservices", Clusterly: true}) {
		if c := conditionOf(s.Status.Conditions, "Available"); s.Spec.Service != nil && c.Status != "True" {
			fix := fmt.Sprintf("look at its pods, of service %s in namespace %s, or delete the APIService", s.Spec.Service.Name, s.Spec.Service.Namespace)
			if s.Metadata.Name == "v1beta1.metrics.k8s.io" {
				fix = "kube/" + k.cluster.UUID + "/control/metrics-server/log on the control member; without it there is no kubectl top and no horizontal autoscaling"
			}
			k.note("API "+s.Metadata.Name, false, warn, strings.TrimSpace(c.Reason+" "+c.Message), fix)
		}
	}
}
