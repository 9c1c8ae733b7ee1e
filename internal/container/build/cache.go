package build

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/docker/docker/api/types/build"
	"github.com/docker/docker/api/types/filters"
	controlapi "github.com/moby/buildkit/api/services/control"

	"github.com/strata-cloud/strata/internal/errs"
)

// Usage lists what the cache has.
func (b *Builder) Usage(ctx context.Context) ([]*build.CacheRecord, error) {
	du, err := b.control.DiskUsage(ctx, &controlapi.DiskUsageRequest{})
	if err != nil {
		return nil, err
	}
	out := []*build.CacheRecord{}
	for _, r := range du.Record {
		rec := &build.CacheRecord{ID: r.ID, Parents: r.Parents, Type: r.RecordType, Description: r.Description, InUse: r.InUse, Shared: r.Shared, Size: r.Size, UsageCount: int(r.UsageCount)}
		if r.CreatedAt != nil {
			rec.CreatedAt = r.CreatedAt.AsTime()
		}
		if r.LastUsedAt != nil {
			at := r.LastUsedAt.AsTime()
			rec.LastUsedAt = &at
		}
		out = append(out, rec)
	}
	return out, nil
}

// PruneOptions say what of the cache is to go.
type PruneOptions struct {
	All     bool
	Keep    int64 // bytes
	MaxUsed int64 // bytes; 0: no matter
	MinFree int64 // bytes on the disk; 0: no matter
	Filters filters.Args
	Until   time.Duration // unused for so long
}

// PruneFilters are the filters that Docker's API has for the cache.
func PruneFilters() []string {
	return append(slices.Clone(cacheFields), "until", "unused-for")
}

var cacheFields = []string{"id", "parent", "type", "description", "inuse", "shared", "private"}

// Prune removes what is not in use.
func (b *Builder) Prune(ctx context.Context, o PruneOptions) (ids []string, freed int64, err error) {
	var terms []string
	for _, f := range cacheFields {
		values := o.Filters.Get(f)
		switch {
		case !o.Filters.Contains(f):
		case len(values) > 1:
			return nil, 0, errs.Invalidf("filters expect only one value")
		case len(values) == 0 || values[0] == "":
			terms = append(terms, f)
		case f == "id":
			terms = append(terms, "id~="+values[0])
		default:
			terms = append(terms, f+"=="+values[0])
		}
	}
	req := &controlapi.PruneRequest{All: o.All, KeepDuration: int64(o.Until), ReservedSpace: o.Keep, MaxUsedSpace: o.MaxUsed, MinFreeSpace: o.MinFree, Filter: []string{strings.Join(terms, ",")}}
	err = b.control.Prune(req, pruneStream{stream{ctx: ctx}, func(r *controlapi.UsageRecord) {
		ids, freed = append(ids, r.ID), freed+r.Size
	}})
	return ids, freed, err
}

// pruneStream takes answers of the prune call.
type pruneStream struct {
	stream
	take func(*controlapi.UsageRecord)
}

// Send implements controlapi.Control_PruneServer.
func (s pruneStream) Send(r *controlapi.UsageRecord) error {
	s.take(r)
	return nil
}

// SendMsg implements grpc.ServerStream.
func (s pruneStream) SendMsg(m any) error { return s.Send(m.(*controlapi.UsageRecord)) }
