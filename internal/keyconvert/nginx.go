package keyconvert

import (
	"errors"
	"fmt"
	"strings"
)

// Nginx reads the maps of an nginx configuration from a header, a query argument
// or a cookie to a client:
//
//	map $http_apikey $client {
//		default    "";
//		"k-8f3…"   alice;
//	}
//
// Keys of $http_authorization may begin with "Bearer ". A key whose value is
// empty or 0 was refused, and is a problem as all else that is no plain key.
func Nginx(data []byte) ([]Entry, []Problem, error) {
	words, err := nginxWords(string(data))
	if err != nil {
		return nil, nil, err
	}
	r := nginxReader{words: words}
	for len(r.words) > 0 {
		if w := r.words[0]; w.text == "map" && !w.quoted && len(r.words) > 3 && r.words[3].mark == '{' {
			source := r.words[1].text
			r.words = r.words[4:]
			if err := r.block(source); err != nil {
				return nil, nil, fmt.Errorf("line %d: %w", w.line, err)
			}
			continue
		}
		r.words = r.words[1:]
	}
	if len(r.entries)+len(r.problems) == 0 {
		return nil, nil, errors.New("the file has no map of keys: 'map $http_apikey $client { … }'")
	}
	return r.entries, r.problems, nil
}

type nginxWord struct {
	text   string
	line   int
	quoted bool
	mark   byte // ';', '{' or '}'
}

type nginxReader struct {
	words    []nginxWord
	entries  []Entry
	problems []Problem
}

// block reads the entries of one map, to its closing brace.
func (r *nginxReader) block(source string) error {
	keys := strings.HasPrefix(source, "$http_") || strings.HasPrefix(source, "$arg_") || strings.HasPrefix(source, "$cookie_")
	var statement []nginxWord
	for len(r.words) > 0 {
		w := r.words[0]
		r.words = r.words[1:]
		switch w.mark {
		case '}':
			if len(statement) > 0 {
				return fmt.Errorf("the map's entry in line %d does not end in ';'", statement[0].line)
			}
			return nil
		case '{':
			return errors.New("a block stands in a map")
		case ';':
			if keys && len(statement) > 0 {
				r.entry(statement, strings.EqualFold(source, "$http_authorization"))
			}
			statement = nil
		default:
			statement = append(statement, w)
		}
	}
	return errors.New("the map does not end")
}

// entry reads `key client`.
func (r *nginxReader) entry(s []nginxWord, bearer bool) {
	where := fmt.Sprintf("line %d", s[0].line)
	problem := func(msg string) { r.problems = append(r.problems, Problem{where, msg}) }
	first := s[0]
	if !first.quoted {
		switch first.text {
		case "hostnames", "volatile":
			return
		case "include":
			problem("another file is included; convert that file as well, put between 'map $http_apikey $client {' and '}'")
			return
		case "default":
			if len(s) == 2 && s[1].text != "" && s[1].text != "0" {
				problem("whoever had no key, or an unknown one, was let in; write such routes as public")
			}
			return
		}
	}
	switch {
	case len(s) != 2:
		problem("is not 'key client;'")
		return
	case strings.HasPrefix(first.text, "~"):
		problem("a regular expression stands for many keys; make a new key for each client")
		return
	case strings.HasPrefix(s[1].text, "$"):
		problem("the client is a variable, not a name")
		return
	case s[1].text == "" || s[1].text == "0":
		problem("this key was refused there, and would be active here; it is left out")
		return
	}
	key := strings.TrimPrefix(first.text, `\`) // for keys that begin like a special word
	if bearer {
		if rest := key; len(rest) > 7 && strings.EqualFold(rest[:7], "Bearer ") {
			key = rest[7:]
		}
	}
	r.entries = append(r.entries, Entry{Where: where, Key: key, Name: s[1].text, Owner: s[1].text})
}

// nginxWords splits a configuration as nginx does: blanks, quotes, comments.
func nginxWords(text string) (words []nginxWord, err error) {
	line := 1
	for i := 0; i < len(text); {
		switch c := text[i]; c {
		case '\n':
			line++
			i++
		case ' ', '\t', '\r':
			i++
		case '#':
			for i < len(text) && text[i] != '\n' {
				i++
			}
		case ';', '{', '}':
			words = append(words, nginxWord{line: line, mark: c})
			i++
		case '"', '\'':
			var b strings.Builder
			start := line
			for i++; i < len(text) && text[i] != c; i++ {
				if text[i] == '\\' && i+1 < len(text) && (text[i+1] == c || text[i+1] == '\\') {
					i++
				}
				if text[i] == '\n' {
					line++
				}
				b.WriteByte(text[i])
			}
			if i == len(text) {
				return nil, fmt.Errorf("line %d: the quote does not end", start)
			}
			i++
			words = append(words, nginxWord{text: b.String(), line: start, quoted: true})
		default:
			start := i
			for i < len(text) && !strings.ContainsRune(" \t\r\n;{}", rune(text[i])) {
				i++
			}
			words = append(words, nginxWord{text: text[start:i], line: line})
		}
	}
	return words, nil
}
