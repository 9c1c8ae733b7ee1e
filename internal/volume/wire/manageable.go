package wire

import (
	"fmt"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/rest"
)

// Ref is the schema of what a thing on a node is named by.
const Ref = `{"type":"object","properties":{"source-name":{"type":"string","minLength":1,"maxLength":255}},"required":["source-name"],"additionalProperties":false}`

// Manageable is something on a node that is, or could become, a volume or a snapshot.
type Manageable struct {
	Name   string
	Source string // of a snapshot: its volume's name on the node
	GiB    int
	ID     string // of the cloud's record, if it has one
	Unfit  string // why it cannot be managed
	Extra  string
}

// ListManageable answers with a page of them (cinder/api/views/manageable_volumes.py).
func ListManageable(r *rest.Request, key, path string, all []Manageable, detail bool) (*rest.Response, error) {
	q, err := ReadQuery(r)
	if err != nil {
		return nil, err
	}
	if !r.Query().Has("sort") && !r.Query().Has("sort_key") {
		q.Sorts[0].Key = "reference"
	}
	name := func(m Manageable) string { return m.Name }
	page, err := Cut(q, all, "Reference", name, Keys[Manageable]{"reference": name, "size": func(m Manageable) string { return fmt.Sprintf("%012d", m.GiB) }})
	if err != nil {
		return nil, err
	}
	var views []any
	last := ""
	for _, m := range page {
		views, last = append(views, m.view(detail)), m.Name
	}
	return Listing(r, q, key, path, views, last, len(all)), nil
}

func (m Manageable) view(detail bool) map[string]any {
	v := map[string]any{"reference": map[string]string{"source-name": m.Name}, "size": m.GiB, "safe_to_manage": m.Unfit == ""}
	if m.Source != "" {
		v["source_reference"] = map[string]string{"source-name": m.Source}
	}
	if detail {
		v["reason_not_safe"], v["cinder_id"], v["extra_info"] = Null(m.Unfit), Null(m.ID), Null(m.Extra)
	}
	return v
}

// GiB rounds bytes up.
func GiB(bytes int64) int { return int((bytes + 1<<30 - 1) >> 30) }

// HostOf is the host that a list of manageable things must name.
func HostOf(r *rest.Request) (string, error) {
	if h := r.Query().Get("host"); h != "" {
		return h, nil
	}
	return "", errs.Invalidf("Host is required: host=NODE@DRIVER#POOL")
}
