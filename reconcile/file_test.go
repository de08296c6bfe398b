package reconcile

import (
	"bytes"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"koala/calendar"
	"koala/spec/clearing"
	"koala/spec/pan"
)

// record is a sale in the host's file.
func record(rrn string, fen, fee, network int64) clearing.Record {
	card, err := pan.Complete("622588212100000")
	if err != nil {
		panic(err)
	}
	return clearing.Record{Agent: "48021000", Sender: "00010000", Trace: "000001", Sent: "0916120000", PAN: card, Amount: fen, MTI: "0200",
		Processing: "000000", MCC: "5411", Terminal: "10000001", Merchant: "898110058120001", RRN: rrn, Condition: "00", Response: "00",
		Payable: fee, SwitchFee: network}
}

func file(t testing.TB, records ...clearing.Record) []byte {
	t.Helper()
	var out []byte
	for _, r := range records {
		var err error
		if out, err = r.Append(out); err != nil {
			t.Fatal(err)
		}
		out = append(out, '\n')
	}
	return out
}

func TestReadClearing(t *testing.T) {
	balance := record("2", 0, 0, 0)
	balance.Processing = "310000"
	refund := record("3", 40, 0, 0)
	refund.MTI, refund.Processing, refund.Receivable, refund.Sent = "0220", "200000", 2, "1231235959"
	done := record("4", 50, 1, 0)
	done.Condition = "06"
	in := strings.ReplaceAll(string(file(t, record("1", 100, 5, 1), balance, refund, done)), "\n", "\r\n")
	var got []Item
	for x, err := range ReadClearing(strings.NewReader(in), testDay, func(p pan.PAN) string { return "debit" }) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, x)
	}
	want := one("1", 100)
	want.Line, want.At, want.Currency = 1, noon.UTC(), "CNY"
	if len(got) != 3 || !reflect.DeepEqual(got[0], want) {
		t.Fatalf("%+v\nwant %+v", got, want)
	}
	if r := got[1]; r.Kind != Refund || r.Fen != -40 || r.Fee != -2 || r.Line != 3 || r.Date.Year != 2014 {
		t.Errorf("refund %+v", r)
	}
	if got[2].Kind != Completion {
		t.Errorf("completion %+v", got[2])
	}
	for name, bad := range map[string]string{
		"a short line":  "\n" + in[:40] + "\n",
		"a long line":   "\n" + strings.Repeat("x", 9000),
		"no such day":   "\n" + strings.Replace(in, "0916120000", "1316120000", 1),
		"shifted bytes": "\n " + in,
	} {
		var err error
		for _, err = range ReadClearing(strings.NewReader(bad), testDay, nil) {
			if err != nil {
				break
			}
		}
		var e *FormatError
		if !errors.As(err, &e) || e.Line != 2 || !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func statement(lines ...StatementLine) Statement {
	return Statement{Account: "1010-88", From: testDay, To: testDay.AddDays(1), Lines: lines}
}

func line(ref string, fen int64, reference string) StatementLine {
	return StatementLine{Ref: ref, Booked: time.Date(2015, 9, 17, 1, 0, 0, 0, time.UTC), Fen: fen, Reference: reference, Party: "UnionPay, Shanghai", Text: `says "thanks"`}
}

// parsed is a statement as it comes out of its own file.
func parsed(t testing.TB, s Statement) Statement {
	t.Helper()
	out, err := ParseStatement(AppendStatement(nil, s))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestStatement(t *testing.T) {
	s := statement(line("1", 100, "clearing unionpay 2015-09-16"), line("2", -40, "payout p"))
	text := string(AppendStatement(nil, s))
	got := parsed(t, s)
	if len(got.Hash) != 64 || !reflect.DeepEqual(got.Lines, s.Lines) || got.Account != s.Account || got.To != s.To {
		t.Errorf("%+v", got)
	}
	for _, tt := range []struct {
		name, from, to string
		line, column   int
	}{
		{"another version", "statement,1", "statement,2", 1, 1},
		{"no day", "2015-09-16,2015-09-17", "x,2015-09-17", 1, 27},
		{"days the wrong way", "2015-09-16,2015-09-17", "2015-09-16,2015-09-15", 1, 38},
		{"column names", "counterparty", "party", 2, 1},
		{"a time without zone", "2015-09-17T09:00:00+08:00", "2015-09-17T09:00:00", 3, 3},
		{"yuan", ",100,", ",1.00,", 3, 29},
		{"nothing", ",100,", ",0,", 3, 29},
		{"twice", "\n2,", "\n1,", 4, 0},
		{"a column too many", "payout p,", "payout p,,", 4, 0},
		{"a line changed", ",100,", ",101,", 5, 9},
		{"total of lines", "total,2", "total,3", 5, 7},
		{"hash", "payout p", "payout q", 6, 8},
	} {
		_, err := ParseStatement([]byte(strings.Replace(text, tt.from, tt.to, 1)))
		var e *FormatError
		if !errors.As(err, &e) || e.Line != tt.line || tt.column > 0 && e.Column != tt.column {
			t.Errorf("%s: %v, want line %d, column %d", tt.name, err, tt.line, tt.column)
		}
	}
	if _, err := ParseStatement([]byte(text + "more,,,,,\n")); !errors.Is(err, ErrFormat) {
		t.Errorf("something behind the hash: %v", err)
	}
	if _, err := ParseStatement([]byte(text[:len(text)-80])); !errors.Is(err, ErrFormat) {
		t.Errorf("cut off: %v", err)
	}
}

func FuzzStatement(f *testing.F) {
	f.Add(AppendStatement(nil, statement()))
	f.Add(AppendStatement(nil, statement(line("1", 100, "clearing unionpay 2015-09-16"))))
	f.Fuzz(func(t *testing.T, in []byte) {
		s, err := ParseStatement(in)
		if err != nil {
			if !errors.Is(err, ErrFormat) {
				t.Errorf("%v names no place", err)
			}
			return
		}
		again, err := ParseStatement(AppendStatement(nil, s))
		again.Hash = s.Hash
		if err != nil || !sameStatement(again, s) {
			t.Errorf("%+v\nreads again as %+v: %v", s, again, err)
		}
	})
}

// sameStatement compares to the second.
func sameStatement(a, b Statement) bool {
	for _, s := range []*Statement{&a, &b} {
		s.Lines = append([]StatementLine(nil), s.Lines...)
		for i := range s.Lines {
			s.Lines[i].Booked = s.Lines[i].Booked.Truncate(time.Second)
		}
	}
	return reflect.DeepEqual(a, b)
}

func FuzzReadClearing(f *testing.F) {
	f.Add(file(f, record("1", 100, 5, 1)))
	f.Fuzz(func(t *testing.T, in []byte) {
		for x, err := range ReadClearing(bytes.NewReader(in), testDay, nil) {
			if err == nil && (x.State != Cleared || x.Kind == "" || x.Line < 1 || calendar.Of(x.At, calendar.Beijing) != x.Date) {
				t.Errorf("%+v", x)
			}
		}
	})
}
