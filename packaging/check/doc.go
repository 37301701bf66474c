// Package check judges the files of packaging/ with the libraries of those who
// read them: Kubernetes' own types, Docker Compose's loader, BuildKit's parser.
// It is a module of its own, so that hivegate depends on none of them.
//
//	cd packaging/check && go test ./...
package check
