package wearer_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"koala/internal/clock"
	"koala/internal/db"
	"koala/internal/db/dbtest"
	"koala/issuing"
	"koala/spec/iso7816"
	"koala/spec/purse"
	"koala/transit/network"
	"koala/web"
	"koala/web/home"
	"koala/web/wearer"
)

// A gallery is a person with one card of every kind, a band in every state and
// readers of every kind, all written down here: what the pages do with it is
// what is tested.
type gallery struct {
	cards    []wearer.Card
	products []wearer.Product
	orders   []wearer.Order
	uses     []wearer.Use
	loss     *wearer.Loss
	days     []wearer.Day
	consents []wearer.Consent
	view     wearer.BandView
	taps     map[string]wearer.TapResult
	acts     []wearer.TapAct
	calls    []string // what was asked for
	fails    error    // what the wrist says next
}

var noon = time.Date(2015, 9, 16, 4, 0, 0, 0, time.UTC)

func text(zh, en string) web.Text { return web.Text{ZH: zh, EN: en} }

func newGallery() *gallery {
	g := &gallery{taps: map[string]wearer.TapResult{}}
	add := func(id issuing.CardID, k issuing.Kind, art web.CardKind, name, issuer web.Text, c wearer.Card) {
		c.Number, c.For, c.Kind, c.Name, c.Issuer = id, k, art, name, issuer
		if c.State.Empty() {
			c.State, c.Tone, c.Usable = text("可用", "ready"), web.Good, true
		}
		c.To, c.Seen = noon.AddDate(5, 0, 0), noon.Add(-time.Hour)
		g.cards = append(g.cards, c)
	}
	bank, firm := text("考拉银行（模拟发卡行）", "koala bank (simulated issuer)"), text("东单食堂公司", "Dongdan Catering")
	add("03105170070000000018", issuing.Transit, web.CardTransit, text("北京市政交通一卡通", "Beijing transit card"), text("北京一卡通（模拟发卡方）", "Beijing Yikatong (simulated issuer)"),
		wearer.Card{Tail: "0018", Fen: 46_00, Loads: true, MinLoadFen: 1, MaxLoadFen: 500_00, MaxFen: 1000_00, DepositFen: 20_00, Space: 4 << 10, Was: text("本月已乘 12 次", "12 rides of this month")})
	add("card_cash", issuing.ECash, web.CardCash, text("电子现金卡", "E-cash card"), bank,
		wearer.Card{Tail: "4417", Fen: 182_50, Loads: true, MinLoadFen: 1, MaxLoadFen: 1000_00, MaxFen: 1000_00, Space: 12 << 10, Default: true, OnceFen: 300_00, OnceMaxFen: 1000_00,
			Limits: []web.Fact{{Name: text("脱机单笔", "One offline payment"), Value: "¥1\u2009000.00"}}})
	add("card_debit", issuing.Debit, web.CardDebit, text("借记卡", "Debit card"), bank,
		wearer.Card{Tail: "9026", Fen: 20_00, Loads: true, MinLoadFen: 1, MaxLoadFen: 1000_00, MaxFen: 1000_00, Space: 12 << 10,
			Limits: []web.Fact{{Name: text("联机单笔", "One online payment"), Value: "¥5\u2009000.00"}}})
	add("card_credit", issuing.Credit, web.CardCredit, text("信用卡", "Credit card"), bank,
		wearer.Card{Tail: "3308", Space: 12 << 10, CreditFen: 5000_00, OwesFen: 318_20, Blocked: true, State: text("已锁住", "blocked"), Tone: web.Warn})
	add("card_meal", issuing.Canteen, web.CardCanteen, text("园区饭卡", "Campus meal card"), firm,
		wearer.Card{Fen: 63_00, Loads: true, MinLoadFen: 1, MaxLoadFen: 500_00, MaxFen: 500_00, Space: 2 << 10})
	add("card_door", issuing.Door, web.CardDoor, text("园区门禁", "Campus door card"), firm, wearer.Card{Space: 1 << 10, Doors: text("7 号园区的门", "the doors of site 7")})
	add("card_tea", issuing.Coupon, web.CardCoupon, text("茶饮券", "Tea coupon"), text("东单茶铺", "Dongdan Tea"),
		wearer.Card{Space: 512, Coupon: &wearer.Coupon{Gives: text("立减 ¥5.00", "¥5.00 off"), Merchant: text("东单茶铺", "Dongdan Tea"), Uses: 5, Left: 3}})
	for _, c := range g.cards {
		g.products = append(g.products, wearer.Product{Code: "p/" + string(c.For), For: c.For, Kind: c.Kind, Name: c.Name, Issuer: c.Issuer, Space: c.Space,
			Note: text("一句话说明", "what it is good for"), Firm: c.Issuer == firm, Have: c.For != issuing.Credit && c.For != issuing.Door})
	}
	g.view = wearer.BandView{ID: "band-ann", Battery: 76, Worn: true, Protected: true, Locked: true, Fen: map[issuing.CardID]int64{"card_cash": 170_00},
		Policy: wearer.Policy{Ride: true, Enter: true, Offer: true}, Firmware: 3, Trial: true, Steps: 8421, Phones: []string{"5F0A12C4B9E07D31"}, Size: 128 << 10}
	g.orders = []wearer.Order{
		{ID: "ord_1", Kind: wearer.OrderTopUp, Card: "card_cash", Name: text("充值", "top up"), Fen: 100_00, State: text("完成", "done"), Tone: web.Good, Over: true, Good: true, At: noon.Add(-3 * time.Hour)},
		{ID: "ord_2", Kind: wearer.OrderTopUp, Card: "card_debit", Name: text("充值", "top up"), Fen: 50_00, State: text("待查证", "not confirmed"), Tone: web.Warn, Unsure: true, At: noon.Add(-2 * time.Minute),
			Steps: []web.Step{{Name: text("等待手环", "Waiting for the band"), State: web.StepDone}, {Name: text("写入余额", "Writing the balance"), State: web.StepNow}}},
	}
	use := func(id string, k wearer.UseKind, card issuing.CardID, where, what web.Text, fen int64, state web.Text, tone web.Tone) {
		g.uses = append(g.uses, wearer.Use{ID: id, Kind: k, Card: card, At: noon.Add(-40 * time.Minute), Where: where, What: what, Fen: fen, State: state, Tone: tone})
	}
	use("pay_1", wearer.UsePayment, "card_cash", text("东单便利店", "Dongdan Corner Shop"), web.Text{}, 12_50, text("待清算", "waiting to be cleared"), web.Info)
	use("meal_1", wearer.UseMeal, "card_meal", text("园区食堂", "Campus canteen"), text("宫保鸡丁、米饭", "kung pao chicken, rice"), 14_00, text("已入账", "booked"), web.Good)
	use("pass_1", wearer.UsePassage, "card_door", text("7 号楼大门", "Building 7, main door"), web.Text{}, 0, text("已开门", "opened"), web.Good)
	use("red_1", wearer.UseRedemption, "card_tea", text("东单茶铺", "Dongdan Tea"), text("立减 ¥5.00", "¥5.00 off"), 0, text("已使用", "redeemed"), web.Good)
	for i := range 14 {
		g.days = append(g.days, wearer.Day{Start: noon.AddDate(0, 0, i-13), Steps: int64(4000 + i*i*47%9000), Asleep: int64(380 + i*29%150)})
	}
	g.consents = []wearer.Consent{{ID: "con_0", Band: "band-ann", Made: noon.Add(-time.Hour), Left: -45 * time.Minute, State: text("已使用", "used"), Tone: web.Good, By: text("嘉和", "Jiahe"), Order: "ord_1"}}
	g.orders[0].Firm = text("嘉和", "Jiahe")
	return g
}

