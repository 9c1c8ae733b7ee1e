package compute

import (
	"context"
	"net"

	"github.com/strata-cloud/strata/internal/compute/console"
	"github.com/strata-cloud/strata/internal/compute/wire"
	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/rest"
)

// consoleTypes are the types of console, by protocol (nova/compute/api.py and the
// drivers' get_*_console).
var consoleTypes = map[string]string{"vnc": "novnc", "serial": "serial"}

func (s *Service) consoleRoutes() []rest.Route {
	const rule = "os_compute_api:os-remote-consoles"
	schema := func(protocols, types string) string {
		return `{"type":"object","properties":{"remote_console":{"type":"object","properties":{"protocol":{"enum":[` + protocols + `]},"type":{"enum":[` + types +
			`]}},"required":["protocol","type"],"additionalProperties":false}},"required":["remote_console"],"additionalProperties":false}`
	}
	const protocols, types = `"vnc","spice","rdp","serial"`, `"novnc","xvpvnc","rdp-html5","spice-html5","serial"`
	old := func(key, protocol, types string) rest.Route {
		return rest.Route{Method: "POST", Path: "/servers/{id}/action", Action: key, Policy: rule, Max: rest.V(2, 5), Handle: s.oldConsole(key, protocol),
			Body: wire.Body(key, `{"type":"object","properties":{"type":{"enum":[`+types+`]}},"required":["type"],"additionalProperties":false}`)}
	}
	return []rest.Route{
		{Method: "POST", Path: "/servers/{id}/remote-consoles", Policy: rule, Min: rest.V(2, 6), Handle: s.remoteConsole,
			Body: []rest.Schema{rest.SchemaIn(rest.V(2, 6), rest.V(2, 7), schema(protocols, types)), rest.SchemaIn(rest.V(2, 8), rest.Version{}, schema(protocols+`,"mks"`, types+`,"webmks"`))}},
		old("os-getVNCConsole", "vnc", `"novnc","xvpvnc"`),
		old("os-getSerialConsole", "serial", `"serial"`),
		{Method: "GET", Path: "/os-console-auth-tokens/{token}", Policy: "os_compute_api:os-console-auth-tokens", Handle: s.showConsoleToken},
	}
}

// newConsoles makes the proxy. What it needs of the service is looked up when a client comes.
func (s *Service) newConsoles() *console.Consoles {
	return console.New(console.Options{DB: s.DB, Log: s.Log,
		Lives: func(id, host string) bool {
			v, err := s.servers.Get(id)
			return err == nil && v.DeletedAt == nil && v.TaskState != Deleting && v.Host == host
		},
		Open: func(ctx context.Context, id, host, kind string) (net.Conn, error) {
			conn, err := s.Nodes.Conn(host)
			if err != nil {
				return nil, err
			}
			return conn.Console(ctx, id, kind)
		}})
}

// Consoles is the proxy of the servers' consoles, to be served at /console/.
func (s *Service) Consoles() *console.Consoles { return s.consoles }

func (s *Service) remoteConsole(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	var b struct {
		Console struct {
			Protocol string `json:"protocol"`
			Type     string `json:"type"`
		} `json:"remote_console"`
	}
	if err := r.Decode(&b); err != nil {
		return nil, err
	}
	url, err := s.openConsole(ctx, r, b.Console.Protocol, b.Console.Type)
	if err != nil {
		return nil, err
	}
	return rest.JSON(200, map[string]any{"remote_console": map[string]string{"protocol": b.Console.Protocol, "type": b.Console.Type, "url": url}}), nil
}

func (s *Service) oldConsole(key, protocol string) rest.Handler {
	return func(ctx context.Context, r *rest.Request) (*rest.Response, error) {
		var b map[string]struct {
			Type string `json:"type"`
		}
		if err := r.Decode(&b); err != nil {
			return nil, err
		}
		url, err := s.openConsole(ctx, r, protocol, b[key].Type)
		if err != nil {
			return nil, err
		}
		return rest.JSON(200, map[string]any{"console": map[string]string{"type": b[key].Type, "url": url}}), nil
	}
}

func (s *Service) openConsole(ctx context.Context, r *rest.Request, protocol, kind string) (string, error) {
	v, err := s.authorized(r)
	if err != nil {
		return "", err
	}
	if consoleTypes[protocol] != kind {
		return "", errs.Invalidf("Unavailable console type %s.", kind)
	}
	if !s.running(v) {
		return "", errs.Conflictf("Instance %s is not ready", v.ID)
	}
	return s.consoles.Issue(ctx, r.Base(), v.ID, v.Host, protocol)
}

// running tells whether there is a machine of the server on its host now.
func (s *Service) running(v *Server) bool {
	st, err := s.Nodes.Statuses.Get(v.ID)
	return err == nil && v.Host != "" && st.Node == v.Host && (st.Power == nodeapi.PowerRunning || st.Power == nodeapi.PowerPaused)
}

// showConsoleToken tells where a token leads. Before 2.31 upstream shows those of
// RDP only (nova/api/openstack/compute/console_auth_tokens.py). The console is a socket of
// the host's, which has no port.
func (s *Service) showConsoleToken(_ context.Context, r *rest.Request) (*rest.Response, error) {
	t, err := s.consoles.Find(r.Path("token"))
	if err != nil {
		return nil, err
	}
	if !r.AtLeast(2, 31) {
		return nil, errs.New(errs.Unauthenticated, "The requested console type details are not accessible")
	}
	return rest.JSON(200, map[string]any{"console": map[string]any{"instance_uuid": t.Server, "host": t.Host, "port": nil, "internal_access_path": nil}}), nil
}
