package volume

import (
	"slices"

	"github.com/strata-cloud/strata/internal/rest"
	"github.com/strata-cloud/strata/internal/volume/wire"
)

// The range of microversions that this table is true for.
var (
	minVersion = rest.V(3, 0)
	maxVersion = rest.V(3, 70)
)

// API is the volume API's table.
func (s *Service) API() *rest.API {
	return &rest.API{Name: "block-storage", Prefix: "/volume/v3", Family: rest.VolumeFaults(), ProjectInPath: true, StrictSlash: true, Discovery: discovery(),
		Versions: &rest.Microversions{Type: "volume", Min: minVersion, Max: maxVersion},
		Routes:   slices.Concat(s.volumeRoutes(), s.actionRoutes(), s.manageRoutes(), s.moveRoutes(), s.attach.Routes(), s.snapshots.Routes(), s.backups.Routes(), s.transfers.Routes(), s.groups.Routes(), s.messages.Routes(), s.miscRoutes(), s.Types.Routes(), s.Quotas.Routes(), s.pools.Routes())}
}

const (
	nameFields = `"name":` + wire.Name + `,"description":` + wire.Name + `,"display_name":` + wire.Name + `,"display_description":` + wire.Name
	newFields  = nameFields + `,"volume_type":` + wire.Name + `,"metadata":` + wire.OptSpecs + `,"snapshot_id":` + wire.OptUUID + `,"source_volid":` + wire.OptUUID +
		`,"consistencygroup_id":` + wire.OptUUID + `,"size":` + wire.OptSize + `,"availability_zone":` + wire.Zone + `,"multiattach":` + wire.OptBool +
		`,"image_id":` + wire.Name + `,"imageRef":` + wire.Name
)

// createSchemas are the bodies of a create: unknown fields are ignored up to 3.52.
func createSchemas() []rest.Schema {
	body := func(lo, hi rest.Version, fields, open string) rest.Schema {
		return rest.SchemaIn(lo, hi, wire.Object(`"volume":`+wire.Object(fields, "", open)+`,"OS-SCH-HNT:scheduler_hints":`+wire.PlainObject, `"volume"`, "false"))
	}
	grouped := newFields + `,"group_id":` + wire.Name
	restored := grouped + `,"backup_id":` + wire.OptUUID
	return []rest.Schema{
		body(rest.V(3, 0), rest.V(3, 12), newFields, "true"), body(rest.V(3, 13), rest.V(3, 46), grouped, "true"),
		body(rest.V(3, 47), rest.V(3, 52), restored, "true"), body(rest.V(3, 53), rest.Version{}, restored, "false"),
	}
}

func updateSchemas() []rest.Schema {
	fields := nameFields + `,"metadata":` + wire.Specs
	return []rest.Schema{
		wire.BodyIn(rest.V(3, 0), rest.V(3, 52), "volume", wire.Object(fields, "", "false")),
		wire.BodyIn(rest.V(3, 53), rest.Version{}, "volume", `{"type":"object","properties":{`+fields+`},"additionalProperties":false,"minProperties":1}`),
	}
}

func (s *Service) volumeRoutes() []rest.Route {
	meta, item := wire.Body("metadata", wire.Specs), wire.Body("meta", wire.Specs)
	const one = "/volumes/{id}"
	return []rest.Route{
		{Method: "GET", Path: "/volumes", Policy: "volume:get_all", Handle: s.listVolumes(false)},
		{Method: "GET", Path: "/volumes/detail", Policy: "volume:get_all", Handle: s.listVolumes(true)},
		{Method: "GET", Path: "/volumes/summary", Policy: "volume:get_all", Min: rest.V(3, 12), Handle: s.summary},
		{Method: "POST", Path: "/volumes", Policy: "volume:create", Body: createSchemas(), Handle: s.createVolume},
		{Method: "GET", Path: one, Policy: "volume:get", Handle: s.showVolume},
		{Method: "PUT", Path: one, Policy: "volume:update", Body: updateSchemas(), Handle: s.updateVolume},
		{Method: "DELETE", Path: one, Policy: "volume:delete", Handle: s.deleteVolume},
		{Method: "GET", Path: one + "/metadata", Policy: "volume:get_volume_metadata", Handle: s.showMetadata},
		{Method: "POST", Path: one + "/metadata", Policy: "volume:create_volume_metadata", Body: meta, Handle: s.writeMetadata(false)},
		{Method: "PUT", Path: one + "/metadata", Policy: "volume:update_volume_metadata", Body: meta, Handle: s.writeMetadata(true)},
		{Method: "GET", Path: one + "/metadata/{key}", Policy: "volume:get_volume_metadata", Handle: s.showMetadataItem},
		{Method: "PUT", Path: one + "/metadata/{key}", Policy: "volume:update_volume_metadata", Body: item, Handle: s.writeMetadataItem},
		{Method: "DELETE", Path: one + "/metadata/{key}", Policy: "volume:delete_volume_metadata", Handle: s.deleteMetadataItem},
	}
}
