package policy

import "strings"

// maxNearest bounds the length, in bytes, of a word that is compared: the
// distance costs the product of both lengths, and the word may come from a
// request.
const maxNearest = 64

// Nearest returns the word of among that word was most likely meant to be, or
// "" when none is close: the smallest edit distance (insert, delete, replace,
// swap neighbours; case ignored) of at most a third of the word's length, at
// least 1. Of equally near ones the first wins.
func Nearest(word string, among []string) string {
	if word == "" || len(word) > maxNearest {
		return ""
	}
	word = strings.ToLower(word)
	best, limit := "", max(1, len(word)/3)
	for _, w := range among {
		if len(w) > maxNearest || len(w)-len(word) > limit || len(word)-len(w) > limit {
			continue
		}
		if d := distance(word, strings.ToLower(w)); d <= limit {
			best, limit = w, d-1 // from here on only a nearer one
			if d == 0 {
				break
			}
		}
	}
	return best
}

// distance is the optimal string alignment distance of two words of at most
// maxNearest bytes (lower-casing may add some), over bytes.
func distance(a, b string) int {
	before := make([]int, len(b)+1) // row i-2
	above := make([]int, len(b)+1)  // row i-1
	row := make([]int, len(b)+1)
	for j := range above {
		above[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(above[j]+1, row[j-1]+1, above[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, above, row = above, row, before
	}
	return above[len(b)]
}

// didYouMean is the tail of an error about an unknown word: "; did you mean X?"
// or nothing.
func didYouMean(word string, among []string) string {
	if near := Nearest(word, among); near != "" {
		return "; did you mean " + near + "?"
	}
	return ""
}
