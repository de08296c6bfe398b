package ops_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"koala/acquiring"
	"koala/firmware"
	"koala/hsm"
	"koala/internal/db"
	"koala/issuing"
	"koala/money"
	"koala/spec/desfire"
	"koala/spec/pboc"
	"koala/tsm"
	"koala/wallet"
	"koala/web"
	"koala/web/open"
)

// A scene is what a house with shops, a bank card, a partner and a lost band
// shows.
type scene struct {
	bank           issuing.Card
	load, template string
	record, till   string
}

const (
	shopTill, shopMID = "T0000001", "898110000000001"
	foreignPAN        = "6228480010000000013"
)

// furnish gives the house shops with devices, an e-cash card with a load that
// waits for proof, a sale of a foreign card, a partner's template, a release.
func (h *house) furnish() (s scene) {
	h.t.Helper()
	s.till = shopTill
	number, err := h.bank.Number(ctx, issuing.ECashCard)
	h.must(err)
	h.do(func(tx *db.Tx) error {
		_, err := wallet.Fund(tx, "for the bank card", h.lin, money.Fen(500_00))
		return errors.Join(err, h.shopsOf(tx))
	})
	h.do(func(tx *db.Tx) (err error) {
		if s.bank, err = issuing.Open(tx, issuing.Application{Ref: "bank", Customer: h.lin, Band: "band_lin", Product: issuing.ECashCard, PAN: &number}); err != nil {
			return err
		}
		if err = errors.Join(issuing.Begin(tx, s.bank.ID), issuing.Activate(tx, s.bank.ID, issuing.Counters{Balance: money.Fen(12_30), Online: 3, Offline: 3, At: tx.Now(), By: "test"})); err != nil {
			return err
		}
		l, err := issuing.PlaceLoad(tx, "load", s.bank.ID, money.Fen(50_00))
		if err == nil {
			s.load = l.ID
			_, err = tx.Exec(`UPDATE issuing_load SET state = 'bound', atc = 4, old = 1230 WHERE id = $1`, l.ID)
		}
		return err
	})
	_, err = h.shops.Transport(ctx, shopTill)
	h.must(err)
	_, err = h.shops.Install(ctx, shopTill)
	h.must(err)
	handed, err := h.shops.CollectSales(ctx, shopTill, pboc.ClearingBatch{TID: shopTill, First: 3, Records: []pboc.Clearing{h.foreignSale()}})
	h.must(err)
	s.record = handed.Results[0].ID
	s.template = h.partnersTemplate()
	return s
}

func (h *house) shopsOf(tx *db.Tx) error {
	return errors.Join(
		acquiring.AddFirm(tx, acquiring.Firm{ID: "jiahe", NameEN: "Jiahe", NameZH: "嘉和"}),
		acquiring.AddSite(tx, acquiring.Site{ID: "site_yard", Number: 7, Owner: string(h.lin), Firm: "jiahe", NameEN: "The Yard", NameZH: "大院"}),
		acquiring.AddShop(tx, acquiring.Shop{ID: "shop_tea", NameEN: "Tea House", NameZH: "茶馆", MID: shopMID, MCC: "5812", City: "Beijing"}),
		acquiring.AddDevice(tx, acquiring.Device{TID: shopTill, Kind: acquiring.POS, MID: shopMID, Shop: "shop_tea", PlaceEN: "counter", PlaceZH: "柜台"}),
		acquiring.AddDevice(tx, acquiring.Device{TID: "0000000A", Kind: acquiring.Canteen, Shop: "shop_tea", PlaceEN: "kitchen", PlaceZH: "厨房"}),
		acquiring.AddDevice(tx, acquiring.Device{TID: "C0000001", Kind: acquiring.Coupon, Shop: "shop_tea", PlaceEN: "desk", PlaceZH: "前台"}),
		acquiring.AddDevice(tx, acquiring.Device{TID: "0000000D", Kind: acquiring.Door, Site: "site_yard", PlaceEN: "gate", PlaceZH: "大门"}))
}

