#!/bin/sh
# Installs what the tests start: redis-server and PostgreSQL. It does something on
# Debian and Ubuntu, as root, and says elsewhere what to install. The services that
# the packages bring are not started.
set -eu

need=
command -v redis-server >/dev/null 2>&1 || need="$need redis-server"
ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || command -v initdb >/dev/null 2>&1 || need="$need postgresql"
[ -n "$need" ] || exit 0

if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
	echo "tests of fleets need:$need (install with your package manager; on Debian and Ubuntu: apt-get install$need)" >&2
	exit 0
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -q
# shellcheck disable=SC2086 # words on purpose
RUNLEVEL=1 apt-get install -y -q --no-install-recommends $need
