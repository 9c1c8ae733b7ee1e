// Command strata-shim stands behind each container, so that it outlives strata.
// Strata starts it; it is of no use by hand.
package main

import (
	"context"

	"github.com/strata-cloud/strata/internal/container/shim"
)

func main() {
	shim.Main(context.Background())
}
