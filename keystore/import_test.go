package keystore_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/hivegate/hivegate/keystore"
)

// hashOf is a well-formed bcrypt hash that fits no key, another for each n.
func hashOf(n int) string {
	return fmt.Sprintf("$2y$10$abcdefghijklmnopqrstuuGyT0jv8tQq8m2kq1y0h2p2%09d", n)
}

// bcryptHash finds hashes: a salt may begin with a 2, but holds no '$'.
var bcryptHash = regexp.MustCompile(`\$2[aby]\$`)

func imported(t *testing.T, b *bench, text string, opts keystore.ImportOptions) {
	t.Helper()
	result, err := b.Import(t.Context(), byCommand, strings.NewReader(text), opts)
	if err != nil {
		t.Fatal(err)
	}
	if want := len(bcryptHash.FindAllString(text, -1)); result.Imported != want {
		t.Errorf("%d imported, want %d", result.Imported, want)
	}
}

func allRecords(t *testing.T, b *bench) map[string]*keystore.Record {
	t.Helper()
	page, err := b.Store.List(t.Context(), keystore.Query{Limit: 200})
	if err != nil || page.Next != "" {
		t.Fatal(err, page.Next)
	}
	byName := make(map[string]*keystore.Record)
	for _, rec := range page.Records {
		byName[rec.Name] = rec
	}
	return byName
}

func TestImportedLinesBecomeRecords(t *testing.T) {
	b := newBench(t, []byte(strings.Repeat("k", 32)))
	imported(t, b, "\ufeff"+`{"hash":"`+hashOf(1)+`","hint":"legacy_abcdef","name":"full","owner":"acme","permissions":["farms:write","farms:read"],"plan":"operator","expires_at":"2026-12-31T23:00:00+01:00"}

  { "name" : "small", "hint": "hc_abcd", "hash" : "`+strings.Replace(hashOf(2), "$2y", "$2a", 1)+`" }`+"\r\n"+`
{"name":"nulls","hint":null,"hash":"`+strings.Replace(hashOf(3), "$2y", "$2b", 1)+`","owner":null,"permissions":null,"plan":null,"expires_at":null}
{"name":"past","hint":"legacy_abcdef","hash":"`+hashOf(4)+`","expires_at":"2020-01-01T00:00:00Z"}`,
		keystore.ImportOptions{Hint: "dflt_hint", Random: true})
	got := allRecords(t, b)
	for _, want := range []*keystore.Record{
		{
			Name: "full", Prefix: "legacy", Owner: "acme", Scopes: []string{"farms:write", "farms:read"}, Plan: "operator",
			ExpiresAt: time.Date(2026, 12, 31, 22, 0, 0, 0, time.UTC), Hint: "legacy_abcdef",
			Secrets: []keystore.Secret{{Hash: []byte(hashOf(1)), Random: true}},
		},
		{Name: "small", Prefix: "hc_abcd", Hint: "hc_abcd", Secrets: []keystore.Secret{{Hash: []byte("$2a" + hashOf(2)[3:]), Random: true}}},
		{Name: "nulls", Prefix: "dflt_h", Hint: "dflt_hint", Secrets: []keystore.Secret{{Hash: []byte("$2b" + hashOf(3)[3:]), Random: true}}},
		{
			Name: "past", Prefix: "legacy", ExpiresAt: time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC), Hint: "legacy_abcdef",
			Secrets: []keystore.Secret{{Hash: []byte(hashOf(4)), Random: true}},
		},
	} {
		rec := got[want.Name]
		if rec == nil {
			t.Errorf("%s is missing", want.Name)
			continue
		}
		want.ID, want.Seq, want.CreatedAt = rec.ID, rec.Seq, keeperEpoch
		if len(rec.Scopes) == 0 {
			rec.Scopes = nil
		}
		if !reflect.DeepEqual(rec, want) {
			t.Errorf("got\n%+v, want\n%+v", rec, want)
		}
	}
	if len(b.told) != 4 {
		t.Errorf("%d changes were told, want 4", len(b.told))
	}
}

func TestHtpasswdIsImportedWithTheUserAsNameAndHint(t *testing.T) {
	b := newBench(t, nil)
	imported(t, b, "# made by htpasswd -B\nlegacy_01:"+hashOf(1)+"\n\nlegacy_02:"+hashOf(2)+"\r\n", keystore.ImportOptions{})
	imported(t, b, "bob:"+hashOf(3)+"\n", keystore.ImportOptions{Format: keystore.ImportHtpasswd, Hint: "legacy_"})
	got := allRecords(t, b)
	for name, hint := range map[string]string{"legacy_01": "legacy_01", "legacy_02": "legacy_02", "bob": "legacy_"} {
		if rec := got[name]; rec == nil || rec.Hint != hint || rec.Secrets[0].Random || len(rec.Secrets[0].Hash) != 60 {
			t.Errorf("%s: %+v, want the hint %s", name, rec, hint)
		}
	}
}

