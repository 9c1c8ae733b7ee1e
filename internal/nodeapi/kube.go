package nodeapi

import (
	"net/netip"
	"time"
)

// KubePair is a certificate and its key, in PEM.
type KubePair struct {
	Cert []byte `json:"cert"`
	Key  []byte `json:"key"`
}

// KubeAuthorities are those of a Kubernetes cluster; only the node that hosts its control
// plane is told.
type KubeAuthorities struct {
	Cluster        KubePair `json:"cluster"`
	FrontProxy     KubePair `json:"front_proxy"`
	Etcd           KubePair `json:"etcd"`
	ServiceAccount []byte   `json:"service_account"` // a key, in PEM
}

// KubePart is what one node does for a Kubernetes cluster.
type KubePart struct {
	ID string `json:"id"` // of the cluster
	// Rev names the content of all else: what a node reports is about it.
	Rev string `json:"rev"`
	// PodCIDR has the addresses of the cluster's pods, ServiceCIDR those of its services.
	PodCIDR     netip.Prefix `json:"pod_cidr"`
	ServiceCIDR netip.Prefix `json:"service_cidr"`
	// PodCIDR6 and ServiceCIDR6 are the same for IPv6; not valid: the cluster has IPv4 alone.
	PodCIDR6     netip.Prefix `json:"pod_cidr6,omitzero"`
	ServiceCIDR6 netip.Prefix `json:"service_cidr6,omitzero"`

	Control *KubeControl `json:"control,omitempty"`
	Worker  *KubeWorker  `json:"worker,omitempty"`
}

// KubeControl is a hosted control plane.
type KubeControl struct {
	Name        string          `json:"name"`
	Generation  int             `json:"generation"` // another one has the programs started anew
	Address     netip.AddrPort  `json:"address"`
	Pods        []netip.Prefix  `json:"pods"`
	Services    []netip.Prefix  `json:"services"`
	EtcdPort    int             `json:"etcd_port"`
	ReviewPort  int             `json:"review_port"`  // where the API server has users' tokens judged, on loopback
	MetricsPort int             `json:"metrics_port"` // of the server of metrics, on loopback
	Authorities KubeAuthorities `json:"authorities"`
	// Gate is the control plane's own place in the network of pods; nil: it has none yet.
	Gate *ContainerPort `json:"gate,omitempty"`
	// Machines are the addresses of workers that are machines of the pool: their kubelets are
	// reached from the machine. Those of others are in the network.
	Machines []netip.Addr `json:"machines,omitempty"`
	// Gone are workers that are to be nodes of the cluster no more.
	Gone []string `json:"gone,omitempty"`
	// State names the copy that its data begins with where it has moved to.
	State string `json:"state,omitempty"`
	// Sealed: it is about to move, all but etcd ends, and the last copy is made.
	Sealed bool `json:"sealed,omitempty"`
}

// KubeWorker is the node as a worker.
type KubeWorker struct {
	Name       string         `json:"name"`
	Generation int            `json:"generation"`
	Address    netip.Addr     `json:"address"`
	URL        string         `json:"url"`
	CA         []byte         `json:"ca"`
	Kubelet    KubePair       `json:"kubelet"`
	Serving    KubePair       `json:"serving"`
	Proxy      KubePair       `json:"proxy"`
	Policies   KubePair       `json:"policies"` // who reads the cluster's policies for the node
	Pods       []netip.Prefix `json:"pods"`
	DNS        netip.Addr     `json:"dns"`
	// Port is the node's own place in the network of pods; nil: it has none yet.
	Port *ContainerPort `json:"port,omitempty"`
	// Registries are the names of the region's own registry, Mirrors the registries of others
	// that it mirrors.
	Registries []string `json:"registries,omitempty"`
	Mirrors    []string `json:"mirrors,omitempty"`
	// Balancers are the cluster's, of its Services.
	Balancers []KubeBalancer `json:"balancers,omitempty"`
}

// KubeBalancer is a load balancer of a cluster. A transparent one leaves clients' addresses as
// they are: nodes answer by way of it.
type KubeBalancer struct {
	Addr        netip.Addr `json:"addr"`
	Addr6       netip.Addr `json:"addr6,omitzero"` // beside it, if it has IPv6
	MAC         string     `json:"mac"`
	Floating    netip.Addr `json:"floating,omitzero"` // where others reach it
	Transparent bool       `json:"transparent,omitempty"`
}

// KubeUser is whom a cluster's API takes the holder of a token for.
type KubeUser struct {
	Name   string              `json:"name"`
	UID    string              `json:"uid"`
	Groups []string            `json:"groups"`
	Extra  map[string][]string `json:"extra"`
}

// KubeLogin pulls images of a cluster's project from the region's registry, for a while.
type KubeLogin struct {
	Name     string        `json:"name"`
	Password string        `json:"password"`
	Lasts    time.Duration `json:"lasts"`
}

// KubePod is a pod that wants a place in the network of its cluster: it is found again by
// its sandbox and device, as the runtime calls them.
type KubePod struct {
	Sandbox   string `json:"sandbox"`
	Device    string `json:"device"`
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	UID       string `json:"uid,omitempty"`
}

// KubeStatus is what a node says of its part of a cluster.
type KubeStatus struct {
	ID    string `json:"id"`
	Rev   string `json:"rev"`             // that runs here
	Fault string `json:"fault,omitempty"` // why it does not
	// API is what the control plane here says of itself; nil: there is none here.
	API *KubeAPI `json:"api,omitempty"`
	// Sealed is the last copy of a control plane that is about to move; "": it is not made yet.
	Sealed string `json:"sealed,omitempty"`
}

// KubeAPI is the state of a cluster as its own API tells it.
type KubeAPI struct {
	Fault   string     `json:"fault,omitempty"` // why it does not answer, or is not ready
	Version string     `json:"version,omitempty"`
	Nodes   []KubeNode `json:"nodes,omitempty"`
}

// KubeNode is a node of a cluster.
type KubeNode struct {
	Name  string `json:"name"`
	Ready bool   `json:"ready"`
	Why   string `json:"why,omitempty"` // it is not ready
}

// KubeReport is all that a node says of clusters.
type KubeReport struct {
	Node  string       `json:"node"`
	Parts []KubeStatus `json:"parts"`
}

// CSIAnswer is the answer to a call of the container storage interface: a message, or why
// not, by gRPC's code.
type CSIAnswer struct {
	Body    []byte `json:"body,omitempty"`
	Code    uint32 `json:"code,omitempty"` // 0: it went well
	Message string `json:"message,omitempty"`
}
