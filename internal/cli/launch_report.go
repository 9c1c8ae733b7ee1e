package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/servers"
)

// launched is what launch tells programs.
type launched struct {
	ID      string  `json:"id"`
	Name    string  `json:"name"`
	Status  string  `json:"status"`
	Address string  `json:"address,omitempty"`
	User    string  `json:"user,omitempty"`
	Key     string  `json:"key"`
	Phases  []phase `json:"phases"`
	Seconds float64 `json:"seconds"`
}

// report says what there is now and what to type next.
func (l *launching) report() error {
	facts := launched{ID: l.server.ID, Name: l.name, Status: l.server.Status, Address: l.addr, User: l.user, Key: l.key.file, Phases: l.phases, Seconds: time.Since(l.begun).Seconds()}
	if l.output == "json" {
		return l.show(facts)
	}
	l.progress("server %s is ready (%s)", l.name, took(l.begun))
	about := table{}
	about.add("server", fmt.Sprintf("%s (%s)", l.name, l.server.ID))
	if l.addr != "" {
		about.add("address", l.addr)
		about.add("log-in", fmt.Sprintf("user %s, key %s, no password", l.user, l.key.file))
	}
	about.add("credentials", fmt.Sprintf("%s, cloud %s", l.path("clouds.yaml"), l.o.cloud))
	strata := l.self()
	next := table{head: []string{"what to type next"}}
	if l.addr != "" {
		next.add("  "+strata+" ssh "+l.name, "log in")
	}
	next.add(fmt.Sprintf(`  eval "$(%s env --cloud %s)"`, strata, l.o.cloud), "let the openstack command use this cloud")
	next.add("  openstack server list", "what there is in the project")
	next.add("  "+strata+" status", "what the cloud is doing")
	l.printf("\n")
	return l.show(nil, about, next)
}

// failed says why, shows the end of the console, and how to remove what was made.
func (l *launching) failed(ctx context.Context, cause error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	if l.server != nil {
		if tail := l.consoleTail(ctx); tail != "" {
			l.progress("the last lines of the server's console:\n%s", indent(tail))
		}
		l.progress("to see where the network breaks: %s doctor --server %s", l.self(), l.server.ID)
	}
	if len(l.made) > 0 {
		l.progress("what was made is left for you to look at; these remove it, after eval \"$(%s env --cloud %s)\":\n%s", l.self(), l.o.cloud, indent(strings.Join(l.made, "\n")))
	}
	return cause
}

// consoleLines is how much of the console a failure shows.
const consoleLines = 15

func (l *launching) consoleTail(ctx context.Context) string {
	out, err := servers.ShowConsoleOutput(ctx, l.computeAPI, l.server.ID, servers.ShowConsoleOutputOpts{Length: consoleLines}).Extract()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(strings.ReplaceAll(out, "\r", ""))
}

func indent(s string) string { return "  " + strings.ReplaceAll(s, "\n", "\n  ") }
