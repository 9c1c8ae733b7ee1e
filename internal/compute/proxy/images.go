package proxy

import (
	"context"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/strata-cloud/strata/internal/compute/wire"
	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/rest"
)

// Images is what this API needs of the image service.
type Images interface {
	// List gives the images of a list without filters, newest first.
	List(ctx context.Context, r *rest.Request) ([]Image, error)
	Get(ctx context.Context, r *rest.Request, id string) (*Image, error)
	Delete(ctx context.Context, r *rest.Request, id string) error
	// SetProperties changes the properties; edit is given a copy of them.
	SetProperties(ctx context.Context, r *rest.Request, id string, edit func(map[string]string) error) (*Image, error)
}

// Image is what compute shows of an image.
type Image struct {
	ID, Name         string
	Status           string
	MinDisk, MinRAM  int
	Size             *int64
	Created, Updated time.Time
	Properties       map[string]string
}

// ImageProxy shows the image service's images.
type ImageProxy struct {
	Images Images
	// MaxMetadata is how many properties a project may give an image; -1: any number.
	MaxMetadata func(project string) int
}

// Routes are the proxy's rows of the compute API.
func (p *ImageProxy) Routes() []rest.Route {
	const at, rule = "/images", "os_compute_api:images"
	row := func(method, path string, h rest.Handler) rest.Route {
		return rest.Route{Method: method, Path: path, Policy: rule, Max: lastProxy, Handle: h}
	}
	meta := func(method, path string, body []rest.Schema, h rest.Handler) rest.Route {
		return rest.Route{Method: method, Path: at + "/{id}/metadata" + path, Policy: rule, Max: lastImageMeta, Body: body, Handle: h}
	}
	all, one := wire.Body("metadata", wire.Metadata), wire.Body("meta", wire.Metadata)
	return []rest.Route{
		row("GET", at, p.list(false)), row("GET", at+"/detail", p.list(true)),
		row("GET", at+"/{id}", p.show), row("DELETE", at+"/{id}", p.delete),
		meta("GET", "", nil, p.listMeta), meta("POST", "", all, p.writeMeta(false)), meta("PUT", "", all, p.writeMeta(true)),
		meta("GET", "/{key}", nil, p.showMeta), meta("PUT", "/{key}", one, p.setMeta), meta("DELETE", "/{key}", nil, p.dropMeta),
	}
}

func noImage(err error) error {
	if errs.Is(err, errs.NotFound) {
		return errs.NotFoundf("Image not found.")
	}
	return err
}

func (p *ImageProxy) show(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	v, err := p.Images.Get(ctx, r, r.Path("id"))
	if err != nil {
		return nil, noImage(err)
	}
	return rest.JSON(200, map[string]any{"image": v.detail(r)}), nil
}

func (p *ImageProxy) delete(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	return rest.Empty(204), noImage(p.Images.Delete(ctx, r, r.Path("id")))
}

func (p *ImageProxy) list(detail bool) rest.Handler {
	return func(ctx context.Context, r *rest.Request) (*rest.Response, error) {
		match, err := imageFilter(r.Query())
		if err != nil {
			return nil, err
		}
		page, err := rest.PageOf(r.Query(), 1000)
		if err != nil {
			return nil, err
		}
		page.Sorts = nil
		list, err := p.Images.List(ctx, r)
		if err != nil {
			return nil, err
		}
		found := []Image{}
		for _, v := range list {
			if match(v) {
				found = append(found, v)
			}
		}
		found, more, err := rest.Paginate(found, page, func(v Image) string { return v.ID }, func(Image, string) (string, bool) { return "", true })
		if err != nil {
			return nil, err
		}
		views := make([]any, len(found))
		for i, v := range found {
			if views[i] = v.basic(r); detail {
				views[i] = v.detail(r)
			}
		}
		body := map[string]any{"images": views}
		if more {
			path := "/compute/v2.1/images"
			if detail {
				path += "/detail"
			}
			body["images_links"] = []any{map[string]string{"rel": "next", "href": rest.NextLink(r.Base(), path, r.Query(), found[len(found)-1].ID)}}
		}
		return rest.JSON(200, body), nil
	}
}

