package nodeapi

// MoveTarget is where a node waits for a server that comes from another node.
type MoveTarget struct {
	// Memory is the host:port where a running machine's memory is taken, "" when
	// only disks come; Disks is where the contents of its own disks are, by Disk.Name.
	Memory string            `json:"memory,omitempty"`
	Disks  map[string]string `json:"disks,omitempty"` // host:port of an NBD server, whose export is called as the disk
	// User and PSK are the pre-shared key of TLS for both. It is never logged.
	User string `json:"user"`
	PSK  []byte `json:"psk"`
}

// MovePhase says how far a move has come, as the sending node sees it.
type MovePhase string

// The phases of a move.
const (
	MoveIdle   MovePhase = ""       // none is under way, and none has ended since the last EndMove
	MoveDisks  MovePhase = "disks"  // the disks are copied
	MoveMemory MovePhase = "memory" // the memory is copied
	MoveDone   MovePhase = "done"   // the server runs, or lies, at the other node; what is here stands still for ever
	MoveFailed MovePhase = "failed" // the server is here as before
)

// MoveProgress is the state of a move at the sending node. Sizes are in bytes.
type MoveProgress struct {
	Phase           MovePhase `json:"phase"`
	Fault           string    `json:"fault,omitempty"` // why it failed
	MemoryTotal     int64     `json:"memory_total"`
	MemoryProcessed int64     `json:"memory_processed"`
	MemoryRemaining int64     `json:"memory_remaining"`
	DiskTotal       int64     `json:"disk_total"`
	DiskProcessed   int64     `json:"disk_processed"`
	DiskRemaining   int64     `json:"disk_remaining"`
	DowntimeMS      int64     `json:"downtime_ms"` // how long the guest stood still, once done
}