func TestAnImportedHashIsTheOneThatWasGiven(t *testing.T) {
	hash, err := bcrypt.GenerateFromPassword([]byte("legacy_key_of_bob"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	b := newBench(t, nil)
	imported(t, b, "bob:$2y$"+string(hash[4:]), keystore.ImportOptions{Hint: "legacy_"})
	if !opens(allRecords(t, b)["bob"].Secrets[0], "legacy_key_of_bob") {
		t.Error("the key does not open its record")
	}
}

func TestAWrongLineIsNamedAndNothingIsImported(t *testing.T) {
	good := `{"hash":"` + hashOf(0) + `","hint":"legacy_good","name":"good"}`
	line := func(members string) string { return `{"hash":"` + hashOf(1) + `","hint":"legacy_bad",` + members + `}` }
	for bad, want := range map[string]string{
		`nonsense`:                                                  "not a JSON object",
		`[]`:                                                        "not a JSON object",
		`{"hash":`:                                                  "ends too early",
		`{"hash":"x"`:                                               "", // whatever is said, it is refused
		`{"hash" "x"}`:                                              "not valid JSON",
		line(`"name":"a"`) + ` {}`:                                  "something follows",
		line(`"name":"a","hash":"x"`):                               "hash: is there twice",
		line(`"name":"a","Owner":"x"`):                              `unknown member "Owner"`,
		line(`"name":"a","key":"x"`):                                `unknown member "key"; there are hash, hint, name`,
		line(`"name":7`):                                            "name: must be text",
		line(`"name":"a","permissions":"x"`):                        "permissions: must be a list of texts",
		line(`"name":"a","permissions":[7]`):                        "permissions: must be a list of texts",
		line(`"name":"a","permissions":[null]`):                     "permissions: not a scope",
		line(`"name":"a","permissions":["f:raed"]`):                 "permissions: unknown scope f:raed",
		line(`"name":"a","plan":"none"`):                            "plan: unknown plan none",
		line(`"name":"a","expires_at":"tomorrow"`):                  "expires_at: must be a time with its zone",
		line(`"name":"a","expires_at":"2027-01-01T00:00:00"`):       "expires_at: must be a time with its zone",
		line(`"name":"a","owner":"key:x"`):                          "owner: ",
		line(`"owner":"a"`):                                         "name: ",
		line(`"name":"a\u0000"`):                                    "name: ",
		"{\"name\":\"\xff\"}":                                       "not valid UTF-8",
		`{"hash":"` + hashOf(1) + `","name":"a"}`:                   "hint: is missing",
		`{"hint":"legacy_bad","name":"a"}`:                          "hash: is missing",
		`{"hash":"` + hashOf(1) + `","hint":"short","name":"a"}`:    "hint: ",
		`{"hash":"` + hashOf(1) + `","hint":"hive_sk_","name":"a"}`: "hint: ",
		`{"hash":"` + hashOf(1) + `","hint":"hc_abc","name":"a"}`:   "hint: ",
		`{"hash":"` + strings.Replace(hashOf(1), "$10$", "$15$", 1) + `","hint":"legacy_bad","name":"a"}`: "hash: ",
		`{"hash":"` + strings.Replace(hashOf(1), "$2y", "$2x", 1) + `","hint":"legacy_bad","name":"a"}`:   "hash: ",
		`{"hash":"` + hashOf(1)[:59] + `","hint":"legacy_bad","name":"a"}`:                                "hash: ",
		`{"hash":"` + hashOf(0) + `","hint":"legacy_bad","name":"a"}`:                                     "hash: the same as in line 1",
		`{"name":"` + strings.Repeat("x", 70_000) + `"}`:                                                  "longer than 64 KiB",
	} {
		b := newBench(t, nil)
		_, err := b.Import(t.Context(), byCommand, strings.NewReader(good+"\n\n"+bad+"\n"+strings.ReplaceAll(good, "0\"", "9\"")), keystore.ImportOptions{Format: keystore.ImportJSONL})
		var e *keystore.ImportError
		if !errors.As(err, &e) || len(e.Lines) != 1 || e.Lines[0].Line != 3 || !strings.Contains(e.Lines[0].Err.Error(), want) {
			t.Errorf("%.80s: error %v, want line 3 with %q", bad, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "GyT0jv8t") {
			t.Errorf("the error holds a hash: %v", err)
		}
		if len(allRecords(t, b)) != 0 || len(b.told) != 0 {
			t.Errorf("%.80s: something was imported", bad)
		}
	}
}

func TestAWrongHtpasswdLineIsNamed(t *testing.T) {
	for bad, want := range map[string]string{
		"bob":                                 "user:hash",
		":" + hashOf(1):                       "user",
		"legacy_01:$apr1$abc$def":             "htpasswd -B",
		"legacy_01:{SHA}abc":                  "htpasswd -B",
		"bob:" + hashOf(1):                    "the user is taken as the hint",
		"legacy_01:" + hashOf(1) + ":Bob":     "hash: ",
		"legacy_good:" + hashOf(1) + " extra": "hash: ",
	} {
		b := newBench(t, nil)
		_, err := b.Import(t.Context(), byCommand, strings.NewReader("legacy_good:"+hashOf(0)+"\n"+bad), keystore.ImportOptions{})
		var e *keystore.ImportError
		if !errors.As(err, &e) || len(e.Lines) != 1 || e.Lines[0].Line != 2 || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want line 2 with %q", bad, err, want)
		}
	}
}

func TestManyWrongLinesAreCountedAndTheFirstNamed(t *testing.T) {
	b := newBench(t, nil)
	_, err := b.Import(t.Context(), byCommand, strings.NewReader(strings.Repeat("{}\n", 50)), keystore.ImportOptions{})
	var e *keystore.ImportError
	if !errors.As(err, &e) || len(e.Lines) != 20 || e.More != 30 || !strings.HasSuffix(err.Error(), "and 30 more lines") {
		t.Errorf("error %v", err)
	}
}

func TestAnImportIsBoundTo16KeysPerHint(t *testing.T) {
	file := func(from, n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "user%d:%s\n", from+i, hashOf(from+i))
		}
		return b.String()
	}
	opts := keystore.ImportOptions{Hint: "legacy_"}
	wantLine := func(b *bench, text string, line int, want string) {
		t.Helper()
		before := len(allRecords(t, b))
		_, err := b.Import(t.Context(), byCommand, strings.NewReader(text), opts)
		var e *keystore.ImportError
		if !errors.As(err, &e) || len(e.Lines) != 1 || e.Lines[0].Line != line || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want line %d with %q", err, line, want)
		}
		if len(allRecords(t, b)) != before {
			t.Error("something was imported")
		}
	}
	b := newBench(t, nil)
	wantLine(b, file(0, 17), 17, "longer hints")
	imported(t, b, file(0, 10), opts)
	wantLine(b, file(100, 7), 7, "longer hints")
	wantLine(b, "new:"+hashOf(500)+"\n"+file(3, 1), 2, "imported before, as key_")
	imported(t, b, file(100, 6), opts)
}