// foreignSale is a record of a card that is not the house's.
func (h *house) foreignSale() pboc.Clearing {
	return pboc.Clearing{Kind: pboc.ClearSale, PAN: foreignPAN, PSN: 1, AID: []byte{0xA0, 0, 0, 3, 0x33, 1, 1, 6}, IAD: make([]byte, 8), ATC: 9, Fen: 1800, Currency: 156, Country: 156,
		Date: [3]byte{0x15, 0x09, 0x16}, Time: [3]byte{0x08, 0x30, 0}, STAN: 1, Batch: 1, TID: shopTill, MID: shopMID, Serial: "SN000001"}
}

func (h *house) partnersTemplate() (id string) {
	h.t.Helper()
	data, err := json.Marshal(issuing.CouponData{Merchant: "shop_tea", Gives: "amount", Value: 500, Minimum: 2000, Uses: 10, Days: 90})
	h.must(err)
	h.do(func(tx *db.Tx) error {
		t, err := issuing.Submit(tx, issuing.Template{Issuer: "jiahe", Code: "tea-club", Kind: issuing.Coupon, NameEN: "Tea club", NameZH: "茶友卡", Art: "coupon", Data: data})
		id = t.ID
		return errors.Join(err, open.AddPartner(tx, open.Partner{Code: "jiahe", NameEN: "Jiahe", NameZH: "嘉和"}))
	})
	return id
}

// subjectPages lists the pages of subjects of a furnished house.
func subjectPages(s scene) []string {
	return []string{"/ops/cards?kind=ecash&holder=lin", "/ops/cards?suspended=1", "/ops/orders?card=ecash", "/ops/issuers", "/ops/issuers?state=submitted", "/ops/issuers/products",
		"/ops/issuers/templates/" + s.template, "/ops/keys", "/ops/ecash", "/ops/ecash?shop=shop_tea", "/ops/ecash/suspense", "/ops/ecash/odd", "/ops/ecash/doubts", "/ops/ecash/gaps", "/ops/ecash/loads",
		"/ops/ecash/loads/" + s.load, "/ops/shops", "/ops/shops/shop_tea", "/ops/shops/devices", "/ops/shops/devices?kind=door", "/ops/shops/devices/" + s.till, "/ops/shops/devices/0000000D",
		"/ops/shops/sites", "/ops/shops/sites/site_yard", "/ops/shops/firms", "/ops/lost", "/ops/lost/band_lin", "/ops/bands/band_lin", "/ops/firmware", "/ops/partners", "/ops/partners/jiahe"}
}

func TestSubjectsInBothLanguages(t *testing.T) {
	h := openHouse(t)
	s := h.furnish()
	for _, lang := range []web.Lang{web.ZH, web.EN} {
		b := h.login("mei", lang)
		for _, path := range subjectPages(s) {
			body := b.page(path)
			for _, bad := range []*regexp.Regexp{noWord, script} {
				if m := bad.FindString(body); m != "" {
					t.Errorf("%s in %s shows %q", path, lang, m)
				}
			}
			if strings.Contains(body, foreignPAN) {
				t.Errorf("%s shows a card number", path)
			}
			if lang == web.ZH {
				continue
			}
			for _, m := range hanInTag.FindAllString(body, -1) {
				if !names.MatchString(m) && !strings.Contains(path, "/templates/") { // where a template's Chinese name is a fact
					t.Errorf("%s says %q", path, m)
				}
			}
		}
	}
}

func TestSubjectsOfAnEmptyHouse(t *testing.T) {
	h := openHouse(t)
	b := h.login("mei", web.EN)
	for path, want := range map[string]string{"/ops/ecash": "No till has handed", "/ops/ecash/suspense": "Nothing waits", "/ops/ecash/odd": "Nothing was put aside", "/ops/ecash/doubts": "No sale is in doubt",
		"/ops/ecash/loads": "No load is open", "/ops/ecash/gaps": "No number is missing", "/ops/shops": "No shop yet", "/ops/shops/devices": "No device yet", "/ops/shops/sites": "No site yet",
		"/ops/shops/firms": "No firm yet", "/ops/lost": "No band is lost", "/ops/firmware": "Nothing has been published", "/ops/partners": "No partner yet", "/ops/issuers?state=refused": "No such template",
		"/ops/keys": "card keys are ready"} {
		if !strings.Contains(b.page(path), want) {
			t.Errorf("%s lacks %q", path, want)
		}
	}
}

