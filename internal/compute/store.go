package compute

import (
	"time"

	"github.com/strata-cloud/strata/internal/compute/flavor"
	"github.com/strata-cloud/strata/internal/compute/keypair"
	"github.com/strata-cloud/strata/internal/store"
)

// VMState and TaskState are upstream's (nova/compute/vm_states.py, task_states.py).
type (
	VMState   string
	TaskState string
)

// The states that this version uses.
const (
	Building  VMState = "building"
	Active    VMState = "active"
	Paused    VMState = "paused"
	Suspended VMState = "suspended"
	Stopped   VMState = "stopped"
	Deleted   VMState = "deleted"
	Errored   VMState = "error"
	Rescued   VMState = "rescued"
	Resized   VMState = "resized"
	// ShelvedOffloaded is the only shelved state: a shelved server leaves its host at once.
	ShelvedOffloaded VMState = "shelved_offloaded"
	SoftDeleted      VMState = "soft-delete"

	Scheduling    TaskState = "scheduling"
	Networking    TaskState = "networking"
	Mapping       TaskState = "block_device_mapping"
	Spawning      TaskState = "spawning"
	Deleting      TaskState = "deleting"
	PoweringOff   TaskState = "powering-off"
	PoweringOn    TaskState = "powering-on"
	Rebooting     TaskState = "rebooting"
	RebootingHard TaskState = "rebooting_hard"
	Pausing       TaskState = "pausing"
	Unpausing     TaskState = "unpausing"
	Suspending    TaskState = "suspending"
	Resuming      TaskState = "resuming"
	Rebuilding    TaskState = "rebuilding"
	Resizing      TaskState = "resize_prep"
	ResizeFinish  TaskState = "resize_finish"
	Reverting     TaskState = "resize_reverting"
	Rescuing      TaskState = "rescuing"
	Unrescuing    TaskState = "unrescuing"
	Snapshotting  TaskState = "image_snapshot"
	Uploading     TaskState = "image_uploading"
	BackingUp     TaskState = "image_backup"
	Shelving      TaskState = "shelving"
	Offloading    TaskState = "shelving_offloading"
	Unshelving    TaskState = "unshelving"
	SoftDeleting  TaskState = "soft-deleting"
	Restoring     TaskState = "restoring"
	Migrating     TaskState = "migrating"
)

// Server is the record of one server.
type Server struct {
	ID            string            `json:"id"`
	Name          string            `json:"name"`
	Description   *string           `json:"description,omitempty"`
	Hostname      string            `json:"hostname"`
	ProjectID     string            `json:"project_id"`
	UserID        string            `json:"user_id"`
	VMState       VMState           `json:"vm_state"`
	TaskState     TaskState         `json:"task_state,omitempty"`
	Fault         *Fault            `json:"fault,omitempty"`
	Flavor        flavor.Flavor     `json:"flavor"` // as it was at create
	Image         Image             `json:"image"`
	Devices       []Device          `json:"devices,omitempty"` // that the user gave it
	Key           *keypair.Key      `json:"key,omitempty"`
	Metadata      map[string]string `json:"metadata,omitempty"`
	Tags          []string          `json:"tags,omitempty"`
	AZ            string            `json:"az,omitempty"`           // asked for
	Host          string            `json:"host,omitempty"`         // placed on
	AskedHost     string            `json:"asked_host,omitempty"`   // forced at create
	NICs          []NIC             `json:"nics,omitempty"`         // in order of attachment
	Groups        []string          `json:"groups,omitempty"`       // security group ids for ports we make
	GroupNames    []string          `json:"group_names,omitempty"`  // their names, shown until ports exist
	ConfigDrive   bool              `json:"config_drive,omitempty"` //
	UserData      string            `json:"user_data,omitempty"`    // base64
	AdminPass     string            `json:"admin_pass,omitempty"`   // kept only until the first boot
	Password      string            `json:"password,omitempty"`     // that the guest posted, encrypted
	ReservationID string            `json:"reservation_id"`
	LaunchIndex   int               `json:"launch_index"`
	DiskConfig    string            `json:"disk_config"` // AUTO or MANUAL
	AccessIPv4    string            `json:"access_ip_v4,omitempty"`
	AccessIPv6    string            `json:"access_ip_v6,omitempty"`
	Locked        string            `json:"locked,omitempty"` // "", "owner" or "admin"
	LockedReason  string            `json:"locked_reason,omitempty"`
	GroupID       string            `json:"group_id,omitempty"` // server group
	Hints         map[string]any    `json:"hints,omitempty"`
	Created       time.Time         `json:"created"`
	Updated       time.Time         `json:"updated"`
	Launched      *time.Time        `json:"launched,omitempty"`
	DeletedAt     *time.Time        `json:"deleted_at,omitempty"`
	DiskSet       int               `json:"disk_set,omitempty"`   // of the local disks: a new one has new names
	Resize        *Resize           `json:"resize,omitempty"`     // until it is confirmed or reverted
	Evacuation    string            `json:"evacuation,omitempty"` // id of the migration, while it leaves a host that is down
	Rescue        *Rescue           `json:"rescue,omitempty"`     // while it is rescued
	Shelf         *Image            `json:"shelf,omitempty"`      // what a shelved server comes back from
	SoftDelete    *SoftDelete       `json:"soft_delete,omitempty"`
	Halted        bool              `json:"halted,omitempty"` // active, but its guest stands still: its disk is full
	Gen           int64             `json:"gen"`              // of the Instance last written
	RebootSeq     int64             `json:"reboot_seq"`       // of the last reboot asked
}

