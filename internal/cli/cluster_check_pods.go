package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/strata-cloud/strata/internal/kubeapi"
)

// settling is how long a pod may be about to start before it is told of.
const settling = 30 * time.Second

// at most so many of the same are told of, then how many more there are.
const manyPods = 5

// few notes findings of one kind.
func (k *clusterChecks) few(list findings, what string) {
	k.findings = append(k.findings, list[:min(len(list), manyPods)]...)
	if n := len(list) - manyPods; n > 0 {
		k.note(what, false, bad, fmt.Sprintf("and %d more", n), "as the first ones")
	}
}

// waiting looks at pods that have no place, or no start.
func (k *clusterChecks) waiting() {
	var out findings
	for i := range k.pods {
		p := &k.pods[i]
		if p.Status.Phase != "Pending" || time.Since(p.Metadata.Created) < settling {
			continue
		}
		scheduled := conditionOf(p.Status.Conditions, "PodScheduled")
		switch {
		case scheduled.Status == "False":
			fix := "make room: strata cluster scale " + k.cluster.Name + " NODES, or have it ask for less"
			if e := k.event(p, "NotTriggerScaleUp", "TriggeredScaleUp"); e != nil {
				fix += "; the autoscaler: " + e.Message
			}
			out.note("pod "+p.key(), false, bad, "no node takes it: "+scheduled.Message, fix)
		case p.failing() == nil:
			if e := k.event(p, "FailedCreatePodSandBox", "FailedMount", "FailedAttachVolume"); e != nil {
				fix := "strata kubectl -n " + p.Metadata.Namespace + " describe pod " + p.Metadata.Name
				if strings.Contains(strings.ToLower(e.Message), "quota") {
					fix = "raise the project's quota of ports (openstack quota set --ports NUMBER PROJECT), or delete what is not needed; the pod is tried again by itself"
				}
				out.note("pod "+p.key(), false, bad, e.Reason+": "+e.Message, fix)
			}
		}
	}
	if len(out) == 0 {
		k.note("pods that wait", true, bad, "none for longer than "+settling.String(), "")
	}
	k.few(out, "pods that wait")
}

// event is the last one of a pod with one of these reasons.
func (k *clusterChecks) event(p *checkedPod, reasons ...string) *checkedEvent {
	list := k.events[p.key()]
	for i := range slices.Backward(list) {
		if slices.Contains(reasons, list[i].Reason) {
			return &list[i]
		}
	}
	return nil
}

// pullReasons are why a container waits that has no image.
var pullReasons = []string{"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError", "RegistryUnavailable", "SignatureValidationFailed"}

// failing is a container of the pod that cannot start; nil: none.
func (p *checkedPod) failing() *checkedContainer {
	for _, list := range [][]checkedContainer{p.Status.InitContainers, p.Status.Containers} {
		for i := range list {
			if w := list[i].State.Waiting; w != nil && w.Reason != "ContainerCreating" && w.Reason != "PodInitializing" {
				return &list[i]
			}
		}
	}
	return nil
}

// images looks at images that cannot be had, and at what ends again and again.
func (k *clusterChecks) images() {
	var pulls, crashes findings
	for i := range k.pods {
		p := &k.pods[i]
		c := p.failing()
		if c == nil {
			continue
		}
		w := c.State.Waiting
		if slices.Contains(pullReasons, w.Reason) {
			why := w.Message
			if e := k.event(p, "Failed"); e != nil && w.Reason == "ImagePullBackOff" {
				why = e.Message
			}
			pulls.note("image "+c.Image, false, bad, fmt.Sprintf("pod %s: %s", p.key(), why), "is the name right, and is the image in the registry? Private ones elsewhere need imagePullSecrets")
			continue
		}
		crashes.note("pod "+p.key(), false, warn, strings.TrimSpace(fmt.Sprintf("container %s: %s after %d starts: %s", c.Name, w.Reason, c.RestartCount, w.Message)),
			fmt.Sprintf("strata kubectl -n %s logs %s -c %s --previous", p.Metadata.Namespace, p.Metadata.Name, c.Name))
	}
	if len(pulls) == 0 {
		k.note("images", true, bad, "no pull fails", "")
	}
	k.few(pulls, "images")
	k.few(crashes, "pods that end")
}

