package keyapi

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/hivegate/hivegate/internal/policy"
	"github.com/hivegate/hivegate/internal/refusal"
	"github.com/hivegate/hivegate/keystore"
)

// defaultOverlap is how long the old secret of a rotation works where the
// request does not say.
const defaultOverlap = 24 * time.Hour

var (
	createMembers = []string{"name", "permissions", "scopes", "preset", "plan", "owner", "expires_at", "expiresAt", "ip_allowlist", "limits"}
	patchMembers  = []string{"name", "permissions", "scopes", "expires_at", "expiresAt", "plan", "limits", "disabled", "ip_allowlist"}
	rotateMembers = []string{"overlap"}
	limitMembers  = []string{"requests", "concurrent"}
)

// spelling is what two spellings of one member are called.
var spelling = map[string]string{"scopes": "permissions", "expiresAt": "expires_at"}

// immutable are members of a record that a PATCH cannot have.
var immutable = []string{"id", "prefix", "owner", "status", "created_at", "last_used_at", "key", "old_secret"}

// newKey reads the body of a create. Members that may be left out may be null.
func (a *API) newKey(raw []byte, c *Caller) (n keystore.NewKey, ref *refusal.Refusal) {
	members, ref := object(raw, "", createMembers...)
	if ref != nil {
		return n, ref
	}
	if ref := oneSpelling(members); ref != nil {
		return n, ref
	}
	n.Owner = c.storedOwner()
	var named, preset, scopes bool
	for _, m := range members {
		if isNull(m.value) && m.name != "name" {
			continue
		}
		var ref *refusal.Refusal
		switch m.name {
		case "name":
			named = true
			n.Name, ref = text(m.name, m.value)
		case "permissions", "scopes":
			scopes = true
			n.Scopes, ref = texts(m.name, m.value)
		case "preset":
			preset = true
			n.Scopes, ref = a.preset(m, n.Scopes)
		case "plan":
			n.Plan, ref = nonEmpty(m)
		case "owner":
			n.Owner, ref = owner(m, c)
		case "expires_at", "expiresAt":
			n.ExpiresAt, ref = moment(m.name, m.value)
		case "ip_allowlist":
			n.IPAllowlist, ref = prefixes(m.name, m.value)
		case "limits":
			n.Limits, ref = limits(m.name, m.value)
		}
		if ref != nil {
			return n, ref
		}
	}
	switch {
	case !named:
		return n, wrong("name", "is required")
	case preset && scopes:
		return n, wrong("preset", "excludes permissions: give one of them")
	case !preset && !scopes:
		return n, wrong("permissions", "is required: give permissions, or a preset")
	}
	return n, nil
}

// patch reads the body of a PATCH. null clears what can be left out.
func (a *API) patch(raw []byte) (p keystore.Patch, ref *refusal.Refusal) {
	members, ref := object(raw, "", patchMembers...)
	if ref != nil {
		if f := ref.Fields[0].Field; slices.Contains(immutable, f) {
			return p, invalid(f, "cannot be changed")
		}
		return p, ref
	}
	if ref := oneSpelling(members); ref != nil {
		return p, ref
	}
	for _, m := range members {
		var ref *refusal.Refusal
		switch m.name {
		case "name":
			p.Name = new(string)
			*p.Name, ref = text(m.name, m.value)
		case "permissions", "scopes":
			p.Scopes = new([]string)
			*p.Scopes, ref = texts(m.name, m.value)
		case "disabled":
			p.Disabled = new(bool)
			*p.Disabled, ref = boolean(m.name, m.value)
		case "plan":
			p.Plan = new(string)
			if !isNull(m.value) {
				*p.Plan, ref = nonEmpty(m)
			}
		case "expires_at", "expiresAt":
			p.ExpiresAt = new(time.Time)
			if !isNull(m.value) {
				*p.ExpiresAt, ref = moment(m.name, m.value)
			}
		case "ip_allowlist":
			p.IPAllowlist = new([]netip.Prefix)
			if !isNull(m.value) {
				*p.IPAllowlist, ref = prefixes(m.name, m.value)
			}
		case "limits":
			p.Limits = new(keystore.Limits)
			if !isNull(m.value) {
				p.Limits, ref = limits(m.name, m.value)
			}
		}
		if ref != nil {
			return p, ref
		}
	}
	return p, nil
}

// overlap reads the body of a rotation, which may be absent.
func overlap(raw []byte) (time.Duration, *refusal.Refusal) {
	if len(raw) == 0 {
		return defaultOverlap, nil
	}
	members, ref := object(raw, "", rotateMembers...)
	if ref != nil {
		return 0, ref
	}
	if len(members) == 0 || isNull(members[0].value) {
		return defaultOverlap, nil
	}
	s, ref := text("overlap", members[0].value)
	if ref != nil {
		return 0, ref
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		return 0, wrong("overlap", `must be a span such as "24h", or "0s" to end the old secret now`)
	}
	return d, nil
}

