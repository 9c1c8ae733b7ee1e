package dhcp

import (
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/strata-cloud/strata/internal/nodeapi"
)

// encoding is how the text of an extra option becomes bytes.
type encoding int

const (
	text encoding = iota
	addresses
	number8
	number16
	number32
	boolean
	domains
	classless
)

// option is a DHCPv4 option by the name that upstream's API knows it by.
type option struct {
	code uint8
	enc  encoding
}

// optionByName finds the code and encoding of an option's name or number.
func optionByName(name string) (option, bool) {
	name = strings.ToLower(strings.TrimPrefix(name, "option:"))
	switch name {
	case "netmask", "subnet-mask":
		return option{1, addresses}, true
	case "time-offset":
		return option{2, number32}, true
	case "router":
		return option{3, addresses}, true
	case "dns-server", "domain-name-servers":
		return option{6, addresses}, true
	case "log-server":
		return option{7, addresses}, true
	case "lpr-server":
		return option{9, addresses}, true
	case "hostname", "host-name":
		return option{12, text}, true
	case "boot-file-size":
		return option{13, number16}, true
	case "domain-name":
		return option{15, text}, true
	case "swap-server":
		return option{16, addresses}, true
	case "root-path":
		return option{17, text}, true
	case "ip-forward-enable":
		return option{19, boolean}, true
	case "default-ttl":
		return option{23, number8}, true
	case "mtu", "interface-mtu":
		return option{26, number16}, true
	case "broadcast":
		return option{28, addresses}, true
	case "static-route":
		return option{33, addresses}, true
	case "nis-domain":
		return option{40, text}, true
	case "nis-server":
		return option{41, addresses}, true
	case "ntp-server", "ntp-servers":
		return option{42, addresses}, true
	case "netbios-ns", "wins-server":
		return option{44, addresses}, true
	case "netbios-nodetype":
		return option{46, number8}, true
	case "vendor-class":
		return option{60, text}, true
	case "tftp-server", "tftp-server-name":
		return option{66, text}, true
	case "bootfile-name":
		return option{67, text}, true
	case "smtp-server":
		return option{69, addresses}, true
	case "domain-search":
		return option{119, domains}, true
	case "sip-server":
		return option{120, text}, true
	case "classless-static-route":
		return option{121, classless}, true
	case "tftp-server-address", "server-ip-address":
		return option{150, addresses}, true
	case "wpad", "proxy-autodiscovery":
		return option{252, text}, true
	}
	n, err := strconv.ParseUint(name, 10, 8)
	if err != nil || n == 0 || n == 255 {
		return option{}, false
	}
	return option{uint8(n), text}, true
}

// extra adds a port's own option to a reply, in the place of ours. An option
// that we do not know or cannot encode is left out: the address matters more.
func extra(r *dhcpv4.DHCPv4, o nodeapi.DHCPOption) {
	opt, ok := optionByName(o.Name)
	if !ok {
		return
	}
	value, ok := encode(opt.enc, o.Value)
	if !ok {
		return
	}
	switch opt.code {
	case 53, 54: // message type and server identifier are the protocol's own
		return
	case 66:
		// Boot ROMs read the fixed fields too.
		r.ServerHostName = string(value)
	case 67:
		r.BootFileName = string(value)
	case 150:
		if len(value) >= 4 {
			r.ServerIPAddr = net.IP(value[:4])
		}
	}
	if a, err := netip.ParseAddr(o.Value); opt.code == 66 && err == nil && a.Is4() {
		r.ServerIPAddr = ip4(a)
	}
	r.UpdateOption(dhcpv4.OptGeneric(dhcpv4.GenericOptionCode(opt.code), value))
}

func encode(enc encoding, value string) ([]byte, bool) {
	switch enc {
	case text:
		return []byte(value), value != ""
	case addresses:
		return encodeAddresses(value)
	case number8, number16, number32:
		return encodeNumber(enc, value)
	case boolean:
		b, err := strconv.ParseBool(value)
		if err != nil {
			return nil, false
		}
		if b {
			return []byte{1}, true
		}
		return []byte{0}, true
	case domains:
		return encodeDomains(value)
	case classless:
		return encodeRoutes(value)
	}
	return nil, false
}

func encodeAddresses(value string) ([]byte, bool) {
	var out []byte
	for _, f := range fields(value) {
		a, err := netip.ParseAddr(f)
		if err != nil || !a.Is4() {
			return nil, false
		}
		out = append(out, a.AsSlice()...)
	}
	return out, len(out) > 0
}

func encodeNumber(enc encoding, value string) ([]byte, bool) {
	bits := map[encoding]int{number8: 8, number16: 16, number32: 32}[enc]
	n, err := strconv.ParseUint(value, 0, bits)
	if err != nil {
		return nil, false
	}
	var out []byte
	for shift := bits - 8; shift >= 0; shift -= 8 {
		out = append(out, byte(n>>shift))
	}
	return out, true
}

// encodeDomains writes names as labels (RFC 3397) without compression.
func encodeDomains(value string) ([]byte, bool) {
	var out []byte
	for _, name := range fields(value) {
		for label := range strings.SplitSeq(strings.Trim(name, "."), ".") {
			if label == "" || len(label) > 63 {
				return nil, false
			}
			out = append(append(out, byte(len(label))), label...)
		}
		out = append(out, 0)
	}
	return out, len(out) > 0
}

// encodeRoutes reads "destination,nexthop,destination,nexthop".
func encodeRoutes(value string) ([]byte, bool) {
	f := fields(value)
	if len(f) == 0 || len(f)%2 != 0 {
		return nil, false
	}
	var rs dhcpv4.Routes
	for i := 0; i < len(f); i += 2 {
		dst, err := netip.ParsePrefix(f[i])
		via, err2 := netip.ParseAddr(f[i+1])
		if err != nil || err2 != nil || !dst.Addr().Is4() || !via.Is4() {
			return nil, false
		}
		rs = append(rs, route(dst, via))
	}
	return rs.ToBytes(), true
}

func fields(value string) []string {
	return strings.FieldsFunc(value, func(r rune) bool { return r == ',' || r == ' ' || r == ';' })
}
