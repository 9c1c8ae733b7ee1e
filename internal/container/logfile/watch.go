package logfile

import (
	"context"
	"os"

	"golang.org/x/sys/unix"
)

// watcher tells when something in a directory has changed.
type watcher struct {
	f       *os.File
	changed chan struct{}
}

func watch(dir string) (*watcher, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, err
	}
	w := &watcher{f: os.NewFile(uintptr(fd), "inotify"), changed: make(chan struct{}, 1)}
	if _, err := unix.InotifyAddWatch(fd, dir, unix.IN_MODIFY|unix.IN_CREATE|unix.IN_MOVED_TO); err != nil {
		w.f.Close()
		return nil, err
	}
	go w.run()
	return w, nil
}

// run ends when the file is closed.
func (w *watcher) run() {
	defer close(w.changed)
	buf := make([]byte, 4096)
	for {
		if _, err := w.f.Read(buf); err != nil {
			return
		}
		select {
		case w.changed <- struct{}{}:
		default:
		}
	}
}

// wait waits for a change since the last call. What had changed before the first
// one may be told of too.
func (w *watcher) wait(ctx context.Context) error {
	select {
	case _, ok := <-w.changed:
		if !ok {
			return os.ErrClosed
		}
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (w *watcher) close() { w.f.Close() }
