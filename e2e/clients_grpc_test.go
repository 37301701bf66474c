//go:build clients

package e2e

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// rpcBackend is a gRPC server of the interoperability tests' service.
type rpcBackend struct {
	testpb.UnimplementedTestServiceServer
	addr string
	// ended is told when a stream's context has.
	ended chan struct{}
}

func newRPCBackend(t *testing.T) *rpcBackend {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &rpcBackend{addr: l.Addr().String(), ended: make(chan struct{}, 1)}
	srv := grpc.NewServer()
	testpb.RegisterTestServiceServer(srv, b)
	go func() { _ = srv.Serve(l) }()
	t.Cleanup(srv.Stop)
	return b
}

// UnaryCall answers with as many bytes as were asked for and who was calling, or
// with the status that was.
func (b *rpcBackend) UnaryCall(ctx context.Context, in *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	_ = grpc.SetHeader(ctx, metadata.Pairs("x-first", "in the headers"))
	_ = grpc.SetTrailer(ctx, metadata.Pairs("x-last", "in the trailers", "x-last-bin", "\x00\x01\xff"))
	if s := in.GetResponseStatus(); s.GetCode() != 0 {
		return nil, status.Error(codes.Code(s.GetCode()), s.GetMessage())
	}
	return &testpb.SimpleResponse{
		Payload:  &testpb.Payload{Body: make([]byte, in.GetResponseSize())},
		Username: strings.Join(md.Get("x-auth-id"), ",") + "/" + strings.Join(md.Get("authorization"), ","),
	}, nil
}

func (b *rpcBackend) StreamingOutputCall(in *testpb.StreamingOutputCallRequest, s grpc.ServerStreamingServer[testpb.StreamingOutputCallResponse]) error {
	for _, p := range in.GetResponseParameters() {
		if err := s.Send(&testpb.StreamingOutputCallResponse{Payload: &testpb.Payload{Body: make([]byte, p.GetSize())}}); err != nil {
			return err
		}
	}
	s.SetTrailer(metadata.Pairs("x-last", "after the stream"))
	return nil
}

func (b *rpcBackend) StreamingInputCall(s grpc.ClientStreamingServer[testpb.StreamingInputCallRequest, testpb.StreamingInputCallResponse]) error {
	sum := 0
	for {
		in, err := s.Recv()
		if errors.Is(err, io.EOF) {
			return s.SendAndClose(&testpb.StreamingInputCallResponse{AggregatedPayloadSize: int32(sum)})
		}
		if err != nil {
			return err
		}
		sum += len(in.GetPayload().GetBody())
	}
}

// FullDuplexCall sends each payload back before the next one comes.
func (b *rpcBackend) FullDuplexCall(s grpc.BidiStreamingServer[testpb.StreamingOutputCallRequest, testpb.StreamingOutputCallResponse]) error {
	for {
		in, err := s.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			b.ended <- struct{}{}
			return err
		}
		if err := s.Send(&testpb.StreamingOutputCallResponse{Payload: in.GetPayload()}); err != nil {
			return err
		}
	}
}

// rpcGate is a gate in front of gRPC, and a client of it.
func rpcGate(t *testing.T) (*gate, *rpcBackend, testpb.TestServiceClient) {
	t.Helper()
	b := newRPCBackend(t)
	g := start(t, config{
		options: "servers {\n\t\tprotocols h1 h2c\n\t}",
		global:  cheap,
		gate: `routes {
			POST /grpc.testing.TestService/{call} rpc:call
			POST /grpc.testing.TestService/EmptyCall rpc:admin
		}`,
		after: "reverse_proxy h2c://" + b.addr,
	})
	conn, err := grpc.NewClient("passthrough:///"+g.sites[0], grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithNoProxy())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return g, b, testpb.NewTestServiceClient(conn)
}

// as calls with a key, within a minute.
func as(t *testing.T, credential string) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	if credential == "" {
		return ctx
	}
	return metadata.AppendToOutgoingContext(ctx, "authorization", credential)
}

