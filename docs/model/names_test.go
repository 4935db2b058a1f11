package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Every function that README.md names is in the code, and every mutant is in
// README.md with its rule and at least one of them.
func TestNamesInTheCode(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	for _, dir := range []string{"fsm", "raftnode", "driverhost", "driverhost/file", "driverhost/process"} {
		maps.Copy(known, declared(t, dir))
	}
	names := regexp.MustCompile("`((?:fsm|raftnode|driverhost|file|process)\\.[\\w.]+)`")
	for _, found := range names.FindAllStringSubmatch(string(readme), -1) {
		if !known[found[1]] {
			t.Errorf("README.md names %s, which is not in the code", found[1])
		}
	}
	for _, m := range mutants() {
		row := "| " + m.name + " | " + m.rule + " | "
		_, rest, ok := strings.Cut(string(readme), row)
		line, _, _ := strings.Cut(rest, "\n")
		if !ok || !names.MatchString(line) {
			t.Errorf("README.md has no line %q with a function of the code", row)
		}
	}
	for _, r := range runs() {
		if !strings.Contains(string(readme), "| "+r.name+" | "+r.shows+" | ") {
			t.Errorf("README.md has no result of the run %s: %s", r.name, r.shows)
		}
	}
}

// declared returns the functions and methods of a package, as package.Name and
// package.Type.Name.
func declared(t *testing.T, dir string) map[string]bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("..", "..", dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, path := range files {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok {
				names[file.Name.Name+"."+receiver(f)+f.Name.Name] = true
			}
		}
	}
	return names
}

func receiver(f *ast.FuncDecl) string {
	if f.Recv == nil {
		return ""
	}
	of := f.Recv.List[0].Type
	if star, ok := of.(*ast.StarExpr); ok {
		of = star.X
	}
	name, ok := of.(*ast.Ident)
	if !ok {
		return ""
	}
	return name.Name + "."
}
