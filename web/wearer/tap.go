package wearer

import (
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"koala/issuing"
	"koala/spec/dialogue"
	"koala/web"
)

// tapView is the choice of where to hold the band, or the reader one stands at.
type tapView struct {
	gates   []Gate
	chosen  *Gate
	sought  string // what was typed and is no place
	usable  int    // cards that answer anywhere
	cards   []Card // that answer at the chosen reader, the automatic one first
	network *web.Network
	ref     string
	open    *Trip // the ride one is on
	band    BandView
	wrist   bool
}

// press says what the round button does: a till takes more than bands.
func (v tapView) press() web.Text {
	if v.swipes() {
		return words.PayHere
	}
	return words.HoldHere
}

// swipes tells whether the place takes a stripe: a card of the band is not needed.
func (v tapView) swipes() bool { return v.chosen != nil && v.chosen.Online }

func (p pages) tapForm(w http.ResponseWriter, r *http.Request) error {
	ctx, me := r.Context(), who(r)
	v := tapView{network: p.Network, ref: p.Ref(), wrist: p.Wrist != nil}
	var err error
	if v.gates, err = p.Street.Gates(ctx); err != nil {
		return fmt.Errorf("gates: %w", err)
	}
	cards, band, err := p.hand(ctx, me)
	if err != nil {
		return err
	}
	v.band = band
	for _, c := range cards {
		if c.Usable {
			v.usable++
		}
	}
	at := r.FormValue("at")
	if i := slices.IndexFunc(v.gates, func(g Gate) bool { return isAt(g, at) }); i >= 0 {
		v.chosen = &v.gates[i]
		v.cards = couponsOf(cardsFor(cards, v.chosen.At()), *v.chosen)
	} else {
		v.sought = strings.TrimSpace(at)
	}
	trips, err := p.Trips.Trips(ctx, me, "", 1)
	if err != nil {
		return fmt.Errorf("trips: %w", err)
	}
	if len(trips) > 0 && trips[0].Open {
		v.open = &trips[0]
	}
	page := web.Page{Title: words.TapTitle, Lead: words.TapLead, Here: "/my/tap"}
	if v.chosen != nil && !v.chosen.gate() {
		page = web.Page{Title: v.chosen.Name, Back: "/my/tap", Here: "/my/tap", Lead: readerLeads[v.chosen.At()]}
	}
	return p.show(w, r, page, tapPage(v))
}

// couponsOf leaves the coupons out that a shop does not take.
func couponsOf(cards []Card, g Gate) []Card {
	return slices.DeleteFunc(cards, func(c Card) bool { return c.Coupon != nil && !g.Shop.Empty() && c.Coupon.Merchant != g.Shop })
}

// readerLeads says what one does at each kind of reader.
var readerLeads = map[ReaderKind]web.Text{ReaderTill: words.LeadTill, ReaderPhone: words.LeadPhone, ReaderCanteen: words.LeadCanteen,
	ReaderDoor: words.LeadDoor, ReaderCoupon: words.LeadCoupon}

const (
	// maxPull is the last command in which the band may be pulled away at a
	// gate; other readers say more.
	maxPull      = 12
	maxPullTill  = 24
	maxTypedPIN  = 12
	maxMenuLines = 64
)

func pulls(k ReaderKind) int {
	if k == ReaderGate || k == ReaderBus {
		return maxPull
	}
	return maxPullTill
}

func (p pages) tap(w http.ResponseWriter, r *http.Request) error {
	ctx, me := r.Context(), who(r)
	gates, err := p.Street.Gates(ctx)
	if err != nil {
		return fmt.Errorf("gates: %w", err)
	}
	a := TapAct{Ref: r.PostFormValue("ref"), Gate: r.PostFormValue("gate")}
	if how := r.PostFormValue("how"); how != "swipe" && how != "scan" {
		c, err := p.find(r, r.PostFormValue("card"))
		if err != nil {
			return err
		}
		a.Card = c.Number
	}
	kind := ReaderGate
	if i := slices.IndexFunc(gates, func(g Gate) bool { return g.ID == a.Gate }); i >= 0 {
		kind = gates[i].At()
	}
	if r.PostFormValue("early") != "" {
		if a.Pull, err = strconv.Atoi(r.PostFormValue("pull")); err != nil || a.Pull < 1 || a.Pull > pulls(kind) {
			return fmt.Errorf("pull away: %w", web.ErrForm)
		}
	}
	if err = a.fill(r, kind); err == nil {
		err = p.Street.Tap(ctx, me, a)
	}
	if err != nil {
		return p.sorry(w, r, tapAt(a.Gate), err)
	}
	return web.Redirect(w, r, "/my/taps/"+a.Ref, web.Toast{})
}

