package nodeapi

import (
	"net/netip"
	"time"
)

// Power is a wanted or an observed power state of an instance.
type Power string

// The power states.
const (
	PowerRunning   Power = "running"
	PowerStopped   Power = "stopped"
	PowerPaused    Power = "paused"
	PowerSuspended Power = "suspended" // memory saved to disk, process gone
	PowerCrashed   Power = "crashed"   // observed only
)

// Instance is what a node should run for one server. The control plane is its only writer.
type Instance struct {
	ID        string      `json:"id"` // server id
	Node      string      `json:"node"`
	Gen       int64       `json:"gen"` // grows with every change
	Name      string      `json:"name"`
	ProjectID string      `json:"project_id"`
	UserID    string      `json:"user_id"`
	Power     Power       `json:"power"`
	Abrupt    bool        `json:"abrupt,omitempty"` // a stop does not ask the guest to shut down
	Deleted   bool        `json:"deleted"`          // remove every trace, then report Gone
	Reboot    Reboot      `json:"reboot"`
	VCPUs     int         `json:"vcpus"`
	MemoryMiB int         `json:"memory_mib"`
	Disks     []Disk      `json:"disks"`
	Kept      []string    `json:"kept"` // names of disks out of use that must not be lost; any other is removed
	NICs      []NIC       `json:"nics"`
	Machine   Machine     `json:"machine"`
	Guest     GuestConfig `json:"guest"`
	// HA has the node run it under a lease only, so that it can be started elsewhere.
	// Revoked ends that: it is on its way elsewhere.
	HA      bool `json:"ha,omitempty"`
	Revoked bool `json:"revoked,omitempty"`
}

// Reboot asks for one reboot each time Seq grows.
type Reboot struct {
	Seq  int64 `json:"seq"`
	Hard bool  `json:"hard"`
}

// Disk is one disk of an instance, in boot order.
type Disk struct {
	// Name is the disk's file in the instance's directory, and its identity: a
	// disk under a new name is a new disk, made when it is not there.
	Name     string `json:"name"`
	Role     string `json:"role"` // root, ephemeral, swap or volume
	SizeGiB  int    `json:"size_gib"`
	SizeMiB  int    `json:"size_mib"`  // used when SizeGiB is 0 (swap)
	ImageID  string `json:"image_id"`  // the base; "" for an empty disk
	CopyFrom string `json:"copy_from"` // name of the kept disk that this one starts as a copy of
	Format   string `json:"format"`    // the image's disk format
	Bus      string `json:"bus"`       // virtio (default), scsi, sata, ide
	ReadOnly bool   `json:"read_only"`
	Boot     int    `json:"boot"` // 1 boots first; 0 never
	Serial   string `json:"serial"`
	Tag      string `json:"tag"`
	Device   string `json:"device"` // the name that the user knows it by, such as /dev/vdb
	// Volume is set for the role volume: the disk is no file of the instance's own.
	Volume *VolumeSource `json:"volume,omitempty"`
	Limits *IOLimits     `json:"limits,omitempty"`
}

// NIC is one network interface.
type NIC struct {
	PortID string `json:"port_id"`
	MAC    string `json:"mac"`
	MTU    int    `json:"mtu"`
	Model  string `json:"model"` // virtio (default), e1000, ...
	Tag    string `json:"tag"`
}

// Machine is the virtual hardware.
type Machine struct {
	Type        string `json:"type"`     // q35 (default), pc, microvm
	Firmware    string `json:"firmware"` // bios (default) or uefi
	KernelID    string `json:"kernel_id"`
	RamdiskID   string `json:"ramdisk_id"`
	CommandLine string `json:"command_line"`
	GuestAgent  bool   `json:"guest_agent"` // QEMU's agent is in the guest
	// Clone lets the first start go on from the memory of an earlier boot of the
	// image. A node that cannot boots.
	Clone bool `json:"clone,omitempty"`
}

// GuestConfig is what the guest learns about itself, over the metadata service
// and the config drive. It is kept whole on the node so that metadata works
// while the control plane is away.
type GuestConfig struct {
	ConfigDrive      bool              `json:"config_drive"`
	Hostname         string            `json:"hostname"`
	AvailabilityZone string            `json:"availability_zone"`
	LaunchIndex      int               `json:"launch_index"`
	ReservationID    string            `json:"reservation_id"`
	InstanceType     string            `json:"instance_type"`
	ImageID          string            `json:"image_id"`
	AdminPass        string            `json:"admin_pass"`
	Password         string            `json:"password"` // that the guest posted, encrypted
	UserData         []byte            `json:"user_data"`
	Metadata         map[string]string `json:"metadata"`
	Keys             []Key             `json:"keys"`
	SecurityGroups   []string          `json:"security_groups"`
	Network          []NetworkInfo     `json:"network"`
}

// Key is a public key of the server.
type Key struct {
	Name      string `json:"name"`
	Type      string `json:"type"`
	PublicKey string `json:"public_key"`
}

// NetworkInfo describes one NIC for network_data.json and the EC2 tree.
type NetworkInfo struct {
	PortID     string    `json:"port_id"`
	NetworkID  string    `json:"network_id"`
	MAC        string    `json:"mac"`
	MTU        int       `json:"mtu"`
	FixedIPs   []FixedIP `json:"fixed_ips"`
	Subnets    []Subnet  `json:"subnets"`
	FloatingIP string    `json:"floating_ip"`
}

// InstanceStatus is what a node says of an instance. The node's agent is its only writer.
type InstanceStatus struct {
	ID        string    `json:"id"`
	Node      string    `json:"node"`
	Gen       int64     `json:"gen"` // the Instance.Gen that has been reached or has failed
	Power     Power     `json:"power"`
	RebootSeq int64     `json:"reboot_seq"`
	Gone      bool      `json:"gone"`  // every trace is removed
	Fault     string    `json:"fault"` // why Gen could not be reached; "" when it was
	Since     time.Time `json:"since"`
	// Leased: the node ends it when its lease runs out, whatever becomes of the agent.
	Leased bool `json:"leased,omitempty"`
}

// NodeInfo is what a node has and is; reported at start and when it changes.
type NodeInfo struct {
	ID   string `json:"id"`
	Host string `json:"host"`
	Addr string `json:"addr"`
	// TunnelAddr is where other nodes send the VXLAN of shared networks; zero: it shares none.
	TunnelAddr netip.Addr `json:"tunnel_addr"`
	// Physicals are the provider's networks that the node has devices on.
	Physicals []string `json:"physicals,omitempty"`
	// SharedPools are pools of volumes, by names that are unique in the world, which all
	// nodes that have the name reach alike.
	SharedPools []string  `json:"shared_pools,omitempty"`
	VCPUs       int       `json:"vcpus"`
	MemoryMiB   int       `json:"memory_mib"`
	DiskGiB     int       `json:"disk_gib"`
	Accelerator string    `json:"accelerator"` // kvm or tcg
	Hypervisor  string    `json:"hypervisor"`  // QEMU
	Version     string    `json:"version"`     // of the hypervisor, such as 7.2.15
	CPUModel    string    `json:"cpu_model"`
	CPUArch     string    `json:"cpu_arch"`
	CPUFlags    []string  `json:"cpu_flags"`
	Containers  bool      `json:"containers,omitempty"` // it has an engine for them
	BootedAt    time.Time `json:"booted_at"`
	SeenAt      time.Time `json:"seen_at"`
}
