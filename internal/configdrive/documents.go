package configdrive

import (
	"encoding/json"
	"net/http"
	"path"
	"strings"

	"github.com/strata-cloud/strata/internal/nodeapi"
)

// Documents are the files of the instance's config drive, by path. They have
// its admin password: they are for the guest alone.
func Documents(inst *nodeapi.Instance) (map[string][]byte, error) {
	docs := map[string][]byte{}
	for _, v := range append(openstackVersions(), latest) {
		version, _ := hasVersion(v, openstackVersions())
		for _, name := range openstackFiles(inst, version) {
			if name == passwordDoc {
				continue // what a guest posted is not for a disk
			}
			data, err := openstackFile(inst, version, name, true)
			if err != nil {
				return nil, err
			}
			docs["openstack/"+v+"/"+name] = data
		}
	}
	// Of EC2's versions only those that cloud-init asks for, as upstream's
	// config_drive_skip_versions has it by default.
	for _, v := range []string{"2009-04-04", latest} {
		version, _ := hasVersion(v, ec2Versions())
		data, err := json.Marshal(ec2Tree(inst, version).plain())
		if err != nil {
			return nil, err
		}
		docs["ec2/"+v+"/meta-data.json"] = data
		if inst.Guest.UserData != nil {
			docs["ec2/"+v+"/user-data"] = inst.Guest.UserData
		}
	}
	return docs, nil
}

// Serve answers a guest's request to the metadata service. keep is told the
// password that a guest posts.
func Serve(w http.ResponseWriter, r *http.Request, inst *nodeapi.Instance, keep func(password string) error) {
	if r.Method == http.MethodPost && isPassword(inst, r.URL.Path) {
		takePassword(w, r, inst, keep)
		return
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "of the metadata service only the password can be written", http.StatusMethodNotAllowed)
		return
	}
	body, kind, ok := lookup(inst, r.URL.Path)
	if !ok {
		http.Error(w, "404 Not Found\n\nThe resource could not be found.", http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", kind)
	// The body may be an error of the client alone, which is gone then.
	_, _ = w.Write(body)
}

const (
	textPlain = "text/plain; charset=UTF-8"
	jsonType  = "application/json"
)

// lookup finds what is at a path: everything that is not below /openstack is
// EC2's, with or without /ec2 in front.
func lookup(inst *nodeapi.Instance, p string) (body []byte, kind string, ok bool) {
	parts := split(p)
	if len(parts) > 0 && parts[0] == "openstack" {
		return lookupOpenStack(inst, parts[1:])
	}
	if len(parts) > 0 && parts[0] == "ec2" {
		parts = parts[1:]
	}
	text, ok := lookupEC2(inst, parts)
	return []byte(text), textPlain, ok
}

func split(p string) []string {
	return strings.FieldsFunc(path.Clean("/"+p), func(r rune) bool { return r == '/' })
}

func lookupOpenStack(inst *nodeapi.Instance, parts []string) ([]byte, string, bool) {
	if len(parts) == 0 {
		return []byte(strings.Join(append(openstackVersions(), latest), "\n")), textPlain, true
	}
	version, ok := hasVersion(parts[0], openstackVersions())
	if !ok || len(parts) > 2 {
		return nil, "", false
	}
	files := openstackFiles(inst, version)
	if len(parts) == 1 {
		return []byte(strings.Join(files, "\n")), textPlain, true
	}
	for _, name := range files {
		if name != parts[1] {
			continue
		}
		data, err := openstackFile(inst, version, name, false)
		switch name {
		case userDataDoc:
			return data, "application/octet-stream", err == nil
		case passwordDoc:
			return data, textPlain, err == nil
		}
		return data, jsonType, err == nil
	}
	return nil, "", false
}

func lookupEC2(inst *nodeapi.Instance, parts []string) (string, bool) {
	if len(parts) == 0 {
		return strings.Join(append(ec2Versions(), latest), "\n"), true
	}
	version, ok := hasVersion(parts[0], ec2Versions())
	if !ok {
		return "", false
	}
	top := tree{"meta-data": ec2Tree(inst, version)}
	if inst.Guest.UserData != nil {
		top["user-data"] = string(inst.Guest.UserData)
	}
	return top.find(parts[1:])
}
