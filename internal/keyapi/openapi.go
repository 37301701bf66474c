package keyapi

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"

	"github.com/hivegate/hivegate/internal/refusal"
)

// m is a JSON object of the description.
type m = map[string]any

// describe makes the description of the calls in OpenAPI 3.1. A test holds every
// answer that the tests see against it.
func describe(o *Options) ([]byte, error) {
	paths := m{}
	for _, r := range Routes {
		path := r.Path
		at, ok := paths[path].(m)
		if !ok {
			at = m{}
			if strings.Contains(path, "{id}") {
				at["parameters"] = []any{m{"name": "id", "in": "path", "required": true, "schema": m{"$ref": "#/components/schemas/KeyID"}}}
			}
			paths[path] = at
		}
		at[strings.ToLower(r.Method)] = operation(r.Op)
	}
	return json.Marshal(m{
		"openapi":  "3.1.0",
		"info":     m{"title": "API keys", "version": "1", "description": "Makes, lists, changes and ends API keys, and says what a credential may do."},
		"servers":  []any{m{"url": serverURL(o.Base)}},
		"security": []any{m{"bearer": []any{}}},
		"paths":    paths,
		"components": m{
			"securitySchemes": m{"bearer": m{"type": "http", "scheme": "bearer", "description": "An API key or a JWT."}},
			"schemas":         schemas(o.Dialect),
			"responses": m{"Refusal": m{
				"description": "Refused; X-Hivegate-Reason has the stable word for why.",
				"headers":     m{"X-Hivegate-Reason": m{"required": true, "schema": m{"type": "string"}}, "X-Request-Id": requestID},
				"content":     m{mediaType(o.Dialect): m{"schema": m{"$ref": "#/components/schemas/Refusal"}}},
			}},
		},
	})
}

// serverURL is what clients put before a path as it stands: with a '/' at its
// end they would ask for "/v1//api-keys", which no gate lets through.
func serverURL(base string) string {
	if base == "" {
		return "/" // the root: an empty URL is the description's own address
	}
	return base
}

var requestID = m{"required": true, "schema": m{"type": "string"}}

func mediaType(d refusal.Dialect) string {
	name, _, _ := strings.Cut(d.ContentType(), ";")
	return name
}

// described is what differs between the calls.
type described struct {
	id, summary string
	status      int
	schema      string // of the answer; empty: it has no body
	body        string // schema of the request's body; empty: it takes none
	bodyOpt     bool
	params      []any
	refusals    []int // beside those that every call has
}

var describedCalls = map[Op]described{
	Verify:   {id: "verify", summary: "Says what the credential that is sent may do. Counts as one request.", status: 200, schema: "Verification"},
	Describe: {id: "describe", summary: "This description.", status: 200, schema: "Description"},
	List: {id: "listKeys", summary: "Lists keys, the newest first, revoked ones too.", status: 200, schema: "Page", refusals: []int{400}, params: []any{
		query("limit", m{"type": "integer", "minimum": 1, "maximum": maxPage, "default": 50}, "How many keys a page has."),
		query("cursor", m{"type": "string"}, "next_cursor of the page before."),
		query("status", m{"type": "string", "enum": statuses}, "Only keys in this state."),
		query("owner", m{"type": "string"}, "Only keys of this owner; empty: those without one."),
		query("q", m{"type": "string", "maxLength": 100}, "Part of the name, or the beginning of the prefix."),
	}},
	Create: {id: "createKey", summary: "Makes a key. The answer is the only place where it is ever shown.", status: 201, schema: "NewKey", body: "Create",
		params: []any{idempotencyParam}, refusals: []int{400, 409, 413, 415, 422}},
	Get:    {id: "getKey", summary: "Reads a key, a revoked one too.", status: 200, schema: "Key", refusals: []int{404}},
	Patch:  {id: "changeKey", summary: "Changes a key, wholly or not at all.", status: 200, schema: "Key", body: "Change", refusals: []int{400, 404, 409, 413, 415, 422}},
	Delete: {id: "revokeKey", summary: "Revokes a key for ever. Doing it again changes nothing.", status: 204, refusals: []int{404}},
	Rotate: {id: "rotateKey", summary: "Gives a key a new secret; the old one works until the overlap ends.", status: 200, schema: "NewKey", body: "Rotation", bodyOpt: true,
		params: []any{idempotencyParam}, refusals: []int{400, 404, 409, 413, 415, 422}},
}

var idempotencyParam = m{"name": idempotencyHeader, "in": "header", "required": false, "schema": m{"type": "string", "minLength": 1, "maxLength": maxIdempotencyKey},
	"description": "A retry with the same value within ten minutes is answered 409 and names the key; its secret is not shown again."}

func query(name string, schema m, what string) m {
	return m{"name": name, "in": "query", "required": false, "schema": schema, "description": what}
}

