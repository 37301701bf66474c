package signature

import (
	"bytes"
	"encoding/hex"
	"errors"
	"net/http"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/hivegate/hivegate/internal/refusal"
)

var (
	epoch  = time.Unix(1_780_000_000, 999_999_999)
	secret = []byte("hgs_ABCDEFGHIJKLMNOPQRSTUVWXYZ234567ABCDEFGHIJKLMNOPQRST")
	other  = []byte("hgs_TSRQPONMLKJIHGFEDCBA765432ZYXWVUTSRQPONMLKJIHGFEDCBA")
)

func verifier(t testing.TB, o Options) *Verifier {
	t.Helper()
	v, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// request is a signed request; an empty stamp is the form without one.
func request(stamp string, body string) Request {
	r := Request{Method: "POST", Target: "/api/outcomes?x=1", Header: http.Header{}, Body: []byte(body)}
	if stamp != "" {
		r.Header.Set(TimestampHeader, stamp)
	}
	r.Header.Set(DefaultHeader, Sign(secret, stamp, r.Method, r.Target, r.Body))
	return r
}

func reason(no *refusal.Refusal) refusal.Reason {
	if no == nil {
		return ""
	}
	return no.Reason
}

// RFC 4231 section 4: test cases 1, 2, 3, 6 and 7 (4 uses no ASCII either, 5
// truncates). Their keys of 4 and 20 bytes go through Sign, which has no minimum.
func TestVectorsOfRFC4231(t *testing.T) {
	for _, c := range []struct{ key, data, mac string }{
		{strings.Repeat("\x0b", 20), "Hi There", "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"},
		{"Jefe", "what do ya want for nothing?", "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"},
		{strings.Repeat("\xaa", 20), strings.Repeat("\xdd", 50), "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe"},
		{strings.Repeat("\xaa", 131), "Test Using Larger Than Block-Size Key - Hash Key First", "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"},
		{strings.Repeat("\xaa", 131), "This is a test using a larger than block-size key and a larger than block-size data. The key needs to be hashed before being used by the HMAC algorithm.", "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2"},
	} {
		if got := Sign([]byte(c.key), "", "", "", []byte(c.data)); got != c.mac {
			t.Errorf("%q: %s, want %s", c.data, got, c.mac)
		}
		v := verifier(t, Options{})
		r := Request{Header: http.Header{DefaultHeader: {c.mac}}, Body: []byte(c.data)}
		if got := reason(v.Verify(epoch, r, []byte(c.key))); (got == "") != (len(c.key) >= minSecret) {
			t.Errorf("%q: %s", c.data, got)
		}
	}
}

func TestOpenSSLMakesSignaturesThatPass(t *testing.T) {
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		// Sign is held against RFC 4231 in any case.
		t.Log("openssl is not installed: RFC 4231's vectors alone are checked")
		return
	}
	const stamp = "1780000000"
	body := "{\"a\":\"ü\x00\"}\n"
	for signed, header := range map[string]http.Header{
		body:                           {},
		stamp + ".POST./x?a=b." + body: {TimestampHeader: {stamp}},
	} {
		cmd := exec.Command(openssl, "dgst", "-sha256", "-hmac", string(secret))
		cmd.Stdin = strings.NewReader(signed)
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		fields := strings.Fields(string(out))
		header.Set(DefaultHeader, fields[len(fields)-1])
		if no := verifier(t, Options{}).Verify(epoch, Request{"POST", "/x?a=b", header, []byte(body)}, other, secret); no != nil {
			t.Errorf("%q: %v", signed, no)
		}
	}
}

func TestEitherSecretIsAccepted(t *testing.T) {
	v := verifier(t, Options{})
	for _, stamp := range []string{"", "1780000000"} {
		r := request(stamp, `{"a":1}`)
		for name, c := range map[string]struct {
			secrets [][]byte
			ok      bool
		}{
			"alone":     {[][]byte{secret}, true},
			"first":     {[][]byte{secret, other}, true},
			"last":      {[][]byte{other, secret}, true},
			"wrong":     {[][]byte{other}, false},
			"none":      {nil, false},
			"empty":     {[][]byte{{}, nil}, false},
			"shortened": {[][]byte{secret[:20]}, false},
		} {
			if got := reason(v.Verify(epoch, r, c.secrets...)); (got == "") != c.ok || !c.ok && got != refusal.ReasonSignatureInvalid {
				t.Errorf("%s (timestamp %q): %q", name, stamp, got)
			}
		}
	}
}

