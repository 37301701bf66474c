package caddymodule

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/hivegate/hivegate/internal/policy"
	"github.com/hivegate/hivegate/keystore"
	"github.com/hivegate/hivegate/limiter"
)

// configError is a mistake in a configuration. Path says where it stands
// (`plans/2/requests/0`), so that the Caddyfile's parser can name file and line.
type configError struct {
	Path string
	Msg  string
}

func (e *configError) Error() string { return e.Msg }

func mistake(path, format string, args ...any) *configError {
	return &configError{Path: path, Msg: fmt.Sprintf(format, args...)}
}

func wrapMistake(path, what string, err error) *configError {
	return &configError{Path: path, Msg: what + ": " + err.Error()}
}

// per says whose bucket a limit uses.
type per uint8

const (
	perOwner per = iota // the subject: the owner, or the key without one
	perKey
	perIP
)

func parsePer(by string) per {
	switch by {
	case "key":
		return perKey
	case "ip":
		return perIP
	}
	return perOwner
}

// bound is a limit and whose bucket it uses.
type bound struct {
	limit *limiter.Limit
	by    per
}

// class is a compiled class. index is its place in settings.classes, by which
// plans find their own figures without a map.
type class struct {
	name  string
	index int
	rate  *bound // nil: the name is only declared
	by    per
}

// plan is a compiled plan.
type plan struct {
	name     string
	index    int
	requests []bound
	// classes and concurrent are indexed like settings.classes; nil and 0
	// where the plan says nothing.
	classes       []*bound
	concurrent    []int
	concurrentAll int
}

// settings is the compiled form of what all sites share. It is plain data and
// never changes, so that principals compiled against it may be cached.
type settings struct {
	universe     *policy.Universe
	formats      []keystore.Format
	prefixes     []string
	cost         int
	classes      []*class
	classByName  map[string]*class
	plans        []*plan
	planByName   map[string]*plan
	defaultPlan  *plan
	anonymous    *limiter.Limit
	authFailures *limiter.Limit
	presets      map[string][]string
	issuers      []string // names
	noMaster     bool     // the configuration says master_key none
	needed       neededScopes
}

const (
	defaultKeyPrefix    = "hive_sk_"
	defaultKeyLength    = 48
	defaultBcryptCost   = 10
	defaultAuthFailures = "10/m"
	policyAnonymous     = "anonymous"
	policyAuthFailures  = "auth_failures"
	policyKey           = "key"
)

var nameRE = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

func checkName(path, what, name string) *configError {
	if !nameRE.MatchString(name) {
		return mistake(path, "%s name %q: use 1 to 64 letters, digits, '.', '_' or '-'", what, name)
	}
	switch name {
	case policyAnonymous, policyAuthFailures, policyKey:
		return mistake(path, "%s name %q is taken by hivegate's own limit of that name; choose another", what, name)
	}
	return nil
}

