// Package course draws the course of a dispute as a picture: who did what and
// when, in a lane for each party; who is next and by when; what comes if nobody
// acts; and who has the money meanwhile. Start at Of and Draw.
package course

import (
	"context"
	"fmt"
	"strings"
	"time"

	"koala/calendar"
	"koala/dispute"
	"koala/web"
)

// Sizes of the picture, in its own units, which are pixels where there is room.
const (
	width    = 348 // what a card of a phone of 390 points has inside
	laneAt   = 24  // the first lane's middle
	laneStep = 36
	labelAt  = laneAt + 3*laneStep + 20
	headAt   = 16
	firstAt  = 50
	rowStep  = 56
)

// lanes are the parties, in the order of the lanes.
var lanes = []dispute.Actor{dispute.Issuer, dispute.Shop, dispute.Desk, dispute.Arbiter}

// A Picture is a course that can be drawn.
type Picture struct {
	rows []row
}

// A row is one step, or what is to come.
type row struct {
	lane  int // of lanes
	name  web.Text
	note  web.Text
	more  web.Text // how long is left; may be empty
	ahead bool     // to come: drawn open, with a broken line to it
	lapse bool     // what comes if nobody acts
	taken bool     // the cardholder has the money then
	tone  web.Tone
}

// Of makes the picture of a case from its history, oldest first, as of now. What
// was only said, without a step, is left out.
func Of(c dispute.Case, steps []dispute.Event, now time.Time) Picture {
	var p Picture
	taken := false
	for _, e := range steps {
		if e.Was == e.Is {
			continue
		}
		taken = holderHas(e.Is, taken)
		p.rows = append(p.rows, row{lane: laneOf(e), name: both(e.Is.Words), note: web.Same(day(e.At)), taken: taken, tone: toneOf(e.Is, taken)})
	}
	if c.State.Final() {
		return p
	}
	turn := row{lane: laneOfActor(c.State.Next()), name: next(c.State.Next()), ahead: true, taken: taken, tone: web.Warn, note: words.NoDeadline}
	if !c.Due.IsZero() {
		// A deadline is the first moment that is too late; its day is the one before.
		turn.note, turn.more = words.By.F(day(c.Due.Add(-time.Second))), left(now, c.Due)
		if c.Due.Sub(now) < 0 {
			turn.tone = web.Bad
		}
	}
	p.rows = append(p.rows, turn)
	if !c.Due.IsZero() {
		lapse := c.Lapses()
		taken = holderHas(lapse, taken)
		p.rows = append(p.rows, row{lane: turn.lane, name: both(lapse.Words), note: words.ByItself, ahead: true, lapse: true, taken: taken, tone: toneOf(lapse, taken)})
	}
	return p
}

func both(words func(zh bool) string) web.Text { return web.Text{ZH: words(true), EN: words(false)} }

// next says whose turn it is.
func next(a dispute.Actor) web.Text {
	return web.Text{ZH: words.Next.To(web.ZH, a.Words(true)), EN: words.Next.To(web.EN, a.Words(false))}
}

func day(t time.Time) string { return calendar.Of(t, calendar.Beijing).String() }

func left(now, due time.Time) web.Text {
	switch d := due.Sub(now); {
	case d < 0:
		return words.Over
	case d < 72*time.Hour:
		return words.Hours.F(int(d / time.Hour))
	default:
		return words.Days.F(int(d / (24 * time.Hour)))
	}
}

// holderHas tells who has the money in a state; in arbitration it stays where it
// was.
func holderHas(s dispute.State, was bool) bool {
	switch s {
	case dispute.Charged, dispute.Again, dispute.Lost, dispute.Accepted:
		return true
	case dispute.Arbitration:
		return was
	}
	return false
}

func toneOf(s dispute.State, taken bool) web.Tone {
	switch {
	case taken:
		return web.Bad
	case s.Final():
		return web.Good
	}
	return web.Info
}

// laneOf is whose step it was. What time did stands in the lane of who let it
// pass; what staff and shops did is told by the step.
func laneOf(e dispute.Event) int {
	switch e.Who {
	case string(dispute.Issuer):
		return 0
	case string(dispute.Arbiter):
		return 3
	case dispute.System:
		return laneOfActor(e.Was.Next())
	}
	if e.Is == dispute.Accepted && e.Was == dispute.Charged {
		return 1
	}
	return 2
}

func laneOfActor(a dispute.Actor) int {
	for i, l := range lanes {
		if l == a {
			return i
		}
	}
	return 2
}

func (p Picture) height() int { return firstAt + len(p.rows)*rowStep - 10 }

func (p Picture) box() string { return fmt.Sprintf("0 0 %d %d", width, p.height()) }

func laneX(i int) int { return laneAt + i*laneStep }

func rowY(i int) int { return firstAt + i*rowStep }

// link is the line from a row to the next: along its lane, then across.
func (p Picture) link(i int) string {
	a, b := p.rows[i], p.rows[i+1]
	x, y, x2, y2 := laneX(a.lane), rowY(i), laneX(b.lane), rowY(i+1)
	if x == x2 {
		return fmt.Sprintf("M%d %dV%d", x, y, y2)
	}
	mid := (y + y2) / 2
	return fmt.Sprintf("M%d %dC%d %d %d %d %d %d", x, y, x, mid+10, x2, mid-10, x2, y2)
}

// ink is the colour of who has the money.
func (r row) ink() string {
	if r.taken {
		return "var(--bad)"
	}
	return "var(--good)"
}

func (r row) color() string {
	return map[web.Tone]string{web.Bad: "var(--bad)", web.Good: "var(--good)", web.Warn: "var(--warn)", web.Info: "var(--info)"}[r.tone]
}

func (r row) fill() string {
	if r.ahead {
		return "var(--card)"
	}
	return r.color()
}

func (r row) dashes() string {
	if r.ahead {
		return "4 4"
	}
	return "none"
}

func (r row) radius() string {
	if r.lapse {
		return "6"
	}
	return "9"
}

func (r row) weight() string {
	if r.lapse {
		return "400"
	}
	return "560"
}

func (r row) size() string {
	if r.lapse {
		return "12"
	}
	return "13"
}

// say tells the picture to who does not see it.
func (p Picture) say(ctx context.Context) string {
	var out []string
	for _, r := range p.rows {
		out = append(out, strings.TrimSuffix(r.name.In(ctx)+" ("+r.note.In(ctx)+", "+r.more.In(ctx), ", ")+")")
	}
	return words.Course.In(ctx) + ": " + strings.Join(out, "; ")
}