func TestClientsGRPC(t *testing.T) {
	g, _, client := rpcGate(t)
	k := g.createScoped(t, "rpc:call")
	ctx := as(t, "Bearer "+k.Key)
	t.Run("unary, with headers and trailers", func(t *testing.T) {
		var first, last metadata.MD
		out, err := client.UnaryCall(ctx, &testpb.SimpleRequest{ResponseSize: 300_000, Payload: &testpb.Payload{Body: make([]byte, 200_000)}}, grpc.Header(&first), grpc.Trailer(&last))
		if err != nil || len(out.GetPayload().GetBody()) != 300_000 {
			t.Fatalf("%d bytes, %v", len(out.GetPayload().GetBody()), err)
		}
		if out.GetUsername() != k.ID+"/" {
			t.Errorf("the backend was told %q, want the key's id and no key", out.GetUsername())
		}
		if !slices.Equal(first.Get("x-first"), []string{"in the headers"}) || !slices.Equal(last.Get("x-last"), []string{"in the trailers"}) ||
			!slices.Equal(last.Get("x-last-bin"), []string{"\x00\x01\xff"}) {
			t.Errorf("headers %v, trailers %v", first, last)
		}
		if len(first.Get("x-request-id")) != 1 {
			t.Errorf("headers %v, want the gate's x-request-id", first)
		}
	})
	t.Run("a status of the backend", func(t *testing.T) {
		var last metadata.MD
		_, err := client.UnaryCall(ctx, &testpb.SimpleRequest{ResponseStatus: &testpb.EchoStatus{Code: int32(codes.FailedPrecondition), Message: "nicht jetzt ☃"}}, grpc.Trailer(&last))
		if s := status.Convert(err); s.Code() != codes.FailedPrecondition || s.Message() != "nicht jetzt ☃" || len(last.Get("x-last")) != 1 {
			t.Errorf("%v, trailers %v", err, last)
		}
	})
	t.Run("stream of the server", func(t *testing.T) {
		s, err := client.StreamingOutputCall(ctx, &testpb.StreamingOutputCallRequest{ResponseParameters: []*testpb.ResponseParameters{{Size: 1}, {Size: 70_000}, {Size: 3}}})
		if err != nil {
			t.Fatal(err)
		}
		var sizes []int
		for {
			out, err := s.Recv()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			sizes = append(sizes, len(out.GetPayload().GetBody()))
		}
		if !slices.Equal(sizes, []int{1, 70_000, 3}) || !slices.Equal(s.Trailer().Get("x-last"), []string{"after the stream"}) {
			t.Errorf("%v, trailers %v", sizes, s.Trailer())
		}
	})
	t.Run("stream of the client", func(t *testing.T) {
		s, err := client.StreamingInputCall(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range []int{1, 70_000, 3} {
			if err := s.Send(&testpb.StreamingInputCallRequest{Payload: &testpb.Payload{Body: make([]byte, n)}}); err != nil {
				t.Fatal(err)
			}
		}
		if out, err := s.CloseAndRecv(); err != nil || out.GetAggregatedPayloadSize() != 70_004 {
			t.Errorf("%v %v", out, err)
		}
	})
	t.Run("both at once", func(t *testing.T) {
		s, err := client.FullDuplexCall(ctx)
		if err != nil {
			t.Fatal(err)
		}
		// Each answer is awaited before the next message: nothing may be held back.
		for i := range 10 {
			sent := bytes.Repeat([]byte{byte(i)}, 1000*i)
			if err := s.Send(&testpb.StreamingOutputCallRequest{Payload: &testpb.Payload{Body: sent}}); err != nil {
				t.Fatal(err)
			}
			if out, err := s.Recv(); err != nil || !bytes.Equal(out.GetPayload().GetBody(), sent) {
				t.Fatalf("message %d: %v", i, err)
			}
		}
		if err := s.CloseSend(); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Recv(); !errors.Is(err, io.EOF) {
			t.Errorf("the stream ended with %v", err)
		}
	})
}

// A refusal has no gRPC status; the client makes one of the HTTP status.
func TestClientsGRPCSeeRefusalsAsStatus(t *testing.T) {
	g, b, client := rpcGate(t)
	k, limited := g.createScoped(t, "rpc:call"), g.create(t, "--scope", "rpc:call", "--requests", "1/h")
	unary := func(ctx context.Context) error {
		_, err := client.UnaryCall(ctx, &testpb.SimpleRequest{})
		return err
	}
	empty := func(ctx context.Context) error {
		_, err := client.EmptyCall(ctx, &testpb.Empty{})
		return err
	}
	stream := func(ctx context.Context) error {
		s, err := client.FullDuplexCall(ctx)
		if err != nil {
			return err
		}
		_, err = s.Recv()
		return err
	}
	if err := unary(as(t, "Bearer "+limited.Key)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		what       string
		call       func(context.Context) error
		credential string
		code       codes.Code
		http       string
	}{
		{"no key", unary, "", codes.Unauthenticated, "401"},
		{"no key, stream", stream, "", codes.Unauthenticated, "401"},
		{"a key without Bearer", unary, k.Key, codes.Unauthenticated, "401"},
		{"a scope is missing", empty, "Bearer " + k.Key, codes.PermissionDenied, "403"},
		{"the limit is reached", unary, "Bearer " + limited.Key, codes.Unavailable, "429"},
		{"the limit is reached, stream", stream, "Bearer " + limited.Key, codes.Unavailable, "429"},
	} {
		s := status.Convert(c.call(as(t, c.credential)))
		if s.Code() != c.code || !strings.Contains(s.Message(), c.http) {
			t.Errorf("%s: %s %q, want %s for HTTP %s", c.what, s.Code(), s.Message(), c.code, c.http)
		}
		mustHoldNoSecret(t, c.what, s.Message())
	}
	// The end of a key ends its streams, on both sides.
	s, err := client.FullDuplexCall(as(t, "Bearer "+k.Key))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Send(&testpb.StreamingOutputCallRequest{}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Recv(); err != nil {
		t.Fatal(err)
	}
	g.hivegate(t, "apikey", "revoke", k.ID).ok(t)
	revoked := time.Now()
	_, err = s.Recv()
	if took := time.Since(revoked); err == nil || errors.Is(err, io.EOF) || took > time.Second {
		t.Errorf("the client's stream ended with %v after %s", err, took)
	}
	select {
	case <-b.ended:
	case <-time.After(10 * time.Second):
		t.Error("the backend's stream did not end")
	}
	t.Logf("a stream whose key is revoked ends with %s: %s", status.Code(err), status.Convert(err).Message())
}