func TestSubjectsAsFiles(t *testing.T) {
	h := openHouse(t)
	h.furnish()
	b := h.login("shen", web.EN)
	for path, want := range map[string]string{"/ops/cards?kind=ecash&as=csv": "ecash-koala", "/ops/issuers?as=csv": "tea-club", "/ops/issuers/products?as=csv": "transit-bj", "/ops/keys?as=csv": "bank.AC",
		"/ops/ecash?as=csv": "Record", "/ops/ecash/odd?as=csv": "Reason", "/ops/ecash/gaps?as=csv": shopTill, "/ops/ecash/loads?as=csv": "50.00", "/ops/shops?as=csv": "shop_tea", "/ops/shops/devices?as=csv": "0000000D",
		"/ops/shops/sites?as=csv": "site_yard", "/ops/shops/firms?as=csv": "jiahe", "/ops/lost?as=csv": "Band", "/ops/firmware?as=csv": "Version", "/ops/partners?as=csv": "jiahe", "/ops/partners/jiahe?as=csv": "Request"} {
		if body := b.page(path); !strings.HasPrefix(body, "\uFEFF") || !strings.Contains(body, want) {
			t.Errorf("%s lacks %q:\n%s", path, want, body)
		}
	}
}

func TestAuditorsOnlyLook(t *testing.T) {
	h := openHouse(t)
	s := h.furnish()
	b := h.login("shen", web.EN)
	for _, path := range subjectPages(s) {
		if strings.Contains(b.page(path), `<button type="button" popovertarget`) {
			t.Errorf("%s offers the auditor a change", path)
		}
	}
	for _, path := range []string{"/ops/issuers/templates/" + s.template + "/approve", "/ops/keys/rotate", "/ops/keys/fill", "/ops/ecash/loads/" + s.load + "/decide", "/ops/ecash/records/x/retry", "/ops/ecash/doubts/x/decide",
		"/ops/shops/devices/" + s.till + "/suspend", "/ops/lost/band_lin/suspend", "/ops/lost/band_lin/restore", "/ops/lost/band_lin/refund", "/ops/firmware", "/ops/firmware/1/stage", "/ops/partners", "/ops/partners/jiahe/keys", "/ops/partners/jiahe/revoke", "/ops/partners/jiahe/space"} {
		for who, want := range map[string]int{"shen": http.StatusForbidden, "lin": http.StatusForbidden, "": http.StatusSeeOther} {
			if status, _ := h.login(who, web.EN).send("POST", path, url.Values{"why": {"because of a test"}}, nil); status != want {
				t.Errorf("%q at %s: status %d, want %d", who, path, status, want)
			}
		}
	}
}

// told tells whether the trail has a deed with its reason.
func (b *browser) told(deed, why string) bool {
	body := b.page("/ops/audit")
	return strings.Contains(body, deed) && strings.Contains(body, why)
}

func TestTemplatesAreDecided(t *testing.T) {
	h := openHouse(t)
	s := h.furnish()
	b := h.login("mei", web.EN)
	at := "/ops/issuers/templates/" + s.template
	for _, want := range []string{"¥20.00", "Tea club", "From a sale of", "ask-approve", "ask-refuse", "cardart coupon"} {
		if !strings.Contains(b.page(at), want) {
			t.Errorf("the template's page lacks %q", want)
		}
	}
	b.post(at+"/approve", url.Values{"why": {"no"}})
	if strings.Contains(b.page(at), "chip good") {
		t.Error("approved without a reason")
	}
	b.post(at+"/approve", url.Values{"why": {"agreed with the firm"}})
	if !strings.Contains(b.page("/ops/issuers/products"), "jiahe/tea-club") || !b.told("template approved", "agreed with the firm") {
		t.Error("not on sale, or not told")
	}
	b.post(at+"/withdraw", url.Values{"why": {"the firm closed"}})
	if strings.Contains(b.page("/ops/issuers/products"), "jiahe/tea-club") || !strings.Contains(b.page(at), "the firm closed") {
		t.Error("still on sale, or its issuer does not see why")
	}
	if status, _ := b.send("POST", at+"/dance", url.Values{"why": {"for fun, really"}}, nil); status != http.StatusNotFound {
		t.Errorf("an unknown act: status %d", status)
	}
}

