package simulate

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Quantiles are of a time.
type Quantiles struct {
	P50 time.Duration `json:"p50_ns"`
	P99 time.Duration `json:"p99_ns"`
	Max time.Duration `json:"max_ns"`
	Of  int           `json:"of"` // how many were measured
}

func quantiles(list []time.Duration) Quantiles {
	if len(list) == 0 {
		return Quantiles{}
	}
	slices.Sort(list)
	at := func(q float64) time.Duration { return list[int(q*float64(len(list)-1)+0.5)] }
	return Quantiles{P50: at(.5), P99: at(.99), Max: list[len(list)-1], Of: len(list)}
}

// Work is what a phase of a run took.
type Work struct {
	Took   time.Duration `json:"took_ns"`
	CPU    time.Duration `json:"control_cpu_ns"` // of the control plane, in all
	Done   int           `json:"done"`
	Failed int           `json:"failed"`
	Rate   float64       `json:"per_second"`
	Load   float64       `json:"load"` // of the machine at its end: the average of a minute
}

// Result is what was measured.
type Result struct {
	Nodes      int `json:"nodes"`
	Servers    int `json:"servers"`
	Parallel   int `json:"parallel"`
	PerNetwork int `json:"per_network"`
	CPUs       int `json:"cpus"`

	Start  time.Duration `json:"start_ns"` // of an empty region, to its first answer
	Join   Work          `json:"join"`
	Create Work          `json:"create"`
	// Assigned and Active are from the request to the moment that the region writes down: of a
	// sample. Told is to the moment that the node knows of the server: of all.
	Assigned Quantiles     `json:"assigned"`
	Told     Quantiles     `json:"told"`
	Active   Quantiles     `json:"active"`
	States   int64         `json:"network_states"` // that nodes were sent while servers were made
	List     time.Duration `json:"list_1000_ns"`
	Delete   Work          `json:"delete"`
	// Restart is a stop and a start with all nodes there: Ready is its first answer,
	// Back when every node knows again what is wanted of it, both from the start.
	Restart struct {
		Stop  time.Duration `json:"stop_ns"`
		Ready time.Duration `json:"ready_ns"`
		Back  time.Duration `json:"back_ns"`
		CPU   time.Duration `json:"control_cpu_ns"`
	} `json:"restart"`

	// The control plane when it is empty, when the nodes have joined, when the servers
	// are made, and after the restart; and this process when the servers are made.
	Empty     Usage `json:"empty"`
	Joined    Usage `json:"joined"`
	Full      Usage `json:"full"`
	Restarted Usage `json:"restarted"`
	Agents    Usage `json:"agents"`

	StoreSize  int64    `json:"store_size"`
	StoreInUse int64    `json:"store_in_use"`
	Revisions  int64    `json:"revisions"` // that one server took to make
	Faults     []string `json:"faults"`
}

// PerNode and PerServer are the bytes of the control plane's memory for each.
func (r *Result) PerNode() int64 { return (r.Joined.PSS - r.Empty.PSS) / int64(max(r.Nodes, 1)) }

// PerServer is the bytes of the control plane's memory for each server.
func (r *Result) PerServer() int64 {
	return (r.Full.PSS - r.Joined.PSS) / int64(max(r.Create.Done, 1))
}

// keep notes a failure; the first few are enough to see what is wrong.
func (r *Result) keep(err error) {
	const some = 5
	if len(r.Faults) < some {
		r.Faults = append(r.Faults, err.Error())
	}
}

// load is the machine's load average of a minute; 0 when it cannot be read.
func load() float64 {
	raw, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return 0
	}
	n, err := strconv.ParseFloat(strings.Fields(string(raw))[0], 64)
	if err != nil {
		return 0
	}
	return n
}
