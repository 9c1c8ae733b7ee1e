package compute

import (
	"slices"
	"strings"

	"github.com/strata-cloud/strata/internal/compute/wire"
	"github.com/strata-cloud/strata/internal/rest"
)

const timeFormat = "2006-01-02T15:04:05Z"

// status is what users read, made of vm_state and task_state (nova/api/openstack/common.py, _STATE_MAP).
func status(v *Server) string {
	switch v.TaskState {
	case Rebooting:
		if v.VMState == Active {
			return "REBOOT"
		}
	case RebootingHard:
		return "HARD_REBOOT"
	case Rebuilding:
		return "REBUILD"
	case Resizing, ResizeFinish:
		return "RESIZE"
	case Reverting:
		return "REVERT_RESIZE"
	case Migrating:
		if v.VMState == Active || v.VMState == Paused {
			return "MIGRATING"
		}
	}
	switch v.VMState {
	case Building:
		return "BUILD"
	case Stopped:
		return "SHUTOFF"
	case Rescued:
		return "RESCUE"
	case Resized:
		return "VERIFY_RESIZE"
	case Errored:
		return "ERROR"
	case SoftDeleted:
		return "SOFT_DELETED"
	}
	return strings.ToUpper(string(v.VMState))
}

// powerState is upstream's number (nova/compute/power_state.py).
func powerState(v *Server) int {
	switch v.VMState {
	case Resized:
		if v.Resize != nil && v.Resize.Stopped {
			return 4
		}
		return 1
	case Active, Rescued:
		if v.Halted {
			return 3
		}
		return 1
	case Paused:
		return 3
	case Stopped, Suspended, ShelvedOffloaded, SoftDeleted:
		return 4
	}
	return 0
}

func bookmark(base, kind, id string) []map[string]string { return wire.Links(base, kind, id)[1:] }

func (v *Server) keyName() string {
	if v.Key == nil {
		return ""
	}
	return v.Key.Name
}

// serverView is a server as shown or, with the few differences of listed, in a list.
func (s *Service) serverView(r *rest.Request, v *Server, listed bool) map[string]any {
	ports := s.Networks.Ports(v.ID)
	view := map[string]any{
		"id": v.ID, "name": v.Name, "status": status(v), "tenant_id": v.ProjectID, "user_id": v.UserID,
		"metadata": emptyMap(v.Metadata), "hostId": hostID(v), "flavor": flavorInServer(r, v), "image": imageView(r, v),
		"created": v.Created.Format(timeFormat), "updated": v.Updated.Format(timeFormat), "addresses": addresses(ports),
		"accessIPv4": v.AccessIPv4, "accessIPv6": v.AccessIPv6, "links": wire.Links(r.Base(), "servers", v.ID),
		"OS-DCF:diskConfig": v.DiskConfig, "OS-EXT-AZ:availability_zone": s.zoneOf(v), "config_drive": configDriveText(v), "key_name": wire.OrNull(v.keyName()),
		"OS-SRV-USG:launched_at": wire.Stamp(v.Launched), "OS-SRV-USG:terminated_at": wire.Stamp(v.DeletedAt),
		"OS-EXT-STS:task_state": wire.OrNull(string(v.TaskState)), "OS-EXT-STS:vm_state": string(v.VMState), "OS-EXT-STS:power_state": powerState(v),
		"os-extended-volumes:volumes_attached": attachedView(r, v),
	}
	if st := view["status"]; st == "ACTIVE" || st == "BUILD" {
		view["progress"] = 0
	}
	if v.Fault != nil && (v.VMState == Errored || v.VMState == Deleted) {
		view["fault"] = faultView(r, v)
	}
	if names := portGroupNames(v, ports); len(names) > 0 {
		view["security_groups"] = groupNames(names)
	}
	s.addVersioned(r, v, view)
	if r.AtLeast(2, 71) && !listed {
		view["server_groups"] = emptyList(s.liveGroup(v))
	}
	if r.Allows("os_compute_api:os-extended-server-attributes", target(v)) {
		addAdminAttributes(r, v, view)
	}
	return view
}

// updatedView is the answer to an update, which before 2.75 lacked what the
// extensions add to a server.
func (s *Service) updatedView(r *rest.Request, v *Server) map[string]any {
	view := s.serverView(r, v, false)
	if r.AtLeast(2, 75) {
		return view
	}
	for k := range view {
		if strings.HasPrefix(k, "OS-EXT-") || strings.HasPrefix(k, "OS-SRV-USG:") || slices.Contains([]string{"key_name", "config_drive", "host_status", "security_groups", "os-extended-volumes:volumes_attached"}, k) {
			delete(view, k)
		}
	}
	view["addresses"] = plainAddresses(s.Networks.Ports(v.ID))
	return view
}

