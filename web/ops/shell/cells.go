package shell

import (
	"regexp"
	"strings"
	"time"

	"koala/issuing"
	"koala/web"
)

// A Question is a change that staff may make, with what it does in words.
type Question struct {
	ID, Action string
	Open, Body web.Text
	Icon       string
	Danger     bool
	Hidden     [][2]string
	Choices    []web.Option // of the radio field "decision"
	Fields     []web.Field  // asked for beside the reason
	Amount     string       // where money moves
	Receiver   string
	About      web.Text // what Receiver is called; empty: the customer
}

// Short is a cell of a text that does not break.
func Short(s string) web.Cell { return web.Cell{Text: s, Show: Tight(s)} }

// Written is a cell of what somebody wrote: a name, a reason.
func Written(s string) web.Cell { return web.Cell{Text: s, Show: web.AsWritten(s)} }

// Ident is a cell of an identifier whose middle is left out on the page; files
// keep it.
func Ident(s string) web.Cell {
	s = Hushed(s)
	return web.Cell{Text: brief(s), CSV: s, Mono: true}
}

// None is a cell of nothing.
func None() web.Cell { return web.Cell{Show: Phrase(web.Same("–"))} }

// At is a cell of a time that may not be.
func At(t time.Time) web.Cell {
	if t.IsZero() {
		return None()
	}
	return Short(web.Moment(t))
}

// brief leaves the middle of a long identifier out.
func brief(s string) string {
	const most, head, tail = 24, 14, 6
	if len(s) <= most || !ascii(s) {
		return s
	}
	return s[:head] + "…" + s[len(s)-tail:]
}

func ascii(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r > 126 }) < 0
}

// NoFile takes the link to a table's file away.
func NoFile(t web.Table) web.Table {
	t.NoCSV = true
	return t
}

func currentTab(t Tab) string {
	if t.Here {
		return "page"
	}
	return "false"
}

func anyValue(fields []web.Field) bool {
	for _, f := range fields {
		if f.Value != "" {
			return true
		}
	}
	return false
}

func receiverName(q Question) web.Text {
	if q.About.Empty() {
		return words.Customer
	}
	return q.About
}

var longDigits = regexp.MustCompile(`\d{16,20}`)

// Hushed masks card numbers inside account names and references.
func Hushed(s string) string {
	return longDigits.ReplaceAllStringFunc(s, func(d string) string { return issuing.CardID(d).Masked() })
}

// Masked shows a card as messages may; empty stays empty.
func Masked(n issuing.CardID) string {
	if n == "" {
		return ""
	}
	return n.Masked()
}

// CardKind is the picture of a kind of cards.
func CardKind(k issuing.Kind) web.CardKind {
	switch k {
	case issuing.Transit:
		return web.CardTransit
	case issuing.ECash, issuing.Debit:
		return web.CardCash
	case issuing.Credit:
		return web.CardCredit
	case issuing.Canteen:
		return web.CardCanteen
	case issuing.Door:
		return web.CardDoor
	}
	return web.CardCoupon
}
