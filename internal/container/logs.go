package container

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/strata-cloud/strata/internal/container/logfile"
	"github.com/strata-cloud/strata/internal/errs"
)

// LogOptions are which lines of a log a client wants.
type LogOptions struct {
	Stdout, Stderr bool
	Follow         bool
	Since, Until   time.Time
	Tail           int // last lines; negative: all
	Timestamps     bool
}

// Log is a log that is about to be read.
type Log struct {
	d    *Daemon
	r    *logfile.Reader
	exit <-chan struct{}
	runs bool
	opt  LogOptions
	Tty  bool
}

// makeLog makes an empty log. Who attaches before the start holds it open from then
// on, so that nothing is lost to it of a container that is removed with its end.
func (d *Daemon) makeLog(id string) error {
	if err := os.MkdirAll(filepath.Dir(d.logPath(id)), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(d.logPath(id), os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	return f.Close()
}

// NewLog opens the log of a container.
func (d *Daemon) NewLog(ref string, opt LogOptions) (*Log, error) {
	c, err := d.find(ref)
	if err != nil {
		return nil, err
	}
	if c.record().HostConfig.LogConfig.Type == LogNone {
		return nil, errs.New(errs.NotImplemented, "configured logging driver does not support reading")
	}
	l := &Log{d: d, opt: opt}
	c.mu.Lock()
	l.exit, l.runs, l.Tty = c.exit, c.rec.State.Running(), c.rec.Config.Tty
	c.mu.Unlock()
	l.r, err = logfile.Open(d.logPath(c.id))
	return l, err
}

// line numbers the lines of a log over its streams.
type line struct {
	begun map[logfile.Stream]bool // a stream is within a line
	n     int
}

// split calls f with each piece of a chunk that belongs to one line.
func (l *line) split(s logfile.Stream, chunk []byte, f func(first bool, piece []byte) error) error {
	if s == logfile.End { // what comes next begins a line
		clear(l.begun)
		return nil
	}
	for len(chunk) > 0 {
		piece := chunk
		if i := bytes.IndexByte(chunk, '\n'); i >= 0 {
			piece = chunk[:i+1]
		}
		chunk = chunk[len(piece):]
		first := !l.begun[s]
		if first {
			l.n++
		}
		l.begun[s] = piece[len(piece)-1] != '\n'
		if err := f(first, piece); err != nil {
			return err
		}
	}
	return nil
}

// Run gives the wanted lines, and those to come if the client follows.
func (l *Log) Run(ctx context.Context, out Sink) error {
	defer l.r.Close()
	skip := 0
	if l.opt.Tail >= 0 {
		n, err := l.count()
		if err != nil {
			return err
		}
		skip = max(n-l.opt.Tail, 0)
	}
	lines := line{begun: map[logfile.Stream]bool{}}
	on := map[logfile.Stream]bool{} // the line that a stream is within is given
	sink := func(s logfile.Stream, at time.Time, chunk []byte) error {
		if !l.opt.Until.IsZero() && at.After(l.opt.Until) {
			return errUntil
		}
		if !l.wants(s, at) {
			return nil
		}
		return lines.split(s, chunk, func(first bool, piece []byte) error {
			if first {
				on[s] = lines.n > skip
			}
			if !on[s] {
				return nil
			}
			if first && l.opt.Timestamps {
				piece = append(at.UTC().AppendFormat(nil, "2006-01-02T15:04:05.000000000Z "), piece...)
			}
			return out(s, at, piece)
		})
	}
	var err error
	if l.opt.Follow && l.runs {
		err = l.d.tail(ctx, l.r, l.exit, sink)
	} else {
		err = drain(l.r, sink)
	}
	if errors.Is(err, errUntil) {
		return nil
	}
	return err
}

var errUntil = errors.New("later than wanted")

func (l *Log) wants(s logfile.Stream, at time.Time) bool {
	if at.Before(l.opt.Since) {
		return false
	}
	return s == logfile.End || s == logfile.Stdout && l.opt.Stdout || s == logfile.Stderr && l.opt.Stderr
}

// count is how many lines there are now that the client may want.
func (l *Log) count() (int, error) {
	lines := line{begun: map[logfile.Stream]bool{}}
	for {
		rec, err := l.r.Next()
		if errors.Is(err, io.EOF) || err == nil && !l.opt.Until.IsZero() && rec.Time.After(l.opt.Until) {
			return lines.n, l.r.Rewind()
		}
		if err != nil {
			return 0, err
		}
		if l.wants(rec.Stream, rec.Time) {
			lines.split(rec.Stream, rec.Chunk, func(bool, []byte) error { return nil })
		}
	}
}