// oneSpelling refuses a member that is given under both of its names.
func oneSpelling(members []member) *refusal.Refusal {
	for _, m := range members {
		other, ok := spelling[m.name]
		if ok && slices.ContainsFunc(members, func(o member) bool { return o.name == other }) {
			return invalid(m.name, "is another name of "+other+": give one of them")
		}
	}
	return nil
}

func (a *API) preset(m member, scopes []string) ([]string, *refusal.Refusal) {
	name, ref := text(m.name, m.value)
	if ref != nil {
		return nil, ref
	}
	if set, ok := a.o.Presets[name]; ok {
		if scopes != nil {
			return scopes, nil // both were given, which is refused
		}
		return slices.Clone(set), nil
	}
	names := slices.Sorted(maps.Keys(a.o.Presets))
	switch near := policy.Nearest(name, names); {
	case near != "":
		return nil, wrong(m.name, "is unknown; did you mean "+near+"?")
	case len(names) == 0:
		return nil, wrong(m.name, "is unknown: there are no presets here, give permissions")
	}
	return nil, wrong(m.name, "is unknown; there are: "+strings.Join(names, ", "))
}

// owner reads an account. The caller's own subject may be said, though nobody
// else may give a text of that form.
func owner(m member, c *Caller) (string, *refusal.Refusal) {
	s, ref := nonEmpty(m)
	if ref != nil {
		return "", ref
	}
	if s == c.storedOwner() {
		return s, nil
	}
	if err := keystore.ValidOwner(s); err != nil {
		return "", wrong(m.name, err.Error())
	}
	return s, nil
}

func nonEmpty(m member) (string, *refusal.Refusal) {
	s, ref := text(m.name, m.value)
	if ref == nil && s == "" {
		return "", wrong(m.name, "is empty: give a value, or leave it out")
	}
	return s, ref
}

// moment reads a time of RFC 3339 with its zone.
func moment(name string, raw json.RawMessage) (time.Time, *refusal.Refusal) {
	s, ref := text(name, raw)
	if ref != nil {
		return time.Time{}, ref
	}
	t, err := keystore.ParseTime(s)
	switch {
	case err != nil:
		return time.Time{}, wrong(name, "must be a time with its zone, such as 2027-01-31T00:00:00Z")
	case t.UTC().Year() < 1:
		// Before the years that are stored: in the past anyway.
		return time.Time{}, wrong(name, "must be in the future")
	case t.IsZero():
		return time.Time{}, wrong(name, "must be in the future; null says never")
	}
	return t, nil
}

// prefixes reads prefixes, and addresses for prefixes of one address.
func prefixes(name string, raw json.RawMessage) ([]netip.Prefix, *refusal.Refusal) {
	list, ref := texts(name, raw)
	if ref != nil {
		return nil, ref
	}
	out := make([]netip.Prefix, 0, len(list))
	for i, s := range list {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			addr, err := netip.ParseAddr(s)
			if err != nil || addr.Zone() != "" {
				return nil, wrong(name, fmt.Sprintf("entry %d is neither an address nor a prefix; write 192.0.2.7, 192.0.2.0/24 or 2001:db8::/32", i+1))
			}
			p = netip.PrefixFrom(addr, addr.BitLen())
		}
		out = append(out, p)
	}
	return out, nil
}

// limits reads {"requests":"5000/m","concurrent":{"outcomes":50}}.
func limits(name string, raw json.RawMessage) (*keystore.Limits, *refusal.Refusal) {
	members, ref := object(raw, name+".", limitMembers...)
	if ref != nil {
		return nil, ref
	}
	l := new(keystore.Limits)
	for _, m := range members {
		if isNull(m.value) {
			continue
		}
		if m.name == "requests" {
			if l.Requests, ref = text(name+".requests", m.value); ref != nil {
				return nil, ref
			}
			if l.Requests == "" {
				return nil, wrong(name+".requests", "is empty: write a rate such as 5000/m, or leave it out")
			}
			continue
		}
		if l.Concurrent, ref = slots(name+".concurrent", m.value); ref != nil {
			return nil, ref
		}
	}
	return l, nil
}

func slots(name string, raw json.RawMessage) (map[string]int, *refusal.Refusal) {
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(raw, &keys); err != nil || keys == nil {
		return nil, invalid(name, "must be an object of classes and whole numbers")
	}
	members, ref := object(raw, name+".", slices.Collect(maps.Keys(keys))...)
	if ref != nil {
		return nil, ref
	}
	out := make(map[string]int, len(members))
	for _, m := range members {
		var n *int
		if err := json.Unmarshal(m.value, &n); err != nil || n == nil {
			return nil, invalid(name, "must be an object of classes and whole numbers")
		}
		out[m.name] = *n
	}
	return out, nil
}

// fieldRefusal is a value that the keeper does not take, under the name that the
// API has for it.
func fieldRefusal(e *keystore.FieldError) *refusal.Refusal {
	return wrong(e.Field, longWord.ReplaceAllString(e.Msg, "…"))
}

// longWord may be a credential that was pasted into the wrong place: messages
// quote what was sent, and a secret is not sent back.
var longWord = regexp.MustCompile(`[0-9A-Za-z_-]{24,}`)
