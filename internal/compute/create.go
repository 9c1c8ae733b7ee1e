package compute

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/strata-cloud/strata/internal/compute/wire"
	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/policy"
	"github.com/strata-cloud/strata/internal/rest"
	"github.com/strata-cloud/strata/internal/store"
)

// createBody is POST /servers, for every microversion.
type createBody struct {
	Server struct {
		Name        string            `json:"name"`
		Description *string           `json:"description"`
		Hostname    string            `json:"hostname"`
		ImageRef    string            `json:"imageRef"`
		FlavorRef   any               `json:"flavorRef"`
		AdminPass   string            `json:"adminPass"`
		Metadata    map[string]string `json:"metadata"`
		Tags        []string          `json:"tags"`
		DiskConfig  string            `json:"OS-DCF:diskConfig"`
		AccessIPv4  string            `json:"accessIPv4"`
		AccessIPv6  string            `json:"accessIPv6"`
		AZ          string            `json:"availability_zone"`
		ConfigDrive any               `json:"config_drive"`
		KeyName     string            `json:"key_name"`
		MinCount    any               `json:"min_count"`
		MaxCount    any               `json:"max_count"`
		ReturnRes   any               `json:"return_reservation_id"`
		Groups      []struct {
			Name string `json:"name"`
		} `json:"security_groups"`
		UserData string          `json:"user_data"`
		Networks json.RawMessage `json:"networks"`
		Devices  []blockDevice   `json:"block_device_mapping_v2"`
		Legacy   []legacyDevice  `json:"block_device_mapping"`
		Host     string          `json:"host"`
		Node     string          `json:"hypervisor_hostname"`
		Hints    map[string]any  `json:"os:scheduler_hints"`
		HintsExt map[string]any  `json:"OS-SCH-HNT:scheduler_hints"`
	} `json:"server"`
	Hints    map[string]any `json:"os:scheduler_hints"`
	HintsExt map[string]any `json:"OS-SCH-HNT:scheduler_hints"`
}

// network is one entry of "networks".
type network struct {
	UUID    string `json:"uuid"`
	Port    string `json:"port"`
	FixedIP string `json:"fixed_ip"`
	Tag     string `json:"tag"`
}

func (s *Service) createServers(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	var b createBody
	if err := r.Decode(&b); err != nil {
		return nil, err
	}
	draft, err := s.draft(ctx, r, &b)
	if err != nil {
		return nil, err
	}
	lo, hi, err := counts(b.Server.MinCount, b.Server.MaxCount)
	if err != nil {
		return nil, err
	}
	if hi > 1 {
		if err := severalOf(draft, b.Server.Hostname); err != nil {
			return nil, err
		}
	}
	servers := copies(draft, lo, hi)
	if err := s.commit(ctx, r.ID, r.Creds, servers, lo); err != nil {
		return nil, err
	}
	if wire.Truthy(b.Server.ReturnRes) {
		return rest.JSON(202, map[string]string{"reservation_id": draft.ReservationID}), nil
	}
	v := servers[0]
	href := r.Base() + "/compute/v2.1/servers/" + v.ID
	body := map[string]any{"id": v.ID, "links": wire.Links(r.Base(), "servers", v.ID), "OS-DCF:diskConfig": v.DiskConfig,
		"security_groups": groupNames(v.GroupNames), "adminPass": draft.AdminPass}
	return rest.JSON(202, map[string]any{"server": body}).With("Location", href), nil
}

// draft checks everything that a create names and makes the record of the first server.
func (s *Service) draft(ctx context.Context, r *rest.Request, b *createBody) (*Server, error) {
	in, c, now := &b.Server, r.Creds, time.Now().UTC().Truncate(time.Second)
	if c.ProjectID == "" {
		return nil, errs.Invalidf("A server needs a project-scoped token.")
	}
	v := &Server{ID: uuid.NewString(), Name: strings.TrimSpace(in.Name), Description: in.Description, ProjectID: c.ProjectID, UserID: c.UserID,
		VMState: Building, TaskState: Scheduling, Metadata: in.Metadata, Tags: unique(in.Tags), DiskConfig: in.DiskConfig, AccessIPv4: in.AccessIPv4, AccessIPv6: canonical(in.AccessIPv6),
		ConfigDrive: wire.Truthy(in.ConfigDrive), UserData: in.UserData, AdminPass: in.AdminPass, ReservationID: "r-" + randomText(8), Created: now, Updated: now}
	if !r.AtLeast(2, 19) {
		v.Description = &v.Name // as it was before users could say
	}
	if v.DiskConfig == "" {
		v.DiskConfig = "MANUAL"
	}
	if v.AdminPass == "" {
		v.AdminPass = randomText(12)
	}
	v.Hostname = in.Hostname
	if v.Hostname == "" {
		v.Hostname = hostnameOf(v.Name, v.ID)
	}
	v.Hints = firstMap(in.Hints, in.HintsExt, b.Hints, b.HintsExt)
	if in.UserData != "" {
		if _, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(in.UserData), "")); err != nil {
			return nil, errs.Invalidf("User data needs to be valid base 64.")
		}
	}
	for _, step := range []func() error{
		func() error { return s.chooseDevices(ctx, c, v, b) },
		func() error { return s.chooseFlavor(c, v, wire.Text(in.FlavorRef)) },
		func() error { return s.checkLocals(v) },
		func() error { return mayHaveNoDisk(r, v) },
		func() error { return s.chooseKey(c, v, in.KeyName) },
		func() error { return s.chooseZone(r, v, in.AZ, in.Host, in.Node) },
		func() error { return s.chooseHints(c, v) },
		func() error { return s.chooseGroups(ctx, v, b) },
		func() error { return s.chooseNetworks(ctx, c, v, in.Networks) },
		func() error { return s.limitMetadata(v) },
	} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	return v, nil
}

