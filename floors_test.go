package koala

import (
	"go/parser"
	"go/token"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A floor is one line of floors.txt: a package and what it may import.
type floor struct {
	name    string
	allowed []string
}

func readFloors(t *testing.T) []floor {
	t.Helper()
	text, err := os.ReadFile("floors.txt")
	if err != nil {
		t.Fatal(err)
	}
	var floors []floor
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, allowed, ok := strings.Cut(line, ":")
		if !ok {
			t.Fatalf("floors.txt: %q has no colon", line)
		}
		floors = append(floors, floor{name, strings.Fields(allowed)})
	}
	return floors
}

// allows says whether pattern (a package, "dir/*" or "*") covers pkg.
func allows(pattern, pkg string) bool {
	if dir, ok := strings.CutSuffix(pattern, "*"); ok {
		return strings.HasPrefix(pkg, dir)
	}
	return pattern == pkg
}

// TestFloorsAreOrdered holds the order that makes cycles unwritable: a line
// names only packages of lines above it.
func TestFloorsAreOrdered(t *testing.T) {
	var above []string
	for _, f := range readFloors(t) {
		for _, a := range f.allowed {
			known := slices.ContainsFunc(above, func(name string) bool { return allows(a, name) })
			if !known {
				t.Errorf("floors.txt: %s names %s, which no line above it has", f.name, a)
			}
		}
		if slices.Contains(above, f.name) {
			t.Errorf("floors.txt: %s has two lines", f.name)
		}
		above = append(above, f.name)
	}
}

// TestImportsFollowTheFloors reads every file's imports. External tests
// (package x_test) may import anything: nobody imports them.
func TestImportsFollowTheFloors(t *testing.T) {
	byName := map[string]floor{}
	for _, f := range readFloors(t) {
		byName[f.name] = f
	}
	for _, file := range goFiles(t) {
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		dir := filepath.ToSlash(filepath.Dir(file))
		if dir == "." || strings.HasSuffix(parsed.Name.Name, "_test") {
			continue
		}
		f, ok := byName[dir]
		if !ok {
			t.Errorf("%s: package %s has no line in floors.txt", file, dir)
			continue
		}
		for _, imp := range parsed.Imports {
			target, ours := strings.CutPrefix(strings.Trim(imp.Path.Value, `"`), "koala/")
			if ours && !slices.ContainsFunc(f.allowed, func(a string) bool { return allows(a, target) }) {
				t.Errorf("%s imports %s, which its floor does not allow", file, target)
			}
			if !ours {
				checkOutside(t, file, dir, strings.Trim(imp.Path.Value, `"`))
			}
		}
	}
}

// chance and time enter at these places only.
var outsideWorld = []string{"internal/clock", "app", "city", "cmd/koala"}

func checkOutside(t *testing.T, file, dir, imp string) {
	t.Helper()
	if strings.HasSuffix(file, "_test.go") {
		return
	}
	if path.Base(imp) == "rand" || strings.HasPrefix(imp, "math/rand") {
		if !slices.Contains(outsideWorld, dir) {
			t.Errorf("%s imports %s: chance comes in from outside", file, imp)
		}
	}
	pure := strings.HasPrefix(dir, "spec/") || dir == "fare" || dir == "money" || dir == "calendar"
	if pure && slices.Contains([]string{"os", "net", "net/http", "database/sql", "log", "log/slog", "context"}, imp) {
		t.Errorf("%s imports %s: this package is pure", file, imp)
	}
}

func goFiles(t *testing.T) []string {
	t.Helper()
	var files []string
	err := filepath.WalkDir(".", func(name string, d os.DirEntry, err error) error {
		if err == nil && d.IsDir() && (strings.HasPrefix(d.Name(), ".") && name != "." || d.Name() == "testdata") {
			return filepath.SkipDir
		}
		if err == nil && strings.HasSuffix(name, ".go") {
			files = append(files, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// creditPackages score, lend or judge risk.
var creditPackages = []string{"bureau", "risk", "lending", "p2p", "supply", "acquiring", "payment"}

// TestActivityStaysOutOfCredit: what a band counts of its wearer's steps and
// sleep is no reason for or against credit. Nothing that decides may see it,
// not even through a package in between.
func TestActivityStaysOutOfCredit(t *testing.T) {
	imports := map[string][]string{}
	for _, file := range goFiles(t) {
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		dir := filepath.ToSlash(filepath.Dir(file))
		for _, imp := range parsed.Imports {
			if target, ours := strings.CutPrefix(strings.Trim(imp.Path.Value, `"`), "koala/"); ours && !strings.HasSuffix(file, "_test.go") {
				imports[dir] = append(imports[dir], target)
			}
		}
	}
	var reaches func(pkg string, seen map[string]bool) bool
	reaches = func(pkg string, seen map[string]bool) bool {
		if pkg == "activity" || seen[pkg] {
			return pkg == "activity"
		}
		seen[pkg] = true
		return slices.ContainsFunc(imports[pkg], func(p string) bool { return reaches(p, seen) })
	}
	for _, pkg := range creditPackages {
		if reaches(pkg, map[string]bool{}) {
			t.Errorf("package %s can see a wearer's steps and sleep", pkg)
		}
	}
	for _, f := range readFloors(t) {
		if slices.Contains(creditPackages, f.name) && slices.ContainsFunc(f.allowed, func(a string) bool { return allows(a, "activity") }) {
			t.Errorf("floors.txt lets package %s see a wearer's steps and sleep", f.name)
		}
	}
}
