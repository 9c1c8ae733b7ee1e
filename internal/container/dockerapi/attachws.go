package dockerapi

import (
	"context"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/coder/websocket"
	"github.com/docker/docker/api/types/versions"

	core "github.com/strata-cloud/strata/internal/container"
	"github.com/strata-cloud/strata/internal/container/logfile"
	"github.com/strata-cloud/strata/internal/dockerwire"
)

// containerAttachSocket attaches over a WebSocket: output as it is, without headers, each
// message of the client's is input.
func (s *Server) containerAttachSocket(w http.ResponseWriter, r *request) error {
	opt := core.AttachOptions{Stdin: true, Stdout: true, Stderr: true, Logs: r.Flag("logs"), Stream: r.Flag("stream"), DetachKeys: r.Value("detachKeys")}
	if versions.GreaterThanOrEqualTo(r.Version, "1.42") {
		opt.Stdin, opt.Stdout, opt.Stderr = r.Flag("stdin"), r.Flag("stdout"), r.Flag("stderr")
	}
	kind := websocket.MessageBinary
	if versions.LessThan(r.Version, "1.28") {
		kind = websocket.MessageText
	}
	a, err := s.engine.NewAttach(r.Vars["id"], opt)
	if err != nil {
		return err
	}
	ws, err := websocket.Accept(w, r.Request.Request, nil)
	if err != nil {
		return dockerwire.Late(errors.Join(err, a.Close())) // Accept has answered
	}
	defer ws.CloseNow()
	ws.SetReadLimit(maxMessage)
	err = a.Run(r.Context(), &messages{ctx: r.Context(), ws: ws}, func(_ logfile.Stream, _ time.Time, chunk []byte) error {
		if len(chunk) == 0 {
			return nil
		}
		return ws.Write(r.Context(), kind, chunk)
	})
	if err != nil && !errors.Is(err, context.Canceled) && websocket.CloseStatus(err) < 0 {
		return dockerwire.Late(err)
	}
	ws.Close(websocket.StatusNormalClosure, "")
	return nil
}

// maxMessage bounds a message of a client's, in bytes.
const maxMessage = 1 << 20

// messages reads what a client sends as one stream.
type messages struct {
	ctx context.Context // of the request
	ws  *websocket.Conn
	now io.Reader // nil: the next one has not come
}

// Read implements io.Reader.
func (m *messages) Read(p []byte) (n int, err error) {
	for {
		if m.now == nil {
			if _, m.now, err = m.ws.Reader(m.ctx); err != nil {
				return 0, err
			}
		}
		n, err = m.now.Read(p)
		if errors.Is(err, io.EOF) {
			m.now, err = nil, nil
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
}