func (g *gallery) call(format string, args ...any) {
	g.calls = append(g.calls, fmt.Sprintf(format, args...))
}

func (g *gallery) Wallet(context.Context, string) (wearer.Wallet, error) {
	return wearer.Wallet{Fen: 230_00, BankFen: 8000_00, Lines: []wearer.WalletLine{{At: noon, What: text("转入", "moved in"), Fen: 230_00, After: 230_00}}}, nil
}
func (g *gallery) Fund(context.Context, string, string, int64) error { return nil }
func (g *gallery) Cards(context.Context, string) ([]wearer.Card, error) {
	return slices.Clone(g.cards), nil
}
func (g *gallery) Products(context.Context, string) ([]wearer.Product, error) { return g.products, nil }
func (g *gallery) Apply(_ context.Context, _, _, product string) (string, error) {
	g.call("apply %s", product)
	return "ord_1", nil
}
func (g *gallery) TopUp(_ context.Context, _, _ string, card issuing.CardID, fen int64) (string, error) {
	g.call("topup %s %d", card, fen)
	return "ord_1", nil
}
func (g *gallery) SetLimit(_ context.Context, _, _ string, card issuing.CardID, fen int64) (string, error) {
	g.call("limit %s %d", card, fen)
	return "ord_1", nil
}
func (g *gallery) Firms(context.Context, string) ([]wearer.Firm, error) {
	return []wearer.Firm{{Code: "jiahe", Name: text("嘉和", "Jiahe"), Used: 3 << 10, Space: 12 << 10}, {Code: "tea", Name: text("茶馆", "Tea house")}}, nil
}
func (g *gallery) Consents(context.Context, string) ([]wearer.Consent, error) {
	return g.consents, nil
}
func (g *gallery) Agree(_ context.Context, _, _, firm string) (wearer.Consent, string, error) {
	g.call("agree %s", firm)
	c := wearer.Consent{ID: "con_1", Band: "band-ann", Firm: text("嘉和", "Jiahe"), Made: noon, Left: 15 * time.Minute, Lives: true, State: text("可用", "can be used"), Tone: web.Info}
	g.consents = append([]wearer.Consent{c}, g.consents...)
	return c, "7KQ2-M9XT", nil
}
func (g *gallery) TakeBack(_ context.Context, _, id string) error {
	g.call("take back %s", id)
	return nil
}
func (g *gallery) Act(_ context.Context, _, _ string, card issuing.CardID, kind wearer.OrderKind) (string, error) {
	g.call("%s %s", kind, card)
	return "ord_1", nil
}
func (g *gallery) SetPIN(_ context.Context, _, _ string, card issuing.CardID, pin string) (string, error) {
	g.call("pin %s %s", card, pin)
	return "", nil
}
func (g *gallery) PayCode(context.Context, string) (wearer.PayCode, error) {
	return wearer.PayCode{Digits: "281234567890123457", Until: time.Date(2015, 9, 16, 2, 1, 0, 0, time.UTC)}, nil
}

