package credential

import (
	"encoding/base64"
	"net/http"
	"slices"
	"strings"
	"testing"
)

var accepted = []string{"hive_sk_", "hc_"}

func TestRemoveKeysRemovesAKeyHoweverItWasSent(t *testing.T) {
	basic := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
	for _, key := range []string{someKey, "hc_0123", "hive_sk_"} {
		for _, v := range []string{
			"Bearer " + key, "bearer " + key, "BEARER  " + key, "Bearer\t" + key, "Bearer" + key, "bEARER" + key, "Bearer:" + key, "Bearer=" + key,
			key, " " + key, key + " ", "Token " + key, "Token" + key, "ApiKey " + key, "token=" + key, `Bearer "` + key + `"`, "Bearer <" + key + ">",
			"Bearer " + someJWT + ", Bearer " + key, key + "," + someJWT, "\u00a0" + key, "Bearer Bearer" + key,
			"Basic " + basic(key+":"), "Basic " + basic(key), "basic " + basic("user:"+key), "BASIC  " + strings.TrimRight(basic("u:"+key), "="),
		} {
			h := http.Header{"Authorization": {v}, "Accept": {"*/*"}}
			RemoveKeys(h, accepted)
			if _, there := h["Authorization"]; there || len(h) != 1 {
				t.Errorf("%q stayed", v)
			}
		}
	}
}

func TestRemoveKeysLeavesEverythingElse(t *testing.T) {
	for _, v := range []string{
		"Bearer " + someJWT, someJWT, "Bearer eyJhc_.eyJhive_sk_x.AAhc_BB", "Bearer other_sk_abc", "Bearer HIVE_SK_abc", "Bearer xhc_1", "",
		"Basic " + base64.StdEncoding.EncodeToString([]byte("user:password")), "Basic !!!", "Basic " + strings.Repeat("A", 5000), "Digest a=b",
	} {
		h := authorization(v)
		RemoveKeys(h, accepted)
		if got := h["Authorization"]; !slices.Equal(got, []string{v}) {
			t.Errorf("%q became %q", v, got)
		}
	}
	h := authorization("Bearer " + someKey)
	RemoveKeys(h, nil)
	RemoveKeys(h, []string{""})
	if len(h) != 1 {
		t.Error("removed without an accepted prefix")
	}
	RemoveKeys(http.Header{}, accepted)
}

func TestRemoveKeysJudgesEveryAuthorizationHeader(t *testing.T) {
	sent := []string{"Bearer " + someJWT, "Bearer " + someKey, "Basic dTpw", someKey}
	before := slices.Clone(sent)
	h := authorization(sent...)
	RemoveKeys(h, accepted)
	if got, want := h["Authorization"], []string{"Bearer " + someJWT, "Basic dTpw"}; !slices.Equal(got, want) {
		t.Errorf("left %q", got)
	}
	if !slices.Equal(sent, before) {
		t.Error("the slice that others may hold was changed")
	}
}

func TestRemoveKeysAllocatesNothingWhenThereIsNoKey(t *testing.T) {
	h := authorization("Bearer " + someJWT)
	if n := testing.AllocsPerRun(100, func() { RemoveKeys(h, accepted) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// FuzzRemoveKeys: what Bearer would accept as a key never stays, whatever stands
// beside it, and a second pass finds nothing more.
func FuzzRemoveKeys(f *testing.F) {
	f.Add("Bearer "+someKey, "Bearer"+someKey)
	f.Add("Basic aGNfMTo=", someJWT)
	f.Add("bearerhc_", "tokenhc_ hc_")
	f.Fuzz(func(t *testing.T, a, b string) {
		h := authorization(a, b)
		RemoveKeys(h, accepted)
		left := slices.Clone(h["Authorization"])
		for _, v := range left {
			if v != a && v != b {
				t.Fatalf("%q is neither %q nor %q", v, a, b)
			}
			token, _ := Bearer(authorization(v))
			for _, p := range accepted {
				if strings.HasPrefix(token, p) || strings.HasPrefix(v, p) || strings.Contains(v, " "+p) {
					t.Fatalf("%q stayed", v)
				}
			}
		}
		RemoveKeys(h, accepted)
		if !slices.Equal(h["Authorization"], left) {
			t.Fatalf("a second pass removed more: %q of %q", h["Authorization"], left)
		}
	})
}
