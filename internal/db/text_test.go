package db_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"koala/internal/clock"
	"koala/internal/db"
	"koala/internal/db/dbtest"
)

func TestNumbered(t *testing.T) {
	for _, tt := range []struct {
		in, out string
		params  int
	}{
		{"SELECT 1", "SELECT 1", 0},
		{"SELECT $2, $1, $2", "SELECT ?2, ?1, ?2", 2},
		{"a = $10 AND b='$1' -- $99\nAND c=$3", "a = ?10 AND b='$1' -- $99\nAND c=?3", 10},
		{`"$1" /* $2 */ $3`, `"$1" /* $2 */ ?3`, 3},
		{"'it''s $1' || $1", "'it''s $1' || ?", 1},
		{"cost $ $0 $x $", "cost $ $0 $x $", 0},
		{"/*", "/*", 0},
		{"'open $1", "'open $1", 0},
		{"$1::text", "?::text", 1},
		{"$1, $2, $1, $3", "?, ?, ?1, ?", 3},
	} {
		if out, n := db.Numbered(tt.in); out != tt.out || n != tt.params {
			t.Errorf("%q: %q, %d; want %q, %d", tt.in, out, n, tt.out, tt.params)
		}
	}
}

func FuzzNumbered(f *testing.F) {
	f.Add("SELECT $1, '$2' -- $3")
	f.Add(`/* " */ "$1`)
	f.Fuzz(func(t *testing.T, in string) {
		out, n := db.Numbered(in)
		if len(out) > len(in) || n < 0 {
			t.Fatalf("%q became %q with %d", in, out, n)
		}
		at := 0 // what is not a parameter stays as it is
		for i := range len(out) {
			if at < len(in) && in[at] == out[i] {
				at++
				continue
			}
			if out[i] != '?' || at == len(in) || in[at] != '$' {
				t.Fatalf("%q became %q", in, out)
			}
			for at++; at < len(in) && in[at] >= '0' && in[at] <= '9' && (i+1 == len(out) || out[i+1] != in[at]); at++ {
			}
		}
		if n == 0 && in != out || strings.Count(in, "$") < strings.Count(out, "?")-strings.Count(in, "?") {
			t.Fatalf("%q became %q with %d", in, out, n)
		}
	})
}

func TestIDsRiseAndDiffer(t *testing.T) {
	c := clock.NewVirtual(time.Date(2015, 9, 16, 0, 0, 0, 0, time.UTC))
	s := dbtest.Open(t, func(cfg *db.Config) { cfg.Clock = c })
	var list []string
	var seqs []int64
	for i := range 3000 {
		if i%7 == 0 {
			c.Advance(time.Millisecond)
		}
		err := s.Write(ctx, func(tx *db.Tx) error {
			list = append(list, tx.NewID("acct"))
			seqs = append(seqs, tx.NewSeq())
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if !slices.IsSorted(list) || len(slices.Compact(slices.Clone(list))) != len(list) {
		t.Error("the ids do not rise")
	}
	if id := list[0]; len(id) != len("acct_")+24 || !strings.HasPrefix(id, "acct_") {
		t.Errorf("id %q", id)
	}
}

// TestSeqsRiseOverRestarts: numbers of kept rows rise with the commits.
func TestSeqsRiseOverRestarts(t *testing.T) {
	dbtest.EachConfig(t, func(t *testing.T, cfg db.Config) {
		last := int64(0)
		for run := range 3 {
			s, err := db.Open(ctx, cfg)
			if err != nil {
				t.Fatal(err)
			}
			p := withTally(t, s)
			for range 5 {
				var two [2]int64
				err := s.Write(ctx, func(tx *db.Tx) error {
					p.add(1)
					two = [2]int64{tx.NewSeq(), tx.NewSeq()}
					return nil
				})
				if err != nil || two[0] <= last || two[1] <= two[0] {
					t.Errorf("run %d: %v after %d, %v", run, two, last, err)
				}
				last = two[1]
			}
			if p.sum != int64(5*(run+1)) {
				t.Errorf("run %d: tally %d", run, p.sum)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}
	})
}
