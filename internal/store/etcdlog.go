package store

import (
	"log/slog"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// slogCore passes etcd's log on: its errors are errors, its warnings (slow disk,
// slow request) are details, the rest is dropped.
type slogCore struct {
	log    *slog.Logger
	fields []zapcore.Field
}

func zapTo(log *slog.Logger) *zap.Logger {
	// etcd repeats some messages in a tight loop while it starts.
	return zap.New(zapcore.NewSamplerWithOptions(&slogCore{log: log}, time.Second, 1, 0))
}

// harmless is what etcd calls an error when a new store has no history yet.
const harmless = "failed to update storage version"

func (c *slogCore) Enabled(l zapcore.Level) bool { return l >= zapcore.WarnLevel }

func (c *slogCore) With(fs []zapcore.Field) zapcore.Core {
	return &slogCore{log: c.log, fields: append(append([]zapcore.Field{}, c.fields...), fs...)}
}

func (c *slogCore) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(e.Level) {
		return ce.AddCore(e, c)
	}
	return ce
}

func (c *slogCore) Write(e zapcore.Entry, fs []zapcore.Field) error {
	enc := zapcore.NewMapObjectEncoder()
	for _, f := range append(append([]zapcore.Field{}, c.fields...), fs...) {
		f.AddTo(enc)
	}
	attrs := make([]any, 0, len(enc.Fields))
	for k, v := range enc.Fields {
		attrs = append(attrs, slog.Any(k, v))
	}
	if e.Level > zapcore.WarnLevel && e.Message != harmless {
		c.log.Error("etcd: "+e.Message, attrs...)
	} else {
		c.log.Debug("etcd: "+e.Message, attrs...)
	}
	return nil
}

func (c *slogCore) Sync() error { return nil }
