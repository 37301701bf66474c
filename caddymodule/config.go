package caddymodule

import (
	"encoding/json"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/hivegate/hivegate/internal/bodyrule"
	"github.com/hivegate/hivegate/internal/jwtauth"
)

// KeyFormat is one accepted form of API keys: `<prefix><body>`.
type KeyFormat struct {
	// The text that every key of this form begins with, such as `hive_sk_`.
	// Letters, digits, `_`, `-` and `.`. Misuse: a prefix shared with another
	// product makes leaked keys hard to tell apart.
	Prefix string `json:"prefix"`
	// The number of base62 characters after the prefix: 12 of public id,
	// 6 of checksum, the rest is the secret. Unit: characters, 40 to
	// 72 − len(prefix). Default: `48`.
	Length int `json:"length,omitempty"`
}

// Alias makes Name another name of the scope Of.
type Alias struct {
	// The other name, `resource:action`.
	Name string `json:"name"`
	// The scope that it stands for; of the same resource.
	Of string `json:"of"`
}

// Preset is a named set of scopes for creating keys.
type Preset struct {
	// The name that `apikey create --preset` takes.
	Name string `json:"name"`
	// The scopes that such a key gets.
	Scopes []string `json:"scopes"`
}

// Class is a named limit that routes opt into with `class=NAME`.
type Class struct {
	// The class's name; no plan may have the same.
	Name string `json:"name"`
	// `<n>/<s|m|h|d or a Go duration> [burst N] [per owner|key|ip]`. Unit:
	// requests in the period. Default: none, the name is only declared for
	// plans and concurrency. `0/m` refuses everything.
	Rate string `json:"rate,omitempty"`
}

// Concurrent bounds the requests in flight.
type Concurrent struct {
	// The class whose requests are counted. Default: all requests.
	Class string `json:"class,omitempty"`
	// How many may be in flight at once, per subject. Unit: requests; at least 1.
	Max int `json:"max"`
}

// Plan is the set of limits of a subscription.
type Plan struct {
	// The plan's name, by which keys refer to it.
	Name string `json:"name"`
	// Rates over all requests, each `<n>/<period> [burst N] [per owner|key|ip]`,
	// or the one word `unlimited`. Unit: requests in the period; all of them
	// apply together. Default: none, which is unlimited.
	Requests []string `json:"requests,omitempty"`
	// This plan's own figures for classes. Default: each class's own.
	Classes []Class `json:"classes,omitempty"`
	// Bounds on requests in flight. Default: none.
	Concurrent []Concurrent `json:"concurrent,omitempty"`
}

// App is the hivegate app: what all sites share. Keys, buckets and plans are
// the same for every gate of a configuration.
type App struct {
	// Where keys live. Default: `sqlite`, in `keys.db` in Caddy's data directory.
	KeystoreRaw json.RawMessage `json:"keystore,omitempty" caddy:"namespace=hivegate.keystores inline_key=backend"`
	// Where counters live. Default: `memory`.
	LimiterRaw json.RawMessage `json:"limiter,omitempty" caddy:"namespace=hivegate.limiters inline_key=backend"`
	// The master key, then older ones that may still open what they sealed:
	// each 32 bytes as base64 or hex; placeholders such as `{env.NAME}` are
	// expanded. The one word `none`: nothing but bcrypt hashes is stored.
	// Default: with sqlite a key file beside the database, made at first
	// start. Misuse: a key in clear text here ends up in every copy of the
	// configuration.
	MasterKey []string `json:"master_key,omitempty"`
	// The accepted forms of keys; new keys get the first. Default: `hive_sk_`
	// and 48 characters.
	KeyFormats []KeyFormat `json:"key_formats,omitempty"`
	// The bcrypt cost of new keys, 4 to 14; each step doubles the work of a
	// first verification. Default: `10`.
	BcryptCost int `json:"bcrypt_cost,omitempty"`
	// The budget of failed verifications, per address and key id for wrong
	// secrets and per address for unknown ids. Default: `10/m`.
	AuthFailures string `json:"auth_failures,omitempty"`
	// The closed list of scopes; a route, preset or key that names another is
	// refused. Default: none, every well-formed scope is known.
	Scopes []string `json:"scopes,omitempty"`
	// Other names of scopes. Default: none.
	Aliases []Alias `json:"aliases,omitempty"`
	// Named sets of scopes for creating keys. Default: none.
	Presets []Preset `json:"presets,omitempty"`
	// Named limits that routes opt into. Default: none.
	Classes []Class `json:"classes,omitempty"`
	// The plans. Default: none, nobody is limited by a plan.
	Plans []Plan `json:"plans,omitempty"`
	// The plan of keys that name none, or one that is gone. Required once a
	// plan exists.
	DefaultPlan string `json:"default_plan,omitempty"`
	// The limit of public routes, per client address. Default: none.
	Anonymous string `json:"anonymous,omitempty"`
	// Who issues the JWTs that are taken wherever an API key is. Placeholders
	// are expanded in iss, jwks, public_keys, static_keys and hmac_secret.
	// Default: none.
	Issuers []jwtauth.Config `json:"issuers,omitempty"`
	// How many key records are kept in memory. A verified key without a stored
	// digest is hashed again only after its record has left. Unit: records.
	// Default: `100000`.
	RecordCache int `json:"record_cache,omitempty"`
	// How many verifications are remembered beyond the records in memory.
	// Unit: keys. Default: `1000000`.
	VerifiedCache int64 `json:"verified_cache,omitempty"`

	runtime *runtime
}