// Resize is what a server goes back to unless its resize is confirmed.
type Resize struct {
	// ID is the consumer in placement that holds what the server took before.
	ID      string        `json:"id"`
	Flavor  flavor.Flavor `json:"flavor"`
	DiskSet int           `json:"disk_set"`
	Stopped bool          `json:"stopped"` // it was not running
	Ending  bool          `json:"ending"`  // it is being confirmed or reverted
	// From and To are the hosts that it goes from and to, or back; equal for one
	// that stays. To is chosen by the saga; Asked is what a caller named.
	From  string `json:"from,omitempty"`
	To    string `json:"to,omitempty"`
	Asked string `json:"asked,omitempty"`
	Away  bool   `json:"away,omitempty"` // it must change hosts
}

// Rescue is the disk that a rescued server starts from.
type Rescue struct {
	Disk  string `json:"disk"` // its name
	Image Image  `json:"image"`
	// Last attaches it after the server's own disks, whose names stay as they were.
	Last bool   `json:"last"`
	Bus  string `json:"bus"`
}

// Fault is why a server is in error.
type Fault struct {
	Code    int       `json:"code"`
	Message string    `json:"message"`
	Details string    `json:"details,omitempty"`
	Created time.Time `json:"created"`
}

// NIC is a port that the server has or will have.
type NIC struct {
	PortID    string `json:"port_id"`
	NetworkID string `json:"network_id"`
	FixedIP   string `json:"fixed_ip,omitempty"` // asked for
	Ours      bool   `json:"ours"`               // made by us: deleted with the server
	Tag       string `json:"tag,omitempty"`
}

// Image is what compute remembers of the image a server was made from.
type Image struct {
	ID         string            `json:"id"`
	Name       string            `json:"name"`
	Status     string            `json:"status"`
	Format     string            `json:"format"`
	Size       int64             `json:"size"`         // bytes of the file
	Virtual    int64             `json:"virtual_size"` // bytes of the disk
	MinDisk    int               `json:"min_disk"`     // GiB
	MinRAM     int               `json:"min_ram"`      // MiB
	Properties map[string]string `json:"properties,omitempty"`
}

type collections struct {
	servers *store.Collection[Server]
}

func register(db *store.DB) collections {
	return collections{
		servers: store.Register(db, store.Schema[Server]{Service: "compute", Kind: "server", Version: 1,
			ID: func(s *Server) string { return s.ID },
			Index: map[string]func(*Server) []string{
				"project":    func(s *Server) []string { return alive(s, s.ProjectID) },
				"host":       func(s *Server) []string { return alive(s, s.Host) },
				"group":      func(s *Server) []string { return alive(s, s.GroupID) },
				"flavor":     func(s *Server) []string { return alive(s, s.Flavor.ID) },
				"evacuating": func(s *Server) []string { return alive(s, word(s.Evacuation != "")) },
				"stranded":   func(s *Server) []string { return alive(s, word(s.VMState == Errored && s.ha())) },
				"soft": func(s *Server) []string {
					if s.SoftDelete == nil {
						return nil
					}
					return alive(s, "yes")
				},
				"deleted": func(s *Server) []string {
					if s.DeletedAt != nil {
						return []string{"yes"}
					}
					return nil
				},
			}}),
	}
}

func word(is bool) string {
	if is {
		return "yes"
	}
	return ""
}

// alive indexes a server by v unless it is deleted or v is empty.
func alive(s *Server, v string) []string {
	if s.DeletedAt != nil || v == "" {
		return nil
	}
	return []string{v}
}
