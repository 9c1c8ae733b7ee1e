// Package autoscale decides how many nodes a cluster's node groups should have: it is
// arithmetic on pods and nodes, and does nothing by itself.
//
// A group grows when pods find no place and a new node of it would take them, and shrinks by
// a node that has had little to do for a while, and whose pods others can take. What pods
// demand of nodes is judged as the scheduler does as far as CPU, memory, storage and other
// countable resources, node selectors and required node affinity, taints, ports of the node,
// and required anti-affinity between hosts go. Other demands (affinity to pods, spreading,
// where volumes are) are taken as met: a group may grow for a pod that then still waits, once,
// as that pod has a place from then on by what is known here.
//
// Source: kubernetes/autoscaler, cluster-autoscaler/FAQ.md ("How does scale-up work?", "How
// does scale-down work?", "What types of pods can prevent CA from removing a node?").
package autoscale
