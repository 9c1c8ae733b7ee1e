package compute

import (
	"strings"

	"github.com/strata-cloud/strata/internal/compute/wire"
	"github.com/strata-cloud/strata/internal/rest"
)

// The request schemas follow nova/api/openstack/compute/schemas: unknown fields
// are refused, and each microversion adds the fields that it introduced.
const (
	descSchema     = `{"type":["string","null"],"maxLength":255}`
	hostnameSchema = `{"type":"string","minLength":2,"maxLength":63,"pattern":"^[a-zA-Z0-9]+[a-zA-Z0-9-]*[a-zA-Z0-9]+$"}`
	fqdnSchema     = `{"type":"string","minLength":1,"maxLength":255,"pattern":"^[a-zA-Z0-9-._]*$"}`
	hintSchema     = `{"anyOf":[` + uuidSchema + `,{"type":"array","items":` + uuidSchema + `}]}`
	hintsSchema    = `{"type":"object","properties":{"group":` + uuidSchema + `,"different_host":` + hintSchema + `,"same_host":` + hintSchema + `}}`
	uuidSchema     = `{"type":"string","pattern":"^[0-9a-fA-F]{8}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{12}$"}`
	metadataSchema = wire.Metadata
	tagSchema      = `{"type":"string","minLength":1,"maxLength":60,"pattern":"^[^,/]*$"}`
	tagsSchema     = `{"type":"array","maxItems":50,"items":` + tagSchema + `}`
	countSchema    = `{"type":["integer","string"],"pattern":"^[0-9]+$","minimum":1,"minLength":1}`
	ipv4Schema     = `{"anyOf":[{"type":"string","format":"ipv4"},{"type":"string","maxLength":0}]}`
	ipv6Schema     = `{"anyOf":[{"type":"string","format":"ipv6"},{"type":"string","maxLength":0}]}`
	networkItem    = `{"type":"object","properties":{"fixed_ip":{"type":"string","anyOf":[{"format":"ipv4"},{"format":"ipv6"}]},"port":{"anyOf":[` + uuidSchema + `,{"type":"null"}]},"uuid":` + uuidSchema + `TAG},"additionalProperties":false}`
)

// createFields are the properties of "server" in a create, with the version that brought each.
var createFields = []struct {
	since, until rest.Version
	text         string
}{
	{rest.V(2, 1), rest.Version{}, `"name":` + wire.Name + `,"imageRef":{"type":"string","maxLength":255},"flavorRef":{"type":["string","integer"],"minLength":1},"adminPass":{"type":"string","maxLength":255},
	  "metadata":` + metadataSchema + `,"OS-DCF:diskConfig":{"enum":["AUTO","MANUAL"]},"accessIPv4":` + ipv4Schema + `,"accessIPv6":` + ipv6Schema + `,"availability_zone":{"type":"string","minLength":1,"maxLength":255},
	  "config_drive":{"anyOf":[` + wire.Bool + `,{"type":"null"},{"type":"string","maxLength":0}]},"key_name":{"type":"string","minLength":1,"maxLength":255},"min_count":` + countSchema + `,"max_count":` + countSchema + `,"return_reservation_id":` + wire.Bool + `,
	  "security_groups":{"type":"array","items":{"type":"object","properties":{"name":{"type":"string","minLength":1,"maxLength":255}},"additionalProperties":false}},"user_data":{"type":"string","maxLength":65535},
	  "block_device_mapping":{"type":"array","items":` + legacyItem + `},"os:scheduler_hints":` + hintsSchema + `,"OS-SCH-HNT:scheduler_hints":` + hintsSchema},
	{rest.V(2, 19), rest.Version{}, `"description":` + descSchema},
	{rest.V(2, 52), rest.Version{}, `"tags":` + tagsSchema},
	{rest.V(2, 63), rest.Version{}, `"trusted_image_certificates":{"type":"null"}`},
	{rest.V(2, 74), rest.Version{}, `"host":{"type":"string","minLength":1,"maxLength":255},"hypervisor_hostname":{"type":"string","minLength":1,"maxLength":255}`},
	{rest.V(2, 90), rest.V(2, 93), `"hostname":` + hostnameSchema},
}

