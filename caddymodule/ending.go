package caddymodule

import (
	"bytes"
	"net/http"
	"strings"
	"time"

	"github.com/hivegate/hivegate/keystore"
)

// companion is a key that had to come in a required header beside the credential that
// names the principal: the request ends with it, too.
type companion struct {
	x      *exchange
	entry  *keystore.Entry
	secret int    // that was sent
	hash   []byte // of it
	node   keystore.StreamNode
}

// Allowed implements keystore.Stream. Of a companion nothing is asked but that it is
// good here.
func (c *companion) Allowed(rec *keystore.Record, now time.Time) bool {
	return rec.StatusAt(now) == keystore.StatusActive && secretHolds(rec, c.hash, now) && rec.AllowsAddr(c.x.addr())
}

// Cut implements keystore.Stream.
func (c *companion) Cut() { c.x.Cut() }

// accompany notes that the credential verified last, if it was a key, has to stay good.
func (x *exchange) accompany() {
	if x.entry != nil {
		x.companions = append(x.companions, companion{x: x, entry: x.entry, secret: x.secret, hash: x.hash})
	}
}

// companionsUsed notes their use. They opened no scope, but a key that callers have
// to send is not one without use.
func (x *exchange) companionsUsed() {
	for i := range x.companions {
		c := &x.companions[i]
		c.entry.Used(x.now, x.clientIP, x.routeLabel(), c.secret)
	}
}

// endsWith reports whether the request must end with something other than the key
// that names its principal: with a companion, or with a token. A token is asked again
// of what may stay open without end; an answer that it began may come to its end.
func (x *exchange) endsWith() bool {
	return x.companions != nil || x.principal != nil && !x.principal.until.IsZero() && staysOpen(x.r)
}

// staysOpen reports whether a request asks for a tunnel or for an event stream.
func staysOpen(r *http.Request) bool {
	if r.Method == http.MethodConnect || len(r.Header["Upgrade"]) > 0 {
		return true
	}
	for _, v := range r.Header["Accept"] {
		if strings.Contains(strings.ToLower(v), "text/event-stream") {
			return true
		}
	}
	return false
}

// joinEndings begins to watch what endsWith found; x.cancel is set.
func (x *exchange) joinEndings() {
	x.companionsUsed()
	for i := range x.companions {
		c := &x.companions[i]
		c.node.Stream = c
		c.entry.Join(&c.node)
	}
	if p := x.principal; p != nil && !p.until.IsZero() && staysOpen(x.r) {
		x.tokenEnds = time.AfterFunc(p.until.Sub(x.wall()), x.cancel)
	}
}

func (x *exchange) leaveEndings() {
	for i := range x.companions {
		x.companions[i].entry.Leave(&x.companions[i].node)
	}
	if x.tokenEnds != nil {
		x.tokenEnds.Stop()
	}
}

// secretHolds reports whether a secret, named by its hash, is still one of the
// record's.
func secretHolds(rec *keystore.Record, hash []byte, now time.Time) bool {
	for i := range rec.Secrets {
		s := &rec.Secrets[i]
		if bytes.Equal(s.Hash, hash) {
			return s.NotAfter.IsZero() || now.Before(s.NotAfter)
		}
	}
	return false
}
