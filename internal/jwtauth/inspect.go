package jwtauth

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Report is what [Set.Inspect] found out about a token. It holds its header
// and claims, never its signature.
type Report struct {
	// Header and Claims are indented JSON, as it was sent but for characters
	// that do not print; empty where they could not be decoded.
	Header string `json:"-"`
	Claims string `json:"-"`
	// Issuer is the issuer that takes the token, or empty.
	Issuer string `json:"issuer,omitempty"`
	// Accepted, or else why not.
	Accepted bool   `json:"accepted"`
	Reason   Reason `json:"reason,omitempty"`
	Hint     string `json:"hint,omitempty"`
	// Asked are the issuers to which the token's iss belongs.
	Asked []Verdict `json:"asked,omitempty"`
	// Principal is whom the token stands for, when it is accepted.
	Principal *Principal `json:"-"`
}

// principalView is a [Principal] as JSON has it.
type principalView struct {
	Subject   string     `json:"subject"`
	Role      string     `json:"role"`
	Owner     string     `json:"owner"`
	Plan      string     `json:"plan"`
	Scopes    []string   `json:"scopes"`
	ExpiresAt *time.Time `json:"expires_at"`
}

// MarshalJSON has header and claims as the objects that they are, so that a
// program gets at a claim; what is no JSON stays text.
func (r *Report) MarshalJSON() ([]byte, error) {
	type report Report // without this method
	out := struct {
		Header any `json:"header,omitempty"`
		Claims any `json:"claims,omitempty"`
		*report
		Principal *principalView `json:"principal,omitempty"`
	}{part(r.Header), part(r.Claims), (*report)(r), nil}
	if p := r.Principal; p != nil {
		out.Principal = &principalView{p.Subject, p.Role, p.Owner, p.Plan, append([]string{}, p.Scopes...), nil}
		if !p.Expires.IsZero() {
			at := p.Expires.UTC()
			out.Principal.ExpiresAt = &at
		}
	}
	return json.Marshal(out)
}

// part is what a part of a token is in JSON; nil where it could not be decoded.
func part(text string) any {
	switch {
	case text == "":
		return nil
	case json.Valid([]byte(text)):
		return json.RawMessage(text)
	}
	return text
}

// Verdict is what one issuer says of a token.
type Verdict struct {
	Issuer   string `json:"issuer"`
	Accepted bool   `json:"accepted"`
	Reason   Reason `json:"reason,omitempty"`
	Hint     string `json:"hint,omitempty"`
}

// Inspect says everything about a token that may be shown: what it holds, which
// issuer would take it, and why the others would not. It asks every issuer that
// the token's iss belongs to, and nothing is cached.
func (s *Set) Inspect(ctx context.Context, now time.Time, raw string) *Report {
	raw = strings.TrimSpace(raw)
	rep := &Report{}
	if header, payload, _, d := splitToken(raw); d == nil || d == denyNoSig {
		if d == denyNoSig {
			header, payload, _ = cutThree(raw)
		}
		rep.Header, rep.Claims = readable(header), readable(payload)
	}
	t, d := parseToken(new(workspace), raw)
	if d != nil {
		rep.Reason, rep.Hint = d.Reason, d.Hint
		return rep
	}
	for _, i := range s.candidates(t) {
		e, d := i.verify(ctx, now, t)
		v := Verdict{Issuer: i.name, Accepted: d == nil}
		if d != nil {
			v.Reason, v.Hint = d.Reason, d.Hint
		} else if rep.Principal == nil {
			rep.Issuer, rep.Accepted, rep.Principal = i.name, true, e.principal
		}
		rep.Asked = append(rep.Asked, v)
	}
	if !rep.Accepted {
		_, d := s.verifyCold(ctx, now, raw, nil)
		if d == nil { // its keys arrived this moment
			d = denyUnavailable
		}
		rep.Reason, rep.Hint = d.Reason, d.Hint
	}
	return rep
}

// String shows the report to a person.
func (r *Report) String() string {
	var b strings.Builder
	section := func(title, text string) {
		if text == "" {
			text = "(cannot be decoded)"
		}
		fmt.Fprintf(&b, "%s\n%s\n", title, text)
	}
	section("header", r.Header)
	section("claims", r.Claims)
	for _, v := range r.Asked {
		if v.Accepted {
			fmt.Fprintf(&b, "issuer %s: accepts it\n", v.Issuer)
		} else {
			fmt.Fprintf(&b, "issuer %s: refuses it: %s: %s\n", v.Issuer, v.Reason, v.Hint)
		}
	}
	if p := r.Principal; p != nil {
		fmt.Fprintf(&b, "subject  %s\nrole     %s\nowner    %s\nplan     %s\nscopes   %s\nexpires  %s\n",
			printable(p.Subject), printable(p.Role), printable(p.Owner), printable(p.Plan),
			p.ScopesText, p.Expires.UTC().Format(time.RFC3339))
		b.WriteString("verdict  accepted\n")
	} else {
		fmt.Fprintf(&b, "verdict  refused: %s: %s\n", r.Reason, r.Hint)
	}
	return b.String()
}

func cutThree(raw string) (a, b, c string) {
	a, rest, _ := strings.Cut(raw, ".")
	b, c, _ = strings.Cut(rest, ".")
	return a, b, c
}

// readable decodes a part leniently, for the eye alone.
func readable(segment string) string {
	b, ok := decodeSegmentBytes(segment)
	if !ok || !utf8.Valid(b) {
		return ""
	}
	var out bytes.Buffer
	if json.Indent(&out, b, "", "  ") != nil {
		return printable(string(b))
	}
	return printable(out.String())
}

// printable escapes what a terminal might obey, or not show: the text is a
// stranger's. In JSON such characters stand in texts only, where the escape
// means the same.
func printable(s string) string {
	clean := true
	for _, r := range s {
		if !unicode.IsPrint(r) && r != '\n' {
			clean = false
			break
		}
	}
	if clean {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		switch {
		case unicode.IsPrint(r) || r == '\n':
			b.WriteRune(r)
		case r > 0xffff:
			r -= 0x10000
			fmt.Fprintf(&b, `\u%04x\u%04x`, 0xd800+(r>>10), 0xdc00+(r&0x3ff))
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}
