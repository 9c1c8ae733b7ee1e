package balance

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/strata-cloud/strata/internal/dataplane/balancer"
	"github.com/strata-cloud/strata/internal/needs"
	"github.com/strata-cloud/strata/internal/netns"
	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/wait"
)

// orders is a control plane that says what it is told.
type orders chan []nodeapi.LoadBalancer

func (o orders) LoadBalancers(context.Context) <-chan []nodeapi.LoadBalancer { return o }

func (orders) ReportLoadBalancers(context.Context, []nodeapi.LoadBalancerStatus) error { return nil }

// TestHurries takes back a load balancer whose port never comes: nobody waits for it.
func TestHurries(t *testing.T) {
	needs.Root(t, "making a namespace")
	begun := make(chan struct{}, 1)
	k := &balancer.Kernel{Name: fmt.Sprintf("tba%d", os.Getpid()), Plug: func(ctx context.Context, _ *netns.NS, _ string, _ nodeapi.ContainerPort) error {
		begun <- struct{}{}
		<-ctx.Done()
		return ctx.Err()
	}}
	o := make(orders)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); New(o, k, "n1", slog.New(slog.DiscardHandler)).Run(ctx) }()
	defer func() { cancel(); close(o); <-done }()
	o <- []nodeapi.LoadBalancer{{ID: "lb1", Gen: 1, Port: nodeapi.ContainerPort{ID: "p1", MAC: "02:00:00:00:00:09", Addrs: []netip.Prefix{netip.MustParsePrefix("10.9.0.9/24")}}}}
	<-begun
	o <- nil
	limit, stop := context.WithTimeout(t.Context(), patience/3)
	defer stop()
	err := wait.Until(limit, "the namespace to go", 10*time.Millisecond, func(context.Context) (bool, error) {
		left, err := k.List()
		return len(left) == 0, err
	})
	if err != nil {
		t.Error(err)
		_ = k.Remove("lb1") // the test has failed already
	}
}