// createSchemas is one schema per version at which the create body changed.
func createSchemas() []rest.Schema {
	cuts := []rest.Version{rest.V(2, 1), rest.V(2, 19), rest.V(2, 32), rest.V(2, 33), rest.V(2, 37), rest.V(2, 42), rest.V(2, 52), rest.V(2, 63), rest.V(2, 67), rest.V(2, 74), rest.V(2, 90), rest.V(2, 94)}
	var out []rest.Schema
	for i, lo := range cuts {
		hi := rest.Version{}
		if i+1 < len(cuts) {
			hi = rest.V(2, cuts[i+1].Minor-1)
		}
		var fields []string
		for _, f := range createFields {
			if lo.AtLeast(f.since) && (f.until == rest.Version{} || f.until.AtLeast(lo)) {
				fields = append(fields, f.text)
			}
		}
		// A device tag was allowed in 2.32 and, after a regression, from 2.42 on.
		tag := ""
		if lo == rest.V(2, 32) || lo.AtLeast(rest.V(2, 42)) {
			tag = `,"tag":{"type":"string","minLength":1,"maxLength":60,"pattern":"^[^,/]*$"}`
		}
		nets := `{"type":"array","items":` + strings.Replace(networkItem, "TAG", tag, 1) + `}`
		required := `"name","flavorRef"`
		if lo.AtLeast(rest.V(2, 37)) {
			nets = `{"oneOf":[` + nets + `,{"type":"string","enum":["none","auto"]}]}`
			required += `,"networks"`
		}
		fields = append(fields, `"networks":`+nets, `"block_device_mapping_v2":{"type":"array","items":`+deviceSchema(lo)+`}`)
		if lo.AtLeast(rest.V(2, 94)) {
			fields = append(fields, `"hostname":`+fqdnSchema)
		}
		hints := `"os:scheduler_hints":` + hintsSchema + `,"OS-SCH-HNT:scheduler_hints":` + hintsSchema
		out = append(out, rest.SchemaIn(lo, hi, `{"type":"object","properties":{"server":{"type":"object","properties":{`+strings.Join(fields, ",")+
			`},"required":[`+required+`],"additionalProperties":false},`+hints+`},"required":["server"],"additionalProperties":false}`))
	}
	return out
}

func updateSchemas() []rest.Schema {
	base := `"name":` + wire.Name + `,"OS-DCF:diskConfig":{"enum":["AUTO","MANUAL"]},"accessIPv4":` + ipv4Schema + `,"accessIPv6":` + ipv6Schema
	wrap := func(fields string) string {
		return `{"type":"object","properties":{"server":{"type":"object","properties":{` + fields + `},"additionalProperties":false}},"required":["server"],"additionalProperties":false}`
	}
	desc := base + `,"description":` + descSchema
	return []rest.Schema{
		rest.SchemaIn(rest.V(2, 1), rest.V(2, 18), wrap(base)),
		rest.SchemaIn(rest.V(2, 19), rest.V(2, 89), wrap(desc)),
		rest.SchemaIn(rest.V(2, 90), rest.V(2, 93), wrap(desc+`,"hostname":`+hostnameSchema)),
		rest.SchemaIn(rest.V(2, 94), rest.Version{}, wrap(desc+`,"hostname":`+fqdnSchema)),
	}
}

// listSchemas are the queries of the server lists: unknown keys are ignored up to 2.74.
func listSchemas() []rest.Schema {
	keys := strings.Fields("user_id project_id tenant_id launch_index image_ref image kernel_id ramdisk_id hostname key_name power_state vm_state task_state host node flavor" +
		" reservation_id launched_at terminated_at availability_zone name display_name description display_description locked_by uuid root_device_name config_drive access_ip_v4 access_ip_v6" +
		" auto_disk_config progress marker sort_dir all_tenants soft_deleted deleted status changes-since changes-before ip ip6 created_at tags tags-any not-tags not-tags-any locked")
	sorts := strings.Fields("access_ip_v4 access_ip_v6 auto_disk_config availability_zone config_drive created_at display_description display_name host hostname image_ref instance_type_id kernel_id" +
		" key_name launch_index launched_at locked_by node power_state progress project_id ramdisk_id root_device_name task_state terminated_at updated_at user_id uuid vm_state")
	build := func(lo, hi rest.Version, sorts []string, open string) rest.Schema {
		props := `"limit":{"type":"array","items":{"type":"string","pattern":"^[0-9]+$"}},"sort_key":{"type":"array","items":{"enum":["` + strings.Join(sorts, `","`) + `"]}}`
		for _, k := range keys {
			props += `,"` + k + `":{"type":"array"}`
		}
		return rest.SchemaIn(lo, hi, `{"type":"object","properties":{`+props+`},"additionalProperties":`+open+`}`)
	}
	locked := append([]string{"locked"}, sorts...)
	return []rest.Schema{build(rest.V(2, 1), rest.V(2, 74), append(locked, ignoredSorts...), "true"), build(rest.V(2, 75), rest.Version{}, locked, "false")}
}
