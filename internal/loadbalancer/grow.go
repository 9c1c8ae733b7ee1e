package loadbalancer

import (
	"github.com/strata-cloud/strata/internal/policy"
)

// grow adds listeners and pools to a load balancer that is being made. Pools are named, and
// referred to by name; one that is more than a name is made
// (octavia/api/v2/controllers/load_balancer.py, _graph_create).
func (e *edit) grow(c *policy.Credentials, listeners, pools []map[string]any) error {
	wanted := map[int]string{} // listener to pool
	var asks []listenerAsk
	for i, raw := range listeners {
		a := newListenerAsk()
		if err := read(listenerFields(), raw, inTree, &a); err != nil {
			return err
		}
		asks = append(asks, a)
		if a.pool == nil {
			continue
		}
		name, _ := a.pool["name"].(string)
		if name == "" {
			return invalid("Pools must be named when creating a fully populated loadbalancer.")
		}
		wanted[i] = name
		if a.pool["protocol"] != nil || a.pool["lb_algorithm"] != nil {
			pools = append(pools[:len(pools):len(pools)], a.pool)
		}
	}
	ids := map[string]string{}
	for _, raw := range pools {
		p, err := e.plant(c, raw)
		if err != nil {
			return err
		}
		if _, twice := ids[p.Name]; twice {
			return invalid("Pool names must be unique when creating a fully populated loadbalancer.")
		}
		ids[p.Name] = p.ID
	}
	for i := range asks {
		if name, ok := wanted[i]; ok {
			if ids[name] == "" {
				return invalid("Pool '%s' was referenced but no full definition was found.", name)
			}
			asks[i].PoolID = ids[name]
		}
		if _, err := e.addListener(&asks[i]); err != nil {
			return err
		}
	}
	return nil
}

// plant makes a pool of a tree.
func (e *edit) plant(c *policy.Credentials, raw map[string]any) (*Pool, error) {
	a := poolAsk{Pool: Pool{Meta: Meta{AdminUp: true}}}
	if err := read(poolFields(), raw, inTree, &a); err != nil {
		return nil, err
	}
	for name, v := range map[string]string{"protocol": a.Protocol, "lb_algorithm": a.Algorithm} {
		if v == "" {
			return nil, invalid("Pool definition for '%s' missing required attribute: %s", a.Name, name)
		}
	}
	return e.addPool(c, &a)
}
