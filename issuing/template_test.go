package issuing_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"koala/card"
	"koala/internal/clock"
	"koala/internal/db"
	"koala/internal/db/dbtest"
	"koala/issuing"
	"koala/issuing/bin"
	"koala/issuing/rule"
	"koala/ledger"
	"koala/money"
	"koala/spec/coupon"
	"koala/spec/desfire"
	"koala/spec/emv"
	"koala/spec/iso7816"
	"koala/spec/pan"
	"koala/spec/purse"
	"koala/wallet"
)

var door = issuing.Template{Issuer: "firm_1", Code: "office", Kind: issuing.Door, NameEN: "Office door", NameZH: "办公楼门禁", Art: "door", Space: 2048,
	Data: json.RawMessage(`{"site": 7, "days": 30}`)}

func TestTemplateChecks(t *testing.T) {
	h := open(t, db.Config{URL: filepath.Join(t.TempDir(), "koala.db")})
	for _, tt := range []struct {
		name   string
		change func(*issuing.Template)
		ok     bool
	}{
		{"as it is", func(*issuing.Template) {}, true},
		{"no name", func(x *issuing.Template) { x.NameZH = "" }, false},
		{"odd code", func(x *issuing.Template) { x.Code = "Office door" }, false},
		{"unknown field", func(x *issuing.Template) { x.Data = json.RawMessage(`{"site": 7, "days": 30, "keys": 1}`) }, false},
		{"two values", func(x *issuing.Template) { x.Data = json.RawMessage(`{"site": 7, "days": 30} {}`) }, false},
		{"no JSON", func(x *issuing.Template) { x.Data = json.RawMessage(`site`) }, false},
		{"no days", func(x *issuing.Template) { x.Data = json.RawMessage(`{"site": 7}`) }, false},
		{"a firm's bank card", func(x *issuing.Template) { x.Kind = issuing.Debit; x.Data = json.RawMessage(`{}`) }, false},
		{"a purse", func(x *issuing.Template) { x.Kind = issuing.Transit }, false},
		{"too large", func(x *issuing.Template) { x.Space = 1 << 20 }, false},
		{"coupon", func(x *issuing.Template) {
			x.Code, x.Kind, x.Data = "c", issuing.Coupon, json.RawMessage(`{"merchant": "m", "gives": "percent", "value": 1000, "uses": 1, "days": 30}`)
		}, true},
		{"coupon of 200 percent", func(x *issuing.Template) {
			x.Code, x.Kind, x.Data = "c", issuing.Coupon, json.RawMessage(`{"merchant": "m", "gives": "percent", "value": 20000, "uses": 1, "days": 30}`)
		}, false},
		{"canteen", func(x *issuing.Template) {
			x.Code, x.Kind, x.Data = "k", issuing.Canteen, json.RawMessage(`{"site": "mill"}`)
		}, true},
	} {
		x := door
		tt.change(&x)
		err := h.try(func(tx *db.Tx) error { _, err := issuing.Submit(tx, x); return err })
		if (err == nil) != tt.ok || err != nil && !errors.Is(err, issuing.ErrTemplate) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

// TestThirdPartyCards: firms hand templates in, staff approve, customers get
// the cards; an element takes door, canteen and coupons beside each other.
func TestThirdPartyCards(t *testing.T) {
	dbtest.EachConfig(t, func(t *testing.T, cfg db.Config) {
		h := openBankOn(t, cfg, t.TempDir())
		submit := func(x issuing.Template) (out issuing.Template) {
			h.do(func(tx *db.Tx) (err error) { out, err = issuing.Submit(tx, x); return err })
			return out
		}
		first := submit(door)
		if again := submit(door); again.ID != first.ID {
			t.Errorf("the same twice: %s and %s", first.ID, again.ID)
		}
		if err := h.try(func(tx *db.Tx) error {
			_, err := issuing.Open(tx, issuing.Application{Ref: "x", Customer: lin, Band: "b", Product: "firm_1/office"})
			return err
		}); !errors.Is(err, issuing.ErrProduct) {
			t.Errorf("ordered before approval: %v", err)
		}
		approve := func(id string) {
			h.do(func(tx *db.Tx) error { _, err := issuing.Approve(tx, id, "staff"); return err })
		}
		approve(first.ID)
		approve(first.ID)
		changed := door
		changed.Data = json.RawMessage(`{"site": 7, "days": 60}`)
		second := submit(changed)
		if second.Version != 2 || second.State != issuing.Submitted {
			t.Errorf("second version %+v", second)
		}
		h.do(func(tx *db.Tx) error { _, err := issuing.Refuse(tx, second.ID, "staff", "too long"); return err })
		if err := h.try(func(tx *db.Tx) error { _, err := issuing.Approve(tx, second.ID, "staff"); return err }); !errors.Is(err, issuing.ErrState) {
			t.Errorf("approved after refusal: %v", err)
		}
		approve(submit(issuing.Template{Issuer: "firm_2", Code: "noodles", Kind: issuing.Coupon, NameEN: "Noodles", NameZH: "面馆券", Art: "coupon", Space: 64,
			Data: json.RawMessage(`{"merchant": "noodles", "gives": "amount", "value": 500, "minimum": 2000, "uses": 2, "days": 30}`)}).ID)
		approve(submit(issuing.Template{Issuer: "mill", Code: "lunch", Kind: issuing.Canteen, NameEN: "Lunch", NameZH: "饭卡", Art: "canteen", Space: 2048,
			Data: json.RawMessage(`{"site": "mill"}`)}).ID)
		e := h.element(9)
		h.write(e, h.open("firm_1/office", "band_1").ID)
		c := h.open("firm_2/noodles", "band_1")
		h.write(e, c.ID)
		k := &chip{h: h, e: e}
		k.send(iso7816.Select(desfire.Name))
		r, err := e.Transmit(desfire.Wrap(desfire.CmdApplications, nil))
		if aid := desfire.DoorAID.Bytes(); err != nil || !strings.Contains(string(r.Data), string(aid[:])) {
			t.Errorf("applications %X %v %v", r.Data, r.SW, err)
		}
		id, _ := issuing.CouponName(c, "noodles")
		read := coupon.Read{ID: coupon.ID(unhexed(id))}
		k.send(iso7816.Select(c.Instance))
		x, err := coupon.Parse(k.send(read.Command()).Data)
		if err != nil || x.Value != 500 || x.Uses != 2 || x.To != (coupon.Date{0x20, 0x15, 0x10, 0x15}) {
			t.Errorf("coupon %+v, %v", x, err)
		}
		h.do(func(tx *db.Tx) error { _, err := issuing.Withdraw(tx, first.ID, "firm_1", "moved"); return err })
		if err := h.try(func(tx *db.Tx) error {
			_, err := issuing.Open(tx, issuing.Application{Ref: "late", Customer: lin, Band: "b", Product: "firm_1/office"})
			return err
		}); !errors.Is(err, issuing.ErrProduct) {
			t.Errorf("ordered after withdrawal: %v", err)
		}
		h.do(func(tx *db.Tx) error {
			list, err := issuing.Templates(tx, "firm_1", 10)
			if len(list) != 2 || list[0].ID != second.ID {
				t.Errorf("templates %v", list)
			}
			return err
		})
	})
}

func TestBINs(t *testing.T) {
	for _, tt := range []struct{ number, bank, typ string }{
		{"6228480402564890018", "ABC", "DC"}, // the longest prefix of the list, 622848
		{"6288880100000000014", "KOALA", "DC"},
		{"6288880200000014", "KOALA", "CC"},
		{"6288880800000000014", "KOALA", "PC"},
		{"7777777777777779", "", ""},
	} {
		b, ok := bin.Of(pan.PAN(tt.number))
		if b.Bank != tt.bank || b.Type != tt.typ || ok != (tt.bank != "") {
			t.Errorf("%s: %+v", pan.PAN(tt.number), b)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		p := pan.PAN(rapid.StringMatching(`62[0-9]{14,17}`).Draw(t, "number"))
		if b, ok := bin.Of(p); ok && (!strings.HasPrefix(string(p), b.Prefix) || b.Length != len(p) && b.Length != 0) {
			t.Fatalf("%s found %+v", string(p), b)
		}
	})
}

// TestPrefix: a bank card is numbered in the house's own ranges, each with the
// length that is listed for it.
func TestPrefix(t *testing.T) {
	h := openBank(t, t.TempDir())
	for _, tt := range []struct {
		product, prefix, says string
	}{
		{issuing.DebitCard, bin.HousePrefix + "93", ""},
		{issuing.DebitCard, "62284801", "622848 of bank ABC"},
		{issuing.CreditCard, "62820001", "628200 of bank HKB"},
		{issuing.DebitCard, "62820001", "628200 of bank HKB"},
		{issuing.CreditCard, bin.HousePrefix + "01", "19 digits, not 16"},
		{issuing.DebitCard, bin.HousePrefix + "02", "16 digits, not 19"},
		{issuing.DebitCard, "77777701", "not the house's"},
		{issuing.CreditCard, bin.HousePrefix + "021234", "of 12 characters"},
		{issuing.DebitCard, bin.HousePrefix + "x1", "of 8 characters"},
	} {
		err := h.try(func(tx *db.Tx) error {
			p, err := issuing.ProductOn(tx, tt.product, tx.Now())
			p.Code, p.Prefix = "other", tt.prefix
			return errors.Join(err, issuing.SetProduct(tx, p))
		})
		if (err == nil) != (tt.says == "") || err != nil && (!errors.Is(err, issuing.ErrPrefix) || !strings.Contains(err.Error(), tt.says)) {
			t.Errorf("%s under %s: %v", tt.product, tt.prefix, err)
		}
	}
}

// TestMigration brings a database of purses up to cards of every kind: nothing
// of them is lost, and both live on.
func TestMigration(t *testing.T) {
	ctx := context.Background()
	cfg := db.Config{URL: filepath.Join(t.TempDir(), "koala.db"), Clock: clock.NewVirtual(start), Inline: true}
	s, err := db.Open(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	const before = 5 // steps there were when all cards were purses
	old := issuing.Schema
	old.Steps = old.Steps[:before]
	if err := s.Migrate(ctx, wallet.Schema, old); err != nil {
		t.Fatal(err)
	}
	const number = "03105170070000000001"
	err = s.Write(ctx, func(tx *db.Tx) error {
		_, err := tx.Exec(`INSERT INTO issuing_product (code, valid_from, valid_to, name_en, name_zh, art, package, module, instance, issuer, prefix,
			province, city, years, deposit, min_load, max_load, max_balance, source)
			VALUES ('transit-bj', 0, 0, 'a', 'b', 'c', 'A000000632010105', 'A000000632010105', 'A000000632010105', '01011000FFFFFFFF', '0310517007', '1000', '1000', 20, 2000, 1, 50000, 100000, 'x')`)
		if err == nil {
			_, err = tx.Exec(`INSERT INTO issuing_range (prefix, digits, upcoming, last) VALUES ('0310517007', 10, 2, 9999999999)`)
		}
		if err == nil {
			_, err = tx.Exec(`INSERT INTO issuing_card (number, ref, customer, band, product, instance, state, was, deposit, valid_from, valid_to, opened, changed, why,
				balance, online, offline, seen, seen_by)
				VALUES ($1, 'a', $2, 'band_1', 'transit-bj', 'A000000632010105', 'active', '', 2000, 1, 2, 3, 4, '', 4700, 5, 6, 7, 'ord_1')`, number, string(lin))
		}
		return err
	})
	if err == nil {
		err = s.Migrate(ctx, wallet.Schema, issuing.Schema)
	}
	if err == nil {
		err = s.Migrate(ctx, wallet.Schema, issuing.Schema)
	}
	if err != nil {
		t.Fatal(err)
	}
	book, err := ledger.Open(ctx, s, ledger.Config{Inline: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { book.Close(); s.Close() })
	err = s.Write(ctx, func(tx *db.Tx) error {
		c, err := issuing.Get(tx, number)
		if c.Kind != issuing.Transit || c.Tail != "0001" || c.ID.Purse() != number || c.Known.Balance.Minor() != 4700 || c.Known.Offline != 6 || !c.Suspended.IsZero() {
			t.Errorf("card %+v", c)
		}
		if err != nil {
			return err
		}
		p, err := issuing.ProductOn(tx, issuing.TransitBJ, start)
		if p.Kind != issuing.Transit || p.Template != "" {
			t.Errorf("product %+v", p)
		}
		if err == nil {
			err = errors.Join(wallet.Open(tx, lin), issuing.SeedBank(tx))
		}
		if err == nil {
			_, err = wallet.Fund(tx, "x", lin, money.Fen(100_00))
		}
		if err != nil {
			return err
		}
		next, err := issuing.Open(tx, issuing.Application{Ref: "b", Customer: lin, Band: "band_2", Product: issuing.TransitBJ})
		if next.ID != "03105170070000000002" {
			t.Errorf("the next is %s", next.ID)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestCarry: a purse made in place of another begins with its month.
func TestCarry(t *testing.T) {
	c := issuing.Card{ID: "03105170070104791381", Carry: issuing.Carry{Rides: 7, Spent: money.Fen(35_00), At: start}}
	p := issuing.TransitPersonalisation(c, issuing.Product{})
	for _, g := range p.Groups {
		if g.ID != purse.DGITransit {
			continue
		}
		r, err := purse.ParseTransit(g.Data)
		if err != nil || r.Count != 7 || r.Accumulated != 35_00 || r.LastAt != purse.StampOf(start) {
			t.Errorf("%+v, %v", r, err)
		}
	}
}

// TestRules: a card's own row goes before its product's, that before everybody's.
func TestRules(t *testing.T) {
	dbtest.EachConfig(t, func(t *testing.T, cfg db.Config) {
		h := openBankOn(t, cfg, t.TempDir())
		c := h.open(issuing.DebitCard, "band_1")
		for _, tt := range []struct {
			scope string
			value int64
			from  time.Time
			want  int64
		}{
			{"", 9, start.Add(time.Hour), 5000_00},
			{issuing.DebitCard, 700, time.Time{}, 700},
			{string(c.ID), 600, time.Time{}, 600},
			{string(c.ID), 500, start, 500},
		} {
			h.do(func(tx *db.Tx) error {
				if err := rule.Set(tx, rule.Ruling{Scope: tt.scope, Name: rule.Once, From: tt.from, Value: tt.value, Source: "test"}); err != nil {
					return err
				}
				r, err := rule.On(tx, string(c.ID), c.Product, rule.Once, tx.Now())
				if r.Value != tt.want {
					t.Errorf("with %q: %+v, want %d", tt.scope, r, tt.want)
				}
				return err
			})
		}
	})
}

// TestStrangersCannotWrite: the first card that comes onto a band's DESFire card
// brings the master key: the factory's opens nothing any more, and without a key
// nobody makes, deletes or wipes an application.
func TestStrangersCannotWrite(t *testing.T) {
	h := openBank(t, t.TempDir())
	h.do(func(tx *db.Tx) error {
		tpl, err := issuing.Submit(tx, issuing.Template{Issuer: "mill", Code: "lunch", Kind: issuing.Canteen, NameEN: "Lunch", NameZH: "饭卡",
			Art: "canteen", Space: 2048, Data: json.RawMessage(`{"site": "mill"}`)})
		if err == nil {
			_, err = issuing.Approve(tx, tpl.ID, "staff")
		}
		return err
	})
	e := h.element(9)
	h.write(e, h.open("mill/lunch", "band_1").ID)
	e.PowerOff()
	if err := e.PowerOn(card.Contactless); err != nil {
		t.Fatal(err)
	}
	k := &chip{h: h, e: e}
	k.send(iso7816.Select(desfire.Name))
	say := func(cmd byte, data []byte) iso7816.Response {
		t.Helper()
		r, err := e.Transmit(desfire.Wrap(cmd, data))
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	status := func(what string, r iso7816.Response, want desfire.Status) {
		t.Helper()
		if byte(r.SW) != byte(want) {
			t.Errorf("%s: %v, want %02X", what, r.SW, byte(want))
		}
	}
	canteen := desfire.CanteenAID.Bytes()
	status("create", say(desfire.CmdCreateApp, []byte{0x33, 0x22, 0x11, 0x0F, 0x81}), desfire.AuthError)
	status("delete", say(desfire.CmdDeleteApp, canteen[:]), desfire.AuthError)
	status("format", say(desfire.CmdFormat, nil), desfire.AuthError)
	r := say(desfire.CmdAuthAES, []byte{0})
	_, answer, err := desfire.Prove(desfire.CmdAuthAES, 0, desfire.AESKey([16]byte{}, 0), r.Data, make([]byte, 16))
	if err != nil {
		t.Fatal(err)
	}
	status("the factory's key", say(desfire.CmdMore, answer), desfire.AuthError)
	if r = say(desfire.CmdApplications, nil); !strings.Contains(string(r.Data), string(canteen[:])) {
		t.Errorf("anybody may list: %X %v", r.Data, r.SW)
	}
}

// TestOfflinePIN: a card of a product that wants it checks its PIN by itself;
// the PIN is not kept once the card is written.
func TestOfflinePIN(t *testing.T) {
	ctx := context.Background()
	h := openBank(t, t.TempDir())
	h.do(func(tx *db.Tx) error {
		p, err := issuing.ProductOn(tx, issuing.DebitCard, tx.Now())
		if err != nil {
			return err
		}
		tpl, err := issuing.TemplateOf(tx, p.Template)
		if err != nil {
			return err
		}
		tpl.Code, tpl.Data = "debit-pin", bytes.Replace(tpl.Data, []byte(`"ecash"`), []byte(`"offline_pin":true,"ecash"`), 1)
		if tpl, err = issuing.Submit(tx, tpl); err == nil {
			tpl, err = issuing.Approve(tx, tpl.ID, "staff")
		}
		p.Code, p.Template, p.Prefix = "debit-pin", tpl.ID, bin.HousePrefix+"92"
		return errors.Join(err, issuing.SetProduct(tx, p))
	})
	c := h.open("debit-pin", "band_1")
	if _, err := h.bank.Personalise(ctx, c.ID); !errors.Is(err, issuing.ErrNoPIN) {
		t.Errorf("without a PIN: %v", err)
	}
	keys, err := h.bank.Keys(ctx, c.ID)
	if err != nil {
		t.Fatal(err)
	}
	block, err := h.keys.EncipherPIN(ctx, keys.PAN, "246802")
	if err == nil {
		err = h.bank.SetPIN(ctx, c.ID, block)
	}
	if err != nil {
		t.Fatal(err)
	}
	e := h.element(3)
	h.write(e, c.ID)
	h.do(func(tx *db.Tx) error {
		err := issuing.Begin(tx, c.ID)
		if err == nil {
			err = issuing.Activate(tx, c.ID, issuing.Counters{Balance: money.Fen(0), At: tx.Now(), By: "test"})
		}
		var left int
		return errors.Join(err, tx.QueryRow(`SELECT COUNT(*) FROM issuing_pin`).Scan(&left), map[bool]error{false: errors.New("the PIN is still kept")}[left == 0])
	})
	k := &chip{h: h, e: e, id: c.ID, aid: c.Instance}
	verify := func(pin string) iso7816.SW {
		t.Helper()
		e.PowerOff()
		if err := e.PowerOn(card.Contact); err != nil {
			t.Fatal(err)
		}
		k.send(iso7816.Select(c.Instance))
		b, err := emv.PINBlock(pin)
		if err != nil {
			t.Fatal(err)
		}
		r, err := e.Transmit(iso7816.Command{INS: iso7816.InsVerify, P2: 0x80, Data: b[:], Le: iso7816.NoLe})
		if err != nil {
			t.Fatal(err)
		}
		return r.SW
	}
	if sw := verify("246803"); sw != 0x63C2 {
		t.Errorf("a wrong PIN: %v", sw)
	}
	if sw := verify("246802"); !sw.OK() {
		t.Errorf("the PIN: %v", sw)
	}
}

// TestMigrationOfClearing: where the money of payments stands that were booked
// before the books said so of each.
func TestMigrationOfClearing(t *testing.T) {
	ctx := context.Background()
	s, err := db.Open(ctx, db.Config{URL: filepath.Join(t.TempDir(), "koala.db"), Clock: clock.NewVirtual(start), Inline: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	const before = 7 // steps there were
	old := issuing.Schema
	old.Steps = old.Steps[:before]
	if err := s.Migrate(ctx, old); err != nil {
		t.Fatal(err)
	}
	err = s.Write(ctx, func(tx *db.Tx) (err error) {
		for _, x := range []struct{ atc, kind int64 }{{1, 1}, {2, 1}, {2, 2}, {3, 2}, {4, 1}, {4, 3}, {5, 1}, {6, 4}} {
			if err == nil {
				_, err = tx.Exec(`INSERT INTO issuing_clearing (card, atc, kind, fen, balance, payee, terminal, stan, done, at) VALUES ('c', $1, $2, 100, 5, 'p', 't', 1, 1, 1)`, x.atc, x.kind)
			}
		}
		if err == nil { // the fifth was asked for
			_, err = tx.Exec(`INSERT INTO issuing_auth (card, atc, ac, kind, day, fen, balance, arc, state, payee, text, at) VALUES ('c', 5, $1, 'pay', 'd', 100, 5, '00', 'paid', 'p', '', 1)`, []byte{1})
		}
		return err
	})
	if err == nil {
		err = s.Migrate(ctx, issuing.Schema)
	}
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	err = s.Read(ctx, func(q *db.Query) error {
		return db.Each(q, func(scan func(...any) error) error {
			var atc, fen int64
			var place string
			err := scan(&atc, &fen, &place)
			got = append(got, fmt.Sprint(atc, " ", place, " ", fen))
			return err
		}, `SELECT atc, fen, place FROM issuing_spent UNION ALL SELECT atc, paid, state FROM issuing_auth ORDER BY 1`)
	})
	if want := "1 payee 100, 2 holder 100, 3 holder 100, 4 holder 100, 5 paid 100"; err != nil || strings.Join(got, ", ") != want {
		t.Errorf("%q, %v", got, err)
	}
}