func (g *gallery) Repay(_ context.Context, _, _ string, card issuing.CardID, fen int64) error {
	g.call("repay %s %d", card, fen)
	return nil
}

// Points are those of a card that has some; the other has none.
func (g *gallery) Points(_ context.Context, _ string, card issuing.CardID, _ int) (wearer.Points, error) {
	out := wearer.Points{PerYuan: 1}
	for _, c := range g.cards {
		if c.Number == card && c.For == issuing.Debit {
			at := time.Date(2015, 9, 16, 1, 0, 0, 0, time.UTC)
			out.Left, out.WorthFen, out.Moves = 1234, 12_34, []wearer.PointMove{{At: at, Points: -66, Spent: true, Where: web.Same("0000002T0001")},
				{At: at.Add(-time.Hour), Spent: true, Where: web.Same("0000002T0000")}, {At: at.Add(-2 * time.Hour), Points: 1300, Where: web.Same("WOK")}}
		}
	}
	return out, nil
}
func (g *gallery) Orders(_ context.Context, _ string, card issuing.CardID, _ int) (out []wearer.Order, _ error) {
	for _, o := range g.orders {
		if card == "" || o.Card == card {
			out = append(out, o)
		}
	}
	return out, nil
}
func (g *gallery) Order(_ context.Context, _, id string) (wearer.Order, error) {
	for _, o := range g.orders {
		if o.ID == id {
			return o, nil
		}
	}
	return wearer.Order{}, wearer.ErrNoOrder
}
func (g *gallery) Cancel(context.Context, string, string) error { return nil }
func (g *gallery) Verify(context.Context, string, string) error { return nil }
func (g *gallery) Room(context.Context, string) (wearer.Room, error) {
	return wearer.Room{Size: 64 << 10, Issuers: []wearer.RoomOf{{Issuer: text("考拉银行", "koala bank"), Used: 36 << 10, Cards: 3}, {Issuer: text("北京一卡通", "Beijing Yikatong"), Used: 4 << 10, Cards: 1}}}, nil
}

func (g *gallery) Trips(context.Context, string, string, int) ([]wearer.Trip, error) { return nil, nil }
func (g *gallery) Trip(context.Context, string, string) (wearer.Trip, error) {
	return wearer.Trip{}, wearer.ErrNoTrip
}
func (g *gallery) Repair(context.Context, string, string, string) error { return nil }

func (g *gallery) Uses(_ context.Context, _ string, card issuing.CardID, _ int) (out []wearer.Use, _ error) {
	for _, u := range g.uses {
		if card == "" || u.Card == card {
			out = append(out, u)
		}
	}
	return out, nil
}

func (g *gallery) Use(_ context.Context, _, id string) (wearer.Use, error) {
	for _, u := range g.uses {
		if u.ID == id {
			u.Facts = []web.Fact{{Name: text("商户到账日", "The shop is paid on"), Value: "2015-09-17"}}
			u.Message = []web.Fact{{Name: text("交易计数器", "counter (9F36)"), Value: "23"}}
			u.Trace = []web.Happening{{At: u.At, What: text("卡片签出密文", "the card signed its cryptogram"), Icon: "nfc"}}
			u.Postings = []wearer.Posting{{Ref: "tc:1", From: text("卡内资金", "your card's float"), To: text("商户", "the shop"), Fen: u.Fen, At: u.At}}
			return u, nil
		}
	}
	return wearer.Use{}, wearer.ErrNoUse
}

func (g *gallery) Loss(context.Context, string) (wearer.Loss, bool, error) {
	if g.loss == nil {
		return wearer.Loss{}, false, nil
	}
	return *g.loss, true, nil
}
func (g *gallery) Report(context.Context, string) error   { g.call("report"); return nil }
func (g *gallery) Withdraw(context.Context, string) error { g.call("withdraw"); return nil }
func (g *gallery) Move(_ context.Context, _, _, band string) error {
	g.call("move %s", band)
	return nil
}
func (g *gallery) Claim(_ context.Context, _ string, card issuing.CardID) error {
	g.call("claim %s", card)
	return nil
}

func (g *gallery) Days(context.Context, string, int) ([]wearer.Day, error) { return g.days, nil }
func (g *gallery) Forget(context.Context, string) error {
	g.days = nil
	return nil
}

