package wearer

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"koala/issuing"
	"koala/web"
)

// tail is the end of a card's number; a card without one is known by its token.
func tail(c Card) string {
	if c.Tail != "" {
		return c.Tail
	}
	return web.Tail(string(c.Number))
}

func faceOfCard(c Card) web.CardFace {
	f := web.CardFace{Kind: c.Kind, Name: c.Name, Issuer: c.Issuer, Tail: tail(c), Off: !c.Usable}
	switch {
	case c.Coupon != nil:
		f.Value, f.Tail = fmt.Sprintf("%d×", c.Coupon.Left), ""
	case c.Worth():
		f.Value = web.Yuan(c.Fen)
	}
	if c.For == issuing.Door || c.For == issuing.Canteen {
		f.Tail = ""
	}
	return f
}

// fadedFace is a card on its way into the band.
func fadedFace(c Card) web.CardFace {
	f := faceOfCard(c)
	f.Off, f.Value = true, ""
	return f
}

// bareFace is a card as a small picture, without its balance.
func bareFace(c Card) web.CardFace {
	f := faceOfCard(c)
	f.Value = ""
	return f
}

func lockDialog(ctx context.Context, v cardView, open, title, body, do web.Text, act, icon string) web.Confirm {
	return web.Confirm{ID: act, Open: open, Icon: icon, Title: title, Body: body, Do: do, Danger: act == "block",
		About: words.Card, Receiver: cardName(ctx, v.card), Action: "/my/cards/" + v.card.Key() + "/" + act, Hidden: map[string]string{"ref": v.ref}}
}

func blockDialog(ctx context.Context, v cardView) web.Confirm {
	return lockDialog(ctx, v, words.Block, words.BlockTitle, words.BlockBody, words.BlockDo, "block", "lock")
}

func unblockDialog(ctx context.Context, v cardView) web.Confirm {
	return lockDialog(ctx, v, words.Unblock, words.UnblockTitle, words.UnblockBody, words.UnblockDo, "unblock", "lock-open")
}

func defaultDialog(ctx context.Context, v cardView) web.Confirm {
	return lockDialog(ctx, v, words.MakeDefault, words.DefaultTitle, words.DefaultBody, words.MakeDefault, "default", "circle-check")
}

func repayDialog(ctx context.Context, v cardView) web.Confirm {
	c := lockDialog(ctx, v, words.Repay, words.RepayTitle, words.RepayBody, words.Repay, "repay", "receipt")
	c.Amount = web.Yuan(v.card.OwesFen)
	c.Hidden["fen"] = fmt.Sprint(v.card.OwesFen)
	return c
}

func returnDialog(ctx context.Context, v cardView) web.Confirm {
	c := lockDialog(ctx, v, words.Return, words.ReturnTitle, words.ReturnBody, words.ReturnDo, "return", "trash-2")
	c.Danger = true
	switch back := v.card.Fen + v.card.DepositFen; {
	case v.card.Worth() || v.card.DepositFen != 0:
		c.Amount = web.Yuan(back)
	default:
		c.Body = words.ReturnBodyBare
	}
	return c
}

// cardName names a card as its owner knows it.
func cardName(ctx context.Context, c Card) string {
	if c.For == issuing.Canteen || c.For == issuing.Door || c.For == issuing.Coupon {
		return c.Name.In(ctx)
	}
	return c.Name.In(ctx) + " •••• " + tail(c)
}

func addDialog(ctx context.Context, p Product, ref string) web.Confirm {
	c := web.Confirm{ID: "add-" + idOf(p.Code), Open: words.Add, Icon: "plus", Title: words.AddTitle.F(""), Body: words.AddLead, Do: words.Add,
		About: words.IssuerIs, Receiver: p.Issuer.In(ctx), Action: "/my/add", Hidden: map[string]string{"ref": ref, "product": p.Code}}
	c.Title = web.Text{ZH: words.AddTitle.To(web.ZH, p.Name.ZH), EN: words.AddTitle.To(web.EN, p.Name.EN)}
	if p.DepositFen != 0 {
		c.Amount, c.Body, c.About = web.Yuan(p.DepositFen), words.AddBody, web.Text{}
	}
	return c
}

// idOf makes a product's code fit for an element's id.
func idOf(code string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' {
			return r
		}
		return '_'
	}, code)
}

func priceWords(p Product) web.Text {
	if p.DepositFen == 0 {
		return words.Free
	}
	return words.DepositFrom.F(web.Yuan(p.DepositFen))
}

// kilo writes bytes of an element: 4.0 KB.
func kilo(n int) string { return fmt.Sprintf("%d.%d KB", n>>10, n&1023*10>>10) }

// percent is a share for a bar's width, 0 to 100 with one digit.
func percent(part, whole int) string {
	if whole <= 0 {
		return "0"
	}
	return fmt.Sprintf("%.1f", min(100, float64(part)*100/float64(whole)))
}

