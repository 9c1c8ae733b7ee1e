package loadbalancer

import (
	"regexp"
	"slices"
)

// The limits of octavia/common/constants.py.
const (
	maxPort    = 65535
	maxWeight  = 256
	maxTimeout = 24 * 60 * 60 * 1000 // a day, in milliseconds
	maxRetries = 10
	maxCount   = 1<<31 - 1
)

// Upstream's default timeouts of listeners, in milliseconds (octavia/common/config.py, haproxy_amphora).
const (
	defaultClientData    = 50000
	defaultMemberConnect = 5000
	defaultMemberData    = 50000
)

var (
	listenerProtocols = []string{"TCP", "HTTP", "HTTPS", "TERMINATED_HTTPS", "PROXY", "UDP", "SCTP", "PROMETHEUS"}
	poolProtocols     = []string{"TCP", "HTTP", "HTTPS", "PROXY", "PROXYV2", "UDP", "SCTP"}
	algorithms        = []string{"LEAST_CONNECTIONS", "ROUND_ROBIN", "SOURCE_IP", "SOURCE_IP_PORT"}
	carried           = []string{"TCP", "HTTPS", "UDP"} // what a kernel can: HTTPS goes through as it is
	persistences      = []string{"SOURCE_IP", "HTTP_COOKIE", "APP_COOKIE"}
	monitorTypes      = []string{"HTTP", "HTTPS", "PING", "TCP", "TLS-HELLO", "UDP-CONNECT", "SCTP"}
	httpMethods       = []string{"GET", "HEAD", "POST", "PUT", "DELETE", "TRACE", "OPTIONS", "PATCH", "CONNECT"}
	codesRE           = regexp.MustCompile(`^(\d{3}(\s*,\s*\d{3})*)$|^(\d{3}-\d{3})$`)
	pathRE            = regexp.MustCompile(`^/[^\s]*$`)
	domainRE          = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*\.?$`)
)

// balancerAsk is what a request says of a load balancer.
type balancerAsk struct {
	LoadBalancer
	project, provider, flavor, zone string
	listeners, pools, more          []map[string]any
}

// additionalAsk is what a request says of an additional VIP.
type additionalAsk struct{ subnet, address string }

func additionalFields() []field[additionalAsk] {
	type ask = additionalAsk
	return []field[ask]{
		must(id("subnet_id", func(a *ask) *string { return &a.subnet })),
		address("ip_address", func(a *ask) *string { return &a.address }),
		ignored[ask]("port_id", inPost), // it is the VIP's
	}
}

func balancerFields() []field[balancerAsk] {
	type ask = balancerAsk
	return slices.Concat(common(true, func(a *ask) *Meta { return &a.Meta }), []field[ask]{
		only(inPost, address("vip_address", func(a *ask) *string { return &a.VIP.Address })),
		only(inPost, id("vip_port_id", func(a *ask) *string { return &a.VIP.PortID })),
		only(inPost, id("vip_subnet_id", func(a *ask) *string { return &a.VIP.SubnetID })),
		only(inPost, id("vip_network_id", func(a *ask) *string { return &a.VIP.NetworkID })),
		only(inPost, texts("vip_sg_ids", uuidText, func(a *ask) *[]string { return &a.VIP.Groups })),
		only(inPost, text("project_id", 36, func(a *ask) *string { return &a.project })),
		only(inPost, text("tenant_id", 36, func(a *ask) *string { return &a.project })),
		only(inPost, text("provider", 64, func(a *ask) *string { return &a.provider })),
		only(inPost, id("flavor_id", func(a *ask) *string { return &a.flavor })),
		only(inPost, text("availability_zone", 255, func(a *ask) *string { return &a.zone })),
		only(inPost, objects("listeners", func(a *ask) *[]map[string]any { return &a.listeners })),
		only(inPost, objects("pools", func(a *ask) *[]map[string]any { return &a.pools })),
		only(inPost, objects("additional_vips", func(a *ask) *[]map[string]any { return &a.more })),
	}, without[ask]("vip_qos_policy_id"))
}

// objects is a list of parts that are read later.
func objects[T any](name string, at func(*T) *[]map[string]any) field[T] {
	return field[T]{name: name, in: inPost | inTree, set: func(x *T, v any) error {
		list, ok := v.([]any)
		if !ok {
			return badField(name, v, "Expected a list")
		}
		for _, e := range list {
			o, ok := e.(map[string]any)
			if !ok {
				return badField(name, e, "Expected an object")
			}
			*at(x) = append(*at(x), o)
		}
		return nil
	}}
}

func part[T any](name string, at func(*T) *map[string]any) field[T] {
	return field[T]{name: name, in: always, set: func(x *T, v any) error {
		o, ok := v.(map[string]any)
		if !ok {
			return badField(name, v, "Expected an object")
		}
		*at(x) = o
		return nil
	}, reset: func(x *T) { *at(x) = nil }}
}

// listenerAsk is what a request says of a listener.
type listenerAsk struct {
	Listener
	balancer string
	pool     map[string]any // default_pool, in a tree
}

func newListenerAsk() listenerAsk {
	return listenerAsk{Listener: Listener{Meta: Meta{AdminUp: true}, Limit: -1,
		ClientData: defaultClientData, MemberConnect: defaultMemberConnect, MemberData: defaultMemberData}}
}

func listenerFields() []field[listenerAsk] {
	type ask = listenerAsk
	return slices.Concat(common(true, func(a *ask) *Meta { return &a.Meta }), []field[ask]{
		only(inPost|inTree, must(choice("protocol", listenerProtocols, func(a *ask) *string { return &a.Protocol }))),
		only(inPost|inTree, must(number("protocol_port", 1, maxPort, 0, func(a *ask) *int { return &a.Port }))),
		number("connection_limit", -1, maxCount, -1, func(a *ask) *int { return &a.Limit }),
		only(inPost, must(id("loadbalancer_id", func(a *ask) *string { return &a.balancer }))),
		id("default_pool_id", func(a *ask) *string { return &a.PoolID }),
		only(inPost|inTree, part("default_pool", func(a *ask) *map[string]any { return &a.pool })),
		number("timeout_client_data", 0, maxTimeout, defaultClientData, func(a *ask) *int { return &a.ClientData }),
		number("timeout_member_connect", 0, maxTimeout, defaultMemberConnect, func(a *ask) *int { return &a.MemberConnect }),
		number("timeout_member_data", 0, maxTimeout, defaultMemberData, func(a *ask) *int { return &a.MemberData }),
		number("timeout_tcp_inspect", 0, maxTimeout, 0, func(a *ask) *int { return &a.TCPInspect }),
		texts("allowed_cidrs", cidrText, func(a *ask) *[]string { return &a.Allowed }),
		ignored[ask]("project_id", inPost), ignored[ask]("tenant_id", inPost),
	}, without[ask]("default_tls_container_ref", "sni_container_refs", "l7policies", "insert_headers", "client_ca_tls_container_ref",
		"client_authentication", "client_crl_container_ref", "tls_ciphers", "tls_versions", "alpn_protocols", "hsts_max_age", "hsts_include_subdomains", "hsts_preload"))
}

// poolAsk is what a request says of a pool.
type poolAsk struct {
	Pool
	balancer, listener string
	sticky, monitor    map[string]any
	members            []map[string]any
}

func poolFields() []field[poolAsk] {
	type ask = poolAsk
	return slices.Concat(common(true, func(a *ask) *Meta { return &a.Meta }), []field[ask]{
		only(inPost, id("loadbalancer_id", func(a *ask) *string { return &a.balancer })),
		only(inPost, id("listener_id", func(a *ask) *string { return &a.listener })),
		only(inPost, must(choice("protocol", poolProtocols, func(a *ask) *string { return &a.Protocol }))),
		only(inPost, must(choice("lb_algorithm", algorithms, func(a *ask) *string { return &a.Algorithm }))),
		only(inTree, choice("protocol", poolProtocols, func(a *ask) *string { return &a.Protocol })),
		only(inTree|inPut, choice("lb_algorithm", algorithms, func(a *ask) *string { return &a.Algorithm })),
		part("session_persistence", func(a *ask) *map[string]any { return &a.sticky }),
		only(inPost|inTree, part("healthmonitor", func(a *ask) *map[string]any { return &a.monitor })),
		only(inPost|inTree, objects("members", func(a *ask) *[]map[string]any { return &a.members })),
		ignored[ask]("project_id", inPost), ignored[ask]("tenant_id", inPost),
	}, without[ask]("tls_container_ref", "ca_tls_container_ref", "crl_container_ref", "tls_enabled", "tls_ciphers", "tls_versions", "alpn_protocols"))
}

type persistenceAsk struct{ kind, cookie string }

func persistenceFields() []field[persistenceAsk] {
	type ask = persistenceAsk
	return append([]field[ask]{
		must(choice("type", persistences, func(a *ask) *string { return &a.kind })),
		text("cookie_name", 255, func(a *ask) *string { return &a.cookie }),
	}, without[ask]("persistence_timeout", "persistence_granularity")...)
}

func memberFields() []field[Member] {
	return slices.Concat(common(false, func(m *Member) *Meta { return &m.Meta }), []field[Member]{
		only(inPost|inTree, must(written("address", func(m *Member) *string { return &m.Address }))),
		only(inPost|inTree, must(number("protocol_port", 1, maxPort, 0, func(m *Member) *int { return &m.Port }))),
		number("weight", 0, maxWeight, 1, func(m *Member) *int { return &m.Weight }),
		flag("backup", false, func(m *Member) *bool { return &m.Backup }),
		only(inPost|inTree, id("subnet_id", func(m *Member) *string { return &m.SubnetID })),
		written("monitor_address", func(m *Member) *string { return &m.MonitorAddr }),
		number("monitor_port", 1, maxPort, 0, func(m *Member) *int { return &m.MonitorPort }),
		ignored[Member]("project_id", inPost), ignored[Member]("tenant_id", inPost),
	}, without[Member]("request_sriov"))
}

func newMember() Member { return Member{Meta: Meta{AdminUp: true}, Weight: 1} }

// monitorAsk is what a request says of a monitor.
type monitorAsk struct {
	Monitor
	pool string
	put  map[string]any // the request, for what may be given for some types only
}

func newMonitor() Monitor { return Monitor{Meta: Meta{AdminUp: true}, Fall: 3} }

func monitorFields() []field[monitorAsk] {
	type ask = monitorAsk
	return slices.Concat(common(false, func(a *ask) *Meta { return &a.Meta }), []field[ask]{
		only(inPost|inTree, must(choice("type", monitorTypes, func(a *ask) *string { return &a.Type }))),
		must(number("delay", 0, maxCount, 0, func(a *ask) *int { return &a.Delay })),
		must(number("timeout", 0, maxCount, 0, func(a *ask) *int { return &a.Timeout })),
		must(number("max_retries", 1, maxRetries, 0, func(a *ask) *int { return &a.Rise })),
		number("max_retries_down", 1, maxRetries, 3, func(a *ask) *int { return &a.Fall }),
		choice("http_method", httpMethods, func(a *ask) *string { return &a.Method }),
		matching("url_path", pathRE, func(a *ask) *string { return &a.Path }),
		matching("expected_codes", codesRE, func(a *ask) *string { return &a.Codes }),
		httpVersion(), matching("domain_name", domainRE, func(a *ask) *string { return &a.Domain }),
		only(inPost, must(id("pool_id", func(a *ask) *string { return &a.pool }))),
		ignored[ask]("project_id", inPost), ignored[ask]("tenant_id", inPost),
	})
}

// httpVersion is a number on the wire, 1.0 or 1.1.
func httpVersion() field[monitorAsk] {
	return field[monitorAsk]{name: "http_version", in: always, set: func(a *monitorAsk, v any) error {
		switch version(v) {
		case "1", "1.0":
			a.HTTPVersion = "1.0"
		case "1.1":
			a.HTTPVersion = "1.1"
		default:
			return badField("http_version", v, "Value should be one of: 1.0, 1.1")
		}
		return nil
	}, reset: func(a *monitorAsk) { a.HTTPVersion = "" }}
}
