package system

import (
	"strings"
	"testing"
)

// TestBadRequests sends what no client of good will sends. Statuses are those of
// upstream's own handlers and schemas.
func TestBadRequests(t *testing.T) {
	w := newWorld(t)
	w.refused(t, w.user, []bad{
		{"no JSON", "compute", "POST", "servers", `{"server"`, 400, ""},
		{"another body", "compute", "POST", "servers", `{"image":{}}`, 400, ""},
		{"unknown field", "compute", "POST", "servers", server(`,"colour":"red"`), 400, "colour"},
		{"wrong type", "compute", "POST", "servers", server(`,"metadata":["a"]`), 400, "metadata"},
		{"no name", "compute", "POST", "servers", `{"server":{"imageRef":"$IMAGE","flavorRef":"42","networks":"none"}}`, 400, "name"},
		{"long name", "compute", "POST", "servers", strings.Replace(server(""), `"s"`, `"`+long+`"`, 1), 400, "name"},
		{"no image id", "compute", "POST", "servers", strings.Replace(server(""), "$IMAGE", "nonsense", 1), 400, "imageRef"},
		{"absent image", "compute", "POST", "servers", strings.Replace(server(""), "$IMAGE", absent, 1), 400, "Can not find requested image"},
		{"absent flavor", "compute", "POST", "servers", strings.Replace(server(""), `"42"`, `"nano"`, 1), 400, "Flavor nano could not be found"},
		{"absent key", "compute", "POST", "servers", server(`,"key_name":"nobody's"`), 400, "Invalid key_name"},
		{"absent group", "compute", "POST", "servers", server(`,"security_groups":[{"name":"nobody's"}]`), 400, "Security group"},
		{"absent network", "compute", "POST", "servers", on(`[{"uuid":"` + absent + `"}]`), 400, "could not be found"},
		{"network id is none", "compute", "POST", "servers", on(`[{"uuid":"n"}]`), 400, ""},
		{"absent port", "compute", "POST", "servers", on(`[{"port":"` + absent + `"}]`), 400, "could not be found"},
		{"user data not base 64", "compute", "POST", "servers", server(`,"user_data":"%%%"`), 400, ""},
		{"no servers", "compute", "POST", "servers", server(`,"min_count":0`), 400, "min_count"},
		{"fewer than least", "compute", "POST", "servers", server(`,"min_count":3,"max_count":2`), 400, "min_count must be <= max_count"},
		{"absent zone", "compute", "POST", "servers", server(`,"availability_zone":"mars"`), 400, "availability zone"},
		{"taken address", "compute", "POST", "servers", on(`[{"uuid":"$NETWORK","fixed_ip":"$ADDRESS"}]`), 400, "already in use"},
		{"one address for two", "compute", "POST", "servers", strings.Replace(on(`[{"uuid":"$NETWORK","fixed_ip":"10.66.0.99"}]`), `"s"`, `"s","min_count":2`, 1), 400, "max_count cannot be greater than 1"},
		{"server id is none", "compute", "GET", "servers/nonsense", "", 404, "could not be found"},
		{"absent server", "compute", "DELETE", "servers/" + absent, "", 404, "could not be found"},
		{"unknown action", "compute", "POST", "servers/" + absent + "/action", `{"explode":null}`, 400, "no such action"},
		{"flavor of a member", "compute", "POST", "flavors", `{"flavor":{"name":"f","vcpus":1,"ram":1,"disk":1}}`, 403, "Policy doesn't allow"},
		{"key with garbage", "compute", "POST", "os-keypairs", `{"keypair":{"name":"k","public_key":"garbage"}}`, 400, ""},
		{"key of the same name", "compute", "POST", "os-keypairs", `{"keypair":{"name":"own"}}`, 409, "already exists"},
		{"unknown server", "compute", "GET", "servers/nothing", "", 404, ""},

		{"no JSON", "network", "POST", "networks", `{`, 400, ""},
		{"another body", "network", "POST", "networks", `{"subnet":{}}`, 400, "Unable to find 'network' in request body"},
		{"unknown field", "network", "POST", "networks", `{"network":{"colour":"red"}}`, 400, "Unrecognized attribute(s) 'colour'"},
		{"wrong type", "network", "POST", "networks", `{"network":{"name":7}}`, 400, "Invalid input for name"},
		{"long name", "network", "POST", "networks", `{"network":{"name":"` + long + `"}}`, 400, "Invalid input for name"},
		{"network id is none", "network", "GET", "networks/nonsense", "", 404, "NetworkNotFound"},
		{"network id is none in a port", "network", "POST", "ports", `{"port":{"network_id":"nonsense"}}`, 400, "Invalid input for network_id"},
		{"absent network", "network", "POST", "ports", `{"port":{"network_id":"` + absent + `"}}`, 404, "NetworkNotFound"},
		{"taken address", "network", "POST", "ports", `{"port":{"network_id":"$NETWORK","fixed_ips":[{"ip_address":"$ADDRESS"}]}}`, 409, "IpAddressAlreadyAllocated"},
		{"address elsewhere", "network", "POST", "ports", `{"port":{"network_id":"$NETWORK","fixed_ips":[{"ip_address":"192.0.2.9"}]}}`, 400, "InvalidIpForNetwork"},
		{"taken MAC", "network", "POST", "ports", `{"port":{"network_id":"$NETWORK","mac_address":"$MAC"}}`, 409, "MacAddressInUse"},
		{"MAC garbage", "network", "POST", "ports", `{"port":{"network_id":"$NETWORK","mac_address":"garbage"}}`, 400, "Invalid input for mac_address"},
		{"overlapping subnet", "network", "POST", "subnets", `{"subnet":{"network_id":"$NETWORK","ip_version":4,"cidr":"10.66.0.0/25"}}`, 400, "overlaps"},
		{"CIDR garbage", "network", "POST", "subnets", `{"subnet":{"network_id":"$NETWORK","ip_version":4,"cidr":"garbage"}}`, 400, "Invalid input for cidr"},
		{"network with ports", "network", "DELETE", "networks/$NETWORK", "", 409, "NetworkInUse"},
		{"subnet with ports", "network", "DELETE", "subnets/$SUBNET", "", 409, "SubnetInUse"},
		{"router with interfaces", "network", "DELETE", "routers/$ROUTER", "", 409, "RouterInUse"},
		{"ports out of order", "network", "POST", "security-group-rules", `{"security_group_rule":{"security_group_id":"$GROUP","direction":"ingress","protocol":"tcp","port_range_min":9,"port_range_max":8}}`, 400, "SecurityGroupInvalidPortRange"},
		{"unknown protocol", "network", "POST", "security-group-rules", `{"security_group_rule":{"security_group_id":"$GROUP","direction":"ingress","protocol":"carrier-pigeon"}}`, 400, "SecurityGroupRuleInvalidProtocol"},
		{"floating IP of a private network", "network", "POST", "floatingips", `{"floatingip":{"floating_network_id":"$NETWORK"}}`, 400, "is not a valid external network"},
		{"port not behind a router", "network", "POST", "floatingips", `{"floatingip":{"floating_network_id":"$PUBLIC","port_id":"` + absent + `"}}`, 404, "PortNotFound"},
		{"external network of a member", "network", "POST", "networks", `{"network":{"router:external":true}}`, 403, ""},
		{"quota of a member", "network", "PUT", "quotas/$PROJECT", `{"quota":{"port":9}}`, 403, ""},

		{"no JSON", "image", "POST", "images", `{`, 400, ""},
		{"unknown format", "image", "POST", "images", `{"name":"i","disk_format":"floppy"}`, 400, "floppy"},
		{"wrong type", "image", "POST", "images", `{"name":7}`, 400, ""},
		{"long name", "image", "POST", "images", `{"name":"` + long + `"}`, 400, "name"},
		{"bad id", "image", "POST", "images", `{"id":"nonsense"}`, 400, ""},
		{"read-only field", "image", "POST", "images", `{"checksum":"0"}`, 403, "checksum"},
		{"image id is none", "image", "GET", "images/nonsense", "", 404, ""},
		{"public image of a member", "image", "POST", "images", `{"visibility":"public"}`, 403, ""},

		{"no JSON", "identity", "POST", "auth/tokens", `{`, 400, ""},
		{"another body", "identity", "POST", "auth/tokens", `{"user":1}`, 400, "auth"},
		{"wrong password", "identity", "POST", "auth/tokens", `{"auth":{"identity":{"methods":["password"],"password":{"user":{"name":"author","domain":{"id":"default"},"password":"no"}}}}}`, 401, ""},
		{"project of a member", "identity", "POST", "projects", `{"project":{"name":"p"}}`, 403, "identity:create_project"},
	})
	w.refused(t, w.admin, []bad{
		{"wrong type", "identity", "POST", "projects", `{"project":{"name":7}}`, 400, "name"},
		{"long name", "identity", "POST", "projects", `{"project":{"name":"` + long + `"}}`, 400, "name"},
		{"same name", "identity", "POST", "projects", `{"project":{"name":"story"}}`, 409, "Duplicate"},
		{"absent user", "identity", "GET", "users/" + absent, "", 404, "Could not find user"},
		{"flavor without memory", "compute", "POST", "flavors", `{"flavor":{"name":"f","vcpus":1,"ram":0,"disk":1}}`, 400, "ram"},
		{"flavor of the same id", "compute", "POST", "flavors", `{"flavor":{"id":"42","name":"f","vcpus":1,"ram":1,"disk":1}}`, 409, "already exists"},
	})
}