// hooks looks at webhooks that nobody answers, and which refuse what they cannot judge.
func (k *clusterChecks) hooks(ctx context.Context) {
	var slices struct {
		Items []struct {
			Metadata struct {
				Namespace string
				Labels    map[string]string
			}
			Endpoints []struct {
				Conditions struct{ Ready *bool }
			}
		}
	}
	if err := k.api.List(ctx, kubeapi.Kind{APIVersion: "discovery.k8s.io/v1", Kind: "EndpointSlice", Plural: "endpointslices"}, "", "", &slices); err != nil {
		return
	}
	answered := map[string]bool{}
	for _, s := range slices.Items {
		for _, e := range s.Endpoints {
			if e.Conditions.Ready == nil || *e.Conditions.Ready {
				answered[s.Metadata.Namespace+"/"+s.Metadata.Labels["kubernetes.io/service-name"]] = true
			}
		}
	}
	for kind, plural := range map[string]string{"ValidatingWebhookConfiguration": "validatingwebhookconfigurations", "MutatingWebhookConfiguration": "mutatingwebhookconfigurations"} {
		for _, h := range listed[checkedHooks](ctx, k, kubeapi.Kind{APIVersion: "admissionregistration.k8s.io/v1", Kind: kind, Plural: plural, Clusterly: true}) {
			for _, w := range h.Webhooks {
				s := w.ClientConfig.Service
				if s == nil || answered[s.Namespace+"/"+s.Name] {
					continue
				}
				verdict := warn
				if w.FailurePolicy != "Ignore" {
					verdict = bad
				}
				k.note("webhook "+w.Name, false, verdict, fmt.Sprintf("no pod answers for service %s/%s, so that what it is to judge is refused", s.Namespace, s.Name),
					fmt.Sprintf("bring that service up, or strata kubectl delete %s %s", strings.ToLower(kind), h.Metadata.Name))
			}
		}
	}
}

// scaling tells how far groups can follow their pods.
func (k *clusterChecks) scaling() {
	if !slices.Contains([]string{"true", "True", "1", "yes"}, k.cluster.Labels["auto_scaling_enabled"]) {
		return
	}
	follows := false
	for _, g := range k.groups {
		most := 0
		if g.MaxNodeCount != nil {
			most = *g.MaxNodeCount
		}
		if label := k.cluster.Labels["max_node_count"]; most == 0 && g.IsDefault && label != "" {
			_, _ = fmt.Sscan(label, &most) // else it does not follow
		}
		if g.Role == "master" || most == 0 {
			continue
		}
		follows = true
		k.note("autoscaling of "+g.Name, g.NodeCount < most, warn, fmt.Sprintf("%d nodes of at most %d", g.NodeCount, most), "it cannot grow any more: raise max_node_count of the group (openstack coe nodegroup update)")
	}
	if !follows {
		k.note("autoscaling", false, warn, "it is enabled, and no group has a largest number of nodes", "openstack coe nodegroup update "+k.cluster.Name+" GROUP replace max_node_count=NUMBER")
	}
}

// storage looks at volumes that nobody makes.
func (k *clusterChecks) storage(ctx context.Context) {
	type class struct{ Metadata checkedMeta }
	type claim struct {
		Metadata checkedMeta
		Spec     struct{ StorageClassName *string }
		Status   struct{ Phase string }
	}
	classes := listed[class](ctx, k, kubeapi.Kind{APIVersion: "storage.k8s.io/v1", Kind: "StorageClass", Plural: "storageclasses", Clusterly: true})
	standard, names := false, map[string]bool{}
	for _, c := range classes {
		names[c.Metadata.Name] = true
		standard = standard || c.Metadata.Annotations["storageclass.kubernetes.io/is-default-class"] == "true"
	}
	var out findings
	for _, c := range listed[claim](ctx, k, kubeapi.Claims) {
		if c.Status.Phase != "Pending" || time.Since(c.Metadata.Created) < settling {
			continue
		}
		name := c.Metadata.Namespace + "/" + c.Metadata.Name
		fix := "strata kubectl -n " + c.Metadata.Namespace + " describe pvc " + c.Metadata.Name
		switch s := c.Spec.StorageClassName; {
		case s == nil && !standard:
			out.note("volume "+name, false, bad, "it names no storage class, and none is the default", "name one of the cluster's storage classes in it, or make one the default")
		case s != nil && *s != "" && !names[*s]:
			out.note("volume "+name, false, bad, "there is no storage class "+*s, fix)
		default:
			out.note("volume "+name, false, warn, "it is not there yet; perhaps no pod uses it", fix)
		}
	}
	k.few(out, "volumes")
}
