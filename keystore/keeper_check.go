package keystore

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"
)

// newRecord checks the values of a new key and makes its record, without what
// belongs to its secret.
func (k *Keeper) newRecord(now time.Time, n NewKey) (*Record, error) {
	rec := &Record{Name: n.Name, Owner: n.Owner, Plan: n.Plan, CreatedAt: now}
	if err := ValidName(n.Name); err != nil {
		return nil, &FieldError{"name", err.Error()}
	}
	if err := ValidStoredOwner(n.Owner); err != nil {
		return nil, &FieldError{"owner", err.Error()}
	}
	if err := k.checkPlan(n.Plan); err != nil {
		return nil, err
	}
	var err error
	if rec.Scopes, err = k.checkScopes(n.Scopes); err != nil {
		return nil, err
	}
	if rec.ExpiresAt, err = checkExpires(n.ExpiresAt, now); err != nil {
		return nil, err
	}
	if rec.IPAllowlist, err = checkAllowlist(n.IPAllowlist); err != nil {
		return nil, err
	}
	if rec.Limits, err = k.checkLimits(n.Limits); err != nil {
		return nil, err
	}
	return rec, nil
}

// checkPatch checks the values of a patch and puts them into their stored form.
// What p points at is the caller's and stays as it is.
func (k *Keeper) checkPatch(p *Patch, now time.Time) error {
	if p.Name != nil {
		if err := ValidName(*p.Name); err != nil {
			return &FieldError{"name", err.Error()}
		}
	}
	if p.Plan != nil {
		if err := k.checkPlan(*p.Plan); err != nil {
			return err
		}
	}
	if p.Scopes != nil {
		scopes, err := k.checkScopes(*p.Scopes)
		if err != nil {
			return err
		}
		p.Scopes = &scopes
	}
	if p.ExpiresAt != nil {
		expires, err := checkExpires(*p.ExpiresAt, now)
		if err != nil {
			return err
		}
		p.ExpiresAt = &expires
	}
	if p.IPAllowlist != nil {
		list, err := checkAllowlist(*p.IPAllowlist)
		if err != nil {
			return err
		}
		p.IPAllowlist = &list
	}
	if p.Limits != nil {
		limits, err := k.checkLimits(p.Limits)
		if err != nil {
			return err
		}
		if limits == nil {
			limits = new(Limits)
		}
		p.Limits = limits
	}
	return nil
}

func (k *Keeper) checkPlan(plan string) error {
	switch {
	case plan == "":
		return nil
	case len(plan) > maxPlanBytes || !plainWord(plan):
		return &FieldError{"plan", fmt.Sprintf("not the name of a plan: give at most %d visible ASCII characters without spaces", maxPlanBytes)}
	case k.CheckPlan != nil:
		if err := k.CheckPlan(plan); err != nil {
			return &FieldError{"plan", err.Error()}
		}
	}
	return nil
}

// checkScopes returns the scopes in their order, each once.
func (k *Keeper) checkScopes(scopes []string) ([]string, error) {
	if len(scopes) > MaxScopes {
		return nil, &FieldError{"permissions", fmt.Sprintf("%d scopes: give at most %d", len(scopes), MaxScopes)}
	}
	checked := make([]string, 0, len(scopes))
	for _, scope := range scopes {
		// Scopes are sent upstream separated by spaces: one with a space would
		// be two there.
		if len(scope) > MaxScopeBytes || !plainWord(scope) {
			return nil, &FieldError{"permissions", fmt.Sprintf("not a scope: write resource:action in at most %d visible ASCII characters, without spaces", MaxScopeBytes)}
		}
		if k.CheckScope != nil {
			if err := k.CheckScope(scope); err != nil {
				return nil, &FieldError{"permissions", err.Error()}
			}
		}
		if !slices.Contains(checked, scope) {
			checked = append(checked, scope)
		}
	}
	return checked, nil
}

// checkExpires takes the zero time for never.
func checkExpires(t, now time.Time) (time.Time, error) {
	if t.IsZero() {
		return time.Time{}, nil
	}
	if !t.After(now) {
		return time.Time{}, &FieldError{"expires_at", "must be in the future (now it is " + now.Format(time.RFC3339) + ")"}
	}
	return storedTime(t)
}

// storedTime puts an expiry into the form in which it is stored and shown.
func storedTime(t time.Time) (time.Time, error) {
	t = t.UTC()
	if t.Year() > maxExpiresYear {
		return time.Time{}, &FieldError{"expires_at", fmt.Sprintf("must be before the year %d; leave it out for a key that does not expire", maxExpiresYear+1)}
	}
	return t.Truncate(time.Microsecond), nil
}

// checkAllowlist returns the prefixes with the bits beyond their length cleared
// and IPv4 as IPv4, each once.
func checkAllowlist(list []netip.Prefix) ([]netip.Prefix, error) {
	if len(list) > MaxAllowlist {
		return nil, &FieldError{"ip_allowlist", fmt.Sprintf("%d prefixes: give at most %d", len(list), MaxAllowlist)}
	}
	var checked []netip.Prefix // nil for none, as it is stored
	for _, prefix := range list {
		if !prefix.IsValid() {
			return nil, &FieldError{"ip_allowlist", "not an address or prefix; write 192.0.2.0/24 or 2001:db8::/32"}
		}
		if addr := prefix.Addr(); addr.Is4In6() && prefix.Bits() >= 96 {
			prefix = netip.PrefixFrom(addr.Unmap(), prefix.Bits()-96)
		}
		if prefix = prefix.Masked(); !slices.Contains(checked, prefix) {
			checked = append(checked, prefix)
		}
	}
	return checked, nil
}

// checkLimits returns a copy of limits, nil where there is nothing in it.
func (k *Keeper) checkLimits(limits *Limits) (*Limits, error) {
	if limits == nil || (limits.Requests == "" && len(limits.Concurrent) == 0) {
		return nil, nil
	}
	if limits.Requests != "" && k.CheckRequests != nil {
		if err := k.CheckRequests(limits.Requests); err != nil {
			return nil, &FieldError{"limits", "requests: " + err.Error()}
		}
	}
	if len(limits.Concurrent) > MaxConcurrent {
		return nil, &FieldError{"limits", fmt.Sprintf("concurrent: %d classes: give at most %d", len(limits.Concurrent), MaxConcurrent)}
	}
	for _, class := range slices.Sorted(maps.Keys(limits.Concurrent)) {
		if class == "" {
			return nil, &FieldError{"limits", "concurrent: the name of a class is missing"}
		}
		if k.CheckClass != nil {
			if err := k.CheckClass(class); err != nil {
				return nil, &FieldError{"limits", "concurrent: " + err.Error()}
			}
		}
		if n := limits.Concurrent[class]; n < 1 || n > MaxSlots {
			return nil, &FieldError{"limits", fmt.Sprintf("concurrent: %q has %d slots: give 1 to %d", class, n, MaxSlots)}
		}
	}
	return limits.clone(), nil
}

// clone returns a copy, nil where there is nothing in it.
func (l *Limits) clone() *Limits {
	if l == nil || (l.Requests == "" && len(l.Concurrent) == 0) {
		return nil
	}
	return &Limits{Requests: l.Requests, Concurrent: maps.Clone(l.Concurrent)}
}

// Equal reports whether two overrides say the same; either may be nil.
func (l *Limits) Equal(other *Limits) bool {
	if l == nil || other == nil {
		return l == other
	}
	return l.Requests == other.Requests && maps.Equal(l.Concurrent, other.Concurrent)
}
