# The two commands that matter: `go run ./cmd/hivegate demo` and `make test`.
GO       ?= go
BIN      := bin/hivegate
FUZZTIME ?= 60s
BENCH    ?=
# Longest time for the tests of one package. The slowest is e2e.
TIMEOUT  ?= 20m

# The race detector needs cgo, and so a C compiler. `go env CGO_ENABLED` is 1
# only where one is found (or where it is forced, hence the second look).
RACE := $(shell if [ "$$($(GO) env CGO_ENABLED)" = 1 ] && command -v "$$($(GO) env CC)" >/dev/null 2>&1; then echo -race; fi)

# A linter in $GOPATH/bin counts as installed, whether PATH has that folder or not.
LINTER := $(shell command -v golangci-lint 2>/dev/null || { p="$$($(GO) env GOPATH)/bin/golangci-lint"; [ -x "$$p" ] && echo "$$p"; })

.DEFAULT_GOAL := help
.PHONY: help test servers vet lint lint-if-installed unit e2e race clients browser flood reloads faults fleet revocations build fmt fuzz bench load cold memory demo xcaddy routes reference clean

help: ## list the targets
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | while IFS="$$(printf '\t')" read -r t d; do printf '%-12s %s\n' "$$t" "$$d"; done

test: servers vet lint-if-installed unit e2e ## vet, linter (where installed), all tests, e2e on the built binary

servers: ## install what the tests of fleets start: redis-server, PostgreSQL (Debian, Ubuntu, as root)
	@internal/testservers/install.sh

vet:
	$(GO) vet ./...
	$(GO) vet -tags clients ./e2e

lint: ## run golangci-lint (v2)
	@[ -n "$(LINTER)" ] || { echo "golangci-lint is not installed: go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0" >&2; exit 1; }
	$(LINTER) run ./...

lint-if-installed:
ifeq ($(LINTER),)
	@echo "golangci-lint is not installed: linting left out"
else
	@case "$$($(LINTER) version 2>/dev/null)" in \
		*"version 2."*|*"version v2."*) echo "$(LINTER) run ./..."; exec $(LINTER) run ./... ;; \
		*) echo "$(LINTER) is not version 2: linting left out" ;; \
	esac
endif

unit:
ifeq ($(RACE),)
	@echo "no C compiler found: tests run without -race"
endif
	$(GO) test $(RACE) -timeout $(TIMEOUT) $$($(GO) list ./... | grep -v '/e2e$$')

# On its own, after the others: it measures latencies, and shares the cores with nobody.
e2e:
	$(GO) test $(RACE) -timeout 40m ./e2e

race: ## e2e with the race detector in the server as well
	HIVEGATE_RACE=1 $(GO) test -race -count=1 -timeout 40m ./e2e

# Their tests have the build tag clients: nothing else runs them, and they leave nothing out.
clients: ## real clients, installed from npm and Debian, in front of the examples
	@e2e/clients/install.sh
	$(GO) test -tags clients -count=1 -v -timeout $(TIMEOUT) -run '^TestClients' ./e2e

browser: ## the gate as pages see it, in headless Chromium from Debian
	@e2e/clients/install.sh browser
	$(GO) test -tags clients -count=1 -v -timeout $(TIMEOUT) -run '^TestBrowser' ./e2e

flood: ## 5,000 bad keys a second beside 200 good requests a second: 5 minutes (ARGS="-quick", "-only NAME")
	@$(GO) run ./internal/loadtest flood -out docs/bench $(ARGS)

reloads: ## 60 reloads in 60 seconds under load: nothing lost, nothing left behind
	HIVEGATE_RELOADS=full $(GO) test -count=1 -v -timeout $(TIMEOUT) -run '^TestSixtyReloads' ./e2e

# The long forms of tests: their figures and failures without the chatter, and how long
# it took. $(1): how long two quiet cores take, and after how long it is given up;
# $(2): the settings; $(3): what to run, and more flags.
define figures
	@echo "takes about $(1) on two quiet cores; given up after $(TIMEOUT)"; \
	begin=$$(date +%s); status=$$(mktemp); \
	{ $(2) $(GO) test -count=1 -v -timeout $(TIMEOUT) $(3) ./e2e 2>&1; echo $$? >"$$status"; } | grep --line-buffered -v '^=== '; \
	code=$$(cat "$$status"); rm -f "$$status"; echo "took $$(($$(date +%s) - begin)) s"; exit "$$code"