func TestKeysAreRotatedAndTheirPoolFilled(t *testing.T) {
	h := openHouse(t)
	b := h.login("mei", web.EN)
	b.post("/ops/keys/rotate", url.Values{"decision": {"channel"}, "why": {"yearly rotation"}})
	body := b.page("/ops/keys")
	if strings.Count(body, "still verifies") != 3 || !b.told("key rotated", "yearly rotation") {
		t.Errorf("%d older versions", strings.Count(body, "still verifies"))
	}
	if status, _ := b.send("POST", "/ops/keys/rotate", url.Values{"decision": {"seal"}, "why": {"yearly rotation"}}, nil); status != http.StatusUnprocessableEntity {
		t.Errorf("rotating what is not offered: status %d", status)
	}
	b.post("/ops/keys/fill", url.Values{"why": {"before the campaign"}})
	if strings.Contains(b.page("/ops/keys"), "card keys are ready. Without") || !b.told("pool filled", "before the campaign") {
		t.Error("the pool is low")
	}
}

func TestLoadsAreDecidedByEvidence(t *testing.T) {
	h := openHouse(t)
	s := h.furnish()
	b := h.login("mei", web.EN)
	at := "/ops/ecash/loads/" + s.load
	for _, want := range []string{"waits for proof", "¥50.00", "¥12.30", "balance proven by the card"} {
		if !strings.Contains(b.page(at), want) {
			t.Errorf("the load's page lacks %q", want)
		}
	}
	b.post(at+"/decide", url.Values{"decision": {"void"}, "why": {"the element is broken, read at the desk"}})
	if !strings.Contains(b.page(at), "given back") || !b.told("load decided", "read at the desk") {
		t.Error("not decided, or not told")
	}
	h.must(h.book.Project(ctx))
	if !strings.Contains(b.page("/ops/books/entry?ref=end:"+s.load), at) {
		t.Error("the entry does not lead to the load")
	}
	if !h.book.TrialBalance().Balanced {
		t.Error("the books do not balance")
	}
}

// TestDoubtsAreDecided: a sale whose end its till does not know, the card
// having shown in its log that it paid.
func TestDoubtsAreDecided(t *testing.T) {
	h := openHouse(t)
	s := h.furnish()
	b := h.login("mei", web.EN)
	b.post("/ops/ecash/loads/"+s.load+"/decide", url.Values{"decision": {"paid"}, "why": {"shown by its load log"}})
	h.do(func(tx *db.Tx) error {
		_, err := tx.Exec(`INSERT INTO issuing_doubt (id, card, atc, kind, typ, fen, payee, terminal, paid, balance, state, evidence, at, decided)
			VALUES ('dbt_1', $1, 6, 1, 0, 1800, 'payable.shop_tea', $2, $3, -1, 'waiting', '{}', $4, 0)`, s.bank.ID, shopTill, true, tx.Now().UnixMicro())
		return err
	})
	at := "/ops/ecash/doubts/dbt_1"
	for path, want := range map[string]string{"/ops/ecash/doubts": at, at: "the card shows that it paid", "/ops/": "Sales in doubt"} {
		if !strings.Contains(b.page(path), want) {
			t.Errorf("%s lacks %q", path, want)
		}
	}
	b.post(at+"/decide", url.Values{"decision": {"paid"}, "why": {"read from the card at the counter"}})
	if body := b.page(at); strings.Contains(body, "ask-doubt") || !b.told("sale in doubt decided", "read from the card") {
		t.Error("not decided, or not told")
	}
	if !strings.Contains(b.page("/ops/shops"), "¥18.00") || !h.book.TrialBalance().Balanced {
		t.Error("the shop is not owed the sale, or the books do not balance")
	}
	if status, _ := b.send("POST", at+"/decide", url.Values{"decision": {"maybe"}, "why": {"read from the card"}}, nil); status != http.StatusUnprocessableEntity {
		t.Errorf("no decision: status %d", status)
	}
}

