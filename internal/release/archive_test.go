package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"testing"
	"time"
)

var some = []file{{"hivegate", []byte("binary"), true}, {"docs/a.md", []byte("text"), false}}

func TestArchivesHoldTheirFilesAndNothingOfTheMachine(t *testing.T) {
	at := time.Date(2026, 11, 21, 22, 51, 12, 0, time.UTC)
	packed, err := tarred("hivegate_1_linux", some, at)
	if err != nil {
		t.Fatal(err)
	}
	again, err := tarred("hivegate_1_linux", some, at)
	if err != nil || !bytes.Equal(packed, again) {
		t.Errorf("two archives of the same files differ (%v)", err)
	}
	plain, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	r := tar.NewReader(plain)
	for _, want := range some {
		h, err := r.Next()
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		if err != nil || h.Name != "hivegate_1_linux/"+want.name || !bytes.Equal(data, want.data) ||
			h.Mode != want.mode() || h.Uid != 0 || h.Uname != "" || !h.ModTime.Equal(at) {
			t.Errorf("%+v %q (%v), want %+v", h, data, err, want)
		}
	}
	if _, err := r.Next(); !errors.Is(err, io.EOF) {
		t.Errorf("more files than were given: %v", err)
	}
}

func TestZipsHoldTheirFilesAndNothingOfTheMachine(t *testing.T) {
	at := time.Date(2026, 11, 21, 22, 51, 12, 0, time.UTC)
	packed, err := zipped("hivegate_1_windows", some, at)
	if err != nil {
		t.Fatal(err)
	}
	again, err := zipped("hivegate_1_windows", some, at)
	if err != nil || !bytes.Equal(packed, again) {
		t.Errorf("two archives of the same files differ (%v)", err)
	}
	r, err := zip.NewReader(bytes.NewReader(packed), int64(len(packed)))
	if err != nil || len(r.File) != len(some) {
		t.Fatalf("%d files (%v)", len(r.File), err)
	}
	for i, f := range r.File {
		in, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(in)
		if err != nil || f.Name != "hivegate_1_windows/"+some[i].name || !bytes.Equal(data, some[i].data) || !f.Modified.Equal(at) {
			t.Errorf("%+v %q (%v)", f.FileHeader, data, err)
		}
	}
}
