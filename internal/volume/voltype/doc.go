// Package voltype is the volume types: their extra specs, who may use them, how
// their volumes are encrypted, the limits (QoS specs) that they are associated
// with, and the projects' default types.
//
// Invariants: a type that volumes have is not deleted; the type __DEFAULT__
// exists; a QoS spec that is in use goes only by force, and its types lose it then.
package voltype
