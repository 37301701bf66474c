package caddymodule

import (
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/logging"
	"go.uber.org/zap"
	"go.uber.org/zap/buffer"
	"go.uber.org/zap/zapcore"
)

func init() {
	caddy.RegisterModule(new(LogFormat))
}

// LogFormat writes log lines as JSON without credentials, whatever name they
// were sent under: of requests and answers that are logged, headers are left
// out as a whole, and so are query strings and what looks like an API key in a
// path. Caddy by itself hides Authorization and cookies alone.
//
// It also encodes a line's fields only when the line is written. Caddy's
// reverse_proxy hands its logger the whole request for each request that it
// proxies, for lines that no logger above level DEBUG writes; other formats
// encode it all the same.
type LogFormat struct {
	logging.LogEncoderConfig

	remembered
}

// remembered is an encoder of which only the beginning of a line is known: it
// keeps the fields. There is one for each request that is proxied, so it is one
// allocation for as many fields as reverse_proxy adds.
type remembered struct {
	base   zapcore.Encoder
	fields []zapcore.Field
	room   [3]zapcore.Field
}

// CaddyModule returns the Caddy module information.
func (*LogFormat) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "caddy.logging.encoders.hivegate", New: func() caddy.Module { return new(LogFormat) }}
}

// Provision makes the encoder ready.
func (f *LogFormat) Provision(caddy.Context) error {
	f.base = zapcore.NewJSONEncoder(f.ZapcoreEncoderConfig())
	return nil
}

// UnmarshalCaddyfile reads the format's options, which are those of Caddy's json
// format. Syntax:
//
//	format hivegate {
//		time_format rfc3339
//	}
func (f *LogFormat) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the format's name
	if d.NextArg() {
		return d.ArgErr()
	}
	return f.LogEncoderConfig.UnmarshalCaddyfile(d)
}

// Clone implements zapcore.Encoder. What is added to the clone later is not seen
// here.
func (f *remembered) Clone() zapcore.Encoder {
	c := &remembered{base: f.base}
	c.fields = append(c.room[:0], f.fields...)
	return c
}

// EncodeEntry implements zapcore.Encoder.
func (f *remembered) EncodeEntry(entry zapcore.Entry, fields []zapcore.Field) (*buffer.Buffer, error) {
	if len(f.fields) == 0 && !slices.ContainsFunc(fields, mayHoldCredentials) {
		return f.base.EncodeEntry(entry, fields)
	}
	enc := f.base.Clone()
	out := withoutCredentials{enc}
	for i := range f.fields {
		f.fields[i].AddTo(out)
	}
	for i := range fields {
		fields[i].AddTo(out)
	}
	return enc.EncodeEntry(entry, nil)
}

// mayHoldCredentials reports whether withoutCredentials does anything with a field.
func mayHoldCredentials(f zapcore.Field) bool {
	switch f.Type {
	case zapcore.ObjectMarshalerType, zapcore.InlineMarshalerType, zapcore.ReflectType:
		return true
	}
	return hidesIn(f.Key)
}

// hidesIn reports whether AddString looks at the values of a key.
func hidesIn(key string) bool { return key == "uri" || key == "method" || key == "host" }

// withoutCredentials hides credentials on their way into an encoder.
type withoutCredentials struct{ zapcore.ObjectEncoder }

// AddObject leaves headers out, and hides what may be in what lies below.
func (e withoutCredentials) AddObject(key string, v zapcore.ObjectMarshaler) error {
	switch key {
	case "headers", "resp_headers":
		return nil
	}
	return e.ObjectEncoder.AddObject(key, zapcore.ObjectMarshalerFunc(func(inner zapcore.ObjectEncoder) error {
		return v.MarshalLogObject(withoutCredentials{inner})
	}))
}

// AddReflected leaves headers out in any form.
func (e withoutCredentials) AddReflected(key string, v any) error {
	switch key {
	case "headers", "resp_headers":
		return nil
	}
	return e.ObjectEncoder.AddReflected(key, v)
}

// AddString hides query strings, and keys in addresses, methods and hosts.
func (e withoutCredentials) AddString(key, value string) {
	if !hidesIn(key) {
		e.ObjectEncoder.AddString(key, value)
		return
	}
	switch key {
	case "uri":
		value = hideInURI(value)
	case "method":
		if maybeCredential(value) {
			value = redacted
		}
	case "host":
		for label := range strings.SplitSeq(value, ".") {
			if len(label) >= longWord {
				value = redacted
				break
			}
		}
	}
	e.ObjectEncoder.AddString(key, value)
}

const redacted = "REDACTED"

// hideInURI replaces the query, and each segment of the path that may be a
// credential.
func hideInURI(uri string) string {
	path, _, query := strings.Cut(uri, "?")
	segments := strings.Split(path, "/")
	for i, s := range segments {
		if maybeCredential(s) {
			segments[i] = redacted
		}
	}
	path = strings.Join(segments, "/")
	if query {
		path += "?" + redacted
	}
	return path
}

// Lengths of a path's segment. Prefixes say nothing: they are for each site, and
// each imported key, to choose.
const (
	// longWord is where a word of the API, or of a host's name, is not told from
	// a secret any more.
	longWord = 40
	// shortSecret is the least that a key or token has.
	shortSecret = 20
)

