package keyapi

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/hivegate/hivegate/internal/refusal"
	"github.com/hivegate/hivegate/keystore"
)

const (
	maxPage   = 200
	maxCursor = 200 // bytes
)

var (
	listParams = []string{"limit", "cursor", "status", "owner", "q"}
	statuses   = []string{string(keystore.StatusActive), string(keystore.StatusDisabled), string(keystore.StatusExpired), string(keystore.StatusRevoked)}
)

// page is the answer to a list.
type page struct {
	Data       []keystore.RecordView `json:"data"`
	NextCursor *string               `json:"next_cursor"` // null: the last page
}

func (x *call) list() *refusal.Refusal {
	q, ref := listQuery(x.r.URL.RawQuery)
	if ref != nil {
		return ref
	}
	q.Now = x.now()
	out := page{Data: []keystore.RecordView{}}
	if !x.c.AnyOwner {
		if x.c.Subject == "" || q.OwnerSet && q.Owner != x.c.storedOwner() {
			return x.answerJSON(http.StatusOK, out) // others' keys do not exist for it
		}
		q.Owner, q.OwnerSet, q.Self = x.c.storedOwner(), true, keyOf(x.c.Subject)
	}
	found, err := x.keeper.Store.List(x.r.Context(), q)
	if err != nil {
		return refusalOf(err)
	}
	for _, rec := range found.Records {
		out.Data = append(out.Data, keystore.RecordJSON(rec, q.Now))
	}
	if found.Next != "" {
		out.NextCursor = &found.Next
	}
	return x.answerJSON(http.StatusOK, out)
}

// keyOf returns the key of a subject "key:<id>", zero for another subject.
func keyOf(subject string) keystore.ID {
	text, ok := strings.CutPrefix(subject, "key:")
	if !ok {
		return keystore.ID{}
	}
	id, err := keystore.ParseID(text)
	if err != nil {
		return keystore.ID{}
	}
	return id
}

// listQuery reads limit, cursor, status, owner and q, each at most once. An
// empty cursor is the first page, an empty q finds everything, and an empty
// owner the keys that have none.
func listQuery(raw string) (q keystore.Query, ref *refusal.Refusal) {
	values, err := url.ParseQuery(raw)
	if err != nil {
		return q, badQuery("the query", "is not encoded as one")
	}
	for name, list := range values {
		switch {
		case !slices.Contains(listParams, name):
			if !showable(name) {
				name = "a parameter"
			}
			return q, badQuery(name, "is unknown; there are: "+strings.Join(listParams, ", "))
		case len(list) > 1:
			return q, badQuery(name, "is given twice")
		case !utf8.ValidString(list[0]) || strings.ContainsFunc(list[0], unicode.IsControl):
			return q, badQuery(name, "holds invalid UTF-8 or a control character")
		}
	}
	if values.Has("limit") {
		text := values.Get("limit")
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > maxPage || text != strconv.Itoa(n) {
			return q, badQuery("limit", "must be a whole number from 1 to "+strconv.Itoa(maxPage))
		}
		q.Limit = n
	}
	if values.Has("status") {
		if !slices.Contains(statuses, values.Get("status")) {
			return q, badQuery("status", "must be one of: "+strings.Join(statuses, ", "))
		}
		q.Status = keystore.Status(values.Get("status"))
	}
	if q.Cursor = values.Get("cursor"); len(q.Cursor) > maxCursor {
		return q, badQuery("cursor", "is not one that a page of this list gave out")
	}
	if q.Q = values.Get("q"); utf8.RuneCountInString(q.Q) > keystore.MaxName {
		return q, badQuery("q", "has more than "+strconv.Itoa(keystore.MaxName)+" characters")
	}
	if q.Owner, q.OwnerSet = values.Get("owner"), values.Has("owner"); len(q.Owner) > keystore.MaxStoredOwner {
		return q, badQuery("owner", "has more than "+strconv.Itoa(keystore.MaxStoredOwner)+" bytes")
	}
	return q, nil
}

func badQuery(param, why string) *refusal.Refusal {
	return &refusal.Refusal{Reason: refusal.ReasonQueryInvalid, Fields: []refusal.FieldError{{Field: param, Messages: []string{why}}},
		Hint: param + " " + why}
}
