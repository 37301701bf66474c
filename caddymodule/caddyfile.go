package caddymodule

import (
	"fmt"
	"sort"
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/hivegate/hivegate/internal/policy"
)

func init() {
	httpcaddyfile.RegisterGlobalOption("hivegate", parseGlobal)
	httpcaddyfile.RegisterHandlerDirective("hivegate", parseGate)
	httpcaddyfile.RegisterDirectiveOrder("hivegate", httpcaddyfile.Before, "basic_auth")
}

// places remembers where each part of a configuration stands in the Caddyfile,
// by the path that configError uses.
type places map[string]caddyfile.Token

// locate turns a mistake into an error with file and line: of the part itself,
// or of the nearest part around it.
func (p places) locate(e *configError, block caddyfile.Token) error {
	for path := e.Path; path != ""; {
		if t, ok := p[path]; ok {
			return errAt(t, e)
		}
		i := strings.LastIndexByte(path, '/')
		if i < 0 {
			break
		}
		path = path[:i]
	}
	return errAt(block, e)
}

// errAt says where a mistake stands, in the form that Caddy's own errors have.
func errAt(t caddyfile.Token, err error) error {
	return fmt.Errorf("%w, at %s:%d", err, t.File, t.Line)
}

// errAtf is errAt for a text.
func errAtf(t caddyfile.Token, format string, args ...any) error {
	return errAt(t, fmt.Errorf(format, args...))
}

// option is one entry of a table of options: whether it may stand there once
// only, and what reads it.
type option[T any] struct {
	once bool
	read func(*block, T) error
}

// block is a Caddyfile block being read.
type block struct {
	*caddyfile.Dispenser
	places places
	name   string          // the option being read
	start  caddyfile.Token // its token
}

// usage is the error for wrong words of the option being read.
func (b *block) usage(usage string) error {
	return errAtf(b.start, "%s: write '%s'", b.name, usage)
}

// words returns the rest of the line.
func (b *block) words() []string { return b.RemainingArgs() }

// noBlock refuses a block after an option that takes none.
func (b *block) noBlock() error {
	for nesting := b.Nesting(); b.NextBlock(nesting); {
		return errAtf(b.start, "%s takes no block", b.name)
	}
	return nil
}

// readBlock reads the options of a block by a table.
func readBlock[T any](b *block, what string, table map[string]option[T], into T) error {
	seen := make(map[string]caddyfile.Token)
	for nesting := b.Nesting(); b.NextBlock(nesting); {
		token := b.Token()
		name := token.Text
		opt, ok := table[name]
		if !ok {
			return errAtf(token, "%s: %s", what, unknownOption(name, table))
		}
		if first, twice := seen[name]; twice && opt.once {
			return errAtf(token, "%s: '%s' is given twice, first in line %d", what, name, first.Line)
		}
		seen[name] = token
		sub := &block{Dispenser: b.Dispenser, places: b.places, name: name, start: token}
		if err := opt.read(sub, into); err != nil {
			return err
		}
	}
	return nil
}

func unknownOption[T any](name string, table map[string]option[T]) string {
	names := make([]string, 0, len(table))
	for n := range table {
		names = append(names, n)
	}
	sort.Strings(names)
	if near := policy.Nearest(name, names); near != "" {
		return fmt.Sprintf("unknown option '%s'; did you mean '%s'?", name, near)
	}
	return fmt.Sprintf("unknown option '%s'; there are: %s", name, strings.Join(names, ", "))
}