// maybeCredential reports whether a segment may be an API key or a token: it is
// long, or it is not short, no UUID, and mixes what random text mixes.
func maybeCredential(s string) bool {
	switch {
	case len(s) >= longWord:
		return true
	case len(s) < shortSecret || isUUID(s):
		return false
	}
	var digit, letter, upper, lower bool
	for i := range len(s) {
		switch c := s[i]; {
		case c >= '0' && c <= '9':
			digit = true
		case c >= 'a' && c <= 'z':
			lower, letter = true, true
		case c >= 'A' && c <= 'Z':
			upper, letter = true, true
		case c == '%':
			digit, letter = true, true // whatever it stands for
		}
	}
	return digit && letter || upper && lower
}

// isUUID reports whether s is a UUID in its usual form (RFC 9562, section 4).
func isUUID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i := range len(s) {
		c := s[i] | 0x20
		switch i {
		case 8, 13, 18, 23:
			if s[i] != '-' {
				return false
			}
		default:
			if (s[i] < '0' || s[i] > '9') && (c < 'a' || c > 'f') {
				return false
			}
		}
	}
	return true
}

// What follows only remembers.

func (f *remembered) add(field zapcore.Field) { f.fields = append(f.fields, field) }

// AddArray implements zapcore.ObjectEncoder.
func (f *remembered) AddArray(key string, v zapcore.ArrayMarshaler) error {
	f.add(zap.Array(key, v))
	return nil
}

// AddObject implements zapcore.ObjectEncoder.
func (f *remembered) AddObject(key string, v zapcore.ObjectMarshaler) error {
	f.add(zap.Object(key, v))
	return nil
}

// AddReflected implements zapcore.ObjectEncoder.
func (f *remembered) AddReflected(key string, v any) error {
	f.add(zap.Reflect(key, v))
	return nil
}

// AddBinary implements zapcore.ObjectEncoder.
func (f *remembered) AddBinary(key string, v []byte) { f.add(zap.Binary(key, v)) }

// AddByteString implements zapcore.ObjectEncoder.
func (f *remembered) AddByteString(key string, v []byte) { f.add(zap.ByteString(key, v)) }

// AddBool implements zapcore.ObjectEncoder.
func (f *remembered) AddBool(key string, v bool) { f.add(zap.Bool(key, v)) }

// AddComplex128 implements zapcore.ObjectEncoder.
func (f *remembered) AddComplex128(key string, v complex128) { f.add(zap.Complex128(key, v)) }

// AddComplex64 implements zapcore.ObjectEncoder.
func (f *remembered) AddComplex64(key string, v complex64) { f.add(zap.Complex64(key, v)) }

// AddDuration implements zapcore.ObjectEncoder.
func (f *remembered) AddDuration(key string, v time.Duration) { f.add(zap.Duration(key, v)) }

// AddFloat64 implements zapcore.ObjectEncoder.
func (f *remembered) AddFloat64(key string, v float64) { f.add(zap.Float64(key, v)) }

// AddFloat32 implements zapcore.ObjectEncoder.
func (f *remembered) AddFloat32(key string, v float32) { f.add(zap.Float32(key, v)) }

// AddInt implements zapcore.ObjectEncoder.
func (f *remembered) AddInt(key string, v int) { f.add(zap.Int(key, v)) }

// AddInt64 implements zapcore.ObjectEncoder.
func (f *remembered) AddInt64(key string, v int64) { f.add(zap.Int64(key, v)) }

// AddInt32 implements zapcore.ObjectEncoder.
func (f *remembered) AddInt32(key string, v int32) { f.add(zap.Int32(key, v)) }

// AddInt16 implements zapcore.ObjectEncoder.
func (f *remembered) AddInt16(key string, v int16) { f.add(zap.Int16(key, v)) }

// AddInt8 implements zapcore.ObjectEncoder.
func (f *remembered) AddInt8(key string, v int8) { f.add(zap.Int8(key, v)) }

// AddString implements zapcore.ObjectEncoder.
func (f *remembered) AddString(key, v string) { f.add(zap.String(key, v)) }

// AddTime implements zapcore.ObjectEncoder.
func (f *remembered) AddTime(key string, v time.Time) { f.add(zap.Time(key, v)) }

// AddUint implements zapcore.ObjectEncoder.
func (f *remembered) AddUint(key string, v uint) { f.add(zap.Uint(key, v)) }

// AddUint64 implements zapcore.ObjectEncoder.
func (f *remembered) AddUint64(key string, v uint64) { f.add(zap.Uint64(key, v)) }

// AddUint32 implements zapcore.ObjectEncoder.
func (f *remembered) AddUint32(key string, v uint32) { f.add(zap.Uint32(key, v)) }

// AddUint16 implements zapcore.ObjectEncoder.
func (f *remembered) AddUint16(key string, v uint16) { f.add(zap.Uint16(key, v)) }

// AddUint8 implements zapcore.ObjectEncoder.
func (f *remembered) AddUint8(key string, v uint8) { f.add(zap.Uint8(key, v)) }

// AddUintptr implements zapcore.ObjectEncoder.
func (f *remembered) AddUintptr(key string, v uintptr) { f.add(zap.Uintptr(key, v)) }

// OpenNamespace implements zapcore.ObjectEncoder.
func (f *remembered) OpenNamespace(key string) { f.add(zap.Namespace(key)) }

// Interface guards
var (
	_ zapcore.Encoder       = (*LogFormat)(nil)
	_ zapcore.Encoder       = (*remembered)(nil)
	_ caddy.Provisioner     = (*LogFormat)(nil)
	_ caddyfile.Unmarshaler = (*LogFormat)(nil)
)