func (g *gallery) Band(context.Context, string) (wearer.BandView, error) { return g.view, nil }
func (g *gallery) Gates(context.Context) ([]wearer.Gate, error) {
	return []wearer.Gate{
		{ID: "dongdan", Station: "dongdan", Name: text("东单", "Dongdan")},
		{ID: "b1", Name: text("1 路", "Bus 1"), Bus: true},
		{ID: "till.1", Kind: wearer.ReaderTill, Station: "dongdan", Name: text("东单便利店", "Dongdan Corner Shop"), MaxFen: 100_00, Note: text("脱机，单笔 100 元以下", "offline, up to 100 yuan")},
		{ID: "canteen.1", Kind: wearer.ReaderCanteen, Name: text("园区食堂", "Campus canteen"), Dishes: []wearer.Dish{{1, text("宫保鸡丁", "Kung pao chicken"), 12_00}, {2, text("米饭", "Rice"), 2_00}}},
		{ID: "door.1", Kind: wearer.ReaderDoor, Name: text("7 号楼大门", "Building 7, main door"), Note: text("7:00–22:00", "7:00–22:00")},
		{ID: "coupon.1", Kind: wearer.ReaderCoupon, Shop: text("东单茶铺", "Dongdan Tea"), Name: text("东单茶铺柜台", "Dongdan Tea, desk")},
		{ID: "coupon.2", Kind: wearer.ReaderCoupon, Shop: text("书店", "Books"), Name: text("书店柜台", "Books, desk")},
	}, nil
}

func (g *gallery) Tap(_ context.Context, _ string, a wearer.TapAct) error {
	g.acts = append(g.acts, a)
	t := wearer.TapResult{Ref: a.Ref, Gate: a.Gate, Card: a.Card, Place: text("某处", "somewhere"), At: noon, Fen: a.Fen, BalanceFen: 157_50, Total: 318 * time.Millisecond,
		Parts: []wearer.TapPart{{Name: text("空中", "on the air"), Took: 210 * time.Millisecond}, {Name: text("卡片", "card"), Took: 108 * time.Millisecond}},
		Talk:  []wearer.Exchange{{Command: iso7816.Select(purse.AIDTUnion).Bytes(), Answer: []byte{0x6A, 0x82}}}}
	switch a.Gate {
	case "till.1":
		t.Reader, t.Kind, t.Payment = wearer.ReaderTill, wearer.TapPaid, "pay_1"
		t.Receipt, t.ReceiptZH = []string{"DONGDAN CORNER SHOP", "SALE   12.00"}, []string{"东单便利店", "消费   12.00"}
		if a.Contact {
			t.Kind = wearer.TapOnline
		}
	case "canteen.1":
		t.Reader, t.Kind, t.Payment = wearer.ReaderCanteen, wearer.TapServed, "meal_1"
	case "door.1":
		t.Reader, t.Kind = wearer.ReaderDoor, wearer.TapOpened
	case "coupon.1":
		t.Reader, t.Kind = wearer.ReaderCoupon, wearer.TapRedeemed
	default:
		t.Kind = wearer.TapIn
	}
	if a.Pull > 0 {
		t.Kind = wearer.TapTorn
	}
	if a.Fen > 100_00 {
		t.Kind, t.Reason = wearer.TapRefused, text("超过限额", "over the limit")
	}
	g.taps[a.Ref] = t
	return nil
}

func (g *gallery) Tapped(_ context.Context, _, ref string) (wearer.TapResult, error) {
	t, ok := g.taps[ref]
	if !ok {
		return t, wearer.ErrNoTap
	}
	return t, nil
}

func (g *gallery) Sign(_ context.Context, _, ref string, picture []byte) error {
	t, ok := g.taps[ref]
	if !ok {
		return wearer.ErrNoTap
	}
	t.Unsigned, t.Signature = false, picture
	g.taps[ref] = t
	return nil
}
func (g *gallery) Connect(context.Context, string) {}

func (g *gallery) Wear(_ context.Context, _ string, on bool) error {
	g.call("wear %v", on)
	return g.fails
}
func (g *gallery) Unlock(_ context.Context, _, code string) error {
	g.call("unlock %s", code)
	return g.fails
}
func (g *gallery) SetPasscode(_ context.Context, _, old, code string) error {
	g.call("passcode %s→%s", old, code)
	return g.fails
}
func (g *gallery) SetPolicy(_ context.Context, _ string, p wearer.Policy) error {
	g.call("policy %+v", p)
	return g.fails
}
func (g *gallery) Lose(context.Context, string) error { g.call("lose"); return g.fails }
func (g *gallery) NewBand(context.Context, string) (string, error) {
	g.call("new band")
	return "band-two", g.fails
}
func (g *gallery) Found(context.Context, string) error { g.call("found"); return g.fails }

