#!/bin/sh
# Installs what `make load` compares with and is measured by: wrk, HAProxy, nginx.
# It does something on Debian and Ubuntu, as root, and says elsewhere what to
# install. The services that the packages bring are not started.
set -eu

need=
for p in wrk haproxy nginx taskset; do
	command -v "$p" >/dev/null 2>&1 || [ -x "/usr/sbin/$p" ] || case "$p" in
		taskset) need="$need util-linux" ;;
		*) need="$need $p" ;;
	esac
done
[ -n "$need" ] || exit 0

if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
	echo "make load needs:$need (install with your package manager; on Debian and Ubuntu: apt-get install$need)" >&2
	exit 1
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -q
# shellcheck disable=SC2086 # words on purpose
RUNLEVEL=1 apt-get install -y -q --no-install-recommends $need
