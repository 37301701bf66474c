package keystore_test

import (
	"context"
	"errors"
	"net/netip"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/hivegate/hivegate/keystore"
	"github.com/hivegate/hivegate/keystore/sqlstore"
)

var (
	keeperEpoch = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	byCommand   = keystore.Change{Actor: "command", Address: "192.0.2.1"}
)

// bench is a Keeper on a real store, with a clock and a list of what it told.
type bench struct {
	*keystore.Keeper
	t     *testing.T
	clock time.Time

	mu   sync.Mutex
	told []*keystore.Record
}

func newBench(t *testing.T, dataKey []byte) *bench {
	t.Helper()
	s, err := sqlstore.OpenSQLite(t.Context(), filepath.Join(t.TempDir(), "keys.db"), sqlstore.Options{Create: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	b := &bench{t: t, clock: keeperEpoch}
	known := func(what string, names ...string) func(string) error {
		return func(name string) error {
			if !slices.Contains(names, name) {
				return errors.New("unknown " + what + " " + name)
			}
			return nil
		}
	}
	b.Keeper = &keystore.Keeper{
		Store: s, Crypto: keystore.NewCrypto(dataKey), Cost: bcrypt.MinCost,
		Formats: []keystore.Format{{Prefix: "hive_sk_", Length: 48}, {Prefix: "hc_", Length: 48}},
		Now:     func() time.Time { return b.clock },
		Notify: func(rec *keystore.Record) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.told = append(b.told, rec)
		},
		CheckScope:    known("scope", "farms:read", "farms:write", "workers:command@farmId=42,43"),
		CheckPlan:     known("plan", "explorer", "operator"),
		CheckClass:    known("class", "outcomes"),
		CheckRequests: known("rate", "5000/m"),
	}
	return b
}

func (b *bench) create(n keystore.NewKey) (*keystore.Record, string) {
	b.t.Helper()
	rec, key, err := b.Create(b.t.Context(), byCommand, n)
	if err != nil {
		b.t.Fatal(err)
	}
	return rec, key
}

func (b *bench) get(id keystore.ID) *keystore.Record {
	b.t.Helper()
	rec, err := b.Store.Get(b.t.Context(), id)
	if err != nil {
		b.t.Fatal(err)
	}
	return rec
}

// wantTold checks that Notify was last given what is stored.
func (b *bench) wantTold(times int, id keystore.ID) {
	b.t.Helper()
	if len(b.told) != times {
		b.t.Fatalf("Notify was called %d times, want %d", len(b.told), times)
	}
	if last := b.told[times-1]; !reflect.DeepEqual(last, b.get(id)) {
		b.t.Errorf("Notify was given\n%+v, stored is\n%+v", last, b.get(id))
	}
}

func opens(secret keystore.Secret, key string) bool {
	return bcrypt.CompareHashAndPassword(secret.Hash, []byte(key)) == nil
}

func ptr[T any](v T) *T { return &v }

func TestANewKeyIsStoredAsItsHashAndDigestAlone(t *testing.T) {
	for _, dataKey := range [][]byte{nil, []byte(strings.Repeat("k", 32))} {
		b := newBench(t, dataKey)
		rec, key := b.create(keystore.NewKey{
			Name: "ci", Owner: "acme", Plan: "operator", Scopes: []string{"farms:write", "farms:read", "farms:write"},
			ExpiresAt:   keeperEpoch.Add(time.Hour).In(time.FixedZone("x", 3600)),
			IPAllowlist: []netip.Prefix{netip.MustParsePrefix("192.0.2.7/24"), netip.MustParsePrefix("::ffff:10.0.0.1/104")},
			Limits:      &keystore.Limits{Requests: "5000/m", Concurrent: map[string]int{"outcomes": 50}},
		})
		id, native := keystore.Parse(b.Formats, key)
		if !native || id != rec.ID || rec.Prefix != "hive_sk_"+string(id[:4]) {
			t.Errorf("key %v, id %s, prefix %q", native, rec.ID, rec.Prefix)
		}
		if len(rec.Secrets) != 1 || !opens(rec.Secrets[0], key) || opens(rec.Secrets[0], key[:len(key)-1]) {
			t.Errorf("the secret does not fit the key alone")
		}
		if got, want := rec.Secrets[0].Digest, b.Crypto.StoredDigest(key); !slices.Equal(got, want) || (dataKey == nil) != (got == nil) {
			t.Errorf("digest %x, want %x", got, want)
		}
		want := &keystore.Record{
			ID: rec.ID, Name: "ci", Prefix: rec.Prefix, Owner: "acme", Plan: "operator", Scopes: []string{"farms:write", "farms:read"},
			CreatedAt: keeperEpoch, ExpiresAt: keeperEpoch.Add(time.Hour), Secrets: rec.Secrets, Seq: 1,
			IPAllowlist: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("10.0.0.0/8")},
			Limits:      &keystore.Limits{Requests: "5000/m", Concurrent: map[string]int{"outcomes": 50}},
		}
		if !reflect.DeepEqual(rec, want) {
			t.Errorf("got\n%+v, want\n%+v", rec, want)
		}
		b.wantTold(1, rec.ID)
	}
}

