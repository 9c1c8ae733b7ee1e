package kube

import (
	"net"
	"os"
	"strconv"

	"github.com/strata-cloud/strata/internal/kube/tokenreview"
)

// What the API server has users' tokens judged with. The certificate of the server is for
// nothing else, and the client's opens nothing in the cluster.
const (
	reviewServer = "token-review"
	reviewClient = "strata:token-review"
	reviewConfig = "token-review.conf"
	// reviewTTL is how long the API server believes an answer.
	reviewTTL = "10s"
)

func (p *plane) reviewURL() string { return "https://" + p.reviewAddr() + tokenreview.Path(p.ID) }

func (p *plane) reviewAddr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(p.ReviewPort)) }

// Reviews is where tokens are judged for a control plane of this machine.
func (m *Machine) Reviews(c *Control) (tokenreview.Endpoint, error) {
	p := m.plane(c)
	if err := p.write(); err != nil {
		return tokenreview.Endpoint{}, err
	}
	e := tokenreview.Endpoint{Addr: p.reviewAddr(), CA: c.Authorities.Cluster.Cert, Client: reviewClient}
	var err error
	if e.Cert, err = os.ReadFile(p.pki(reviewServer + ".crt")); err != nil {
		return e, err
	}
	e.Key, err = os.ReadFile(p.pki(reviewServer + ".key"))
	return e, err
}
