package storetest

import (
	"context"
	"fmt"
	"testing"

	"github.com/hivegate/hivegate/keystore"
)

var seqTests = []singleTest{
	{"ChangedSince returns each changed record once, oldest change first", func(t *testing.T, s keystore.Store) {
		start := seq(t, s)
		create(t, s, newRecord(1), newRecord(2), newRecord(3))
		middle := seq(t, s)
		update(t, s, newID(1), func(rec *keystore.Record) { rec.Name = "first" })
		update(t, s, newID(3), func(rec *keystore.Record) { rec.Name = "second" })
		update(t, s, newID(1), func(rec *keystore.Record) { rec.Name = "third" })
		wantNumbers(t, "since the start", changed(t, s, start, 100), 2, 3, 1)
		wantNumbers(t, "since the middle", changed(t, s, middle, 100), 3, 1)
		wantNumbers(t, "since now", changed(t, s, seq(t, s), 100))
		wantNumbers(t, "since the future", changed(t, s, seq(t, s)+100, 100))
		got := changed(t, s, middle, 100)
		wantRecord(t, "changed", got[1], get(t, s, newID(1)))
	}},
	{"ChangedSince stops at limit, and goes on from the last record's number", func(t *testing.T, s keystore.Store) {
		start := seq(t, s)
		rec := fullRecord(0) // two secrets must not count as two records
		rec.Hint = ""
		create(t, s, rec, newRecord(1), newRecord(2), newRecord(3), newRecord(4))
		var got []*keystore.Record
		for from := start; ; {
			batch := changed(t, s, from, 2)
			if len(batch) == 0 {
				break
			}
			if len(batch) > 2 {
				t.Fatalf("%d records for limit 2", len(batch))
			}
			got = append(got, batch...)
			from = batch[len(batch)-1].Seq
		}
		wantNumbers(t, "in batches", got, 0, 1, 2, 3, 4)
	}},
	{"a reader beside parallel writers sees every change, in order", func(t *testing.T, s keystore.Store) {
		followWriters(t, s, s, s)
	}},
}

func changed(t *testing.T, s keystore.Store, since int64, limit int) []*keystore.Record {
	t.Helper()
	recs, err := s.ChangedSince(t.Context(), since, limit)
	if err != nil {
		t.Fatalf("ChangedSince(%d): %v", since, err)
	}
	return recs
}

// followWriters lets writers create and change records through a and b while
// a reader follows through r as a server does: it asks for what changed since
// the last number that it saw and never looks back. A store that makes a
// smaller number visible after a larger one loses records here.
func followWriters(t *testing.T, a, b, r keystore.Store) {
	const writers, rounds = 6, 15
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	seen := make(map[keystore.ID]*keystore.Record)
	from := seq(t, r)
	follow := func() error {
		batch, err := r.ChangedSince(t.Context(), from, 3)
		if err != nil {
			return err
		}
		for _, rec := range batch {
			if rec.Seq <= from {
				return fmt.Errorf("change %d came after %d", rec.Seq, from)
			}
			from = rec.Seq
			seen[rec.ID] = rec
		}
		highest, err := r.Seq(t.Context())
		if err != nil {
			return err
		}
		if highest < from {
			return fmt.Errorf("change number is %d after change %d was seen", highest, from)
		}
		return nil
	}
	followed := make(chan error, 1)
	go func() {
		for ctx.Err() == nil {
			if err := follow(); err != nil {
				followed <- err
				return
			}
		}
		followed <- nil
	}()
	parallel(writers, func(w int) {
		s := []keystore.Store{a, b}[w%2]
		for round := range rounds {
			rec := newRecord(1000*w + round)
			if err := s.Create(t.Context(), change, rec); err != nil {
				t.Errorf("Create: %v", err)
				return
			}
			_, err := s.Update(t.Context(), change, newID(1000*w), func(rec *keystore.Record) error {
				rec.Name = fmt.Sprintf("round %d", round)
				return nil
			})
			if err != nil {
				t.Errorf("Update: %v", err)
				return
			}
		}
	})
	cancel()
	if err := <-followed; err != nil {
		t.Fatal(err)
	}
	for highest := seq(t, r); from < highest; { // the tail, from where the reader is
		before := from
		if err := follow(); err != nil {
			t.Fatal(err)
		}
		if from == before {
			t.Fatalf("nothing after %d, but Seq is %d", from, highest)
		}
	}
	if len(seen) != writers*rounds {
		t.Errorf("the reader saw %d of %d records", len(seen), writers*rounds)
	}
	for id, rec := range seen {
		wantRecord(t, fmt.Sprintf("last seen of %s", id[:]), rec, get(t, r, id))
	}
}
