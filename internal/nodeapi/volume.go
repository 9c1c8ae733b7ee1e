package nodeapi

// VolumeSnapshot is a snapshot of a volume, by its name on the node.
type VolumeSnapshot struct {
	Volume VolumeRef `json:"volume"`
	Name   string    `json:"name"`
}

// VolumeRef names a volume where it is kept.
type VolumeRef struct {
	ID     string `json:"id"`
	Driver string `json:"driver"` // of the node's drivers, such as local or rbd
	Pool   string `json:"pool"`
	// Key is the passphrase of an encrypted volume; empty: not encrypted. It is
	// never logged and never shown.
	Key []byte `json:"key,omitempty"`
}

// Volume is a volume that a node should have. A node makes it once, from Source;
// after that its content is its own.
type Volume struct {
	VolumeRef
	SizeGiB int          `json:"size_gib"`
	Source  VolumeOrigin `json:"source"`
}

// VolumeOrigin is what a new volume starts as; at most one field is set.
type VolumeOrigin struct {
	ImageID string     `json:"image_id,omitempty"`
	Volume  *VolumeRef `json:"volume,omitempty"`
	// SnapshotID is a snapshot of Volume, which is set with it.
	SnapshotID string `json:"snapshot_id,omitempty"`
}

// VolumeSource is how a node reaches a volume that a server uses.
type VolumeSource struct {
	VolumeRef
	Node   string `json:"node"`   // that keeps the volume
	Shared bool   `json:"shared"` // several servers may have it open
	// Remote is how another node than Node reaches it, which needs no Key.
	Remote *Remote `json:"remote,omitempty"`
}

// Remote is a volume's export as one host may use it.
type Remote struct {
	Addr string `json:"addr"` // host:port of an NBD server
	// User and PSK are the pre-shared key of TLS. It is never logged and never shown.
	User string `json:"user"`
	PSK  []byte `json:"psk"`
}

// Export is a volume that its node shows to other hosts.
type Export struct {
	VolumeRef
	Clients []ExportClient `json:"clients"`
}

// ExportClient is a host that may use an export.
type ExportClient struct {
	User string `json:"user"`
	PSK  []byte `json:"psk"`
	Addr string `json:"addr"` // of the host; "": not known
}

// ExportReport is what a node exports, as a whole. The node's agent is its only writer.
type ExportReport struct {
	Node    string         `json:"node"`
	Exports []ExportStatus `json:"exports"`
}

// ExportStatus is one volume of a report.
type ExportStatus struct {
	Volume string   `json:"volume"`
	Addr   string   `json:"addr"`            // host:port
	Users  []string `json:"users"`           // who are let in
	Fault  string   `json:"fault,omitempty"` // why it is not as wanted
}

// IOLimits bound a disk's traffic; 0: no limit. The burst values may be used for
// short times, as QEMU's throttling has them.
type IOLimits struct {
	TotalIOPS, ReadIOPS, WriteIOPS             int64 // requests/s
	TotalBytes, ReadBytes, WriteBytes          int64 // bytes/s
	TotalIOPSMax, ReadIOPSMax, WriteIOPSMax    int64
	TotalBytesMax, ReadBytesMax, WriteBytesMax int64
	SizeIOPS                                   int64 // bytes that count as one request
}

// Pool is a place where a node keeps volumes.
type Pool struct {
	Driver      string  `json:"driver"`
	Name        string  `json:"name"`
	TotalGiB    float64 `json:"total_gib"`
	FreeGiB     float64 `json:"free_gib"`
	Provisioned float64 `json:"provisioned_gib"` // the sum of the volumes' sizes
	Thin        bool    `json:"thin"`
	Multiattach bool    `json:"multiattach"`
	Encryption  bool    `json:"encryption"`
}

// Foreign is a file in a pool, or a snapshot in a volume, that is not the cloud's.
type Foreign struct {
	Name   string `json:"name"`
	Bytes  int64  `json:"bytes"`            // that a server would see
	Unfit  string `json:"unfit,omitempty"`  // why it cannot become a volume; "": it can
	Format string `json:"format,omitempty"` // qcow2 or raw
}

// Backup is a backup of a volume, or of one of its snapshots, into a vault.
type Backup struct {
	ID         string    `json:"id"`
	Volume     VolumeRef `json:"volume"`
	SnapshotID string    `json:"snapshot_id,omitempty"` // "": the volume as it is now, at one moment
	Parent     string    `json:"parent,omitempty"`      // backup that this one adds to; "": full
}

// BackupResult tells what a backup took.
type BackupResult struct {
	Bytes   int64 `json:"bytes"`   // stored anew for this backup
	Objects int   `json:"objects"` // chunks that it refers to
}

// BackupRecord is what a vault knows of a backup that a record is about.
type BackupRecord struct {
	Note []byte `json:"note"` // as it was sealed
	Size int64  `json:"size"` // of the volume, bytes
}

// Diagnostics are the counters of a running instance, in the words of the
// compute API (GET /servers/{id}/diagnostics, 2.48).
type Diagnostics struct {
	State      Power             `json:"state"`
	Uptime     int64             `json:"uptime"` // seconds
	CPUs       []CPUDiagnostics  `json:"cpus"`
	Disks      []DiskDiagnostics `json:"disks"`
	NICs       []NICDiagnostics  `json:"nics"`
	MemoryMiB  int               `json:"memory_mib"`
	UsedMiB    int               `json:"used_mib"`
	Hypervisor string            `json:"hypervisor"`
}

// CPUDiagnostics is one virtual processor.
type CPUDiagnostics struct {
	ID     int   `json:"id"`
	TimeNS int64 `json:"time_ns"`
}

// DiskDiagnostics is one disk, in the order of Instance.Disks.
type DiskDiagnostics struct {
	ReadBytes, ReadRequests, WriteBytes, WriteRequests, Errors int64
}

// NICDiagnostics is one NIC.
type NICDiagnostics struct {
	MAC                                  string
	RxBytes, RxPackets, RxDrop, RxErrors int64
	TxBytes, TxPackets, TxDrop, TxErrors int64
}
