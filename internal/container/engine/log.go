package engine

import (
	"context"
	"io"
	"log/slog"

	"github.com/containerd/log"
	"github.com/sirupsen/logrus"
)

// withLog has containerd speak through our log: what an operator should know of,
// and nothing of its daily work.
func withLog(ctx context.Context, to *slog.Logger) context.Context {
	l := logrus.New()
	l.SetOutput(io.Discard)
	l.SetLevel(logrus.WarnLevel)
	l.AddHook(hook{to.With("part", "containerd"), ctx})
	// What has no context to find ours by goes the same way.
	log.L.Logger.SetOutput(io.Discard)
	log.L.Logger.SetLevel(logrus.WarnLevel)
	log.L.Logger.ReplaceHooks(logrus.LevelHooks{})
	log.L.Logger.AddHook(hook{to.With("part", "containerd"), ctx})
	return log.WithLogger(ctx, logrus.NewEntry(l).WithContext(ctx))
}

// hook hands entries over.
type hook struct {
	to  *slog.Logger
	ctx context.Context // of entries without one
}

// Levels implements logrus.Hook.
func (hook) Levels() []logrus.Level { return logrus.AllLevels }

// Fire implements logrus.Hook.
func (h hook) Fire(e *logrus.Entry) error {
	args := make([]any, 0, 2*len(e.Data))
	for k, v := range e.Data {
		args = append(args, k, v)
	}
	level := slog.LevelWarn
	if e.Level <= logrus.ErrorLevel {
		level = slog.LevelError
	}
	switch e.Message {
	case "copy shim log", "no trace recorder found, skipping", "failed to read oom_kill event": // the end of every container, build, and step of one
		level = slog.LevelDebug
	}
	ctx := e.Context
	if ctx == nil {
		ctx = h.ctx
	}
	h.to.Log(ctx, level, e.Message, args...)
	return nil
}
