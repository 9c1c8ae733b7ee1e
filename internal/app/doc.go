// Package app deploys applications to a cluster of Kubernetes for people who would rather
// not write its objects: an application is an image, or a compose file.
//
// An application is a namespace of its own, in which every service is a Deployment, with a
// Service for its ports, a PersistentVolumeClaim for each volume, and ConfigMaps and Secrets
// for files. They are plain objects, applied by the field manager "strata-app", so that
// kubectl shows and changes them, and what somebody else has set of them stays. There is
// no other record of an application: what is listed is what the cluster has.
//
// Source: the Compose specification; Kubernetes' API reference.
package app
