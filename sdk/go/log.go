package workspace

import (
	"bytes"
	"context"
	"log/slog"

	"epicenter.dev/workspace/internal/contract"
)

// logTo makes the standard library's loggers, log/slog and log, write lines of the plugin's log. What is
// printed by fmt and println are lines of it as well, by standard output and standard error.
func logTo(host contract.Host) {
	lines := &lines{host: host}
	lines.text = slog.NewTextHandler(&lines.line, &slog.HandlerOptions{
		Level: slog.LevelDebug,
		// The host notes the time, the level and the message.
		ReplaceAttr: func(groups []string, attr slog.Attr) slog.Attr {
			if len(groups) == 0 && (attr.Key == slog.TimeKey || attr.Key == slog.LevelKey || attr.Key == slog.MessageKey) {
				return slog.Attr{}
			}
			return attr
		},
	})
	slog.SetDefault(slog.New(lines))
}

// lines is a handler whose records are lines of the host's log: the message, and the attributes as
// slog.TextHandler writes them.
type lines struct {
	host contract.Host
	text slog.Handler
	line bytes.Buffer
	// Where a handler with attributes of its own writes to.
	root *lines
}

func (l *lines) Enabled(context.Context, slog.Level) bool { return true }

func (l *lines) Handle(ctx context.Context, record slog.Record) error {
	root := l
	if l.root != nil {
		root = l.root
	}
	root.line.Reset()
	if err := l.text.Handle(ctx, record); err != nil {
		return err
	}
	message := record.Message
	if attributes := bytes.TrimSpace(root.line.Bytes()); len(attributes) > 0 {
		message += " " + string(attributes)
	}
	root.host.Log(levelOf(record.Level), message)
	return nil
}

func (l *lines) WithAttrs(attrs []slog.Attr) slog.Handler { return l.with(l.text.WithAttrs(attrs)) }

func (l *lines) WithGroup(name string) slog.Handler { return l.with(l.text.WithGroup(name)) }

func (l *lines) with(text slog.Handler) slog.Handler {
	root := l
	if l.root != nil {
		root = l.root
	}
	return &lines{text: text, root: root}
}

func levelOf(level slog.Level) contract.Level {
	switch {
	case level < slog.LevelInfo:
		return contract.Debug
	case level < slog.LevelWarn:
		return contract.Info
	case level < slog.LevelError:
		return contract.Warn
	default:
		return contract.Fault
	}
}
