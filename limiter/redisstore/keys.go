package redisstore

import (
	"crypto/sha256"
	"encoding/hex"
)

// maxPlain is the longest subject that stands in a key as it is.
const maxPlain = 80

// Keys are <prefix>{<subject>}b:<policy> for buckets, …s:<name> for slots. The
// part in braces chooses a key's place in a cluster, so all of a subject's keys
// lie together. Two pairs never share a key: the first "}" ends the subject,
// which cannot hold one.

func (s *Store) bucketKey(policy, subject string) string {
	return s.addr.Prefix + "{" + tag(subject) + "}b:" + policy
}

func (s *Store) slotKey(name, subject string) string {
	return s.addr.Prefix + "{" + tag(subject) + "}s:" + name
}

// tag is the subject where that is short and harmless, else "~" and its
// SHA-256: subjects may be as long as a token's claims.
func tag(subject string) string {
	plain := subject != "" && len(subject) <= maxPlain
	for i := 0; plain && i < len(subject); i++ {
		c := subject[i]
		plain = c >= ' ' && c < '~' && c != '{' && c != '}'
	}
	if plain {
		return subject
	}
	sum := sha256.Sum256([]byte(subject))
	return "~" + hex.EncodeToString(sum[:])
}
