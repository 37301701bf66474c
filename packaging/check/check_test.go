package check

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"sigs.k8s.io/yaml"
)

// kinds are the objects that the manifests may hold.
var kinds = map[string]func() any{
	"v1/ConfigMap":                  func() any { return new(corev1.ConfigMap) },
	"v1/Service":                    func() any { return new(corev1.Service) },
	"apps/v1/Deployment":            func() any { return new(appsv1.Deployment) },
	"policy/v1/PodDisruptionBudget": func() any { return new(policyv1.PodDisruptionBudget) },
}

// decode reads every document of a manifest into the type that its apiVersion and
// kind name. A member that the type does not have, or a value of another type, is
// an error.
func decode(t *testing.T, text []byte) (out []any) {
	t.Helper()
	for _, doc := range bytes.Split(text, []byte("\n---\n")) {
		var head struct{ APIVersion, Kind string }
		if err := yaml.Unmarshal(doc, &head); err != nil {
			t.Fatal(err)
		}
		make := kinds[head.APIVersion+"/"+head.Kind]
		if make == nil {
			t.Fatalf("unknown kind %s/%s", head.APIVersion, head.Kind)
		}
		obj := make()
		if err := yaml.UnmarshalStrict(doc, obj); err != nil {
			t.Fatalf("%s: %v", head.Kind, err)
		}
		out = append(out, obj)
	}
	return out
}

func read(t *testing.T, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", name))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestTheSidecarIsWhatKubernetesReads(t *testing.T) {
	var deployment *appsv1.Deployment
	var service *corev1.Service
	var config *corev1.ConfigMap
	for _, obj := range decode(t, read(t, "kubernetes/sidecar.yaml")) {
		switch o := obj.(type) {
		case *appsv1.Deployment:
			deployment = o
		case *corev1.Service:
			service = o
		case *corev1.ConfigMap:
			config = o
		}
	}
	if deployment == nil || service == nil || config == nil {
		t.Fatal("the manifest lacks the Deployment, the Service or the ConfigMap")
	}
	pod := deployment.Spec.Template
	for name, v := range deployment.Spec.Selector.MatchLabels {
		if pod.Labels[name] != v {
			t.Errorf("the Deployment does not select its own pods by %s", name)
		}
	}
	for name, v := range service.Spec.Selector {
		if pod.Labels[name] != v {
			t.Errorf("the Service does not select the pods by %s", name)
		}
	}
	i := slices.IndexFunc(pod.Spec.Containers, func(c corev1.Container) bool { return c.Name == "hivegate" })
	if i < 0 {
		t.Fatal("no container hivegate")
	}
	gate := pod.Spec.Containers[i]
	ports := map[string]int32{}
	for _, p := range gate.Ports {
		ports[p.Name] = p.ContainerPort
	}
	for _, p := range service.Spec.Ports {
		if ports[p.TargetPort.StrVal] == 0 {
			t.Errorf("the Service's target port %s is none of the gate's", p.TargetPort.String())
		}
	}
	caddyfile := config.Data["Caddyfile"]
	for what, probe := range map[string]*corev1.Probe{"liveness": gate.LivenessProbe, "readiness": gate.ReadinessProbe, "startup": gate.StartupProbe} {
		if probe == nil || probe.HTTPGet == nil {
			t.Errorf("no %s probe", what)
			continue
		}
		if path := probe.HTTPGet.Path; !regexp.MustCompile(`(health|ready) ` + regexp.QuoteMeta(path) + `\s`).MatchString(caddyfile) {
			t.Errorf("the %s probe asks for %s, which the Caddyfile does not serve", what, path)
		}
		if ports[probe.HTTPGet.Port.StrVal] == 0 {
			t.Errorf("the %s probe asks at a port that is none of the gate's", what)
		}
	}
	if gate.LivenessProbe.HTTPGet.Path != "/-/health" {
		t.Error("a store that is away must not restart the gate")
	}
	// Every secret that the Caddyfile reads is referred to, and none is in the file.
	given := map[string]bool{}
	for _, e := range gate.Env {
		given[e.Name] = e.ValueFrom != nil && e.ValueFrom.SecretKeyRef != nil && e.Value == ""
	}
	for _, m := range regexp.MustCompile(`\{env\.([A-Z_]+)\}`).FindAllStringSubmatch(caddyfile, -1) {
		if !given[m[1]] {
			t.Errorf("%s does not come from a Secret", m[1])
		}
	}
	for _, c := range pod.Spec.Containers {
		s := c.SecurityContext
		if s == nil || s.RunAsUser == nil || *s.RunAsUser == 0 || s.ReadOnlyRootFilesystem == nil || !*s.ReadOnlyRootFilesystem ||
			s.AllowPrivilegeEscalation == nil || *s.AllowPrivilegeEscalation || !slices.Contains(s.Capabilities.Drop, "ALL") {
			t.Errorf("container %s may do more than it needs", c.Name)
		}
		for _, m := range c.VolumeMounts {
			if !slices.ContainsFunc(pod.Spec.Volumes, func(v corev1.Volume) bool { return v.Name == m.Name }) {
				t.Errorf("container %s mounts %s, which is no volume", c.Name, m.Name)
			}
		}
	}
}

