// Command protogen writes the Go code of a protobuf file, with the generators that
// scripts/tools pins and a compiler that is a Go library: nothing has to be installed.
// It is run in the root of the repository.
//
//	protogen [-check] FILE.proto
//
// With -check it writes nothing, and fails if the code is not what it would write.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/bufbuild/protocompile"
	"github.com/bufbuild/protocompile/protoutil"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/pluginpb"
)

func main() {
	check := flag.Bool("check", false, "only check that the code is current")
	flag.Parse()
	if flag.NArg() != 1 {
		fmt.Fprintln(os.Stderr, "usage: protogen [-check] FILE.proto")
		os.Exit(2)
	}
	put := write
	if *check {
		put = compare
	}
	if err := run(context.Background(), flag.Arg(0), put); err != nil {
		fmt.Fprintln(os.Stderr, "protogen:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, path string, put func(path string, content []byte) error) error {
	dir, name := filepath.Split(path)
	compiler := protocompile.Compiler{
		Resolver:       protocompile.WithStandardImports(&protocompile.SourceResolver{ImportPaths: []string{dir}}),
		SourceInfoMode: protocompile.SourceInfoStandard,
	}
	files, err := compiler.Compile(ctx, name)
	if err != nil {
		return err
	}
	request := &pluginpb.CodeGeneratorRequest{
		FileToGenerate: []string{name},
		Parameter:      new("paths=source_relative"),
		ProtoFile:      []*descriptorpb.FileDescriptorProto{protoutil.ProtoFromFileDescriptor(files[0])},
	}
	for _, tool := range []string{"protoc-gen-go", "protoc-gen-go-grpc"} {
		response, err := generate(ctx, tool, request)
		if err != nil {
			return fmt.Errorf("%s: %w", tool, err)
		}
		for _, f := range response.GetFile() {
			if err := put(filepath.Join(dir, f.GetName()), []byte(f.GetContent())); err != nil {
				return err
			}
		}
	}
	return nil
}

func generate(ctx context.Context, tool string, request *pluginpb.CodeGeneratorRequest) (*pluginpb.CodeGeneratorResponse, error) {
	in, err := proto.Marshal(request)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, "go", "tool", "-modfile=scripts/tools/go.mod", tool)
	cmd.Stdin, cmd.Stderr = bytes.NewReader(in), os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, err
	}
	response := &pluginpb.CodeGeneratorResponse{}
	if err := proto.Unmarshal(out, response); err != nil {
		return nil, err
	}
	if response.Error != nil {
		return nil, errors.New(response.GetError())
	}
	return response, nil
}

func write(path string, content []byte) error { return os.WriteFile(path, content, 0o644) }

func compare(path string, content []byte) error {
	now, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if !bytes.Equal(now, content) {
		return fmt.Errorf("%s is not what the .proto file says: run 'make generate'", path)
	}
	return nil
}
