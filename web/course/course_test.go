package course

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"koala/calendar"
	"koala/dispute"
	"koala/web"
)

func TestWords(t *testing.T) {
	for _, flaw := range web.Flaws(words) {
		t.Error(flaw)
	}
}

var sold = time.Date(2015, 9, 16, 12, 0, 0, 0, calendar.Beijing)

func step(days int, who string, was, is dispute.State) dispute.Event {
	return dispute.Event{At: sold.AddDate(0, 0, days), Who: who, Was: was, Is: is}
}

// TestCourse: each step stands in the lane of who made it, the line tells who has
// the money, and an open case says who is next, by when, and what comes else.
func TestCourse(t *testing.T) {
	steps := []dispute.Event{
		step(0, "issuer", "", dispute.Requested), step(1, "he signed", dispute.Requested, dispute.Requested), step(2, "li", dispute.Requested, dispute.Answered), step(9, "issuer", dispute.Answered, dispute.Charged),
		step(12, "li, wang", dispute.Charged, dispute.Presented), step(20, "issuer", dispute.Presented, dispute.Again), step(21, "li", dispute.Again, dispute.Arbitration), step(40, "arbiter", dispute.Arbitration, dispute.Won)}
	for _, tt := range []struct {
		n     int // of the steps
		state dispute.State
		due   int // days after the sale
		lanes []int
		taken []bool
		last  string // in English
		note  string
	}{
		{1, dispute.Requested, 20, []int{0, 1, 1}, []bool{false, false, false}, "receipt not sent in time", "else, at the deadline"},
		{4, dispute.Charged, 40, []int{0, 2, 0, 1, 1}, []bool{false, false, true, true, true}, "lost", "else, at the deadline"},
		{5, dispute.Presented, 50, []int{0, 2, 0, 2, 0, 0}, []bool{false, false, true, false, false, false}, "won", "else, at the deadline"},
		{7, dispute.Arbitration, 90, []int{0, 2, 0, 2, 0, 2, 3, 3}, []bool{false, false, true, false, true, true, true, true}, "lost", "else, at the deadline"},
		{8, dispute.Won, 0, []int{0, 2, 0, 2, 0, 2, 3}, []bool{false, false, true, false, true, true, false}, "won", "2015-10-26"},
	} {
		c := dispute.Case{State: tt.state}
		if tt.state == dispute.Arbitration {
			c.Moves = 3 // as Again left it
		}
		if tt.due > 0 {
			c.Due = calendar.Of(sold, calendar.Beijing).AddDays(tt.due).Start(calendar.Beijing)
		}
		p := Of(c, steps[:tt.n], sold.AddDate(0, 0, tt.due-5))
		if len(p.rows) != len(tt.lanes) {
			t.Fatalf("%s: %d rows, want %d", tt.state, len(p.rows), len(tt.lanes))
		}
		for i, r := range p.rows {
			if r.lane != tt.lanes[i] || r.taken != tt.taken[i] {
				t.Errorf("%s row %d: lane %d, taken %v", tt.state, i, r.lane, r.taken)
			}
		}
		if last := p.rows[len(p.rows)-1]; last.name.To(web.EN) != tt.last || last.note.To(web.EN) != tt.note {
			t.Errorf("%s ends with %q %q", tt.state, last.name.To(web.EN), last.note.To(web.EN))
		}
		var out bytes.Buffer
		if err := Draw(p).Render(t.Context(), &out); err != nil {
			t.Fatal(err)
		}
		for d := xml.NewDecoder(strings.NewReader(out.String())); ; {
			if _, err := d.Token(); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("%s: %v", tt.state, err)
			}
		}
	}
}

// TestDeadline: the last day is named, and how long is left of it.
func TestDeadline(t *testing.T) {
	due := calendar.Of(sold, calendar.Beijing).AddDays(21).Start(calendar.Beijing)
	for _, tt := range []struct {
		before time.Duration
		want   string
		tone   web.Tone
	}{{10*24*time.Hour + 1, "10 days left", web.Warn}, {71 * time.Hour, "71 h left", web.Warn}, {-time.Hour, "over", web.Bad}} {
		p := Of(dispute.Case{State: dispute.Requested, Due: due}, nil, due.Add(-tt.before))
		if got := p.rows[0].more.To(web.EN); got != tt.want || p.rows[0].tone != tt.tone || p.rows[0].note.To(web.EN) != "by 2015-10-06" {
			t.Errorf("%q %s, want %q", got, p.rows[0].tone, tt.want)
		}
	}
	if p := Of(dispute.Case{State: dispute.Requested}, nil, sold); len(p.rows) != 1 || p.rows[0].note.To(web.EN) != "no deadline" {
		t.Errorf("%+v", p.rows)
	}
}
