package sqlstore_test

import (
	"bytes"
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/hivegate/hivegate/keystore"
	"github.com/hivegate/hivegate/keystore/sqlstore"
)

// records returns n records as an import makes them.
func records(n int) []*keystore.Record {
	recs := make([]*keystore.Record, n)
	created := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for i := range recs {
		recs[i] = &keystore.Record{
			ID: keystore.NewID(), Name: fmt.Sprintf("imported %d", i), Prefix: "legacy", Owner: fmt.Sprintf("owner-%d", i%1000),
			Scopes: []string{"farms:read", "workers:command"}, Plan: "explorer", CreatedAt: created,
			Hint:    fmt.Sprintf("legacy_%08d", i/10),
			Secrets: []keystore.Secret{{Hash: []byte("$2y$10$abcdefghijklmnopqrstuuGyT0jv8tQq8m2kq1y0h2p2t5Zb0rK2e")}},
		}
	}
	// Sorted, as an import hands them over: rows go into the indexes in order.
	slices.SortFunc(recs, func(a, b *keystore.Record) int { return bytes.Compare(a.ID[:], b.ID[:]) })
	return recs
}

func BenchmarkCreate(b *testing.B) {
	for _, batch := range []int{1, 1000, 100_000} {
		b.Run(fmt.Sprintf("batch=%d", batch), func(b *testing.B) {
			s := open(b, filepath.Join(b.TempDir(), "keys.db"), sqlstore.Options{Create: true})
			for b.Loop() {
				b.StopTimer()
				recs := records(batch)
				for _, rec := range recs {
					rec.Hint = ""
				}
				b.StartTimer()
				if err := s.Create(b.Context(), keystore.Change{}, recs...); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N*batch)/b.Elapsed().Seconds(), "keys/s")
		})
	}
}

func BenchmarkGet(b *testing.B) {
	s := open(b, filepath.Join(b.TempDir(), "keys.db"), sqlstore.Options{Create: true})
	recs := records(10_000)
	if err := s.Create(b.Context(), keystore.Change{}, recs...); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.Run("known", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			if _, err := s.Get(b.Context(), recs[i%len(recs)].ID); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("unknown", func(b *testing.B) {
		for b.Loop() {
			_, _ = s.Get(b.Context(), keystore.NewID())
		}
	})
}

// BenchmarkSeq is what a server asks five times a second.
func BenchmarkSeq(b *testing.B) {
	s := open(b, filepath.Join(b.TempDir(), "keys.db"), sqlstore.Options{Create: true})
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Seq(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkTouch(b *testing.B) {
	s := open(b, filepath.Join(b.TempDir(), "keys.db"), sqlstore.Options{Create: true})
	recs := records(1000)
	if err := s.Create(b.Context(), keystore.Change{}, recs...); err != nil {
		b.Fatal(err)
	}
	uses := make([]keystore.Use, len(recs))
	for round := 1; b.Loop(); round++ {
		for i, rec := range recs {
			uses[i] = keystore.Use{ID: rec.ID, At: rec.CreatedAt.Add(time.Duration(round) * time.Minute), Addr: "192.0.2.1", Route: "GET /farms"}
		}
		if err := s.Touch(b.Context(), uses); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N*len(uses))/b.Elapsed().Seconds(), "uses/s")
}
