package cli

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/strata-cloud/strata/internal/region"
)

// notRunning is the exit status of strata status when there is nothing to tell
// about (LSB: program is not running).
const notRunning = 3

func (a *app) status() *cobra.Command {
	return &cobra.Command{Use: "status", Short: "Show how the cloud is", Args: cobra.NoArgs,
		Long: "Show how the cloud is: its process, store, nodes and what there is. The exit status is 3 when it does not run.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			pid, ok := a.running()
			if !ok {
				a.progress("Strata is not running in %s; start it with %s up --detach", a.dataDir, a.self())
				if err := a.show(map[string]any{"running": false, "data_dir": a.dataDir}); err != nil {
					return err
				}
				return &exitError{notRunning}
			}
			s, err := region.NewAdmin(a.dataDir).Status(cmd.Context())
			if err != nil {
				return fmt.Errorf("pid %d has %s open but does not tell its state: %w; it may be starting: see %s", pid, a.dataDir, err, a.path("strata.log"))
			}
			return a.show(struct {
				Running bool   `json:"running"`
				DataDir string `json:"data_dir"`
				*region.Status
			}{true, a.dataDir, s}, append(a.statusTables(s), controlTables(s)...)...)
		}}
}

// statusTables is what a cloud that works is told of.
func (a *app) statusTables(s *region.Status) []table {
	if s.Problem != "" {
		a.progress("%s", s.Problem)
		return nil
	}
	return []table{a.aboutStatus(s), nodeTable(s), recordTable(s)}
}

// controlTables are the members of a control plane that can have several.
func controlTables(s *region.Status) []table {
	if len(s.Control) == 0 {
		return nil
	}
	t := table{head: []string{"CONTROL MEMBER", "ROLE", "STATE", "CLUSTER PORT", "API", "VERSION", "IMAGES"}}
	for _, m := range s.Control {
		state := "answers"
		if !m.Answers {
			state = "does not answer"
		}
		t.add(m.Name, m.Role, state, m.Address, m.URL, m.Version, use(m.Images-m.Missing, m.Images))
	}
	if s.Advice == "" {
		return []table{t}
	}
	note := table{}
	note.add("note", s.Advice)
	return []table{t, note}
}

func (a *app) aboutStatus(s *region.Status) table {
	t := table{}
	t.add("Strata", fmt.Sprintf("%s, pid %d, up %s", s.Version, s.PID, time.Since(s.Begun).Round(time.Second)))
	t.add("address", s.URL)
	t.add("data", a.dataDir)
	t.add("memory", fmt.Sprintf("%s (PSS of this process; servers come on top)", bytesText(s.PSS)))
	t.add("acceleration", acceleration(s.Accel, s.Why))
	store := fmt.Sprintf("%s of %s, %s in use, revision %d, %s", bytesText(s.Store.Size), bytesText(s.Store.Quota), bytesText(s.Store.InUse), s.Store.Revision, plural(s.Store.Members, "member"))
	if len(s.Store.Alarms) > 0 {
		store += ", ALARM " + strings.Join(s.Store.Alarms, ", ")
	}
	t.add("store", store)
	work := "none under way"
	if s.Sagas > 0 {
		work = plural(s.Sagas, "operation") + " under way"
	}
	t.add("work", work)
	return t
}

// acceleration says plainly how fast guests can be.
func acceleration(accel, why string) string {
	if accel == "kvm" {
		return "KVM: guests run on the processor (" + why + ")"
	}
	return "none: guests are emulated by QEMU (TCG) and much slower than the machine (" + why + ")"
}

func nodeTable(s *region.Status) table {
	t := table{head: []string{"NODE", "ROLE", "STATE", "SERVERS", "VCPUS", "MEMORY MiB", "DISK GiB", "ACCEL", "HYPERVISOR"}}
	for _, n := range s.Nodes {
		state := "connected"
		switch {
		case n.Dead:
			state = "dead"
		case !n.Connected:
			state = "away"
		}
		t.add(n.Name, n.Role, state, n.Servers, use(n.VCPUsUsed, n.VCPUs), use(n.MemoryUsed, n.Memory), use(n.DiskUsed, n.DiskGiB), n.Accel, n.Hypervisor)
	}
	return t
}

// waitingTable lists the servers with high availability that are not evacuated, and why.
func waitingTable(s *region.Status) table {
	t := table{head: []string{"DEAD NODE", "SERVER THAT WAITS", "WHY"}}
	for _, n := range s.Nodes {
		for _, id := range slices.Sorted(maps.Keys(n.Waiting)) {
			t.add(n.Name, id, n.Waiting[id])
		}
	}
	return t
}

func use(used, all int) string { return fmt.Sprintf("%d/%d", used, all) }

// shownRecords are the kinds that status counts, as the store calls them.
var shownRecords = [...][2]string{{"image/image", "image"}, {"network/network", "network"}, {"network/port", "port"}, {"network/router", "router"},
	{"network/floatingip", "floating IP"}, {"identity/user", "user"}}

func recordTable(s *region.Status) table {
	servers := 0
	for _, n := range s.Nodes {
		servers += n.Servers
	}
	parts := []string{plural(servers, "server")}
	for _, r := range shownRecords {
		if n, ok := s.Records[r[0]]; ok {
			parts = append(parts, plural(n, r[1]))
		}
	}
	t := table{}
	t.add("there is", strings.Join(parts, ", "))
	return t
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
