package jwtauth

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
)

func TestInspectShowsEverythingButTheSignature(t *testing.T) {
	hs := Config{Name: "second", Iss: []string{"https://main.example/auth/v1"}, HMACSecret: strings.Repeat("b", 32), Algorithms: []string{"HS256"}}
	s := newSet(t, startIssuer(t, mainConfig(t), Options{}), startIssuer(t, hs, Options{}))
	es := testKeys()["ES256"]
	ctx := context.Background()
	tok := es.token(good(map[string]any{"name": "a\u009b31mred\u202e"}))
	for _, tc := range []struct {
		name, token string
		accepted    bool
		asked       int
		want        []string
	}{
		{"accepted", tok + "\n", true, 2, []string{`"alg": "ES256"`, `"sub": "user-1"`, "issuer main: accepts it", "issuer second: refuses it: token_invalid", "verdict  accepted", "crews:write@userId=user-1", `\u009b31mred\u202e`}},
		{"expired", es.token(good(map[string]any{"exp": 1})), false, 2, []string{"refused: token_expired", `"exp": 1`}},
		{"wrong signature", swapPayload(tok, good(map[string]any{"sub": "x"})), false, 2, []string{"signature is wrong", `"sub": "x"`}},
		{"unknown issuer", es.token(good(map[string]any{"iss": "nobody"})), false, 0, []string{"iss is none that is accepted", `"iss": "nobody"`}},
		{"duplicate", es.token(`{"a":1,"a":2}`), false, 0, []string{"each member once", `"a": 2`}},
		{"no signature", b64([]byte(`{"alg":"none"}`)) + "." + b64([]byte(good(nil))) + ".", false, 0, []string{"no signature", `"alg": "none"`, `"sub": "user-1"`}},
		{"no token", "hive_sk_abc", false, 0, []string{"three parts", "(cannot be decoded)"}},
		{"empty", "", false, 0, []string{"three parts"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			rep := s.Inspect(ctx, t0, tc.token)
			text := rep.String()
			if rep.Accepted != tc.accepted || len(rep.Asked) != tc.asked || (rep.Reason == "") != tc.accepted || (rep.Principal != nil) != tc.accepted {
				t.Errorf("%+v", rep)
			}
			for _, w := range tc.want {
				if !strings.Contains(text, w) {
					t.Errorf("%q is missing in\n%s", w, text)
				}
			}
			asJSON, err := json.Marshal(rep)
			if err != nil {
				t.Fatal(err)
			}
			var parts struct{ Header, Claims map[string]any }
			if err := json.Unmarshal(asJSON, &parts); err != nil || strings.Contains(text, "cannot be decoded") != (parts.Header == nil || parts.Claims == nil) {
				t.Errorf("header and claims are no objects in JSON: %v\n%s", err, asJSON)
			}
			if sig := tc.token[strings.LastIndexByte(tc.token, '.')+1:]; len(sig) > 20 {
				if sig = strings.TrimSpace(sig); strings.Contains(text+string(asJSON), sig[:20]) {
					t.Error("the signature is shown")
				}
			}
			if strings.ContainsAny(text, "\u009b\u202e\x1b") {
				t.Error("it holds what a terminal obeys")
			}
		})
	}
}
