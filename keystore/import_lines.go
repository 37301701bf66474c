package keystore

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// importMembers are the members of a line, in the order of the manual.
var importMembers = []string{"hash", "hint", "name", "owner", "permissions", "plan", "expires_at"}

// parseImportJSON reads one JSON object. Unlike encoding/json it refuses
// members that are unknown, named twice or in another case.
func parseImportJSON(text []byte) (line importLine, err error) {
	dec := json.NewDecoder(bytes.NewReader(text))
	if open, err := dec.Token(); err != nil || open != json.Delim('{') {
		return importLine{}, errors.New("not a JSON object")
	}
	seen := make(map[string]bool, len(importMembers))
	for dec.More() {
		token, err := dec.Token()
		if err != nil {
			return importLine{}, jsonError(err)
		}
		name, _ := token.(string) // a member's name is text, or the decoder had refused it
		if !slices.Contains(importMembers, name) {
			return importLine{}, fmt.Errorf("unknown member %.40q; there are %s", name, strings.Join(importMembers, ", "))
		}
		if seen[name] {
			return importLine{}, &FieldError{name, "is there twice"}
		}
		seen[name] = true
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return importLine{}, jsonError(err)
		}
		if err := line.set(name, value); err != nil {
			return importLine{}, err
		}
	}
	if _, err := dec.Token(); err != nil { // the closing brace
		return importLine{}, jsonError(err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return importLine{}, errors.New("something follows the JSON object; write one object per line")
	}
	return line, nil
}

// set puts one member's value in its place; null leaves it out.
func (l *importLine) set(name string, value json.RawMessage) error {
	if string(value) == "null" {
		return nil
	}
	var text string
	var into any = &text
	want := "text"
	if name == "permissions" {
		into, want = &l.permissions, "a list of texts"
	}
	if err := json.Unmarshal(value, into); err != nil {
		return &FieldError{name, "must be " + want}
	}
	switch name {
	case "hash":
		l.hash = text
	case "hint":
		l.hint = text
	case "name":
		l.name = text
	case "owner":
		l.owner = text
	case "plan":
		l.plan = text
	case "expires_at":
		at, err := ParseTime(text)
		if err != nil {
			return &FieldError{name, "must be a time with its zone, such as 2027-01-31T00:00:00Z"}
		}
		l.expiresAt = at
	}
	return nil
}

// jsonError keeps the decoder's words, without what it quotes of the line.
func jsonError(err error) error {
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		return fmt.Errorf("not valid JSON at character %d", syntax.Offset)
	}
	return errors.New("not valid JSON: the line ends too early")
}

// parseHtpasswd reads user:hash. Where the user is the hint as well, userIsHint
// is set.
func parseHtpasswd(text string, userIsHint bool) (importLine, error) {
	user, hash, ok := strings.Cut(text, ":")
	switch {
	case !ok:
		return importLine{}, errors.New("not an htpasswd line: write user:hash")
	case user == "":
		return importLine{}, errors.New("the user before the colon is missing")
	case !strings.HasPrefix(hash, "$2"):
		return importLine{}, &FieldError{"hash", "not bcrypt; only bcrypt can be imported (htpasswd -B makes it)"}
	}
	line := importLine{name: user, hash: hash}
	if userIsHint {
		line.hint = user
	}
	return line, nil
}

// lineReader reads lines of at most max bytes. A longer one is passed over as
// an empty line with tooLong set, so that the lines behind it keep their numbers.
type lineReader struct {
	r       *bufio.Reader
	text    []byte // without its end; valid until the next call
	tooLong bool
	err     error
}

func newLineReader(r io.Reader, size int) *lineReader {
	return &lineReader{r: bufio.NewReaderSize(r, size)}
}

// next reads a line and reports whether there was one.
func (l *lineReader) next() bool {
	text, err := l.r.ReadSlice('\n')
	l.text, l.tooLong = text, false
	for errors.Is(err, bufio.ErrBufferFull) {
		l.text, l.tooLong = nil, true
		_, err = l.r.ReadSlice('\n')
	}
	switch {
	case err == nil:
		return true
	case errors.Is(err, io.EOF):
		return len(text) > 0 || l.tooLong
	}
	l.err = err
	return false
}
