// Package bodyrule looks at what a request's JSON body says before it goes on:
// which command it names, and what that command requires.
//
//	json command oneof reboot shutdown upgrade miner exec
//	json command exec shutdown require workers:admin 2fa
//
// A [Rule] is one such line, a [Set] those of one route. [Set.Read] reads the
// body within its bound, [Set.Evaluate] judges it, [Replay] gives it back byte
// for byte.
//
// # One reading only
//
// A rule protects nothing when the backend reads another command than the gate
// did. So a body goes on only if every parser that we know of finds the same
// text, or none, at the field. Refused with body_invalid (400) are, anywhere in
// the body:
//
//   - what is not exactly one JSON object by the grammar of RFC 8259 (a byte
//     order mark, comments, NaN, trailing commas, anything after the object);
//   - invalid UTF-8, and escaped halves of surrogate pairs ("\ud800"), which
//     parsers replace, keep or refuse as they like;
//   - more than 64 levels of nesting;
//
// and, in each object on the way to a field:
//
//   - a member twice, compared after unescaping: some parsers take the first,
//     some the last;
//   - a member spelled almost like one on the way, alone too: another case or
//     width (encoding/json, System.Text.Json and others match names without
//     case, by Unicode's folding: "ſ" is an s), with or without '-' and '_'
//     (encoding/json/v2 can ignore them);
//   - the way written as one name ("data.command"), which frameworks with dotted
//     look-ups find before they reach inside;
//   - "__proto__", which gives an object members that it does not have, where
//     JavaScript merges it;
//   - U+0000 in a name, or in the text of the field: C ends there.
//
// Elsewhere in the body names may repeat: they cannot change what the field is.
//
// # What a value is compared with
//
// Texts are compared exactly. A rule of the form "require" does not apply where
// the field is absent or null, or where what should be an object around it is
// none (PHP sends an empty object as []). Any other thing that is not text in the
// field's own place (a number, true, an array, an object) is field_invalid (422):
// a lenient backend might make a command of it. A backend that trims or lowers
// what it reads needs a "oneof" line, which closes the set.
//
// # Saying what would have helped
//
// The error of a value outside of "oneof" names the nearest valid form: the
// nearest value by edit distance, or, where the text is one that belongs further
// inside (a miner's action sent as the command), the whole object that was
// meant. Those are in a table of known forms (forms.go), one line per family of
// words; a line counts only where the rule allows the value it leads to.
//
// # The rest of the request
//
// Exactly one Content-Type, application/json with no parameter but
// charset=utf-8; no Content-Encoding, not even identity (RFC 9110 section 8.4.1
// reserves that word for Accept-Encoding); neither of them under a name with '_'
// or '.' for '-', which CGI gives a backend as the same variable. Otherwise 415.
// More than 64 KiB is 413, before anything is read where Content-Length says so.
package bodyrule
