package koala

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The sizes of the house (see docs/decisions for the reasons).
const (
	maxFuncLines   = 70
	maxFileLines   = 500
	maxFilesPerPkg = 12
)

var bannedNames = []string{"util", "utils", "common", "helper", "helpers", "models", "types", "misc"}

// A source is one parsed Go file of the tree.
type source struct {
	file string
	dir  string
	text []byte
	fset *token.FileSet
	ast  *ast.File
}

func (s source) isTest() bool { return strings.HasSuffix(s.file, "_test.go") }

func (s source) generated() bool {
	return bytes.Contains(s.text[:min(len(s.text), 400)], []byte("Code generated"))
}

func sources(t *testing.T) []source {
	t.Helper()
	var all []source
	for _, file := range goFiles(t) {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		fset := token.NewFileSet()
		parsed, err := parser.ParseFile(fset, file, text, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, source{file, filepath.ToSlash(filepath.Dir(file)), text, fset, parsed})
	}
	return all
}

func TestEveryPackageHasOneComment(t *testing.T) {
	comments := map[string][]string{}
	seen := map[string]bool{}
	for _, s := range sources(t) {
		if s.isTest() {
			continue
		}
		seen[s.dir] = true
		if s.ast.Doc != nil && !s.generated() {
			comments[s.dir] = append(comments[s.dir], s.file)
		}
	}
	for dir := range seen {
		if n := len(comments[dir]); n != 1 {
			t.Errorf("package %s has %d package comments %v, want one", dir, n, comments[dir])
		}
		if base := filepath.Base(dir); slices.Contains(bannedNames, base) {
			t.Errorf("package %s: a package is named by what it keeps, not %q", dir, base)
		}
	}
}

func TestSizes(t *testing.T) {
	files := map[string]int{}
	for _, s := range sources(t) {
		if s.generated() {
			continue
		}
		lines := bytes.Count(s.text, []byte("\n"))
		if lines > maxFileLines && !s.isTest() {
			t.Errorf("%s has %d lines, at most %d", s.file, lines, maxFileLines)
		}
		if !s.isTest() {
			files[s.dir]++
		}
		for _, d := range s.ast.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || fn.Body == nil {
				continue
			}
			n := s.fset.Position(fn.End()).Line - s.fset.Position(fn.Pos()).Line + 1
			if n > maxFuncLines && !s.isTest() {
				t.Errorf("%s: %s has %d lines, at most %d", s.file, fn.Name.Name, n, maxFuncLines)
			}
		}
	}
	for dir, n := range files {
		if n > maxFilesPerPkg && dir != "cmd/koala" {
			t.Errorf("package %s has %d files, at most %d", dir, n, maxFilesPerPkg)
		}
	}
}

// TestClockIsRead only where floors_test lets chance in.
func TestTimeComesInFromOutside(t *testing.T) {
	for _, s := range sources(t) {
		if s.isTest() || slices.Contains(outsideWorld, s.dir) || s.dir == "ledger/ledgerbench" {
			continue
		}
		ast.Inspect(s.ast, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			if x, ok := sel.X.(*ast.Ident); ok && x.Name == "time" && (sel.Sel.Name == "Now" || sel.Sel.Name == "Since") {
				t.Errorf("%s reads the clock: take the time from outside", s.fset.Position(n.Pos()))
			}
			return true
		})
	}
}

var tableUse = regexp.MustCompile(`(?i)\b(?:FROM|INTO|UPDATE|JOIN|TABLE(?: IF NOT EXISTS)?|INDEX \w+ ON)\s+([a-z]+_[a-z_]+)\b`)

// TestSQLStaysWithItsOwner: a table's name begins with its package's, and
// only that package names it. report reads across by its charter.
func TestSQLStaysWithItsOwner(t *testing.T) {
	for _, s := range sources(t) {
		if s.isTest() || s.dir == "report" {
			continue
		}
		ast.Inspect(s.ast, func(n ast.Node) bool {
			lit, ok := n.(*ast.BasicLit)
			if !ok || lit.Kind != token.STRING || !strings.ContainsAny(lit.Value, " \n") {
				return true
			}
			for _, m := range tableUse.FindAllStringSubmatch(lit.Value, -1) {
				owner, _, _ := strings.Cut(m[1], "_")
				if !slices.Contains(strings.Split(s.dir, "/"), owner) && !foreignCatalog(m[1]) && isSQL(lit.Value) {
					t.Errorf("%s names table %s, which package %s owns", s.fset.Position(lit.Pos()), m[1], owner)
				}
			}
			return true
		})
	}
}

// foreignCatalog is true for the engines' own tables.
func foreignCatalog(table string) bool {
	return strings.HasPrefix(table, "pg_") || strings.HasPrefix(table, "sqlite_") || strings.HasPrefix(table, "information_")
}

func isSQL(literal string) bool {
	for _, verb := range []string{"SELECT ", "INSERT ", "UPDATE ", "DELETE ", "CREATE "} {
		if strings.Contains(literal, verb) {
			return true
		}
	}
	return false
}
