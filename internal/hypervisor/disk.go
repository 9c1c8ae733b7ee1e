package hypervisor

import (
	"crypto/sha256"
	"encoding/hex"
	"path/filepath"
	"strings"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/nodeapi"
)

// Disk is one disk or CD-ROM. Its content is in one of File, NBD and RBD.
type Disk struct {
	// ID names the disk in its machine for as long as it is plugged in; "" stands for File.
	ID       string `json:"id"`
	File     string `json:"file"` // in the machine's directory
	NBD      *NBD   `json:"nbd,omitempty"`
	RBD      *RBD   `json:"rbd,omitempty"`
	Format   string `json:"format"` // qcow2 or raw
	Bus      string `json:"bus"`    // virtio (default), scsi, sata, ide
	Serial   string `json:"serial"` // at most 20 bytes are seen by the guest
	ReadOnly bool   `json:"read_only"`
	CDROM    bool   `json:"cdrom"` // a CD-ROM drive; not on the virtio bus
	Bootable bool   `json:"bootable"`
	// Pluggable disks can be unplugged although they were there at start. Those
	// that are plugged in later always can.
	Pluggable bool              `json:"pluggable"`
	Shared    bool              `json:"shared"` // other machines write to it too
	Limits    *nodeapi.IOLimits `json:"limits,omitempty"`
	// Encrypted content is LUKS (inside of qcow2, or instead of raw). Key opens
	// it; it is handed to QEMU and written nowhere.
	Encrypted bool   `json:"encrypted"`
	Key       []byte `json:"-"`
	// Port is the hot-plug port that the disk is on, from 1; 0: none. The driver sets it.
	Port int `json:"port"`
}

// NBD is an export of a network block device server.
type NBD struct {
	Socket string `json:"socket"` // of the server, in the machine's directory; or
	Host   string `json:"host"`   // its address
	Port   string `json:"port"`
	Export string `json:"export"`
	// User and PSK are the TLS pre-shared key's name and value, the latter as
	// bytes; without User there is no TLS. PSK is written nowhere.
	User string `json:"user"`
	PSK  []byte `json:"-"`
}

// RBD is a Ceph image.
type RBD struct {
	Pool  string `json:"pool"`
	Image string `json:"image"`
	Conf  string `json:"conf"` // Ceph's configuration, in the machine's directory
	User  string `json:"user"` // without "client."
}

// Name is ID, or File without one.
func (d *Disk) Name() string {
	if d.ID != "" {
		return d.ID
	}
	return d.File
}

func (d *Disk) validate() error {
	sources := 0
	if d.File != "" {
		sources++
	}
	if d.NBD != nil {
		sources++
	}
	if d.RBD != nil {
		sources++
	}
	if sources != 1 {
		return errs.Invalidf("disk %q has %d sources instead of one", d.Name(), sources)
	}
	for _, f := range d.files() {
		if !filepath.IsLocal(f) {
			return errs.Invalidf("disk file %q is not in the machine's directory", f)
		}
	}
	if d.Name() == "" {
		return errs.Invalidf("a disk has no name")
	}
	if d.Format != "qcow2" && d.Format != "raw" {
		return errs.Invalidf("disk format %q cannot be attached: use qcow2 or raw", d.Format)
	}
	if d.NBD != nil && d.NBD.Socket == "" && (d.NBD.Host == "" || d.NBD.Port == "") {
		return errs.Invalidf("disk %q names no NBD server", d.Name())
	}
	switch d.Bus {
	case "", "virtio", "scsi", "sata", "ide":
		return nil
	}
	return errs.Invalidf("disk bus %q is not supported: use virtio, scsi, sata or ide", d.Bus)
}

// files are what the disk needs in the machine's directory.
func (d *Disk) files() []string {
	switch {
	case d.NBD != nil && d.NBD.Socket != "":
		return []string{d.NBD.Socket}
	case d.NBD != nil:
		return nil
	case d.RBD != nil:
		return []string{d.RBD.Conf}
	}
	return []string{d.File}
}

// qemuID makes a name that QEMU takes for a block node (31 bytes at most) or a
// device out of any id.
func qemuID(kind, id string) string {
	sum := sha256.Sum256([]byte(id))
	return kind + "-" + hex.EncodeToString(sum[:8])
}

// node is the block node that the guest's device reads and writes; its protocol
// node is below.
func (d *Disk) node() string     { return qemuID("disk", d.Name()) }
func (d *Disk) protocol() string { return d.node() + "-p" }
func (d *Disk) device() string   { return d.node() + "-dev" }
func (d *Disk) secret() string   { return d.node() + "-key" }
func (d *Disk) psk() string      { return d.node() + "-psk" }

// backend is the QOM name of what has the device's statistics and limits.
func (d *Disk) backend() string {
	if d.onVirtio() {
		return "/machine/peripheral/" + d.device() + "/virtio-backend"
	}
	return d.device()
}

func (d *Disk) onVirtio() bool { return (d.Bus == "" || d.Bus == "virtio") && !d.CDROM }

// nodes describes the disk's block nodes, the lowest first. The host's page
// cache is used, and a flush of the guest is an fdatasync of the file.
func (d *Disk) nodes() []map[string]any {
	var p map[string]any
	switch {
	case d.NBD != nil:
		p = map[string]any{"driver": "nbd", "export": d.NBD.Export, "reconnect-delay": 60, "open-timeout": 10}
		if d.NBD.Socket != "" {
			p["server"] = map[string]any{"type": "unix", "path": d.NBD.Socket}
		} else {
			p["server"] = map[string]any{"type": "inet", "host": d.NBD.Host, "port": d.NBD.Port}
		}
		if d.NBD.User != "" {
			p["tls-creds"] = d.psk()
		}
	case d.RBD != nil:
		p = map[string]any{"driver": "rbd", "pool": d.RBD.Pool, "image": d.RBD.Image, "conf": d.RBD.Conf}
		if d.RBD.User != "" {
			p["user"] = d.RBD.User
		}
	default:
		p = map[string]any{"driver": "file", "filename": d.File}
	}
	f := map[string]any{"driver": d.Format, "file": d.protocol()}
	if d.Encrypted && d.Format == "raw" {
		f["driver"], f["key-secret"] = "luks", d.secret()
	} else if d.Encrypted {
		f["encrypt"] = map[string]any{"format": "luks", "key-secret": d.secret()}
	}
	for name, n := range map[string]map[string]any{d.protocol(): p, d.node(): f} {
		n["node-name"], n["read-only"], n["auto-read-only"], n["discard"] = name, d.ReadOnly, false, "unmap"
		n["cache"] = map[string]any{"direct": false, "no-flush": false}
	}
	return []map[string]any{p, f}
}

// deviceProps describes the guest's device on the bus, without a boot index.
func (d *Disk) deviceProps(bus map[string]any) map[string]any {
	media := "hd"
	if d.CDROM {
		media = "cd"
	}
	p := map[string]any{"driver": "virtio-blk-pci", "id": d.device(), "drive": d.node()}
	switch {
	case d.Bus == "scsi":
		p["driver"] = "scsi-" + media
	case !d.onVirtio():
		p["driver"] = "ide-" + media
	}
	if d.Serial != "" {
		p["serial"] = strings.ReplaceAll(d.Serial[:min(20, len(d.Serial))], ",", "")
	}
	if d.Shared {
		p["share-rw"] = true
	}
	for k, v := range bus {
		p[k] = v
	}
	return p
}
