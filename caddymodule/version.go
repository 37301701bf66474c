package caddymodule

import (
	"fmt"
	"runtime/debug"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/spf13/cobra"
)

// version is set by builds that have no repository at hand:
//
//	-ldflags '-X github.com/hivegate/hivegate/caddymodule.version=v1.2.3'
var version string

// modulePath is this module's, as build information names it.
const modulePath = "github.com/hivegate/hivegate"

// BuildVersion says in one line what this build of hivegate is: its version,
// and where they are known the commit, its date and the version of Go.
//
//	hivegate v1.2.3 (commit 0123456789ab, 2026-11-21T22:51:11Z, go1.26.8)
func BuildVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		info = &debug.BuildInfo{}
	}
	return describeBuild(info, version)
}

// describeBuild is BuildVersion of a build. In our own binary the module is the
// main one and the commit was stamped; in a build by xcaddy it is a dependency
// with a version, or a local folder without one.
func describeBuild(info *debug.BuildInfo, given string) string {
	found, more := "", []string(nil)
	if info.Main.Path == modulePath {
		found = info.Main.Version
		more = stamped(info)
	} else {
		for _, dep := range info.Deps {
			if dep.Path != modulePath {
				continue
			}
			if found = dep.Version; dep.Replace != nil {
				if found = dep.Replace.Version; found == "" {
					found = "devel"
					more = append(more, "from a local folder")
				}
			}
		}
	}
	if given != "" {
		found = given
	}
	if found = strings.Trim(found, "()"); found == "" { // Go says (devel)
		found = "devel"
	}
	if info.GoVersion != "" {
		more = append(more, info.GoVersion)
	}
	if len(more) == 0 {
		return "hivegate " + found
	}
	return fmt.Sprintf("hivegate %s (%s)", found, strings.Join(more, ", "))
}

// stamped is what the Go command noted of the repository.
func stamped(info *debug.BuildInfo) (out []string) {
	of := map[string]string{}
	for _, s := range info.Settings {
		of[s.Key] = s.Value
	}
	if commit := of["vcs.revision"]; commit != "" {
		text := "commit " + commit[:min(12, len(commit))]
		if of["vcs.modified"] == "true" {
			text += " with changes"
		}
		out = append(out, text)
	}
	if date := of["vcs.time"]; date != "" {
		out = append(out, date)
	}
	return out
}

// versionCommand is `caddy hivegate version`, for builds whose own `version` is
// Caddy's.
func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Prints the versions of hivegate and Caddy",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, full := caddy.Version()
			if !strings.HasPrefix(full, "hivegate ") {
				full = BuildVersion() + "; Caddy " + full
			}
			_, err := fmt.Fprintln(cmd.OutOrStdout(), full)
			return err
		},
	}
}
