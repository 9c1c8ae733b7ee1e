package hypervisor

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// consoleKept is how much of a guest's console log is kept, at least.
	consoleKept = 1 << 20
	// consoleLimit is when the older part is given back to the disk.
	consoleLimit = 2 << 20
	trimInterval = 5 * time.Second
)

// ConsoleLog implements Driver.
func (d *QEMU) ConsoleLog(id string, lines int) ([]byte, error) {
	m, err := d.find(id)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(filepath.Join(m.dir, consoleFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, err
	}
	from := max(0, size-consoleKept)
	data, err := io.ReadAll(io.NewSectionReader(f, from, size-from))
	if err != nil {
		return nil, err
	}
	return lastLines(bytes.TrimLeft(data, "\x00"), lines), nil
}

// lastLines cuts data to its last n lines; a line that is not finished counts.
func lastLines(data []byte, n int) []byte {
	if n <= 0 {
		return data
	}
	at := len(data)
	if bytes.HasSuffix(data, []byte("\n")) {
		at--
	}
	for range n {
		i := bytes.LastIndexByte(data[:at], '\n')
		if i < 0 {
			return data
		}
		at = i
	}
	return data[at+1:]
}

// trimConsoles keeps the consoles' files from filling the disk. The head of a
// file is freed in place: QEMU goes on appending, and nothing is lost between.
func (d *QEMU) trimConsoles(ctx context.Context) {
	tick := time.NewTicker(trimInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		ids, err := d.List()
		if err != nil {
			d.Log.Warn("trimming consoles", "err", err)
			continue
		}
		for _, id := range ids {
			if err := trimConsole(filepath.Join(d.Config.Dir, id, consoleFile)); err != nil {
				d.Log.Warn("trimming a console", "server", id, "err", err)
			}
		}
	}
}

func trimConsole(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return err
	}
	if st.Blocks*512 <= consoleLimit {
		return nil
	}
	return unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, (st.Size-consoleKept)&^4095)
}