func TestAnInvalidValueIsAFieldErrorAndMakesNoKey(t *testing.T) {
	long := strings.Repeat("x", 101)
	manyScopes := make([]string, keystore.MaxScopes+1)
	for field, news := range map[string][]keystore.NewKey{
		"name": {{}, {Name: long}, {Name: "a\nb"}, {Name: "\xff"}},
		"owner": {
			{Name: "a", Owner: "owner:x"}, {Name: "a", Owner: "a\x00"}, {Name: "a", Owner: strings.Repeat("x", 300)},
		},
		"plan": {{Name: "a", Plan: "none"}, {Name: "a", Plan: "explorer "}, {Name: "a", Plan: long}},
		"permissions": {
			{Name: "a", Scopes: []string{"farms:raed"}}, {Name: "a", Scopes: []string{"farms:read", ""}},
			{Name: "a", Scopes: []string{"farms:read farms:write"}}, {Name: "a", Scopes: manyScopes},
			{Name: "a", Scopes: []string{strings.Repeat("x", 2000)}},
		},
		"expires_at": {
			{Name: "a", ExpiresAt: keeperEpoch}, {Name: "a", ExpiresAt: keeperEpoch.Add(-time.Second)},
			{Name: "a", ExpiresAt: time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)},
		},
		"ip_allowlist": {{Name: "a", IPAllowlist: []netip.Prefix{{}}}, {Name: "a", IPAllowlist: make([]netip.Prefix, 101)}},
		"limits": {
			{Name: "a", Limits: &keystore.Limits{Requests: "60"}},
			{Name: "a", Limits: &keystore.Limits{Concurrent: map[string]int{"none": 1}}},
			{Name: "a", Limits: &keystore.Limits{Concurrent: map[string]int{"": 1}}},
			{Name: "a", Limits: &keystore.Limits{Concurrent: map[string]int{"outcomes": 0}}},
			{Name: "a", Limits: &keystore.Limits{Concurrent: map[string]int{"outcomes": -1}}},
		},
	} {
		b := newBench(t, nil)
		for _, n := range news {
			rec, key, err := b.Create(t.Context(), byCommand, n)
			wantField(t, err, field)
			if rec != nil || key != "" {
				t.Errorf("%+v: a refused key was returned", n)
			}
		}
		if seq, err := b.Store.Seq(t.Context()); seq != 0 || err != nil || len(b.told) != 0 {
			t.Errorf("%s: something was stored", field)
		}
	}
}

func wantField(t *testing.T, err error, field string) {
	t.Helper()
	var e *keystore.FieldError
	if !errors.As(err, &e) || e.Field != field || e.Msg == "" {
		t.Errorf("error %v, want one for the field %s", err, field)
	}
}

