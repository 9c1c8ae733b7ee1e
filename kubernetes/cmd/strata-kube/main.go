// Command strata-kube is the programs of Kubernetes in one: what it is called with
// first says which of them it is.
package main

import (
	"os"

	"github.com/strata-cloud/strata/kubernetes/internal/component"
)

func main() { os.Exit(component.Main(os.Args)) }
