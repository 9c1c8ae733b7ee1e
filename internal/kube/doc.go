// Package kube runs the programs of Kubernetes clusters on this machine: hosted control
// planes, and the machine as a cluster's worker. The programs are upstream's, in one
// executable, strata-kube, that is called by their names.
//
// What a cluster is, and where its parts are to be, is the cluster service's business.
// Here are the files and the flags of the programs, made anew from what is wanted, and a
// process.Keeper that keeps them running. Nothing that cannot be made again is kept but
// etcd's data.
//
//	DIR/CLUSTER/control/pki      certificates and kubeconfigs of the control plane
//	DIR/CLUSTER/control/etcd     a directory for each program, with its log
//	DIR/CLUSTER/control/data     etcd's data
//	DIR/CLUSTER/control/snapshot a snapshot that etcd's data is made of, when there is none
//	DIR/CLUSTER/control/began    the copy that etcd's data began with, if the control plane has moved here
//	DIR/CLUSTER/control/sealed   the last copy of it, while it is about to move away
//
// Source: Kubernetes' reference of command line tools; "PKI certificates and requirements".
package kube
