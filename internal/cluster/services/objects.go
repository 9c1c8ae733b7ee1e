package services

import "slices"

// finalizer keeps a Service until its load balancer has gone (KEP 980).
const finalizer = "service.kubernetes.io/load-balancer-cleanup"

// service is what is read of a Service.
type service struct {
	Metadata struct {
		Name, Namespace, UID, ResourceVersion string
		DeletionTimestamp                     *string
		Annotations                           map[string]string
		Finalizers                            []string
	}
	Spec struct {
		Type                  string
		LoadBalancerClass     *string
		LoadBalancerIP        string
		SourceRanges          []string `json:"loadBalancerSourceRanges"`
		ExternalTrafficPolicy string
		HealthCheckNodePort   int
		SessionAffinity       string
		IPFamilies            []string
		Ports                 []servicePort
	}
	Status struct{ LoadBalancer struct{ Ingress []ingress } }
}

type servicePort struct {
	Name, Protocol string
	Port, NodePort int
}

// ingress is where a Service is reached.
type ingress struct {
	IP       string `json:"ip,omitempty"`
	Hostname string `json:"hostname,omitempty"`
	IPMode   string `json:"ipMode,omitempty"`
}

// wanted tells whether the Service is to have a load balancer of ours.
func (s *service) wanted() bool {
	return s.Spec.Type == "LoadBalancer" && s.Spec.LoadBalancerClass == nil && s.Metadata.DeletionTimestamp == nil
}

// held tells whether the Service still waits for us to have removed one.
func (s *service) held() bool {
	return s.Spec.LoadBalancerClass == nil && slices.Contains(s.Metadata.Finalizers, finalizer)
}

// The families of a Service's addresses.
const (
	ipv4 = "IPv4"
	ipv6 = "IPv6"
)

// families are the Service's, its first one first.
func (s *service) families() []string {
	if len(s.Spec.IPFamilies) == 0 {
		return []string{ipv4}
	}
	return s.Spec.IPFamilies
}

func (s *service) has(family string) bool { return slices.Contains(s.families(), family) }

func (s *service) local() bool { return s.Spec.ExternalTrafficPolicy == "Local" }

// Labels and taints of nodes that get nothing (k8s.io/cloud-provider, controllers/service).
const (
	excludedLabel = "node.kubernetes.io/exclude-from-external-load-balancers"
	goingTaint    = "ToBeDeletedByClusterAutoscaler"
)

// node is what is read of a Node.
type node struct {
	Metadata struct {
		Name              string
		DeletionTimestamp *string
		Labels            map[string]string
	}
	Spec struct {
		Taints []struct{ Key string }
	}
	Status struct {
		Conditions []struct{ Type, Status string }
	}
}

func (n *node) eligible() bool {
	_, excluded := n.Metadata.Labels[excludedLabel]
	return !excluded && n.Metadata.DeletionTimestamp == nil && !slices.ContainsFunc(n.Spec.Taints, func(t struct{ Key string }) bool { return t.Key == goingTaint })
}

func (n *node) ready() bool {
	return slices.Contains(n.Status.Conditions, struct{ Type, Status string }{"Ready", "True"})
}