// compileApp turns the app's configuration into settings, or says what is
// wrong with it and where.
func compileApp(a *App) (*settings, *configError) {
	s := &settings{
		classByName: make(map[string]*class),
		planByName:  make(map[string]*plan),
		presets:     make(map[string][]string),
		cost:        a.BcryptCost,
		noMaster:    len(a.MasterKey) == 1 && a.MasterKey[0] == "none",
	}
	for _, step := range []func(*App, *settings) *configError{
		compileKeyFormats, compileScopes, compileClasses, compilePlans, compileOwnLimits, compileIssuers,
	} {
		if err := step(a, s); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func compileKeyFormats(a *App, s *settings) *configError {
	formats := a.KeyFormats
	if len(formats) == 0 {
		formats = []KeyFormat{{Prefix: defaultKeyPrefix, Length: defaultKeyLength}}
	}
	for i, f := range formats {
		path := "key_formats/" + strconv.Itoa(i)
		if f.Length == 0 {
			f.Length = defaultKeyLength
		}
		format, err := keystore.NewFormat(f.Prefix, f.Length)
		if err != nil {
			return wrapMistake(path, "key_format", err)
		}
		for _, other := range s.formats {
			if other == format {
				return mistake(path, "key_format %s %d is given twice", f.Prefix, f.Length)
			}
		}
		s.formats = append(s.formats, format)
		s.prefixes = append(s.prefixes, f.Prefix)
	}
	switch {
	case s.cost == 0:
		s.cost = defaultBcryptCost
	case s.cost < 4 || s.cost > 14:
		return mistake("bcrypt_cost", "bcrypt_cost %d: must be 4 to 14", s.cost)
	}
	return nil
}

func compileScopes(a *App, s *settings) *configError {
	for i, scope := range a.Scopes {
		if err := policy.ParseScope(scope); err != nil {
			return wrapMistake("scopes/"+strconv.Itoa(i), "scopes", err)
		}
	}
	aliases := make([][2]string, 0, len(a.Aliases))
	for _, al := range a.Aliases {
		aliases = append(aliases, [2]string{al.Name, al.Of})
	}
	u, err := policy.NewUniverse(a.Scopes, aliases)
	if err != nil {
		var bad *policy.AliasError
		if errors.As(err, &bad) {
			return wrapMistake("aliases/"+strconv.Itoa(bad.Index), "alias", err)
		}
		return wrapMistake("scopes", "scopes", err)
	}
	s.universe = u
	for i, p := range a.Presets {
		path := "presets/" + strconv.Itoa(i)
		if !nameRE.MatchString(p.Name) {
			return mistake(path, "preset name %q: use 1 to 64 letters, digits, '.', '_' or '-'", p.Name)
		}
		if _, dup := s.presets[p.Name]; dup {
			return mistake(path, "preset %q is given twice", p.Name)
		}
		if len(p.Scopes) == 0 {
			return mistake(path, "preset %q names no scope", p.Name)
		}
		for _, scope := range p.Scopes {
			if err := s.checkScope(scope); err != nil {
				return wrapMistake(path, "preset "+p.Name, err)
			}
		}
		s.presets[p.Name] = p.Scopes
	}
	return nil
}

// checkScope says whether a key or preset may hold the scope.
func (s *settings) checkScope(scope string) error {
	g, err := policy.ParseGrant(scope)
	if err != nil {
		return err
	}
	return s.universe.Known(g.Scope)
}

func parseBound(policyName, text string) (*bound, error) {
	spec, err := limiter.ParseSpec(strings.Fields(text))
	if err != nil {
		return nil, err
	}
	l, err := limiter.NewLimit(policyName, spec.N, spec.Per, spec.Burst)
	if err != nil {
		return nil, err
	}
	return &bound{limit: l, by: parsePer(spec.By)}, nil
}

// rateHasPer reports whether the rate's text says whose bucket it is.
func rateHasPer(text string) bool {
	for _, w := range strings.Fields(text) {
		if w == "per" {
			return true
		}
	}
	return false
}

func compileClasses(a *App, s *settings) *configError {
	for i, c := range a.Classes {
		path := "classes/" + strconv.Itoa(i)
		if err := checkName(path, "class", c.Name); err != nil {
			return err
		}
		if s.classByName[c.Name] != nil {
			return mistake(path, "class %q is given twice", c.Name)
		}
		k := &class{name: c.Name, index: i}
		words := strings.Fields(c.Rate)
		switch {
		case len(words) > 0 && words[0] == "per":
			// A class without a rate of its own may still say whose it is.
			if len(words) != 2 || (words[1] != "owner" && words[1] != "key" && words[1] != "ip") {
				return mistake(path, "class %s: 'per' takes owner, key or ip", c.Name)
			}
			k.by = parsePer(words[1])
		case len(words) > 0:
			b, err := parseBound(c.Name, c.Rate)
			if err != nil {
				return wrapMistake(path, "class "+c.Name, err)
			}
			k.rate, k.by = b, b.by
		}
		s.classes = append(s.classes, k)
		s.classByName[c.Name] = k
	}
	return nil
}

func compilePlans(a *App, s *settings) *configError {
	for i := range a.Plans {
		if err := compilePlan(&a.Plans[i], i, s); err != nil {
			return err
		}
	}
	if err := checkPolicyNames(a, s); err != nil {
		return err
	}
	switch {
	case a.DefaultPlan != "":
		s.defaultPlan = s.planByName[a.DefaultPlan]
		if s.defaultPlan == nil {
			return mistake("default_plan", "default_plan: %s", s.unknown("plan", a.DefaultPlan))
		}
	case len(a.Plans) > 0:
		return mistake("default_plan", "default_plan is missing: name the plan of keys that have none")
	}
	return nil
}

// checkPolicyNames refuses names that a further requests line of a plan has
// already: `p.2` beside a plan p with two lines would share its bucket.
func checkPolicyNames(a *App, s *settings) *configError {
	for _, p := range s.plans {
		for _, b := range p.requests {
			name := b.limit.Policy
			if name == p.name {
				continue
			}
			for i := range a.Plans {
				if a.Plans[i].Name == name {
					return mistake("plans/"+strconv.Itoa(i), "plan name %q is that of a further 'requests' line of plan %s; choose another", name, p.name)
				}
			}
			if k := s.classByName[name]; k != nil {
				return mistake("classes/"+strconv.Itoa(k.index), "class name %q is that of a further 'requests' line of plan %s; choose another", name, p.name)
			}
		}
	}
	return nil
}

func compilePlan(p *Plan, i int, s *settings) *configError {
	path := "plans/" + strconv.Itoa(i)
	if err := checkName(path, "plan", p.Name); err != nil {
		return err
	}
	if s.planByName[p.Name] != nil {
		return mistake(path, "plan %q is given twice", p.Name)
	}
	if s.classByName[p.Name] != nil {
		return mistake(path, "plan %q is named like a class: their limits could not be told apart; rename one", p.Name)
	}
	c := &plan{name: p.Name, index: i, classes: make([]*bound, len(s.classes)), concurrent: make([]int, len(s.classes))}
	for j, text := range p.Requests {
		at := path + "/requests/" + strconv.Itoa(j)
		if text == "unlimited" {
			if len(p.Requests) > 1 {
				return mistake(at, "plan %s: 'requests unlimited' stands beside another 'requests' line", p.Name)
			}
			continue
		}
		name := p.Name
		if j > 0 {
			name += "." + strconv.Itoa(j+1)
		}
		b, err := parseBound(name, text)
		if err != nil {
			return wrapMistake(at, "plan "+p.Name+": requests", err)
		}
		c.requests = append(c.requests, *b)
	}
	if err := compilePlanClasses(p, path, c, s); err != nil {
		return err
	}
	if err := compileConcurrent(p, path, c, s); err != nil {
		return err
	}
	s.plans = append(s.plans, c)
	s.planByName[p.Name] = c
	return nil
}

func compilePlanClasses(p *Plan, path string, c *plan, s *settings) *configError {
	for j, pc := range p.Classes {
		at := path + "/classes/" + strconv.Itoa(j)
		k := s.classByName[pc.Name]
		if k == nil {
			return mistake(at, "plan %s: %s", p.Name, s.unknown("class", pc.Name))
		}
		if c.classes[k.index] != nil {
			return mistake(at, "plan %s: class %q is given twice", p.Name, pc.Name)
		}
		if pc.Rate == "" {
			return mistake(at, "plan %s: class %s needs a rate, such as 60/m", p.Name, pc.Name)
		}
		b, err := parseBound(pc.Name, pc.Rate)
		if err != nil {
			return wrapMistake(at, "plan "+p.Name+": class "+pc.Name, err)
		}
		if !rateHasPer(pc.Rate) {
			b.by = k.by
		}
		c.classes[k.index] = b
	}
	return nil
}

func compileConcurrent(p *Plan, path string, c *plan, s *settings) *configError {
	for j, cc := range p.Concurrent {
		at := path + "/concurrent/" + strconv.Itoa(j)
		if cc.Max < 1 {
			return mistake(at, "plan %s: concurrent %d: must be at least 1", p.Name, cc.Max)
		}
		if cc.Class == "" {
			if c.concurrentAll != 0 {
				return mistake(at, "plan %s: 'concurrent' for all requests is given twice", p.Name)
			}
			c.concurrentAll = cc.Max
			continue
		}
		k := s.classByName[cc.Class]
		if k == nil {
			return mistake(at, "plan %s: %s", p.Name, s.unknown("class", cc.Class))
		}
		if c.concurrent[k.index] != 0 {
			return mistake(at, "plan %s: 'concurrent %s' is given twice", p.Name, cc.Class)
		}
		c.concurrent[k.index] = cc.Max
	}
	return nil
}

func compileOwnLimits(a *App, s *settings) *configError {
	failures := a.AuthFailures
	if failures == "" {
		failures = defaultAuthFailures
	}
	for _, own := range []struct {
		path, policy, text string
		into               **limiter.Limit
	}{
		{"auth_failures", policyAuthFailures, failures, &s.authFailures},
		{"anonymous", policyAnonymous, a.Anonymous, &s.anonymous},
	} {
		if own.text == "" {
			continue
		}
		b, err := parseBound(own.policy, own.text)
		if err != nil {
			return wrapMistake(own.path, own.path, err)
		}
		if rateHasPer(own.text) && b.by != perIP {
			return mistake(own.path, "%s is always counted per address: leave 'per' away", own.path)
		}
		*own.into = b.limit
	}
	return nil
}

// unknown says that a name of the given kind does not exist, with the nearest one.
func (s *settings) unknown(kind, name string) string {
	var names []string
	switch kind {
	case "class":
		for _, c := range s.classes {
			names = append(names, c.name)
		}
	case "plan":
		for _, p := range s.plans {
			names = append(names, p.name)
		}
	}
	return unknownName(kind, name, names)
}

func unknownName(kind, name string, among []string) string {
	if near := policy.Nearest(name, among); near != "" {
		return fmt.Sprintf("unknown %s %q; did you mean %q?", kind, name, near)
	}
	if len(among) == 0 {
		return fmt.Sprintf("unknown %s %q: none is defined", kind, name)
	}
	return fmt.Sprintf("unknown %s %q; there are: %s", kind, name, strings.Join(among, ", "))
}

// checkCost refuses a cost that a bucket can never hold.
func (s *settings) checkCost(path string, cost int, public bool, classes []*class) *configError {
	if cost < 1 || cost > 1_000_000 {
		return mistake(path, "cost=%d: must be 1 to 1000000", cost)
	}
	tooMuch := func(l *limiter.Limit) *configError {
		if l == nil || l.Capacity() == 0 || cost <= l.Capacity() {
			return nil // 0/m refuses everything anyway, and says so
		}
		return mistake(path, "cost=%d is more than the bucket of %q ever holds (%d): lower the cost or raise its burst",
			cost, l.Policy, l.Capacity())
	}
	for _, c := range classes {
		if c.rate != nil {
			if err := tooMuch(c.rate.limit); err != nil {
				return err
			}
		}
	}
	if public {
		return tooMuch(s.anonymous)
	}
	for _, p := range s.plans {
		for _, b := range p.requests {
			if err := tooMuch(b.limit); err != nil {
				return err
			}
		}
		for _, c := range classes {
			if b := p.classes[c.index]; b != nil {
				if err := tooMuch(b.limit); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// wholeSeconds rounds up, so that whoever waits that long has waited enough.
func wholeSeconds(d time.Duration) int {
	return int((d + time.Second - 1) / time.Second)
}
