package fsmount

import (
	"context"
	"os"
	"testing"

	"github.com/strata-cloud/strata/internal/blockdev/fsmount/fusefile"
)

// TestMain is strata-shim as well, for the tests' own.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == fusefile.Verb {
		os.Exit(fusefile.Main(context.Background(), os.Args[2:], os.Stderr))
	}
	os.Exit(m.Run())
}