// imageFilter reads the filters that upstream translates (nova/api/openstack/compute/images.py,
// _get_filters); what it does not know it ignores.
func imageFilter(q url.Values) (func(Image) bool, error) {
	var since time.Time
	checks := map[string]string{}
	for key, vals := range q {
		val := vals[len(vals)-1]
		switch key {
		case "name", "status", "minRam", "minDisk":
			checks[key] = val
		case "server":
			checks["property-instance_uuid"] = val[strings.LastIndexByte(val, '/')+1:]
		case "type":
			checks["property-image_type"] = val
		case "changes-since":
			var err error
			if since, err = parseTime(val); err != nil {
				return nil, errs.Invalidf("Invalid changes-since value: %s", val)
			}
		default:
			if strings.HasPrefix(key, "property-") {
				checks[key] = val
			}
		}
	}
	return func(v Image) bool {
		for key, want := range checks {
			if !v.has(key, want) {
				return false
			}
		}
		return !v.Updated.Before(since)
	}, nil
}

func parseTime(text string) (time.Time, error) {
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05"} {
		if t, err := time.Parse(layout, text); err == nil {
			return t, nil
		}
	}
	return time.Time{}, errs.Invalidf("%q is no time", text)
}

func (v *Image) has(key, want string) bool {
	switch key {
	case "name":
		return v.Name == want
	case "status":
		return v.Status == strings.ToLower(want)
	case "minRam":
		return strconv.Itoa(v.MinRAM) == want
	case "minDisk":
		return strconv.Itoa(v.MinDisk) == want
	}
	val, ok := v.Properties[strings.TrimPrefix(key, "property-")]
	return ok && val == want
}

func (v *Image) basic(r *rest.Request) map[string]any {
	links := []map[string]string{}
	links = append(links, wire.Links(r.Base(), "images", v.ID)...)
	links = append(links, map[string]string{"rel": "alternate", "type": "application/vnd.openstack.image", "href": r.Base() + "/image/v2/images/" + v.ID})
	return map[string]any{"id": v.ID, "name": wire.OrNull(v.Name), "links": links}
}

// detail follows nova/api/openstack/compute/views/images.py.
func (v *Image) detail(r *rest.Request) map[string]any {
	const stamp = "2006-01-02T15:04:05Z"
	view := v.basic(r)
	status, ok := map[string]string{"active": "ACTIVE", "queued": "SAVING", "saving": "SAVING", "deleted": "DELETED", "pending_delete": "DELETED", "killed": "ERROR"}[v.Status]
	if !ok {
		status = "UNKNOWN"
	}
	view["status"], view["progress"] = status, map[string]int{"queued": 25, "saving": 50, "active": 100}[v.Status]
	view["minRam"], view["minDisk"], view["metadata"] = v.MinRAM, v.MinDisk, v.metadata()
	view["created"], view["updated"] = v.Created.UTC().Format(stamp), v.Updated.UTC().Format(stamp)
	view["OS-EXT-IMG-SIZE:size"] = 0
	if v.Size != nil {
		view["OS-EXT-IMG-SIZE:size"] = *v.Size
	}
	if id := v.Properties["instance_uuid"]; id != "" {
		view["server"] = map[string]any{"id": id, "links": wire.Links(r.Base(), "servers", id)}
	}
	if auto, ok := v.Properties["auto_disk_config"]; ok {
		if view["OS-DCF:diskConfig"] = "MANUAL"; wire.Truthy(auto) {
			view["OS-DCF:diskConfig"] = "AUTO"
		}
	}
	return view
}

func (v *Image) metadata() map[string]string {
	if v.Properties == nil {
		return map[string]string{}
	}
	return v.Properties
}
