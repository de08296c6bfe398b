package wearer

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"rsc.io/qr"

	"koala/internal/fail"
	"koala/web"
)

// topUpView is the form that loads a card.
type topUpView struct {
	card    Card
	wallet  Wallet
	amounts []int64 // fen, one tap each
	other   string  // what was typed
	chosen  int64
	wrong   web.Text
	ref     string
}

// quickAmounts are offered when the card may take them, fen.
var quickAmounts = []int64{20_00, 50_00, 100_00, 200_00, 300_00, 500_00}

func (p pages) topUpForm(w http.ResponseWriter, r *http.Request) error {
	c, err := p.find(r, r.PathValue("key"))
	if err != nil {
		return err
	}
	return p.showTopUp(w, r, topUpView{card: c, chosen: 50_00, ref: p.Ref()})
}

func (p pages) showTopUp(w http.ResponseWriter, r *http.Request, v topUpView) error {
	band, err := p.Street.Band(r.Context(), who(r))
	if err != nil {
		return fmt.Errorf("band: %w", err)
	}
	v.card = withLive([]Card{v.card}, band)[0]
	if v.wallet, err = p.Desk.Wallet(r.Context(), who(r)); err != nil {
		return fmt.Errorf("wallet: %w", err)
	}
	for _, fen := range quickAmounts {
		if fen >= v.card.MinLoadFen && fen <= v.card.MaxLoadFen && v.card.Fen+fen <= v.card.MaxFen {
			v.amounts = append(v.amounts, fen)
		}
	}
	return p.show(w, r, web.Page{Title: words.TopUp, Back: "/my/cards/" + v.card.Key(), Here: "/my/"}, topUpPage(v))
}

func (p pages) topUp(w http.ResponseWriter, r *http.Request) error {
	c, err := p.find(r, r.PathValue("key"))
	if err != nil {
		return err
	}
	v := topUpView{card: c, other: r.PostFormValue("other"), ref: cmp.Or(r.PostFormValue("ref"), p.Ref())}
	text := cmp.Or(v.other, r.PostFormValue("amount"))
	fen, err := parseYuan(text)
	if err == nil {
		v.chosen = fen
		var id string
		if id, err = p.Desk.TopUp(r.Context(), who(r), v.ref, c.Number, fen); err == nil {
			p.Street.Connect(r.Context(), who(r))
			return web.Redirect(w, r, "/my/orders/"+id, web.Toast{})
		}
	}
	f := fail.Of(err)
	if f.Kind == fail.Broken {
		return err
	}
	v.wrong = web.FailureText(f.Code, f.Text)
	w.WriteHeader(web.StatusOf(f.Kind))
	return p.showTopUp(w, r, v)
}

// repay pays what a credit card owes, as much as its page said.
func (p pages) repay(w http.ResponseWriter, r *http.Request) error {
	c, err := p.find(r, r.PathValue("key"))
	if err != nil {
		return err
	}
	back := "/my/cards/" + c.Key()
	fen, err := strconv.ParseInt(r.PostFormValue("fen"), 10, 64)
	if err != nil || fen <= 0 {
		return fmt.Errorf("repayment: %w", web.ErrForm)
	}
	if err := p.Desk.Repay(r.Context(), who(r), r.PostFormValue("ref"), c.Number, fen); err != nil {
		return p.sorry(w, r, back, err)
	}
	return web.Redirect(w, r, back, web.Toast{Tone: web.Good, Text: words.Repaid.In(r.Context(), web.Yuan(fen))})
}

// limit changes what one offline payment of a card may be.
func (p pages) limit(w http.ResponseWriter, r *http.Request) error {
	c, err := p.find(r, r.PathValue("key"))
	if err != nil {
		return err
	}
	var id string
	fen, err := parseYuan(r.PostFormValue("limit"))
	if err == nil {
		id, err = p.Desk.SetLimit(r.Context(), who(r), r.PostFormValue("ref"), c.Number, fen)
	}
	if err != nil {
		return p.sorry(w, r, "/my/cards/"+c.Key(), err)
	}
	p.Street.Connect(r.Context(), who(r))
	return web.Redirect(w, r, "/my/orders/"+id, web.Toast{})
}

// walletView is the person's money.
type walletView struct {
	wallet Wallet
	ref    string
}

func (p pages) wallet(w http.ResponseWriter, r *http.Request) error {
	money, err := p.Desk.Wallet(r.Context(), who(r))
	if err != nil {
		return fmt.Errorf("wallet: %w", err)
	}
	return p.show(w, r, web.Page{Title: words.Wallet, Here: "/my/wallet"}, walletPage(walletView{money, p.Ref()}))
}

// payCode shows a new payment code, as a picture for the till's scanner and as
// digits.
func (p pages) payCode(w http.ResponseWriter, r *http.Request) error {
	c, err := p.Desk.PayCode(r.Context(), who(r))
	if err != nil {
		return p.sorry(w, r, "/my/wallet", err)
	}
	picture, err := qr.Encode(c.Digits, qr.M)
	if err != nil {
		return fmt.Errorf("payment code: %w", err)
	}
	return p.show(w, r, web.Page{Title: words.PayCode, Back: "/my/wallet", Here: "/my/wallet"}, payCodePage(payCodeView{c, picture}))
}

type payCodeView struct {
	code    PayCode
	picture *qr.Code
}

// quiet is the width of the margin of a QR code, modules (ISO/IEC 18004).
const quiet = 4

// box is the picture's viewBox.
func (v payCodeView) box() string {
	n := strconv.Itoa(v.picture.Size + 2*quiet)
	return "0 0 " + n + " " + n
}

// dark is an SVG path of the dark modules.
func (v payCodeView) dark() string {
	var b strings.Builder
	for y := range v.picture.Size {
		for x := range v.picture.Size {
			if v.picture.Black(x, y) {
				fmt.Fprintf(&b, "M%d %dh1v1h-1z", x+quiet, y+quiet)
			}
		}
	}
	return b.String()
}

// groups are the digits as people read them out.
func (v payCodeView) groups() string {
	var out []string
	for part := range slices.Chunk([]byte(v.code.Digits), 4) {
		out = append(out, string(part))
	}
	return strings.Join(out, " ")
}

func (p pages) fund(w http.ResponseWriter, r *http.Request) error {
	fen, err := parseYuan(r.PostFormValue("amount"))
	if err == nil {
		err = p.Desk.Fund(r.Context(), who(r), r.PostFormValue("ref"), fen)
	}
	if err != nil {
		return p.sorry(w, r, "/my/wallet", err)
	}
	return web.Redirect(w, r, "/my/wallet", web.Toast{Tone: web.Good, Text: words.Funded.In(r.Context(), web.Yuan(fen))})
}