func TestASecretThatCanBeGuessedSignsNothing(t *testing.T) {
	v := verifier(t, Options{})
	for _, weak := range []string{"", "a", "fifteen bytes.."} {
		r := Request{Header: http.Header{DefaultHeader: {Sign([]byte(weak), "", "", "", nil)}}}
		if got := reason(v.Verify(epoch, r, []byte(weak))); got != refusal.ReasonSignatureInvalid {
			t.Errorf("%q: %q", weak, got)
		}
	}
}

func TestWhateverIsChangedTheSignatureNoLongerHolds(t *testing.T) {
	v := verifier(t, Options{})
	good := request("1780000000", `{"a":1}`)
	if no := v.Verify(epoch, good, secret); no != nil {
		t.Fatal(no)
	}
	for name, change := range map[string]func(*Request){
		"body":           func(r *Request) { r.Body = []byte(`{"a":2}`) },
		"body, shorter":  func(r *Request) { r.Body = r.Body[:6] },
		"body, longer":   func(r *Request) { r.Body = append(bytes.Clone(r.Body), '\n') },
		"method":         func(r *Request) { r.Method = "PUT" },
		"method's case":  func(r *Request) { r.Method = "post" },
		"target":         func(r *Request) { r.Target = "/api/outcomes" },
		"query":          func(r *Request) { r.Target = "/api/outcomes?x=2" },
		"timestamp":      func(r *Request) { r.Header.Set(TimestampHeader, "1780000001") },
		"timestamp gone": func(r *Request) { r.Header.Del(TimestampHeader) },
		"one digit":      func(r *Request) { flip(r.Header) },
	} {
		r := good
		r.Header = good.Header.Clone()
		change(&r)
		if got := reason(v.Verify(epoch, r, secret)); got != refusal.ReasonSignatureInvalid {
			t.Errorf("%s: %q", name, got)
		}
	}
	plain := request("", "{}")
	plain.Header.Set(TimestampHeader, "1780000000")
	if got := reason(v.Verify(epoch, plain, secret)); got != refusal.ReasonSignatureInvalid {
		t.Errorf("a timestamp that was not signed: %q", got)
	}
}

// flip changes the last digit of the signature.
func flip(h http.Header) {
	s := []byte(h.Get(DefaultHeader))
	s[len(s)-1] ^= 1
	h.Set(DefaultHeader, string(s))
}