// TestCanteensDoubtsAreDecided: beside those of bank cards, with a reason that
// stays; what the till brings later is booked by its record.
func TestCanteensDoubtsAreDecided(t *testing.T) {
	h := openHouse(t)
	h.furnish()
	b := h.login("mei", web.EN)
	sale := desfire.Sale{Card: desfire.UID{4, 1}, App: desfire.CanteenAID, Till: desfire.Till{0, 0, 0, 0x0A}, Seq: 3, Kind: desfire.Purchase, Fen: 7_51, Before: 50_00, After: 42_49, At: desfire.StampOf(h.now.Now())}
	_, err := h.shops.Transport(ctx, "0000000A")
	h.must(err)
	_, err = h.shops.Install(ctx, "0000000A")
	h.must(err)
	x, err := h.shops.KeepMealDoubt(ctx, "0000000A", sale)
	h.must(err)
	at := "/ops/ecash/doubts/" + x.ID
	for path, want := range map[string]string{"/ops/ecash/doubts": at, at: "a pointer only", "/ops/ecash": "/ops/ecash/doubts"} {
		if !strings.Contains(b.page(path), want) {
			t.Errorf("%s lacks %q", path, want)
		}
	}
	if zh := h.login("mei", web.ZH).page(at); !strings.Contains(zh, "终端下次上送") {
		t.Error("not in Chinese")
	}
	b.post(at+"/decide", url.Values{"decision": {"not"}, "why": {"the card shows the old value"}})
	if body := b.page(at); strings.Contains(body, "ask-doubt") || !b.told("sale in doubt decided", "the card shows the old value") {
		t.Error("not decided, or not told")
	}
	if strings.Contains(b.page("/ops/ecash/doubts"), at) {
		t.Error("still on the desk")
	}
}

// TestPassagesAreOpenedWithAReason: who may pass is shown, who passed only with a
// reason, which stays; a grant is taken away, and none is given to no door card.
func TestPassagesAreOpenedWithAReason(t *testing.T) {
	h := openHouse(t)
	s := h.furnish()
	h.do(func(tx *db.Tx) error {
		_, err1 := tx.Exec(`INSERT INTO acquiring_passage (id, tid, number, site, uid, card, person, at, opened, reason, got) VALUES ('psg_1', '0000000D', 1, 'site_yard', '04010203040506', $1, '0', $2, $3, 5, $2)`, s.bank.ID, tx.Now().UnixMicro(), false)
		_, err2 := tx.Exec(`INSERT INTO acquiring_grant (site, card, zone, schedule) VALUES ('site_yard', $1, 1, 2)`, s.bank.ID)
		return errors.Join(err1, err2)
	})
	at := "/ops/shops/sites/site_yard"
	b := h.login("mei", web.EN)
	if body := b.page(at); !strings.Contains(body, "ask-passages") || !strings.Contains(body, "ask-expel") || strings.Contains(body, "reason 5") {
		t.Error("the site's page lacks its acts, or shows who passed")
	}
	if !strings.Contains(b.page("/ops/shops/sites"), at) {
		t.Error("the list does not lead to the site")
	}
	if _, body := b.send("POST", at+"/passages", url.Values{"why": {"x"}}, nil); strings.Contains(body, "reason 5") {
		t.Error("opened without a reason")
	}
	status, body := b.send("POST", at+"/passages", url.Values{"why": {"the owner asked in writing"}}, nil)
	if status != http.StatusOK || !strings.Contains(body, "refused (reason 5)") || !b.told("passages opened", "the owner asked in writing") {
		t.Errorf("status %d: not opened, or not told", status)
	}
	if _, zh := h.login("mei", web.ZH).send("POST", at+"/passages", url.Values{"why": {"the owner asked again"}}, nil); !strings.Contains(zh, "未开门（原因 5）") {
		t.Error("not in Chinese")
	}
	if status, body := h.login("shen", web.EN).send("POST", at+"/passages", url.Values{"why": {"curious auditor"}}, nil); status != http.StatusForbidden || strings.Contains(body, "reason 5") {
		t.Errorf("an auditor: status %d", status)
	}
	status, _ = b.send("POST", at+"/admit", url.Values{"card": {string(s.bank.ID)}, "zone": {"1"}, "schedule": {"1"}, "why": {"not a door card"}}, nil)
	if status != http.StatusUnprocessableEntity || strings.Contains(b.page("/ops/audit"), "not a door card") {
		t.Errorf("a bank card was let in: status %d", status)
	}
	if status, _ := b.send("POST", at+"/admit", url.Values{"card": {"x"}, "zone": {"70000"}, "schedule": {"1"}, "why": {"no such zone"}}, nil); status != http.StatusUnprocessableEntity {
		t.Errorf("no zone: status %d", status)
	}
	b.post(at+"/expel", url.Values{"decision": {string(s.bank.ID)}, "why": {"left the firm"}})
	if body := b.page(at); strings.Contains(body, "ask-expel") || !b.told("access taken away", "left the firm") {
		t.Error("still admitted, or not told")
	}
	if zh := h.login("mei", web.ZH).page("/ops/shops"); !strings.Contains(zh, "北京") || strings.Contains(zh, "Beijing") {
		t.Error("the city is not in Chinese")
	}
}

