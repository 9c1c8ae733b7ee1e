package loadbalancer

import "strconv"

type view = map[string]any

// one refers to something by its id.
func one(id string) view { return view{"id": id} }

// orNil is null for what is not set.
func orNil(s string) any {
	if s == "" {
		return nil
	}
	return s
}

func list(s []string) []string {
	if s == nil {
		return []string{}
	}
	return s
}

// base are the attributes that everything has. Upstream's updated_at is also touched when a
// change has become real, so that there is one as soon as it has.
func (st *state) base(m *Meta, operating string) view {
	updated := m.Updated
	if updated.IsZero() && m.Born <= st.reached {
		updated = m.Created
	}
	return view{"id": m.ID, "name": m.Name, "admin_state_up": m.AdminUp, "tags": list(m.Tags), "created_at": timeOf(m.Created), "updated_at": timeOf(updated),
		"project_id": st.lb.ProjectID, "tenant_id": st.lb.ProjectID, "provisioning_status": st.provisioning(m), "operating_status": operating}
}

// view is the load balancer; full has its children instead of their ids.
func (st *state) view(full bool) view {
	lb := st.lb
	v := st.base(&lb.Meta, st.balancer())
	listeners, pools := []any{}, []any{}
	for _, l := range lb.Listeners {
		if full {
			x := st.listenerView(l)
			delete(x, "loadbalancers")
			listeners = append(listeners, x)
			continue
		}
		listeners = append(listeners, one(l.ID))
	}
	for _, p := range lb.Pools {
		if full {
			pools = append(pools, st.fullPool(p))
			continue
		}
		pools = append(pools, one(p.ID))
	}
	v["description"] = lb.Description
	v["vip_address"], v["vip_port_id"] = lb.VIP.Address, lb.VIP.PortID
	v["vip_subnet_id"], v["vip_network_id"] = lb.VIP.SubnetID, lb.VIP.NetworkID
	v["vip_sg_ids"], v["vip_qos_policy_id"], v["vip_vnic_type"] = list(lb.VIP.Groups), nil, "normal"
	more := []any{}
	for _, f := range lb.VIP.More {
		more = append(more, view{"subnet_id": f.SubnetID, "ip_address": f.Addr, "port_id": lb.VIP.PortID})
	}
	v["additional_vips"], v["provider"], v["flavor_id"], v["availability_zone"] = more, lb.Provider, nil, nil
	v["listeners"], v["pools"] = listeners, pools
	return v
}

func (st *state) listenerView(l *Listener) view {
	v := st.base(&l.Meta, st.listener(l))
	v["description"] = l.Description
	v["protocol"], v["protocol_port"], v["connection_limit"] = l.Protocol, l.Port, l.Limit
	v["default_pool_id"], v["loadbalancers"], v["l7policies"], v["insert_headers"] = orNil(l.PoolID), []any{one(st.lb.ID)}, []any{}, view{}
	v["timeout_client_data"], v["timeout_member_connect"], v["timeout_member_data"], v["timeout_tcp_inspect"] = l.ClientData, l.MemberConnect, l.MemberData, l.TCPInspect
	v["allowed_cidrs"] = nil
	if len(l.Allowed) > 0 {
		v["allowed_cidrs"] = l.Allowed
	}
	v["default_tls_container_ref"], v["sni_container_refs"], v["client_ca_tls_container_ref"] = nil, []any{}, nil
	v["client_authentication"], v["client_crl_container_ref"] = "NONE", nil
	v["tls_ciphers"], v["tls_versions"], v["alpn_protocols"] = nil, []any{}, []any{}
	v["hsts_max_age"], v["hsts_include_subdomains"], v["hsts_preload"] = nil, false, false
	return v
}

func (st *state) poolView(p *Pool) view {
	v := st.poolBase(p)
	members := []any{}
	for _, m := range p.Members {
		members = append(members, one(m.ID))
	}
	v["members"], v["loadbalancers"], v["healthmonitor_id"] = members, []any{one(st.lb.ID)}, nil
	if p.Monitor != nil {
		v["healthmonitor_id"] = p.Monitor.ID
	}
	return v
}