func TestRotatingKeepsTheIdAndLetsTheOldSecretLiveUntilTheOverlapEnds(t *testing.T) {
	b := newBench(t, []byte(strings.Repeat("k", 32)))
	made, first := b.create(keystore.NewKey{Name: "ci"})
	used := keeperEpoch.Add(time.Minute)
	if err := b.Store.Touch(t.Context(), []keystore.Use{{ID: made.ID, At: used}}); err != nil {
		t.Fatal(err)
	}
	b.clock = keeperEpoch.Add(time.Hour)
	rec, second, err := b.Rotate(t.Context(), byCommand, made.ID, 24*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if id, native := keystore.Parse(b.Formats, second); !native || id != made.ID || first == second {
		t.Error("the new key is not another key of the same id")
	}
	if len(rec.Secrets) != 2 || !opens(rec.Secrets[0], second) || !opens(rec.Secrets[1], first) {
		t.Fatalf("%d secrets, or not the new one first", len(rec.Secrets))
	}
	if got, want := rec.Secrets[1].NotAfter, b.clock.Add(24*time.Hour); got != want || !rec.Secrets[0].NotAfter.IsZero() {
		t.Errorf("the old secret ends %v, want %v; the new one %v", got, want, rec.Secrets[0].NotAfter)
	}
	if rec.Secrets[1].LastUsedAt != used {
		t.Errorf("the old secret was last used %v, want %v", rec.Secrets[1].LastUsedAt, used)
	}
	if !slices.Equal(rec.Secrets[0].Digest, b.Crypto.StoredDigest(second)) {
		t.Error("the new digest does not fit")
	}
	b.wantTold(2, rec.ID)

	// Twice: the oldest ends at once.
	rec, third, err := b.Rotate(t.Context(), byCommand, made.ID, time.Hour)
	if err != nil || len(rec.Secrets) != 2 || !opens(rec.Secrets[0], third) || !opens(rec.Secrets[1], second) {
		t.Fatalf("after the second rotation: %v, %d secrets", err, len(rec.Secrets))
	}
	// Without overlap: all old ones end.
	rec, fourth, err := b.Rotate(t.Context(), byCommand, made.ID, 0)
	if err != nil || len(rec.Secrets) != 1 || !opens(rec.Secrets[0], fourth) {
		t.Fatalf("after the third rotation: %v, %d secrets", err, len(rec.Secrets))
	}
	b.wantTold(4, rec.ID)
}

func TestASecretWhoseOverlapHasEndedIsDroppedWithTheNextChange(t *testing.T) {
	b := newBench(t, nil)
	made, _ := b.create(keystore.NewKey{Name: "ci"})
	if _, _, err := b.Rotate(t.Context(), byCommand, made.ID, time.Hour); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		after   time.Duration
		secrets int
	}{{time.Hour - time.Microsecond, 2}, {time.Hour, 1}} {
		b.clock = keeperEpoch.Add(step.after)
		rec, err := b.Update(t.Context(), byCommand, made.ID, keystore.Patch{Name: ptr(step.after.String())})
		if err != nil || len(rec.Secrets) != step.secrets {
			t.Errorf("after %v: %d secrets, %v, want %d", step.after, len(rec.Secrets), err, step.secrets)
		}
	}
}

func TestAnOverlapOutOfBoundsIsRefused(t *testing.T) {
	b := newBench(t, nil)
	made, _ := b.create(keystore.NewKey{Name: "ci"})
	for _, overlap := range []time.Duration{-1, keystore.MaxOverlap + 1} {
		_, key, err := b.Rotate(t.Context(), byCommand, made.ID, overlap)
		if wantField(t, err, "overlap"); key != "" {
			t.Error("a key came back")
		}
	}
	if !reflect.DeepEqual(b.get(made.ID), made) {
		t.Error("the record was changed")
	}
}