func TestDevicesAreSuspendedAndGapsSeen(t *testing.T) {
	h := openHouse(t)
	s := h.furnish()
	b := h.login("mei", web.EN)
	at := "/ops/shops/devices/" + s.till
	if body := b.page("/ops/shops/devices"); !strings.Contains(body, "2 numbers missing") {
		t.Error("the gap is not seen")
	}
	if !strings.Contains(b.page("/ops/ecash"), "Numbers missing") {
		t.Error("the desk does not count gaps")
	}
	b.post(at+"/suspend", url.Values{"why": {"stolen from the counter"}})
	if body := b.page(at); !strings.Contains(body, "suspended") || !strings.Contains(body, "ask-resume") || !b.told("device changed", "stolen from the counter") {
		t.Error("not suspended, or not told")
	}
	b.post(at+"/resume", url.Values{"why": {"found again"}})
	if strings.Contains(b.page("/ops/shops/devices/0000000D"), "ask-resume") {
		t.Error("a door that was never installed may be put to work")
	}
	if !strings.Contains(b.page("/ops/shops/devices/0000000D"), "request of the site") {
		t.Error("the door's page does not say whose its passages are")
	}
}

func TestWhatIsPutAsideIsSeen(t *testing.T) {
	h := openHouse(t)
	s := h.furnish()
	b := h.login("mei", web.EN)
	seen := b.page("/ops/ecash/odd") + b.page("/ops/ecash/suspense")
	if !strings.Contains(seen, "no card of this house") {
		t.Error("the foreign card's sale is nowhere")
	}
	if !strings.HasPrefix(s.record, "sale_") {
		t.Fatalf("the record is %s", s.record)
	}
	at := "/ops/ecash/records/" + s.record
	if body := b.page(at); !strings.Contains(body, "622848") || !strings.Contains(body, "ABC debit card") {
		t.Errorf("the record's page lacks its masked card")
	}
	b.post(at+"/retry", url.Values{"why": {"the ranges were updated"}})
	if !b.told("record tried again", "the ranges were updated") {
		t.Error("not told")
	}
}

func TestLostBandsAreSuspendedRestoredAndPaid(t *testing.T) {
	h := openHouse(t)
	s := h.furnish()
	b := h.login("mei", web.EN)
	b.post("/ops/ecash/loads/"+s.load+"/decide", url.Values{"decision": {"paid"}, "why": {"shown by its load log"}})
	at := "/ops/lost/band_lin"
	if !strings.Contains(b.page("/ops/bands/band_lin"), "ask-suspend") {
		t.Error("the band's page does not offer it")
	}
	b.post(at+"/suspend", url.Values{"why": {"caller lost it in line 1"}})
	if body := b.page(at); !strings.Contains(body, "suspended") || !strings.Contains(body, "waits 7 days") || strings.Contains(body, "ask-refund") {
		t.Error("not suspended, or its rule is not printed, or it pays too early")
	}
	if !strings.Contains(b.page("/ops/cards?suspended=1"), "suspended") || !strings.Contains(b.page("/ops/lost"), "waiting") {
		t.Error("the lists do not show it")
	}
	b.post(at+"/restore", url.Values{"why": {"found under the seat"}})
	if !strings.Contains(b.page(at), "found again") || !b.told("band restored", "under the seat") {
		t.Error("not restored, or not told")
	}
	b.post(at+"/suspend", url.Values{"why": {"lost once more"}})
	h.now.Advance(8 * 24 * time.Hour)
	b = h.login("mei", web.EN) // a session is shorter than the waiting time
	if !strings.Contains(b.page(at), "ask-refund") {
		t.Fatal("a due claim is not offered")
	}
	b.post(at+"/refund", url.Values{"decision": {string(s.bank.ID)}, "why": {"the waiting time is over"}})
	if body := b.page(at); !strings.Contains(body, "paid ¥50.00") || !b.told("claim paid", "waiting time is over") {
		t.Errorf("not paid, or not told: %s", regexp.MustCompile(`(?s)<tbody>.*?</tbody>`).FindString(body))
	}
	if !h.book.TrialBalance().Balanced {
		t.Error("the books do not balance")
	}
}

