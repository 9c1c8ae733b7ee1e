package wire

import (
	"strconv"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/rest"
)

// Window cuts limit entries out of a list, from offset on (nova/api/openstack/common.py, limited).
func Window[T any](r *rest.Request, list []T) ([]T, error) {
	n := map[string]int{"offset": 0, "limit": 0}
	for key := range n {
		text := r.Query().Get(key)
		if text == "" {
			continue
		}
		v, err := strconv.Atoi(text)
		if err != nil || v < 0 {
			return nil, errs.Invalidf("Invalid input for query parameters %s. Value: %s. It must be an integer of at least 0", key, text)
		}
		n[key] = v
	}
	list = list[min(n["offset"], len(list)):]
	if n["limit"] > 0 {
		list = list[:min(n["limit"], len(list))]
	}
	return list[:min(1000, len(list))], nil
}
