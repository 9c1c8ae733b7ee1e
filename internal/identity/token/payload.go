package token

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"time"
)

// Scope is what kind of thing a token is good for.
type Scope byte

// The scopes.
const (
	Unscoped Scope = iota
	Project
	Domain
	System
	Trust
)

// Payload is what a token says.
type Payload struct {
	UserID      string
	Methods     []string // of password, token, application_credential, external
	Scope       Scope
	ScopeID     string // project (also for Trust) or domain
	TrustID     string
	AppCredID   string
	AuditID     [16]byte
	ParentAudit [16]byte // zero: none
	IssuedAt    time.Time
	ExpiresAt   time.Time
}

// HasParent tells whether the token was made from another one.
func (p *Payload) HasParent() bool { return p.ParentAudit != [16]byte{} }

// errMalformed is deliberately silent about what is wrong.
var errMalformed = errors.New("malformed token payload")

// methodNames gives each authentication method its bit on the wire; append only.
func methodNames() []string {
	return []string{"password", "token", "application_credential", "external", "ec2credential"}
}

const (
	hasParent = 1 << iota
	hasTrust
	hasAppCred
)

// pack appends the binary form.
func (p *Payload) pack(b []byte) []byte {
	var flags, methods byte
	for i, name := range methodNames() {
		for _, m := range p.Methods {
			if m == name {
				methods |= 1 << i
			}
		}
	}
	if p.HasParent() {
		flags |= hasParent
	}
	if p.TrustID != "" {
		flags |= hasTrust
	}
	if p.AppCredID != "" {
		flags |= hasAppCred
	}
	b = append(b, flags, methods, byte(p.Scope))
	b = binary.BigEndian.AppendUint64(b, uint64(p.IssuedAt.UnixMicro()))
	b = binary.BigEndian.AppendUint64(b, uint64(p.ExpiresAt.UnixMicro()))
	b = append(b, p.AuditID[:]...)
	if p.HasParent() {
		b = append(b, p.ParentAudit[:]...)
	}
	b = packID(b, p.UserID)
	b = packID(b, p.ScopeID)
	if p.TrustID != "" {
		b = packID(b, p.TrustID)
	}
	if p.AppCredID != "" {
		b = packID(b, p.AppCredID)
	}
	return b
}

// packID writes 0xff and 16 bytes for an id of 32 hex digits, else its length and its text.
func packID(b []byte, id string) []byte {
	if len(id) == 32 {
		if raw, err := hex.DecodeString(id); err == nil && hex.EncodeToString(raw) == id {
			return append(append(b, 0xff), raw...)
		}
	}
	id = id[:min(len(id), 64)]
	return append(append(b, byte(len(id))), id...)
}

// reader takes a payload apart; any shortage makes it bad for good.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) take(n int) []byte {
	if r.bad || len(r.b) < n {
		r.bad = true
		return make([]byte, n)
	}
	out := r.b[:n]
	r.b = r.b[n:]
	return out
}

func (r *reader) id() string {
	n := int(r.take(1)[0])
	if n == 0xff {
		return hex.EncodeToString(r.take(16))
	}
	return string(r.take(n))
}

func (r *reader) time() time.Time {
	return time.UnixMicro(int64(binary.BigEndian.Uint64(r.take(8)))).UTC()
}

// unpack reads the binary form.
func unpack(b []byte) (*Payload, error) {
	r := &reader{b: b}
	head := r.take(3)
	flags, methods := head[0], head[1]
	p := &Payload{Scope: Scope(head[2])}
	for i, name := range methodNames() {
		if methods&(1<<i) != 0 {
			p.Methods = append(p.Methods, name)
		}
	}
	p.IssuedAt, p.ExpiresAt = r.time(), r.time()
	copy(p.AuditID[:], r.take(16))
	if flags&hasParent != 0 {
		copy(p.ParentAudit[:], r.take(16))
	}
	p.UserID, p.ScopeID = r.id(), r.id()
	if flags&hasTrust != 0 {
		p.TrustID = r.id()
	}
	if flags&hasAppCred != 0 {
		p.AppCredID = r.id()
	}
	if r.bad || len(r.b) > 0 {
		return nil, errMalformed
	}
	return p, nil
}