func (st *state) fullPool(p *Pool) view {
	v := st.poolBase(p)
	members := []any{}
	for _, m := range p.Members {
		members = append(members, st.memberView(p, m))
	}
	v["members"], v["healthmonitor"] = members, nil
	if p.Monitor != nil {
		x := st.monitorView(p, p.Monitor)
		delete(x, "pools")
		v["healthmonitor"] = x
	}
	return v
}

func (st *state) poolBase(p *Pool) view {
	v := st.base(&p.Meta, st.pool(p))
	listeners := []any{}
	for _, l := range st.lb.users(p.ID) {
		listeners = append(listeners, one(l.ID))
	}
	v["description"], v["protocol"], v["lb_algorithm"], v["listeners"], v["session_persistence"] = p.Description, p.Protocol, p.Algorithm, listeners, nil
	if p.Persistence != nil {
		v["session_persistence"] = view{"type": p.Persistence.Type, "cookie_name": nil, "persistence_timeout": nil, "persistence_granularity": nil}
	}
	v["tls_enabled"], v["tls_container_ref"], v["ca_tls_container_ref"], v["crl_container_ref"] = false, nil, nil, nil
	v["tls_ciphers"], v["tls_versions"], v["alpn_protocols"] = nil, []any{}, []any{}
	return v
}

func (st *state) memberView(p *Pool, m *Member) view {
	v := st.base(&m.Meta, st.member(p, m))
	v["address"], v["protocol_port"], v["weight"], v["backup"] = m.Address, m.Port, m.Weight, m.Backup
	v["subnet_id"], v["monitor_address"], v["monitor_port"], v["vnic_type"] = orNil(m.SubnetID), orNil(m.MonitorAddr), nil, "normal"
	if m.MonitorPort != 0 {
		v["monitor_port"] = m.MonitorPort
	}
	return v
}

func (st *state) monitorView(p *Pool, m *Monitor) view {
	v := st.base(&m.Meta, st.monitor(m))
	v["type"], v["delay"], v["timeout"], v["max_retries"], v["max_retries_down"] = m.Type, m.Delay, m.Timeout, m.Rise, m.Fall
	v["http_method"], v["url_path"], v["expected_codes"], v["domain_name"], v["http_version"] = orNil(m.Method), orNil(m.Path), orNil(m.Codes), orNil(m.Domain), nil
	if f, err := strconv.ParseFloat(m.HTTPVersion, 64); err == nil {
		v["http_version"] = f
	}
	v["pools"] = []any{one(p.ID)}
	return v
}

// tree is the status tree.
func (st *state) tree() view {
	listeners := []any{}
	for _, l := range st.lb.Listeners {
		pools := []any{}
		if p := st.lb.pool(l.PoolID); p != nil {
			pools = append(pools, st.poolTree(p))
		}
		v := st.branch(&l.Meta, st.listener(l))
		v["pools"] = pools
		listeners = append(listeners, v)
	}
	v := st.branch(&st.lb.Meta, st.balancer())
	v["listeners"] = listeners
	return v
}

func (st *state) branch(m *Meta, operating string) view {
	return view{"id": m.ID, "name": m.Name, "provisioning_status": st.provisioning(m), "operating_status": operating}
}

func (st *state) poolTree(p *Pool) view {
	v, members := st.branch(&p.Meta, st.pool(p)), []any{}
	for _, m := range p.Members {
		x := st.branch(&m.Meta, st.member(p, m))
		x["address"], x["protocol_port"] = m.Address, m.Port
		members = append(members, x)
	}
	v["members"] = members
	if m := p.Monitor; m != nil {
		x := st.branch(&m.Meta, st.monitor(m))
		x["type"] = m.Type
		v["health_monitor"] = x
	}
	return v
}
