package image

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"

	"github.com/strata-cloud/strata/internal/errs"
)

// What a user may not write (glance/api/v2/images.py, RequestDeserializer). The
// link fields are views and no attributes.
var (
	linkFields     = set("direct_url", "self", "file", "schema", "stores")
	readOnlyFields = set("created_at", "updated_at", "status", "checksum", "size", "virtual_size", "id", "os_hash_algo", "os_hash_value")
	reservedFields = set("location", "deleted", "deleted_at", "locations")
	baseFields     = set("name", "visibility", "owner", "protected", "os_hidden", "disk_format", "container_format", "min_disk", "min_ram", "tags")

	diskFormats      = []string{"ami", "ari", "aki", "vhd", "vhdx", "vmdk", "raw", "qcow2", "vdi", "iso", "ploop"}
	containerFormats = []string{"ami", "ari", "aki", "bare", "ovf", "ova", "docker", "compressed"}
	visibilities     = []string{Community, Public, Private, Shared}
)

// The limits on one image: upstream's image_property_quota, image_tag_quota and image_member_quota.
const (
	maxProperties = 128
	maxTags       = 128
	maxMembers    = 128
	maxName       = 255
)

func set(names ...string) map[string]bool {
	out := map[string]bool{}
	for _, n := range names {
		out[n] = true
	}
	return out
}

func badValue(key string, raw json.RawMessage, why string) error {
	if len(raw) > 200 {
		raw = append(slices.Clone(raw[:200]), "..."...)
	}
	return errs.Invalidf("Provided object does not match schema 'image': %s is not a valid value of '%s': %s", raw, key, why)
}

// writable refuses attributes that no user may write.
func writable(key string) error {
	switch {
	case linkFields[key], readOnlyFields[key]:
		return errs.Forbiddenf("Attribute '%s' is read-only.", key)
	case reservedFields[key], strings.HasPrefix(key, "os_glance_"):
		return errs.Forbiddenf("Attribute '%s' is reserved.", key)
	}
	return nil
}

// set gives an attribute or a property its value from JSON.
func (v *Image) set(key string, raw json.RawMessage) error {
	if err := writable(key); err != nil {
		return err
	}
	var err error
	switch key {
	case "name":
		var name *string
		if err = into(key, raw, &name, "a string or null is expected"); err == nil && name != nil && len([]rune(*name)) > maxName {
			err = badValue(key, raw, "it is longer than 255 characters")
		}
		v.Name = name
	case "visibility":
		v.Visibility, err = oneOf(key, raw, visibilities, false)
	case "owner":
		var owner *string
		if err = into(key, raw, &owner, "a string or null is expected"); err == nil && owner != nil {
			v.Owner = *owner
		} else {
			v.Owner = ""
		}
	case "protected":
		err = into(key, raw, &v.Protected, "a boolean is expected")
	case "os_hidden":
		err = into(key, raw, &v.Hidden, "a boolean is expected")
	case "disk_format":
		err = v.setFormat(&v.DiskFormat, key, raw, diskFormats)
	case "container_format":
		err = v.setFormat(&v.ContainerFormat, key, raw, containerFormats)
	case "min_disk":
		err = size(key, raw, &v.MinDisk)
	case "min_ram":
		err = size(key, raw, &v.MinRAM)
	case "tags":
		err = v.setTags(raw)
	default:
		err = v.setProperty(key, raw)
	}
	return err
}

// into decodes a value that must have exactly dst's type; null only fits pointers.
func into(key string, raw json.RawMessage, dst any, why string) error {
	_, isString := dst.(**string)
	if string(bytes.TrimSpace(raw)) == "null" && !isString {
		return badValue(key, raw, why)
	}
	if json.Unmarshal(raw, dst) != nil {
		return badValue(key, raw, why)
	}
	return nil
}

func oneOf(key string, raw json.RawMessage, allowed []string, null bool) (string, error) {
	var s *string
	if err := into(key, raw, &s, "a string is expected"); err != nil {
		return "", err
	}
	if s == nil && null {
		return "", nil
	}
	if s == nil || !slices.Contains(allowed, *s) {
		return "", badValue(key, raw, "it is not one of "+strings.Join(allowed, ", "))
	}
	return *s, nil
}

// setFormat changes a format while there is no data that it would describe.
func (v *Image) setFormat(dst *string, key string, raw json.RawMessage, allowed []string) error {
	s, err := oneOf(key, raw, allowed, true)
	if err != nil {
		return err
	}
	if v.Status != Queued {
		return errs.Forbiddenf("Attribute %s can be only replaced for a queued image.", key)
	}
	*dst = s
	return nil
}

func size(key string, raw json.RawMessage, dst *int64) error {
	if err := into(key, raw, dst, "an integer is expected"); err != nil {
		return err
	}
	if *dst < 0 || *dst > 1<<31-1 {
		return errs.Invalidf("Invalid value '%d' for parameter '%s': it must be from 0 to 2147483647", *dst, key)
	}
	return nil
}

func (v *Image) setTags(raw json.RawMessage) error {
	var tags []string
	if err := into("tags", raw, &tags, "an array of strings is expected"); err != nil {
		return err
	}
	for _, t := range tags {
		if len([]rune(t)) > maxName {
			return badValue("tags", raw, "a tag is longer than 255 characters")
		}
	}
	slices.Sort(tags)
	v.Tags = slices.Compact(tags)
	return nil
}

func (v *Image) setProperty(key string, raw json.RawMessage) error {
	if key == "" || len([]rune(key)) > maxName {
		return errs.Invalidf("Custom property should not be greater than 255 characters.")
	}
	var s *string
	if err := into(key, raw, &s, "a string is expected"); err != nil {
		return err
	}
	if s == nil {
		return badValue(key, raw, "a string is expected")
	}
	if len(*s) > 65535 {
		return badValue(key, raw, "it is longer than 65535 bytes")
	}
	if v.Properties == nil {
		v.Properties = map[string]string{}
	}
	v.Properties[key] = *s
	return nil
}

// checkLimits bounds what one image may carry.
func (v *Image) checkLimits() error {
	if n := len(v.Properties); n > maxProperties {
		return errs.New(errs.TooLarge, "Attempted: %d properties, Maximum: %d", n, maxProperties)
	}
	if n := len(v.Tags); n > maxTags {
		return errs.New(errs.TooLarge, "The limit has been exceeded on the number of allowed image tags. Attempted: %d, Maximum: %d", n, maxTags)
	}
	return nil
}