func TestTheHeaderHasExactlyOneShape(t *testing.T) {
	v := verifier(t, Options{})
	good := request("", "{}")
	mac := good.Header.Get(DefaultHeader)
	for name, c := range map[string]struct {
		values []string
		want   refusal.Reason
	}{
		"right":        {[]string{mac}, ""},
		"absent":       {nil, refusal.ReasonSignatureRequired},
		"empty":        {[]string{""}, refusal.ReasonSignatureInvalid},
		"twice":        {[]string{mac, mac}, refusal.ReasonSignatureInvalid},
		"list":         {[]string{mac + ", " + mac}, refusal.ReasonSignatureInvalid},
		"upper case":   {[]string{strings.ToUpper(mac)}, refusal.ReasonSignatureInvalid},
		"sha256=":      {[]string{"sha256=" + mac}, refusal.ReasonSignatureInvalid},
		"short":        {[]string{mac[:63]}, refusal.ReasonSignatureInvalid},
		"one byte off": {[]string{mac[:62]}, refusal.ReasonSignatureInvalid},
		"long":         {[]string{mac + "0"}, refusal.ReasonSignatureInvalid},
		"space":        {[]string{" " + mac[1:]}, refusal.ReasonSignatureInvalid},
		"not hex":      {[]string{"g" + mac[1:]}, refusal.ReasonSignatureInvalid},
	} {
		good.Header[DefaultHeader] = c.values
		if c.values == nil {
			delete(good.Header, DefaultHeader)
		}
		if got := reason(v.Verify(epoch, good, secret)); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

func TestTimestampsHoldForFiveMinutes(t *testing.T) {
	v := verifier(t, Options{})
	for offset, ok := range map[int64]bool{0: true, 1: true, -1: true, 300: true, -300: true, 301: false, -301: false, 86400: false, -86400: false} {
		r := request(strconv.FormatInt(epoch.Unix()+offset, 10), "{}")
		if got := reason(v.Verify(epoch, r, secret)); (got == "") != ok {
			t.Errorf("%d seconds off: %q", offset, got)
		}
	}
}

func TestTimestampsHaveExactlyOneShape(t *testing.T) {
	v := verifier(t, Options{})
	for _, stamp := range []string{
		"+1780000000", "-1780000000", " 1780000000", "1780000000 ", "01780000000", "1780000000.0", "1.78e9", "0x6a18d580", "178000000",
		"17800000000", "1780000000000", "１７８００００００", "١٧٨٠٠٠٠٠٠٠", "abcdefghij", "0000000000", "1780000000\n", "1_780_000_0", "99999999999999999999",
	} {
		r := request(stamp, "{}")
		if got := reason(v.Verify(epoch, r, secret)); got != refusal.ReasonSignatureInvalid {
			t.Errorf("%q: %q", stamp, got)
		}
	}
	r := request("1780000000", "{}")
	r.Header[TimestampHeader] = []string{"1780000000", "1780000000"}
	if got := reason(v.Verify(epoch, r, secret)); got != refusal.ReasonSignatureInvalid {
		t.Errorf("two timestamps: %q", got)
	}
	r = request("", "{}")
	r.Header[TimestampHeader] = []string{""}
	if got := reason(v.Verify(epoch, r, secret)); got != refusal.ReasonSignatureInvalid {
		t.Errorf("an empty timestamp: %q", got)
	}
}

func TestTimestampRequiredLeavesOneForm(t *testing.T) {
	v := verifier(t, Options{TimestampRequired: true})
	if no := v.Verify(epoch, request("1780000000", "{}"), secret); no != nil {
		t.Error(no)
	}
	no := v.Verify(epoch, request("", "{}"), secret)
	if reason(no) != refusal.ReasonSignatureInvalid || !strings.Contains(no.Hint, TimestampHeader) {
		t.Errorf("without a timestamp: %+v", no)
	}
	no = v.Verify(epoch, Request{Header: http.Header{}}, secret)
	if reason(no) != refusal.ReasonSignatureRequired || !strings.Contains(no.Hint, TimestampHeader) {
		t.Errorf("without anything: %+v", no)
	}
}

// The signed text of a timestamped request, sent as a body without a timestamp,
// has the same HMAC: it must not outlive its window.
func TestATimestampedTextIsNoBody(t *testing.T) {
	v := verifier(t, Options{})
	stamped := request("1780000000", `{"a":1}`)
	body := "1780000000.POST./api/outcomes?x=1.{\"a\":1}"
	forged := Request{Method: "POST", Target: "/elsewhere", Body: []byte(body),
		Header: http.Header{DefaultHeader: stamped.Header[DefaultHeader]}}
	if Sign(secret, "", "", "", forged.Body) != forged.Header.Get(DefaultHeader) {
		t.Fatal("the forged request has another HMAC: the test proves nothing")
	}
	if got := reason(v.Verify(epoch.Add(time.Hour), forged, secret)); got != refusal.ReasonSignatureInvalid {
		t.Errorf("forged: %q", got)
	}
	for _, body := range []string{"", "1", "1780000000", "1780000000.", "1780000000..", "1780000000. .", "1780000000.5", "178000000.POST./", "x780000000.POST./", `{"t":1780000000.5}`, "1780000000,POST."} {
		if no := v.Verify(epoch, request("", body), secret); no != nil {
			t.Errorf("%q: %v", body, no)
		}
	}
}

func TestTheBodyIsBounded(t *testing.T) {
	v := verifier(t, Options{MaxBody: 1000})
	h := request("", "").Header
	for size, want := range map[int]refusal.Reason{0: "", 1000: "", 1001: refusal.ReasonBodyTooLarge} {
		body := bytes.Repeat([]byte("x"), size)
		for _, length := range []int64{-1, int64(size)} {
			raw, no := v.Read(epoch, bytes.NewReader(body), h, length)
			if reason(no) != want || want == "" && !bytes.Equal(raw, body) {
				t.Errorf("%d bytes, announced %d: %d bytes, %q", size, length, len(raw), reason(no))
			}
		}
		if got := reason(v.Verify(epoch, request("", string(body)), secret)); got != want {
			t.Errorf("%d bytes read already: %q", size, got)
		}
	}
	if v := verifier(t, Options{}); v.maxBody != 1<<20 {
		t.Errorf("the default bound is %d", v.maxBody)
	}
}

func TestNoBodyIsReadForASignatureThatCannotHold(t *testing.T) {
	v := verifier(t, Options{})
	unread := iotest.ErrReader(errors.New("it was read"))
	for name, h := range map[string]http.Header{
		"absent": {}, "malformed": {DefaultHeader: {"x"}},
		"late": {DefaultHeader: {strings.Repeat("0", 64)}, TimestampHeader: {"1680000000"}},
	} {
		if _, no := v.Read(epoch, unread, h, -1); no == nil || no.Err != nil || no.Reason == refusal.ReasonBodyInvalid {
			t.Errorf("%s: %+v", name, no)
		}
	}
}

func TestRefusalsHoldNoSecretAndNoSignature(t *testing.T) {
	v := verifier(t, Options{})
	r := request("1780000000", "{}")
	want := r.Header.Get(DefaultHeader)
	flip(r.Header)
	no := v.Verify(epoch, r, secret)
	for _, s := range []string{string(secret), want, r.Header.Get(DefaultHeader)} {
		if strings.Contains(no.Hint+no.Message+no.Error(), s) {
			t.Errorf("%q is in %+v", s, no)
		}
	}
}

func TestOptionsAreChecked(t *testing.T) {
	for _, o := range []Options{
		{Header: "X Signature"}, {Header: "X-Sig:"}, {Header: "x-request-timestamp"}, {Header: "authorization"}, {Header: "Content-Type"},
		{MaxBody: -1}, {MaxBody: 1<<30 + 1},
	} {
		if _, err := New(o); err == nil {
			t.Errorf("%+v is accepted", o)
		}
	}
	v := verifier(t, Options{Header: "x-hmac"})
	if v.HeaderName() != "X-Hmac" {
		t.Errorf("the header is %s", v.HeaderName())
	}
	r := Request{Header: http.Header{"X-Hmac": {Sign(secret, "", "", "", nil)}}}
	if no := v.Verify(epoch, r, secret); no != nil {
		t.Error(no)
	}
}

func TestSecretsAreRandomAndLong(t *testing.T) {
	seen := map[string]bool{}
	for range 100 {
		s := NewSecret()
		if len(s) != 56 || !strings.HasPrefix(s, "hgs_") || seen[s] {
			t.Fatalf("%q", s)
		}
		seen[s] = true
	}
}

// FuzzOnlyTheRightHeadersPass: whatever the headers, what passes is exactly the
// signature that a client makes for these bytes.
func FuzzOnlyTheRightHeadersPass(f *testing.F) {
	good := request("1780000000", "{}")
	f.Add(good.Header.Get(DefaultHeader), "1780000000", []byte("{}"))
	f.Add(request("", "{}").Header.Get(DefaultHeader), "", []byte("{}"))
	f.Add("", "+1", []byte("1780000000.POST./x.{}"))
	v := verifier(f, Options{})
	f.Fuzz(func(t *testing.T, mac, stamp string, body []byte) {
		// Half of the inputs are signed rightly: their headers alone are judged.
		for _, value := range []string{mac, Sign(secret, stamp, "POST", "/x", body)} {
			r := Request{"POST", "/x", http.Header{DefaultHeader: {value}}, body}
			if stamp != "" {
				r.Header[TimestampHeader] = []string{stamp}
			}
			if v.Verify(epoch, r, other, secret) != nil {
				continue
			}
			if value != Sign(secret, stamp, "POST", "/x", body) {
				t.Errorf("%q passes for %q", value, body)
			}
			if _, err := hex.DecodeString(value); err != nil || value != strings.ToLower(value) {
				t.Errorf("the signature %q passes", value)
			}
			if stamp == "" {
				continue
			}
			n, err := strconv.ParseInt(stamp, 10, 64)
			if d := epoch.Unix() - n; err != nil || stamp != strconv.FormatInt(n, 10) || d > 300 || d < -300 {
				t.Errorf("the timestamp %q passes", stamp)
			}
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	v := verifier(b, Options{})
	for _, size := range []int{1 << 10, 1 << 20} {
		b.Run(strconv.Itoa(size), func(b *testing.B) {
			r := request("1780000000", strings.Repeat("x", size))
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				if no := v.Verify(epoch, r, secret, other); no != nil {
					b.Fatal(no)
				}
			}
		})
	}
}
