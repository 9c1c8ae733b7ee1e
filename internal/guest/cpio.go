package guest

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// writeCPIO writes the tree at dir as a "newc" archive, the format of an
// initial ramdisk. Everything in it belongs to root; the order is that of
// WalkDir, so that the same tree gives the same bytes.
func writeCPIO(w io.Writer, dir string) error {
	c := cpioWriter{w: w}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		data, mode, err := cpioBody(path, d)
		if err != nil {
			return err
		}
		return c.entry(rel, mode, data)
	})
	if err != nil {
		return err
	}
	return c.entry("TRAILER!!!", 0, nil)
}

func cpioBody(path string, d fs.DirEntry) (data []byte, mode uint32, err error) {
	info, err := d.Info()
	if err != nil {
		return nil, 0, err
	}
	perm := uint32(info.Mode().Perm())
	switch {
	case d.IsDir():
		return nil, 0o040000 | perm, nil
	case info.Mode()&fs.ModeSymlink != 0:
		target, err := os.Readlink(path)
		return []byte(target), 0o120777, err
	case info.Mode().IsRegular():
		data, err := os.ReadFile(path)
		return data, 0o100000 | perm, err
	}
	return nil, 0, fmt.Errorf("%s: cannot go into an initial ramdisk", path)
}

type cpioWriter struct {
	w   io.Writer
	ino int
	pos int
}

func (c *cpioWriter) entry(name string, mode uint32, data []byte) error {
	c.ino++
	nlink := 1
	head := fmt.Sprintf("070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X",
		c.ino, mode, 0, 0, nlink, 0, len(data), 0, 0, 0, 0, len(name)+1, 0)
	if err := c.padded([]byte(head + name + "\x00")); err != nil {
		return err
	}
	return c.padded(data)
}

// padded writes p and zeros up to the next multiple of four.
func (c *cpioWriter) padded(p []byte) error {
	c.pos += len(p)
	pad := -c.pos & 3
	c.pos += pad
	_, err := c.w.Write(append(p[:len(p):len(p)], make([]byte, pad)...))
	return err
}
