package storetest

import (
	"context"
	"testing"
	"time"

	"github.com/hivegate/hivegate/keystore"
)

var endTests = []singleTest{
	{"Ping answers", func(t *testing.T, s keystore.Store) {
		if err := s.Ping(t.Context()); err != nil {
			t.Error(err)
		}
	}},
	{"a cancelled context ends every call and changes nothing", func(t *testing.T, s keystore.Store) {
		rec := newRecord(1)
		create(t, s, rec)
		before := seq(t, s)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		for what, err := range callAll(ctx, s) {
			wantErr(t, what, err, context.Canceled)
		}
		wantRecord(t, "stored", get(t, s, rec.ID), rec)
		if after := seq(t, s); after != before {
			t.Errorf("the change number went from %d to %d", before, after)
		}
		if got, err := s.DataKey(t.Context()); got != nil || err != nil {
			t.Errorf("DataKey: %q, %v", got, err)
		}
	}},
	{"after Close every call is an error, and Close is not", func(t *testing.T, s keystore.Store) {
		create(t, s, newRecord(1))
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		for what, err := range callAll(t.Context(), s) {
			if err == nil {
				t.Errorf("%s works on a closed store", what)
			}
		}
		if err := s.Close(); err != nil {
			t.Errorf("a second Close: %v", err)
		}
	}},
}

// callAll makes one call of every method.
func callAll(ctx context.Context, s keystore.Store) map[string]error {
	errs := make(map[string]error)
	_, errs["Get"] = s.Get(ctx, newID(1))
	errs["Create"] = s.Create(ctx, change, newRecord(2))
	_, errs["Update"] = s.Update(ctx, change, newID(1), func(rec *keystore.Record) error { rec.Name = "changed"; return nil })
	_, errs["List"] = s.List(ctx, keystore.Query{Now: epoch})
	_, errs["ByHint"] = s.ByHint(ctx, "legacy_abc")
	errs["Hints"] = s.Hints(ctx, func(string) {})
	errs["Touch"] = s.Touch(ctx, []keystore.Use{{ID: newID(1), At: epoch.Add(time.Hour)}})
	_, errs["Seq"] = s.Seq(ctx)
	_, errs["ChangedSince"] = s.ChangedSince(ctx, 0, 10)
	_, errs["DataKey"] = s.DataKey(ctx)
	_, errs["PutDataKey"] = s.PutDataKey(ctx, nil, []byte("sealed"))
	errs["Ping"] = s.Ping(ctx)
	if p, ok := s.(keystore.Prober); ok {
		if batch, probe := p.Prober(); batch > 0 {
			errs["probe"] = probe(ctx, []keystore.ID{newID(1)}, make([]bool, 1))
		}
	}
	return errs
}
