#!/usr/bin/env bash
# Starts what compose.yaml describes without containers: PostgreSQL and Redis of this
# machine's packages (postgresql, redis-server), in a folder that is removed at the
# end, and two gates on free ports of the loopback.
#
#	examples/fleet/fleet.sh            until Ctrl-C
#	examples/fleet/fleet.sh --check    makes a key, uses it on both gates, revokes it, and ends
#
# HIVEGATE names the binary; without it, it is built.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
check=
[ "${1:-}" != --check ] || check=1

fail() {
	echo "fleet.sh: $*" >&2
	exit 1
}

bin="$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -n 1 || true)"
[ -n "$bin" ] || bin="$(dirname "$(command -v initdb || fail "PostgreSQL is not installed (apt-get install postgresql)")")"
command -v redis-server >/dev/null || fail "Redis is not installed (apt-get install redis-server)"
command -v curl >/dev/null || fail "curl is not installed"

work="$(mktemp -d)"
pids=()
# The server refuses to run as root.
as=()
if [ "$(id -u)" = 0 ]; then
	as=(setpriv --reuid=postgres --regid=postgres --clear-groups)
	chown postgres "$work"
fi
end() {
	trap - EXIT INT TERM
	[ ${#pids[@]} -eq 0 ] || kill "${pids[@]}" 2>/dev/null || true
	[ ! -e "$work/db/postmaster.pid" ] || "${as[@]}" "$bin/pg_ctl" -D "$work/db" -m immediate -s stop || true
	wait || true
	rm -rf "$work"
}
trap end EXIT
trap 'exit 130' INT TERM

free() { # a port that nobody listens on
	local port
	while :; do
		port=$((20000 + RANDOM % 20000))
		(exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || break
	done
	echo "$port"
}
secret() { od -An -N32 -tx1 /dev/urandom | tr -d ' \n'; }

if [ -z "${HIVEGATE:-}" ]; then
	HIVEGATE="$work/hivegate"
	(cd "$here/../.." && go build -o "$HIVEGATE" ./cmd/hivegate)
fi

# PostgreSQL: the owner of the tables, and a role for gates that only uses them.
pg="$(free)" redis="$(free)"
(cd "$work" && "${as[@]}" "$bin/initdb" -D "$work/db" -U owner -A trust -E UTF8 --locale=C.UTF-8 >/dev/null)
(cd "$work" && "${as[@]}" "$bin/pg_ctl" -D "$work/db" -s -w -l "$work/db.log" -o \
	"-p $pg -c listen_addresses=127.0.0.1 -c unix_socket_directories=" start)
sql() { (cd "$work" && PGOPTIONS=--client-min-messages=warning "$bin/psql" -h 127.0.0.1 -p "$pg" -U owner -v ON_ERROR_STOP=1 -q "$@"); }
sql -d postgres -c 'CREATE DATABASE hivegate' -c 'CREATE ROLE gate LOGIN'

redis-server --port "$redis" --bind 127.0.0.1 --save '' --dir "$work" >"$work/redis.log" &
pids+=($!)

export HIVEGATE_MASTER_KEY HIVEGATE_REDIS="redis://127.0.0.1:$redis" XDG_DATA_HOME="$work" XDG_CONFIG_HOME="$work"
HIVEGATE_MASTER_KEY="$(secret)"
dsn() { echo "postgres://$1@127.0.0.1:$pg/hivegate?sslmode=disable"; }
HIVEGATE_DATABASE="$(dsn owner)" "$HIVEGATE" migrate --config "$here/Caddyfile"
sql -d hivegate -v gate=gate -v schema=hivegate -f "$here/grants.sql"
export HIVEGATE_DATABASE
HIVEGATE_DATABASE="$(dsn gate)"

ports=()
for n in 1 2; do
	port="$(free)"
	ports+=("$port")
	GATE_NAME="gate$n" GATE_ADDRESS="127.0.0.1:$port" GATE_ADMIN="127.0.0.1:$(free)" \
		"$HIVEGATE" run --config "$here/Caddyfile" >"$work/gate$n.log" 2>&1 &
	pids+=($!)
done
for port in "${ports[@]}"; do
	for try in $(seq 100); do
		! curl -fsS "http://127.0.0.1:$port/ready" >/dev/null 2>&1 || break
		[ "$try" != 100 ] || { cat "$work"/gate*.log >&2; fail "a gate is not ready"; }
		sleep 0.1
	done
done

apikey() { "$HIVEGATE" apikey "$@" --config "$here/Caddyfile"; }
made="$(apikey create --name first --scope farms:read --json)"
key="$(sed 's/.*"key":"\([^"]*\)".*/\1/' <<<"$made")"
id="$(sed 's/.*"id":"\([^"]*\)".*/\1/' <<<"$made")"
status() { curl -sS -o /dev/null -w '%{http_code}' -H "Authorization: Bearer $key" "http://127.0.0.1:$1/farms"; }

if [ -n "$check" ]; then
	for port in "${ports[@]}"; do
		got="$(status "$port")"
		[ "$got" = 200 ] || fail "a gate answers $got to a good key"
	done
	apikey revoke "$id" --wait
	for port in "${ports[@]}"; do
		got="$(status "$port")"
		[ "$got" = 401 ] || fail "a gate answers $got to a revoked key"
	done
	echo "both gates let the key pass, and refused it when it was revoked"
	exit 0
fi
cat <<END

Two gates on one PostgreSQL and one Redis. Try:

  curl -i -H "Authorization: Bearer $key" http://127.0.0.1:${ports[0]}/farms
  curl -i -H "Authorization: Bearer $key" http://127.0.0.1:${ports[1]}/farms

  export HIVEGATE_DATABASE='$HIVEGATE_DATABASE' HIVEGATE_REDIS='$HIVEGATE_REDIS' HIVEGATE_MASTER_KEY=$HIVEGATE_MASTER_KEY
  $HIVEGATE apikey revoke $id --wait --config $here/Caddyfile

Ctrl-C ends everything.
END
wait "${pids[@]}"