func TestTheHintOfAnImportedKeyGoesWithItsSecret(t *testing.T) {
	hash, err := bcrypt.GenerateFromPassword([]byte("legacy_secret"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	for name, step := range map[string]struct {
		overlaps []time.Duration
		wait     time.Duration
		hint     string
	}{
		"overlap":         {[]time.Duration{time.Hour}, 0, "legacy_"},
		"no overlap":      {[]time.Duration{0}, 0, ""},
		"twice":           {[]time.Duration{time.Hour, time.Hour}, 0, ""},
		"overlap has run": {[]time.Duration{time.Hour}, time.Hour, ""},
	} {
		b := newBench(t, nil)
		imported(t, b, `{"hash":"`+string(hash)+`","hint":"legacy_","name":"old"}`, keystore.ImportOptions{})
		page, err := b.Store.List(t.Context(), keystore.Query{})
		if err != nil || len(page.Records) != 1 {
			t.Fatal(err)
		}
		rec := page.Records[0]
		for _, overlap := range step.overlaps {
			var key string
			if rec, key, err = b.Rotate(t.Context(), byCommand, rec.ID, overlap); err != nil {
				t.Fatal(err)
			}
			if id, native := keystore.Parse(b.Formats, key); !native || id != rec.ID || !strings.HasPrefix(key, rec.Prefix) {
				t.Errorf("%s: the new key is not native, or not shown by %q", name, rec.Prefix)
			}
		}
		if step.wait > 0 {
			b.clock = b.clock.Add(step.wait)
			if rec, err = b.Disable(t.Context(), byCommand, rec.ID); err != nil {
				t.Fatal(err)
			}
		}
		if rec.Hint != step.hint {
			t.Errorf("%s: the hint is %q, want %q", name, rec.Hint, step.hint)
		}
	}
}

func TestRevocationIsForEver(t *testing.T) {
	b := newBench(t, nil)
	made, _ := b.create(keystore.NewKey{Name: "ci"})
	b.clock = keeperEpoch.Add(time.Hour)
	rec, err := b.Revoke(t.Context(), byCommand, made.ID)
	if err != nil || rec.RevokedAt != b.clock || rec.StatusAt(b.clock) != keystore.StatusRevoked {
		t.Fatalf("%+v, %v", rec, err)
	}
	b.wantTold(2, rec.ID)
	b.clock = keeperEpoch.Add(2 * time.Hour)
	again, err := b.Revoke(t.Context(), byCommand, made.ID)
	if err != nil || !reflect.DeepEqual(again, rec) {
		t.Errorf("a second time: %+v, %v", again, err)
	}
	_, err = b.Disable(t.Context(), byCommand, made.ID)
	wantIs(t, "Disable", err, keystore.ErrRevoked)
	_, err = b.Enable(t.Context(), byCommand, made.ID)
	wantIs(t, "Enable", err, keystore.ErrRevoked)
	_, err = b.Update(t.Context(), byCommand, made.ID, keystore.Patch{})
	wantIs(t, "Update", err, keystore.ErrRevoked)
	_, key, err := b.Rotate(t.Context(), byCommand, made.ID, time.Hour)
	if wantIs(t, "Rotate", err, keystore.ErrRevoked); key != "" {
		t.Error("rotating a revoked key returned one")
	}
	if !reflect.DeepEqual(b.get(made.ID), rec) || len(b.told) != 2 {
		t.Error("the revoked record was changed, or something was told")
	}
}

func TestARevocationDuringTheHashingOfARotationWins(t *testing.T) {
	b := newBench(t, nil)
	made, _ := b.create(keystore.NewKey{Name: "ci"})
	inner := b.Store
	b.Store = &afterGet{Store: inner, fn: func() {
		other := keystore.Keeper{Store: inner}
		if _, err := other.Revoke(t.Context(), byCommand, made.ID); err != nil {
			t.Error(err)
		}
	}}
	_, key, err := b.Rotate(t.Context(), byCommand, made.ID, time.Hour)
	if wantIs(t, "Rotate", err, keystore.ErrRevoked); key != "" {
		t.Error("a key came back")
	}
}

// afterGet runs fn after each Get: what another process does meanwhile.
type afterGet struct {
	keystore.Store
	fn func()
}

func (s *afterGet) Get(ctx context.Context, id keystore.ID) (*keystore.Record, error) {
	rec, err := s.Store.Get(ctx, id)
	s.fn()
	return rec, err
}

func wantIs(t *testing.T, what string, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Errorf("%s: error %v, want %v", what, got, want)
	}
}

func TestAnUnknownKeyIsErrNotFound(t *testing.T) {
	b := newBench(t, nil)
	id, disabled := keystore.NewID(), true
	_, err := b.Revoke(t.Context(), byCommand, id)
	wantIs(t, "Revoke", err, keystore.ErrNotFound)
	_, err = b.Disable(t.Context(), byCommand, id)
	wantIs(t, "Disable", err, keystore.ErrNotFound)
	_, err = b.Update(t.Context(), byCommand, id, keystore.Patch{Disabled: &disabled})
	wantIs(t, "Update", err, keystore.ErrNotFound)
	_, key, err := b.Rotate(t.Context(), byCommand, id, 0)
	if wantIs(t, "Rotate", err, keystore.ErrNotFound); key != "" {
		t.Error("a key came back")
	}
	if len(b.told) != 0 {
		t.Error("something was told")
	}
}

func TestAPatchChangesWhatItNamesAndNothingElse(t *testing.T) {
	full := keystore.NewKey{
		Name: "ci", Owner: "acme", Plan: "operator", Scopes: []string{"farms:read"}, ExpiresAt: keeperEpoch.Add(time.Hour),
		IPAllowlist: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")},
		Limits:      &keystore.Limits{Requests: "5000/m", Concurrent: map[string]int{"outcomes": 50}},
	}
	later := keeperEpoch.Add(48*time.Hour + time.Microsecond)
	for name, step := range map[string]struct {
		patch keystore.Patch
		want  func(*keystore.Record)
	}{
		"name":          {keystore.Patch{Name: ptr("new")}, func(r *keystore.Record) { r.Name = "new" }},
		"scopes":        {keystore.Patch{Scopes: &[]string{"farms:write", "farms:write"}}, func(r *keystore.Record) { r.Scopes = []string{"farms:write"} }},
		"no scopes":     {keystore.Patch{Scopes: &[]string{}}, func(r *keystore.Record) { r.Scopes = nil }},
		"plan":          {keystore.Patch{Plan: ptr("explorer")}, func(r *keystore.Record) { r.Plan = "explorer" }},
		"default plan":  {keystore.Patch{Plan: ptr("")}, func(r *keystore.Record) { r.Plan = "" }},
		"expiry":        {keystore.Patch{ExpiresAt: ptr(later.Add(999))}, func(r *keystore.Record) { r.ExpiresAt = later }},
		"no expiry":     {keystore.Patch{ExpiresAt: &time.Time{}}, func(r *keystore.Record) { r.ExpiresAt = time.Time{} }},
		"allowlist":     {keystore.Patch{IPAllowlist: &[]netip.Prefix{netip.MustParsePrefix("2001:db8::1/32")}}, func(r *keystore.Record) { r.IPAllowlist = []netip.Prefix{netip.MustParsePrefix("2001:db8::/32")} }},
		"any address":   {keystore.Patch{IPAllowlist: &[]netip.Prefix{}}, func(r *keystore.Record) { r.IPAllowlist = nil }},
		"limits":        {keystore.Patch{Limits: &keystore.Limits{Requests: "5000/m"}}, func(r *keystore.Record) { r.Limits = &keystore.Limits{Requests: "5000/m"} }},
		"plan's limits": {keystore.Patch{Limits: &keystore.Limits{}}, func(r *keystore.Record) { r.Limits = nil }},
		"disabled":      {keystore.Patch{Disabled: ptr(true)}, func(r *keystore.Record) { r.Disabled = true }},
	} {
		b := newBench(t, nil)
		want, _ := b.create(full)
		got, err := b.Update(t.Context(), byCommand, want.ID, step.patch)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		step.want(want)
		want.Seq++
		if len(got.Scopes) == 0 {
			got.Scopes = nil
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got\n%+v, want\n%+v", name, got, want)
		}
		if len(b.told) != 2 {
			t.Errorf("%s: Notify was called %d times", name, len(b.told))
		}
	}
}

func TestAPatchThatChangesNothingIsNoChange(t *testing.T) {
	b := newBench(t, nil)
	made, _ := b.create(keystore.NewKey{Name: "ci", Scopes: []string{"farms:read"}, ExpiresAt: keeperEpoch.Add(time.Hour)})
	for name, patch := range map[string]keystore.Patch{
		"empty": {},
		"same": {
			Name: ptr("ci"), Scopes: &[]string{"farms:read"}, Plan: ptr(""), ExpiresAt: ptr(keeperEpoch.Add(time.Hour).In(time.Local)),
			IPAllowlist: &[]netip.Prefix{}, Limits: &keystore.Limits{}, Disabled: ptr(false),
		},
	} {
		rec, err := b.Update(t.Context(), byCommand, made.ID, patch)
		if err != nil || rec.Seq != made.Seq || rec.Name != "ci" {
			t.Errorf("%s: %+v, %v", name, rec, err)
		}
	}
	if seq, err := b.Store.Seq(t.Context()); seq != 1 || err != nil || len(b.told) != 1 {
		t.Errorf("the change number is %d, %v, and %d changes were told", seq, err, len(b.told))
	}
}

func TestAPatchWithOneBadValueChangesNothing(t *testing.T) {
	b := newBench(t, nil)
	made, _ := b.create(keystore.NewKey{Name: "ci"})
	for field, patch := range map[string]keystore.Patch{
		"name":         {Name: ptr("")},
		"permissions":  {Name: ptr("new"), Scopes: &[]string{"farms:read", "none:none"}},
		"plan":         {Name: ptr("new"), Plan: ptr("none")},
		"expires_at":   {Name: ptr("new"), ExpiresAt: ptr(keeperEpoch)},
		"ip_allowlist": {Name: ptr("new"), IPAllowlist: &[]netip.Prefix{{}}},
		"limits":       {Name: ptr("new"), Limits: &keystore.Limits{Requests: "60"}},
	} {
		_, err := b.Update(t.Context(), byCommand, made.ID, patch)
		wantField(t, err, field)
	}
	if !reflect.DeepEqual(b.get(made.ID), made) || len(b.told) != 1 {
		t.Error("the record was changed, or something was told")
	}
}

func TestDisablingIsReversible(t *testing.T) {
	b := newBench(t, nil)
	made, _ := b.create(keystore.NewKey{Name: "ci"})
	for i, want := range []keystore.Status{keystore.StatusDisabled, keystore.StatusActive, keystore.StatusDisabled} {
		change := b.Disable
		if want == keystore.StatusActive {
			change = b.Enable
		}
		for range 2 { // the second time does nothing
			if rec, err := change(t.Context(), byCommand, made.ID); err != nil || rec.StatusAt(b.clock) != want {
				t.Errorf("%+v, %v, want %s", rec, err, want)
			}
		}
		b.wantTold(i+2, made.ID)
	}
}

func TestEveryChangeSaysWhoWhatAndWhen(t *testing.T) {
	b := newBench(t, nil)
	seen := &seenChanges{Store: b.Store}
	b.Store = seen
	made, _ := b.create(keystore.NewKey{Name: "ci"})
	b.clock = keeperEpoch.Add(time.Minute)
	_, _, err1 := b.Rotate(t.Context(), byCommand, made.ID, 0)
	_, err2 := b.Update(t.Context(), byCommand, made.ID, keystore.Patch{Name: ptr("new")})
	_, err3 := b.Disable(t.Context(), byCommand, made.ID)
	_, err4 := b.Enable(t.Context(), byCommand, made.ID)
	_, err5 := b.Revoke(t.Context(), byCommand, made.ID)
	imported(t, b, `{"hash":"$2y$04$abcdefghijklmnopqrstuuGyT0jv8tQq8m2kq1y0h2p2t5Zb0rK2e","hint":"legacy_","name":"old"}`, keystore.ImportOptions{})
	if err := errors.Join(err1, err2, err3, err4, err5); err != nil {
		t.Fatal(err)
	}
	for i, action := range []string{"create", "rotate", "update", "disable", "enable", "revoke", "import"} {
		want := byCommand
		want.Action, want.At = action, b.clock
		if i == 0 {
			want.At = keeperEpoch
		}
		if i >= len(seen.changes) || seen.changes[i] != want {
			t.Errorf("%s: got %+v", action, seen.changes)
		}
	}
}

// seenChanges notes who made the changes.
type seenChanges struct {
	keystore.Store
	changes []keystore.Change
}

func (s *seenChanges) Create(ctx context.Context, by keystore.Change, recs ...*keystore.Record) error {
	s.changes = append(s.changes, by)
	return s.Store.Create(ctx, by, recs...)
}

func (s *seenChanges) Update(ctx context.Context, by keystore.Change, id keystore.ID, fn func(*keystore.Record) error) (*keystore.Record, error) {
	s.changes = append(s.changes, by)
	return s.Store.Update(ctx, by, id, fn)
}

func TestABadCostMakesNoKey(t *testing.T) {
	b := newBench(t, nil)
	for _, cost := range []int{-1, 3, 15, 31} {
		b.Cost = cost
		if _, key, err := b.Create(t.Context(), byCommand, keystore.NewKey{Name: "ci"}); err == nil || key != "" {
			t.Errorf("cost %d was taken", cost)
		}
	}
	b.Cost = 0
	rec, _ := b.create(keystore.NewKey{Name: "ci"})
	if cost, err := bcrypt.Cost(rec.Secrets[0].Hash); cost != 10 || err != nil {
		t.Errorf("the default cost is %d, %v, want 10", cost, err)
	}
}
