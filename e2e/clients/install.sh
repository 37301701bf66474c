#!/bin/sh
# Installs what `make clients` starts, and with "browser" what `make browser`
# starts too: programs from Debian (on Debian and Ubuntu, as root; elsewhere it
# says what to install), packages from the npm registry as package-lock.json has them.
set -eu
cd "$(dirname "$0")"

need=
have() { command -v "$1" >/dev/null 2>&1; }
have curl || need="$need curl"
have npm || need="$need nodejs npm"
/usr/bin/python3 -c 'import urllib3' 2>/dev/null || need="$need python3-urllib3"
[ "${1-}" != browser ] || [ -x /usr/bin/chromium ] || need="$need chromium"
if [ -n "$need" ]; then
	if [ "$(id -u)" != 0 ] || ! have apt-get; then
		echo "tests with real clients need:$need (install with your package manager; on Debian and Ubuntu: apt-get install$need)" >&2
		exit 1
	fi
	export DEBIAN_FRONTEND=noninteractive
	apt-get update -q
	# shellcheck disable=SC2086 # words on purpose
	apt-get install -y -q --no-install-recommends $need
fi

# Debian 12 has Node 18. The registry has the program of a newer one.
newer=20.20.2
if [ "$(node --version | sed 's/^v\([0-9]*\).*/\1/')" -lt 20 ]; then
	case "$(uname -m)" in
	x86_64) arch=x64 ;;
	aarch64) arch=arm64 ;;
	*) arch= ;;
	esac
	if [ "$(id -u)" != 0 ] || [ -z "$arch" ]; then
		echo "tests with real clients need Node 20 or newer; this is $(node --version)" >&2
		exit 1
	fi
	npm install --prefix /usr/local/lib/node-$newer --ignore-scripts --no-audit --no-fund node-linux-$arch@$newer
	ln -sf /usr/local/lib/node-$newer/node_modules/node-linux-$arch/bin/node /usr/local/bin/node
fi

# npm removes node_modules first, and so what says that all of it is there.
if ! cmp -s package-lock.json node_modules/.installed; then
	npm ci --ignore-scripts --no-audit --no-fund
	cp package-lock.json node_modules/.installed
fi
