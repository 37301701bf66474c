package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"
)

// machine describes where figures come from.
func machine() string {
	model := "unknown processor"
	raw, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(raw)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			model = strings.TrimSpace(value)
			break
		}
	}
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	commit, _ := exec.Command("git", "rev-parse", "--short", "HEAD").Output()
	load, _ := os.ReadFile("/proc/loadavg")
	return fmt.Sprintf("%s, %d cores, Linux %s, %s, commit %s, %s, load average at the end %s",
		model, runtime.NumCPU(), bytes.TrimSpace(kernel), runtime.Version(), bytes.TrimSpace(commit),
		time.Now().UTC().Format("2006-01-02 15:04 UTC"), strings.Join(strings.Fields(string(load))[:1], ""))
}

func reportLoad(o *options, done []outcome) error {
	var b strings.Builder
	fmt.Fprintf(&b, "<!-- written by `make load` -->\n%s. %d rounds of one second, both sides at once on one core, half of the rounds with roles swapped.\n\n", machine(), o.loadRounds())
	b.WriteString("| | CPU/request, µs | baseline, µs | ratio | quartiles | at most | throughput |\n|---|---:|---:|---:|---:|---:|---:|\n")
	for _, r := range done {
		aim, through := "", ""
		if r.aim > 0 {
			aim = fmt.Sprintf("%.2f", r.aim)
		}
		if r.through > 0 {
			through = fmt.Sprintf("%.3f", r.through)
		}
		fmt.Fprintf(&b, "| %s | %.2f | %.2f | **%.3f** | %.3f to %.3f | %s | %s |\n", r.name, micro(r.cand), micro(r.base), r.ratio, r.low, r.high, aim, through)
	}
	fmt.Println(b.String())
	if err := o.write("load.md", b.String()); err != nil {
		return err
	}
	bars := make([]bar, len(done))
	for i, r := range done {
		bars[i] = bar{name: r.name, value: r.ratio, low: r.low, high: r.high, aim: r.aim}
	}
	return o.write("load.svg", barPlot("CPU per request, as ratio to the baseline in the same run", bars))
}
