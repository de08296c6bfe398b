package wearer

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"koala/web"
)

func faceOfCard(c Card) web.CardFace {
	return web.CardFace{Kind: c.Kind, Name: c.Name, Issuer: c.Issuer, Tail: web.Tail(string(c.Number)), Value: web.Yuan(c.Fen), Off: !c.Usable}
}

// fadedFace is a card on its way into the band.
func fadedFace(c Card) web.CardFace {
	f := faceOfCard(c)
	f.Off, f.Value = true, ""
	return f
}

func lockDialog(ctx context.Context, v cardView, open, title, body, do web.Text, act, icon string) web.Confirm {
	return web.Confirm{ID: act, Open: open, Icon: icon, Title: title, Body: body, Do: do, Danger: act == "block",
		About: words.Card, Receiver: cardName(ctx, v.card), Action: "/my/cards/" + v.card.Key() + "/" + act, Hidden: map[string]string{"ref": v.ref}}
}

func returnDialog(ctx context.Context, v cardView) web.Confirm {
	c := lockDialog(ctx, v, words.Return, words.ReturnTitle, words.ReturnBody, words.ReturnDo, "return", "trash-2")
	c.Danger, c.Amount = true, web.Yuan(v.card.Fen+v.card.DepositFen)
	return c
}

// cardName names a card as its owner knows it.
func cardName(ctx context.Context, c Card) string {
	return c.Name.In(ctx) + " •••• " + web.Tail(string(c.Number))
}

func addDialog(ctx context.Context, i int, p Product, ref string) web.Confirm {
	c := web.Confirm{ID: fmt.Sprintf("add-%d", i), Open: words.Add, Icon: "plus", Title: words.AddTitle.F(""), Body: words.AddLead, Do: words.Add,
		Receiver: p.Issuer.In(ctx), Action: "/my/add", Hidden: map[string]string{"ref": ref, "product": p.Code}}
	c.Title = web.Text{ZH: words.AddTitle.To(web.ZH, p.Name.ZH), EN: words.AddTitle.To(web.EN, p.Name.EN)}
	if p.DepositFen != 0 {
		c.Amount, c.Body = web.Yuan(p.DepositFen), words.AddBody
	}
	return c
}

// lacksDeposit tells whether nothing on offer can be paid for now.
func lacksDeposit(v catalogueView) bool {
	least := int64(-1)
	for _, p := range v.products {
		if !p.Have && (least < 0 || p.DepositFen < least) {
			least = p.DepositFen
		}
	}
	return least > v.wallet.Fen
}

func depositWords(p Product) web.Text {
	if p.DepositFen == 0 {
		return words.Free
	}
	return words.DepositFrom.F(web.Yuan(p.DepositFen))
}

func cardFacts(c Card) []web.Fact {
	facts := []web.Fact{
		{Name: words.Number, Value: grouped(string(c.Number)), Mono: true},
		{Name: words.ValidTo, Value: web.Moment(c.To)[:10]},
		{Name: words.MaxOnCard, Value: web.Yuan(c.MaxFen)},
		{Name: words.Deposit, Value: web.Yuan(c.DepositFen)},
	}
	if !c.Seen.IsZero() {
		facts = append(facts, web.Fact{Name: words.LastSeen, Value: web.Moment(c.Seen)})
	}
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

func tapAt(place string) string { return "/my/tap?at=" + place }

// placeLabels are named on the map one picks a station from.
var placeLabels = []string{"dongdan", "xizhimen", "wangjing", "songjiazhuang", "pingguoyuan"}

// isAt tells whether what was picked or typed means gate g: its id, its
// station's id, or its name in either language.
func isAt(g Gate, at string) bool {
	at = strings.TrimSpace(at)
	return at != "" && (g.ID == at || g.Station == at || g.Name.ZH == at || strings.EqualFold(g.Name.EN, at))
}

func onlyBuses(gates []Gate) []Gate {
	return slices.DeleteFunc(slices.Clone(gates), func(g Gate) bool { return !g.Bus })
}

func linesAt(n *web.Network, station string) []web.MapLine {
	if n == nil {
		return nil
	}
	var out []web.MapLine
	s, _ := n.Station(station)
	for _, id := range s.Lines {
		if l, ok := n.Line(id); ok {
			out = append(out, l)
		}
	}
	return out
}

func tapTone(k TapKind) web.Tone {
	switch k {
	case TapRefused:
		return web.Bad
	case TapTorn:
		return web.Warn
	default:
		return web.Good
	}
}

func tapIcon(k TapKind) string {
	return map[TapKind]string{TapIn: "arrow-down-left", TapOut: "arrow-up-right", TapBus: "bus", TapRefused: "ban", TapTorn: "wifi-off"}[k]
}

func tapWords(k TapKind) web.Text {
	return map[TapKind]web.Text{TapIn: words.DidIn, TapOut: words.DidOut, TapBus: words.DidBus, TapRefused: words.DidRefuse, TapTorn: words.DidTear}[k]
}

// tapLimit is what a gate may take: 300 ms from the first bit to the doors.
const tapLimit = 300 * time.Millisecond

func limitWords(t TapResult) web.Text {
	if t.Total <= tapLimit {
		return words.Within
	}
	return words.Beyond
}

// bars places the shares of a tap on a bar of 300 units, one a millisecond.
func bars(t TapResult) [][2]string {
	var out [][2]string
	at := 0.0
	for _, p := range t.Parts {
		w := min(float64(p.Took)/float64(time.Millisecond), 300-at)
		out = append(out, [2]string{fmt.Sprintf("%.2f", at), fmt.Sprintf("%.2f", max(w, 0))})
		at += w
	}
	return out
}

func partLines(t TapResult) []web.Line {
	var out []web.Line
	for _, p := range t.Parts {
		out = append(out, web.Line{Text: p.Name, Value: millis(p.Took)})
	}
	return append(out, web.Line{Text: words.AirTime, Value: millis(t.Total), Total: true})
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
