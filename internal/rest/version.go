package rest

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/strata-cloud/strata/internal/errs"
)

// Version is a microversion. The zero value means "not set".
type Version struct{ Major, Minor int }

// V makes a version.
func V(major, minor int) Version { return Version{major, minor} }

// ParseVersion reads MAJOR.MINOR, both without leading zeroes.
func ParseVersion(s string) (Version, error) {
	a, b, ok := strings.Cut(s, ".")
	x, err1 := strconv.Atoi(a)
	y, err2 := strconv.Atoi(b)
	if !ok || err1 != nil || err2 != nil || x < 1 || y < 0 || strconv.Itoa(x) != a || strconv.Itoa(y) != b {
		return Version{}, fmt.Errorf("%q is not MAJOR.MINOR", s)
	}
	return Version{x, y}, nil
}

// String is MAJOR.MINOR.
func (v Version) String() string { return strconv.Itoa(v.Major) + "." + strconv.Itoa(v.Minor) }

// Less orders versions.
func (v Version) Less(o Version) bool {
	return v.Major < o.Major || v.Major == o.Major && v.Minor < o.Minor
}

// AtLeast tells whether v is o or newer.
func (v Version) AtLeast(o Version) bool { return !v.Less(o) }

// In tells whether v lies in [lo, hi]; a zero bound is open.
func (v Version) In(lo, hi Version) bool {
	return (lo == Version{} || v.AtLeast(lo)) && (hi == Version{} || hi.AtLeast(v))
}

// Microversions says how an API family negotiates.
type Microversions struct {
	Type     string   // the service type in OpenStack-API-Version: "compute"
	Aliases  []string // other types that mean this one
	Legacy   string   // an older header of the same meaning, or ""
	Min, Max Version
	// Deaf APIs speak Min whatever a request asks for, and do not mention versions
	// (nova/api/openstack/__init__.py, LegacyV2CompatibleWrapper).
	Deaf bool
}

// negotiate finds the version that the request asks for; Min when it asks for none.
func (m *Microversions) negotiate(h http.Header) (Version, error) {
	if m.Deaf {
		return m.Min, nil
	}
	asked := ""
	for _, line := range h.Values("OpenStack-API-Version") {
		for _, part := range strings.Split(line, ",") {
			if f := strings.Fields(part); len(f) == 2 && m.means(f[0]) {
				asked = f[1]
			}
		}
	}
	if asked == "" && m.Legacy != "" {
		asked = strings.TrimSpace(h.Get(m.Legacy))
	}
	switch asked {
	case "":
		return m.Min, nil
	case "latest":
		return m.Max, nil
	}
	v, err := ParseVersion(asked)
	if err != nil {
		return v, errs.Invalidf("API Version String %s is of invalid format. Must be of format MajorNum.MinorNum.", asked)
	}
	if !v.In(m.Min, m.Max) {
		return v, errs.New(errs.Unsupported, "Version %s is not supported by the API. Minimum is %s and maximum is %s.", v, m.Min, m.Max)
	}
	return v, nil
}

// means tells whether a service type is the API's.
func (m *Microversions) means(kind string) bool {
	is := func(name string) bool { return strings.EqualFold(kind, name) }
	return is(m.Type) || slices.ContainsFunc(m.Aliases, is)
}

// announce writes the response headers of a negotiated version.
func (m *Microversions) announce(h http.Header, v Version) {
	if m.Deaf {
		return
	}
	h.Set("OpenStack-API-Version", m.Type+" "+v.String())
	h.Add("Vary", "OpenStack-API-Version")
	if m.Legacy != "" {
		h.Set(m.Legacy, v.String())
		h.Add("Vary", m.Legacy)
	}
}