// addVersioned adds what microversions brought.
func (s *Service) addVersioned(r *rest.Request, v *Server, view map[string]any) {
	if r.AtLeast(2, 9) {
		view["locked"] = v.Locked != ""
	}
	if r.AtLeast(2, 16) && r.Allows("os_compute_api:servers:show:host_status", target(v)) {
		view["host_status"] = s.pool.Status(v.Host)
	}
	if r.AtLeast(2, 19) {
		view["description"] = v.Description
	}
	if r.AtLeast(2, 26) {
		view["tags"] = emptyList(v.Tags)
	}
	if r.AtLeast(2, 63) {
		view["trusted_image_certificates"] = nil
	}
	if r.AtLeast(2, 73) {
		view["locked_reason"] = wire.OrNull(v.LockedReason)
	}
	if r.AtLeast(2, 96) {
		view["pinned_availability_zone"] = wire.OrNull(v.AZ)
	}
	if r.AtLeast(2, 90) {
		view["OS-EXT-SRV-ATTR:hostname"] = v.Hostname
	}
}

// liveGroup is the server's group while that exists.
func (s *Service) liveGroup(v *Server) []string {
	if _, err := s.groups.Get(v.GroupID); v.GroupID == "" || err != nil {
		return nil
	}
	return []string{v.GroupID}
}

func addAdminAttributes(r *rest.Request, v *Server, view map[string]any) {
	view["OS-EXT-SRV-ATTR:host"] = wire.OrNull(v.Host)
	view["OS-EXT-SRV-ATTR:hypervisor_hostname"] = wire.OrNull(v.Host)
	view["OS-EXT-SRV-ATTR:instance_name"] = "instance-" + v.ID[:8]
	if r.AtLeast(2, 3) {
		view["OS-EXT-SRV-ATTR:hostname"] = v.Hostname
		view["OS-EXT-SRV-ATTR:reservation_id"] = v.ReservationID
		view["OS-EXT-SRV-ATTR:launch_index"] = v.LaunchIndex
		view["OS-EXT-SRV-ATTR:kernel_id"] = v.Image.Properties["kernel_id"]
		view["OS-EXT-SRV-ATTR:ramdisk_id"] = v.Image.Properties["ramdisk_id"]
		view["OS-EXT-SRV-ATTR:root_device_name"] = v.rootName()
		view["OS-EXT-SRV-ATTR:user_data"] = wire.OrNull(v.UserData)
	}
}

func flavorInServer(r *rest.Request, v *Server) any {
	f := v.Flavor
	if !r.AtLeast(2, 47) {
		return map[string]any{"id": f.ID, "links": bookmark(r.Base(), "flavors", f.ID)}
	}
	return map[string]any{"original_name": f.Name, "vcpus": f.VCPUs, "ram": f.RAM, "disk": f.Disk, "ephemeral": f.Ephemeral, "swap": f.Swap,
		"extra_specs": emptyMap(f.ExtraSpecs)}
}

// imageView is empty text for a server that no image was named for.
func imageView(r *rest.Request, v *Server) any {
	if v.Image.ID == "" {
		return ""
	}
	view := map[string]any{"id": v.Image.ID, "links": bookmark(r.Base(), "images", v.Image.ID)}
	return view
}

func faultView(r *rest.Request, v *Server) map[string]any {
	view := map[string]any{"code": v.Fault.Code, "message": v.Fault.Message, "created": v.Fault.Created.Format(timeFormat)}
	if v.Fault.Details != "" && r.Creds.Admin() {
		view["details"] = v.Fault.Details
	}
	return view
}

// addresses groups a server's addresses by network name, floating ones after the fixed one that they map to.
func addresses(ports []Port) map[string][]map[string]any {
	out := map[string][]map[string]any{}
	for _, p := range ports {
		for _, ip := range p.FixedIPs {
			version := 6
			if ip.Addr.Is4() {
				version = 4
			}
			out[p.NetworkName] = append(out[p.NetworkName], map[string]any{"addr": ip.Addr.String(), "version": version,
				"OS-EXT-IPS:type": "fixed", "OS-EXT-IPS-MAC:mac_addr": p.MAC})
			if f, ok := p.Floating[ip.Addr]; ok {
				out[p.NetworkName] = append(out[p.NetworkName], map[string]any{"addr": f.String(), "version": version,
					"OS-EXT-IPS:type": "floating", "OS-EXT-IPS-MAC:mac_addr": p.MAC})
			}
		}
	}
	return out
}

func portGroupNames(v *Server, ports []Port) []string {
	if len(ports) == 0 {
		if v.VMState == Building {
			return v.GroupNames
		}
		return nil
	}
	var names []string
	for _, p := range ports {
		names = append(names, p.GroupNames...)
	}
	return unique(names)
}

func groupNames(names []string) []map[string]string {
	out := make([]map[string]string, len(names))
	for i, n := range names {
		out[i] = map[string]string{"name": n}
	}
	return out
}

// hostID names the host to the project without telling which it is.
func hostID(v *Server) string {
	if v.Host == "" {
		return ""
	}
	return digest(v.ProjectID + v.Host)
}

// zoneOf is the zone of the server's host, or the one asked for while it has none.
func (s *Service) zoneOf(v *Server) string {
	if v.Host == "" {
		return v.AZ
	}
	return s.pool.Zone(v.Host)
}

func configDriveText(v *Server) string {
	if v.ConfigDrive {
		return "True"
	}
	return ""
}

func emptyMap(m map[string]string) map[string]string {
	if m == nil {
		return map[string]string{}
	}
	return m
}

func emptyList(l []string) []string {
	if l == nil {
		return []string{}
	}
	return l
}
