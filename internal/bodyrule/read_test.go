package bodyrule

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/hivegate/hivegate/internal/refusal"
)

func TestOnlyPlainJSONIsRead(t *testing.T) {
	s := compile(t, "command oneof a")
	json := "application/json"
	for _, c := range []struct {
		name   string
		header http.Header
		ok     bool
	}{
		{"plain", http.Header{"Content-Type": {json}}, true},
		{"case", http.Header{"Content-Type": {"Application/JSON"}}, true},
		{"charset", http.Header{"Content-Type": {"application/json; charset=utf-8"}}, true},
		{"charset, quoted", http.Header{"Content-Type": {`application/json ;Charset="UTF-8"`}}, true},
		{"empty parameter", http.Header{"Content-Type": {"application/json;"}}, true},
		{"others are left alone", http.Header{"Content-Type": {json}, "Content-Length": {"3"}, "X-Request-Id": {"1"}, "Accept-Language1": {"x"}}, true},
		{"none", http.Header{}, false},
		{"two", http.Header{"Content-Type": {json, json}}, false},
		{"empty", http.Header{"Content-Type": {""}}, false},
		{"list", http.Header{"Content-Type": {"application/json, text/plain"}}, false},
		{"other type", http.Header{"Content-Type": {"text/json"}}, false},
		{"longer type", http.Header{"Content-Type": {"application/json5"}}, false},
		{"suffix type", http.Header{"Content-Type": {"application/problem+json"}}, false},
		{"form", http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}, false},
		{"other charset", http.Header{"Content-Type": {"application/json; charset=utf-16"}}, false},
		{"two charsets", http.Header{"Content-Type": {"application/json; charset=utf-8; charset=utf-8"}}, false},
		{"other parameter", http.Header{"Content-Type": {"application/json; boundary=x"}}, false},
		{"gzip", http.Header{"Content-Type": {json}, "Content-Encoding": {"gzip"}}, false},
		{"identity", http.Header{"Content-Type": {json}, "Content-Encoding": {"identity"}}, false},
		{"empty encoding", http.Header{"Content-Type": {json}, "Content-Encoding": {""}}, false},
		{"encoding for CGI", http.Header{"Content-Type": {json}, "Content_encoding": {"gzip"}}, false},
		{"type for CGI", http.Header{"Content-Type": {json}, "Content_type": {"text/plain"}}, false},
		{"type, raw spelling", http.Header{"content-type": {json}}, false},
	} {
		raw, no := s.Read(strings.NewReader("{}"), c.header, 2)
		if ok := no == nil; ok != c.ok || ok && string(raw) != "{}" || !ok && no.Reason != refusal.ReasonBodyNotJSON {
			t.Errorf("%s: %q, %+v", c.name, raw, no)
		}
	}
}

func TestABodyIsReadUpToItsBound(t *testing.T) {
	for _, length := range []int64{-1, 0} { // 0 stands for the true length
		for size, want := range map[int]refusal.Reason{0: "", 1: "", MaxBody: "", MaxBody + 1: refusal.ReasonBodyTooLarge, 3 * MaxBody: refusal.ReasonBodyTooLarge} {
			body := bytes.Repeat([]byte("x"), size)
			announced := length
			if length == 0 {
				announced = int64(size)
			}
			raw, no := ReadBody(iotest.HalfReader(bytes.NewReader(body)), announced, MaxBody)
			switch {
			case want == "" && (no != nil || !bytes.Equal(raw, body)):
				t.Errorf("%d bytes, announced %d: %d bytes, %v", size, announced, len(raw), no)
			case want != "" && (no == nil || no.Reason != want || raw != nil):
				t.Errorf("%d bytes, announced %d: %d bytes, %v", size, announced, len(raw), no)
			}
		}
	}
}

func TestABodyThatIsAnnouncedTooLargeIsNotRead(t *testing.T) {
	body := iotest.ErrReader(errors.New("it was read"))
	if _, no := ReadBody(body, MaxBody+1, MaxBody); no == nil || no.Reason != refusal.ReasonBodyTooLarge || no.Err != nil {
		t.Errorf("%+v", no)
	}
	s := compile(t, "command oneof a")
	if _, no := s.Read(body, http.Header{"Content-Type": {"text/plain"}}, 1); no == nil || no.Reason != refusal.ReasonBodyNotJSON {
		t.Errorf("%+v", no)
	}
}

