package dockerapi

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/docker/docker/api/types"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/versions"

	core "github.com/strata-cloud/strata/internal/container"
	"github.com/strata-cloud/strata/internal/container/logfile"
	"github.com/strata-cloud/strata/internal/dockerwire"
	"github.com/strata-cloud/strata/internal/errs"
)

// frames writes output as upstream does: as it is from a terminal, else each chunk
// under a header of eight bytes.
func frames(w io.Writer, tty bool) core.Sink {
	var buf []byte
	return func(s logfile.Stream, _ time.Time, chunk []byte) error {
		if tty {
			_, err := w.Write(chunk)
			return err
		}
		if s == logfile.End {
			return nil
		}
		buf = append(buf[:0], byte(s), 0, 0, 0)
		buf = binary.BigEndian.AppendUint32(buf, uint32(len(chunk)))
		buf = append(buf, chunk...)
		_, err := w.Write(buf)
		return err
	}
}

func mediaType(r *request, tty bool) string {
	if !tty && versions.GreaterThanOrEqualTo(r.Version, "1.42") {
		return types.MediaTypeMultiplexedStream
	}
	return types.MediaTypeRawStream
}

// hijack takes the connection over for a stream in both directions.
func hijack(w http.ResponseWriter, r *request, tty bool) (net.Conn, io.Reader, error) {
	h, ok := w.(http.Hijacker)
	if !ok {
		return nil, nil, errors.New("this connection cannot carry a stream")
	}
	conn, rw, err := h.Hijack()
	if err != nil {
		return nil, nil, err
	}
	head := "HTTP/1.1 200 OK\r\nContent-Type: " + types.MediaTypeRawStream + "\r\n"
	if r.Header.Get("Upgrade") != "" {
		head = "HTTP/1.1 101 UPGRADED\r\nContent-Type: " + mediaType(r, tty) + "\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n"
	}
	if _, err := fmt.Fprintf(conn, "%sApi-Version: %s\r\n\r\n", head, dockerwire.MaxVersion); err != nil {
		return nil, nil, errors.Join(dockerwire.Late(err), conn.Close())
	}
	return conn, buffered(rw.Reader, conn), nil
}

// buffered reads what the server had read of the stream already, then the rest.
func buffered(br *bufio.Reader, conn net.Conn) io.Reader {
	n := br.Buffered()
	head, _ := br.Peek(n)
	return io.MultiReader(&sliceReader{append([]byte(nil), head...)}, conn)
}

type sliceReader struct{ b []byte }

// Read implements io.Reader.
func (s *sliceReader) Read(p []byte) (int, error) {
	if len(s.b) == 0 {
		return 0, io.EOF
	}
	n := copy(p, s.b)
	s.b = s.b[n:]
	return n, nil
}

func (s *Server) containerAttach(w http.ResponseWriter, r *request) error {
	opt := core.AttachOptions{Stdin: r.Flag("stdin"), Stdout: r.Flag("stdout"), Stderr: r.Flag("stderr"), Logs: r.Flag("logs"), Stream: r.Flag("stream"), DetachKeys: r.Value("detachKeys")}
	a, err := s.engine.NewAttach(r.Vars["id"], opt)
	if err != nil {
		return err
	}
	conn, in, err := hijack(w, r, a.Tty)
	if err != nil {
		return errors.Join(err, a.Close())
	}
	defer conn.Close()
	if err := a.Run(r.Context(), in, frames(conn, a.Tty)); err != nil && !errors.Is(err, context.Canceled) {
		return dockerwire.Late(err)
	}
	return nil
}

func (s *Server) containerLogs(w http.ResponseWriter, r *request) error {
	opt := core.LogOptions{Stdout: r.Flag("stdout"), Stderr: r.Flag("stderr"), Follow: r.Flag("follow"), Timestamps: r.Flag("timestamps"), Tail: -1}
	if !opt.Stdout && !opt.Stderr {
		return errs.Invalidf("Bad parameters: you must choose at least one stream")
	}
	var err error
	if opt.Since, err = r.timestamp("since"); err != nil {
		return err
	}
	if opt.Until, err = r.timestamp("until"); err != nil {
		return err
	}
	if n, err := strconv.Atoi(r.Value("tail")); err == nil && n >= 0 { // as upstream: anything else is all
		opt.Tail = n
	}
	l, err := s.engine.NewLog(r.Vars["id"], opt)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", mediaType(r, l.Tty))
	w.WriteHeader(http.StatusOK)
	out := frames(w, l.Tty)
	if opt.Follow {
		flush(w)
		plain := out
		out = func(s logfile.Stream, at time.Time, chunk []byte) error {
			err := plain(s, at, chunk)
			flush(w)
			return err
		}
	}
	if err := l.Run(r.Context(), out); err != nil && r.Context().Err() == nil {
		return dockerwire.Late(err)
	}
	return nil
}

func (s *Server) execCreate(w http.ResponseWriter, r *request) error {
	var opt container.ExecOptions
	if err := r.Read(&opt); err != nil {
		return err
	}
	id, err := s.engine.NewExec(r.Vars["id"], opt)
	if err != nil {
		return err
	}
	return dockerwire.Answer(w, http.StatusCreated, container.ExecCreateResponse{ID: id})
}

func (s *Server) execStart(w http.ResponseWriter, r *request) error {
	var opt container.ExecStartOptions
	if err := r.Read(&opt); err != nil {
		return err
	}
	tty, err := s.engine.ExecTty(r.Vars["id"])
	if err != nil {
		return err
	}
	if opt.Detach {
		if err := s.engine.StartExec(r.Context(), r.Vars["id"], opt.ConsoleSize, true, nil, nil); err != nil {
			return err
		}
		w.WriteHeader(http.StatusOK)
		return nil
	}
	conn, in, err := hijack(w, r, tty)
	if err != nil {
		return err
	}
	defer conn.Close()
	out := frames(conn, tty)
	if err := s.engine.StartExec(r.Context(), r.Vars["id"], opt.ConsoleSize, false, in, out); err != nil {
		// As upstream: the connection is a stream by now, and that is where it goes.
		out(logfile.Stdout, time.Now(), []byte(err.Error()+"\r\n"))
		return dockerwire.Late(err)
	}
	return nil
}

func (s *Server) execResize(w http.ResponseWriter, r *request) error {
	h, width, err := r.size()
	if err != nil {
		return err
	}
	if err := s.engine.ResizeExec(r.Vars["id"], h, width); err != nil {
		return err
	}
	w.WriteHeader(http.StatusOK)
	return nil
}

func (s *Server) execInspect(w http.ResponseWriter, r *request) error {
	v, err := s.engine.ExecInspect(r.Vars["id"])
	if err != nil {
		return err
	}
	return dockerwire.Answer(w, http.StatusOK, v)
}
