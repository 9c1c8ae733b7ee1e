package image

import "github.com/strata-cloud/strata/internal/rest"

// API is the image API's table.
func (s *Service) API() *rest.API {
	return &rest.API{Name: "image", Prefix: "/image/v2", Family: rest.ImageFaults(), Discovery: discovery(), Routes: []rest.Route{
		{Method: "GET", Path: "/images", Policy: "get_images", Handle: s.listImages},
		{Method: "POST", Path: "/images", Policy: "add_image", Handle: s.createImage},
		{Method: "GET", Path: "/images/{id}", Policy: "get_image", Handle: s.showImage},
		{Method: "PATCH", Path: "/images/{id}", Policy: "modify_image", Handle: s.patchImage},
		{Method: "DELETE", Path: "/images/{id}", Policy: "delete_image", Handle: s.deleteImage},

		{Method: "PUT", Path: "/images/{id}/file", Policy: "upload_image", Raw: true, Handle: s.upload},
		{Method: "GET", Path: "/images/{id}/file", Policy: "download_image", Raw: true, Handle: s.download},
	}}
}
