package refusal

import (
	"net/http"
	"strconv"
)

// quotaExceeded is the problem type of every 429, registered by
// draft-ietf-httpapi-ratelimit-headers-10 together with its title.
const (
	quotaExceeded      = "https://iana.org/assignments/http-problem-types#quota-exceeded"
	quotaExceededTitle = "Request cannot be satisfied as assigned quota has been exceeded"
	reasonURN          = "urn:hivegate:reason:"
)

// render makes the body anew.
func (d Dialect) render(e *entry, r *Refusal) []byte {
	dst := make([]byte, 0, 384)
	switch d {
	case HornetHive:
		return renderHornetHive(dst, e, r)
	case HiveClaw:
		return renderHiveClaw(dst, e, r)
	case HiveProtocol:
		return renderHiveProtocol(dst, e, r)
	case HiveOS:
		return renderHiveOS(dst, e, r)
	}
	return renderProblem(dst, e, r)
}

func renderHornetHive(dst []byte, e *entry, r *Refusal) []byte {
	code, message := codesOf(e.status).lower, r.message(e)
	switch {
	case e.status == http.StatusUnauthorized && !e.backend():
		message = "Invalid API key"
		if r.Kind == KindJWT || e.reason == ReasonTokenInvalid || e.reason == ReasonTokenExpired {
			message = "Invalid token"
		}
	case e.reason == ReasonInsufficientScope:
		message = e.message
	case e.status == http.StatusTooManyRequests:
		code = "rate_limit_exceeded"
		if e.reason == ReasonRateLimited {
			message = e.message
		}
	}
	dst = append(appendMember(append(dst, '{'), "error"), '{')
	dst = appendText(dst, "code", code)
	dst = appendText(dst, "message", message)
	dst = append(appendMember(dst, "details"), '{')
	if e.reason == ReasonInsufficientScope {
		if len(r.Required) > 0 {
			dst = appendText(dst, "required_permission", r.Required[0])
		}
		dst = appendTexts(dst, "provided_permissions", r.Granted)
		return append(dst, "}}}"...)
	}
	dst = appendText(dst, "reason", string(e.reason))
	switch e.status {
	case http.StatusTooManyRequests:
		if r.Numbers.HasLimit {
			dst = appendInt(dst, "limit", int64(r.Numbers.Limit))
			dst = appendInt(dst, "remaining", int64(r.Numbers.Remaining))
			dst = appendInt(dst, "reset", r.Numbers.Reset)
		}
		dst = appendRetryAfter(dst, e, r)
	case http.StatusUnprocessableEntity:
		dst = appendErrors(dst, e, r)
	}
	return append(dst, "}}}"...)
}

func renderHiveClaw(dst []byte, e *entry, r *Refusal) []byte {
	code, message := codesOf(e.status).upper, r.message(e)
	switch {
	case e.status == http.StatusUnauthorized && !e.backend():
		message = "Invalid or missing API key"
	case e.reason == ReasonInsufficientScope:
		message = "API key missing required scope"
		if len(r.Required) > 0 {
			message += ": " + r.Required[0]
		}
	case e.status == http.StatusTooManyRequests:
		code = "RATE_LIMITED"
		if e.reason == ReasonRateLimited {
			message = e.message
		}
	}
	dst = append(dst, `{"success":false,"error":{`...)
	dst = appendText(dst, "code", code)
	dst = appendText(dst, "message", message)
	if e.status == http.StatusUnprocessableEntity && !e.backend() {
		dst = append(appendMember(dst, "details"), '{')
		dst = append(appendErrors(dst, e, r), '}')
	}
	return append(dst, "}}"...)
}

