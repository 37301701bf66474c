package caddymodule

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/logging"
)

func init() {
	caddy.RegisterModule(new(LogWriter))
	// What Caddy logs behind this is written before the process ends.
	caddy.OnExit(func(context.Context) { gatherers.exit() })
}

const (
	// gatherFor is how long a line may wait for others to be written with it.
	gatherFor = 10 * time.Millisecond
	// gatherMost is how many bytes of lines may wait, per log.
	gatherMost = 64 << 10
)

// LogWriter writes to another output (stderr, unless one is named) and spares it a
// write call for each line where lines come thick and fast, as they do when somebody
// floods the gate with requests to refuse: a line that comes within 10 ms of the last
// write waits for up to 10 ms, and is written with all that have come until then. Others
// are written at once. Nothing is dropped: past 64 KiB who logs waits for the output.
// Lines that wait are lost if the process is killed, crashes or is made to quit at once
// (SIGQUIT), not when it stops or its configuration changes. An output that sends
// datagrams is refused: each line has to be one.
type LogWriter struct {
	// Where the lines go. Default: stderr.
	WriterRaw json.RawMessage `json:"writer,omitempty" caddy:"namespace=caddy.logging.writers inline_key=output"`

	output caddy.WriterOpener
}

// CaddyModule returns the Caddy module information.
func (*LogWriter) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "caddy.logging.writers.hivegate", New: func() caddy.Module { return new(LogWriter) }}
}

// Provision loads the output.
func (w *LogWriter) Provision(ctx caddy.Context) error {
	w.output = caddy.StderrWriter{}
	if w.WriterRaw == nil {
		return nil
	}
	mod, err := ctx.LoadModule(w, "WriterRaw")
	if err != nil {
		return fmt.Errorf("load the output of log output hivegate: %w", err)
	}
	output, ok := mod.(caddy.WriterOpener)
	if !ok {
		return fmt.Errorf("log output hivegate: a %T is no output", mod)
	}
	if n, ok := mod.(*logging.NetWriter); ok {
		addr, err := caddy.ParseNetworkAddress(n.Address)
		if err != nil || strings.HasPrefix(addr.Network, "udp") || addr.Network == "unixgram" {
			return fmt.Errorf("log output hivegate: %s takes one line at a time: write 'output net %s' alone", n.Address, n.Address)
		}
	}
	w.output = output
	return nil
}

// UnmarshalCaddyfile reads the output. Syntax:
//
//	output hivegate [OUTPUT ...]
//
// where OUTPUT and what follows is what "output" takes besides: stderr (the default),
// stdout, file, net and so on.
func (w *LogWriter) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the name
	if !d.NextArg() {
		return nil
	}
	var output any
	name := d.Val()
	switch name {
	case "stdout":
		output = caddy.StdoutWriter{}
	case "stderr":
		output = caddy.StderrWriter{}
	case "discard":
		output = caddy.DiscardWriter{}
	case "hivegate":
		return d.Err("output hivegate takes another output: stderr, stdout, file or net")
	default:
		var err error
		if output, err = caddyfile.UnmarshalModule(d, "caddy.logging.writers."+name); err != nil {
			return err
		}
		w.WriterRaw = caddyconfig.JSONModuleObject(output, "output", name, nil)
		return nil
	}
	if d.NextArg() || d.NextBlock(d.Nesting()) {
		return d.Errf("%s takes nothing more", name)
	}
	w.WriterRaw = caddyconfig.JSONModuleObject(output, "output", name, nil)
	return nil
}

// String describes the output.
func (w *LogWriter) String() string { return w.output.String() }

// WriterKey tells outputs apart.
func (w *LogWriter) WriterKey() string { return "hivegate:" + w.output.WriterKey() }

// OpenWriter opens the output.
func (w *LogWriter) OpenWriter() (io.WriteCloser, error) {
	out, err := w.output.OpenWriter()
	if err != nil {
		return nil, err
	}
	g := &gatherer{out: out, now: time.Now, after: func(d time.Duration, f func()) { time.AfterFunc(d, f) }}
	gatherers.add(g)
	return g, nil
}

// gatherer is an open LogWriter.
type gatherer struct {
	out   io.WriteCloser
	now   func() time.Time
	after func(time.Duration, func())

	// writing is held while lines that waited are taken and written, so that they
	// stay in order; it is locked before mu.
	writing sync.Mutex
	mu      sync.Mutex // guards what follows
	lines   []byte     // that wait
	spare   []byte     // memory for the next
	last    time.Time  // when something was written
	due     bool       // somebody will write what waits
	busy    bool       // somebody is writing what waited
	atOnce  bool       // nothing waits any more
	err     error      // of lines that waited; told to the next who writes
}

// Write implements io.Writer. p is one line, or several.
func (g *gatherer) Write(p []byte) (int, error) {
	g.mu.Lock()
	for g.atOnce && (g.busy || len(g.lines) > 0) || len(g.lines) > 0 && len(g.lines)+len(p) > gatherMost {
		g.mu.Unlock()
		g.flush()
		g.mu.Lock()
	}
	defer g.mu.Unlock()
	err := g.err
	g.err = nil
	now := g.now()
	if g.atOnce || !g.due && !g.busy && now.Sub(g.last) >= gatherFor {
		g.last = now
		n, wrong := g.out.Write(p)
		return n, errors.Join(err, wrong)
	}
	g.lines = append(g.lines, p...)
	if !g.due {
		g.due = true
		g.after(gatherFor, g.tick)
	}
	return len(p), err
}

// tick writes what waits, and comes again for as long as lines do.
func (g *gatherer) tick() {
	g.flush()
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.due = len(g.lines) > 0; g.due {
		g.after(gatherFor, g.tick)
	}
}

// flush writes what waits.
func (g *gatherer) flush() {
	g.writing.Lock()
	defer g.writing.Unlock()
	g.mu.Lock()
	lines := g.lines
	if len(lines) == 0 {
		g.mu.Unlock()
		return
	}
	g.lines, g.spare, g.busy = g.spare[:0], nil, true
	g.mu.Unlock()
	_, err := g.out.Write(lines)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.last, g.spare, g.busy = g.now(), lines, false
	if err != nil {
		g.err = err
	}
}

// Close implements io.Closer.
func (g *gatherer) Close() error {
	gatherers.remove(g)
	g.end()
	g.mu.Lock()
	err := g.err
	g.err = nil
	g.mu.Unlock()
	return errors.Join(err, g.out.Close())
}

// end has everything written at once from now on.
func (g *gatherer) end() {
	g.mu.Lock()
	g.atOnce = true
	g.mu.Unlock()
	g.flush()
}

// gatherers are all that are open in this process.
var gatherers = &openGatherers{}

type openGatherers struct {
	mu   sync.Mutex
	open map[*gatherer]struct{}
}

func (o *openGatherers) add(g *gatherer) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.open == nil {
		o.open = make(map[*gatherer]struct{})
	}
	o.open[g] = struct{}{}
}

func (o *openGatherers) remove(g *gatherer) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.open, g)
}

func (o *openGatherers) exit() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for g := range o.open {
		g.end()
	}
}

var (
	_ caddy.Provisioner     = (*LogWriter)(nil)
	_ caddy.WriterOpener    = (*LogWriter)(nil)
	_ caddyfile.Unmarshaler = (*LogWriter)(nil)
	_ io.WriteCloser        = (*gatherer)(nil)
)