func TestABodyThatBreaksOffIsRefused(t *testing.T) {
	broken := errors.New("connection lost")
	_, no := ReadBody(io.MultiReader(strings.NewReader("{"), iotest.ErrReader(broken)), 10, MaxBody)
	if no == nil || no.Reason != refusal.ReasonBodyInvalid || !errors.Is(no, broken) {
		t.Errorf("%+v", no)
	}
	// A smaller bound of an earlier handler says 413, as ours does.
	rec := httptest.NewRecorder()
	_, no = ReadBody(http.MaxBytesReader(rec, io.NopCloser(strings.NewReader("12345")), 4), -1, MaxBody)
	if no == nil || no.Reason != refusal.ReasonBodyTooLarge {
		t.Errorf("%+v", no)
	}
	if raw, no := ReadBody(nil, 0, MaxBody); no != nil || len(raw) != 0 {
		t.Errorf("no body: %q, %v", raw, no)
	}
}

// server answers with what arrived: length, transfer encoding, body.
func replayThrough(t *testing.T, request string) (body string, length int64, header string) {
	t.Helper()
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(request)))
	if err != nil {
		t.Fatal(err)
	}
	raw, no := ReadBody(r.Body, r.ContentLength, MaxBody)
	if no != nil {
		t.Fatal(no)
	}
	Replay(r, raw)
	if r.Trailer != nil || r.TransferEncoding != nil || r.Header.Get("Trailer") != "" {
		t.Errorf("goes on with trailers %v and transfer encoding %v", r.Trailer, r.TransferEncoding)
	}
	r.RequestURI, r.URL.Scheme, r.URL.Host = "", "http", "backend"
	var wire bytes.Buffer
	if err := r.Write(&wire); err != nil {
		t.Fatal(err)
	}
	got, err := http.ReadRequest(bufio.NewReader(&wire))
	if err != nil {
		t.Fatal(err)
	}
	if len(got.TransferEncoding) > 0 || len(got.Trailer) > 0 {
		t.Errorf("arrives with transfer encoding %v, trailers %v", got.TransferEncoding, got.Trailer)
	}
	b, err := io.ReadAll(got.Body)
	if err != nil {
		t.Fatal(err)
	}
	again, err := r.GetBody()
	if err != nil {
		t.Fatal(err)
	}
	if second, err := io.ReadAll(again); err != nil || !bytes.Equal(second, b) {
		t.Errorf("GetBody gives %q, %v", second, err)
	}
	return string(b), got.ContentLength, r.Header.Get("Content-Length")
}

func TestABodyIsReplayedByteForByte(t *testing.T) {
	const head = "POST /x HTTP/1.1\r\nHost: h\r\n"
	for request, want := range map[string]string{
		head + "Content-Length: 9\r\n\r\n{ \"a\":1 }":                                               `{ "a":1 }`,
		head + "Transfer-Encoding: chunked\r\n\r\n3\r\n{ \"\r\n6\r\na\":1 }\r\n0\r\n\r\n":           `{ "a":1 }`,
		head + "Transfer-Encoding: chunked\r\nTrailer: X-T\r\n\r\n2\r\n\r\n\r\n0\r\nX-T: v\r\n\r\n": "\r\n",
		head + "Content-Length: 0\r\n\r\n":                                                          "",
		head + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n":                                        "",
		head + "\r\n": "",
	} {
		body, length, header := replayThrough(t, request)
		if body != want || length != int64(len(want)) || header != itoa(len(want)) {
			t.Errorf("%q: body %q, length %d, header %q", request, body, length, header)
		}
	}
}

func itoa(n int) string { return string(rune('0' + n)) }

type closing struct {
	io.Reader
	closed bool
}

func (c *closing) Close() error { c.closed = true; return nil }

func TestClosingTheReplayedBodyClosesTheFirst(t *testing.T) {
	first := &closing{Reader: strings.NewReader("")}
	r := httptest.NewRequest(http.MethodPost, "/", nil)
	r.Body = first
	Replay(r, []byte("x"))
	if err := r.Body.Close(); err != nil || !first.closed {
		t.Errorf("closed: %v, %v", first.closed, err)
	}
}