func TestReleasesGoOutInStages(t *testing.T) {
	h := openHouse(t)
	b := h.login("mei", web.EN)
	news := url.Values{"zh": {"新卡种"}, "en": {"New cards"}, "why": {"new cards are ready"}}
	if at := b.post("/ops/firmware", news); at != "/ops/firmware/1" {
		t.Fatalf("leads to %s", at)
	}
	at := "/ops/firmware/1"
	b.post(at+"/stage", url.Values{"decision": {"1"}, "why": {"the first few"}})
	b.post(at+"/stage", url.Values{"decision": {"10"}, "why": {"they kept it"}})
	h.do(func(tx *db.Tx) error {
		var errs []error
		for i, o := range []firmware.Outcome{firmware.Kept, firmware.Kept, firmware.Undone} {
			errs = append(errs, firmware.Tell(tx, fmt.Sprint("band", i), 1, o))
		}
		return errors.Join(errs...)
	})
	if body := b.page(at); !strings.Contains(body, "2 / 3") || !strings.Contains(body, "1 / 3") || strings.Contains(body, `value="10"`) {
		t.Error("the bars are wrong, or a stage can shrink")
	}
	b.post(at+"/halt", url.Values{"why": {"one band did not start"}})
	if body := b.page(at); !strings.Contains(body, "one band did not start") || strings.Contains(body, "ask-stage") || !b.told("release halted", "one band did not start") {
		t.Error("not halted, or not told")
	}
	if at := b.post("/ops/firmware", news); at != "/ops/firmware/2" {
		t.Errorf("the next leads to %s", at)
	}
	for path, want := range map[string]int{"/ops/firmware/9": 404, "/ops/firmware/x": 404} {
		if status, _ := b.get(path); status != want {
			t.Errorf("%s: status %d", path, status)
		}
	}
}

var shownKey = regexp.MustCompile(`koala_[0-9a-f]{48}`)

func TestAKeyIsShownOnce(t *testing.T) {
	h := openHouse(t)
	b := h.login("mei", web.EN)
	b.post("/ops/partners", url.Values{"code": {"tea"}, "zh": {"茶馆"}, "en": {"Tea"}, "why": {"contract of Monday"}})
	at := "/ops/partners/tea"
	b.post(at+"/space", url.Values{"space": {"4096"}, "why": {"pays for little"}})
	if page := b.page(at); !strings.Contains(page, "4\u2009096") || !strings.Contains(page, "F06B6F616C61060001") {
		t.Error("the new space and the domain are not on the page")
	}
	if status, _ := b.send("POST", at+"/space", url.Values{"space": {"12"}, "why": {"too little"}}, nil); status == http.StatusOK {
		t.Errorf("12 bytes: status %d", status)
	}
	form := regexp.MustCompile(`name="form" value="([0-9a-f]+)"`).FindStringSubmatch(b.page(at))
	ask := url.Values{"form": {form[1]}, "name": {"production"}, "rights": {"cards"}, "why": {"first key of the firm"}}
	status, body := b.send("POST", at+"/keys", ask, nil)
	key := shownKey.FindString(body)
	if status != http.StatusOK || key == "" {
		t.Fatalf("status %d, no key", status)
	}
	if status, _ := b.send("POST", at+"/keys", ask, nil); status != http.StatusSeeOther {
		t.Errorf("the form again: status %d", status)
	}
	for _, path := range []string{at, "/ops/partners", "/ops/audit"} {
		if shownKey.MatchString(b.page(path)) {
			t.Errorf("%s shows a key", path)
		}
	}
	if !strings.Contains(b.page(at), key[:12]) || !b.told("API key issued", "first key of the firm") {
		t.Error("the key cannot be told from others, or is not in the trail")
	}
	id := regexp.MustCompile(`name="decision" value="(key_[^"]+)"`).FindStringSubmatch(b.page(at))
	b.post(at+"/revoke", url.Values{"decision": {id[1]}, "why": {"it leaked"}})
	if !strings.Contains(b.page(at), "revoked") || strings.Contains(b.page(at), "ask-revoke") || !b.told("API key revoked", "it leaked") {
		t.Error("not revoked, or not told")
	}
}