func TestAnImportThatReadsNothingOrFailsIsAnError(t *testing.T) {
	b := newBench(t, nil)
	for _, text := range []string{"", "\n\n", "# nothing\n", "\ufeff"} {
		if _, err := b.Import(t.Context(), byCommand, strings.NewReader(text), keystore.ImportOptions{}); err == nil || !strings.Contains(err.Error(), "no key") {
			t.Errorf("%q: %v", text, err)
		}
	}
	mine := errors.New("the disk is gone")
	r := io.MultiReader(strings.NewReader("legacy_01:"+hashOf(1)+"\n"), iotest.ErrReader(mine))
	if _, err := b.Import(t.Context(), byCommand, r, keystore.ImportOptions{}); !errors.Is(err, mine) {
		t.Errorf("error %v", err)
	}
	if _, err := b.Import(t.Context(), byCommand, strings.NewReader("a"), keystore.ImportOptions{Format: "csv"}); err == nil {
		t.Error("an unknown format was taken")
	}
	if len(allRecords(t, b)) != 0 {
		t.Error("something was imported")
	}
}

func FuzzImport(f *testing.F) {
	f.Add(`{"hash":"`+hashOf(1)+`","hint":"legacy_abcdef","name":"full","permissions":["farms:read"]}`, "jsonl")
	f.Add("legacy_01:"+hashOf(1)+"\n# x\r\n", "htpasswd")
	f.Add("\ufeff{}\n{\"name\":null,\"name\":1}", "")
	f.Fuzz(func(t *testing.T, text, format string) {
		store := &countingStore{}
		k := keystore.Keeper{Store: store}
		result, err := k.Import(t.Context(), byCommand, strings.NewReader(text), keystore.ImportOptions{Format: format})
		if (err == nil) != (result.Imported > 0) || result.Imported != len(store.recs) {
			t.Fatalf("%d imported, %d stored, %v", result.Imported, len(store.recs), err)
		}
		for _, rec := range store.recs {
			if keystore.ValidHash(rec.Secrets[0].Hash) != nil || keystore.ValidName(rec.Name) != nil || !strings.HasPrefix(rec.Hint, rec.Prefix) {
				t.Errorf("%+v was stored", rec)
			}
		}
	})
}

