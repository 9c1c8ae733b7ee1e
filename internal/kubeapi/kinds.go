package kubeapi

// Kinds that more than one package reads or writes.
var (
	ConfigMaps  = Kind{APIVersion: "v1", Kind: "ConfigMap", Plural: "configmaps"}
	Claims      = Kind{APIVersion: "v1", Kind: "PersistentVolumeClaim", Plural: "persistentvolumeclaims"}
	Deployments = Kind{APIVersion: "apps/v1", Kind: "Deployment", Plural: "deployments"}
	Events      = Kind{APIVersion: "v1", Kind: "Event", Plural: "events"}
	Ingresses   = Kind{APIVersion: "networking.k8s.io/v1", Kind: "Ingress", Plural: "ingresses"}
	Namespaces  = Kind{APIVersion: "v1", Kind: "Namespace", Plural: "namespaces", Clusterly: true}
	Nodes       = Kind{APIVersion: "v1", Kind: "Node", Plural: "nodes", Clusterly: true}
	Pods        = Kind{APIVersion: "v1", Kind: "Pod", Plural: "pods"}
	Services    = Kind{APIVersion: "v1", Kind: "Service", Plural: "services"}
)