// The checks above are worth nothing if a misspelt member passes.
func TestAMisspeltMemberOfAManifestIsAnError(t *testing.T) {
	text := bytes.Replace(read(t, "kubernetes/sidecar.yaml"), []byte("livenessProbe:"), []byte("livenesProbe:"), 1)
	for _, doc := range bytes.Split(text, []byte("\n---\n")) {
		if bytes.Contains(doc, []byte("kind: Deployment")) {
			if err := yaml.UnmarshalStrict(doc, new(appsv1.Deployment)); err == nil {
				t.Error("livenesProbe passed")
			}
		}
	}
}

func TestComposeReadsTheComposeFiles(t *testing.T) {
	for _, path := range []string{"docker/compose.yaml", "../examples/fleet/compose.yaml"} {
		project, err := loader.LoadWithContext(context.Background(), types.ConfigDetails{
			WorkingDir:  filepath.Join("..", filepath.Dir(path)),
			ConfigFiles: []types.ConfigFile{{Filename: path, Content: read(t, path)}},
			Environment: types.Mapping{"HIVEGATE_MASTER_KEY": "k", "POSTGRES_PASSWORD": "p", "GATE_PASSWORD": "g"},
		}, func(o *loader.Options) { o.SetProjectName("hivegate", true) })
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		if len(project.Services) == 0 {
			t.Errorf("%s: no services", path)
		}
		for _, s := range project.Services {
			for _, p := range s.Ports {
				if p.HostIP != "127.0.0.1" {
					t.Errorf("%s: %s publishes port %s to the whole network", path, s.Name, p.Published)
				}
			}
		}
	}
}

// parse reads a Dockerfile as `docker build` does, and returns its stages and what
// BuildKit's linter says of its syntax.
func parse(t *testing.T, text []byte) (stages []instructions.Stage, warnings []string) {
	t.Helper()
	lint := linter.New(&linter.Config{Warn: func(rule, _, _, msg string, loc []parser.Range) {
		warnings = append(warnings, rule+": "+msg)
	}})
	result, err := parser.Parse(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	stages, _, err = instructions.Parse(result.AST, lint)
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range result.Warnings {
		warnings = append(warnings, w.Short)
	}
	return stages, warnings
}

func TestTheDockerfileIsSoundAndItsImageHasNoRoot(t *testing.T) {
	stages, warnings := parse(t, read(t, "docker/Dockerfile"))
	if len(warnings) > 0 {
		t.Errorf("BuildKit's linter: %s", strings.Join(warnings, "\n"))
	}
	last := stages[len(stages)-1]
	if !strings.Contains(last.BaseName, "distroless/static") || !strings.HasSuffix(last.BaseName, ":nonroot") {
		t.Errorf("the image is based on %s", last.BaseName)
	}
	names := map[string]bool{}
	for _, s := range stages {
		names[s.Name] = true
		if !strings.Contains(s.BaseName, ":") || strings.HasSuffix(s.BaseName, ":latest") {
			t.Errorf("%s has no tag", s.BaseName)
		}
	}
	var user string
	var entry []string
	for _, c := range last.Commands {
		switch c := c.(type) {
		case *instructions.UserCommand:
			user = c.User
		case *instructions.EntrypointCommand:
			entry = c.CmdLine
			if c.PrependShell {
				t.Error("the entry point needs a shell, and there is none")
			}
		case *instructions.RunCommand:
			t.Error("a RUN in a stage without a shell")
		case *instructions.CopyCommand:
			if c.From != "" && !names[c.From] {
				t.Errorf("COPY from %s, which is no stage", c.From)
			}
			if c.From == "" {
				for _, path := range c.SourcePaths {
					if _, err := os.Stat(filepath.Join("../..", path)); err != nil {
						t.Error(err)
					}
				}
			}
		}
	}
	if user == "" || strings.HasPrefix(user, "0") || strings.HasPrefix(user, "root") {
		t.Errorf("the image runs as %q", user)
	}
	if len(entry) != 1 || entry[0] != "/usr/bin/hivegate" {
		t.Errorf("the entry point is %q", entry)
	}
	// The Go of the image is the Go of go.mod.
	mod := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindSubmatch(read(t, "../go.mod"))
	if !strings.HasPrefix(stages[0].BaseName, "golang:"+string(mod[1])+"-") {
		t.Errorf("built with %s, go.mod says %s", stages[0].BaseName, mod[1])
	}
}

func TestTheLinterFindsMistakesInDockerfiles(t *testing.T) {
	if _, warnings := parse(t, []byte("FROM golang:1.26 as build\nMAINTAINER me\nfrom scratch AS Two\n")); len(warnings) == 0 {
		t.Error("nothing found in a Dockerfile with three mistakes")
	}
}