// Route is one line of a gate's route table.
type Route struct {
	// The methods, or `*` for all but TRACE and CONNECT. HEAD follows GET.
	Methods []string `json:"methods"`
	// The path in the grammar of Go's net/http without a host:
	// `/farms/{farmId}`, `/files/{rest...}`.
	Path string `json:"path"`
	// Everybody may pass. Default: `false`.
	Public bool `json:"public,omitempty"`
	// Every valid credential may pass. Default: `false`.
	Authenticated bool `json:"authenticated,omitempty"`
	// The scopes that are needed: one of each inner list. Default: none; then
	// public or authenticated must be set.
	Scopes [][]string `json:"scopes,omitempty"`
	// The classes whose limits apply as well. Default: none.
	Classes []string `json:"classes,omitempty"`
	// How many tokens a request takes. Unit: tokens. Default: `1`.
	Cost int `json:"cost,omitempty"`
	// What becomes of requests while shared counters are away: `local` (this node
	// limits alone), `deny` (503) or `allow`. Without shared counters it means
	// nothing. Default: what the limiter says.
	OnFailure string `json:"on_failure,omitempty"`
	// Ask for a second factor. Default: `false`.
	SecondFactor bool `json:"second_factor,omitempty"`
	// Ask for a request signature. Default: `false`.
	Signed bool `json:"signed,omitempty"`
	// Rules on what the JSON body says. Default: none, the body is not read.
	JSON []bodyrule.Rule `json:"json,omitempty"`

	// Where the line stands in the Caddyfile, while that is being read.
	file  string
	line  int
	rules []caddyfile.Token // of JSON
}

// Forward says what the next handlers see of the caller.
type Forward struct {
	// The beginning of the identity headers' names. Inbound headers that begin
	// so, in any spelling, are removed. Default: `X-Auth-`.
	Prefix string `json:"prefix,omitempty"`
	// Which credentials go on: `none`, `jwt` (API keys are removed) or `all`.
	// Default: `none`. Misuse: with `all` every backend can act as its callers.
	Credentials string `json:"credentials,omitempty"`
}

// Signature says how signed requests are verified.
type Signature struct {
	// The header that holds the signature, in lower-case hex. Default:
	// `X-Request-Signature`.
	Header string `json:"header,omitempty"`
	// The longest body that is read to be verified; a longer one is refused
	// with 413. Unit: bytes, at most 1 GiB. Default: `1048576`.
	MaxBody int64 `json:"max_body,omitempty"`
	// Refuse signatures without X-Request-Timestamp. Default: `false`. Misuse:
	// without a timestamp a captured request can be sent again for ever.
	TimestampRequired bool `json:"timestamp_required,omitempty"`
}

// Accept says which credentials a site takes.
type Accept struct {
	// Take API keys. Default: `false`; `true` when Accept is absent.
	Keys bool `json:"keys,omitempty"`
	// Of these prefixes only; each must be that of an accepted form.
	// Default: all.
	Prefixes []string `json:"prefixes,omitempty"`
	// The issuers whose tokens and static keys are taken. Default: none; all
	// of them when Accept is absent.
	Issuers []string `json:"issuers,omitempty"`
}

// Credentials says where a site looks for credentials, in this order:
// Authorization, cookies, headers.
type Credentials struct {
	// `Authorization: Bearer <token>`. Default: `false`; `true` when
	// Credentials is absent.
	Bearer bool `json:"bearer,omitempty"`
	// Further headers that hold a bare credential. Default: none.
	Headers []HeaderCredential `json:"headers,omitempty"`
	// Cookies that hold a session, such as `sb-*-auth-token`. State-changing
	// requests with one need a same-origin Origin or Sec-Fetch-Site. Default: none.
	Cookies []string `json:"cookies,omitempty"`
}

// HeaderCredential is a header that holds a credential.
type HeaderCredential struct {
	// The header's name, such as `apikey`; none that clean-up removes, such as one
	// that begins with the forward prefix (`X-Auth-Token`).
	Name string `json:"name"`
	// It must be there and valid on every request that needs a credential,
	// beside Authorization too. Default: `false`.
	Required bool `json:"required,omitempty"`
}