endef

faults: TIMEOUT = 30m
faults: ## kills, pauses, cuts, failover, a wrong clock: counts of wrong answers (15 minutes)
	$(call figures,15 minutes,HIVEGATE_FAULTS=full HIVEGATE_FLEET=full,-run '^(TestKeysWhoseAnswerArrivedSurviveSIGKILL|TestFleet)' -skip '^(TestFleetAdmits|TestFleetCost|TestFleetExample|TestFleetPostgresARevocationReaches)')

fleet: ## shared limits on three gates: over-admission for 60 s, and what strict and lease cost (5 minutes)
	$(call figures,5 minutes,HIVEGATE_FLEET=full,-run '^(TestFleetAdmits|TestFleetCost)')

revocations: ## 1,000 revocations on one node and 200 on a fleet, under load: p50, p99, maximum (5 minutes)
	$(call figures,5 minutes,HIVEGATE_REVOKE=full HIVEGATE_FLEET=full,-run '^(TestRevocationToRefusalUnderLoad|TestFleetPostgresARevocationReaches)')

build: ## static binary in bin/
	CGO_ENABLED=0 $(GO) build -trimpath -o $(BIN) ./cmd/hivegate

fmt: ## gofmt everything
	gofmt -w $$($(GO) list -f '{{.Dir}}' ./...)

fuzz: ## each fuzz target for FUZZTIME (60s)
	@set -e; found=; \
	for dir in $$(grep -rlE --include='*_test.go' '^func Fuzz' . | xargs -r -n1 dirname | sort -u); do \
		for target in $$(grep -hoE '^func Fuzz[A-Za-z0-9_]*' "$$dir"/*_test.go | sed 's/^func //' | sort -u); do \
			found=1; echo "== $$dir $$target for $(FUZZTIME)"; \
			$(GO) test "$$dir" -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME); \
		done; \
	done; \
	[ -n "$$found" ] || { echo "no fuzz target found" >&2; exit 1; }

load: ## CPU per request and throughput beside bare Caddy, basic_auth, HAProxy, nginx: 15 minutes (ARGS="-quick", "-only REGEXP", "-rounds N")
	@internal/loadtest/install.sh
	@$(GO) run ./internal/loadtest load -out docs/bench $(ARGS)

cold: ## 100,000 keys at 500 a second after a restart: 6 minutes (ARGS="-quick", "-only NAME", "-keys N")
	@$(GO) run ./internal/loadtest cold -out docs/bench $(ARGS)

memory: ## a million keys, a million owners, 10,000 connections, 1,000 streams: 5 minutes (ARGS="-quick", "-only NAME")
	@$(GO) run ./internal/loadtest memory -out docs/bench $(ARGS)

# First the decision itself, six times, as benchstat wants it; then all benchmarks
# once. OUT=docs/bench/NAME keeps both (NAME.txt, NAME-grid.txt); QUICK=1 shows that
# they run; BENCH=regexp runs those alone, once.
bench: servers ## benchmarks with allocation counts: 10 minutes (OUT=docs/bench/NAME, QUICK=1, BENCH=regexp)
	@GO="$(GO)" internal/loadtest/bench.sh "$(OUT)" "$(QUICK)" "$(BENCH)"

demo: ## Caddyfile.example with two small backends; prints curl lines to try
	$(GO) run ./cmd/hivegate demo

.PHONY: packaging release
packaging: ## judge unit, manifests, Dockerfile, dashboard and alert rules by their own tools
	GO="$(GO)" packaging/check.sh

release: ## archives for five platforms with SHA256SUMS in dist/ (VERSION=v1.2.3)
	$(GO) run ./internal/release -version "$(VERSION)"

xcaddy: ## build Caddy with hivegate through xcaddy, as xcaddy.toml says
	$(GO) run ./internal/xcaddy

routes: ## write examples/hiveos.routes again from e2e/testdata/hiveos-routes.csv
	$(GO) test ./examples -run '^TestHiveOSRoutes' -update

reference: ## write docs/reference.md again from the doc comments, options and commands
	$(GO) test ./caddymodule -count=1 -run '^TestReference' -update

clean:
	rm -rf bin dist
