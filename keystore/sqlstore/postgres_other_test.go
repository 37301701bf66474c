//go:build !unix

package sqlstore_test

func closeServers() {}
