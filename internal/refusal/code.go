package refusal

import (
	"net/http"
	"strconv"
	"strings"
)

// CodeFor is the snake_case of [http.StatusText]: "bad_request" for 400. A status
// without a text gives "status_" and the number.
func CodeFor(status int) string {
	text := http.StatusText(status)
	if text == "" {
		return "status_" + strconv.Itoa(status)
	}
	var b strings.Builder
	gap := false
	for _, c := range []byte(strings.ToLower(text)) {
		switch {
		case c >= 'a' && c <= 'z' || c >= '0' && c <= '9':
			if gap && b.Len() > 0 {
				b.WriteByte('_')
			}
			gap = false
			b.WriteByte(c)
		case c == '\'': // "I'm a teapot" is im_a_teapot
		default:
			gap = true
		}
	}
	return b.String()
}

// codePair is one status's code in snake_case and UPPER_SNAKE.
type codePair struct{ lower, upper string }

// codesOf returns the codes of a status.
func codesOf(status int) codePair {
	if p, ok := codes[status]; ok {
		return p
	}
	code := CodeFor(status) // a status of a backend's
	return codePair{code, strings.ToUpper(code)}
}

// codes has the pair of every status in the table. Written at start only.
var codes = func() map[int]codePair {
	m := make(map[int]codePair)
	for i := range table {
		code := CodeFor(table[i].status)
		m[table[i].status] = codePair{code, strings.ToUpper(code)}
	}
	return m
}()