func TestBadAddressesOfSubjects(t *testing.T) {
	h := openHouse(t)
	b := h.login("mei", web.EN)
	for path, want := range map[string]int{"/ops/issuers?state=x": 422, "/ops/issuers/templates/none": 404, "/ops/ecash/records/none": 404, "/ops/ecash/loads/none": 404, "/ops/ecash/doubts/none": 404,
		"/ops/shops/none": 404, "/ops/shops/devices/none": 404, "/ops/shops/devices?kind=x": 422, "/ops/lost/none": 404, "/ops/partners/none": 404, "/ops/cards?kind=x": 422, "/ops/orders?card=x": 422} {
		if status, _ := b.get(path); status != want {
			t.Errorf("%s: status %d, want %d", path, status, want)
		}
	}
}

// TestTransportKeyIsShownOnce: staff who open a device for installation see its
// transport key in the answer and nowhere later.
func TestTransportKeyIsShownOnce(t *testing.T) {
	h := openHouse(t)
	h.furnish()
	b := h.login("mei", web.EN)
	const at = "/ops/shops/devices/0000000D"
	status, shown := b.send("POST", at+"/reinstall", url.Values{"why": {"the door is new"}}, nil)
	i := strings.Index(shown, "KTK1 0000000D ")
	if status != http.StatusOK || i < 0 {
		t.Fatalf("status %d, form at %d", status, i)
	}
	line, _, _ := strings.Cut(shown[i:], "<")
	form, err := hsm.ParseTransportForm(line)
	h.must(err)
	page := b.page(at)
	if strings.Contains(page, "KTK1") || strings.Contains(page, fmt.Sprintf("%X", form.Parts[0][:])) {
		t.Error("the page of the device shows the key again")
	}
	in, err := h.shops.Install(ctx, "0000000D")
	h.must(err)
	key, err := form.Key()
	h.must(err)
	if _, _, err := hsm.OpenInjected(hsm.TerminalKey{Use: in.Keys[0].Use, TID: "0000000D"}, key, in.Keys[0].Block); err != nil {
		t.Errorf("what the page showed does not open the key: %v", err)
	}
}

// TestReceiptsOfAnOrder writes a partner's card: what the element confirmed of it
// is on the order's page.
func TestReceiptsOfAnOrder(t *testing.T) {
	h := openHouse(t)
	template := h.partnersTemplate()
	var o tsm.Order
	h.do(func(tx *db.Tx) error {
		if _, err := issuing.Approve(tx, template, "mei"); err != nil {
			return err
		}
		c, err := issuing.Open(tx, issuing.Application{Ref: "tea", Customer: h.lin, Band: "band_lin", Product: "jiahe/tea-club"})
		if err != nil {
			return err
		}
		o, err = h.tsm.Place(tx, tsm.Request{Ref: "tea", Kind: tsm.Issue, Band: "band_lin", Card: c.ID, Customer: string(h.lin)})
		return err
	})
	h.work()
	if page := h.login("mei", web.EN).page("/ops/orders/" + o.ID); !strings.Contains(page, "Receipt 1 of the element, verified") || !strings.Contains(page, "INSTALL F06B6F616C61060001") {
		t.Error("the receipt is not on the page of the order")
	}
}