// mayHaveNoDisk refuses flavors without a disk, whose servers would take as much as
// their image says (os_compute_api:servers:create:zero_disk_flavor).
func mayHaveNoDisk(r *rest.Request, v *Server) error {
	if v.Flavor.Disk == 0 && !r.Allows("os_compute_api:servers:create:zero_disk_flavor", r.Own()) {
		return errs.Forbiddenf("Only volume-backed servers are allowed for flavors with zero disk.")
	}
	return nil
}

// commit writes the servers and their sagas in one transaction, if the quota allows at least least of them.
func (s *Service) commit(ctx context.Context, requestID string, c *policy.Credentials, servers []*Server, least int) error {
	return s.ledger.Do(ctx, func(tx *store.Tx) error {
		n, err := s.fitQuota(tx, servers, least)
		if err != nil {
			return err
		}
		for _, v := range servers[:n] {
			if err := s.servers.TxCreate(tx, v); err != nil {
				return err
			}
			if err := s.begin(tx, requestID, c, sagaCreate, "create", v, nil); err != nil {
				return err
			}
		}
		return nil
	})
}

// canonical is the shortest form of an address; what is none stays as it is.
func canonical(text string) string {
	if a, err := netip.ParseAddr(text); err == nil {
		return a.String()
	}
	return text
}

// severalOf refuses what only one server can have.
func severalOf(v *Server, hostname string) error {
	if hostname != "" {
		return errs.Invalidf("Unable to allocate a single hostname to multiple instances")
	}
	for _, n := range v.NICs {
		if !n.Ours {
			return errs.Invalidf("Unable to launch multiple instances with a single configured port ID. Please launch your instance one by one with different ports.")
		}
		if n.FixedIP != "" {
			return errs.Invalidf("Failed to launch instances: max_count cannot be greater than 1 if an fixed_ip is specified.")
		}
	}
	for _, d := range v.Devices {
		if d.VolumeID != "" && d.New == nil {
			return errs.Invalidf("Cannot attach one or more volumes to multiple instances")
		}
	}
	return nil
}

// copies makes the records of a multi-create; each has ports of its own.
func copies(first *Server, lo, hi int) []*Server {
	out := []*Server{first}
	base := *first
	for i := 1; i < hi; i++ {
		v := base
		v.ID, v.LaunchIndex = uuid.NewString(), i
		v.NICs = append([]NIC(nil), base.NICs...)
		for j := range v.NICs {
			if v.NICs[j].Ours {
				v.NICs[j].PortID = uuid.NewString()
			}
		}
		v.Devices = ownDevices(base.Devices)
		out = append(out, &v)
	}
	if hi > 1 {
		for i, v := range out {
			v.Name = fmt.Sprintf("%s-%d", base.Name, i+1)
			v.Hostname = fmt.Sprintf("%s-%d", hostnameOf(base.Name, v.ID), i+1)
		}
	}
	return out
}

// ownDevices are the same devices for another server: volumes of its own.
func ownDevices(list []Device) []Device {
	out := append([]Device(nil), list...)
	for i := range out {
		d := &out[i]
		if d.ID = uuid.NewString(); d.New != nil {
			fresh := *d.New
			fresh.ID = uuid.NewString()
			d.VolumeID, d.New = fresh.ID, &fresh
		}
	}
	return out
}

func counts(lo, hi any) (int, int, error) {
	read := func(v any, otherwise int) int {
		if v == nil {
			return otherwise
		}
		n, err := strconv.Atoi(strings.TrimSuffix(fmt.Sprint(v), ".0"))
		if err != nil {
			return 0
		}
		return n
	}
	a := read(lo, 1)
	b := read(hi, a)
	if a < 1 || b < 1 {
		return 0, 0, errs.Invalidf("min_count and max_count must be at least 1")
	}
	if a > b {
		return 0, 0, errs.Invalidf("min_count must be <= max_count")
	}
	return a, b, nil
}

var (
	toDash      = regexp.MustCompile(`[ _.]`)
	notHostname = regexp.MustCompile(`[^a-z0-9-]+`)
)

// hostnameOf makes a host name of a display name as nova/utils.py sanitize_hostname
// does: at most 63 characters, dots and blanks become dashes.
func hostnameOf(name, id string) string {
	if runes := []rune(name); len(runes) > 63 {
		name = string(runes[:63])
	}
	h := notHostname.ReplaceAllString(toDash.ReplaceAllString(strings.ToLower(name), "-"), "")
	if h = strings.Trim(h, ".-"); h == "" {
		return "Server-" + id
	}
	return h
}

const letters = "abcdefghijkmnopqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789"

// randomText is n letters and digits that are not mistaken for each other.
func randomText(n int) string {
	raw := make([]byte, n)
	if _, err := rand.Read(raw); err != nil {
		panic(err) // crypto/rand does not fail on Linux
	}
	for i := range raw {
		raw[i] = letters[int(raw[i])%len(letters)]
	}
	return string(raw)
}

func firstMap(ms ...map[string]any) map[string]any {
	for _, m := range ms {
		if len(m) > 0 {
			return m
		}
	}
	return nil
}

func unique(list []string) []string {
	var out []string
	seen := map[string]bool{}
	for _, x := range list {
		if !seen[x] {
			seen[x] = true
			out = append(out, x)
		}
	}
	return out
}
