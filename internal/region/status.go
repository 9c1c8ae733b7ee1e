package region

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/strata-cloud/strata/internal/nodes"
)

// Status is the state of a running region, for the operator.
type Status struct {
	Version string         `json:"version"`
	PID     int            `json:"pid"`
	Node    string         `json:"node,omitempty"` // of a machine that joined: it has no store
	URL     string         `json:"url"`
	Begun   time.Time      `json:"begun"`
	TookMS  int64          `json:"start_ms"` // from start to ready
	PSS     int64          `json:"pss"`      // bytes of memory of this process, shared pages in proportion
	Accel   string         `json:"accel"`    // kvm or tcg
	Why     string         `json:"accel_why"`
	Sagas   int            `json:"open_sagas"`
	Store   StoreStatus    `json:"store"`
	Nodes   []NodeStatus   `json:"nodes"`
	Records map[string]int `json:"records"` // how many there are, by service/kind
	// Control are the members of a control plane that can have several.
	Control []ControlStatus `json:"control,omitempty"`
	Problem string          `json:"problem,omitempty"` // why the control plane does not work
	Advice  string          `json:"advice,omitempty"`  // on what could be better
}

// StoreStatus is the state of the store. Sizes are in bytes.
type StoreStatus struct {
	Revision int64    `json:"revision"`
	Size     int64    `json:"size"`
	InUse    int64    `json:"in_use"`
	Quota    int64    `json:"quota"`
	Members  int      `json:"members"`
	Alarms   []string `json:"alarms"`
}

// NodeStatus is a node and what is placed on it. Memory is in MiB.
type NodeStatus struct {
	Name       string `json:"name"`
	Role       string `json:"role"` // node, control, control leader or learner
	Accel      string `json:"accel"`
	Hypervisor string `json:"hypervisor"`
	Connected  bool   `json:"connected"`
	Dead       bool   `json:"dead"` // nothing with high availability runs there any more
	Servers    int    `json:"servers"`
	VCPUs      int    `json:"vcpus"`
	VCPUsUsed  int    `json:"vcpus_used"`
	Memory     int    `json:"memory_mib"`
	MemoryUsed int    `json:"memory_used_mib"`
	DiskGiB    int    `json:"disk_gib"`
	DiskUsed   int    `json:"disk_used_gib"`
	// Waiting says why servers with high availability are not evacuated, by server.
	Waiting map[string]string `json:"waiting,omitempty"`
}

// Status tells how the region is.
func (r *Region) Status(ctx context.Context) (*Status, error) {
	st, err := r.DB.Status(ctx)
	if err != nil {
		return nil, fmt.Errorf("the store's state: %w", err)
	}
	pss, err := processPSS()
	if err != nil {
		return nil, fmt.Errorf("measuring memory: %w", err)
	}
	s := &Status{Version: r.cfg.Version, PID: os.Getpid(), URL: r.URL(), Begun: r.begun, TookMS: r.Took().Milliseconds(), PSS: pss,
		Sagas: r.Sagas.Open(), Records: r.DB.Counts(),
		Store: StoreStatus{Revision: st.Revision, Size: st.Size, InUse: st.InUse, Quota: st.Quota, Members: st.Members, Alarms: st.Alarms}}
	roles := map[string]string{}
	if r.host != nil {
		s.Accel, s.Why, roles[r.cfg.Node] = r.host.info.Accelerator, r.host.why, nodes.RoleControl
	} else {
		roles = r.council.roleNames()
	}
	for _, n := range r.Nodes.Infos.All() {
		_, err := r.Nodes.Conn(n.ID)
		row := NodeStatus{Name: n.Host, Role: cmp.Or(roles[n.ID], nodes.RoleNode), Accel: n.Accelerator, Hypervisor: n.Hypervisor + " " + n.Version, Connected: err == nil, VCPUs: n.VCPUs, Memory: n.MemoryMiB, DiskGiB: n.DiskGiB}
		row.Dead, row.Waiting = r.Nodes.Dead(n.ID), r.Compute.Waiting(n.ID)
		for _, i := range r.Nodes.Instances.By("node", n.ID) {
			if i.Deleted {
				continue
			}
			row.Servers++
			row.VCPUsUsed += i.VCPUs
			row.MemoryUsed += i.MemoryMiB
			for _, d := range i.Disks {
				row.DiskUsed += d.SizeGiB
			}
		}
		s.Nodes = append(s.Nodes, row)
	}
	return s, nil
}

// processPSS is the proportional set size of this process in bytes (proc(5), smaps_rollup).
func processPSS() (int64, error) {
	f, err := os.Open("/proc/self/smaps_rollup")
	if err != nil {
		return 0, err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if rest, ok := strings.CutPrefix(lines.Text(), "Pss:"); ok {
			kib, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			return kib << 10, err
		}
	}
	return 0, fmt.Errorf("smaps_rollup has no Pss: %w", lines.Err())
}
