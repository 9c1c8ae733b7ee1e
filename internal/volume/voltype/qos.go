package voltype

import (
	"context"
	"math"
	"slices"
	"strconv"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/rest"
	"github.com/strata-cloud/strata/internal/store"
	"github.com/strata-cloud/strata/internal/volume/wire"
)

func (q *QoS) view() map[string]any {
	return map[string]any{"id": q.ID, "name": q.Name, "consumer": q.Consumer, "specs": wire.Map(q.Specs)}
}

func (q *QoS) answer(r *rest.Request) *rest.Response {
	return rest.JSON(200, map[string]any{"qos_specs": q.view(), "links": wire.Links(r, "qos-specs", q.ID)})
}

// limit gives a limit of the specs for a volume of the size: the plain key, or the
// key per GiB with its least value (cinder/volume/manager.py, _connection_create).
func (q *QoS) limit(key string, sizeGiB int) int64 {
	if n, err := strconv.ParseFloat(q.Specs[key], 64); err == nil {
		return int64(n)
	}
	per, err := strconv.ParseFloat(q.Specs[key+"_per_gb"], 64)
	if err != nil {
		return 0
	}
	least, err := strconv.ParseFloat(q.Specs[key+"_per_gb_min"], 64)
	if err != nil {
		least = 0
	}
	return int64(math.Max(per*float64(sizeGiB), least))
}

// Limits are what a server's hypervisor must hold a volume of the size to; nil
// when the specs ask for nothing of it.
func (q *QoS) Limits(sizeGiB int) *nodeapi.IOLimits {
	if q == nil || q.Consumer == "back-end" {
		return nil
	}
	at := func(key string) int64 { return q.limit(key, sizeGiB) }
	l := nodeapi.IOLimits{TotalIOPS: at("total_iops_sec"), ReadIOPS: at("read_iops_sec"), WriteIOPS: at("write_iops_sec"),
		TotalBytes: at("total_bytes_sec"), ReadBytes: at("read_bytes_sec"), WriteBytes: at("write_bytes_sec"),
		TotalIOPSMax: at("total_iops_sec_max"), ReadIOPSMax: at("read_iops_sec_max"), WriteIOPSMax: at("write_iops_sec_max"),
		TotalBytesMax: at("total_bytes_sec_max"), ReadBytesMax: at("read_bytes_sec_max"), WriteBytesMax: at("write_bytes_sec_max"), SizeIOPS: at("size_iops_sec")}
	if l == (nodeapi.IOLimits{}) {
		return nil
	}
	return &l
}

func noQoS(id string) error { return errs.NotFoundf("No such qos_specs %s.", id) }

func (s *Types) qosOfPath(r *rest.Request) (*QoS, error) {
	q, err := s.qos.Get(r.Path("id"))
	if err != nil {
		return nil, noQoS(r.Path("id"))
	}
	return q, nil
}

func (s *Types) listQoS(_ context.Context, r *rest.Request) (*rest.Response, error) {
	q, err := wire.ReadQuery(r)
	if err != nil {
		return nil, err
	}
	found := s.qos.All()
	page, err := wire.Cut(q, found, "Qos specs", func(x *QoS) string { return x.ID }, wire.Keys[*QoS]{
		"id": func(x *QoS) string { return x.ID }, "name": func(x *QoS) string { return x.Name }, "consumer": func(x *QoS) string { return x.Consumer },
		"created_at": func(x *QoS) string { return x.Created.Format("2006-01-02T15:04:05.000000") }})
	if err != nil {
		return nil, err
	}
	var views []any
	last := ""
	for _, x := range page {
		views, last = append(views, x.view()), x.ID
	}
	return wire.Listing(r, q, "qos_specs", "qos-specs", views, last, len(found)), nil
}

func (s *Types) showQoS(_ context.Context, r *rest.Request) (*rest.Response, error) {
	q, err := s.qosOfPath(r)
	if err != nil {
		return nil, err
	}
	return q.answer(r), nil
}

func (q *QoS) set(specs map[string]*string) error {
	for k, v := range specs {
		switch {
		case k == "name":
		case v == nil:
			delete(q.Specs, k)
		case k == "consumer":
			if !slices.Contains([]string{"front-end", "back-end", "both"}, *v) {
				return errs.Invalidf("Invalid qos specs: Valid consumer of QoS specs are: ['front-end', 'back-end', 'both']")
			}
			q.Consumer = *v
		default:
			q.Specs[k] = *v
		}
	}
	return nil
}