// show opens a browser before the gallery.
func (g *gallery) show(t *testing.T) *site {
	t.Helper()
	ctx, now := t.Context(), clock.NewVirtual(noon)
	store, err := db.Open(ctx, db.Config{URL: dbtest.File(t), Clock: now, Rand: clock.Random(7), Inline: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	kit, err := web.New(ctx, web.Config{Store: store, Accounts: people{}, Rand: clock.Random(10), Now: now.Now})
	if err != nil {
		t.Fatal(err)
	}
	s := &site{t: t}
	server := httptest.NewServer(kit.House(wearer.New(wearer.Deps{Kit: kit, Desk: g, Trips: g, Uses: g, Losses: g, Firms: g, Body: g, Street: g, Wrist: g,
		Network: home.Map(network.Beijing()), Now: now.Now, Ref: s.ref})))
	t.Cleanup(server.Close)
	s.url = server.URL
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	s.browser = &http.Client{Jar: jar}
	s.post("/login", url.Values{"name": {"ann"}, "password": {"x"}, "back": {"/my/"}})
	return s
}

func (g *gallery) key(kind issuing.Kind) string {
	for _, c := range g.cards {
		if c.For == kind {
			return c.Key()
		}
	}
	panic("no card of kind " + kind)
}

func (g *gallery) asked(t *testing.T, want ...string) {
	t.Helper()
	if !slices.Equal(g.calls, want) {
		t.Errorf("asked for %q, want %q", g.calls, want)
	}
	g.calls = nil
}

var tags = regexp.MustCompile(`(?s)<(script|style)[^>]*>.*?</(script|style)>|<[^>]*>`)

// TestEveryPageInBothLanguages reads every page: no phrase with holes, no text
// of the other language, and every form names its reference where it moves money.
func TestEveryPageInBothLanguages(t *testing.T) {
	g := newGallery()
	s := g.show(t)
	paths := []string{"/my/", "/my/add", "/my/tap", "/my/security", "/my/firms", "/my/lost", "/my/activity", "/my/wallet", "/my/trips", "/my/orders/ord_1", "/my/orders/ord_2"}
	for _, c := range g.cards {
		paths = append(paths, "/my/cards/"+c.Key())
		if c.Loads {
			paths = append(paths, "/my/cards/"+c.Key()+"/topup")
		}
		if c.TakesPIN() {
			paths = append(paths, "/my/cards/"+c.Key()+"/pin")
		}
	}
	for _, u := range g.uses {
		paths = append(paths, "/my/uses/"+u.ID)
	}
	for _, at := range []string{"dongdan", "b1", "till.1", "canteen.1", "door.1", "coupon.1"} {
		paths = append(paths, "/my/tap?at="+at)
	}
	for _, lang := range []string{"en", "zh"} {
		s.post("/lang", url.Values{"to": {lang}, "back": {"/my/"}})
		for _, path := range paths {
			status, page := s.do("GET", path, nil)
			shown := tags.ReplaceAllString(page, " ")
			if status != http.StatusOK || strings.Contains(page, "%!") {
				t.Errorf("%s in %s answers %d, or has holes:\n%s", path, lang, status, shown)
			}
			if lang == "en" {
				for word := range strings.FieldsSeq(shown) {
					if strings.ContainsFunc(word, func(r rune) bool { return r > 0x2E80 && r < 0xFE00 }) && word != "中文" {
						t.Errorf("%s in English says %q", path, word)
					}
				}
			}
		}
	}
}

func TestTheBandAndItsCards(t *testing.T) {
	g := newGallery()
	s := g.show(t)
	wants(t, s.get("/my/"), "Unlock", "battery 76%", "steps today", "pays first", "¥170.00", "the transit card answers", "the default payment card comes first",
		"blocked", "Take it off", "KB used", "Dongdan Corner Shop", "top up", "not confirmed", `name="card"`)
	wants(t, s.get("/my/cards/"+g.key(issuing.Credit)), "This card is blocked", "Unblock", "You owe", "¥318.20", "¥4\u2009681.80")
	wants(t, s.get("/my/cards/"+g.key(issuing.Credit)), "0 points", "No points yet")
	wants(t, s.get("/my/cards/"+g.key(issuing.Debit)), "1\u2009234 points", "They pay ¥12.34", "\u221266", "+1\u2009300", "points came back", "paid with points", "WOK")
	wants(t, s.get("/my/cards/"+g.key(issuing.Debit)), "Limits", "¥5\u2009000.00", "PIN", "Make default", "this card takes 12.0 KB")
	wants(t, s.get("/my/cards/"+g.key(issuing.Coupon)), "3 / 5", "¥5.00 off", "redeem at Dongdan Tea", "Redeem")
	wants(t, s.get("/my/cards/"+g.key(issuing.Door)), "the doors of site 7", "Building 7", "opened", "Where it works", "7:00–22:00", `href="/my/tap?at=door.1"`)
	wants(t, s.get("/my/cards/"+g.key(issuing.Transit)), "12 rides of this month", "Return this card?", "¥66.00")
	s.post("/my/cards/"+g.key(issuing.Debit)+"/default", url.Values{"ref": {"form-1"}})
	s.post("/my/cards/"+g.key(issuing.ECash)+"/default", url.Values{"ref": {"form-2"}, "card": {g.key(issuing.Debit)}})
	s.post("/my/cards/"+g.key(issuing.Canteen)+"/topup", url.Values{"ref": {"form-3"}, "amount": {"50"}})
	wants(t, s.post("/my/cards/"+g.key(issuing.Credit)+"/repay", url.Values{"ref": {"form-4"}, "fen": {"31820"}}), "¥318.20 is paid back")
	g.asked(t, "default card_debit", "default card_debit", "topup card_meal 5000", "repay card_credit 31820")
	wants(t, s.get("/my/add"), "To travel", "To pay", "To open doors", "in your band", "takes 12.0 KB", "from a firm on the platform")
	twin := g.products[1]
	twin.Code, twin.Name, twin.Have, twin.Instead = "p/twin", text("国密电子现金卡", "E-cash card (SM)"), false, twin.Name
	g.products = append(g.products, twin)
	if page := s.get("/my/add"); !strings.Contains(page, "Your band holds the E-cash card.") || strings.Contains(page, "p/twin") {
		t.Error("a card that cannot be in the band beside another is offered, or nobody says why")
	}
	wants(t, s.get("/my/uses/pay_1"), "Dongdan Corner Shop", "waiting to be cleared", "The shop is paid on", "counter (9F36)", "your card&#39;s float", "signed its cryptogram")
}

func TestAPINIsTypedTwiceAndNeverShown(t *testing.T) {
	g := newGallery()
	s := g.show(t)
	path := "/my/cards/" + g.key(issuing.Debit) + "/pin"
	for _, bad := range [][2]string{{"1234", "1243"}, {"12", "12"}, {"12a4", "12a4"}, {"1234567", "1234567"}, {"", ""}} {
		status, page := s.do("POST", path, url.Values{"ref": {"form-1"}, "pin": {bad[0]}, "again": {bad[1]}})
		if status != http.StatusUnprocessableEntity || bad[0] != "" && strings.Contains(page, `"`+bad[0]+`"`) {
			t.Errorf("PIN %q and %q: %d, or it stands on the page", bad[0], bad[1], status)
		}
	}
	wants(t, s.post(path, url.Values{"ref": {"form-2"}, "pin": {"135790"}, "again": {"135790"}}), "The PIN is set")
	g.asked(t, "pin card_debit 135790")
	if status, _ := s.do("GET", "/my/cards/"+g.key(issuing.ECash)+"/pin", nil); status != http.StatusNotFound {
		t.Errorf("an e-cash card has a page for a PIN: %d", status)
	}
}

// TestALeaveForAFirm: a code is shown on the page that made it and never again.
func TestALeaveForAFirm(t *testing.T) {
	g := newGallery()
	s := g.show(t)
	wants(t, s.get("/my/security"), `href="/my/firms"`)
	wants(t, s.get("/my/firms"), "Any firm", `value="jiahe"`, "Jiahe wrote a card with it", `href="/my/orders/ord_1"`)
	wants(t, s.post("/my/firms", url.Values{"ref": {"form-1"}, "firm": {"jiahe"}}), "7KQ2-M9XT", "within 15 minutes", "15 min left", "band-ann", "Shown this once")
	page := s.get("/my/firms")
	wants(t, page, "can be used", "Withdraw")
	if strings.Contains(page, "7KQ2") {
		t.Error("a code is shown again")
	}
	wants(t, s.post("/my/firms/withdraw", url.Values{"id": {"con_1"}}), "The code is withdrawn")
	g.asked(t, "agree jiahe", "take back con_1")
	wants(t, s.get("/my/orders/ord_1"), "Asked for by", "Jiahe")
}

func TestTheHolderLowersALimit(t *testing.T) {
	g := newGallery()
	s := g.show(t)
	at := "/my/cards/" + g.key(issuing.ECash)
	wants(t, s.get(at), "Change the offline limit", `value="300.00"`, "Up to ¥1\u2009000.00")
	s.post(at+"/limit", url.Values{"ref": {"form-1"}, "limit": {"50"}})
	wants(t, s.post(at+"/limit", url.Values{"ref": {"form-2"}, "limit": {"much"}}), "this is not an amount")
	g.asked(t, "limit card_cash 5000")
	wants(t, s.get("/my/uses/pay_1"), "It does not keep the talk with the card")
}

func TestReaders(t *testing.T) {
	g := newGallery()
	s := g.show(t)
	wants(t, s.get("/my/tap"), "Shops", "Canteens", "Doors", "Coupon desks", "Buses", "The band is locked")
	tap := func(ref, gate string, kind issuing.Kind, more url.Values) string {
		form := url.Values{"ref": {ref}, "gate": {gate}, "card": {g.key(kind)}}
		for k, v := range more {
			form[k] = v
		}
		return s.post("/my/tap", form)
	}
	wants(t, s.get("/my/tap?at=till.1"), "What does the till ask for?", "Insert", "PIN, if the till asks", "up to ¥100.00", "E-cash card", "automatic")
	wants(t, tap("tap-1", "till.1", issuing.ECash, url.Values{"amount": {"12.00"}, "how": {"tap"}}), "Paid", "SALE   12.00", "318 ms", "within 500 ms", `href="/my/uses/pay_1?tap=tap-1"`, "¥157.50")
	wants(t, tap("tap-2", "till.1", issuing.Debit, url.Values{"amount": {"12.00"}, "other": {"88.80"}, "how": {"insert"}, "pin": {"1357"}}), "approved by the bank", "¥88.80")
	wants(t, tap("tap-3", "till.1", issuing.ECash, url.Values{"other": {"120"}, "how": {"tap"}}), "It was declined", "over the limit", "Tap again", "The band is locked, so the reader saw no card")
	wants(t, tap("tap-4", "till.1", issuing.ECash, url.Values{"amount": {"3.50"}, "early": {"1"}, "pull": {"9"}}), "The band left too early", "nothing is paid twice")
	wants(t, tap("tap-5", "till.1", issuing.ECash, url.Values{"other": {"zwölf"}}), "this is not an amount")
	wants(t, s.get("/my/tap?at=canteen.1"), "Kung pao chicken", "¥12.00", "Together")
	wants(t, tap("tap-6", "canteen.1", issuing.Canteen, nil), "choose at least one dish")
	wants(t, tap("tap-7", "canteen.1", issuing.Canteen, url.Values{"dish": {"1", "2"}}), "Enjoy your meal")
	wants(t, s.get("/my/tap?at=door.1"), "Hold the band to the reader", "7:00–22:00")
	wants(t, tap("tap-8", "door.1", issuing.Door, nil), "The door is open")
	wants(t, tap("tap-9", "coupon.1", issuing.Coupon, url.Values{"other": {"30"}}), "Redeemed")
	last := func(n int) wearer.TapAct { return g.acts[len(g.acts)-n] }
	if a := g.acts[1]; !a.Contact || a.PIN != "1357" || a.Fen != 88_80 || a.Card != "card_debit" {
		t.Errorf("inserted as %+v", a)
	}
	if a := last(3); string(a.Dishes) != "\x01\x02" {
		t.Errorf("ordered %v", a.Dishes)
	}
	if a := last(1); a.Fen != 30_00 || a.Coupon == "" {
		t.Errorf("redeemed as %+v", a)
	}
	wants(t, s.get("/my/tap?at=coupon.2"), "No card in your band works here")
	g.cards = g.cards[:1]
	wants(t, s.get("/my/tap?at=door.1"), "No card in your band works here")
	if status, _ := s.do("POST", "/my/tap", url.Values{"ref": {"tap-x"}, "gate": {"door.1"}, "card": {g.cards[0].Key()}, "early": {"1"}, "pull": {"25"}}); status != http.StatusUnprocessableEntity {
		t.Errorf("pulled away in command 25: %d", status)
	}
}

func TestTheBandIsGuarded(t *testing.T) {
	g := newGallery()
	s := g.show(t)
	wants(t, s.get("/my/security"), "Change the passcode", "Remove the passcode", "What a locked band may still do", "5F0A12C4B9E07D31", "on trial", "I lost my band")
	s.post("/my/band/off", nil)
	s.post("/my/band/on", nil)
	wants(t, s.post("/my/band/unlock", url.Values{"code": {"2468"}}), "The band is unlocked")
	g.asked(t, "wear false", "wear true", "unlock 2468")
	wants(t, s.post("/my/security/passcode", url.Values{"old": {"2468"}, "code": {"1111"}, "again": {"1112"}}), "a passcode has 4 to 8 digits")
	g.asked(t)
	wants(t, s.post("/my/security/passcode", url.Values{"old": {"2468"}, "code": {"1111"}, "again": {"1111"}}), "The passcode is set")
	wants(t, s.post("/my/security/passcode", url.Values{"old": {"1111"}, "remove": {"1"}}), "asks for no passcode")
	wants(t, s.post("/my/security/policy", url.Values{"ride": {"1"}, "pay": {"1"}}), "Saved in the band")
	g.asked(t, "passcode 2468→1111", "passcode 1111→", "policy {Ride:true Enter:false Pay:true Offer:false}")
	g.fails = wearer.ErrCode
	wants(t, s.post("/my/band/unlock", url.Values{"code": {"0000"}}), "a passcode has 4 to 8 digits")
	if status, _ := s.do("POST", "/my/band/eat", nil); status != http.StatusNotFound {
		t.Errorf("the band was eaten: %d", status)
	}
	g.view.Waits = noon.Add(5 * time.Minute)
	wants(t, s.get("/my/security"), "no passcode is taken before 12:05:00")
}

func TestALostBand(t *testing.T) {
	g := newGallery()
	s := g.show(t)
	wants(t, s.get("/my/lost"), "All 7 cards", "deny lists", "Report this band lost?", "¥299.00", "simulated")
	s.post("/my/lost/report", nil)
	g.asked(t, "report", "lose")
	old, heir := g.cards[0], g.cards[0]
	old.Lost, old.Usable, heir.Number = true, false, "03105170070000000026"
	g.loss = &wearer.Loss{Band: "band-ann", At: noon, Rule: text("七天后退款", "paid after 7 days"), Cards: []wearer.LostCard{
		{Card: old, Claim: text("等待期", "waiting"), Tone: web.Info, Due: noon.AddDate(0, 0, 7), Fen: 46_00, Mine: true}}}
	wants(t, s.get("/my/"), "Your band is reported lost", "battery 76%")
	g.orders = append(g.orders, wearer.Order{ID: "ord_3", Kind: wearer.OrderBlock, Card: old.Number, Name: text("锁卡", "block the card"), State: text("等待手环", "waiting for the band")})
	g.cards, g.view.Battery = g.cards[1:], 0
	if page := s.get("/my/"); strings.Contains(page, "block the card") || strings.Contains(page, "battery") {
		t.Error("the first page tells of the lost band as if it were worn")
	}
	g.view.Battery = 76
	wants(t, s.get("/my/lost"), "I found it", "Move to a new band", "payable from 2015-09-23", "¥46.00", "paid after 7 days", "Pay it to my wallet")
	s.post("/my/lost/found", nil)
	s.post("/my/lost/move", url.Values{"ref": {"form-9"}})
	s.post("/my/lost/claim", url.Values{"card": {old.Key()}})
	g.asked(t, "found", "withdraw", "new band", "move band-two", "claim 03105170070000000018")
	g.loss.Next = "band-two"
	g.loss.Cards[0].New, g.loss.Cards[0].Order = &heir, &g.orders[1]
	g.loss.Cards[0].Carried = []web.Fact{{Name: text("乘车次数", "Rides"), Value: "12"}}
	wants(t, s.get("/my/"), "On its way from the lost band")
	g.loss.Money = noon.AddDate(0, 0, 7)
	if page := s.get("/my/"); !strings.Contains(page, "The cards are here; the money on the lost ones follows from Wed") || strings.Contains(page, "On its way") {
		t.Error("the cards have arrived, and the first page still has them on their way")
	}
	page := s.get("/my/lost")
	wants(t, page, "in the new band", "Writing the balance", "Rides")
	if strings.Contains(page, "I found it") {
		t.Error("a band that was moved away from can be found again")
	}
	if status, _ := s.do("POST", "/my/lost/sell", nil); status != http.StatusNotFound {
		t.Errorf("a lost band was sold: %d", status)
	}
}

func TestActivityIsForItsOwner(t *testing.T) {
	g := newGallery()
	s := g.show(t)
	wants(t, s.get("/my/activity"), "never used for credit", "Steps", "Sleep", "<rect", "As a table", "Delete all of it")
	wants(t, s.post("/my/activity/forget", nil), "All activity is deleted", "The band has counted nothing yet", "See whether the band is worn")
}

// TestPayCode: a code is made by a press, shown as a picture and as digits.
func TestPayCode(t *testing.T) {
	s := newGallery().show(t)
	wants(t, s.get("/my/wallet"), "Show a payment code", `action="/my/wallet/code"`)
	wants(t, s.post("/my/wallet/code", nil), "2812 3456 7890 1234 57", "<svg viewBox=\"0 0 29 29\"", "M4 4h1v1h-1z", "It pays once, until 10:01:00")
}

// pictured is a canvas as a browser sends it.
func pictured(t *testing.T, wide, high, strokes int) string {
	t.Helper()
	m := image.NewRGBA(image.Rect(0, 0, wide, high))
	draw.Draw(m, m.Bounds(), image.White, image.Point{}, draw.Src)
	for n := range strokes {
		m.Set(20+n%(wide-40), high/2+n/(wide-40), color.Gray{uint8(n % 90)})
	}
	var out bytes.Buffer
	if err := png.Encode(&out, m); err != nil {
		t.Fatal(err)
	}
	return "data:image/png;base64," + base64.StdEncoding.EncodeToString(out.Bytes())
}

// A sale whose slip wants a signature shows a pad, and what is drawn there is on
// the slip, in two colours and small enough for any terminal.
func TestSign(t *testing.T) {
	g := newGallery()
	s := g.show(t)
	g.taps["tap-s"] = wearer.TapResult{Ref: "tap-s", Gate: "till.1", Reader: wearer.ReaderTill, Kind: wearer.TapOnline, Fen: 12_00, BalanceFen: -1, Unsigned: true,
		Receipt: []string{"signature ____"}}
	wants(t, s.get("/my/taps/tap-s"), "<sign-pad>", "<canvas", "Or write your name", "signature ____")
	for _, bad := range []string{"", "data:image/png;base64,AAAA", "data:image/png;base64,!", pictured(t, 480, 160, 3), pictured(t, 900, 160, 400)} {
		wants(t, s.post("/my/taps/tap-s/sign", url.Values{"picture": {bad}}), "this is no signature")
		if g.taps["tap-s"].Signature != nil {
			t.Errorf("%.30q is taken", bad)
		}
	}
	s.post("/my/taps/tap-s/sign", url.Values{"picture": {pictured(t, 480, 160, 2000)}})
	picture := g.taps["tap-s"].Signature
	if c, err := png.DecodeConfig(bytes.NewReader(picture)); err != nil || len(picture) > 4096 || c.Width != 480 {
		t.Errorf("%d bytes, %+v, %v", len(picture), c, err)
	}
	page := s.get("/my/taps/tap-s")
	wants(t, page, `class="signed"`, base64.StdEncoding.EncodeToString(picture))
	if strings.Contains(page, "<sign-pad>") {
		t.Error("signed twice")
	}
}
