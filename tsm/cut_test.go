package tsm_test

import (
	"fmt"
	"testing"

	"koala/internal/db"
	"koala/internal/db/dbtest"
	"koala/issuing"
	"koala/tsm"
)

// A job is one kind of order on a card prepared for it.
type job struct {
	name  string
	kind  tsm.Kind
	fen   int64
	ready func(*house)
	end   issuing.State
}

// jobs begin in a house that was just opened; see trials for everything else.
var jobs = []job{
	{"adopt and issue", tsm.Issue, 0, func(*house) {}, issuing.Active},
	{"first top-up", tsm.TopUp, 50_00, func(h *house) { h.issued(0) }, issuing.Active},
}

// finish brings the order to its end after a fault and checks the result.
func (j job) finish(h *house, o tsm.Order) {
	h.t.Helper()
	h.settle(o, tsm.Done)
	if got := h.state(); got != j.end {
		h.t.Errorf("card is %s, want %s", got, j.end)
	}
	if j.end != issuing.Blocked {
		h.sound()
	}
}

// each runs f on fresh houses with a fault at the n-th place, until f says that
// the fault lay behind the end.
func (j job) each(t *testing.T, open func(*testing.T) *house, f func(h *house, n int) (hit bool)) {
	for n := 1; ; n++ {
		if n > 400 {
			t.Fatal("the fault is never behind the end")
		}
		hit := false
		if !t.Run(fmt.Sprint(n), func(t *testing.T) {
			h := open(t)
			j.ready(h)
			o := h.place(j.kind, j.fen)
			hit = f(h, n)
			j.finish(h, o)
		}) || !hit {
			return
		}
	}
}

func TestCutBeforeEveryCommand(t *testing.T) {
	t.Parallel()
	for _, j := range jobs {
		t.Run(j.name, func(t *testing.T) {
			j.each(t, plain, func(h *house, n int) bool {
				h.band.cutBefore = n
				h.band.work(0)
				return h.band.cutBefore == 0
			})
		})
	}
}

func TestEveryAnswerLost(t *testing.T) {
	t.Parallel()
	for _, j := range jobs {
		t.Run(j.name, func(t *testing.T) {
			j.each(t, plain, func(h *house, n int) bool {
				h.band.element.LoseAnswer(n)
				before := h.band.sent
				h.band.work(0)
				h.band.element.LoseAnswer(0)
				return h.band.sent-before >= n
			})
		})
	}
}

func TestCutAtEveryWrite(t *testing.T) {
	t.Parallel()
	for _, j := range jobs {
		t.Run(j.name, func(t *testing.T) {
			j.each(t, plain, func(h *house, n int) bool {
				m := h.band.element.Memory()
				before := m.Writes()
				m.CutAfter(n)
				h.band.work(0)
				hit := m.Writes()-before >= n
				m.CutAfter(0)
				return hit
			})
		})
	}
}

// TestReportsLost loses the n-th report: the band comes back without telling,
// and is given the same script again.
func TestReportsLost(t *testing.T) {
	t.Parallel()
	for _, j := range jobs {
		t.Run(j.name, func(t *testing.T) {
			j.each(t, plain, func(h *house, n int) bool {
				if n > 1 {
					h.band.work(n - 1)
				}
				h.band.mute = true
				h.band.work(0)
				hit := !h.band.mute
				h.band.mute = false
				return hit
			})
		})
	}
}

// TestEveryScriptTwice runs the n-th script a second time after its report, as
// an agent does that forgot it, and delivers every report twice.
func TestEveryScriptTwice(t *testing.T) {
	t.Parallel()
	for _, j := range jobs {
		t.Run(j.name, func(t *testing.T) {
			j.each(t, plain, func(h *house, n int) bool {
				h.band.twice, h.band.rerun = true, n
				h.band.work(0)
				return h.band.rerun == 0
			})
		})
	}
}

// TestOneCommandAtATime cuts scripts to pieces, as the progress page wants.
func TestOneCommandAtATime(t *testing.T) {
	t.Parallel()
	for _, j := range jobs {
		t.Run(j.name, func(t *testing.T) {
			slow := func(t *testing.T) *house { return copied(t, plainImage, tsm.Config{Chunk: 1}) }
			j.each(t, slow, func(h *house, n int) bool {
				h.band.cutBefore = n
				h.band.work(0)
				return h.band.cutBefore == 0
			})
		})
	}
}

// TestBothStores runs every job without faults and with a cut in its middle.
func TestBothStores(t *testing.T) {
	t.Parallel()
	dbtest.EachConfig(t, func(t *testing.T, cfg db.Config) {
		h := open(t, cfg, tsm.Config{})
		h.band.element.LoseAnswer(5)
		h.settle(h.place(tsm.Issue, 0), tsm.Done)
		h.band.element.LoseAnswer(3) // CREDIT FOR LOAD
		h.settle(h.place(tsm.TopUp, 50_00), tsm.Done)
		h.band.element.LoseAnswer(3)
		h.settle(h.place(tsm.Block, 0), tsm.Done)
		h.settle(h.place(tsm.Unblock, 0), tsm.Done)
		h.sound()
		h.band.element.LoseAnswer(8)
		h.settle(h.place(tsm.Delete, 0), tsm.Done)
		h.band.element.LoseAnswer(0)
		h.sound()
	})
}

func plain(t *testing.T) *house { return copied(t, plainImage, tsm.Config{}) }
