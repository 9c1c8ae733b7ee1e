// Package system tests whole clouds: the built program with real QEMU, real
// namespaces and real clients. Its tests need root and bin/strata.
package system
