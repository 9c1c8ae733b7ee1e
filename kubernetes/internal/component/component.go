// Package component has upstream's programs, each as its own main function has it.
//
// A program of Kubernetes sets up signal handlers, registries of metrics and flags of
// the whole process as it starts, and ends the process when it can't go on. So each
// is a process of its own, and only the one that is asked for is made.
package component

import (
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/server/v3/etcdmain"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"          // --logging-format=json
	_ "k8s.io/component-base/metrics/prometheus/clientgo" // metrics of clients
	_ "k8s.io/component-base/metrics/prometheus/version"  // metric of the version
	kubectl "k8s.io/kubectl/pkg/cmd"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllers "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	proxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"

	"github.com/strata-cloud/strata/kubernetes/internal/ingress"
	"github.com/strata-cloud/strata/kubernetes/internal/worker"
)

// programs are what strata-kube can be. Each is called once, with os.Args set as if
// it had been started by its own name.
func programs() map[string]func() int {
	return map[string]func() int{
		"kube-apiserver":          cobraMain(apiserver.NewAPIServerCommand),
		"kube-controller-manager": cobraMain(controllers.NewControllerManagerCommand),
		"kube-scheduler":          cobraMain(func() *cobra.Command { return scheduler.NewSchedulerCommand() }),
		"kube-proxy":              cobraMain(proxy.NewProxyCommand),
		"kubelet":                 cobraMain(func() *cobra.Command { return kubelet.NewKubeletCommand(context.Background()) }),
		"kubectl":                 cobraMain(kubectl.NewDefaultKubectlCommand),
		"metrics-server":          cobraMain(metricsServer),
		"containerd":              containerd,
		"coredns":                 coredns,
		ingress.Name:              func() int { return ingress.Main(context.Background(), os.Args) },
		worker.Name:               func() int { return worker.Main(context.Background(), os.Args) },
		"etcd":                    func() int { etcdmain.Main(os.Args); return 0 },
	}
}

func cobraMain(command func() *cobra.Command) func() int {
	return func() int { return cli.Run(command()) }
}

// Main is the program that args ask for, and returns its exit code.
func Main(args []string) int {
	all := programs()
	if len(args) > 1 {
		if run, ok := all[args[1]]; ok {
			os.Args = args[1:]
			return run()
		}
	}
	return usage(os.Stderr, slices.Sorted(maps.Keys(all)))
}

func usage(w io.Writer, names []string) int {
	fmt.Fprintf(w, "Usage: strata-kube PROGRAM [FLAGS]\n\nPrograms: %s\n", strings.Join(names, ", "))
	return 2
}
