package route_test

import (
	"errors"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"koala/internal/db"
	"koala/internal/db/dbtest"
	"koala/switching/route"
)

const tables = `CREATE TABLE switching_route (prefix TEXT NOT NULL, length BIGINT NOT NULL, host TEXT NOT NULL, class TEXT NOT NULL,
	abroad BOOLEAN NOT NULL, standin BIGINT NOT NULL, source TEXT NOT NULL, PRIMARY KEY (prefix, length))`

// TestTable: the longest prefix wins, a length before any; routes come back as
// they were written, and those of an older store have one way.
func TestTable(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, s *db.Store) {
		old := db.Schema{Owner: "switching", Steps: []string{tables}}
		err := s.Migrate(t.Context(), old)
		if err == nil {
			err = s.Write(t.Context(), func(tx *db.Tx) error {
				_, err := tx.Exec(`INSERT INTO switching_route (prefix, length, host, class, abroad, standin, source) VALUES ('62', 0, 'CUP', 'debit', FALSE, 0, 'old')`)
				return err
			})
		}
		old.Steps = append(old.Steps, route.Step)
		if err == nil {
			err = s.Migrate(t.Context(), old)
		}
		if err != nil {
			t.Fatal(err)
		}
		want := []route.Route{{Prefix: "62", Host: "CUP", Class: "debit", Source: "old"},
			{Prefix: "6225", Host: "CMB", Ways: []string{"CUP", "NUCC"}, Class: "credit", StandIn: 100_00, Source: "staff"},
			{Prefix: "6225", Length: 16, Class: "debit", Source: "staff"}}
		var table *route.Table
		err = s.Write(t.Context(), func(tx *db.Tx) error { return errors.Join(route.Set(tx, want[1]), route.Set(tx, want[2])) })
		if err == nil {
			err = s.Read(t.Context(), func(q *db.Query) error {
				list, err := route.List(q, "", 10)
				if !reflect.DeepEqual(list, want) {
					t.Errorf("%+v, want %+v", list, want)
				}
				if err == nil {
					table, err = route.Load(q)
				}
				return err
			})
		}
		if err != nil {
			t.Fatal(err)
		}
		for number, i := range map[string]int{"6200000000000000": 0, "6225000000000000": 2, "6225000000000000000": 1} {
			if r, ok := table.Of(number); !ok || !reflect.DeepEqual(r, want[i]) {
				t.Errorf("%s: %+v %v, want %+v", number, r, ok, want[i])
			}
		}
		if r, ok := table.Of("4000000000000000"); ok {
			t.Errorf("no route: %+v", r)
		}
	})
}

func TestNoRoute(t *testing.T) {
	for _, r := range []route.Route{{}, {Prefix: "62x"}, {Prefix: "6225880000001"}, {Prefix: "62", StandIn: -1}, {Prefix: "62", Ways: []string{"CUP"}},
		{Prefix: "62", Host: "CUP", Ways: []string{"CUP"}}, {Prefix: "62", Host: "CUP", Ways: []string{""}}, {Prefix: "62", Host: "C UP"},
		{Prefix: "62", Host: "A", Ways: []string{"B", "C", "D", "E"}}} {
		if err := route.Set(nil, r); !errors.Is(err, route.ErrRoute) {
			t.Errorf("%+v: %v", r, err)
		}
	}
}

