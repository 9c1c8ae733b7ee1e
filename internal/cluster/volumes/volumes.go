package volumes

import (
	"context"
	"strings"

	"github.com/google/uuid"
)

// Scope is for whom something is done.
type Scope struct {
	Cluster, Project, User string
	// Server is the server that a node is; "": it is a machine. NotFound: it does not work for
	// the cluster.
	Server func(node string) (id string, err error)
}

// id is a name for something of the cluster.
func (s *Scope) id(parts ...string) string {
	return uuid.NewSHA1(uuid.NameSpaceOID, []byte(strings.Join(append([]string{"csi", s.Cluster}, parts...), "\x00"))).String()
}

// Volume is a volume of the project.
type Volume struct {
	ID, Name, Type   string
	SizeGiB          int
	Snapshot, Source string // that it is made from
	Metadata         map[string]string
	State            State
	Attachments      []Attachment
}

// State is what may be done with a volume or a snapshot.
type State int

// The states.
const (
	Busy State = iota // it is being made or changed
	Ready
	Failed
	Going
)

// Attachment is a volume's on a node.
type Attachment struct {
	ID, Volume, Node string
	Cluster          string // "": of something else
	Server           string // that the node is
	ReadOnly         bool   // of a server the pod's mount alone is
}

// Snapshot is a volume's content at a time.
type Snapshot struct {
	ID, Name, Volume string
	SizeGiB          int
	Created          int64 // Unix time
	Metadata         map[string]string
	State            State
}

// Storage is the volume service, for one project at a time. What is not the project's is
// not found.
type Storage interface {
	Volume(s *Scope, id string) (*Volume, error)
	Volumes(s *Scope) []Volume
	// Make begins to make a volume, Await waits until nothing is being done with one.
	Make(ctx context.Context, s *Scope, v *Volume) error
	Await(ctx context.Context, s *Scope, id string) error
	Remove(ctx context.Context, s *Scope, id string) error
	// Grow begins to make a volume larger, in use or not.
	Grow(ctx context.Context, s *Scope, id string, gib int) error
	// Attach has a node of the cluster reach the volume. It may be repeated.
	Attach(ctx context.Context, s *Scope, a Attachment) error
	// Detach ends that, and waits until the node does not reach the volume any more. Absent is fine.
	Detach(ctx context.Context, id string) error
	Snapshot(s *Scope, id string) (*Snapshot, error)
	Snapshots(s *Scope) []Snapshot
	MakeSnapshot(ctx context.Context, s *Scope, x *Snapshot) error
	AwaitSnapshot(ctx context.Context, s *Scope, id string) error
	RemoveSnapshot(ctx context.Context, s *Scope, id string) error
}
