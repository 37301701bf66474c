package storetest

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/hivegate/hivegate/keystore"
)

var listTests = []singleTest{
	{"a list is newest first, and the id settles equal times", func(t *testing.T, s keystore.Store) {
		create(t, s, newRecord(2), newRecord(5), newRecord(1))
		for _, n := range []int{3, 4} { // at the same time as 2
			rec := newRecord(n)
			rec.CreatedAt = newRecord(2).CreatedAt
			create(t, s, rec)
		}
		wantNumbers(t, "list", listAll(t, s, keystore.Query{Now: epoch}), 5, 4, 3, 2, 1)
		wantNumbers(t, "by pages of 1", listAll(t, s, keystore.Query{Now: epoch, Limit: 1}), 5, 4, 3, 2, 1)
		wantNumbers(t, "by pages of 2", listAll(t, s, keystore.Query{Now: epoch, Limit: 2}), 5, 4, 3, 2, 1)
	}},
	{"listed records are whole", func(t *testing.T, s keystore.Store) {
		full, small := fullRecord(1), newRecord(2)
		create(t, s, full, small)
		page := list(t, s, keystore.Query{Now: epoch})
		if len(page.Records) != 2 || page.Next != "" {
			t.Fatalf("got %d records, next %q", len(page.Records), page.Next)
		}
		wantRecord(t, "small", page.Records[0], small)
		wantRecord(t, "full", page.Records[1], full)
	}},
	{"an empty store lists nothing", func(t *testing.T, s keystore.Store) {
		if page := list(t, s, keystore.Query{Now: epoch}); len(page.Records) != 0 || page.Next != "" {
			t.Errorf("got %+v", page)
		}
	}},
	{"pages hold 50 by default, 200 at most, and the last has no next", func(t *testing.T, s keystore.Store) {
		var recs []*keystore.Record
		for n := range 200 {
			recs = append(recs, newRecord(n))
		}
		create(t, s, recs...)
		if page := list(t, s, keystore.Query{Now: epoch}); len(page.Records) != 50 || page.Next == "" {
			t.Errorf("default page: %d records, next %q", len(page.Records), page.Next)
		}
		if page := list(t, s, keystore.Query{Now: epoch, Limit: 200}); len(page.Records) != 200 || page.Next != "" {
			t.Errorf("page of 200: %d records, next %q", len(page.Records), page.Next)
		}
		for _, limit := range []int{-1, 201} {
			if _, err := s.List(t.Context(), keystore.Query{Now: epoch, Limit: limit}); err == nil {
				t.Errorf("limit %d was accepted", limit)
			}
		}
	}},
	{"a cursor that no page gave out is ErrCursor", func(t *testing.T, s keystore.Store) {
		create(t, s, newRecord(1), newRecord(2), newRecord(3))
		good := list(t, s, keystore.Query{Now: epoch, Limit: 1}).Next
		bad := []string{"x", "0", "' OR 1=1 --", good + "A", good[:len(good)-1], "=" + good[1:], "\x00", good + "=", good + "\n"}
		for _, text := range bad {
			_, err := s.List(t.Context(), keystore.Query{Now: epoch, Cursor: text})
			wantErr(t, fmt.Sprintf("cursor %q", text), err, keystore.ErrCursor)
		}
	}},
	{"paging misses and repeats nothing while keys are added and changed", func(t *testing.T, s keystore.Store) {
		const n = 40
		for i := range n {
			create(t, s, newRecord(i))
		}
		var got []int
		query := keystore.Query{Now: epoch, Limit: 7}
		for added := n; ; added += 3 {
			page := list(t, s, query)
			got = append(got, numbers(page.Records)...)
			if page.Next == "" {
				break
			}
			query.Cursor = page.Next
			create(t, s, newRecord(added), newRecord(added+1), newRecord(added+2))
			update(t, s, newID(got[0]), func(rec *keystore.Record) { rec.Name = "changed" })
			update(t, s, newID(0), func(rec *keystore.Record) { rec.Name = "changed" })
		}
		var want []int
		for i := n - 1; i >= 0; i-- {
			want = append(want, i)
		}
		if !slices.Equal(got, want) {
			t.Errorf("got %v", got)
		}
	}},
	{"status filters agree with Record.StatusAt", func(t *testing.T, s keystore.Store) {
		now := epoch.Add(time.Hour)
		times := []time.Time{{}, now.Add(-time.Second), now, now.Add(time.Microsecond), now.Add(time.Second)}
		want := make(map[keystore.Status][]int)
		n := 0
		for _, expires := range times {
			for _, revoked := range times[:3] {
				for _, disabled := range []bool{false, true} {
					rec := newRecord(n)
					rec.ExpiresAt, rec.RevokedAt, rec.Disabled = expires, revoked, disabled
					create(t, s, rec)
					want[rec.StatusAt(now)] = append([]int{n}, want[rec.StatusAt(now)]...)
					n++
				}
			}
		}
		for _, status := range []keystore.Status{keystore.StatusActive, keystore.StatusDisabled, keystore.StatusExpired, keystore.StatusRevoked} {
			if len(want[status]) == 0 {
				t.Errorf("the test has no %s key", status)
			}
			wantNumbers(t, string(status), listAll(t, s, keystore.Query{Now: now, Status: status, Limit: 3}), want[status]...)
		}
		if _, err := s.List(t.Context(), keystore.Query{Now: now, Status: "gone"}); err == nil {
			t.Error("an unknown status was accepted")
		}
	}},
	{"the owner filter is exact, and can ask for none", func(t *testing.T, s keystore.Store) {
		for n, owner := range []string{"", "acme", "Acme", "acme2", "%", "acme' OR '1'='1"} {
			rec := newRecord(n)
			rec.Owner = owner
			create(t, s, rec)
		}
		for n, owner := range []string{"", "acme", "Acme", "acme2", "%", "acme' OR '1'='1"} {
			wantNumbers(t, owner, listAll(t, s, keystore.Query{Now: epoch, Owner: owner, OwnerSet: true}), n)
		}
		wantNumbers(t, "no such owner", listAll(t, s, keystore.Query{Now: epoch, Owner: "a%", OwnerSet: true}))
		wantNumbers(t, "owner without OwnerSet", listAll(t, s, keystore.Query{Now: epoch, Owner: "acme"}), 5, 4, 3, 2, 1, 0)
	}},
	{"q finds part of the name in any case, or the beginning of the prefix", func(t *testing.T, s keystore.Store) {
		for n, rec := range []struct{ name, prefix string }{
			{"Deploy robot", "hive_sk_AbCd"},
			{"ZOË's laptop", "hive_sk_zz00"},
			{"100% load_test", "hc_QQQQ"},
			{"it's; DROP TABLE keys", "hc_WWWW"},
		} {
			r := newRecord(n)
			r.Name, r.Prefix = rec.name, rec.prefix
			create(t, s, r)
		}
		for q, want := range map[string][]int{
			"robot":        {0},
			"DEPLOY":       {0},
			"zoë":          {1},
			"ZOË":          {1},
			"hive_sk_":     {1, 0},
			"hive_sk_AbCd": {0},
			"hive_sk_abcd": nil, // keys differ by case
			"sk_":          nil, // not its beginning
			"hc_":          {3, 2},
			"%":            {2},
			"_":            {2},
			"'":            {3, 1},
			`\`:            nil,
			"t":            {3, 2, 1, 0},
			"nothing":      nil,
		} {
			wantNumbers(t, q, listAll(t, s, keystore.Query{Now: epoch, Q: q, Limit: 1}), want...)
		}
	}},
	{"filters work together", func(t *testing.T, s keystore.Store) {
		for n := range 12 {
			rec := newRecord(n)
			rec.Owner = []string{"a", "b"}[n%2]
			rec.Disabled = n%3 == 0
			rec.Name = []string{"red", "red", "blue"}[n/4]
			create(t, s, rec)
		}
		wantNumbers(t, "all three", listAll(t, s, keystore.Query{
			Now: epoch, Owner: "a", OwnerSet: true, Status: keystore.StatusDisabled, Q: "red", Limit: 1,
		}), 6, 0)
	}},
}

func list(t *testing.T, s keystore.Store, q keystore.Query) *keystore.Page {
	t.Helper()
	page, err := s.List(t.Context(), q)
	if err != nil {
		t.Fatalf("List(%+v): %v", q, err)
	}
	return page
}

// listAll follows the cursors to the end.
func listAll(t *testing.T, s keystore.Store, q keystore.Query) (all []*keystore.Record) {
	t.Helper()
	for range 1000 {
		page := list(t, s, q)
		all = append(all, page.Records...)
		if page.Next == "" {
			return all
		}
		if q.Limit > 0 && len(page.Records) != q.Limit {
			t.Fatalf("a page that is not the last has %d records, want %d", len(page.Records), q.Limit)
		}
		q.Cursor = page.Next
	}
	t.Fatal("the list has no end")
	return nil
}

// numbers returns the numbers that newID made the ids of.
func numbers(recs []*keystore.Record) []int {
	list := make([]int, 0, len(recs))
	for _, rec := range recs {
		var n int
		if _, err := fmt.Sscanf(string(rec.ID[2:]), "%d", &n); err != nil {
			n = -1
		}
		list = append(list, n)
	}
	return list
}

func wantNumbers(t *testing.T, what string, got []*keystore.Record, want ...int) {
	t.Helper()
	if n := numbers(got); !slices.Equal(n, want) && len(n)+len(want) > 0 {
		t.Errorf("%s: got records %v, want %v", what, n, want)
	}
}
