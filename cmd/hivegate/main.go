// Command hivegate is Caddy with the hivegate modules. Its key commands stand
// at the top level, and `hivegate demo` shows the gate at work.
package main

import (
	"runtime"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"

	_ "github.com/caddyserver/caddy/v2/modules/standard"

	"github.com/hivegate/hivegate/caddymodule"
)

// heapSample is how many bytes are allocated between two samples of the heap
// profile (/debug/pprof/heap). Go's default of half a megabyte takes one for every
// twenty requests, each with a walk over the stack.
const heapSample = 8 << 20

func main() {
	runtime.MemProfileRate = heapSample // before anything of size is allocated
	tuneGC()
	caddy.CustomBinaryName = "hivegate"
	// Caddy prints its own version behind it.
	caddy.CustomVersion = caddymodule.BuildVersion() + "; Caddy"
	caddy.CustomLongDescription = `hivegate stands in front of backends that already exist and decides, for each
request, who is calling, whether they may do this, and whether they may do it
now. It is Caddy with one more directive: everything that Caddy does, it does.

	$ hivegate demo                         see it at work
	$ hivegate run --config Caddyfile       run it
	$ hivegate validate --config Caddyfile  check a configuration
	$ hivegate apikey create --name ci --scope farms:read`
	caddymodule.TopLevelCommands(demoCommand())
	caddycmd.Main()
}
