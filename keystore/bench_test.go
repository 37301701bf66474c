package keystore

import (
	"context"
	"fmt"
	"testing"
)

// benchFixture has n keys, all verified.
func benchFixture(b *testing.B, n int, o Options) (*fixture, []string) {
	f := newFixture(b, o)
	keys := make([]string, n)
	for i := range keys {
		key, rec := newKey()
		rec.Secrets[0].Digest = f.o.Crypto.StoredDigest(key)
		f.store.put(rec)
		keys[i] = key
	}
	f.pollNow()
	for _, key := range keys {
		f.want(key, nil, Valid)
	}
	return f, keys
}

func BenchmarkVerifyWarm(b *testing.B) {
	for _, n := range []int{1, 100, 100_000} {
		b.Run(fmt.Sprintf("keys=%d", n), func(b *testing.B) {
			f, keys := benchFixture(b, n, Options{})
			ctx, now := context.Background(), f.clock.now()
			b.Run("single", func(b *testing.B) { benchmarkOutcome(b, f, Valid, keys...) })
			b.Run("parallel", func(b *testing.B) {
				b.ReportAllocs()
				b.RunParallel(func(pb *testing.PB) {
					for i := 0; pb.Next(); i++ {
						if r := f.Verify(ctx, now, testFormats, keys[i%n], nil); r.Outcome != Valid {
							b.Error(r.Outcome)
							return
						}
					}
				})
			})
		})
	}
}

func benchmarkOutcome(b *testing.B, f *fixture, want Outcome, keys ...string) {
	ctx, now := context.Background(), f.clock.now()
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if r := f.Verify(ctx, now, testFormats, keys[i%len(keys)], nil); r.Outcome != want {
			b.Fatal(r.Outcome)
		}
	}
}

func BenchmarkVerifyWrongSecret(b *testing.B) {
	crypto := NewCrypto(make([]byte, 32))
	b.Run("stored digest", func(b *testing.B) {
		key, rec := newKey()
		rec.Secrets[0].Digest = crypto.StoredDigest(key)
		f := newFixture(b, Options{Crypto: crypto}, rec)
		benchmarkOutcome(b, f, WrongSecret, wrongFor(rec.ID), wrongFor(rec.ID))
	})
	b.Run("key known", func(b *testing.B) {
		key, rec := newKey()
		f := newFixture(b, Options{}, rec)
		f.want(key, nil, Valid)
		benchmarkOutcome(b, f, WrongSecret, wrongFor(rec.ID), wrongFor(rec.ID))
	})
	b.Run("known to be wrong", func(b *testing.B) {
		_, rec := newKey()
		f := newFixture(b, Options{}, rec)
		benchmarkOutcome(b, f, WrongSecret, wrongFor(rec.ID))
	})
}

func BenchmarkVerifyMalformed(b *testing.B) {
	key, rec := newKey()
	f := newFixture(b, Options{}, rec)
	benchmarkOutcome(b, f, Malformed, key[:len(key)-1]+"!", key[:len(key)-1]+"0", "x")
}

func BenchmarkVerifyUnknown(b *testing.B) {
	f := newFixture(b, Options{})
	b.Run("remembered", func(b *testing.B) {
		key, _ := newKey()
		benchmarkOutcome(b, f, Unknown, key)
	})
	b.Run("new", func(b *testing.B) {
		keys := make([]string, 1<<16)
		for i := range keys {
			keys[i], _ = DefaultFormat().Generate()
		}
		b.ResetTimer()
		benchmarkOutcome(b, f, Unknown, keys...)
	})
}

func BenchmarkJoinAndLeave(b *testing.B) {
	f, keys := benchFixture(b, 100, Options{})
	e := f.want(keys[0], nil, Valid).Entry
	b.ReportAllocs()
	n := &StreamNode{Stream: &fakeStream{}}
	for b.Loop() {
		e.Join(n)
		e.Leave(n)
	}
}

func BenchmarkUsed(b *testing.B) {
	f, keys := benchFixture(b, 1, Options{})
	e, now := f.want(keys[0], nil, Valid).Entry, f.clock.now()
	b.ReportAllocs()
	for b.Loop() {
		e.Used(now, "192.0.2.1", "GET /farms", 0)
	}
}

func BenchmarkParse(b *testing.B) {
	key, _ := DefaultFormat().Generate()
	b.ReportAllocs()
	for b.Loop() {
		Parse(testFormats, key)
	}
}
