// Package storetest is the conformance suite of keystore.Store: what every
// implementation guarantees, as tests. [Run] exercises one handle, [RunShared]
// two handles on one database, as a server and a command have.
//
// The suite waits on conditions only and never sleeps. Times are fixed, so a
// failure repeats.
package storetest

import (
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/hivegate/hivegate/keystore"
)

// Open returns a new, empty store and sees to its closing (t.Cleanup).
type Open func(t *testing.T) keystore.Store

// OpenShared returns two handles on one new, empty database.
type OpenShared func(t *testing.T) (a, b keystore.Store)

// Run tests one handle. open is called once per test.
func Run(t *testing.T, open func(t *testing.T) keystore.Store) {
	for _, test := range singleTests {
		t.Run(test.name, func(t *testing.T) { test.run(t, open(t)) })
	}
}

// RunShared tests two handles on one database. open is called once per test.
func RunShared(t *testing.T, open func(t *testing.T) (a, b keystore.Store)) {
	for _, test := range sharedTests {
		t.Run(test.name, func(t *testing.T) {
			a, b := open(t)
			test.run(t, a, b)
		})
	}
}

type singleTest struct {
	name string // the guarantee
	run  func(t *testing.T, s keystore.Store)
}

type sharedTest struct {
	name string
	run  func(t *testing.T, a, b keystore.Store)
}

// singleTests is put together from the files of this package.
var singleTests = concat(createTests, updateTests, listTests, hintTests, touchTests, seqTests, dataKeyTests, probeTests, endTests)

func concat(lists ...[]singleTest) (all []singleTest) {
	for _, list := range lists {
		all = append(all, list...)
	}
	return all
}

// epoch is the suite's time of day.
var epoch = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// change is who makes the suite's changes.
var change = keystore.Change{Action: "create", Actor: "command", At: epoch}

// newID returns the n-th id of the suite, 0 to 10^9-1. Ids sort as their
// numbers do.
func newID(n int) (id keystore.ID) {
	copy(id[:], fmt.Sprintf("aB%010d", n))
	return id
}

// newRecord returns the n-th record of the suite, created n seconds after
// epoch, with all that a record must have.
func newRecord(n int) *keystore.Record {
	return &keystore.Record{
		ID:        newID(n),
		Name:      fmt.Sprintf("key %d", n),
		Prefix:    "hive_sk_aB00",
		Scopes:    []string{"farms:read"},
		CreatedAt: epoch.Add(time.Duration(n) * time.Second),
		Secrets:   []keystore.Secret{{Hash: []byte(fmt.Sprintf("hash %d", n))}},
	}
}

// fullRecord has every member set.
func fullRecord(n int) *keystore.Record {
	rec := newRecord(n)
	rec.Name = "Zoë's “key” \\ 'quoted' 100% _under_ 🐝; DROP TABLE keys; --"
	rec.Owner = "acme/größe'); --"
	rec.Scopes = []string{"workers:command@farmId=42,43", "farms:read", "agents:write", "farms:*"}
	rec.Plan = "operator"
	rec.Limits = &keystore.Limits{Requests: "5000/m", Concurrent: map[string]int{"outcomes": 50, "ai": 0}}
	rec.Disabled = true
	rec.ExpiresAt = epoch.Add(90*24*time.Hour + 123456*time.Microsecond)
	rec.RevokedAt = epoch.Add(time.Hour)
	rec.LastUsedAt = epoch.Add(time.Minute)
	rec.LastAddr = "2001:db8::1"
	rec.LastRoute = "GET /farms/{farmId}"
	rec.IPAllowlist = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8::/32")}
	rec.Secrets = []keystore.Secret{
		{Hash: []byte("new hash"), Digest: []byte{0, 1, 2, 0xff}},
		{Hash: []byte("old hash"), Random: true, NotAfter: epoch.Add(24 * time.Hour), LastUsedAt: epoch.Add(2 * time.Minute)},
	}
	rec.Hint = "hive_sk_abcd"
	return rec
}

func create(t *testing.T, s keystore.Store, recs ...*keystore.Record) {
	t.Helper()
	if err := s.Create(t.Context(), change, recs...); err != nil {
		t.Fatalf("Create: %v", err)
	}
}

func get(t *testing.T, s keystore.Store, id keystore.ID) *keystore.Record {
	t.Helper()
	rec, err := s.Get(t.Context(), id)
	if err != nil {
		t.Fatalf("Get(%s): %v", id[:], err)
	}
	return rec
}

func update(t *testing.T, s keystore.Store, id keystore.ID, fn func(*keystore.Record)) *keystore.Record {
	t.Helper()
	rec, err := s.Update(t.Context(), change, id, func(rec *keystore.Record) error { fn(rec); return nil })
	if err != nil {
		t.Fatalf("Update(%s): %v", id[:], err)
	}
	return rec
}

func seq(t *testing.T, s keystore.Store) int64 {
	t.Helper()
	n, err := s.Seq(t.Context())
	if err != nil {
		t.Fatalf("Seq: %v", err)
	}
	return n
}

func wantErr(t *testing.T, what string, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Errorf("%s: error %v, want %v", what, got, want)
	}
}

// wantRecord compares whole records; nil and empty lists are alike.
func wantRecord(t *testing.T, what string, got, want *keystore.Record) {
	t.Helper()
	g, w := plain(got), plain(want)
	gv, wv := reflect.ValueOf(*g), reflect.ValueOf(*w)
	for i := range gv.NumField() {
		if a, b := gv.Field(i).Interface(), wv.Field(i).Interface(); !reflect.DeepEqual(a, b) {
			t.Errorf("%s: %s is\n%#v, want\n%#v", what, gv.Type().Field(i).Name, a, b)
		}
	}
}

// plain returns a copy in which empty lists are nil.
func plain(rec *keystore.Record) *keystore.Record {
	c := *rec
	if len(c.Scopes) == 0 {
		c.Scopes = nil
	}
	if len(c.IPAllowlist) == 0 {
		c.IPAllowlist = nil
	}
	c.Secrets = append([]keystore.Secret(nil), c.Secrets...)
	for i := range c.Secrets {
		if len(c.Secrets[i].Digest) == 0 {
			c.Secrets[i].Digest = nil
		}
	}
	return &c
}

// parallel runs fn(0) to fn(n-1) at the same time and waits for all of them.
func parallel(n int, fn func(i int)) {
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { fn(i) })
	}
	wg.Wait()
}
