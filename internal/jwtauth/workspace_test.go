package jwtauth

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
)

// TestAPrincipalKeepsNothingOfTheWorkspace verifies tokens of many shapes in several
// goroutines, and looks at each principal again when all the others have come by.
func TestAPrincipalKeepsNothingOfTheWorkspace(t *testing.T) {
	cfg := mainConfig(t)
	cfg.Algorithms = append(slices.Clone(cfg.Algorithms), "HS384", "HS512")
	cfg.OwnerClaim = "org"
	s := newSet(t, startIssuer(t, cfg, Options{}))
	signers := []signer{testKeys()["ES256"], testKeys()["HS256"],
		{alg: "HS384", priv: []byte(testSecret)}, {alg: "HS512", priv: []byte(testSecret)}}
	const workers, each = 4, 60
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			var found []*Principal
			for i := range each {
				n := fmt.Sprintf("%d-%d", w, i)
				scopes := make([]string, i%9)
				for j := range scopes {
					scopes[j] = fmt.Sprintf("s%s:a%d", n, j)
				}
				token := signers[i%len(signers)].token(good(map[string]any{
					"sub": "user-" + n, "org": strings.Repeat("o", i%50) + n, "scope": scopes,
					"more": map[string]any{"deep": make([]int, i*3%100), "text": "\"\u00e9" + strings.Repeat("x", i*40)},
				}))
				p, d := s.Verify(context.Background(), t0, token, nil)
				if d != nil {
					t.Errorf("%s: %v", n, d)
					return
				}
				// A token with the signature of another is refused in the same workspace.
				if _, d := s.Verify(context.Background(), t0, token[:len(token)-8]+"AAAAAAAA", nil); d == nil {
					t.Errorf("%s: passes with a wrong signature", n)
				}
				found = append(found, p)
			}
			for i, p := range found {
				n := fmt.Sprintf("%d-%d", w, i)
				owner := strings.Repeat("o", i%50) + n
				if p.Subject != "user-"+n || p.Owner != owner || p.SubjectKey != "owner:"+owner || p.Role != "authenticated" {
					t.Errorf("%s: is now %q, %q, %q, %q", n, p.Subject, p.Owner, p.SubjectKey, p.Role)
				}
				want := i % 9
				for j := range want {
					if p.Scopes[j] != fmt.Sprintf("s%s:a%d", n, j) {
						t.Errorf("%s: scope %d is now %q", n, j, p.Scopes[j])
					}
				}
				if p.ScopesText != strings.Join(p.Scopes, " ") || len(p.Scopes) < want {
					t.Errorf("%s: %q, %q", n, p.Scopes, p.ScopesText)
				}
			}
		})
	}
	wg.Wait()
}