func cardFacts(ctx context.Context, v cardView) []web.Fact {
	c := v.card
	var facts []web.Fact
	add := func(when bool, f web.Fact) {
		if when {
			facts = append(facts, f)
		}
	}
	add(c.For == issuing.Transit, web.Fact{Name: words.Number, Value: grouped(string(c.Number)), Mono: true})
	add(c.Pays(), web.Fact{Name: words.Number, Value: "•••• " + c.Tail, Mono: true})
	add(true, web.Fact{Name: words.IssuerIs, Value: c.Issuer.In(ctx)})
	add(!c.To.IsZero(), web.Fact{Name: words.ValidTo, Value: web.Moment(c.To)[:10]})
	add(c.Worth() && c.MaxFen > 0, web.Fact{Name: words.MaxOnCard, Value: web.Yuan(c.MaxFen)})
	add(c.DepositFen != 0, web.Fact{Name: words.Deposit, Value: web.Yuan(c.DepositFen)})
	add(!c.Doors.Empty(), web.Fact{Name: words.OpensWhat, Value: c.Doors.In(ctx)})
	add(!c.Was.Empty(), web.Fact{Name: words.CarriedOver, Value: c.Was.In(ctx)})
	add(c.Worth() && !c.Seen.IsZero(), web.Fact{Name: words.LastSeen, Value: web.Moment(c.Seen)})
	return facts
}

// grouped writes a card number in fours, without the leading zero of its file.
func grouped(n string) string {
	if len(n) == 20 {
		n = strings.TrimPrefix(n, "0")
	}
	var b strings.Builder
	for i, r := range n {
		if i > 0 && i%4 == 0 {
			b.WriteByte(' ')
		}
		b.WriteRune(r)
	}
	return b.String()
}

func doneWords(o Order) web.Text {
	switch o.Kind {
	case OrderIssue:
		return words.DoneIssue
	case OrderTopUp:
		return words.DoneTopUp.F(web.Yuan(o.Fen))
	default:
		return web.Text{ZH: o.Name.ZH + " · " + words.DoneOther.ZH, EN: o.Name.EN + " · " + words.DoneOther.EN}
	}
}

func receipt(ctx context.Context, v orderView) []web.Fact {
	var facts []web.Fact
	if !v.order.Firm.Empty() {
		facts = append(facts, web.Fact{Name: words.AskedBy, Value: v.order.Firm.In(ctx)})
	}
	if v.order.Fen != 0 {
		facts = append(facts, web.Fact{Name: words.Amount, Value: web.Yuan(v.order.Fen)},
			web.Fact{Name: words.From, Value: words.YourWallet.In(ctx)},
			web.Fact{Name: words.Fee, Value: words.NoFee.In(ctx)})
	}
	if v.have {
		facts = append(facts, web.Fact{Name: words.To, Value: cardName(ctx, v.card)})
	}
	return append(facts, web.Fact{Name: words.At, Value: web.Moment(v.order.Changed)}, web.Fact{Name: words.OrderNo, Value: v.order.ID, Mono: true})
}

// underBalance says what the figure on top of a card's page is.
func underBalance(c Card) (name web.Text, value string) {
	switch {
	case c.Coupon != nil:
		return words.UsesLeft, fmt.Sprintf("%d / %d", c.Coupon.Left, c.Coupon.Uses)
	case c.For == issuing.Credit:
		return words.Owed, web.Yuan(c.OwesFen)
	case c.For == issuing.Debit:
		return words.ECashOn, web.Yuan(c.Fen)
	case c.Worth():
		return words.OnTheCard, web.Yuan(c.Fen)
	}
	return web.Text{}, ""
}

// whatFor is the sentence under a card: what it is good for at a reader.
func whatFor(c Card) web.Text {
	return map[issuing.Kind]web.Text{issuing.Transit: words.RuleGate, issuing.Canteen: words.RuleCanteen, issuing.Door: words.RuleDoor,
		issuing.Coupon: words.RuleCoupon, issuing.ECash: words.RuleTill, issuing.Debit: words.RuleTill, issuing.Credit: words.RuleTill}[c.For]
}

// useOf is the button that takes a card to the readers it is for.
func useOf(c Card) (icon string, word web.Text) {
	switch c.For {
	case issuing.Canteen:
		return "utensils", words.GoEat
	case issuing.Door:
		return "door-open", words.GoOpen
	case issuing.Coupon:
		return "ticket", words.GoRedeem
	case issuing.Transit:
		return "nfc", words.Tap
	}
	return "nfc", words.GoPay
}

func tripFacts(ctx context.Context, t Trip) []web.Fact {
	place := func(at *Place, missing web.Text) string {
		if at == nil {
			return missing.In(ctx)
		}
		return at.Name.In(ctx) + " · " + web.Moment(at.At)
	}
	facts := []web.Fact{{Name: words.Entered, Value: place(t.In, words.MissingIn)}}
	if !t.Open && !t.Bus {
		facts = append(facts, web.Fact{Name: words.Left, Value: place(t.Out, words.MissingOut)})
	}
	if t.Metres > 0 {
		facts = append(facts, web.Fact{Name: words.Distance, Value: web.Metres(ctx, t.Metres)})
	}
	return facts
}

