package openapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"

	"github.com/getkin/kin-openapi/openapi2"
	"github.com/getkin/kin-openapi/openapi2conv"
	"github.com/getkin/kin-openapi/openapi3"
	"github.com/oasdiff/yaml"
)

// document is what matters of a description.
type document struct {
	version string // "OpenAPI 3.0.3", "Swagger 2.0"
	title   string
	spec    *openapi3.T
	items   map[string]describedPath
}

// describedPath is one path: its item, or why there is none.
type describedPath struct {
	item *openapi3.PathItem
	why  string
}

// load reads a description. Everything that no route line depends on is thrown
// away before the description is interpreted: schemas, bodies, examples, and
// with them nearly all references.
func load(data []byte) (*document, error) {
	if len(data) > MaxSize {
		return nil, fmt.Errorf("the description has more than %d MiB", MaxSize>>20)
	}
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	if trimmed := bytes.TrimSpace(data); len(trimmed) == 0 || trimmed[0] != '{' {
		converted, err := yaml.YAMLToJSON(data)
		if err != nil {
			return nil, fmt.Errorf("read the description as YAML: %w", err)
		}
		if len(converted) > 4*MaxSize { // aliases may have blown it up
			return nil, errors.New("read the description as YAML: its aliases make it too large")
		}
		data = converted
	} else if err := noDoubles(data); err != nil {
		return nil, fmt.Errorf("read the description as JSON: %w", err)
	}
	var raw map[string]any
	if err := json.Unmarshal(data, &raw); err != nil {
		return nil, fmt.Errorf("read the description: %w", err)
	}
	if raw == nil {
		return nil, errors.New("read the description: it is empty")
	}
	swagger, _ := raw["swagger"].(string)
	open, _ := raw["openapi"].(string)
	d := &document{items: make(map[string]describedPath)}
	switch {
	case swagger == "2.0":
		d.version = "Swagger 2.0"
	case open == "3.0" || open == "3.1" || open == "3.2",
		strings.HasPrefix(open, "3.0."), strings.HasPrefix(open, "3.1."), strings.HasPrefix(open, "3.2."):
		d.version = "OpenAPI " + open
	case open == "" && raw["swagger"] == nil:
		return nil, errors.New("this is no OpenAPI description: it has neither the member 'openapi' nor 'swagger'")
	default:
		return nil, errors.New("this version of OpenAPI is not known: there are Swagger 2.0 and OpenAPI 3.0, 3.1 and 3.2")
	}
	small := d.prune(raw)
	text, err := json.Marshal(small)
	if err != nil {
		return nil, fmt.Errorf("read the description: %w", err)
	}
	if d.spec, err = interpret(text, swagger != ""); err != nil {
		return nil, fmt.Errorf("read the description: %w", err)
	}
	if d.spec.Info != nil {
		d.title = strings.TrimSpace(d.spec.Info.Title + " " + d.spec.Info.Version)
	}
	for path, item := range d.spec.Paths.Map() {
		if item != nil {
			d.items[path] = describedPath{item: item}
		}
	}
	return d, nil
}

// interpret reads what is left with kin-openapi, which resolves references
// between paths. It reads nothing else: no file and no URL.
func interpret(text []byte, swagger bool) (*openapi3.T, error) {
	if swagger {
		var doc openapi2.T
		if err := json.Unmarshal(text, &doc); err != nil {
			return nil, err
		}
		return openapi2conv.ToV3(&doc)
	}
	loader := openapi3.NewLoader()
	loader.ReadFromURIFunc = func(*openapi3.Loader, *url.URL) ([]byte, error) {
		return nil, errors.New("it refers to something outside of itself; bundle it into one file first")
	}
	return loader.LoadFromData(text)
}