// parseGlobal parses the global option. Syntax:
//
//	hivegate {
//		keystore sqlite [PATH]
//		keystore postgres DSN { max_staleness 60s }
//		limiter memory
//		limiter redis URL { mode strict|lease; on_failure local|deny|allow }
//		master_key KEY [OLD…] | none
//		key_format PREFIX LENGTH
//		bcrypt_cost N
//		auth_failures RATE
//		scopes SCOPE…
//		alias A B
//		preset NAME SCOPE…
//		class NAME [RATE] [per owner|key|ip]
//		plan NAME {
//			requests RATE [burst N] [per owner|key|ip] | unlimited
//			class NAME RATE
//			concurrent [CLASS] N
//		}
//		default_plan NAME
//		anonymous RATE
//		issuer NAME {
//			iss VALUE
//			aud VALUE…
//			jwks URL|FILE
//			public_key FILE
//			hmac_secret SECRET
//			algorithms ALG…
//			leeway DURATION
//			allow_missing_iss
//			scopes_claim CLAIM
//			role_claim CLAIM
//			role VALUE SCOPE…
//			owner_claim CLAIM
//			plan_claim CLAIM
//			plan NAME
//			server_only ROLE…
//			static_key VALUE role ROLE
//		}
//	}
//
// RATE is `<n>/<s|m|h|d or a Go duration>`. Options that are not repeatable are
// refused when they stand there twice, and so is a second block.
func parseGlobal(d *caddyfile.Dispenser, existing any) (any, error) {
	d.Next() // the option's name
	start := d.Token()
	if existing != nil {
		return nil, errAtf(start, "a second global 'hivegate' block: keys, limits and plans are shared by all sites, so put everything into one")
	}
	app := new(App)
	b := &block{Dispenser: d, places: make(places), name: "hivegate", start: start}
	if len(b.words()) > 0 {
		return nil, errAtf(start, "the global option 'hivegate' takes a block only")
	}
	if err := readBlock(b, "hivegate", globalOptions, app); err != nil {
		return nil, err
	}
	if err := checkKeystore(b, app); err != nil {
		return nil, err
	}
	if _, mistake := compileApp(app); mistake != nil {
		return nil, b.places.locate(mistake, start)
	}
	noted.app(b.places, start)
	return httpcaddyfile.App{Name: "hivegate", Value: encodeApp(app)}, nil
}

// parseGate parses the directive. Syntax:
//
//	hivegate [<matcher>] {
//		dialect hornethive|hiveclaw|hiveprotocol|hiveos|problem
//		realm TEXT
//		accept keys [PREFIX…]
//		accept issuer NAME…
//		credentials { bearer; header NAME [required]; cookie NAME }
//		routes {
//			METHODS PATTERN REQUIREMENT… [2fa] [signed] [class=A,B] [cost=N] [on_failure=local|deny|allow] {
//				json FIELD oneof VALUE…
//				json FIELD VALUE… require REQUIREMENT… [2fa] [signed]
//			}
//		}
//		unmatched deny|authenticated
//		keys_api BASE { read REQUIREMENT… [2fa]; write REQUIREMENT… [2fa]; any_owner SCOPE }
//		second_factor verify|present
//		accept_aal2
//		signature [HEADER] { max_body 1MiB; timestamp required }
//		forward { prefix X-Auth-; credentials none|jwt|all }
//		ratelimit_headers x ietf | off
//		require_https [strict]
//		strip NAME…
//		allow_in_path percent|semicolon|encoded_slash …
//		cors ORIGIN… { headers NAME…; max_age 10m }
//		backend_errors envelope|pass
//		shadow [header]
//		health PATH [ready PATH]
//		docs_url URL
//	}
//
// REQUIREMENT is public, authenticated, or scopes: several are all needed, a|b
// is either.
func parseGate(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	h.Next() // the directive's name
	start := h.Token()
	g := new(Gate)
	b := &block{Dispenser: h.Dispenser, places: make(places), name: "hivegate", start: start}
	if len(b.words()) > 0 {
		return nil, errAtf(start, "hivegate takes one matcher at most, and a block")
	}
	if err := readBlock(b, "hivegate", gateOptions, g); err != nil {
		return nil, err
	}
	app, err := decodeApp(h.Option("hivegate"))
	if err != nil {
		return nil, errAt(start, err)
	}
	set, mistake := compileApp(app)
	if mistake != nil {
		return nil, errAt(start, mistake)
	}
	if _, mistake := compileGate(g, set); mistake != nil {
		return nil, b.places.locate(mistake, start)
	}
	noted.gate(g, b.places, start)
	return g, nil
}
