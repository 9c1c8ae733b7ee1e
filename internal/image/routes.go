package image

import "github.com/strata-cloud/strata/internal/rest"

// API is the image API's table.
func (s *Service) API() *rest.API {
	return &rest.API{Name: "image", Prefix: "/image/v2", Family: rest.ImageFaults(), StrictSlash: true, Discovery: discovery(),
		Routes: append(s.routes(), s.metadef.Routes()...)}
}

func (s *Service) routes() []rest.Route {
	return []rest.Route{
		{Method: "GET", Path: "/images", Policy: "get_images", Handle: s.listImages},
		{Method: "POST", Path: "/images", Policy: "add_image", Handle: s.createImage},
		{Method: "GET", Path: "/images/{id}", Policy: "get_image", Handle: s.showImage},
		{Method: "PATCH", Path: "/images/{id}", Policy: "modify_image", Handle: s.patchImage},
		{Method: "DELETE", Path: "/images/{id}", Policy: "delete_image", Handle: s.deleteImage},

		{Method: "PUT", Path: "/images/{id}/file", Policy: "upload_image", Raw: true, Handle: s.upload},
		{Method: "GET", Path: "/images/{id}/file", Policy: "download_image", Raw: true, Handle: s.download},
		{Method: "PUT", Path: "/images/{id}/stage", Policy: "modify_image", Raw: true, Handle: s.stage},
		{Method: "POST", Path: "/images/{id}/import", Policy: "modify_image", Handle: s.importImage},
		{Method: "GET", Path: "/info/import", Policy: "get_images", Handle: s.importInfo},

		{Method: "POST", Path: "/images/{id}/actions/deactivate", Policy: "deactivate", Handle: s.switchTo(Active, Deactivated, "deactivate")},
		{Method: "POST", Path: "/images/{id}/actions/reactivate", Policy: "reactivate", Handle: s.switchTo(Deactivated, Active, "reactivate")},
		{Method: "PUT", Path: "/images/{id}/tags/{tag}", Policy: "modify_image", Handle: s.addTag},
		{Method: "DELETE", Path: "/images/{id}/tags/{tag}", Policy: "modify_image", Handle: s.removeTag},

		{Method: "GET", Path: "/images/{id}/members", Policy: "get_members", Handle: s.listMembers},
		{Method: "POST", Path: "/images/{id}/members", Policy: "add_member", Handle: s.addMember},
		{Method: "GET", Path: "/images/{id}/members/{member}", Policy: "get_member", Handle: s.showMember},
		// The handler enforces modify_member, which no project passes for itself alone.
		{Method: "PUT", Path: "/images/{id}/members/{member}", Policy: "get_member", Handle: s.updateMember},
		{Method: "DELETE", Path: "/images/{id}/members/{member}", Policy: "delete_member", Handle: s.removeMember},

		{Method: "GET", Path: "/schemas/image", Policy: "get_images", Handle: document(imageSchema)},
		{Method: "GET", Path: "/schemas/images", Policy: "get_images", Handle: document(imagesSchema)},
		{Method: "GET", Path: "/schemas/member", Policy: "get_images", Handle: document(memberSchema)},
		{Method: "GET", Path: "/schemas/members", Policy: "get_images", Handle: document(membersSchema)},
	}
}
