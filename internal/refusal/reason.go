package refusal

import (
	"net/http"
	"slices"
)

// Reason is the stable machine word for why a request was refused. It is in the
// log, in X-Hivegate-Reason, and in the bodies of the dialects that have room.
type Reason string

// Every reason there is.
const (
	ReasonMissingCredentials     Reason = "missing_credentials"
	ReasonMalformedAuthorization Reason = "malformed_authorization"
	ReasonAPIKeyInvalid          Reason = "api_key_invalid"
	// The next three are said only once the secret matched, so that they tell
	// a stranger nothing.
	ReasonAPIKeyExpired  Reason = "api_key_expired"
	ReasonAPIKeyRevoked  Reason = "api_key_revoked"
	ReasonAPIKeyDisabled Reason = "api_key_disabled"

	ReasonTokenInvalid         Reason = "token_invalid"
	ReasonTokenExpired         Reason = "token_expired"
	ReasonSignatureRequired    Reason = "signature_required"
	ReasonSignatureInvalid     Reason = "signature_invalid"
	ReasonSecondFactorRequired Reason = "second_factor_required"
	ReasonSecondFactorInvalid  Reason = "second_factor_invalid"

	ReasonMultipleCredentials Reason = "multiple_credentials"
	ReasonAmbiguousPath       Reason = "ambiguous_path"
	ReasonBodyInvalid         Reason = "body_invalid"
	ReasonQueryInvalid        Reason = "query_invalid"

	ReasonInsufficientScope Reason = "insufficient_scope"
	ReasonObjectForbidden   Reason = "object_forbidden"
	ReasonHTTPSRequired     Reason = "https_required"
	ReasonCrossSite         Reason = "cross_site"
	ReasonBrowserForbidden  Reason = "browser_forbidden"
	ReasonAddressForbidden  Reason = "address_forbidden"

	ReasonRouteNotFound    Reason = "route_not_found"
	ReasonNotFound         Reason = "not_found"
	ReasonMethodNotAllowed Reason = "method_not_allowed"
	ReasonConflict         Reason = "conflict"
	ReasonBodyTooLarge     Reason = "body_too_large"
	ReasonBodyNotJSON      Reason = "body_not_json"
	ReasonFieldInvalid     Reason = "field_invalid"
	ReasonTooEarly         Reason = "too_early"

	ReasonRateLimited         Reason = "rate_limited"
	ReasonConcurrencyLimited  Reason = "concurrency_limited"
	ReasonAuthAttemptsLimited Reason = "auth_attempts_limited"
	ReasonSecondFactorLocked  Reason = "second_factor_locked"

	ReasonInternal            Reason = "internal"
	ReasonBackendUnreachable  Reason = "backend_unreachable"
	ReasonBackendEmpty        Reason = "backend_empty"
	ReasonKeystoreUnavailable Reason = "keystore_unavailable"
	ReasonLimiterUnavailable  Reason = "limiter_unavailable"
	ReasonIssuerUnavailable   Reason = "issuer_unavailable"
	ReasonOverloaded          Reason = "overloaded"
	ReasonBackendTimeout      Reason = "backend_timeout"
	// ReasonBackendError: the gate let the request pass, and the backend refused
	// it or failed with a body that the dialect's clients cannot read. The status
	// is the backend's (Refusal.Status).
	ReasonBackendError Reason = "backend_error"
)

// entry is one line of the table.
type entry struct {
	reason Reason
	status int
	// message is what bodies say and, in problem, the title: a sentence
	// without a full stop (field_invalid has the one of Hive OS).
	message string
	// hint says what to do about it: the default of error_description and of
	// problem's detail. Printable ASCII without '"' and '\'.
	hint string
	// oauth is the error code of the challenge (RFC 6750 section 3.1, RFC 9470
	// section 3); empty where the reason is never challenged.
	oauth string
}

