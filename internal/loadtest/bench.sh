#!/bin/sh
# Runs the Go benchmarks: bench.sh OUT QUICK BENCH, as the Makefile says.
set -eu

out=$1 quick=$2 only=$3
go=${GO:-go}
all=$($go list ./... | grep -v '/e2e$')

if [ -n "$only" ]; then
	# shellcheck disable=SC2086 # a list of packages
	exec $go test -run '^$' -bench "$only" -benchmem -timeout 30m $all
fi
count=6 time=300ms grid=200ms turns=300x
export HIVEGATE_BENCH=full
if [ -n "$quick" ]; then
	count=1 time=10ms grid=10ms turns=10x HIVEGATE_BENCH=
	echo "bench: about 2 minutes"
else
	echo "bench: about 10 minutes on an idle machine, ended after 45"
fi
keep() { if [ -n "$out" ]; then mkdir -p "$(dirname "$out")"; grep -E '^(goos|goarch|pkg|cpu|Benchmark|ok|PASS|FAIL|---)' | tee "$1"; else grep -E '^(goos|goarch|pkg|cpu|Benchmark|ok|FAIL|---)'; fi; }

# What fails stops the pipe's left side alone: its mark is a file.
failed=$(mktemp)
trap 'rm -f "$failed"' EXIT
{ $go test ./caddymodule -run '^$' -bench '^Benchmark(Decision|WithHeaders)$' -benchmem -benchtime $time -count $count -timeout 15m 2>&1 || echo 1 >"$failed"; } | keep "$out.txt"
{ $go test ./caddymodule -run '^$' -bench '^BenchmarkParallel$' -benchmem -benchtime $time -count $count -cpu 1,2 -timeout 5m 2>&1 || echo 1 >"$failed"; } | keep "$out-parallel.txt"
{ $go test ./caddymodule -run '^$' -bench '^BenchmarkInPlace$' -benchtime $turns -count $count -cpu 1 -timeout 5m 2>&1 || echo 1 >"$failed"; } | keep "$out-inplace.txt"
# shellcheck disable=SC2086 # a list of packages
{ $go test -run '^$' -bench . -skip '^Benchmark(Decision|WithHeaders|Parallel|InPlace|Import.*)$' -benchmem -benchtime $grid -timeout 30m $all 2>&1 || echo 1 >"$failed"; } | keep "$out-grid.txt"
[ ! -s "$failed" ]
