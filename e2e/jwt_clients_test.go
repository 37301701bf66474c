package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// npmProject is clients-jwt with its packages installed.
type npmProject struct {
	dir string
	env []string
}

// installNPM installs the packages that package-lock.json names. Their versions
// are the last that run on Node 20. Where Node or the registry is missing the
// test is left out, except in CI.
func installNPM(t *testing.T) npmProject {
	t.Helper()
	leftOut := func(format string, args ...any) {
		t.Helper()
		text := "tests with clients from npm are left out: " + fmt.Sprintf(format, args...)
		if os.Getenv("CI") != "" {
			t.Fatal(text)
		}
		t.Skip(text)
	}
	version, err := exec.Command("node", "--version").Output()
	if err != nil {
		leftOut("there is no node: %v", err)
	}
	major, _, _ := strings.Cut(strings.TrimPrefix(string(version), "v"), ".")
	if n, err := strconv.Atoi(major); err != nil || n < 20 {
		leftOut("node %s is older than 20", bytes.TrimSpace(version))
	}
	p := npmProject{dir: t.TempDir(), env: cleanEnv()}
	p.env = append(p.env, "HOME="+os.Getenv("HOME"))
	files, err := filepath.Glob("clients-jwt/*.*")
	if err != nil || len(files) == 0 {
		t.Fatalf("clients-jwt: %v %v", files, err)
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(p.dir, filepath.Base(f)), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute)
	defer cancel()
	npm := exec.CommandContext(ctx, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--fetch-retries=1")
	npm.Dir, npm.Env = p.dir, os.Environ() // the registry may be behind a proxy
	if out, err := npm.CombinedOutput(); err != nil {
		leftOut("npm ci: %v: %s", err, lastLine(out))
	}
	return p
}

func lastLine(out []byte) string {
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	return lines[len(lines)-1]
}

// run calls a script with one argument, as JSON, and reads the JSON it prints.
func (p npmProject) run(t *testing.T, script string, arg, out any) {
	t.Helper()
	text, err := json.Marshal(arg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "node", script, string(text))
	cmd.Dir, cmd.Env = p.dir, p.env
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s: %v\n%s", script, err, stderr.String())
	}
	if err := json.Unmarshal(stdout.Bytes(), out); err != nil {
		t.Fatalf("%s printed: %v\n%s", script, err, stdout.String())
	}
}

func TestRealClientsWorkThroughTheGateUnchanged(t *testing.T) {
	t.Parallel()
	npm := installNPM(t)
	t.Run("tokens of jose", func(t *testing.T) { tokensOfJose(t, npm) })
	for _, kind := range []string{"anon key", "publishable key"} {
		t.Run("supabase-js with the "+kind, func(t *testing.T) { supabaseJS(t, npm, kind) })
	}
	for _, kind := range []string{"service_role key", "secret key"} {
		t.Run("supabase-js with the "+kind, func(t *testing.T) { serviceKey(t, npm, kind) })
	}
	t.Run("cookies of supabase ssr", func(t *testing.T) { ssrCookies(t, npm) })
}

func tokensOfJose(t *testing.T, npm npmProject) {
	var made struct {
		JWKS   json.RawMessage   `json:"jwks"`
		Tokens map[string]string `json:"tokens"`
	}
	npm.run(t, "tokens.mjs", map[string]string{"secret": hmacSecret, "iss": mainIss, "aud": "authenticated"}, &made)
	c := mainConfig("", farmRoutes)
	c.files = map[string]string{"jwks.json": string(made.JWKS)}
	g := start(t, c)
	for _, alg := range []string{"HS256", "RS256", "PS256", "ES256", "ES384", "ES512", "EdDSA"} {
		token := made.Tokens[alg]
		if token == "" {
			t.Fatalf("jose made no %s token", alg)
		}
		g.get(t, "/farms", bearer(token)).passed(t)
		if h := g.farm.got(t).header; h.Get("X-Auth-Id") != "jose-"+alg || h.Get("Authorization") != "" {
			t.Errorf("%s: the backend was told %v", alg, h)
		}
		g.get(t, "/farms", bearer(withSignature(token, append([]byte{signatureOf(token)[0] ^ 1}, signatureOf(token)[1:]...)))).refused(t, 401, "token_invalid")
	}
}

