package netpolicy

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
)

// Meta is of an object what is needed here.
type Meta struct {
	Name      string            `json:"name"`
	Namespace string            `json:"namespace,omitempty"`
	UID       string            `json:"uid,omitempty"`
	Labels    map[string]string `json:"labels,omitempty"`
}

func (m *Meta) key() string { return m.Namespace + "/" + m.Name }

// Namespace is one of the API.
type Namespace struct {
	Metadata Meta `json:"metadata"`
}

// Pod is one of the API.
type Pod struct {
	Metadata Meta `json:"metadata"`
	Spec     struct {
		HostNetwork    bool        `json:"hostNetwork,omitempty"`
		Containers     []Container `json:"containers"`
		InitContainers []Container `json:"initContainers,omitempty"`
	} `json:"spec"`
	Status struct {
		Phase  string `json:"phase"`
		PodIPs []struct {
			IP string `json:"ip"`
		} `json:"podIPs,omitempty"`
	} `json:"status"`
}

// Container is one of a pod.
type Container struct {
	Ports []struct {
		Name          string `json:"name,omitempty"`
		ContainerPort int    `json:"containerPort"`
		Protocol      string `json:"protocol,omitempty"`
	} `json:"ports,omitempty"`
}

// addresses are a pod's; none: it has none of its own now.
func (p *Pod) addresses() (out []netip.Addr) {
	if p.Spec.HostNetwork || p.Status.Phase == "Succeeded" || p.Status.Phase == "Failed" {
		return nil
	}
	for _, x := range p.Status.PodIPs {
		if a, err := netip.ParseAddr(x.IP); err == nil {
			out = append(out, a)
		}
	}
	return out
}

// Policy is a NetworkPolicy.
type Policy struct {
	Metadata Meta `json:"metadata"`
	Spec     struct {
		PodSelector Selector `json:"podSelector"`
		PolicyTypes []string `json:"policyTypes,omitempty"`
		Ingress     []Rule   `json:"ingress,omitempty"`
		Egress      []Rule   `json:"egress,omitempty"`
	} `json:"spec"`
}

// Rule lets through what one of the peers and one of the ports has; none is any.
type Rule struct {
	Ports []Port `json:"ports,omitempty"`
	From  []Peer `json:"from,omitempty"`
	To    []Peer `json:"to,omitempty"`
}

// Port is a port, a range, or the name of one.
type Port struct {
	Protocol string    `json:"protocol,omitempty"`
	Port     *NameOrID `json:"port,omitempty"`
	EndPort  int       `json:"endPort,omitempty"`
}

// NameOrID is a number or a name.
type NameOrID struct {
	Number int
	Name   string
}

// UnmarshalJSON implements json.Unmarshaler.
func (n *NameOrID) UnmarshalJSON(raw []byte) error {
	if len(raw) > 0 && raw[0] == '"' {
		return json.Unmarshal(raw, &n.Name)
	}
	var err error
	n.Number, err = strconv.Atoi(string(raw))
	return err
}

// Peer is who is at the other end.
type Peer struct {
	PodSelector       *Selector `json:"podSelector,omitempty"`
	NamespaceSelector *Selector `json:"namespaceSelector,omitempty"`
	IPBlock           *struct {
		CIDR   string   `json:"cidr"`
		Except []string `json:"except,omitempty"`
	} `json:"ipBlock,omitempty"`
}

// Selector chooses by labels; an empty one everything.
type Selector struct {
	MatchLabels      map[string]string `json:"matchLabels,omitempty"`
	MatchExpressions []Requirement     `json:"matchExpressions,omitempty"`
}

// Requirement is one that labels have to meet.
type Requirement struct {
	Key      string   `json:"key"`
	Operator string   `json:"operator"`
	Values   []string `json:"values,omitempty"`
}

// Matches tells whether labels meet the selector.
func (s *Selector) Matches(labels map[string]string) bool {
	for k, v := range s.MatchLabels {
		if have, ok := labels[k]; !ok || have != v {
			return false
		}
	}
	for _, r := range s.MatchExpressions {
		v, ok := labels[r.Key]
		switch r.Operator {
		case "In":
			ok = ok && slices.Contains(r.Values, v)
		case "NotIn": // also what has no such label
			ok = !ok || !slices.Contains(r.Values, v)
		case "Exists":
		case "DoesNotExist":
			ok = !ok
		default:
			ok = false
		}
		if !ok {
			return false
		}
	}
	return true
}

// isolates tells in which directions a policy isolates the pods that it selects.
func (p *Policy) isolates() (ingress, egress bool) {
	if len(p.Spec.PolicyTypes) == 0 {
		return true, len(p.Spec.Egress) > 0
	}
	return slices.Contains(p.Spec.PolicyTypes, "Ingress"), slices.Contains(p.Spec.PolicyTypes, "Egress")
}

// protocolOf is a protocol in nft's words.
func protocolOf(name string) (string, error) {
	switch name {
	case "", "TCP":
		return "tcp", nil
	case "UDP":
		return "udp", nil
	case "SCTP":
		return "sctp", nil
	}
	return "", fmt.Errorf("protocol %q", name)
}
