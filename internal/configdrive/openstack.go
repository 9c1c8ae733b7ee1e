package configdrive

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/strata-cloud/strata/internal/nodeapi"
)

const latest = "latest"

// Versions of the documents, with the first that has each (nova/api/metadata/base.py).
const (
	grizzly     = "2013-04-04" // random_seed, password
	havana      = "2013-10-17" // vendor_data.json
	liberty     = "2015-10-15" // network_data.json, project_id
	newtonOne   = "2016-06-30" // devices
	newtonTwo   = "2016-10-06" // vendor_data2.json
	victoria    = "2020-10-14" // dedicated_cpus
	seedBytes   = 512
	metaDataDoc = "meta_data.json"
	userDataDoc = "user_data"
	passwordDoc = "password" // over HTTP alone
)

// openstackVersions are in order; comparing them as strings compares their age.
func openstackVersions() []string {
	return []string{"2012-08-10", grizzly, havana, liberty, newtonOne, newtonTwo, "2017-02-22", "2018-08-27", victoria}
}

// openstackFiles lists what a version has, in upstream's order.
func openstackFiles(inst *nodeapi.Instance, version string) []string {
	files := []string{metaDataDoc}
	if inst.Guest.UserData != nil {
		files = append(files, userDataDoc)
	}
	if version >= grizzly {
		files = append(files, passwordDoc)
	}
	if version >= havana {
		files = append(files, "vendor_data.json")
	}
	if version >= liberty {
		files = append(files, "network_data.json")
	}
	if version >= newtonTwo {
		files = append(files, "vendor_data2.json")
	}
	return files
}

// openstackFile makes one file of a version.
func openstackFile(inst *nodeapi.Instance, version, name string, secrets bool) ([]byte, error) {
	switch name {
	case metaDataDoc:
		return metaData(inst, version, secrets)
	case userDataDoc:
		return inst.Guest.UserData, nil
	case passwordDoc:
		return []byte(inst.Guest.Password), nil
	case "network_data.json":
		return json.Marshal(networkData(inst))
	}
	return []byte("{}"), nil
}

// metaDataJSON is meta_data.json; fields that a version lacks are left out.
type metaDataJSON struct {
	UUID             string            `json:"uuid"`
	Meta             map[string]string `json:"meta,omitempty"`
	AdminPass        string            `json:"admin_pass,omitempty"`
	PublicKeys       map[string]string `json:"public_keys,omitempty"`
	Keys             []nodeKey         `json:"keys,omitempty"`
	Hostname         string            `json:"hostname"`
	Name             string            `json:"name"`
	LaunchIndex      int               `json:"launch_index"`
	AvailabilityZone string            `json:"availability_zone"`
	RandomSeed       string            `json:"random_seed,omitempty"`
	ProjectID        string            `json:"project_id,omitempty"`
	Devices          []device          `json:"devices,omitzero"`
	DedicatedCPUs    []int             `json:"dedicated_cpus,omitzero"`
}

type nodeKey struct {
	Name string `json:"name"`
	Type string `json:"type"`
	Data string `json:"data"`
}

// device is a tagged device; the guest finds a NIC by its MAC address, and a disk
// by its serial number.
type device struct {
	Type    string   `json:"type"`
	Bus     string   `json:"bus"`
	Address string   `json:"address"`
	MAC     string   `json:"mac,omitempty"`
	Serial  string   `json:"serial,omitempty"`
	Path    string   `json:"path,omitempty"`
	Tags    []string `json:"tags"`
}

func metaData(inst *nodeapi.Instance, version string, secrets bool) ([]byte, error) {
	g := &inst.Guest
	md := metaDataJSON{
		UUID: inst.ID, Meta: g.Metadata, Hostname: g.Hostname, Name: inst.Name,
		LaunchIndex: g.LaunchIndex, AvailabilityZone: g.AvailabilityZone,
	}
	if secrets {
		md.AdminPass = g.AdminPass
	}
	for _, k := range g.Keys {
		if md.PublicKeys == nil {
			md.PublicKeys = map[string]string{}
		}
		md.PublicKeys[k.Name] = k.PublicKey
		md.Keys = append(md.Keys, nodeKey{k.Name, k.Type, k.PublicKey})
	}
	if version >= grizzly {
		seed := make([]byte, seedBytes)
		if _, err := rand.Read(seed); err != nil {
			return nil, fmt.Errorf("making a seed for the guest: %w", err)
		}
		md.RandomSeed = base64.StdEncoding.EncodeToString(seed)
	}
	if version >= liberty {
		md.ProjectID = inst.ProjectID
	}
	if version >= newtonOne {
		md.Devices = taggedDevices(inst)
	}
	if version >= victoria {
		md.DedicatedCPUs = []int{}
	}
	return json.Marshal(md)
}

func taggedDevices(inst *nodeapi.Instance) []device {
	out := []device{}
	for _, n := range inst.NICs {
		if n.Tag != "" {
			out = append(out, device{Type: "nic", Bus: "none", Address: "none", MAC: n.MAC, Tags: []string{n.Tag}})
		}
	}
	for _, d := range inst.Disks {
		if d.Tag == "" {
			continue
		}
		serial := d.Serial
		if serial == "" && d.Volume != nil {
			serial = d.Volume.ID
		}
		out = append(out, device{Type: "disk", Bus: "none", Address: "none", Serial: serial, Path: d.Device, Tags: []string{d.Tag}})
	}
	return out
}

// hasVersion tells whether the version is one of upstream's, and resolves "latest".
func hasVersion(version string, all []string) (string, bool) {
	if version == latest {
		return all[len(all)-1], true
	}
	return version, slices.Contains(all, version)
}
