package autoscale

import (
	"fmt"
	"maps"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/strata-cloud/strata/internal/kube/netpolicy"
)

// Meta is of an object what is needed here.
type Meta struct {
	Name            string            `json:"name"`
	Namespace       string            `json:"namespace"`
	UID             string            `json:"uid"`
	Labels          map[string]string `json:"labels"`
	Annotations     map[string]string `json:"annotations"`
	Created         time.Time         `json:"creationTimestamp"`
	Deleted         *time.Time        `json:"deletionTimestamp"`
	OwnerReferences []struct {
		Kind       string `json:"kind"`
		Controller bool   `json:"controller"`
	} `json:"ownerReferences"`
}

// Condition is one of a pod or node.
type Condition struct {
	Type, Status, Reason, Message string
}

// Pod is one of the API.
type Pod struct {
	Metadata Meta `json:"metadata"`
	Spec     struct {
		NodeName       string            `json:"nodeName"`
		NodeSelector   map[string]string `json:"nodeSelector"`
		Priority       int               `json:"priority"`
		Containers     []Container       `json:"containers"`
		InitContainers []Container       `json:"initContainers"`
		Overhead       Resources         `json:"overhead"`
		Resources      Requests          `json:"resources"`
		Tolerations    []Toleration      `json:"tolerations"`
		Affinity       struct {
			NodeAffinity struct {
				Required struct {
					Terms []NodeTerm `json:"nodeSelectorTerms"`
				} `json:"requiredDuringSchedulingIgnoredDuringExecution"`
			} `json:"nodeAffinity"`
			PodAntiAffinity struct {
				Required []PodTerm `json:"requiredDuringSchedulingIgnoredDuringExecution"`
			} `json:"podAntiAffinity"`
		} `json:"affinity"`
		Volumes []struct {
			EmptyDir *struct {
				Medium string `json:"medium"`
			} `json:"emptyDir"`
			HostPath *struct{} `json:"hostPath"`
		} `json:"volumes"`
	} `json:"spec"`
	Status struct {
		Phase      string      `json:"phase"`
		Conditions []Condition `json:"conditions"`
	} `json:"status"`
}

// Requests are what a container, or a pod as a whole, asks for.
type Requests struct {
	Requests Resources `json:"requests"`
}

// Container is one of a pod.
type Container struct {
	RestartPolicy string   `json:"restartPolicy"`
	Resources     Requests `json:"resources"`
	Ports         []struct {
		HostPort int    `json:"hostPort"`
		Protocol string `json:"protocol"`
	} `json:"ports"`
}

// Toleration lets a pod onto nodes with a taint.
type Toleration struct {
	Key, Operator, Value, Effect string
}

// Taint keeps pods from a node.
type Taint struct {
	Key, Value, Effect string
}

// NodeTerm is fulfilled by nodes that fulfil all of it.
type NodeTerm struct {
	Expressions []Expression `json:"matchExpressions"`
	Fields      []Expression `json:"matchFields"`
}

// Expression is about a label.
type Expression struct {
	Key, Operator string
	Values        []string
}

// PodTerm is about other pods of a topology.
type PodTerm struct {
	Selector    netpolicy.Selector `json:"labelSelector"`
	TopologyKey string             `json:"topologyKey"`
	Namespaces  []string           `json:"namespaces"`
}

// Node is one of the API.
type Node struct {
	Metadata Meta `json:"metadata"`
	Spec     struct {
		Unschedulable bool    `json:"unschedulable"`
		Taints        []Taint `json:"taints"`
	} `json:"spec"`
	Status struct {
		Allocatable Resources   `json:"allocatable"`
		Conditions  []Condition `json:"conditions"`
	} `json:"status"`
}

// Ready tells whether a node takes pods.
func (n *Node) Ready() bool { return condition(n.Status.Conditions, "Ready").Status == "True" }

