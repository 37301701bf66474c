package caddymodule

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// logRig is a logger with the format, and what it has written.
func logRig(t *testing.T, format string) (*zap.Logger, *bytes.Buffer) {
	t.Helper()
	f := new(LogFormat)
	if err := f.UnmarshalCaddyfile(caddyfile.NewTestDispenser(format)); err != nil {
		t.Fatal(err)
	}
	if err := f.Provision(caddy.Context{}); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	return zap.New(zapcore.NewCore(f, zapcore.AddSync(&out), zapcore.InfoLevel)), &out
}

func lastLine(t *testing.T, out *bytes.Buffer) map[string]any {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	var m map[string]any
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &m); err != nil {
		t.Fatalf("%q: %v", lines[len(lines)-1], err)
	}
	return m
}

// counted is an object that knows how often it was encoded.
type counted struct{ n *int }

func (c counted) MarshalLogObject(enc zapcore.ObjectEncoder) error {
	*c.n++
	enc.AddString("a", "b")
	return nil
}

func TestLogLinesHoldNoCredential(t *testing.T) {
	const secret = "hive_sk_0123456789012345678901234567890123456789abcdefgh"
	log, out := logRig(t, "hivegate")
	for _, uri := range []string{
		"/farms/" + secret + "/x?apikey=" + secret, "/farms?token=short", "/" + strings.ToUpper(secret),
		"/a/hive%5Fsk%5F0123456789012345678901234567890123456789", "*?" + secret, "/x/" + strings.Repeat("0123456789abcdef", 2),
		"/rest/v1/sb_" + secret[:28], "/x/legacykey" + "ABCDEFGHabcdefgh",
	} {
		r := request(http.MethodGet, "/farms", secret)
		r.RequestURI = uri
		r.Header.Set("Apikey", secret)
		r.Header.Set("X-Security-Code", "123456")
		logged := zap.Object("request", caddyhttp.LoggableHTTPRequest{Request: r, ShouldLogCredentials: true})
		headers := zap.Object("headers", caddyhttp.LoggableHTTPHeader{Header: r.Header, ShouldLogCredentials: true})
		log.With(logged).Info("first", headers)
		log.Info("second", logged, zap.Object("resp_headers", caddyhttp.LoggableHTTPHeader{Header: r.Header, ShouldLogCredentials: true}),
			zap.Any("headers", r.Header))
		text := strings.ToLower(out.String())
		for _, s := range []string{secret[:12], secret[8:20], "legacykey", "6789abcdef0123", "123456", "token=short", "hive%5fsk"} {
			if strings.Contains(text, s) {
				t.Fatalf("%s: %q is in %s", uri, s, out)
			}
		}
		req, _ := lastLine(t, out)["request"].(map[string]any)
		if req["method"] != "GET" || req["remote_ip"] == nil || !strings.Contains(uri, "?") != !strings.HasSuffix(req["uri"].(string), "?REDACTED") {
			t.Errorf("%s: too little is logged: %v", uri, req)
		}
	}
	for _, uri := range []string{"/farms/7/workers/8f14e45f-ceea-467f-a8f5-123456789abc", "/account/referral/payout_addresses", "/", "", "*",
		"/async/1795306132893551600000", "/notification-channels-and-subscriptions"} {
		r := request(http.MethodGet, "/", "")
		r.RequestURI = uri
		log.Info("plain", zap.Object("request", caddyhttp.LoggableHTTPRequest{Request: r}))
		if req, _ := lastLine(t, out)["request"].(map[string]any); req["uri"] != uri {
			t.Errorf("%s: an ordinary path is hidden: %v", uri, req)
		}
	}
}

// A line of fields alone is encoded directly, but for those that may hold something.
func TestPlainLogFieldsHoldNoCredential(t *testing.T) {
	const secret = "hive_sk_0123456789012345678901234567890123456789abcdefgh"
	log, out := logRig(t, "hivegate")
	for _, f := range []zap.Field{
		zap.String("uri", "/x?key="+secret), zap.String("method", secret), zap.String("host", "a."+secret),
		zap.Any("headers", http.Header{"X": {secret}}), zap.Inline(zapcore.ObjectMarshalerFunc(func(enc zapcore.ObjectEncoder) error {
			enc.AddString("uri", "/"+secret)
			return nil
		})),
	} {
		for _, other := range []zap.Field{zap.String("reason", "r"), zap.Int("status", 401)} {
			log.Info("line", other, f)
			if line := lastLine(t, out); line["msg"] != "line" || line[other.Key] == nil || strings.Contains(out.String(), secret[8:20]) {
				t.Fatalf("%s beside %s: %s", f.Key, other.Key, out)
			}
		}
	}
	log.Info("plain", zap.String("key_id", "key_1"), zap.Error(errClosed))
	if line := lastLine(t, out); line["key_id"] != "key_1" || line["error"] != errClosed.Error() {
		t.Fatalf("%v", line)
	}
}

// TestLogFieldsAreEncodedWithTheirLineOnly: what no level writes costs nothing.
func TestLogFieldsAreEncodedWithTheirLineOnly(t *testing.T) {
	log, out := logRig(t, "hivegate")
	n := 0
	child := log.With(zap.Object("o", counted{&n}))
	child.Debug("not written")
	if n != 0 || out.Len() != 0 {
		t.Fatalf("encoded %d times, wrote %q", n, out)
	}
	child.Info("written")
	child.Info("again")
	if o, _ := lastLine(t, out)["o"].(map[string]any); n != 2 || o["a"] != "b" {
		t.Fatalf("encoded %d times, wrote %s", n, out)
	}
}

func TestLogFieldsOfOneLoggerAreNotThoseOfAnother(t *testing.T) {
	log, out := logRig(t, "hivegate {\n\ttime_format rfc3339\n\tmessage_key m\n}")
	parent := log.With(zap.Int("p", 1), zap.Bool("b", true), zap.Duration("d", time.Second), zap.Strings("s", []string{"x", "y"}), zap.Namespace("n"))
	left, right := parent.With(zap.String("side", "left")), parent.With(zap.String("side", "right"))
	right.Info("r")
	left.Info("l", zap.Float64("f", 1.5))
	parent.Info("p")
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	for i, want := range []string{
		`"m":"r","p":1,"b":true,"d":1,"s":["x","y"],"n":{"side":"right"}}`,
		`"m":"l","p":1,"b":true,"d":1,"s":["x","y"],"n":{"side":"left","f":1.5}}`,
		`"m":"p","p":1,"b":true,"d":1,"s":["x","y"],"n":{}}`,
	} {
		if !strings.HasSuffix(lines[i], want) {
			t.Errorf("line %d is %s, want …%s", i, lines[i], want)
		}
	}
	if stamp, _ := lastLine(t, out)["ts"].(string); !strings.Contains(stamp, "T") {
		t.Errorf("time is %q", stamp)
	}
}

func TestLogFormatRefusesUnknownOptions(t *testing.T) {
	for _, text := range []string{"hivegate json", "hivegate {\n\tpretty\n}"} {
		if err := new(LogFormat).UnmarshalCaddyfile(caddyfile.NewTestDispenser(text)); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
}
