package refusal

import (
	"fmt"
	"net/http"
	"strconv"
)

// Dialect is the JSON shape of refusals, one per API family. The zero value is
// [Problem].
type Dialect uint8

// The dialects.
const (
	// Problem is RFC 9457, for APIs that have no shape of their own.
	Problem Dialect = iota
	HornetHive
	HiveClaw
	HiveProtocol
	HiveOS
	dialects // how many there are
)

var dialectNames = [dialects]string{
	Problem: "problem", HornetHive: "hornethive", HiveClaw: "hiveclaw",
	HiveProtocol: "hiveprotocol", HiveOS: "hiveos",
}

// ParseDialect returns the dialect of that name; the empty name is the default.
func ParseDialect(name string) (Dialect, error) {
	if name == "" {
		return Problem, nil
	}
	for d, n := range dialectNames {
		if n == name {
			return Dialect(d), nil
		}
	}
	return Problem, fmt.Errorf("unknown dialect %q: use hornethive, hiveclaw, hiveprotocol, hiveos or problem", name)
}

// String is the name that ParseDialect reads.
func (d Dialect) String() string { return dialectNames[d.known()] }

// Status is the reason's HTTP status in this dialect.
func (d Dialect) Status(reason Reason) int { return d.status(&table[reason.place()]) }

// StatusOf is the HTTP status that a refusal is answered with in this dialect.
func (d Dialect) StatusOf(r *Refusal) int { return d.status(r.entry(r.Reason.place())) }

// ContentType is the media type of the bodies, with charset.
func (d Dialect) ContentType() string {
	if d.known() == Problem {
		return "application/problem+json; charset=utf-8"
	}
	return "application/json; charset=utf-8"
}

// Body is the whole body of the answer. It may be shared: the caller must not
// change it.
func (d Dialect) Body(r *Refusal) []byte {
	body, _ := d.body(r.Reason.place(), r)
	return body
}

// known maps values outside the list to the default.
func (d Dialect) known() Dialect {
	if d < dialects {
		return d
	}
	return Problem
}

// status: Hive OS answers a missing or wrong second factor with 403, all others
// with 401.
func (d Dialect) status(e *entry) int {
	if d == HiveOS && e.secondFactor() {
		return http.StatusForbidden
	}
	return e.status
}

func (e *entry) secondFactor() bool {
	return e.reason == ReasonSecondFactorRequired || e.reason == ReasonSecondFactorInvalid
}

// ready is a body that was rendered at start, and its Content-Length.
type ready struct {
	body   []byte
	length string
}

// rendered holds the bodies that depend on nothing but dialect, kind (only
// whether it is a JWT) and reason. Written at start only.
var rendered = func() (all [dialects][2][len(table)]ready) {
	for d := range all {
		for jwt, kind := range [...]Kind{KindNone, KindJWT} {
			for i := range table {
				body := Dialect(d).render(&table[i], &Refusal{Reason: table[i].reason, Kind: kind})
				all[d][jwt][i] = ready{body, strconv.Itoa(len(body))}
			}
		}
	}
	return all
}()

// body returns the body for the i-th reason and its length in decimal.
func (d Dialect) body(i int, r *Refusal) ([]byte, string) {
	d = d.known()
	e := r.entry(i)
	if d.constant(e, r) {
		jwt := 0
		if r.Kind == KindJWT {
			jwt = 1
		}
		p := &rendered[d][jwt][i]
		return p.body, p.length
	}
	body := d.render(e, r)
	return body, strconv.Itoa(len(body))
}

// constant reports whether the body is the one rendered at start. It may say no
// where yes were true, never the reverse.
func (d Dialect) constant(e *entry, r *Refusal) bool {
	if r.Status != 0 {
		return false
	}
	if d != Problem && d.status(e) == http.StatusUnauthorized {
		return true
	}
	return r.Message == "" && r.Hint == "" && r.DocsURL == "" && r.Allow == "" &&
		len(r.Required) == 0 && len(r.Granted) == 0 && len(r.Fields) == 0 &&
		len(r.Policies) == 0 && r.Numbers == Numbers{}
}
