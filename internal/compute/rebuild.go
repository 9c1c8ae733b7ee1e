package compute

import (
	"context"
	"encoding/base64"
	"strings"

	"github.com/strata-cloud/strata/internal/compute/keypair"
	"github.com/strata-cloud/strata/internal/compute/wire"
	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/rest"
	"github.com/strata-cloud/strata/internal/store"
)

// changeable finds the server of the path, for a caller who may act on it, unless it is locked.
func (s *Service) changeable(r *rest.Request) (*Server, error) {
	v, err := s.authorized(r)
	if err != nil {
		return nil, err
	}
	return v, s.unlocked(r, v)
}

func (s *Service) rebuildRoutes() []rest.Route {
	return []rest.Route{{Method: "POST", Path: "/servers/{id}/action", Action: "rebuild", Policy: "os_compute_api:servers:rebuild", Body: rebuildSchemas(), Handle: s.rebuild}}
}

// rebuildSchemas follow nova/api/openstack/compute/schemas/servers.py.
func rebuildSchemas() []rest.Schema {
	fields := `"name":` + wire.Name + `,"imageRef":{"type":"string","maxLength":255},"adminPass":{"type":"string","maxLength":255},"metadata":` + metadataSchema + `,"preserve_ephemeral":` + wire.Bool +
		`,"OS-DCF:diskConfig":{"enum":["AUTO","MANUAL"]},"accessIPv4":` + ipv4Schema + `,"accessIPv6":` + ipv6Schema
	var out []rest.Schema
	add := func(lo, hi rest.Version, more string) {
		out = append(out, rest.SchemaIn(lo, hi, `{"type":"object","properties":{"rebuild":{"type":"object","properties":{`+fields+more+
			`},"required":["imageRef"],"additionalProperties":false}},"required":["rebuild"],"additionalProperties":false}`))
	}
	add(rest.V(2, 1), rest.V(2, 18), "")
	fields += `,"description":` + descSchema
	add(rest.V(2, 19), rest.V(2, 53), "")
	fields += `,"key_name":{"type":["string","null"],"minLength":1,"maxLength":255}`
	add(rest.V(2, 54), rest.V(2, 56), "")
	fields += `,"user_data":{"type":["string","null"],"maxLength":65535}`
	add(rest.V(2, 57), rest.V(2, 62), "")
	fields += `,"trusted_image_certificates":{"type":"null"}`
	add(rest.V(2, 63), rest.V(2, 89), "")
	add(rest.V(2, 90), rest.V(2, 93), `,"hostname":`+hostnameSchema)
	add(rest.V(2, 94), rest.Version{}, `,"hostname":`+fqdnSchema)
	return out
}

type rebuildBody struct {
	Rebuild struct {
		Image       string            `json:"imageRef"`
		Name        *string           `json:"name"`
		AdminPass   string            `json:"adminPass"`
		Metadata    map[string]string `json:"metadata"`
		DiskConfig  *string           `json:"OS-DCF:diskConfig"`
		AccessIPv4  *string           `json:"accessIPv4"`
		AccessIPv6  *string           `json:"accessIPv6"`
		Preserve    any               `json:"preserve_ephemeral"`
		Description optional[string]  `json:"description"`
		Key         optional[string]  `json:"key_name"`
		UserData    optional[string]  `json:"user_data"`
		Hostname    *string           `json:"hostname"`
	} `json:"rebuild"`
}

// rebuild gives the server new disks from an image; its id, addresses and flavor stay.
func (s *Service) rebuild(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	v, err := s.changeable(r)
	if err != nil {
		return nil, err
	}
	var b rebuildBody
	if err := r.Decode(&b); err != nil {
		return nil, err
	}
	next, err := s.rebuildDraft(ctx, r, v, &b)
	if err != nil {
		return nil, err
	}
	out, err := s.beginRemake(ctx, r, v.ID, "rebuild", wasStopped, func(_ *store.Tx, v *Server) error {
		v.Image, v.Key, v.Metadata, v.UserData, v.AdminPass = next.Image, next.Key, next.Metadata, next.UserData, next.AdminPass
		in := &b.Rebuild
		if in.Name != nil {
			v.Name = strings.TrimSpace(*in.Name)
		}
		set(&v.DiskConfig, in.DiskConfig)
		set(&v.AccessIPv4, in.AccessIPv4)
		set(&v.Hostname, in.Hostname)
		if in.AccessIPv6 != nil {
			v.AccessIPv6 = canonical(*in.AccessIPv6)
		}
		if in.Description.Set {
			v.Description = in.Description.Value
		}
		v.DiskSet, v.Shelf = v.DiskSet+1, nil
		return nil
	})
	if err != nil {
		return nil, err
	}
	view := s.updatedView(r, out)
	delete(view, "OS-EXT-SRV-ATTR:user_data") // which goes by its plain name here
	view["adminPass"] = next.AdminPass
	if r.AtLeast(2, 54) {
		view["key_name"] = wire.OrNull(out.keyName())
	}
	if r.AtLeast(2, 57) {
		view["user_data"] = wire.OrNull(out.UserData)
	}
	return rest.JSON(202, map[string]any{"server": view}).With("Location", r.Base()+"/compute/v2.1/servers/"+v.ID), nil
}

// rebuildDraft checks what a rebuild names and gives a copy of the server that has it.
func (s *Service) rebuildDraft(ctx context.Context, r *rest.Request, v *Server, b *rebuildBody) (*Server, error) {
	next, in := *v, &b.Rebuild
	if err := s.chooseImage(ctx, r.Creds, &next, in.Image); err != nil {
		return nil, err
	}
	if root := v.rootVolume(); root != nil {
		if next.Image.ID != root.Image {
			return nil, errs.Invalidf("Unable to rebuild with a different image for a volume-backed server.")
		}
		next.Image = v.Image // the volume stays as it is
	}
	if err := next.fits(&next.Flavor); err != nil {
		return nil, err
	}
	if wire.Truthy(in.Preserve) {
		return nil, errs.Invalidf("The current driver does not support preserving ephemeral partitions.")
	}
	if next.AdminPass = in.AdminPass; next.AdminPass == "" {
		next.AdminPass = randomText(12)
	}
	if in.Metadata != nil {
		next.Metadata = in.Metadata
	}
	if in.UserData.Set {
		next.UserData = ""
		set(&next.UserData, in.UserData.Value)
		if _, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(next.UserData), "")); err != nil {
			return nil, errs.Invalidf("User data needs to be valid base 64.")
		}
	}
	if in.Key.Set {
		var k *keypair.Key
		if in.Key.Value != nil {
			var err error
			if k, err = s.keys.Get(v.UserID, *in.Key.Value); err != nil {
				return nil, errs.Invalidf("Invalid key_name provided.")
			}
		}
		next.Key = k
	}
	return &next, s.limitMetadata(&next)
}

func rebuilt(v *Server) {
	t := wire.Now()
	v.Launched, v.AdminPass = &t, ""
}
