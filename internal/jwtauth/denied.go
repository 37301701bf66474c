package jwtauth

// Reason is the machine word for why a token was refused.
type Reason string

// The reasons.
const (
	TokenInvalid      Reason = "token_invalid"
	TokenExpired      Reason = "token_expired"
	IssuerUnavailable Reason = "issuer_unavailable"
)

// Denied says that a token was refused. It is shared: never change one.
type Denied struct {
	Reason Reason
	// Hint tells the caller, in one sentence, what would have helped. It holds
	// no part of the token.
	Hint string
	// Count is set where the refusal counts under auth_failures: a signature
	// that none of the keys made, or a key that nobody has. Malformed, expired
	// and misdirected tokens do not count.
	Count bool
	// Err is a further cause for the log; may be nil. It holds no part of the
	// token.
	Err error
}

// Error makes a Denied usable where an error is wanted.
func (d *Denied) Error() string {
	if d.Err != nil {
		return string(d.Reason) + ": " + d.Hint + ": " + d.Err.Error()
	}
	return string(d.Reason) + ": " + d.Hint
}

func invalid(hint string) *Denied { return &Denied{Reason: TokenInvalid, Hint: hint} }

// All refusals, made once: a flood of bad tokens builds no texts.
var (
	denyTooLong   = invalid("the token is longer than 16 KiB")
	denyParts     = invalid("a JWT has three parts separated by dots")
	denyBase64    = invalid("the parts of a JWT are base64url without padding; the token was changed or cut on its way")
	denySignature = &Denied{Reason: TokenInvalid, Hint: "the token's signature is wrong", Count: true}
	denyNoSig     = invalid("the token has no signature")
	denyKey       = &Denied{Reason: TokenInvalid, Hint: "the token was signed with a key that its issuer does not publish", Count: true}

	denyHeaderJSON = invalid("the token's header is not a JSON object with each member once")
	denyAlg        = invalid("the token's algorithm is not one that is allowed for its issuer")
	denyAlgMissing = invalid("the token's header has no alg")
	denyTyp        = invalid("this is another kind of token: typ must be absent, JWT or at+jwt")
	denyCrit       = invalid("the token's header has a crit or b64 member, which is not supported")
	denyEmbedded   = invalid("the token brings its own key (jwk, jku, x5u, x5c), which is not accepted")
	denyKid        = invalid("the token's kid must be a text of at most 256 bytes")

	denyClaimsJSON = invalid("the token's claims are not a JSON object with each member once")
	denyIssType    = invalid("the token's iss must be a text")
	denyIss        = invalid("the token's iss is none that is accepted here")
	denyIssMissing = invalid("the token has no iss")
	denySubType    = invalid("the token's sub must be a text of at most 1024 bytes without control characters or outer white space")
	denyAudType    = invalid("the token's aud must be a text or a list of texts")
	denyAud        = invalid("the token is meant for another audience (aud)")
	denyTimeType   = invalid("the token's exp, nbf and iat must be seconds since 1970 as numbers")
	denyExpMissing = invalid("the token has no exp; tokens without an end are not accepted")
	denyExpired    = &Denied{Reason: TokenExpired, Hint: "the token has expired; get a new one"}
	denyNotYet     = invalid("the token is not valid yet (nbf or iat lies in the future); check the clocks")
	denyClaim      = invalid("the token's claims could not be judged")
	denyAAL        = invalid("the token's aal must be a text")
	denyRole       = invalid("the token's role claim must be a text of at most 1024 bytes without control characters")
	denyPlan       = invalid("the token's plan claim must be a text of at most 1024 bytes without control characters")
	denyOwner      = invalid("the token's owner claim must be a text of at most 1024 bytes without control characters or outer white space that does not begin with owner:, key: or jwt:")
	denyScopes     = invalid("the token's scopes claim must be a text or a list of texts")

	denyUnavailable = &Denied{Reason: IssuerUnavailable, Hint: "the keys of the token's issuer cannot be fetched at the moment; try again"}
)