// supabaseJS signs in, reads, writes, calls functions and signs out.
func supabaseJS(t *testing.T, npm npmProject, kind string) {
	p := startProject(t)
	var got map[string]struct {
		Data    json.RawMessage `json:"data"`
		Status  int             `json:"status"`
		Code    string          `json:"code"`
		Message string          `json:"message"`
		User    string          `json:"user"`
		Changed bool            `json:"changed"`
	}
	npm.run(t, "supabase.mjs", map[string]string{
		"url": "http://" + p.sites[0], "key": p.keys[kind], "expired": p.user("user@example.com", -time.Hour),
	}, &got)
	for name, want := range map[string]struct {
		status        int
		code, message string
		data          string
	}{
		"rowsSignedOut":    {403, "FORBIDDEN", "User does not have permission to access this resource", "null"},
		"wrongPassword":    {400, "invalid_credentials", "Invalid login credentials", ""},
		"rows":             {200, "", "", `[{"id":1,"table":"agents"}]`},
		"insert":           {201, "", "", `[{"id":1,"table":"swarms"}]`},
		"remove":           {204, "", "", "null"},
		"count":            {200, "", "", "null"},
		"respond":          {0, "", "", `{"reply":"hello"}`},
		"unknownTable":     {404, "NOT_FOUND", "", "null"},
		"rowsAfterSignOut": {403, "FORBIDDEN", "User does not have permission to access this resource", "null"},
		"expired":          {401, "UNAUTHORIZED", "JWT expired or invalid", "null"},
	} {
		r := got[name]
		if want.status != 0 && r.Status != want.status || r.Code != want.code || want.message != "" && r.Message != want.message ||
			want.data != "" && string(r.Data) != want.data {
			t.Errorf("%s: %d %q %q %s, want %+v", name, r.Status, r.Code, r.Message, r.Data, want)
		}
	}
	for _, name := range []string{"signIn", "user"} {
		if got[name].User != userID {
			t.Errorf("%s: user %q %q, want %s", name, got[name].User, got[name].Message, userID)
		}
	}
	if !got["refresh"].Changed || got["refresh"].Message != "" || got["signOut"].Message != "" {
		t.Errorf("refresh %+v, sign out %+v", got["refresh"], got["signOut"])
	}
}

// serviceKey is a server's client, which fetch of Node marks with
// Sec-Fetch-Mode, and the same key from a browser.
func serviceKey(t *testing.T, npm npmProject, kind string) {
	p := startProject(t)
	var got map[string]struct {
		Data   json.RawMessage `json:"data"`
		Status int             `json:"status"`
		Code   string          `json:"code"`
	}
	npm.run(t, "service.mjs", map[string]string{"url": "http://" + p.sites[0], "key": p.keys[kind]}, &got)
	if got["server"].Status != 200 || string(got["server"].Data) != `[{"id":1,"table":"agents"}]` {
		t.Errorf("from a server: %+v", got["server"])
	}
	if p.lastHeader("Sec-Fetch-Mode") == "" {
		t.Error("fetch of this Node sends no Sec-Fetch-Mode: this shows nothing of what it is for")
	}
	for _, marker := range []string{"origin", "site", "cookie"} {
		if r := got[marker]; r.Status != 403 || r.Code != "FORBIDDEN" {
			t.Errorf("with the marker %s of a browser: %d %q", marker, r.Status, r.Code)
		}
	}
	if n := len(p.awaitLines(t, 3, map[string]string{"reason": "browser_forbidden"})); n < 3 {
		t.Errorf("%d refusals as browser_forbidden in the log, want 3", n)
	}
}

