package simulate

import (
	"context"
	"fmt"
	"net/http"
)

// object is a JSON object.
type object = map[string]any

// tenants are the projects that the servers are in.
type tenants struct {
	admin    *session
	image    string
	projects []tenant
}

// tenant is a project with its networks.
type tenant struct {
	*session
	networks []string
}

// flavorID is of m1.nano, which every region starts with.
const flavorID = "42"

// one decodes an answer that has one object with an id.
func one(ctx context.Context, s *session, method, path, key string, in object) (string, error) {
	var out map[string]struct{ ID string }
	var body any
	if in != nil {
		body = object{key: in}
	}
	if _, err := s.do(ctx, method, path, body, &out); err != nil {
		return "", err
	}
	return out[key].ID, nil
}

// prepare makes what servers need: an image, projects without limits, and networks
// unless they have none. The region's own node is to run none of them.
func prepare(ctx context.Context, admin *session, o *Options, progress func(string, ...any)) (*tenants, error) {
	t := &tenants{admin: admin}
	if err := disableControl(ctx, admin); err != nil {
		return nil, err
	}
	var err error
	t.image, err = makeImage(ctx, admin)
	if err != nil {
		return nil, err
	}
	user, role, err := whoAndMember(ctx, admin)
	if err != nil {
		return nil, err
	}
	for i := range (o.Servers + o.PerProject - 1) / o.PerProject {
		id, err := one(ctx, admin, http.MethodPost, "/identity/v3/projects", "project", object{"name": fmt.Sprintf("sim-%04d", i+1), "domain_id": "default"})
		if err != nil {
			return nil, err
		}
		p := tenant{session: admin.in(id)}
		if err := p.open(ctx, admin, user, role, o); err != nil {
			return nil, err
		}
		t.projects = append(t.projects, p)
		if (i+1)%50 == 0 {
			progress("%d projects are made", i+1)
		}
	}
	return t, nil
}

// open lets the user work in the project, without limits, and makes its networks.
func (p *tenant) open(ctx context.Context, admin *session, user, role string, o *Options) error {
	for path, in := range map[string]any{
		"/identity/v3/projects/" + p.project + "/users/" + user + "/roles/" + role: nil,
		"/compute/v2.1/os-quota-sets/" + p.project:                                 object{"quota_set": object{"instances": -1, "cores": -1, "ram": -1}},
		"/network/v2.0/quotas/" + p.project:                                        object{"quota": object{"network": -1, "subnet": -1, "port": -1}},
	} {
		if _, err := admin.do(ctx, http.MethodPut, path, in, nil); err != nil {
			return err
		}
	}
	if o.PerNetwork == 0 {
		return nil
	}
	for i := range (min(o.PerProject, o.Servers) + o.PerNetwork - 1) / o.PerNetwork {
		id, err := one(ctx, admin, http.MethodPost, "/network/v2.0/networks", "network", object{"name": fmt.Sprintf("net-%d", i+1), "project_id": p.project})
		if err != nil {
			return err
		}
		_, err = one(ctx, admin, http.MethodPost, "/network/v2.0/subnets", "subnet",
			object{"network_id": id, "project_id": p.project, "ip_version": 4, "cidr": fmt.Sprintf("10.%d.0.0/16", i%200)})
		if err != nil {
			return err
		}
		p.networks = append(p.networks, id)
	}
	return nil
}

func disableControl(ctx context.Context, admin *session) error {
	var list struct{ Services []struct{ ID, Host string } }
	if _, err := admin.do(ctx, http.MethodGet, "/compute/v2.1/os-services?host="+controlNode, nil, &list); err != nil {
		return err
	}
	for _, s := range list.Services {
		if _, err := admin.do(ctx, http.MethodPut, "/compute/v2.1/os-services/"+s.ID, object{"status": "disabled"}, nil); err != nil {
			return err
		}
	}
	return nil
}

// makeImage makes an image that no node ever reads.
func makeImage(ctx context.Context, admin *session) (string, error) {
	var out struct{ ID string }
	in := object{"name": "simulated", "disk_format": "raw", "container_format": "bare", "visibility": "public"}
	if _, err := admin.do(ctx, http.MethodPost, "/image/v2/images", in, &out); err != nil {
		return "", err
	}
	_, err := admin.do(ctx, http.MethodPut, "/image/v2/images/"+out.ID+"/file", make([]byte, 1<<20), nil)
	return out.ID, err
}

// whoAndMember are the ids of the administrator and of the role that lets work in a project.
func whoAndMember(ctx context.Context, admin *session) (user, role string, err error) {
	var users struct{ Users []struct{ ID string } }
	if _, err := admin.do(ctx, http.MethodGet, "/identity/v3/users?name="+admin.auth["username"], nil, &users); err != nil {
		return "", "", err
	}
	var roles struct{ Roles []struct{ ID string } }
	if _, err := admin.do(ctx, http.MethodGet, "/identity/v3/roles?name=member", nil, &roles); err != nil {
		return "", "", err
	}
	if len(users.Users) != 1 || len(roles.Roles) != 1 {
		return "", "", fmt.Errorf("the region has %d users %s and %d roles member", len(users.Users), admin.auth["username"], len(roles.Roles))
	}
	return users.Users[0].ID, roles.Roles[0].ID, nil
}
