// Package needs says what a test cannot do without. By hand such a test is skipped;
// where everything must run (make test sets STRATA_NEEDS=all) it fails instead, so
// that nothing is left out in silence.
package needs

import (
	"os"
	"testing"
)

// Root ends a test that is not run by root. why tells what root is needed for.
func Root(t testing.TB, why string) {
	t.Helper()
	if os.Geteuid() != 0 {
		Missing(t, "%s needs root", why)
	}
}

// Missing ends a test for want of something.
func Missing(t testing.TB, format string, args ...any) {
	t.Helper()
	if os.Getenv("STRATA_NEEDS") == "all" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}
