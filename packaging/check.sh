#!/bin/sh
# Judges what is in packaging/ without running it: alert rules by promtool, with
# their tests; the unit by systemd-analyze; manifests, compose files and the
# Dockerfile by the libraries of those who read them (packaging/check). On Debian
# and Ubuntu, as root, it installs what that needs; nothing is started.
set -eu
cd "$(dirname "$0")"
GO="${GO:-go}"
root=
[ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1 && root=1
cache="${XDG_CACHE_HOME:-$HOME/.cache}/hivegate"

need() {
	echo "packaging: $1 is not installed; install $2 (Debian, Ubuntu: apt-get install $3)" >&2
	exit 1
}

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT

# The package would start a server, so only the program is taken out of it.
promtool="$(command -v promtool || echo "$cache/promtool")"
if ! "$promtool" --version >/dev/null 2>&1; then
	[ -n "$root" ] || need promtool "Prometheus" prometheus
	[ -n "$(apt-cache madison prometheus)" ] || apt-get update -q
	mkdir -p "$cache"
	(cd "$work" && apt-get download -q -o APT::Sandbox::User=root prometheus && dpkg -x prometheus_*.deb x)
	mv "$work/x/usr/bin/promtool" "$promtool"
fi
if ! command -v systemd-analyze >/dev/null 2>&1; then
	[ -n "$root" ] || need systemd-analyze systemd systemd
	apt-get update -q
	RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends systemd
fi

echo "== alert rules"
"$promtool" check rules prometheus/hivegate.rules.yml
"$promtool" test rules prometheus/hivegate.rules.test.yml
# The dashboard's expressions, as rules, so that the same parser reads them.
$GO run ./expressions grafana/hivegate.json >"$work/dashboard.yml"
"$promtool" check rules "$work/dashboard.yml"

echo "== systemd unit"
# verify wants the program to be there; any will do.
sed "s#/usr/bin/hivegate#$(command -v true)#" systemd/hivegate.service >"$work/hivegate.service"
said="$(systemd-analyze verify --man=no "$work/hivegate.service" 2>&1)" || { echo "$said" >&2; exit 1; }
[ -z "$said" ] || { echo "$said" >&2; exit 1; }
# Exposure from 0 (safe) to 10; the limit is what the unit has, rounded up.
systemd-analyze security --offline=true --threshold=20 "$work/hivegate.service" | tail -n 1

echo "== manifests, compose files, Dockerfile"
(cd check && $GO vet ./... && $GO test ./...)