func condition(list []Condition, kind string) Condition {
	for _, c := range list {
		if c.Type == kind {
			return c
		}
	}
	return Condition{}
}

// Budget is a PodDisruptionBudget.
type Budget struct {
	Metadata Meta `json:"metadata"`
	Spec     struct {
		Selector *netpolicy.Selector `json:"selector"`
	} `json:"spec"`
	Status struct {
		Allowed int `json:"disruptionsAllowed"`
	} `json:"status"`
}

// Resources are amounts by resource, in thousandths, as cpu: 250m is 250.
type Resources map[string]Quantity

// Quantity is an amount in thousandths.
type Quantity float64

// suffixes of quantities (apimachinery, api/resource).
var suffixes = map[string]float64{"": 1, "n": 1e-9, "u": 1e-6, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18,
	"Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40, "Pi": 1 << 50, "Ei": 1 << 60}

// UnmarshalJSON implements json.Unmarshaler.
func (q *Quantity) UnmarshalJSON(raw []byte) error {
	text := strings.Trim(string(raw), `"`)
	number := strings.TrimRight(text, "numkKMGTPEi")
	n, err := strconv.ParseFloat(number, 64)
	factor, known := suffixes[text[len(number):]]
	if err != nil || !known || math.IsInf(n, 0) || math.IsNaN(n) {
		return fmt.Errorf("%q is no quantity", text)
	}
	*q = Quantity(n * factor * 1000)
	return nil
}

func (r Resources) plus(other Resources) Resources {
	out := maps.Clone(r)
	if out == nil {
		out = Resources{}
	}
	for k, v := range other {
		out[k] += v
	}
	return out
}

func (r Resources) most(other Resources) Resources {
	out := maps.Clone(r)
	if out == nil {
		out = Resources{}
	}
	for k, v := range other {
		out[k] = max(out[k], v)
	}
	return out
}

// podsResource counts pods.
const podsResource = "pods"

// requests are what a pod takes of its node: its containers together, or what an init
// container takes, if that is more. Those that go on beside the others count for both.
func (p *Pod) requests() Resources {
	var sum, init, beside Resources
	for _, c := range p.Spec.InitContainers {
		if c.RestartPolicy == "Always" {
			beside = beside.plus(c.Resources.Requests)
			init = init.most(beside)
		} else {
			init = init.most(beside.plus(c.Resources.Requests))
		}
	}
	for _, c := range p.Spec.Containers {
		sum = sum.plus(c.Resources.Requests)
	}
	sum = sum.plus(beside).most(init)
	for k, v := range p.Spec.Resources.Requests {
		sum[k] = v // of the pod as a whole
	}
	sum = sum.plus(p.Spec.Overhead)
	sum[podsResource] += 1000
	return sum
}

// ended tells whether a pod takes nothing any more.
func (p *Pod) ended() bool { return p.Status.Phase == "Succeeded" || p.Status.Phase == "Failed" }

func (p *Pod) ownedBy(kind string) bool {
	for _, o := range p.Metadata.OwnerReferences {
		if o.Controller && (kind == "" || o.Kind == kind) {
			return true
		}
	}
	return false
}

func (p *Pod) mirror() bool {
	_, ok := p.Metadata.Annotations["kubernetes.io/config.mirror"]
	return ok
}

// cutoff is the priority below which pods make no group grow (--expendable-pods-priority-cutoff).
const cutoff = -10

// Waits tells whether a pod finds no place, and what the scheduler says of that.
func (p *Pod) Waits() (why string, yes bool) {
	c := condition(p.Status.Conditions, "PodScheduled")
	return c.Message, p.Spec.NodeName == "" && p.Metadata.Deleted == nil && !p.ended() && p.Spec.Priority >= cutoff && !p.ownedBy("DaemonSet") && c.Status == "False" && c.Reason == "Unschedulable"
}

func (p *Pod) String() string { return p.Metadata.Namespace + "/" + p.Metadata.Name }