func repairQuestion(t Trip) web.Text {
	if t.In == nil {
		return words.WhereIn
	}
	return words.WhereOut
}

func stationsByName(ctx context.Context, n *web.Network) []web.MapStation {
	if n == nil {
		return nil
	}
	list := slices.Clone(n.Stations)
	slices.SortFunc(list, func(a, b web.MapStation) int { return strings.Compare(a.Name.In(ctx), b.Name.In(ctx)) })
	return list
}

// wearAct is what a hand would do with the band now.
func wearAct(b BandView) string {
	if b.Worn {
		return "off"
	}
	return "on"
}

func wearWord(b BandView) web.Text {
	if b.Worn {
		return words.TakeOff
	}
	return words.PutOn
}

// roomShares places the issuers' shares on a bar of 100 units.
func roomShares(r Room) (out [][2]string) {
	at := 0
	for _, i := range r.Issuers {
		out = append(out, [2]string{percent(at, r.Size), percent(i.Used, r.Size)})
		at += i.Used
	}
	return out
}

// plainYuan is an amount as a form sends it.
func plainYuan(fen int64) string { return fmt.Sprintf("%d.%02d", fen/100, fen%100) }

func mostAt(g Gate) web.Text {
	if g.MaxFen == 0 {
		return web.Text{}
	}
	return words.AtMost.F(web.Yuan(g.MaxFen))
}

func firstDish(list []Dish) int64 {
	if len(list) == 0 {
		return 0
	}
	return list[0].Fen
}

func proofState(l proofLine) web.Text {
	switch l.tone {
	case web.Good:
		return words.ProofGood
	case web.Bad:
		return words.ProofBad
	default:
		return words.ProofOpen
	}
}

func useFacts(ctx context.Context, v useView) []web.Fact {
	facts := []web.Fact{{Name: words.At, Value: web.Moment(v.use.At)}}
	if !v.use.What.Empty() {
		facts = append(facts, web.Fact{Name: words.Paid, Value: v.use.What.In(ctx)})
	}
	if v.have {
		facts = append(facts, web.Fact{Name: words.PaidWith, Value: cardName(ctx, v.card), Href: "/my/cards/" + v.card.Key()})
	}
	return append(facts, v.use.Facts...)
}

// lostSteps is what happens when the band is reported lost.
func lostSteps(v lostView) []web.Text {
	return []web.Text{words.Happens1.F(len(v.cards)), words.Happens2, words.Happens3.F(web.Yuan(v.fen)), words.Happens4}
}

func lostDialog(ctx context.Context, v lostView) web.Confirm {
	return web.Confirm{ID: "report", Open: words.LostDo, Icon: "triangle-alert", Title: words.LostConfirm, Body: words.LostConfirmBody, Do: words.LostDo,
		Danger: true, Amount: web.Yuan(v.fen), About: words.Cards, Receiver: fmt.Sprint(len(v.cards)), Action: "/my/lost/report", Hidden: map[string]string{"ref": v.ref}}
}

func claimDialog(ctx context.Context, c LostCard, i int) web.Confirm {
	return web.Confirm{ID: fmt.Sprintf("claim-%d", i), Open: words.ClaimNow, Icon: "wallet", Title: words.ClaimTitle, Body: words.ClaimBody, Do: words.ClaimNow,
		Amount: web.Yuan(c.Fen), Receiver: words.YourWallet.In(ctx), Action: "/my/lost/claim", Hidden: map[string]string{"card": c.Card.Key()}}
}

func lostFacts(ctx context.Context, c LostCard) []web.Fact {
	var facts []web.Fact
	if c.Card.Worth() {
		facts = append(facts, web.Fact{Name: words.ProvenLast, Value: web.Yuan(c.Fen)})
	}
	if !c.Due.IsZero() {
		facts = append(facts, web.Fact{Name: words.MoneyBack, Value: words.DueOn.In(ctx, web.Moment(c.Due)[:10])})
	}
	return append(facts, c.Carried...)
}

// barTitle says a bar in words.
func barTitle(ctx context.Context, b bar, sleep bool) string {
	if sleep {
		return web.Day(ctx, b.day) + " · " + hours(ctx, b.value)
	}
	return web.Day(ctx, b.day) + " · " + web.Number(b.value)
}

// dayOfMonth labels a bar.
func dayOfMonth(t time.Time) string { return strings.TrimLeft(web.Moment(t)[8:10], "0") }

// chartTop says what the full height stands for.
func chartTop(ctx context.Context, c chart, sleep bool) string {
	if sleep {
		return hours(ctx, c.top)
	}
	return web.Number(c.top)
}

// stepsDone is how many steps of an order are behind it.
func stepsDone(o Order) (n int) {
	for _, s := range o.Steps {
		if s.State == web.StepDone {
			n++
		}
	}
	return n
}

// stepNow is the step an order is in, or its state between steps.
func stepNow(o Order) web.Text {
	for _, s := range o.Steps {
		if s.State == web.StepNow {
			return s.Name
		}
	}
	return o.State
}
