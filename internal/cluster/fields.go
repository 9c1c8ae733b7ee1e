package cluster

import (
	"encoding/json"
	"strconv"
	"strings"

	"github.com/strata-cloud/strata/internal/errs"
)

// Labels are what a user writes on something; values are text, numbers or booleans.
type Labels map[string]any

// TemplateFields are what a user says of a template, by their names on the wire.
type TemplateFields struct {
	Name                *string `json:"name"`
	COE                 string  `json:"coe"`
	ImageID             *string `json:"image_id"`
	FlavorID            *string `json:"flavor_id"`
	MasterFlavorID      *string `json:"master_flavor_id"`
	DNSNameserver       *string `json:"dns_nameserver"`
	KeypairID           *string `json:"keypair_id"`
	ExternalNetworkID   *string `json:"external_network_id"`
	FixedNetwork        *string `json:"fixed_network"`
	FixedSubnet         *string `json:"fixed_subnet"`
	NetworkDriver       *string `json:"network_driver"`
	VolumeDriver        *string `json:"volume_driver"`
	APIServerPort       *int    `json:"apiserver_port"`
	DockerVolumeSize    *int    `json:"docker_volume_size"`
	DockerStorageDriver *string `json:"docker_storage_driver"`
	ClusterDistro       *string `json:"cluster_distro"`
	HTTPProxy           *string `json:"http_proxy"`
	HTTPSProxy          *string `json:"https_proxy"`
	NoProxy             *string `json:"no_proxy"`
	RegistryEnabled     bool    `json:"registry_enabled"`
	InsecureRegistry    *string `json:"insecure_registry"`
	Labels              Labels  `json:"labels"`
	TLSDisabled         bool    `json:"tls_disabled"`
	Public              bool    `json:"public"`
	Hidden              bool    `json:"hidden"`
	ServerType          string  `json:"server_type"`
	MasterLB            bool    `json:"master_lb_enabled"`
	FloatingIP          bool    `json:"floating_ip_enabled"`
	Tags                *string `json:"tags"`
	Driver              *string `json:"driver"`
}

// ClusterFields are what a user says of a cluster. The counts of nodes are the groups'.
type ClusterFields struct {
	Name             string  `json:"name"`
	Keypair          *string `json:"keypair"`
	DockerVolumeSize *int    `json:"docker_volume_size"`
	Labels           Labels  `json:"labels"`
	MasterFlavorID   *string `json:"master_flavor_id"`
	FlavorID         *string `json:"flavor_id"`
	CreateTimeout    int     `json:"create_timeout"` // minutes; 0: none
	DiscoveryURL     *string `json:"discovery_url"`
	FixedNetwork     *string `json:"fixed_network"`
	FixedSubnet      *string `json:"fixed_subnet"`
	FloatingIP       bool    `json:"floating_ip_enabled"`
	MasterLB         bool    `json:"master_lb_enabled"`
}

// GroupFields are what a user says of a node group.
type GroupFields struct {
	Name             string  `json:"name"`
	Role             string  `json:"role"`
	NodeCount        int     `json:"node_count"`
	MinNodeCount     int     `json:"min_node_count"`
	MaxNodeCount     *int    `json:"max_node_count"`
	FlavorID         *string `json:"flavor_id"`
	ImageID          *string `json:"image_id"`
	Labels           Labels  `json:"labels"`
	DockerVolumeSize *int    `json:"docker_volume_size"`
}

