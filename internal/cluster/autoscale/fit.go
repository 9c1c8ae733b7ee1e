package autoscale

import (
	"slices"
	"strconv"
)

// place is a node, or one that could be, with what is on it.
type place struct {
	name   string // "" of one that could be
	labels map[string]string
	taints []Taint
	closed bool
	free   Resources
	pods   []*Pod
}

// newPlace is a node with the pods that it has.
func newPlace(n *Node, pods []*Pod) *place {
	p := &place{name: n.Metadata.Name, labels: n.Metadata.Labels, taints: n.Spec.Taints, closed: n.Spec.Unschedulable, free: Resources{}.plus(n.Status.Allocatable)}
	for _, x := range pods {
		p.put(x)
	}
	return p
}

func (p *place) put(x *Pod) {
	for k, v := range x.requests() {
		p.free[k] -= v
	}
	p.pods = append(p.pods, x)
}

// takes tells whether a pod can come to a place.
func (p *place) takes(x *Pod) bool {
	if p.closed || !p.tolerated(x) || !p.selected(x) || p.portsUsed(x) || p.apart(x) {
		return false
	}
	for k, v := range x.requests() {
		if v > 0 && p.free[k] < v {
			return false
		}
	}
	return true
}

// tolerated tells whether a pod tolerates the node's taints that keep pods away.
func (p *place) tolerated(x *Pod) bool {
	for _, t := range p.taints {
		if t.Effect != "NoSchedule" && t.Effect != "NoExecute" {
			continue
		}
		if !slices.ContainsFunc(x.Spec.Tolerations, func(o Toleration) bool {
			return (o.Effect == "" || o.Effect == t.Effect) && (o.Key == t.Key || o.Key == "" && o.Operator == "Exists") && (o.Operator == "Exists" || o.Value == t.Value)
		}) {
			return false
		}
	}
	return true
}

// selected tells whether the node is one that the pod names by labels.
func (p *place) selected(x *Pod) bool {
	for k, v := range x.Spec.NodeSelector {
		if p.labels[k] != v {
			return false
		}
	}
	terms := x.Spec.Affinity.NodeAffinity.Required.Terms
	return len(terms) == 0 || slices.ContainsFunc(terms, func(t NodeTerm) bool {
		fits := func(e Expression) bool { return e.fits(p.labels) }
		field := func(e Expression) bool { return e.fits(map[string]string{"metadata.name": p.name}) }
		return !slices.ContainsFunc(t.Expressions, func(e Expression) bool { return !fits(e) }) && !slices.ContainsFunc(t.Fields, func(e Expression) bool { return !field(e) })
	})
}

func (e *Expression) fits(labels map[string]string) bool {
	v, has := labels[e.Key]
	switch e.Operator {
	case "In":
		return has && slices.Contains(e.Values, v)
	case "NotIn":
		return !has || !slices.Contains(e.Values, v)
	case "Exists":
		return has
	case "DoesNotExist":
		return !has
	case "Gt", "Lt":
		if len(e.Values) != 1 {
			return false
		}
		n, err := strconv.Atoi(v)
		bound, bad := strconv.Atoi(e.Values[0])
		return err == nil && bad == nil && (e.Operator == "Gt" && n > bound || e.Operator == "Lt" && n < bound)
	}
	return false
}

// portsUsed tells whether a port of the node that the pod wants is taken.
func (p *place) portsUsed(x *Pod) bool {
	want := x.hostPorts()
	return len(want) > 0 && slices.ContainsFunc(p.pods, func(o *Pod) bool {
		return slices.ContainsFunc(o.hostPorts(), func(k string) bool { return slices.Contains(want, k) })
	})
}

func (p *Pod) hostPorts() (out []string) {
	for _, c := range p.Spec.Containers {
		for _, x := range c.Ports {
			if x.HostPort > 0 {
				protocol := x.Protocol
				if protocol == "" {
					protocol = "TCP"
				}
				out = append(out, protocol+strconv.Itoa(x.HostPort))
			}
		}
	}
	return out
}

// hostname is the label by which each node is a topology of its own.
const hostname = "kubernetes.io/hostname"

// apart tells whether the pod, or one that is there, must not be on a node with the other.
func (p *place) apart(x *Pod) bool {
	against := func(a, b *Pod) bool {
		return slices.ContainsFunc(a.Spec.Affinity.PodAntiAffinity.Required, func(t PodTerm) bool {
			same := len(t.Namespaces) == 0 && a.Metadata.Namespace == b.Metadata.Namespace || slices.Contains(t.Namespaces, b.Metadata.Namespace)
			return t.TopologyKey == hostname && same && t.Selector.Matches(b.Metadata.Labels)
		})
	}
	return slices.ContainsFunc(p.pods, func(o *Pod) bool { return against(x, o) || against(o, x) })
}
