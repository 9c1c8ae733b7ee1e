package registry

import (
	"context"
	"io"
	"log/slog"
	"reflect"
	"strings"

	"github.com/sirupsen/logrus"
)

// quietContext has distribution log to us. Without it, it would use the logger that
// logrus keeps for the whole process, and the way to give it another is internal to
// it: what it looks for in a context is known by the name of its key's type.
type quietContext struct {
	context.Context
	to *logrus.Entry
}

func (s *Service) quiet(ctx context.Context) context.Context {
	l := logrus.New()
	l.Out, l.Level, l.Formatter = io.Discard, logrus.WarnLevel, forwarder{s.Log}
	return quietContext{ctx, logrus.NewEntry(l)}
}

// Value implements context.Context.
func (q quietContext) Value(key any) any {
	if t := reflect.TypeOf(key); t.Name() == "loggerKey" && strings.HasSuffix(t.PkgPath(), "distribution/v3/internal/dcontext") {
		return q.to
	}
	return q.Context.Value(key)
}

// forwarder passes entries on. They are for developers: most are about what a client
// did wrong, and what the registry did wrong is logged by answerWriter.
type forwarder struct{ log *slog.Logger }

// Format implements logrus.Formatter.
func (f forwarder) Format(e *logrus.Entry) ([]byte, error) {
	f.log.DebugContext(e.Context, "registry: "+e.Message, "method", e.Data["http.request.method"], "status", e.Data["http.response.status"], "err", e.Data["err.detail"])
	return nil, nil
}
