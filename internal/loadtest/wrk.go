package main

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// wrkScript sends one request for each line of a file, the line being the value
// of Authorization, and begins again at its end.
const wrkScript = `
local requests, next, count = {}, 0, 0
function init(args)
  for line in io.lines(args[1]) do
    count = count + 1
    requests[count] = wrk.format("GET", wrk.path, {
      ["Authorization"] = line, ["Accept"] = "application/json", ["User-Agent"] = "load/1.0" })
  end
end
function request()
  next = next + 1
  if next > count then next = 1 end
  return requests[next]
end
`

// connections is how many each wrk holds open.
const connections = 16

// shot is what one run of wrk saw.
type shot struct {
	requests int
	took     time.Duration
	refused  int // answers other than 2xx and 3xx
	broken   int // socket errors and timeouts
}

var (
	wrkRequests = regexp.MustCompile(`(\d+) requests in ([\d.]+)(us|ms|s|m)`)
	wrkRefused  = regexp.MustCompile(`Non-2xx or 3xx responses: (\d+)`)
	wrkBroken   = regexp.MustCompile(`Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)`)
)

// wrk loads an address for a second from one core, with the credentials of a file.
func (b *bed) wrk(ctx context.Context, core int, url, credentials string) (shot, error) {
	cmd := exec.CommandContext(ctx, "taskset", "-c", strconv.Itoa(core), "wrk", "-t1", "-c"+strconv.Itoa(connections), "-d1s", //nolint:gosec // wrk with this program's own arguments
		"-s", filepath.Join(b.dir, "wrk.lua"), url, "--", credentials)
	var out, problems bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &problems
	if err := cmd.Run(); err != nil {
		return shot{}, fmt.Errorf("wrk: %w: %s", err, strings.TrimSpace(problems.String()))
	}
	return parseWrk(out.String())
}

func parseWrk(text string) (shot, error) {
	m := wrkRequests.FindStringSubmatch(text)
	if m == nil {
		return shot{}, fmt.Errorf("wrk printed something else:\n%s", text)
	}
	var s shot
	s.requests, _ = strconv.Atoi(m[1])                // digits by the expression
	took, err := time.ParseDuration(m[2] + m[3])      //
	if s.took = took; err != nil || s.requests == 0 { // nothing was measured
		return s, fmt.Errorf("wrk sent %d requests in %q", s.requests, m[2]+m[3])
	}
	if m := wrkRefused.FindStringSubmatch(text); m != nil {
		s.refused, _ = strconv.Atoi(m[1]) // digits by the expression
	}
	if m := wrkBroken.FindStringSubmatch(text); m != nil {
		for _, n := range m[1:] {
			v, _ := strconv.Atoi(n) // digits by the expression
			s.broken += v
		}
	}
	return s, nil
}