// fill takes what a kind of reader asks for beside the card.
func (a *TapAct) fill(r *http.Request, kind ReaderKind) (err error) {
	switch kind {
	case ReaderTill, ReaderPhone:
		how := r.PostFormValue("how")
		a.Contact, a.Swipe, a.Scan, a.PIN = how == "insert", how == "swipe", how == "scan" && kind == ReaderTill, r.PostFormValue("pin")
		if len(a.PIN) > maxTypedPIN {
			return ErrPIN
		}
		a.Fen, err = parseYuan(cmp.Or(r.PostFormValue("other"), r.PostFormValue("amount")))
	case ReaderCoupon:
		a.Coupon = string(a.Card)
		if bill := strings.TrimSpace(r.PostFormValue("other")); bill != "" {
			a.Fen, err = parseYuan(bill)
		}
	case ReaderCanteen:
		for _, s := range r.PostForm["dish"] {
			n, err := strconv.ParseUint(s, 10, 8)
			if err != nil || len(a.Dishes) == maxMenuLines {
				return fmt.Errorf("dish: %w", web.ErrForm)
			}
			a.Dishes = append(a.Dishes, byte(n))
		}
		if len(a.Dishes) == 0 {
			return ErrDish
		}
	}
	return err
}

// tappedView is how a tap ended.
type tappedView struct {
	tap    TapResult
	talk   []web.Exchange
	proofs []proofLine
	card   *Card
	locked bool // the band is, and was refused
}

func (p pages) tapped(w http.ResponseWriter, r *http.Request) error {
	ctx, me := r.Context(), who(r)
	t, err := p.Street.Tapped(ctx, me, r.PathValue("ref"))
	if err != nil {
		return fmt.Errorf("tap: %w", err)
	}
	v := tappedView{tap: t}
	if v.talk, v.proofs, err = p.told(ctx, t.Talk); err != nil {
		return err
	}
	cards, band, err := p.hand(ctx, me)
	if err != nil {
		return err
	}
	v.locked = band.Locked && t.Kind == TapRefused
	for i, c := range cards {
		if c.Number == t.Card {
			v.card = &cards[i]
		}
	}
	return p.show(w, r, web.Page{Title: t.Place, Back: "/my/tap", Here: "/my/tap"}, tappedPage(v))
}

// gate tells whether a tap happened at a gate or in a bus.
func (t TapResult) gate() bool {
	return t.Reader == "" || t.Reader == ReaderGate || t.Reader == ReaderBus
}

// charged names what a tap took: a coupon takes off.
func (t TapResult) charged() web.Text {
	if t.Reader == ReaderCoupon {
		return words.TakenOff
	}
	return words.Fare
}

// slip is the receipt in the page's language.
func (t TapResult) slip(ctx context.Context) string {
	if web.LangOf(ctx) == web.ZH && len(t.ReceiptZH) > 0 {
		return strings.Join(t.ReceiptZH, "\n")
	}
	return strings.Join(t.Receipt, "\n")
}

// A proofLine is one signature of a dialogue and what became of its check.
type proofLine struct {
	tone      web.Tone
	what, why web.Text
}

// proofWords names what a signature vouches for.
var proofWords = map[dialogue.CertificateKind]web.Text{dialogue.IssuerKey: words.ProofIssuer, dialogue.CardKey: words.ProofCard,
	dialogue.StaticData: words.ProofStatic, dialogue.Dynamic: words.ProofDynamic, dialogue.Combined: words.ProofCombined, dialogue.FastDDA: words.ProofFast}

// proofsOf lists the signatures that a dialogue held.
func proofsOf(rep dialogue.Report) (out []proofLine) {
	for _, c := range rep.Certificates {
		l := proofLine{tone: web.Good, what: proofWords[c.Kind], why: web.Text{ZH: cmp.Or(c.ReasonZH, c.Reason), EN: c.Reason}}
		switch {
		case !c.Decided:
			l.tone = web.Neutral
		case !c.OK:
			l.tone = web.Bad
		}
		if c.Signer != "" {
			l.why = web.Text{ZH: joined(cmp.Or(c.SignerZH, c.Signer), l.why.ZH), EN: joined(c.Signer, l.why.EN)}
		}
		out = append(out, l)
	}
	return out
}

