package main

import (
	"fmt"
	"strings"
)

const (
	issuerURL = "https://abc.supabase.co/auth/v1"
	// target is what all requests ask for.
	target = "/farms/7/workers/42"
	// manyRoutes is how many lines the gate's table has beside the one that matches.
	manyRoutes = 300
)

// options of Caddy for all of its processes.
const caddyOptions = `	admin ADMIN
	persist_config off
	auto_https off
	default_bind 127.0.0.1
`

// logFormat is the log of Caddyfile.example, which leaves credentials out,
// encodes no line that is not written, and writes lines of a flood together.
const logFormat = "\tlog {\n\t\toutput hivegate stderr\n\t\tformat hivegate\n\t}\n"

// proxyTo is the proxy as Caddyfile.example has it.
func proxyTo(backend string) string {
	return fmt.Sprintf(`	reverse_proxy %s {
		transport http {
			keepalive_idle_conns_per_host 128
			compression off
		}
	}
`, backend)
}

// bareCaddy is reverse_proxy and nothing else.
func bareCaddy(backend string) string {
	return "{\n" + caddyOptions + "}\nhttp://SITE {\n" + proxyTo(backend) + "}\n"
}

// stockCaddy is the one line that a proxy takes, without a setting.
func stockCaddy(backend string) string {
	return "{\n" + caddyOptions + "}\nhttp://SITE {\n\treverse_proxy " + backend + "\n}\n"
}

// bareFormat is bareCaddy with the log that the gate has.
func bareFormat(backend string) string {
	return "{\n" + caddyOptions + logFormat + "}\nhttp://SITE {\n" + proxyTo(backend) + "}\n"
}

// basicCaddy is bareCaddy behind basic_auth, whose Caddyfile form caches hashes.
func basicCaddy(backend, hash string) string {
	return "{\n" + caddyOptions + "}\nhttp://SITE {\n\tbasic_auth {\n\t\tuser " + hash + "\n\t}\n" + proxyTo(backend) + "}\n"
}

// gateConfig is a full gate: a route table of 300 lines, keys in SQLite with
// stored digests, an issuer, a plan's limit and a class's, which nobody reaches.
type gateConfig struct {
	backend, keys string
	master        string // the line; default: masterKey from the environment
	publicKeys    []string
	leeway        int // seconds; another value is another issuer, which remembers no token
	servers       string
	global        string // further lines of the global block
	cost          int
	routes        int
}

func (c gateConfig) String() string {
	var b strings.Builder
	b.WriteString("{\n" + caddyOptions + logFormat + c.servers + "\thivegate {\n\t\tkeystore sqlite " + c.keys + "\n")
	if c.master == "" {
		c.master = "master_key {env.LOADTEST_MASTER}"
	}
	b.WriteString("\t\t" + c.master + "\n" + c.global)
	if c.cost > 0 {
		fmt.Fprintf(&b, "\t\tbcrypt_cost %d\n", c.cost)
	}
	b.WriteString("\t\tclass ai 100000000/s\n\t\tplan operator {\n\t\t\trequests 100000000/s\n\t\t}\n\t\tdefault_plan operator\n")
	if len(c.publicKeys) > 0 {
		fmt.Fprintf(&b, "\t\tissuer load {\n\t\t\tiss %s\n\t\t\taud authenticated\n\t\t\thmac_secret {env.LOADTEST_SECRET}\n"+
			"\t\t\talgorithms HS256 RS256 ES256\n\t\t\trole_claim role\n\t\t\trole authenticated workers:read\n\t\t\tplan operator\n\t\t\tleeway %ds\n", issuerURL, max(c.leeway, 30))
		for _, f := range c.publicKeys {
			b.WriteString("\t\t\tpublic_key " + f + "\n")
		}
		b.WriteString("\t\t}\n")
	}
	b.WriteString("\t}\n}\nhttp://SITE {\n\thivegate {\n\t\troutes {\n")
	for i := range max(c.routes, manyRoutes) {
		fmt.Fprintf(&b, "\t\t\tGET,POST /r%d/{farmId}/things/{thingId} workers:write\n", i)
	}
	b.WriteString("\t\t\tGET /stream farms:read\n\t\t\tGET /farms/{farmId}/workers/{workerId} workers:read class=ai\n\t\t}\n\t}\n" + proxyTo(c.backend) + "}\n")
	return b.String()
}