// table is the one place where reasons meet statuses and texts.
var table = [...]entry{
	{ReasonMissingCredentials, http.StatusUnauthorized, "No credentials were sent",
		"send 'Authorization: Bearer <token>' with an API key or a JWT as the token", "invalid_request"},
	{ReasonMalformedAuthorization, http.StatusUnauthorized, "The Authorization header is malformed",
		"Authorization must be 'Bearer <token>'", "invalid_request"},
	{ReasonAPIKeyInvalid, http.StatusUnauthorized, "Invalid API key",
		"the API key is not known here; check that it was copied whole and belongs to this service", "invalid_token"},
	{ReasonAPIKeyExpired, http.StatusUnauthorized, "The API key has expired",
		"the API key has expired; create a new one or have its expiry moved", "invalid_token"},
	{ReasonAPIKeyRevoked, http.StatusUnauthorized, "The API key was revoked",
		"the API key was revoked for good; create a new one", "invalid_token"},
	{ReasonAPIKeyDisabled, http.StatusUnauthorized, "The API key is disabled",
		"the API key is disabled; have it enabled or use another", "invalid_token"},
	{ReasonTokenInvalid, http.StatusUnauthorized, "Invalid token",
		"the token was not accepted; get a new one from its issuer", "invalid_token"},
	{ReasonTokenExpired, http.StatusUnauthorized, "The token has expired",
		"the token has expired; refresh it and send the request again", "invalid_token"},
	{ReasonSignatureRequired, http.StatusUnauthorized, "A request signature is required",
		"this route requires the lower-case hex HMAC-SHA256 of the raw body in the signature header", "invalid_request"},
	{ReasonSignatureInvalid, http.StatusUnauthorized, "The request signature is invalid",
		"the signature must be the lower-case hex HMAC-SHA256 of the exact bytes sent, made with the signing secret", "invalid_request"},
	{ReasonSecondFactorRequired, http.StatusUnauthorized, "Security code is required",
		"this request needs the current six-digit code in the X-Security-Code header", "insufficient_user_authentication"},
	{ReasonSecondFactorInvalid, http.StatusUnauthorized, "Security code is invalid",
		"the code was wrong, too old or used before; wait for the next one, each is good once", "insufficient_user_authentication"},

	{ReasonMultipleCredentials, http.StatusBadRequest, "More than one Authorization header was sent",
		"send exactly one Authorization header", ""},
	{ReasonAmbiguousPath, http.StatusBadRequest, "The request path is ambiguous",
		"send a plain path: no empty or dot segments, no encoded slashes, no backslashes, valid UTF-8, and no _method in the query", ""},
	{ReasonBodyInvalid, http.StatusBadRequest, "The request body is invalid",
		"the body must be one JSON object in UTF-8 with each member once and nothing after it", ""},
	{ReasonQueryInvalid, http.StatusBadRequest, "The query is invalid",
		"check the names and values of the query parameters", ""},

	{ReasonInsufficientScope, http.StatusForbidden, "Insufficient permissions",
		"the credential lacks a scope that this request requires", "insufficient_scope"},
	{ReasonObjectForbidden, http.StatusForbidden, "This credential does not cover this object",
		"the credential holds the scope for other objects only", ""},
	{ReasonHTTPSRequired, http.StatusForbidden, "HTTPS is required",
		"send the request over https; a credential that was sent over http should be replaced", ""},
	{ReasonCrossSite, http.StatusForbidden, "Cross-site requests are not allowed with a cookie",
		"send the request from the same origin, or use an Authorization header instead of the cookie", ""},
	{ReasonBrowserForbidden, http.StatusForbidden, "This credential may not be used from a browser",
		"use this credential on servers only, and replace it if it was published", ""},
	{ReasonAddressForbidden, http.StatusForbidden, "This credential may not be used from this address",
		"call from an address on the key's allowlist, or have the list changed", ""},

	{ReasonRouteNotFound, http.StatusNotFound, "No such route",
		"check the path; case and a trailing slash matter", ""},
	{ReasonNotFound, http.StatusNotFound, "Not found",
		"check the id; only objects of your own account are shown", ""},
	{ReasonMethodNotAllowed, http.StatusMethodNotAllowed, "Method not allowed",
		"use a method that the Allow header names", ""},
	{ReasonConflict, http.StatusConflict, "The object's state does not allow this",
		"a revoked key can no longer be changed; create a new one", ""},
	{ReasonBodyTooLarge, http.StatusRequestEntityTooLarge, "The request body is too large",
		"send a smaller body", ""},
	{ReasonBodyNotJSON, http.StatusUnsupportedMediaType, "The request body must be JSON",
		"send one 'Content-Type: application/json' and no Content-Encoding", ""},
	{ReasonFieldInvalid, http.StatusUnprocessableEntity, "The given data was invalid.",
		"correct the fields named in errors", ""},
	{ReasonTooEarly, http.StatusTooEarly, "The request came as TLS early data",
		"send the request again after the handshake", ""},

	{ReasonRateLimited, http.StatusTooManyRequests, "Rate limit exceeded",
		"wait as long as Retry-After says", ""},
	{ReasonConcurrencyLimited, http.StatusTooManyRequests, "Too many requests in flight",
		"wait until an earlier request has ended", ""},
	{ReasonAuthAttemptsLimited, http.StatusTooManyRequests, "Too many failed authentication attempts",
		"wait as long as Retry-After says, and check the credential before the next try", ""},
	{ReasonSecondFactorLocked, http.StatusTooManyRequests, "Too many wrong security codes",
		"security codes are not accepted for a while; wait as long as Retry-After says", ""},

	{ReasonInternal, http.StatusInternalServerError, "Internal error",
		"report the X-Request-Id of this answer to the operator", ""},
	{ReasonBackendUnreachable, http.StatusBadGateway, "The backend could not be reached",
		"try again later", ""},
	{ReasonBackendError, http.StatusBadGateway, "The backend answered with an error",
		"the gate let the request pass; the refusal is that of the backend behind it", ""},
	{ReasonBackendEmpty, http.StatusBadGateway, "The backend sent an empty body",
		"the backend answered 200 with nothing in it; try again later", ""},
	{ReasonKeystoreUnavailable, http.StatusServiceUnavailable, "Credentials cannot be checked right now",
		"the store of keys is away; try again after Retry-After", ""},
	{ReasonLimiterUnavailable, http.StatusServiceUnavailable, "Limits cannot be checked right now",
		"the store of limits is away; try again after Retry-After", ""},
	{ReasonIssuerUnavailable, http.StatusServiceUnavailable, "Tokens of this issuer cannot be checked right now",
		"the issuer's keys are not at hand; try again after Retry-After", ""},
	{ReasonOverloaded, http.StatusServiceUnavailable, "Too many credentials are being checked right now",
		"try again after Retry-After; callers that were checked before are not affected", ""},
	{ReasonBackendTimeout, http.StatusGatewayTimeout, "The backend did not answer in time",
		"try again later", ""},
}

// index finds a reason's place in the table. Written at start only.
var index = func() map[Reason]int {
	m := make(map[Reason]int, len(table))
	for i := range table {
		m[table[i].reason] = i
	}
	return m
}()

// Reasons returns every reason, in the order of the table (by status). The
// caller owns the slice.
func Reasons() []Reason {
	all := make([]Reason, 0, len(table))
	for i := range table {
		all = append(all, table[i].reason)
	}
	return slices.Clip(all)
}

// Known reports whether r is in the table.
func (r Reason) Known() bool {
	_, ok := index[r]
	return ok
}

// Message is the reason's own text, as bodies say it where neither the dialect
// nor the refusal has another. That of an unknown reason is internal's.
func (r Reason) Message() string { return table[r.place()].message }

// Hint is the reason's own advice to the caller.
func (r Reason) Hint() string { return table[r.place()].hint }

// place is the reason's line in the table. An unknown word is a mistake of the
// program, and is answered as internal: refused, and visible as a fault.
func (r Reason) place() int {
	if i, ok := index[r]; ok {
		return i
	}
	return index[ReasonInternal]
}