// TestCosts: fees with a cap make one way cheaper for small sales and the other
// for large ones.
func TestCosts(t *testing.T) {
	costs := route.Costs{
		{Host: "DIRECT", Class: "debit", Upto: 100_00, Count: 1000, Fen: 50_000_00, Fee: 250_00}, // 0.5%
		{Host: "DIRECT", Class: "debit", Count: 50, Fen: 500_000_00, Fee: 1_000_00},              // at most 20 yuan each
		{Host: "CUP", Class: "debit", Upto: 100_00, Count: 1000, Fen: 50_000_00, Fee: 195_00},    // 0.39%
		{Host: "CUP", Class: "debit", Count: 50, Fen: 500_000_00, Fee: 1_950_00},
		{Host: "NEW", Class: "debit", Count: 19, Fen: 1_000_00, Fee: 1},
	}
	for _, tt := range []struct {
		host, class string
		fen, ppm    int64
		known       bool
	}{
		{"DIRECT", "debit", 1, 5000, true}, {"DIRECT", "debit", 100_00, 5000, true}, {"DIRECT", "debit", 100_01, 2000, true}, {"CUP", "debit", 99_00, 3900, true},
		{"CUP", "credit", 99_00, 0, false}, {"NEW", "debit", 1_00, 0, false}, {"NONE", "debit", 1_00, 0, false},
	} {
		if ppm, known := costs.Of(tt.host, tt.class, tt.fen); ppm != tt.ppm || known != tt.known {
			t.Errorf("%s %s %d: %d %v, want %d %v", tt.host, tt.class, tt.fen, ppm, known, tt.ppm, tt.known)
		}
	}
	r := route.Route{Prefix: "62", Host: "DIRECT", Ways: []string{"CUP"}, Class: "debit"}
	all := func(string) bool { return true }
	none := func(string) bool { return false }
	first := func(r route.Route, fen int64, here, down func(string) bool) string {
		return r.Order(fen, costs, here, down)[0].Host
	}
	with := r
	with.Ways = []string{"CUP", "NEW"}
	for _, tt := range []struct{ what, got, want string }{
		{"small", first(r, 50_00, all, none), "CUP"},
		{"large", first(r, 9000_00, all, none), "DIRECT"},
		{"one of unknown cost", first(with, 50_00, all, none), "DIRECT"},
		{"the unknown has no line", first(with, 50_00, func(h string) bool { return h != "NEW" }, none), "CUP"},
		{"the cheapest is out of reach", first(r, 50_00, all, func(h string) bool { return h == "CUP" }), "DIRECT"},
		{"no line at all", first(r, 50_00, none, none), "DIRECT"},
	} {
		if tt.got != tt.want {
			t.Errorf("%s: %s, want %s", tt.what, tt.got, tt.want)
		}
	}
}

// TestOrderKeepsWays: whatever costs are, each way with a line is tried once, and
// those out of reach last.
func TestOrderKeepsWays(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		hosts := []string{"A", "B", "C", "D"}
		var costs route.Costs
		for _, h := range hosts {
			costs = append(costs, route.Cost{Host: h, Class: "debit", Count: rapid.Int64Range(0, 50).Draw(t, "n"), Fen: rapid.Int64Range(-1, 1<<60).Draw(t, "fen"), Fee: rapid.Int64Range(-1<<60, 1<<62).Draw(t, "fee")})
		}
		here := rapid.SliceOfDistinct(rapid.SampledFrom(hosts), rapid.ID).Draw(t, "here")
		down := rapid.SliceOfDistinct(rapid.SampledFrom(hosts), rapid.ID).Draw(t, "down")
		in := func(list []string) func(string) bool {
			return func(h string) bool { return slices.Contains(list, h) }
		}
		got := route.Route{Prefix: "6", Host: "A", Ways: hosts[1:], Class: "debit"}.Order(rapid.Int64Range(0, 1<<50).Draw(t, "amount"), costs, in(here), in(down))
		seen := map[string]bool{}
		out := false
		for i, c := range got {
			if seen[c.Host] || len(here) > 0 && !slices.Contains(here, c.Host) || out && !c.Down {
				t.Fatalf("%+v", got)
			}
			if i > 0 && c.Known && got[i-1].Known && c.Down == got[i-1].Down && c.PPM < got[i-1].PPM && !slices.ContainsFunc(got, func(c route.Choice) bool { return !c.Known }) {
				t.Fatalf("dearer first: %+v", got)
			}
			seen[c.Host], out = true, out || c.Down
		}
		if len(got) != max(len(here), 1) {
			t.Fatalf("%d ways of %d", len(got), len(here))
		}
	})
}
