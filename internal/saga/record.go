package saga

import (
	"encoding/json"
	"time"

	"github.com/strata-cloud/strata/internal/store"
)

// Phase is where a saga stands.
type Phase string

// The phases: running -> done, or running -> unwinding -> failed.
const (
	Running   Phase = "running"
	Unwinding Phase = "unwinding"
	Done      Phase = "done"
	Failed    Phase = "failed"
)

// Record is the log of one saga. The engine is its only writer after Begin,
// except for Cancelled.
type Record struct {
	ID        string          `json:"id"`
	Kind      string          `json:"kind"` // "compute.server.create"
	Resource  string          `json:"resource"`
	Action    string          `json:"action"` // what a user calls it: "create", "reboot"
	RequestID string          `json:"request_id"`
	ProjectID string          `json:"project_id"`
	UserID    string          `json:"user_id"`
	State     json.RawMessage `json:"state"`
	Next      int             `json:"next"` // step to do next, or (unwinding) to undo next
	Phase     Phase           `json:"phase"`
	Cancelled bool            `json:"cancelled,omitempty"`
	Error     string          `json:"error,omitempty"`
	Steps     []StepLog       `json:"steps,omitempty"`
	Started   time.Time       `json:"started"`
	Updated   time.Time       `json:"updated"`
}

// Finished tells whether nothing is left to do.
func (r *Record) Finished() bool { return r.Phase == Done || r.Phase == Failed }

// StepLog says how one step went.
type StepLog struct {
	Name     string    `json:"name"`
	Started  time.Time `json:"started"`
	Finished time.Time `json:"finished"`
	Error    string    `json:"error,omitempty"`
}

func collection(db *store.DB) *store.Collection[Record] {
	return store.Register(db, store.Schema[Record]{
		Service: "saga", Kind: "log", Version: 1,
		ID: func(r *Record) string { return r.ID },
		Index: map[string]func(*Record) []string{
			"resource": func(r *Record) []string { return []string{r.Resource} },
			"open": func(r *Record) []string {
				if r.Finished() {
					return nil
				}
				return []string{"yes"}
			},
		},
	})
}
