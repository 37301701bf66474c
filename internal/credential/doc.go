// Package credential finds credentials in a request, and cleans requests of what
// a client must not be able to say.
//
// # Finding
//
// [Bearer] reads the Authorization header: exactly one, the scheme Bearer in any
// case, exactly one space, and then the credential, which is every byte that
// follows. It accepts visible ASCII except the comma (which would let two
// headers be joined into one); whether the value has the shape of a key or a
// token is judged later. What is not accepted is given a [Problem], whose hint
// tells the caller what to write instead. Hints are constants: no part of the
// value is ever repeated, because people put secrets into the wrong place.
//
// # Cleaning
//
// A [Cleaner] removes headers that would let a client speak as the gate, as the
// proxy before it, or with another method or path than the one that was judged:
// identity headers under the forward prefix, X-Hivegate-…, X-Request-Id, the
// overrides of method and path, proxy headers, and login data. Also removed is
// Proxy-Connection: it means nothing to an origin server (RFC 9112 appendix
// C.2.2), but some intermediary might act on the names in it.
//
// Names are compared as a lenient backend would read them. CGI, WSGI and their
// kin turn '-' into '_' and ignore case, and some of them map every character
// that is not a letter or digit to '_'. So any such character counts as '-':
// X_Auth_Id, x.auth.id and X~Auth~Id are all X-Auth-Id. What is kept from a
// trusted proxy (X-Forwarded-Prefix, X-Real-IP, Forwarded) is kept in its proper
// spelling only: another one comes from the client behind the proxy.
//
// Connection keeps the names close, keep-alive, upgrade, te and http2-settings.
// Every other name would make a later proxy delete the header that it names, the
// gate's own identity headers among them.
//
// A Cleaner is immutable and safe for concurrent use. It reads every header name
// once and allocates nothing unless Connection must be rewritten.
//
// # Public routes
//
// Credentials on public routes are not judged, but a key must not reach a
// backend that was never meant to see it: [RemoveKeys].
package credential