// operationMembers are what is kept of an operation, itemMembers what is kept of
// a path besides its operations, in all versions.
var (
	operationMembers = []string{"tags", "summary", "operationId", "security", "servers"}
	itemMembers      = []string{"$ref", "servers"}
	// fixedMethods are the members of a path that are operations.
	fixedMethods = []string{"get", "put", "post", "delete", "options", "head", "patch", "trace", "query", "connect"}
)

// prune returns a description with what lines depend on, and nothing else.
func (d *document) prune(raw map[string]any) map[string]any {
	out := keep(raw, "openapi", "swagger", "basePath", "servers", "security", "securityDefinitions")
	info, _ := raw["info"].(map[string]any)
	out["info"] = map[string]any{"title": textOf(info["title"]), "version": textOf(info["version"])}
	out["paths"] = d.pruneItems(raw["paths"])
	if components, ok := raw["components"].(map[string]any); ok {
		small := keep(components, "securitySchemes")
		if items, ok := components["pathItems"]; ok {
			small["pathItems"] = (&document{items: map[string]describedPath{}}).pruneItems(items)
		}
		out["components"] = small
	}
	return out
}

// pruneItems keeps of each path its operations. Those that cannot be read are
// noted with the reason.
func (d *document) pruneItems(raw any) map[string]any {
	items, _ := raw.(map[string]any)
	out := make(map[string]any, len(items))
	for path, value := range items {
		if strings.HasPrefix(path, "x-") {
			continue
		}
		item, ok := value.(map[string]any)
		if !ok {
			d.items[path] = describedPath{why: "what is described there is no object"}
			continue
		}
		if ref, there := item["$ref"]; there {
			if text, _ := ref.(string); !strings.HasPrefix(text, "#/") {
				d.items[path] = describedPath{why: "it is described in another file; bundle the description into one file first"}
				continue
			}
		}
		small := keep(item, itemMembers...)
		for _, m := range fixedMethods {
			if op, ok := item[m].(map[string]any); ok {
				small[m] = pruneOperation(op)
			}
		}
		if more, ok := item["additionalOperations"].(map[string]any); ok {
			ops := make(map[string]any, len(more))
			for m, op := range more {
				if op, ok := op.(map[string]any); ok {
					ops[m] = pruneOperation(op)
				}
			}
			small["additionalOperations"] = ops
		}
		out[path] = small
	}
	return out
}

func pruneOperation(op map[string]any) map[string]any {
	out := keep(op, operationMembers...)
	out["responses"] = map[string]any{"200": map[string]any{"description": ""}} // obligatory
	return out
}

func keep(from map[string]any, names ...string) map[string]any {
	out := make(map[string]any, len(names)+1)
	for _, n := range names {
		if v, ok := from[n]; ok {
			out[n] = v
		}
	}
	return out
}

func textOf(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case float64:
		return fmt.Sprint(v)
	}
	return ""
}

// noDoubles refuses an object that names a member twice: one of the two would be
// lost, and with it perhaps a path. YAML's parser does so by itself.
func noDoubles(data []byte) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	type level struct {
		names map[string]bool // nil: an array
		key   bool            // a member's name comes next
	}
	var stack []level
	for {
		token, err := dec.Token()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("near byte %d: %w", dec.InputOffset(), err)
		}
		if delim, ok := token.(json.Delim); ok && (delim == '}' || delim == ']') {
			stack = stack[:len(stack)-1]
		} else if n := len(stack); n > 0 && stack[n-1].key {
			name, _ := token.(string)
			if stack[n-1].names[name] {
				return fmt.Errorf("near byte %d: the member %s is there twice", dec.InputOffset(), comment(name, 60))
			}
			stack[n-1].names[name], stack[n-1].key = true, false
			continue
		} else if ok {
			l := level{}
			if delim == '{' {
				l = level{names: make(map[string]bool), key: true}
			}
			stack = append(stack, l)
			if len(stack) > 1000 {
				return errors.New("it is nested too deeply")
			}
			continue
		}
		if n := len(stack); n > 0 && stack[n-1].names != nil {
			stack[n-1].key = true // a value has ended
		}
	}
}
