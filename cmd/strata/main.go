// Command strata is a private cloud region in one program.
package main

import (
	"os"

	"github.com/strata-cloud/strata/internal/cli"
	"github.com/strata-cloud/strata/internal/hypervisor"
)

func main() {
	// The probe for hardware virtualisation runs a guest in a child process, which is this program again.
	hypervisor.ProbeMain()
	// So is the keeper of leases.
	hypervisor.KeeperMain()
	os.Exit(cli.Main(os.Args[1:], os.Stdout, os.Stderr))
}
