// Package conformance names upstream's suite of end-to-end tests and the programs that
// its pods run, so that this module's go.mod pins them, too. Nothing imports it.
package conformance