func (s *Types) createQoS(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	var b struct {
		Specs map[string]*string `json:"qos_specs"`
	}
	if err := r.Decode(&b); err != nil {
		return nil, err
	}
	q := &QoS{ID: newID(), Name: wire.Text(b.Specs["name"]), Consumer: "back-end", Specs: map[string]string{}, Created: wire.Now()}
	if err := q.set(b.Specs); err != nil {
		return nil, err
	}
	if err := s.qos.Create(ctx, q); errs.Is(err, errs.Conflict) {
		return nil, errs.Conflictf("QoS Specs %s already exists.", q.Name)
	} else if err != nil {
		return nil, err
	}
	return q.answer(r), nil
}

func (s *Types) updateQoS(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	var b struct {
		Specs map[string]*string `json:"qos_specs"`
	}
	if err := r.Decode(&b); err != nil {
		return nil, err
	}
	if _, err := s.qosOfPath(r); err != nil {
		return nil, err
	}
	_, err := s.qos.Update(ctx, r.Path("id"), func(q *QoS) error {
		if q.Specs == nil {
			q.Specs = map[string]string{}
		}
		return q.set(b.Specs)
	})
	if err != nil {
		return nil, err
	}
	return rest.JSON(200, b), nil
}

func (s *Types) deleteQoSKeys(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	var b struct {
		Keys []string `json:"keys"`
	}
	if err := r.Decode(&b); err != nil {
		return nil, err
	}
	if _, err := s.qosOfPath(r); err != nil {
		return nil, err
	}
	_, err := s.qos.Update(ctx, r.Path("id"), func(q *QoS) error {
		for _, k := range b.Keys {
			if _, ok := q.Specs[k]; !ok {
				return errs.NotFoundf("QoS spec %s has no spec with key %s.", q.ID, k)
			}
			delete(q.Specs, k)
		}
		return nil
	})
	return rest.Empty(202), err
}

func (s *Types) deleteQoS(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	force, err := wire.Flag("force", r.Query().Get("force"))
	if err != nil {
		return nil, err
	}
	if _, err := s.qosOfPath(r); err != nil {
		return nil, err
	}
	err = s.db.Txn(ctx, func(tx *store.Tx) error {
		if len(s.types.TxBy(tx, "qos", r.Path("id"))) > 0 && !force {
			return errs.Invalidf("Qos specs still in use.")
		}
		if err := s.unlink(tx, r.Path("id"), ""); err != nil {
			return err
		}
		return s.qos.TxDelete(tx, r.Path("id"))
	})
	return rest.Empty(202), err
}

// unlink takes the specs from all types, or from one.
func (s *Types) unlink(tx *store.Tx, qos, only string) error {
	for _, t := range s.types.TxBy(tx, "qos", qos) {
		if only != "" && only != t.ID {
			continue
		}
		if _, err := s.types.TxUpdate(tx, t.ID, func(t *Type) error { t.QoSID = ""; return nil }); err != nil {
			return err
		}
	}
	return nil
}

func (s *Types) associations(_ context.Context, r *rest.Request) (*rest.Response, error) {
	q, err := s.qosOfPath(r)
	if err != nil {
		return nil, err
	}
	out := []any{}
	for _, t := range s.types.By("qos", q.ID) {
		out = append(out, map[string]string{"association_type": "volume_type", "id": t.ID, "name": t.Name})
	}
	return rest.JSON(200, map[string]any{"qos_associations": out}), nil
}

// associate ties the specs to a type; a type has one at most.
func (s *Types) associate(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	q, t, err := s.pair(r)
	if err != nil {
		return nil, err
	}
	_, err = s.types.Update(ctx, t.ID, func(t *Type) error {
		if t.QoSID != "" && t.QoSID != q.ID {
			return errs.Invalidf("Invalid volume type: Type %s is already associated with another qos specs: %s", t.ID, t.QoSID)
		}
		t.QoSID = q.ID
		return nil
	})
	return rest.Empty(202), err
}

func (s *Types) disassociate(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	q, t, err := s.pair(r)
	if err != nil {
		return nil, err
	}
	return rest.Empty(202), s.db.Txn(ctx, func(tx *store.Tx) error { return s.unlink(tx, q.ID, t.ID) })
}

func (s *Types) disassociateAll(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	q, err := s.qosOfPath(r)
	if err != nil {
		return nil, err
	}
	return rest.Empty(202), s.db.Txn(ctx, func(tx *store.Tx) error { return s.unlink(tx, q.ID, "") })
}

// pair is the specs of the path and the type of the query.
func (s *Types) pair(r *rest.Request) (*QoS, *Type, error) {
	id := r.Query().Get("vol_type_id")
	if id == "" {
		return nil, nil, errs.Invalidf("Volume Type id must not be None.")
	}
	q, err := s.qosOfPath(r)
	if err != nil {
		return nil, nil, err
	}
	t, err := s.Get(id)
	return q, t, err
}
