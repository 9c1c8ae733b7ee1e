package cluster

import (
	"context"
	"slices"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/kube/authority"
	"github.com/strata-cloud/strata/internal/policy"
	"github.com/strata-cloud/strata/internal/rest"
)

// apiTypes are what clients call the authority of the cluster's API
// (magnum/conductor/handlers/common/cert_manager.py).
var apiTypes = []string{"", "kubernetes", "kubelet", "kube-proxy"}

// authorityOf gives the cluster's authority, in PEM.
func authorityOf(c *Cluster, kind string) ([]byte, error) {
	switch {
	case c.Authorities == nil:
		return nil, errs.Conflictf("Cluster %s has no certificates yet.", c.ID)
	case slices.Contains(apiTypes, kind):
		return c.Authorities.Cluster.Cert, nil
	case kind == "etcd":
		return c.Authorities.Etcd.Cert, nil
	case kind == "front-proxy":
		return c.Authorities.FrontProxy.Cert, nil
	}
	return nil, errs.Invalidf("There is no CA certificate of the type %s.", kind)
}

func certificateView(r *rest.Request, c *Cluster, pem []byte) map[string]any {
	return map[string]any{"cluster_uuid": c.ID, "pem": string(pem), "links": links(r, "certificates/"+c.ID)}
}

func (s *Service) showCertificate(_ context.Context, r *rest.Request) (*rest.Response, error) {
	c, err := s.ofPath(r)
	if err != nil {
		return nil, err
	}
	kind := r.Query().Get("ca_cert_type")
	pem, err := authorityOf(c, kind)
	if err != nil {
		return nil, err
	}
	v := certificateView(r, c, pem)
	if kind != "" {
		v["ca_cert_type"] = kind
	}
	return rest.JSON(200, v), nil
}

// signCertificate signs what makes its holder a user of the cluster. What the control
// plane's parts tell each other by is for them alone.
func (s *Service) signCertificate(_ context.Context, r *rest.Request) (*rest.Response, error) {
	var b struct {
		Cluster string `json:"cluster_uuid"`
		CSR     string `json:"csr"`
		Kind    string `json:"ca_cert_type"`
	}
	if err := read(r.Body(), &b); err != nil {
		return nil, err
	}
	c, err := s.cluster(r.Creds, b.Cluster)
	if err != nil {
		return nil, badReference(err, "Cluster %s could not be found.", b.Cluster)
	}
	if err := r.Enforce(c.target()); err != nil {
		return nil, err
	}
	if !slices.Contains(apiTypes, b.Kind) {
		return nil, errs.Invalidf("Certificates of the type %s are not signed for others.", b.Kind)
	}
	if c.Authorities == nil {
		return nil, errs.Conflictf("Cluster %s has no certificates yet.", c.ID)
	}
	name, groups, err := authority.Asks([]byte(b.CSR))
	if err != nil {
		return nil, errs.Invalidf("Received invalid csr: %v.", err)
	}
	if err := mayBe(r.Creds, c, name, groups); err != nil {
		return nil, err
	}
	pem, err := c.Authorities.Cluster.SignRequest([]byte(b.CSR))
	if err != nil {
		return nil, errs.Invalidf("Received invalid csr: %v.", err)
	}
	v := certificateView(r, c, pem)
	v["csr"] = b.CSR
	if b.Kind != "" {
		v["ca_cert_type"] = b.Kind
	}
	return rest.JSON(201, v), nil
}

// mastersOf are the roles whose holders rule a cluster, so that a certificate gives them no
// more than their token does.
var mastersOf = []string{"admin", "manager", "member"}

// mayBe refuses a certificate for more than what the caller's own token is in the cluster,
// if a policy of the operator's lets others than members ask for one.
func mayBe(who *policy.Credentials, c *Cluster, name string, groups []string) error {
	if who.Admin() || who.ProjectID == c.ProjectID && slices.ContainsFunc(mastersOf, func(r string) bool { return slices.Contains(who.Roles, r) }) {
		return nil
	}
	own := groupsOf(who)
	if who.ProjectID == c.ProjectID && name == who.UserName && !reserved(name) && !slices.ContainsFunc(groups, func(g string) bool { return !slices.Contains(own, g) }) {
		return nil
	}
	return errs.Forbiddenf("A certificate for user %q of the groups %q is for members of the project alone.", name, groups)
}