// countingStore is a store of one Create.
type countingStore struct {
	keystore.Store
	recs []*keystore.Record
}

func (s *countingStore) Hints(_ context.Context, _ func(string)) error { return nil }

func (s *countingStore) Create(_ context.Context, _ keystore.Change, recs ...*keystore.Record) error {
	s.recs = recs
	return nil
}

func TestAnExportHoldsEveryRecordAndNoSecret(t *testing.T) {
	b := newBench(t, []byte(strings.Repeat("k", 32)))
	var secrets []string
	for i := range 203 { // more than a page
		rec, key := b.create(keystore.NewKey{Name: fmt.Sprintf("key <%d>", i)})
		secrets = append(secrets, key[12:], string(rec.Secrets[0].Hash), string(rec.Secrets[0].Digest))
		b.clock = b.clock.Add(time.Second)
	}
	imported(t, b, "bob:"+hashOf(1), keystore.ImportOptions{Hint: "legacy_hint_of_bob"})
	secrets = append(secrets, "legacy_hint_of_bob", hashOf(1))
	var out bytes.Buffer
	if err := b.Export(t.Context(), &out); err != nil {
		t.Fatal(err)
	}
	for _, secret := range secrets {
		if strings.Contains(out.String(), secret) {
			t.Fatalf("the export holds a secret")
		}
	}
	lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
	if len(lines) != 204 {
		t.Fatalf("%d lines, want 204", len(lines))
	}
	for i, line := range lines[1:] {
		var view keystore.RecordView
		dec := json.NewDecoder(strings.NewReader(line))
		dec.DisallowUnknownFields()
		if err := dec.Decode(&view); err != nil || view.Name != fmt.Sprintf("key <%d>", 202-i) {
			t.Fatalf("line %d: %v, %s", i+2, err, line)
		}
	}
}

func TestARecordIsShownWithExactlyItsMembers(t *testing.T) {
	id := keystore.ID([]byte("abcdefghijkl"))
	full := &keystore.Record{
		ID: id, Name: "ci", Prefix: "hive_sk_abcd", Owner: "acme", Scopes: []string{"farms:read", "workers:command@farmId=42,43"}, Plan: "operator",
		Limits:    &keystore.Limits{Requests: "5000/m", Concurrent: map[string]int{"outcomes": 50}},
		CreatedAt: keeperEpoch, ExpiresAt: keeperEpoch.Add(time.Hour + time.Millisecond).In(time.FixedZone("x", 3600)), LastUsedAt: keeperEpoch,
		IPAllowlist: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}, Hint: "secret", Secrets: []keystore.Secret{{Hash: []byte("secret")}},
		LastAddr: "192.0.2.1", LastRoute: "GET /", Seq: 7,
	}
	for want, rec := range map[string]*keystore.Record{
		`{"id":"key_abcdefghijkl","name":"ci","prefix":"hive_sk_abcd","owner":"acme","permissions":["farms:read","workers:command@farmId=42,43"],"plan":"operator","limits":{"requests":"5000/m","concurrent":{"outcomes":50}},"status":"active","created_at":"2026-03-01T12:00:00Z","expires_at":"2026-03-01T13:00:00.001Z","last_used_at":"2026-03-01T12:00:00Z","ip_allowlist":["192.0.2.0/24"]}`: full,
		`{"id":"key_abcdefghijkl","name":"ci","prefix":"hive_sk_abcd","owner":null,"permissions":[],"plan":null,"limits":null,"status":"disabled","created_at":"2026-03-01T12:00:00Z","expires_at":null,"last_used_at":null,"ip_allowlist":null}`:                                                                                                                                                    {ID: id, Name: "ci", Prefix: "hive_sk_abcd", CreatedAt: keeperEpoch, Disabled: true},
	} {
		if got, err := json.Marshal(keystore.RecordJSON(rec, keeperEpoch)); err != nil || string(got) != want {
			t.Errorf("got  %s, %v\nwant %s", got, err, want)
		}
	}
	got, err := json.Marshal(keystore.KeyView{RecordView: keystore.RecordJSON(full, keeperEpoch), Key: "the key"})
	if err != nil || !strings.HasPrefix(string(got), `{"id":`) || !strings.HasSuffix(string(got), `],"key":"the key"}`) {
		t.Errorf("%s, %v", got, err)
	}
}
