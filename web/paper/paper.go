// Package paper draws what a house gives out on paper: slips of sales, in both
// languages, with the code that leads to the page where they are checked. Start
// at Slip and Lines.
package paper

import (
	"encoding/hex"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"rsc.io/qr"

	"koala/money"
	"koala/slip"
	"koala/switching"
	"koala/web"
)

// A View is a slip as a page shows it.
type View struct {
	Slip    slip.Kept
	Again   bool   // it is printed again: said outside of what is signed
	Address string // of the page where it is checked, absolute: what the code says
	Picture string // address of the picture of the cardholder's signature; empty: it is not shown
}

// At is the path of the page where a slip is checked.
func At(k *slip.Kept) string { return "/slips/" + k.ID() }

// Address is that page as a request's other side reaches it.
func Address(r *http.Request, k *slip.Kept) string {
	scheme := "http"
	if r.TLS != nil || r.Header.Get("X-Forwarded-Proto") == "https" {
		scheme = "https"
	}
	return scheme + "://" + r.Host + At(k)
}

// A Line is one line of a slip.
type Line struct {
	Name, Value string
	Wide        bool // stands below its name: hashes
}

// Lines are what a slip says, without the shop's name and the amount, which
// stand larger.
func Lines(s *slip.Slip, lang web.Lang) (out []Line) {
	add := func(name web.Text, value string) {
		if value != "" {
			out = append(out, Line{Name: name.To(lang), Value: value})
		}
	}
	add(words.Merchant, s.MID)
	add(words.Terminal, s.TID)
	add(words.Number, strconv.FormatInt(s.Number, 10))
	add(words.Card, s.Card)
	add(words.Entry, Entry(s.Entry).To(lang))
	add(words.Time, web.Moment(s.At))
	add(words.Batch, fmt.Sprintf("%06d / %06d", s.Batch, s.STAN))
	add(words.Reference, s.RRN)
	add(words.Authorisation, s.Auth)
	add(words.Original, s.Original)
	add(words.Application, s.AID)
	if kind, value, ok := strings.Cut(s.Cryptogram, " "); ok {
		out = append(out, Line{Name: kind, Value: value})
	}
	add(words.Counter, s.ATC)
	return out
}

// Shop is the shop's name as the slip has it.
func Shop(s *slip.Slip) web.Text {
	t := web.Text{ZH: s.ShopZH, EN: s.ShopEN}
	switch {
	case t.ZH == "":
		t.ZH = t.EN
	case t.EN == "":
		t.EN = t.ZH
	}
	return t
}

// Kind is what was done.
func Kind(s *slip.Slip) web.Text {
	if k := switching.KindNamed(s.Kind); k != nil {
		return web.Text{ZH: k.ZH, EN: k.EN}
	}
	return web.Same(s.Kind)
}

// Amount is what moved: below zero when it went to the cardholder.
func Amount(s *slip.Slip) string {
	a := s.Amount
	if k := switching.KindNamed(s.Kind); k != nil && k.Side == switching.Credits {
		a = money.Fen(-a.Minor())
	}
	return web.Yuan(a.Minor())
}

// Entry says how a card's data came, by field 22.
func Entry(mode string) web.Text {
	if len(mode) < 2 {
		return words.EntryNone
	}
	switch mode[:2] {
	case "01":
		return words.EntryKeyed
	case "02", "90":
		return words.EntryStripe
	case "05", "95":
		return words.EntryChip
	case "07", "91", "96", "98":
		return words.EntryTap
	}
	return words.EntryOther.F(mode)
}

// Text is a slip as a file: what it says in a language.
func Text(k *slip.Kept, lang web.Lang) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n%s\n\n", Shop(&k.Slip).To(lang), Kind(&k.Slip).To(lang))
	for _, l := range Lines(&k.Slip, lang) {
		fmt.Fprintf(&b, "%s: %s\n", l.Name, l.Value)
	}
	fmt.Fprintf(&b, "\n%s: %s\n", words.Amount.To(lang), Amount(&k.Slip))
	if k.Signed.Key != "" {
		fmt.Fprintf(&b, "%s: %x\n", words.Picture.To(lang), k.Signed.Picture)
	}
	return b.String()
}

// brief is a hash as people compare it.
func brief(hash [32]byte) string { return hex.EncodeToString(hash[:8]) }

// A code is a QR code as an SVG path.
type code struct{ box, dark string }

// quiet is the light border that readers want, in modules (ISO/IEC 18004).
const quiet = 4

// codeOf draws an address; of one that is too long there is none.
func codeOf(address string) code {
	picture, err := qr.Encode(address, qr.M)
	if address == "" || err != nil {
		return code{}
	}
	n := strconv.Itoa(picture.Size + 2*quiet)
	var b strings.Builder
	for y := range picture.Size {
		for x := range picture.Size {
			if picture.Black(x, y) {
				fmt.Fprintf(&b, "M%d %dh1v1h-1z", x+quiet, y+quiet)
			}
		}
	}
	return code{"0 0 " + n + " " + n, b.String()}
}