func operation(op Op) m {
	d := describedCalls[op]
	answer := m{"description": "Done.", "headers": m{"X-Request-Id": requestID}}
	if d.schema != "" {
		answer["content"] = m{"application/json": m{"schema": m{"$ref": "#/components/schemas/" + d.schema}}}
	}
	responses := m{strconv.Itoa(d.status): answer}
	for _, status := range append([]int{400, 401, 403, 429, 500, 503}, d.refusals...) {
		responses[strconv.Itoa(status)] = m{"$ref": "#/components/responses/Refusal"}
	}
	out := m{"operationId": d.id, "summary": d.summary, "responses": responses}
	if d.params != nil {
		out["parameters"] = d.params
	}
	if d.body != "" {
		out["requestBody"] = m{"required": !d.bodyOpt, "content": m{"application/json": m{"schema": m{"$ref": "#/components/schemas/" + d.body}}}}
	}
	return out
}

func schemas(d refusal.Dialect) m {
	text := m{"type": "string"}
	orNull := func(schema m) m { return m{"anyOf": []any{schema, m{"type": "null"}}} }
	ref := func(name string) m { return m{"$ref": "#/components/schemas/" + name} }
	list := func(of m) m { return m{"type": "array", "items": of} }
	at := m{"type": "string", "format": "date-time"}
	name := m{"type": "string", "minLength": 1, "maxLength": 100}
	record := func(more m, required ...string) m {
		properties := m{
			"id": ref("KeyID"), "name": name, "prefix": text, "owner": orNull(text), "permissions": list(ref("Scope")),
			"plan": orNull(text), "limits": orNull(ref("Limits")), "status": m{"enum": statuses},
			"created_at": at, "expires_at": orNull(at), "last_used_at": orNull(at), "ip_allowlist": orNull(list(text)),
			"old_secret": object1(m{"expires_at": at, "last_used_at": orNull(at)}, "expires_at", "last_used_at"),
		}
		for k, v := range more {
			properties[k] = v
		}
		return object1(properties, append([]string{"id", "name", "prefix", "owner", "permissions", "plan", "limits", "status",
			"created_at", "expires_at", "last_used_at", "ip_allowlist"}, required...)...)
	}
	given := m{
		"name": name, "permissions": list(ref("Scope")), "scopes": list(ref("Scope")), "plan": orNull(text),
		"expires_at": orNull(at), "expiresAt": orNull(at), "ip_allowlist": orNull(list(text)), "limits": orNull(ref("Limits")),
	}
	with := func(more m) m {
		all := m{}
		for k, v := range given {
			all[k] = v
		}
		for k, v := range more {
			all[k] = v
		}
		return all
	}
	return m{
		"KeyID": m{"type": "string", "pattern": "^key_[0-9A-Za-z]{12}$"},
		"Scope": m{"type": "string", "description": "resource:action, resource:* or *; narrowed to objects: workers:command@farmId=42,43"},
		"Limits": object1(m{"requests": m{"type": "string", "description": "A rate such as 5000/m."},
			"concurrent": m{"type": "object", "additionalProperties": m{"type": "integer", "minimum": 1}}}),
		"Key":    record(nil),
		"NewKey": record(m{"key": text}, "key"),
		"Page":   object1(m{"data": list(ref("Key")), "next_cursor": orNull(text)}, "data", "next_cursor"),
		"Verification": object1(m{"valid": m{"const": true}, "key_id": ref("KeyID"), "permissions": list(ref("Scope")),
			"rate_limit": orNull(object1(m{"limit": integer, "remaining": integer, "reset": integer}, "limit", "remaining", "reset"))},
			"valid", "permissions", "rate_limit"),
		"Create":      object1(with(m{"preset": orNull(text), "owner": orNull(text)}), "name"),
		"Change":      object1(with(m{"disabled": m{"type": "boolean"}})),
		"Rotation":    object1(m{"overlap": m{"type": "string", "description": `How long the old secret works, such as "24h"; "0s" ends it now.`, "default": "24h"}}),
		"Description": m{"type": "object", "required": []string{"openapi", "paths"}},
		"Refusal":     refusalSchema(d),
	}
}

var integer = m{"type": "integer"}

// object1 is an object of exactly these members.
func object1(properties m, required ...string) m {
	o := m{"type": "object", "properties": properties, "additionalProperties": false}
	if len(required) > 0 {
		o["required"] = required
	}
	return o
}

// refusalSchema is the shape of refusals in a dialect.
func refusalSchema(d refusal.Dialect) m {
	text, any1 := m{"type": "string"}, m{"type": "object"}
	switch d {
	case refusal.HornetHive:
		return object1(m{"error": object1(m{"code": text, "message": text, "details": any1}, "code", "message", "details")}, "error")
	case refusal.HiveClaw:
		return object1(m{"success": m{"const": false}, "error": object1(m{"code": text, "message": text, "details": any1}, "code", "message")}, "success", "error")
	case refusal.HiveProtocol:
		return object1(m{"error": text, "code": text, "message": text, "details": any1, "retry_after": integer}, "error", "code")
	case refusal.HiveOS:
		return object1(m{"message": text, "code": integer, "errors": any1}, "message")
	}
	return object1(m{"type": text, "title": text, "status": m{"type": "integer", "minimum": http.StatusBadRequest}, "detail": text, "reason": text,
		"required_scopes": m{"type": "array", "items": text}, "granted_scopes": m{"type": "array", "items": text},
		"violated-policies": m{"type": "array", "items": text}, "errors": any1}, "type", "title", "status", "detail", "reason")
}
