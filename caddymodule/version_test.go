package caddymodule

import (
	"runtime/debug"
	"testing"
)

func TestABuildSaysWhatItIs(t *testing.T) {
	stamp := []debug.BuildSetting{{Key: "vcs.revision", Value: "0123456789abcdef0123456789abcdef01234567"}, {Key: "vcs.time", Value: "2026-11-21T22:51:11Z"}}
	dirty := append([]debug.BuildSetting{{Key: "vcs.modified", Value: "true"}}, stamp...)
	caddyMain := debug.Module{Path: "caddy", Version: "(devel)"}
	for name, c := range map[string]struct {
		info  debug.BuildInfo
		given string
		want  string
	}{
		"a tag": {debug.BuildInfo{GoVersion: "go1.26.8", Main: debug.Module{Path: modulePath, Version: "v1.2.3"}, Settings: stamp}, "",
			"hivegate v1.2.3 (commit 0123456789ab, 2026-11-21T22:51:11Z, go1.26.8)"},
		"a changed tree": {debug.BuildInfo{GoVersion: "go1.26.8", Main: debug.Module{Path: modulePath, Version: "(devel)"}, Settings: dirty}, "",
			"hivegate devel (commit 0123456789ab with changes, 2026-11-21T22:51:11Z, go1.26.8)"},
		"a version that was given": {debug.BuildInfo{GoVersion: "go1.26.8", Main: debug.Module{Path: modulePath}}, "v9.9.9", "hivegate v9.9.9 (go1.26.8)"},
		"xcaddy": {debug.BuildInfo{GoVersion: "go1.26.8", Main: caddyMain, Settings: stamp, Deps: []*debug.Module{{Path: modulePath, Version: "v1.2.3"}}}, "",
			"hivegate v1.2.3 (go1.26.8)"},
		"xcaddy with a folder": {debug.BuildInfo{GoVersion: "go1.26.8", Main: caddyMain, Deps: []*debug.Module{{Path: modulePath, Version: "v0.0.0",
			Replace: &debug.Module{Path: "/src/hivegate"}}}}, "", "hivegate devel (from a local folder, go1.26.8)"},
		"nothing known": {debug.BuildInfo{}, "", "hivegate devel"},
	} {
		if got := describeBuild(&c.info, c.given); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}