// ssrCookies signs in by @supabase/ssr and sends its cookies as a browser would.
func ssrCookies(t *testing.T, npm npmProject) {
	p := startProject(t)
	var got map[string]struct {
		Token  string   `json:"token"`
		Names  []string `json:"names"`
		Cookie string   `json:"cookie"`
	}
	npm.run(t, "ssr.mjs", map[string]string{"url": "http://" + p.sites[0], "key": p.keys["publishable key"]}, &got)
	if len(got) != 5 {
		t.Fatalf("%d sessions, want 5", len(got))
	}
	chunked := 0
	for name, s := range got {
		if strings.Contains(strings.Join(s.Names, " "), "-auth-token.1") {
			chunked++
		} else if len(s.Names) != 1 || s.Names[0] != "sb-127-auth-token" {
			t.Errorf("%s: cookies %v", name, s.Names)
		}
		apikey, cookie := header("Apikey", p.keys["publishable key"]), header("Cookie", "theme=dark; "+s.Cookie+"; x=y")
		send := func(method string, changes ...change) (int, string) {
			a, err := p.try(p.sites[0], method, "/rest/v1/agents", append(changes, apikey, cookie)...)
			if err != nil {
				t.Fatal(err)
			}
			return a.status, a.reason()
		}
		own, evil := header("Origin", "http://"+p.sites[0]), header("Origin", "https://evil.example")
		for what, c := range map[string]struct {
			method  string
			changes []change
			status  int
			reason  string
		}{
			"GET":                               {"GET", nil, 200, ""},
			"GET from another page":             {"GET", []change{evil}, 200, ""},
			"POST without Origin":               {"POST", nil, 403, "cross_site"},
			"POST from another page":            {"POST", []change{evil}, 403, "cross_site"},
			"POST from the own page":            {"POST", []change{own}, 201, ""},
			"POST marked same-origin":           {"POST", []change{header("Sec-Fetch-Site", "same-origin")}, 201, ""},
			"POST marked same-site":             {"POST", []change{header("Sec-Fetch-Site", "same-site"), own}, 403, "cross_site"},
			"DELETE marked cross-site":          {"DELETE", []change{header("Sec-Fetch-Site", "cross-site")}, 403, "cross_site"},
			"upgrade from another page":         {"GET", []change{evil, header("Connection", "Upgrade"), header("Upgrade", "websocket")}, 403, "cross_site"},
			"POST beside Authorization ignored": {"POST", []change{evil, bearer(s.Token)}, 201, ""},
		} {
			if status, reason := send(c.method, c.changes...); status != c.status || reason != c.reason {
				t.Errorf("%s: %s: %d %q, want %d %q", name, what, status, reason, c.status, c.reason)
			}
		}
		if id := p.lastHeader("X-Auth-Id"); id != userID {
			t.Errorf("%s: the backend was told %q", name, id)
		}
	}
	if chunked != 2 {
		t.Errorf("%d sessions in chunks, want 2: %v", chunked, got["big"].Names)
	}
}

// userID is the user of the project.
const userID = "7b1a2c5e-3f60-4c0a-9d1e-5a6b7c8d9e0f"

// project is the shipped configuration as it stands, in front of a small
// backend that answers as Supabase does.
type project struct {
	*gate
	iss  string
	keys map[string]string // the project's keys by kind
}

func startProject(t *testing.T) *project {
	t.Helper()
	p := prepareProject(t)
	p.run(t)
	return p
}

func prepareProject(t *testing.T) *project {
	t.Helper()
	c := config{files: map[string]string{}}
	for _, name := range []string{"hive-protocol.Caddyfile", "hive-protocol.routes"} {
		text, err := os.ReadFile("../examples/" + name)
		if err != nil {
			t.Fatal(err)
		}
		c.files[name] = string(text)
	}
	c.caddyfile = c.files["hive-protocol.Caddyfile"]
	g := prepare(t, c)
	if text, err := os.ReadFile(g.caddyfile()); err != nil || string(text) != c.caddyfile {
		t.Fatalf("the configuration is not run as it stands: %v", err)
	}
	p := &project{gate: g, iss: "http://" + g.farm.addr + "/auth/v1"}
	legacy := func(role string) string {
		return tokenKeys()["HS256"].token(fmt.Sprintf(`{"iss":"supabase","ref":"abc","role":%q,"iat":1700000000,"exp":%d}`, role, in(24*time.Hour)))
	}
	p.keys = map[string]string{
		"anon key": legacy("anon"), "service_role key": legacy("service_role"),
		"publishable key": "sb_publishable_AbCdEfGhIjKlMnOp", "secret key": "sb_secret_QrStUvWxYz0123456789",
	}
	for what, key := range p.keys {
		book.add("the "+what, key)
	}
	g.env = append(g.env, "CADDY_ADMIN="+g.admin, "HIVEGATE_SITE=http://"+g.sites[0], "SUPABASE_URL=http://"+g.farm.addr,
		"SUPABASE_JWT_SECRET="+hmacSecret, "SUPABASE_PUBLISHABLE_KEY="+p.keys["publishable key"], "SUPABASE_SECRET_KEY="+p.keys["secret key"])
	p.serve()
	return p
}