// haproxyConfig is HAProxy with one thread, bare or with what comes nearest to
// the gate: keys from a map, scopes from another, a limit per owner, headers.
func haproxyConfig(addr, backend string, full bool, keysMap, scopesMap string) string {
	text := `global
	nbthread 1
	maxconn 4096
defaults
	mode http
	timeout client 60s
	timeout server 60s
	timeout connect 5s
	http-reuse always
`
	if full {
		text += `backend limits
	stick-table type string len 64 size 200k expire 2m store http_req_rate(60s)
`
	}
	text += "frontend site\n\tbind " + addr + "\n"
	if full {
		text += `	acl known var(txn.owner) -m found
	acl scoped var(txn.scopes) -m sub workers:read
	acl worker path_reg ^/farms/[^/]+/workers/[^/]+$
	http-request set-var(txn.owner) http_auth_bearer,map_str(` + keysMap + `)
	http-request deny deny_status 401 unless known
	http-request set-var(txn.scopes) var(txn.owner),map_str(` + scopesMap + `)
	http-request deny deny_status 404 unless worker
	http-request deny deny_status 403 unless scoped
	http-request track-sc0 var(txn.owner) table limits
	http-request deny deny_status 429 if { sc_http_req_rate(0) gt 100000000 }
	http-request set-header X-Request-Id %[rand(4294967295),hex]%[rand(4294967295),hex]
	http-request set-header X-Auth-Kind api_key
	http-request set-header X-Auth-Id %[var(txn.owner)]
	http-request set-header X-Auth-Owner %[var(txn.owner)]
	http-request set-header X-Auth-Scopes %[var(txn.scopes)]
	http-request set-header X-Auth-Plan operator
	http-request del-header Authorization
	http-response set-header X-RateLimit-Limit 100000000
	http-response set-header X-RateLimit-Remaining %[int(100000000),sub(txn.used)]
	http-response set-header X-RateLimit-Reset %[date]
	http-response set-header RateLimit-Policy "\"operator\";q=100000000;w=60"
	http-response set-header RateLimit "\"operator\";r=%[int(100000000),sub(txn.used)];t=1"
	http-request set-var(txn.used) sc_http_req_rate(0)
`
	}
	return text + "\tdefault_backend servers\nbackend servers\n\tserver one " + backend + " pool-max-conn 128\n"
}

// nginxConfig is nginx with one worker, bare or with keys from a map, a limit per
// owner, and headers.
func nginxConfig(dir, addr, backend string, full bool, keysMap, scopesMap string) string {
	maps, checks := "", ""
	if full {
		maps = `	map_hash_bucket_size 256;
	map_hash_max_size 8192;
	map $http_authorization $owner { default ""; include ` + keysMap + `; }
	map $owner $scopes { default ""; include ` + scopesMap + `; }
	limit_req_zone $owner zone=operator:16m rate=1000000r/s;
`
		checks = `			if ($owner = "") { return 401; }
			if ($scopes !~ workers:read) { return 403; }
			limit_req zone=operator burst=1000000 nodelay;
			proxy_set_header X-Request-Id $request_id;
			proxy_set_header X-Auth-Kind api_key;
			proxy_set_header X-Auth-Id $owner;
			proxy_set_header X-Auth-Owner $owner;
			proxy_set_header X-Auth-Scopes $scopes;
			proxy_set_header X-Auth-Plan operator;
			proxy_set_header Authorization "";
			add_header X-Request-Id $request_id;
			add_header X-RateLimit-Limit 100000000;
			add_header X-RateLimit-Remaining 99999999;
			add_header X-RateLimit-Reset $msec;
			add_header RateLimit-Policy '"operator";q=100000000;w=60';
			add_header RateLimit '"operator";r=99999999;t=1';
`
	}
	return `daemon off;
user root;
worker_processes 1;
pid ` + dir + `/nginx-` + portOf(addr) + `.pid;
error_log stderr crit;
events { worker_connections 2048; }
http {
	access_log off;
	client_body_temp_path ` + dir + `;
	proxy_temp_path ` + dir + `;
	fastcgi_temp_path ` + dir + `;
	uwsgi_temp_path ` + dir + `;
	scgi_temp_path ` + dir + `;
	keepalive_requests 1000000000;
` + maps + `	upstream servers { server ` + backend + `; keepalive 128; keepalive_requests 1000000000; }
	server {
		listen ` + addr + `;
		location ~ ^/farms/[^/]+/workers/[^/]+$ {
` + checks + `			proxy_pass http://servers;
			proxy_http_version 1.1;
			proxy_set_header Connection "";
		}
	}
}
`
}
