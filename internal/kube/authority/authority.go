// Package authority is who vouches for whom in a Kubernetes cluster: the certificate
// authorities of one cluster, and what they issue.
//
// A cluster has three, so that who is trusted by one part is nobody to another: that of
// the API (servers, users and kubelets), that of the aggregation layer's front proxy,
// and that of its etcd. None is the region's. Service accounts have a key of their own.
//
// Source: Kubernetes, "PKI certificates and requirements".
package authority

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"slices"
	"time"
)

// Lives of what is made here.
const (
	authorityLife = 10 * 365 * 24 * time.Hour
	leafLife      = 365 * 24 * time.Hour
	// RenewBefore is how long before its end a certificate is replaced.
	RenewBefore = 90 * 24 * time.Hour
)

// Pair is a certificate and its key, in PEM.
type Pair struct {
	Cert []byte `json:"cert"`
	Key  []byte `json:"key"`
}

// Set is a cluster's authorities.
type Set struct {
	Cluster    Pair `json:"cluster"`
	FrontProxy Pair `json:"front_proxy"`
	Etcd       Pair `json:"etcd"`
	// ServiceAccount is the key that signs service accounts' tokens, in PEM.
	ServiceAccount []byte `json:"service_account"`
}

// New makes the authorities of a cluster.
func New(cluster string) (*Set, error) {
	var s Set
	for name, p := range map[string]*Pair{"": &s.Cluster, " front proxy": &s.FrontProxy, " etcd": &s.Etcd} {
		made, err := newAuthority("Kubernetes " + cluster + name)
		if err != nil {
			return nil, err
		}
		*p = *made
	}
	_, raw, err := newKey()
	s.ServiceAccount = raw
	return &s, err
}

// Leaf says what a certificate is to be for.
type Leaf struct {
	Name   string   // common name: a user, to the API
	Groups []string // organizations: the user's groups
	Hosts  []string // names and addresses of a server
	Server bool
	Client bool
}

// Issue makes a certificate that the authority vouches for.
func (p *Pair) Issue(l Leaf) (*Pair, error) {
	key, raw, err := newKey()
	if err != nil {
		return nil, err
	}
	cert, err := p.sign(l.template(), &key.PublicKey)
	if err != nil {
		return nil, err
	}
	return &Pair{Cert: cert, Key: raw}, nil
}

// SignRequest signs a certificate request (PEM) of a client for the user and groups
// that it asks for.
func (p *Pair) SignRequest(request []byte) ([]byte, error) {
	r, err := parseRequest(request)
	if err != nil {
		return nil, err
	}
	return p.sign(Leaf{Name: r.Subject.CommonName, Groups: r.Subject.Organization, Client: true}.template(), r.PublicKey)
}

// Asks tells for which user and groups a certificate request (PEM) is.
func Asks(request []byte) (name string, groups []string, err error) {
	r, err := parseRequest(request)
	if err != nil {
		return "", nil, err
	}
	return r.Subject.CommonName, r.Subject.Organization, nil
}

func parseRequest(request []byte) (*x509.CertificateRequest, error) {
	block, _ := pem.Decode(request)
	if block == nil || block.Type != "CERTIFICATE REQUEST" {
		return nil, errors.New("that is no certificate request in PEM")
	}
	r, err := x509.ParseCertificateRequest(block.Bytes)
	if err == nil {
		err = r.CheckSignature()
	}
	if err != nil {
		return nil, fmt.Errorf("that is no certificate request: %w", err)
	}
	return r, nil
}

// Vouches tells whether a certificate (PEM) is one that Issue would make, and not to be
// replaced soon.
func (p *Pair) Vouches(cert []byte, l Leaf, now time.Time) bool {
	authority, err := parse(p.Cert)
	if err != nil {
		return false
	}
	c, err := parse(cert)
	if err != nil || c.NotAfter.Sub(now) < RenewBefore || c.CheckSignatureFrom(authority) != nil {
		return false
	}
	t := l.template()
	return c.Subject.CommonName == t.Subject.CommonName && slices.Equal(c.Subject.Organization, t.Subject.Organization) && slices.Equal(c.ExtKeyUsage, t.ExtKeyUsage) &&
		slices.Equal(c.DNSNames, t.DNSNames) && slices.EqualFunc(c.IPAddresses, t.IPAddresses, net.IP.Equal)
}

func (l Leaf) template() *x509.Certificate {
	t := &x509.Certificate{Subject: pkix.Name{CommonName: l.Name, Organization: l.Groups}, KeyUsage: x509.KeyUsageDigitalSignature,
		NotAfter: time.Now().Add(leafLife)}
	if l.Server {
		t.ExtKeyUsage = append(t.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
	}
	if l.Client {
		t.ExtKeyUsage = append(t.ExtKeyUsage, x509.ExtKeyUsageClientAuth)
	}
	for _, h := range l.Hosts {
		if ip := net.ParseIP(h); ip != nil {
			t.IPAddresses = append(t.IPAddresses, ip)
		} else {
			t.DNSNames = append(t.DNSNames, h)
		}
	}
	return t
}

// sign completes and signs a certificate for a public key.
func (p *Pair) sign(t *x509.Certificate, public any) ([]byte, error) {
	authority, err := parse(p.Cert)
	if err != nil {
		return nil, err
	}
	key, err := parseKey(p.Key)
	if err != nil {
		return nil, err
	}
	return create(t, authority, public, key)
}

func newAuthority(name string) (*Pair, error) {
	key, raw, err := newKey()
	if err != nil {
		return nil, err
	}
	t := &x509.Certificate{Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		NotAfter: time.Now().Add(authorityLife)}
	cert, err := create(t, t, &key.PublicKey, key)
	return &Pair{Cert: cert, Key: raw}, err
}

// create signs t; what it does not say about time begins an hour ago, for clocks differ.
func create(t, parent *x509.Certificate, public any, key *ecdsa.PrivateKey) ([]byte, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, err
	}
	t.SerialNumber, t.NotBefore = serial, time.Now().Add(-time.Hour)
	der, err := x509.CreateCertificate(rand.Reader, t, parent, public, key)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), err
}

func newKey() (*ecdsa.PrivateKey, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	// SEC 1: the API server reads service accounts' keys in this form alone.
	raw, err := x509.MarshalECPrivateKey(key)
	return key, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: raw}), err
}

func parse(raw []byte) (*x509.Certificate, error) {
	block, _ := pem.Decode(raw)
	if block == nil {
		return nil, errors.New("no certificate in PEM")
	}
	return x509.ParseCertificate(block.Bytes)
}

func parseKey(raw []byte) (*ecdsa.PrivateKey, error) {
	block, _ := pem.Decode(raw)
	if block == nil {
		return nil, errors.New("no key in PEM")
	}
	return x509.ParseECPrivateKey(block.Bytes)
}