func tapAt(place string) string { return "/my/tap?at=" + place }

// placeLabels are named on the map one picks a station from.
var placeLabels = []string{"dongdan", "xizhimen", "wangjing", "songjiazhuang", "pingguoyuan"}

// isAt tells whether what was picked or typed means gate g: its id, its
// station's id, or its name in either language.
func isAt(g Gate, at string) bool {
	at = strings.TrimSpace(at)
	return at != "" && (g.ID == at || g.Station == at && (g.At() == ReaderGate) || g.Name.ZH == at || strings.EqualFold(g.Name.EN, at))
}

// placesOf lists the readers of some kinds.
func placesOf(gates []Gate, kinds ...ReaderKind) []Gate {
	return slices.DeleteFunc(slices.Clone(gates), func(g Gate) bool { return !slices.Contains(kinds, g.At()) })
}

// A placeGroup is the readers of one kind under their heading.
type placeGroup struct {
	name  web.Text
	icon  string
	gates []Gate
}

// groupsOf lists what there is beside stations.
func groupsOf(gates []Gate) (out []placeGroup) {
	for _, g := range []placeGroup{
		{words.Tills, "store", placesOf(gates, ReaderTill)}, {words.ShopPhones, "tablet-smartphone", placesOf(gates, ReaderPhone)}, {words.Canteens, "utensils", placesOf(gates, ReaderCanteen)},
		{words.DoorsHere, "door-open", placesOf(gates, ReaderDoor)}, {words.CouponDesks, "ticket", placesOf(gates, ReaderCoupon)},
		{words.Buses, "bus", placesOf(gates, ReaderBus)},
	} {
		if len(g.gates) > 0 {
			out = append(out, g)
		}
	}
	return out
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

// between names who spoke.
func (m Message) between() web.Text {
	host, way := m.Way[:max(0, len(m.Way)-1)], m.Way[max(0, len(m.Way)-1):]
	switch {
	case m.Way == "terminal":
		return words.SaidTerminal
	case way == ">":
		return words.SaidAsked.F(host)
	case way == "<":
		return words.SaidAnswered.F(host)
	}
	return words.SaidNote
}

// what says what the log has of the message.
func (m Message) what() web.Text {
	if len(m.Note) == 2 {
		return words.SaidAnswer.F(m.Note)
	}
	return web.Text{ZH: m.Note, EN: m.Note}
}

// code is the message type, blank for a note.
func (m Message) code() string { return m.MTI }

// tillAmounts are one tap away at a till, fen.
var tillAmounts = []int64{3_50, 12_00, 18_00, 35_00, 68_00, 120_00}

func amountsAt(g Gate) []int64 {
	return slices.DeleteFunc(slices.Clone(tillAmounts), func(fen int64) bool { return g.MaxFen > 0 && fen > g.MaxFen })
}

// An ending is the picture, the words and the tone of how a tap ended.
type ending struct {
	icon string
	tone web.Tone
	said web.Text
}

var endings = map[TapKind]ending{
	TapIn: {"arrow-down-left", web.Good, words.DidIn}, TapOut: {"arrow-up-right", web.Good, words.DidOut}, TapBus: {"bus", web.Good, words.DidBus},
	TapPaid: {"check", web.Good, words.DidPay}, TapOnline: {"check", web.Good, words.DidPayOnline}, TapServed: {"utensils", web.Good, words.DidServe},
	TapOpened: {"door-open", web.Good, words.DidOpen}, TapRedeemed: {"ticket", web.Good, words.DidRedeem},
	TapReturned: {"arrow-down-left", web.Good, words.DidReturn},
	TapRefused:  {"ban", web.Bad, words.DidRefuse}, TapTorn: {"wifi-off", web.Warn, words.DidTear},
}

// end says how a tap ended; a refusal at a gate is sent to the service window.
func (t TapResult) end() ending {
	e := endings[t.Kind]
	if t.Kind == TapRefused && !t.gate() {
		e.said = words.DidDecline
	}
	return e
}

// tornHint says what to do after a tear, which depends on who finishes it.
func (t TapResult) tornHint() web.Text {
	if t.gate() {
		return words.TornHint
	}
	return words.TornHintTill
}

// What a reader may take from the first bit to the end.
const (
	gateLimit = 300 * time.Millisecond
	tillLimit = 500 * time.Millisecond
)

func (t TapResult) limit() time.Duration {
	if t.gate() {
		return gateLimit
	}
	return tillLimit
}

func limitWords(t TapResult) web.Text {
	if t.Total <= t.limit() {
		return words.Within.F(t.limit().Milliseconds())
	}
	return words.Beyond.F(t.limit().Milliseconds())
}

// bars places the shares of a tap on a bar as wide as the limit, in 300 units.
func bars(t TapResult) [][2]string {
	var out [][2]string
	at := 0.0
	for _, p := range t.Parts {
		w := min(float64(p.Took)/float64(t.limit())*300, 300-at)
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

// millis writes a duration as people compare taps: 182 ms.
func millis(d time.Duration) string {
	if d < 10*time.Millisecond {
		return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond))
	}
	return fmt.Sprintf("%d ms", d.Milliseconds())
}

// holdsMoney tells whether a balance is worth a figure at the end of a tap.
func (v tappedView) holdsMoney() bool {
	if v.tap.Reader != "" && v.tap.BalanceFen < 0 {
		return false // the till could not read it
	}
	return v.tap.Kind != TapTorn && v.tap.Kind != TapOpened && (v.card == nil || v.card.For != issuing.Coupon && v.card.For != issuing.Door && v.card.For != issuing.Credit)
}

// Bounds of a picture that a pad sends, and what of it must be drawn: dots.
const (
	maxDrawn  = 256 << 10 // characters of the form field
	maxWide   = 800
	maxHigh   = 400
	leastInk  = 40
	darkBelow = 0x9000 // of 0xFFFF
)

// pictureLead is how a browser begins a canvas.
const pictureLead = "data:image/png;base64,"

// inked makes a pad's picture two colours of it, which any terminal can keep: a
// canvas has soft edges and weighs ten times as much.
func inked(field string) ([]byte, error) {
	body, found := strings.CutPrefix(field, pictureLead)
	if !found || len(field) > maxDrawn {
		return nil, ErrSignature
	}
	raw, err := base64.StdEncoding.DecodeString(body)
	if err != nil {
		return nil, ErrSignature
	}
	if c, err := png.DecodeConfig(bytes.NewReader(raw)); err != nil || c.Width > maxWide || c.Height > maxHigh {
		return nil, ErrSignature
	}
	from, err := png.Decode(bytes.NewReader(raw))
	if err != nil {
		return nil, ErrSignature
	}
	at := from.Bounds()
	to, ink := image.NewPaletted(image.Rect(0, 0, at.Dx(), at.Dy()), color.Palette{color.White, color.Black}), 0
	for y := range at.Dy() {
		for x := range at.Dx() {
			c := from.At(at.Min.X+x, at.Min.Y+y)
			if _, _, _, opaque := c.RGBA(); opaque > 0xFFFF/2 && color.Gray16Model.Convert(c).(color.Gray16).Y < darkBelow {
				to.SetColorIndex(x, y, 1)
				ink++
			}
		}
	}
	if ink < leastInk {
		return nil, ErrSignature
	}
	var out bytes.Buffer
	if err := (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&out, to); err != nil {
		return nil, fmt.Errorf("a signature: %w", err)
	}
	return out.Bytes(), nil
}

// sign puts the cardholder's signature onto the slip of a sale.
func (p pages) sign(w http.ResponseWriter, r *http.Request) error {
	ref := r.PathValue("ref")
	picture, err := inked(r.PostFormValue("picture"))
	if err == nil {
		err = p.Street.Sign(r.Context(), who(r), ref, picture)
	}
	if err != nil {
		return p.sorry(w, r, "/my/taps/"+ref, err)
	}
	return web.Redirect(w, r, "/my/taps/"+ref, web.Toast{Tone: web.Good, Text: words.SignDone.In(r.Context())})
}

// drawn is the signature as a picture for the page.
func (t TapResult) drawn() string {
	return pictureLead + base64.StdEncoding.EncodeToString(t.Signature)
}