// The kinds of fields in schemas. Numbers and booleans may be text, as upstream's types
// take them (wsme.types, oslo.utils bool_from_string).
const (
	textField    = `{"type":["string","null"],"minLength":1,"maxLength":255}`
	emptyable    = `{"type":["string","null"],"maxLength":255}`
	boolField    = `{"type":["boolean","string","integer","null"]}`
	countField   = `{"type":["integer","string","null"],"minimum":0,"pattern":"^[0-9]{1,9}$","maximum":999999999}`
	oneUpField   = `{"type":["integer","string","null"],"minimum":1,"pattern":"^0*[1-9][0-9]{0,8}$","maximum":999999999}`
	labelsField  = `{"type":["object","null"],"additionalProperties":{"type":["string","number","boolean"]}}`
	portField    = `{"type":["integer","string","null"],"minimum":1024,"maximum":65535,"pattern":"^[0-9]{4,5}$"}`
	clusterName  = `{"type":["string","null"],"minLength":1,"maxLength":242,"pattern":"^[a-zA-Z][a-zA-Z0-9_.-]*$"}`
	templateBody = `{"type":"object","additionalProperties":false,"required":["coe"],"properties":{` +
		`"name":` + textField + `,"coe":{"enum":["kubernetes"]},"image_id":` + textField + `,"flavor_id":` + textField + `,"master_flavor_id":` + textField +
		`,"dns_nameserver":` + textField + `,"keypair_id":` + textField + `,"external_network_id":` + textField + `,"fixed_network":` + textField + `,"fixed_subnet":` + textField +
		`,"network_driver":` + textField + `,"volume_driver":` + textField + `,"apiserver_port":` + portField + `,"docker_volume_size":` + oneUpField +
		`,"docker_storage_driver":` + textField + `,"cluster_distro":` + textField + `,"http_proxy":` + textField + `,"https_proxy":` + textField + `,"no_proxy":` + textField +
		`,"registry_enabled":` + boolField + `,"insecure_registry":` + textField + `,"labels":` + labelsField + `,"tls_disabled":` + boolField + `,"public":` + boolField +
		`,"hidden":` + boolField + `,"server_type":{"enum":["vm","bm"]},"master_lb_enabled":` + boolField + `,"floating_ip_enabled":` + boolField + `,"tags":` + emptyable + `,"driver":` + textField + `}}`
	clusterBody = `{"type":"object","additionalProperties":false,"required":["cluster_template_id"],"properties":{` +
		`"name":` + clusterName + `,"cluster_template_id":{"type":"string","minLength":1,"maxLength":255},"keypair":` + textField + `,"node_count":` + countField + `,"master_count":` + oneUpField +
		`,"docker_volume_size":` + oneUpField + `,"labels":` + labelsField + `,"merge_labels":` + boolField + `,"master_flavor_id":` + textField + `,"flavor_id":` + textField +
		`,"create_timeout":` + countField + `,"discovery_url":` + emptyable + `,"fixed_network":` + textField + `,"fixed_subnet":` + textField +
		`,"floating_ip_enabled":` + boolField + `,"master_lb_enabled":` + boolField + `}}`
	groupBody = `{"type":"object","additionalProperties":false,"required":["name"],"properties":{` +
		`"name":{"type":"string","minLength":1,"maxLength":255},"role":{"type":["string","null"],"minLength":1,"maxLength":255},"node_count":` + countField +
		`,"min_node_count":` + countField + `,"max_node_count":` + countField + `,"flavor_id":` + textField + `,"image_id":` + textField + `,"labels":` + labelsField +
		`,"merge_labels":` + boolField + `,"docker_volume_size":` + oneUpField + `}}`
	resizeBody = `{"type":"object","additionalProperties":false,"required":["node_count"],"properties":{"node_count":{"type":["integer","string"],"minimum":0,"pattern":"^[0-9]{1,9}$","maximum":999999999},` +
		`"nodes_to_remove":{"type":["array","null"],"items":{"type":"string"}},"nodegroup":` + textField + `}}`
	upgradeBody = `{"type":"object","additionalProperties":false,"required":["cluster_template"],"properties":{"cluster_template":{"type":"string","minLength":1,"maxLength":255},` +
		`"max_batch_size":` + oneUpField + `,"nodegroup":` + textField + `}}`
	certificateBody = `{"type":"object","additionalProperties":false,"required":["cluster_uuid","csr"],"properties":{"cluster_uuid":{"type":"string","minLength":1},` +
		`"csr":{"type":"string","minLength":1,"maxLength":65536},"ca_cert_type":{"type":["string","null"]}}}`
	quotaBody = `{"type":"object","additionalProperties":false,"properties":{"project_id":{"type":["string","null"],"minLength":1,"maxLength":255},` +
		`"resource":{"enum":["Cluster"]},"hard_limit":` + countField + `}}`
	patchBody = `{"type":"array","items":{"type":"object","required":["path","op"],"properties":{"path":{"type":"string","pattern":"^(/[\\w-]+)+$"},` +
		`"op":{"enum":["add","replace","remove"]},"value":{}},"additionalProperties":false}}`
)

// Fields that are not text.
var (
	boolNames  = []string{"registry_enabled", "tls_disabled", "public", "hidden", "master_lb_enabled", "floating_ip_enabled", "merge_labels"}
	countNames = []string{"apiserver_port", "docker_volume_size", "node_count", "master_count", "create_timeout", "min_node_count", "max_node_count", "hard_limit", "max_batch_size"}
)

// read decodes a document into a value, whose fields keep what they are where the
// document is silent or says null, and with text read as what the field is.
func read(raw []byte, to any) error {
	var doc map[string]any
	dec := json.NewDecoder(strings.NewReader(string(raw)))
	dec.UseNumber()
	if err := dec.Decode(&doc); err != nil {
		return errs.Invalidf("The request body is no JSON object.")
	}
	if err := typed(doc); err != nil {
		return err
	}
	out, err := json.Marshal(doc)
	if err != nil {
		return err
	}
	return json.Unmarshal(out, to)
}

// typed makes booleans and numbers of texts.
func typed(doc map[string]any) error {
	for _, name := range boolNames {
		v, err := boolOf(name, doc[name])
		if err != nil {
			return err
		}
		if doc[name] != nil {
			doc[name] = v
		}
	}
	for _, name := range countNames {
		if text, ok := doc[name].(string); ok {
			n, err := strconv.Atoi(text)
			if err != nil {
				return errs.Invalidf("Invalid input for field/attribute %s. Value: '%s'. Value should be an integer", name, text)
			}
			doc[name] = n
		}
	}
	return nil
}

func boolOf(name string, v any) (bool, error) {
	switch v := v.(type) {
	case nil:
		return false, nil
	case bool:
		return v, nil
	case json.Number:
		return boolOf(name, v.String())
	case string:
		switch strings.ToLower(strings.TrimSpace(v)) {
		case "1", "t", "true", "on", "y", "yes":
			return true, nil
		case "0", "f", "false", "off", "n", "no":
			return false, nil
		}
	}
	return false, errs.Invalidf("Unrecognized value '%v' for %s, acceptable values are: '0', '1', 'f', 'false', 'n', 'no', 'off', 'on', 't', 'true', 'y', 'yes'", v, name)
}

// document is a value as a JSON object.
func document(v any) map[string]any {
	raw, err := json.Marshal(v)
	if err != nil {
		panic("cluster: a record is no JSON: " + err.Error())
	}
	out := map[string]any{}
	dec := json.NewDecoder(strings.NewReader(string(raw)))
	dec.UseNumber()
	if err := dec.Decode(&out); err != nil {
		panic("cluster: a record is no object: " + err.Error())
	}
	return out
}
