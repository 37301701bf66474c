// Command release builds what a release consists of: for each platform an
// archive with the binary, the documents, the examples and the packaging, and
// SHA256SUMS over them.
//
//	go run ./internal/release [-version v1.2.3] [-out dist] [-platforms linux/amd64,…]
//
// Two runs on one commit, with one version of Go, are meant to make the same bytes: no path
// of the machine is in a binary, and every file in an archive has the commit's
// time and nobody's name. Binaries are built without cgo.
package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// platforms that releases are built for.
const platforms = "linux/amd64,linux/arm64,darwin/amd64,darwin/arm64,windows/amd64"

// shipped are the files and folders that every archive holds beside the binary.
var shipped = []string{"LICENSE", "README.md", "CHANGELOG.md", "Caddyfile.example", "docs", "examples", "packaging/systemd", "packaging/prometheus", "packaging/grafana", "packaging/kubernetes", "packaging/docker"}

func main() {
	version := flag.String("version", "", "version of the release (default: what git describe says)")
	out := flag.String("out", "dist", "folder for the archives; it is emptied first")
	only := flag.String("platforms", platforms, "platforms, as GOOS/GOARCH")
	flag.Parse()
	if err := release(*version, *out, strings.Split(*only, ",")); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

func release(version, out string, platforms []string) (err error) {
	if version == "" {
		if version, err = output("git", "describe", "--tags", "--always", "--dirty"); err != nil {
			return err
		}
	}
	epoch, err := output("git", "log", "-1", "--format=%ct")
	if err != nil {
		return err
	}
	seconds, err := strconv.ParseInt(epoch, 10, 64)
	if err != nil {
		return fmt.Errorf("read the commit's time: %w", err)
	}
	if err := errors.Join(os.RemoveAll(out), os.MkdirAll(out, 0o755)); err != nil { //nolint:gosec // a release is public
		return err
	}
	work, err := os.MkdirTemp("", "hivegate-release-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()

	common, err := commonFiles(work, version, seconds)
	if err != nil {
		return err
	}
	var sums bytes.Buffer
	slices.Sort(platforms)
	for _, p := range platforms {
		goos, goarch, ok := strings.Cut(p, "/")
		if !ok {
			return fmt.Errorf("platform %q: write GOOS/GOARCH", p)
		}
		started := time.Now()
		name, data, err := pack(work, version, goos, goarch, time.Unix(seconds, 0).UTC(), common)
		if err != nil {
			return fmt.Errorf("%s: %w", p, err)
		}
		if err := os.WriteFile(filepath.Join(out, name), data, 0o644); err != nil { //nolint:gosec // a release is public
			return err
		}
		sum := sha256.Sum256(data)
		fmt.Fprintf(&sums, "%s  %s\n", hex.EncodeToString(sum[:]), name)
		fmt.Printf("%s  %d bytes  %s\n", name, len(data), time.Since(started).Round(time.Second))
	}
	return os.WriteFile(filepath.Join(out, "SHA256SUMS"), sums.Bytes(), 0o644) //nolint:gosec // a release is public
}

// commonFiles are those that do not depend on the platform: what is in the
// repository, and what the program itself writes.
func commonFiles(work, version string, epoch int64) ([]file, error) {
	var files []file
	for _, path := range shipped {
		more, err := tracked(path)
		if err != nil {
			return nil, err
		}
		files = append(files, more...)
	}
	native := filepath.Join(work, "native")
	if err := build(native, version, "", ""); err != nil {
		return nil, err
	}
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		text, err := exec.Command(native, "completion", shell).Output() //nolint:gosec // built here
		if err != nil {
			return nil, fmt.Errorf("make the completion of %s: %w", shell, err)
		}
		files = append(files, file{name: "completions/hivegate." + shell, data: text})
	}
	man := filepath.Join(work, "man")
	cmd := exec.Command(native, "manpage", "--directory", man) //nolint:gosec // built here
	cmd.Env = append(os.Environ(), "SOURCE_DATE_EPOCH="+strconv.FormatInt(epoch, 10))
	if text, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("make the manual pages: %w\n%s", err, text)
	}
	pages, err := os.ReadDir(man)
	if err != nil {
		return nil, err
	}
	for _, p := range pages {
		// `hivegate hivegate …` is for other builds of Caddy.
		if strings.HasPrefix(p.Name(), "hivegate-hivegate") {
			continue
		}
		data, err := os.ReadFile(filepath.Join(man, p.Name()))
		if err != nil {
			return nil, err
		}
		files = append(files, file{name: "man/" + p.Name(), data: data})
	}
	return files, nil
}

// tracked reads a file, or the files of a folder, that git knows.
func tracked(path string) ([]file, error) {
	list, err := output("git", "ls-files", "--", path)
	if err != nil {
		return nil, err
	}
	if list == "" {
		return nil, fmt.Errorf("%s: git knows no such file", path)
	}
	var files []file
	for _, name := range strings.Split(list, "\n") {
		data, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		files = append(files, file{name: name, data: data, executable: strings.HasSuffix(name, ".sh")})
	}
	return files, nil
}

func pack(work, version, goos, goarch string, at time.Time, common []file) (string, []byte, error) {
	name := fmt.Sprintf("hivegate_%s_%s_%s", strings.TrimPrefix(version, "v"), goos, goarch)
	binary := "hivegate"
	if goos == "windows" {
		binary += ".exe"
	}
	path := filepath.Join(work, name)
	if err := build(path, version, goos, goarch); err != nil {
		return "", nil, err
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return "", nil, err
	}
	files := append([]file{{name: binary, data: data, executable: true}}, common...)
	if goos == "windows" {
		data, err = zipped(name, files, at)
		return name + ".zip", data, err
	}
	data, err = tarred(name, files, at)
	return name + ".tar.gz", data, err
}

// build builds cmd/hivegate; an empty goos is this machine.
func build(path, version, goos, goarch string) error {
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=true", //nolint:gosec // arguments of ours
		"-ldflags", "-s -w -X github.com/hivegate/hivegate/caddymodule.version="+version, "-o", path, "./cmd/hivegate")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if goos != "" {
		cmd.Env = append(cmd.Env, "GOOS="+goos, "GOARCH="+goarch)
	}
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build: %w\n%s", err, text)
	}
	return nil
}

func output(name string, args ...string) (string, error) {
	out, err := exec.Command(name, args...).Output() //nolint:gosec // arguments of ours
	if err != nil {
		return "", fmt.Errorf("%s %s: %w", name, strings.Join(args, " "), err)
	}
	return strings.TrimSpace(string(out)), nil
}
