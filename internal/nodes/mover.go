package nodes

import (
	"context"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/nodeapi"
)

// Mover is a node's part in moving servers to and from other nodes. The control
// plane asks the receiving node first, then the sending one, looks at the
// progress until it ends, and only then writes the Instance with its new node: the
// receiving agent takes the server over as it is, the sending one removes what is
// left. Every call may be repeated. At no time do both run the guest.
type Mover interface {
	// ReceiveMove makes room for the server as inst will be: its own disks, of the
	// right sizes but without content, its ports and, when live, a machine that waits
	// for its memory. What an earlier call made is used again.
	ReceiveMove(ctx context.Context, inst nodeapi.Instance, live bool) (*nodeapi.MoveTarget, error)
	// SendMove begins to send the server: live with its memory, else as it lies.
	// Conflict: the server's power state does not fit.
	SendMove(ctx context.Context, instance string, to nodeapi.MoveTarget, live bool) error
	// MoveProgress tells how far a SendMove has come.
	MoveProgress(ctx context.Context, instance string) (nodeapi.MoveProgress, error)
	// ForceMove completes a live move at the cost of a longer standstill. Conflict: none is under way.
	ForceMove(ctx context.Context, instance string) error
	// EndMove undoes a move that is not to be: the sending node goes on as before,
	// the receiving one removes what it made. Absent is fine. Conflict: it is done already.
	EndMove(ctx context.Context, instance string) error
}

// Mover gives a node's part in moves.
func (r *Registry) Mover(node string) (Mover, error) {
	c, err := r.Conn(node)
	if err != nil {
		return nil, err
	}
	if m, ok := c.(Mover); ok {
		return m, nil
	}
	return nil, errs.New(errs.NotImplemented, "node %s moves no servers", node)
}
