package market_test

import (
	"fmt"
	"testing"

	"koala/calendar"
	"koala/dispute"
	"koala/internal/db"
	"koala/reconcile"
	"koala/spec/clearing"
)

// says is a line of the first host's dispute file about the sale of the row.
func (w *evening) says(flag string, day calendar.Date) clearing.Dispute {
	r := w.line
	return clearing.Dispute{Flag: flag, Agent: r.Agent, Sender: r.Receiver, Trace: "000777", Sent: fmt.Sprintf("%02d%02d101500", day.Month, day.Day), PAN: r.PAN, Amount: r.Amount, MTI: "0422", Processing: "000000",
		MCC: r.MCC, Terminal: r.Terminal, RRN: r.RRN, FirstTrace: r.Trace, Response: "00", Reason: "4515", First: r.Sent, Cleared: r.Sent[:4], Sold: r.Amount, Merchant: r.Merchant}
}

// dispute has the first host's file of a day end with dispute lines, and the bank
// pay by it.
func (w *evening) dispute(day calendar.Date, lines ...clearing.Dispute) (name string, raw []byte) {
	w.Helper()
	raw, err := w.m.FileOf(w.name(), day)
	if err != nil {
		w.Fatal(err)
	}
	var net int64
	for _, r := range w.records(raw) {
		net += r.Fen() - r.Fee()
	}
	for _, d := range lines {
		if raw, err = d.Append(raw); err != nil {
			w.Fatal(err)
		}
		raw, net = append(raw, '\n'), net+d.Fen()
	}
	name = w.name() + "-" + day.String() + ".clr"
	w.put(name, raw)
	var paid []reconcile.StatementLine
	if net != 0 {
		paid = append(paid, reconcile.StatementLine{Fen: net, Reference: "clearing " + w.name() + " " + day.String()})
	}
	w.statement(paid...)
	return name, raw
}

func (w *evening) cases() (out []dispute.Case) {
	w.Helper()
	if err := w.h.Store.Read(ctx, func(q *db.Query) (err error) { out, err = dispute.OfSale(q, w.rrn); return err }); err != nil {
		w.Fatal(err)
	}
	return out
}

// TestDisputesComeByFile: the host's file asks for a receipt and takes the sale
// back a day later. One case follows, with code and number; the shop's money is
// with the cardholder, host and bank agree to the fen, and no exception is left,
// whether the file comes once or again.
func TestDisputesComeByFile(t *testing.T) {
	w := sells(t)
	w.paper(w.day, nil, nil)
	w.at5()
	second, third := w.day.AddDays(1), w.day.AddDays(2)
	ask := w.says(clearing.Requested, second)
	name, raw := w.dispute(second, ask)
	cases := w.cases()
	if len(cases) != 1 || cases[0].State != dispute.Requested || cases[0].Ref != ask.Sender+ask.Trace+ask.Sent || cases[0].Reason != "4515" || cases[0].Amount.Minor() != w.line.Amount {
		t.Fatalf("asked: %+v", cases)
	}
	w.explained(0)
	w.at5()
	back := w.says(clearing.ChargedBack, third)
	back.Trace = "000778"
	name3, raw3 := w.dispute(third, back)
	for range 2 {
		if cases = w.cases(); len(cases) != 1 || cases[0].State != dispute.Charged || !cases[0].WithIssuer() {
			t.Fatalf("charged back: %+v", cases)
		}
		if list := w.open(); len(list) > 0 {
			t.Errorf("exceptions: %+v", list)
		}
		w.explained(0)
		w.put(name, raw)
		w.put(name3, raw3)
		w.statement()
	}
	// The movement falls into the next day of the host, whose file has nothing of it.
	w.at5()
	w.dispute(w.day.AddDays(3))
	w.at5()
	if list := w.open(); len(list) > 0 {
		t.Errorf("the day after: %+v", list)
	}
	w.explained(0)
}
