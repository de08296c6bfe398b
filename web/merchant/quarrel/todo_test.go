package quarrel

import (
	"testing"
	"time"

	"koala/calendar"
	"koala/dispute"
	"koala/web"
)

// TestWhatToDo: a shop whose turn it is sees what to do, by which last day, and
// what comes if it does nothing; else it sees no such list.
func TestWhatToDo(t *testing.T) {
	due := time.Date(2015, 10, 7, 0, 0, 0, 0, calendar.Beijing) // the first moment too late
	for _, tt := range []struct {
		state  dispute.State
		papers int
		now    time.Time
		lines  int
		by     string
		lapse  string
	}{
		{dispute.Requested, 0, due.AddDate(0, 0, -3), 4, "by Tue 6 Oct", "receipt not sent in time"},
		{dispute.Charged, 0, due.AddDate(0, 0, -3), 4, "by Tue 6 Oct", "lost"},
		{dispute.Charged, 1, due.Add(-time.Second), 3, "by Tue 6 Oct", "lost"},
		{dispute.Charged, 1, due, 3, "past due", "lost"},
		{dispute.Presented, 0, due.AddDate(0, 0, -3), 0, "", ""},
		{dispute.Won, 0, due.AddDate(0, 0, -3), 0, "", ""},
	} {
		var v caseView
		v.documents.Rows = make([]web.Row, tt.papers)
		v.todos(web.WithLang(t.Context(), web.EN), dispute.Case{State: tt.state, Due: due}, tt.now)
		if len(v.todo) != tt.lines {
			t.Errorf("%s: %d lines, want %d", tt.state, len(v.todo), tt.lines)
			continue
		}
		if tt.lines > 0 && (v.todo[0].Value != tt.by || v.todo[tt.lines-1].Value != tt.lapse) {
			t.Errorf("%s: %q, else %q", tt.state, v.todo[0].Value, v.todo[tt.lines-1].Value)
		}
	}
}
