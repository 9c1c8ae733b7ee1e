package cluster

import (
	"strconv"
	"time"

	"github.com/strata-cloud/strata/internal/kube/authority"
	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/store"
)

// Status is a cluster's or a node group's (magnum/objects/fields.py, ClusterStatus).
type Status string

// The statuses.
const (
	CreateInProgress Status = "CREATE_IN_PROGRESS"
	CreateFailed     Status = "CREATE_FAILED"
	CreateComplete   Status = "CREATE_COMPLETE"
	UpdateInProgress Status = "UPDATE_IN_PROGRESS"
	UpdateFailed     Status = "UPDATE_FAILED"
	UpdateComplete   Status = "UPDATE_COMPLETE"
	DeleteInProgress Status = "DELETE_IN_PROGRESS"
)

// Template is a cluster template.
type Template struct {
	ID        string `json:"id"`
	ProjectID string `json:"project_id"`
	UserID    string `json:"user_id"`
	TemplateFields
	Created time.Time  `json:"created"`
	Updated *time.Time `json:"updated,omitempty"`
}

// Sealed are authorities, which print nothing of themselves.
type Sealed struct{ authority.Set }

// String implements fmt.Stringer.
func (Sealed) String() string { return "[sealed]" }

// GoString implements fmt.GoStringer.
func (Sealed) GoString() string { return "[sealed]" }

// Cluster is a cluster.
type Cluster struct {
	ID         string `json:"id"`
	ProjectID  string `json:"project_id"`
	UserID     string `json:"user_id"`
	TemplateID string `json:"template_id"`
	ClusterFields
	Status  Status     `json:"status"`
	Reason  string     `json:"reason,omitempty"`
	Created time.Time  `json:"created"`
	Updated *time.Time `json:"updated,omitempty"`

	Slot        int     `json:"slot"`
	Member      string  `json:"member,omitempty"`  // the node that hosts the control plane; "": none yet
	Address     string  `json:"address,omitempty"` // of it, IP:PORT
	Authorities *Sealed `json:"authorities,omitempty"`
	Generation  int     `json:"generation"`       // of the control plane's programs
	State       string  `json:"state,omitempty"`  // the copy that its data began with where it has moved to
	Sealed      bool    `json:"sealed,omitempty"` // it is about to move

	Network  *PodNetwork `json:"network,omitempty"`  // nil: none yet
	Gate     string      `json:"gate,omitempty"`     // the control plane's port there; "": none yet
	External string      `json:"external,omitempty"` // where its own network's router leads; "": where there is one alone
}

// Group is a node group.
type Group struct {
	ID        string `json:"id"`
	ClusterID string `json:"cluster_id"`
	ProjectID string `json:"project_id"`
	GroupFields
	Size Size `json:"size"` // of each worker, as its flavor was
	// Server is what workers are made from that are servers; nil: they are machines of the pool.
	Server  *ServerKind `json:"server,omitempty"`
	Default bool        `json:"default"`
	Status  Status      `json:"status"`
	Reason  string      `json:"reason,omitempty"`
	Created time.Time   `json:"created"`
	Updated *time.Time  `json:"updated,omitempty"`
}

// Worker is a node of the pool, or a server, that works for a cluster.
type Worker struct {
	ID         string         `json:"id"`               // placement knows it by this
	Server     string         `json:"server,omitempty"` // id of the server that it is; "": a node of the pool
	ClusterID  string         `json:"cluster_id"`
	GroupID    string         `json:"group_id"`
	Node       string         `json:"node"` // its name in the cluster as well
	Address    string         `json:"address"`
	Port       string         `json:"port"` // its own in the network of pods
	Kubelet    authority.Pair `json:"kubelet"`
	Serving    authority.Pair `json:"serving"`
	Proxy      authority.Pair `json:"proxy"`
	Policies   authority.Pair `json:"policies"`
	Generation int            `json:"generation"`
	Image      string         `json:"image,omitempty"`   // that its server was made from
	Claimed    bool           `json:"claimed"`           // placement has given it the node, or its server was made
	Leaving    bool           `json:"leaving,omitempty"` // its node is not to have it any more
	Created    time.Time      `json:"created"`
}

// Quota is the limit of clusters of a project that has one of its own.
type Quota struct {
	Project   string     `json:"project"`
	Number    int        `json:"number"` // the id on the wire
	HardLimit int        `json:"hard_limit"`
	Created   time.Time  `json:"created"`
	Updated   *time.Time `json:"updated,omitempty"`
}

// records are the service's collections.
type records struct {
	templates *store.Collection[Template]
	clusters  *store.Collection[Cluster]
	groups    *store.Collection[Group]
	workers   *store.Collection[Worker]
	quotas    *store.Collection[Quota]
	reports   *store.Collection[nodeapi.KubeReport]
}

func register(db *store.DB) records {
	return records{
		templates: store.Register(db, store.Schema[Template]{Service: service, Kind: "template", Version: 1, ID: func(t *Template) string { return t.ID }}),
		clusters: store.Register(db, store.Schema[Cluster]{Service: service, Kind: "cluster", Version: 1, ID: func(c *Cluster) string { return c.ID },
			Unique: map[string]func(*Cluster) []string{"slot": func(c *Cluster) []string { return []string{strconv.Itoa(c.Slot)} }},
			Index: map[string]func(*Cluster) []string{
				"project":  func(c *Cluster) []string { return []string{c.ProjectID} },
				"template": func(c *Cluster) []string { return []string{c.TemplateID} },
				"member":   func(c *Cluster) []string { return []string{c.Member} },
			}}),
		groups: store.Register(db, store.Schema[Group]{Service: service, Kind: "group", Version: 1, ID: func(g *Group) string { return g.ID },
			Unique: map[string]func(*Group) []string{"name": func(g *Group) []string { return []string{g.ClusterID + " " + g.Name} }},
			Index:  map[string]func(*Group) []string{"cluster": func(g *Group) []string { return []string{g.ClusterID} }}}),
		workers: store.Register(db, store.Schema[Worker]{Service: service, Kind: "worker", Version: 1, ID: func(w *Worker) string { return w.ID },
			Unique: map[string]func(*Worker) []string{"node": func(w *Worker) []string { return []string{w.Node} }},
			Index: map[string]func(*Worker) []string{
				"cluster": func(w *Worker) []string { return []string{w.ClusterID} },
				"group":   func(w *Worker) []string { return []string{w.GroupID} },
				"node":    func(w *Worker) []string { return []string{w.Node} },
				"server":  func(w *Worker) []string { return []string{w.Server} },
			}}),
		quotas:  store.Register(db, store.Schema[Quota]{Service: service, Kind: "quota", Version: 1, ID: func(q *Quota) string { return q.Project }}),
		reports: store.Register(db, store.Schema[nodeapi.KubeReport]{Service: service, Kind: "report", Version: 1, ID: func(r *nodeapi.KubeReport) string { return r.Node }}),
	}
}

// service is the name of the collections and of the ledger.
const service = "cluster"