func renderHiveProtocol(dst []byte, e *entry, r *Refusal) []byte {
	title, code, message := http.StatusText(e.status), codesOf(e.status).upper, r.message(e)
	if title == "" {
		title = "Status " + strconv.Itoa(e.status)
	}
	dst = append(dst, '{')
	switch e.status {
	case http.StatusUnauthorized:
		if e.backend() {
			break
		}
		title, message = "Invalid authentication credentials", "JWT expired or invalid"
	case http.StatusForbidden:
		title = "Access denied"
		if e.reason == ReasonInsufficientScope {
			message = "User does not have permission to access this resource"
		}
	case http.StatusTooManyRequests: // has no message: error says it
		if e.reason == ReasonRateLimited {
			message = e.message
		}
		dst = appendText(dst, "error", message)
		dst = appendText(dst, "code", "RATE_LIMITED")
		return append(appendRetryAfter(dst, e, r), '}')
	}
	dst = appendText(dst, "error", title)
	dst = appendText(dst, "code", code)
	dst = appendText(dst, "message", message)
	if e.status == http.StatusUnprocessableEntity && !e.backend() {
		dst = append(appendMember(dst, "details"), '{')
		dst = append(appendErrors(dst, e, r), '}')
	}
	return append(dst, '}')
}

// Codes of Hive OS are the status times 1000 plus a running number.
const (
	hiveOSForbidden    = 403000
	hiveOSSecurityCode = 403003
)

func renderHiveOS(dst []byte, e *entry, r *Refusal) []byte {
	message, code := r.message(e), int64(0)
	switch {
	case e.secondFactor():
		// Clients of Hive OS ask for a code at this text and number, whether
		// there was none or a wrong one.
		message, code = ReasonSecondFactorRequired.Message(), hiveOSSecurityCode
	case e.status == http.StatusUnauthorized && !e.backend():
		message = "Unauthenticated."
	case e.reason == ReasonInsufficientScope:
		message, code = "This action is unauthorized.", hiveOSForbidden
	case e.status == http.StatusForbidden:
		code = hiveOSForbidden
	case e.reason == ReasonRateLimited:
		message = "Too Many Attempts."
	case e.reason == ReasonFieldInvalid:
		message = e.message
	}
	dst = appendText(append(dst, '{'), "message", message)
	if code != 0 {
		dst = appendInt(dst, "code", code)
	}
	if e.status == http.StatusUnprocessableEntity {
		dst = appendErrors(dst, e, r)
	}
	return append(dst, '}')
}

func renderProblem(dst []byte, e *entry, r *Refusal) []byte {
	kind, title := r.docs(e), e.message
	if kind == "" {
		kind = reasonURN + string(e.reason)
		if e.status == http.StatusTooManyRequests {
			kind, title = quotaExceeded, quotaExceededTitle
		}
	}
	dst = appendText(append(dst, '{'), "type", kind)
	dst = appendText(dst, "title", title)
	dst = appendInt(dst, "status", int64(e.status))
	dst = appendText(dst, "detail", r.detail(e))
	dst = appendText(dst, "reason", string(e.reason))
	switch {
	case e.reason == ReasonInsufficientScope:
		dst = appendTexts(dst, "required_scopes", r.Required)
		dst = appendTexts(dst, "granted_scopes", r.Granted)
	case e.status == http.StatusTooManyRequests && len(r.policies()) > 0:
		dst = appendTexts(dst, "violated-policies", r.policies())
	case e.status == http.StatusUnprocessableEntity:
		dst = appendErrors(dst, e, r)
	}
	return append(dst, '}')
}

// appendRetryAfter appends retry_after. A backend's 429 has one where the backend
// said it.
func appendRetryAfter(dst []byte, e *entry, r *Refusal) []byte {
	if e.backend() && r.Numbers.RetryAfter <= 0 {
		return dst
	}
	return appendInt(dst, "retry_after", int64(r.retryAfter()))
}

// policies are the limits that a 429 violated. What is no rate has the name that
// metrics count it under.
func (r *Refusal) policies() []string {
	switch {
	case len(r.Policies) > 0:
		return r.Policies
	case r.Reason == ReasonConcurrencyLimited:
		return concurrencyPolicy
	case r.Reason == ReasonSecondFactorLocked:
		return factorPolicy
	}
	return nil
}

var concurrencyPolicy, factorPolicy = []string{"concurrency"}, []string{"second_factor"}
