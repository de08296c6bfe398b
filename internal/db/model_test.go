package db_test

import (
	"errors"
	"fmt"
	"maps"
	"runtime"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"koala/internal/db"
	"koala/internal/db/dbtest"
)

// A deed is one thing that a unit of the model does.
type deed struct {
	what string
	id   int
}

// world is what durable rows say: rows of item_row, sums of kept_sum.
type world struct {
	rows map[int]bool
	sums map[int]int64
}

func (w world) clone() world { return world{maps.Clone(w.rows), maps.Clone(w.sums)} }

// TestBatchIsSerial: units that come together come to what they would one after
// the other, whatever they append, keep, write, look for and get wrong, and each
// is told whether it stands.
func TestBatchIsSerial(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, s *db.Store) {
		p := withTally(t, s)
		if err := s.Migrate(ctx, keptSchema); err != nil {
			t.Fatal(err)
		}
		round := 0
		rapid.Check(t, func(rt *rapid.T) {
			round++
			units := rapid.SliceOfN(rapid.SliceOfN(rapid.Custom(func(t *rapid.T) deed {
				return deed{rapid.SampledFrom([]string{"append", "append", "insert", "keep", "keep", "look", "look", "fail", "panic", "forget"}).Draw(t, "what"), rapid.IntRange(0, 3).Draw(t, "id")}
			}), 1, 5), 1, 12).Draw(rt, "units")
			is, stands, looks := world{map[int]bool{}, map[int]int64{}}, make([]bool, len(units)), make([]map[int]bool, len(units))
			for i, deeds := range units { // one after the other
				is, stands[i], looks[i] = serial(is, deeds)
			}
			before := p.sum
			release, blocked := db.BlockWriter(s)
			<-blocked
			var all sync.WaitGroup
			errs, saw := make([]error, len(units)), make([]map[int]bool, len(units))
			for i, deeds := range units {
				all.Go(func() {
					errs[i] = s.Write(ctx, func(tx *db.Tx) (err error) {
						p.add(1)
						saw[i], err = does(tx, round, deeds)
						return err
					})
				})
				for db.Queued(s) <= i { // their order is that of the model
					runtime.Gosched()
				}
			}
			close(release)
			all.Wait()
			good := int64(0)
			for i, err := range errs {
				if (err == nil) != stands[i] {
					rt.Fatalf("unit %d %v: %v, and one after the other it stands: %t", i, units[i], err, stands[i])
				}
				if err == nil {
					good++
					if !maps.Equal(saw[i], looks[i]) {
						rt.Fatalf("unit %d %v saw %v, want %v", i, units[i], saw[i], looks[i])
					}
				}
			}
			if p.sum-before != good {
				rt.Fatalf("%d units stand, the tally has %d more", good, p.sum-before)
			}
			for id := range 4 {
				rows := count(t, s, `SELECT COUNT(*) FROM item_row WHERE id = $1`, name(round, id))
				sum := count(t, s, `SELECT COALESCE(MAX(n), 0) FROM kept_sum WHERE id = $1`, name(round, id))
				if (rows == 1) != is.rows[id] || sum != is.sums[id] {
					rt.Fatalf("%d: %d rows and a sum of %d, want %t and %d", id, rows, sum, is.rows[id], is.sums[id])
				}
			}
		})
	})
}

func name(round, id int) string { return fmt.Sprintf("m%d-%d", round, id) }

var errModel = errors.New("the unit itself")

// serial is what a unit comes to by itself. What it appended it does not see.
func serial(was world, deeds []deed) (is world, stands bool, looks map[int]bool) {
	is, looks = was.clone(), map[int]bool{}
	appended := map[int]bool{}
	for _, d := range deeds {
		switch d.what {
		case "append":
			if is.rows[d.id] {
				return was, false, nil
			}
			is.rows[d.id], appended[d.id] = true, true
		case "insert", "forget":
			if is.rows[d.id] {
				return was, false, nil
			}
			is.rows[d.id] = true
		case "keep":
			is.sums[d.id] += int64(d.id) + 1
		case "look":
			looks[d.id] = is.rows[d.id] && !appended[d.id]
		default:
			return was, false, nil
		}
	}
	return is, true, looks
}

// does runs a unit.
func does(tx *db.Tx, round int, deeds []deed) (saw map[int]bool, err error) {
	saw = map[int]bool{}
	for _, d := range deeds {
		id := name(round, d.id)
		switch d.what {
		case "append":
			err = tx.Append("item_row", "id, n, flag", id, 1, true)
		case "insert":
			err = insert(tx, id, 1)
		case "forget": // the error is the unit's all the same
			_ = insert(tx, id, 1)
		case "keep":
			var n int64
			if n, err = sumOf(tx, id); err == nil {
				err = tx.Keep("kept_sum", "id, n, last", id, n+int64(d.id)+1, "")
			}
		case "look":
			if err = tx.Written("item_row", id); err == nil {
				var n int
				err = tx.QueryRow(`SELECT COUNT(*) FROM item_row WHERE id = $1`, id).Scan(&n)
				saw[d.id] = n == 1
			}
		case "fail":
			err = errModel
		case "panic":
			panic(errModel)
		}
		if err != nil {
			return nil, err
		}
	}
	return saw, nil
}
