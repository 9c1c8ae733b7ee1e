package configdrive

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/strata-cloud/strata/internal/nodeapi"
)

// ec2Versions are the versions of the EC2 tree, in order.
func ec2Versions() []string {
	return []string{"1.0", "2007-01-19", "2007-03-01", "2007-08-29", "2007-10-10", "2007-12-15", "2008-02-01", "2008-09-01", "2009-04-04"}
}

// tree is a directory of the EC2 tree: its values are strings or trees.
type tree map[string]any

// nameKey holds what a listing shows instead of a directory's name.
const nameKey = "_name"

// ec2Tree is the EC2 meta-data of a version.
func ec2Tree(inst *nodeapi.Instance, version string) tree {
	g := &inst.Guest
	fixed, floating := "", ""
	for _, n := range g.Network {
		for _, f := range n.FixedIPs {
			if fixed == "" && f.Addr.Is4() {
				fixed = f.Addr.String()
			}
		}
		if floating == "" {
			floating = n.FloatingIP
		}
	}
	hostname, _, _ := strings.Cut(g.Hostname, ".")
	root := "/dev/vda"
	t := tree{
		"ami-id": ec2ID("ami", g.ImageID), "ami-launch-index": strconv.Itoa(g.LaunchIndex), "ami-manifest-path": "",
		"instance-id": ec2ID("i", inst.ID), "hostname": g.Hostname, "local-ipv4": fixed, "reservation-id": g.ReservationID,
		"security-groups": strings.Join(g.SecurityGroups, "\n"),
	}
	if hostname == "" {
		t["hostname"] = inst.Name
	}
	if version >= "2007-01-19" {
		t["local-hostname"], t["public-hostname"], t["public-ipv4"] = t["hostname"], t["hostname"], floating
	}
	if version >= "2007-03-01" {
		t["product-codes"] = ""
	}
	if version >= "2007-08-29" {
		t["instance-type"] = g.InstanceType
	}
	if version >= "2007-10-10" {
		t["ancestor-ami-ids"] = ""
	}
	if version >= "2007-12-15" {
		t["block-device-mapping"] = tree{"ami": "vda", "root": root}
		if inst.Machine.KernelID != "" {
			t["kernel-id"] = ec2ID("aki", inst.Machine.KernelID)
		}
		if inst.Machine.RamdiskID != "" {
			t["ramdisk-id"] = ec2ID("ari", inst.Machine.RamdiskID)
		}
	}
	if version >= "2008-02-01" {
		t["placement"] = tree{"availability-zone": g.AvailabilityZone}
	}
	if version >= "2008-09-01" {
		t["instance-action"] = "none"
	}
	if len(g.Keys) > 0 {
		keys := tree{}
		for i, k := range g.Keys {
			n := strconv.Itoa(i)
			keys[n] = tree{nameKey: n + "=" + k.Name, "openssh-key": k.PublicKey}
		}
		t["public-keys"] = keys
	}
	return t
}

// ec2ID shortens an id to EC2's form; the same id always gives the same.
func ec2ID(kind, id string) string {
	hex := strings.ReplaceAll(id, "-", "")
	return fmt.Sprintf("%s-%s", kind, hex[:min(8, len(hex))])
}

// listing prints a directory as upstream does: a slash after directories, or
// "0=name" for keys.
func (t tree) listing() string {
	var lines []string
	for _, k := range t.keys() {
		sub, isDir := t[k].(tree)
		switch name := sub[nameKey]; {
		case isDir && name != nil:
			lines = append(lines, name.(string))
		case isDir:
			lines = append(lines, k+"/")
		default:
			lines = append(lines, k)
		}
	}
	return strings.Join(lines, "\n")
}

func (t tree) keys() []string {
	var keys []string
	for k := range t {
		if k != nameKey {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	return keys
}

// plain is the tree without what only listings need.
func (t tree) plain() tree {
	out := tree{}
	for _, k := range t.keys() {
		if sub, ok := t[k].(tree); ok {
			out[k] = sub.plain()
		} else {
			out[k] = t[k]
		}
	}
	return out
}

// find follows a path and returns the text that is there.
func (t tree) find(path []string) (string, bool) {
	var at any = t
	for _, p := range path {
		dir, ok := at.(tree)
		if !ok || p == nameKey {
			return "", false
		}
		if at, ok = dir[p]; !ok {
			return "", false
		}
	}
	if dir, ok := at.(tree); ok {
		return dir.listing(), true
	}
	return at.(string), true
}