// user is a session's token, valid for d.
func (p *project) user(email string, d time.Duration) string {
	return tokenKeys()["ES256"].token(claims(map[string]any{
		"iss": p.iss, "sub": userID, "iat": in(d - time.Hour), "exp": in(d), "email": email, "aal": "aal1",
		"session_id": fmt.Sprint(time.Now().UnixNano()), "amr": asIs(`[{"method":"password","timestamp":1772600000}]`),
		"app_metadata": asIs(`{"provider":"email"}`), "user_metadata": asIs(`{"role":"service_role"}`),
	}))
}

// lastHeader is a header of the last request that reached the backend's data.
func (p *project) lastHeader(name string) string {
	p.farm.mu.Lock()
	defer p.farm.mu.Unlock()
	if p.farm.last == nil {
		return ""
	}
	return p.farm.last.header.Get(name)
}

// serve makes the backend answer as GoTrue, PostgREST and functions do.
func (p *project) serve() {
	answer := func(w http.ResponseWriter, status int, v any) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		if status != http.StatusNoContent {
			_ = json.NewEncoder(w).Encode(v)
		}
	}
	account := func(email string) map[string]any {
		u := map[string]any{"id": userID, "aud": "authenticated", "role": "authenticated", "email": email, "created_at": "2026-01-01T00:00:00Z",
			"app_metadata": map[string]any{}, "user_metadata": map[string]any{}, "identities": []any{}}
		if strings.HasPrefix(email, "big") {
			u["user_metadata"] = map[string]any{"bio": strings.Repeat("Büene ☃ ", 500)}
		}
		return u
	}
	b := p.farm
	b.handle("/auth/v1/.well-known/jwks.json", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Cache-Control", "public, max-age=600")
		_, _ = w.Write([]byte(jwkSet(mainKeys()...)))
	})
	b.handle("/auth/v1/token", func(w http.ResponseWriter, r *http.Request) {
		var in struct {
			Email, Password, RefreshToken string
		}
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil || r.URL.Query().Get("grant_type") == "password" && in.Password != "right" {
			w.Header().Set("X-Supabase-Api-Version", "2024-01-01")
			answer(w, 400, map[string]any{"code": "invalid_credentials", "message": "Invalid login credentials"})
			return
		}
		answer(w, 200, map[string]any{"access_token": p.user(in.Email, time.Hour), "token_type": "bearer", "expires_in": 3600,
			"expires_at": time.Now().Add(time.Hour).Unix(), "refresh_token": "refresh-0123456789", "user": account(in.Email)})
	})
	b.handle("/auth/v1/user", func(w http.ResponseWriter, _ *http.Request) { answer(w, 200, account("user@example.com")) })
	b.handle("/auth/v1/logout", func(w http.ResponseWriter, _ *http.Request) { answer(w, 204, nil) })
	b.handle("/functions/v1/agent-respond", func(w http.ResponseWriter, _ *http.Request) { answer(w, 200, map[string]any{"reply": "hello"}) })
	for _, table := range []string{"agents", "swarms", "messages"} {
		b.handle("/rest/v1/"+table, func(w http.ResponseWriter, r *http.Request) {
			b.mu.Lock()
			b.last = &seen{method: r.Method, target: r.RequestURI, header: r.Header.Clone()}
			b.mu.Unlock()
			status := map[string]int{"POST": 201, "DELETE": 204}[r.Method]
			if status == 0 {
				status = 200
			}
			w.Header().Set("Content-Range", "0-0/1")
			answer(w, status, []map[string]any{{"id": 1, "table": table}})
		})
	}
}
