package hypervisor

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// secretPrefix begins the names of files that hold a key for the moment in which
// QEMU reads it.
const secretPrefix = "key-"

// object is a QEMU object that a disk needs before its block nodes: the
// passphrase of encrypted content, or the credentials of a connection.
type object struct {
	kind string // secret or tls-creds-psk
	id   string
	user string
	data []byte
}

// objects lists what the disk needs.
func (d *Disk) objects() []object {
	var out []object
	if d.Encrypted {
		out = append(out, object{kind: "secret", id: d.secret(), data: d.Key})
	}
	if d.NBD != nil && d.NBD.User != "" {
		out = append(out, object{kind: "tls-creds-psk", id: d.psk(), user: d.NBD.User, data: d.NBD.PSK})
	}
	return out
}

func (o *object) path() string { return secretPrefix + o.id }

// byFile describes the object, its data being in the file or directory that write makes.
func (o *object) byFile() map[string]any {
	if o.kind == "secret" {
		return map[string]any{"qom-type": o.kind, "id": o.id, "format": "base64", "file": o.path()}
	}
	return map[string]any{"qom-type": o.kind, "id": o.id, "endpoint": "client", "dir": o.path(), "username": o.user}
}

// write puts the object's data where QEMU's user alone reads it.
func (o *object) write(dir string, uid, gid int) error {
	path, text := filepath.Join(dir, o.path()), base64.StdEncoding.EncodeToString(o.data)
	if o.kind != "secret" {
		if err := os.MkdirAll(path, 0o700); err != nil {
			return err
		}
		if err := os.Chown(path, uid, gid); err != nil {
			return err
		}
		path, text = filepath.Join(path, "keys.psk"), o.user+":"+hex.EncodeToString(o.data)+"\n"
	}
	os.Remove(path)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Chown(uid, gid), f.Close())
}

// writeSecrets puts the disks' keys into the machine's directory until the
// returned function is called.
func (m *machine) writeSecrets(disks ...Disk) (remove func(), err error) {
	for i := range disks {
		for _, o := range disks[i].objects() {
			if len(o.data) == 0 {
				err = fmt.Errorf("disk %s: its key is missing", disks[i].Name())
			} else {
				err = o.write(m.dir, m.d.UID, m.d.GID)
			}
			if err != nil {
				m.removeSecrets()
				return nil, fmt.Errorf("handing over a key: %w", err)
			}
		}
	}
	return m.removeSecrets, nil
}

// removeSecrets removes what writeSecrets made, also in an earlier life.
func (m *machine) removeSecrets() {
	found, err := filepath.Glob(filepath.Join(m.dir, secretPrefix+"*"))
	for _, f := range found {
		err = errors.Join(err, os.RemoveAll(f))
	}
	if err != nil {
		m.d.Log.Error("a key could not be removed", "server", m.id, "err", err)
	}
}

// takeKeys completes the disks of a spec that was read from a file: with their
// keys, and with where they are by now.
func (s *Spec) takeKeys(from []Disk) {
	for i := range from {
		if d := s.disk(from[i].Name()); d != nil {
			d.reach(&from[i])
		}
	}
}

// reach has the disk be where other is; what the guest sees of it stays.
func (d *Disk) reach(other *Disk) {
	d.File, d.NBD, d.RBD, d.Format, d.Encrypted, d.Key = other.File, other.NBD, other.RBD, other.Format, other.Encrypted, other.Key
}
