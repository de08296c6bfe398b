package device_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"koala/app"
	"koala/calendar"
	"koala/city/street"
	"koala/customer"
	"koala/internal/clock"
	"koala/internal/db"
	"koala/internal/db/dbtest"
	"koala/internal/fail"
	"koala/issuing"
	"koala/money"
	"koala/spec/purse"
	"koala/transit"
	"koala/tsm"
	"koala/wallet"
	"koala/web"
	"koala/web/device"
)

var ctx = context.Background()

// A door is the devices' door of a house with one card, one gate, and debits
// that the gate has not handed over.
type door struct {
	testing.TB
	h      *app.House
	street *street.Street
	http.Handler
	gate         purse.Terminal
	batch        purse.Batch // of the gate
	band, script string      // whose top-up waits, and the script in its hands
	card         purse.Number
	tokens       map[string]string
}

const bandID, gateReader = "band-1", "dongdan.in"

func each(t *testing.T, f func(t *testing.T, d *door)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) { f(t, newDoor(t, "")) })
	t.Run("postgres", func(t *testing.T) { f(t, newDoor(t, dbtest.Postgres(t))) })
}

func newDoor(t testing.TB, url string) *door {
	t.Helper()
	now := clock.NewVirtual(time.Date(2015, 9, 16, 7, 0, 0, 0, calendar.Beijing))
	h, err := app.New(ctx, app.Config{Data: filepath.Join(t.TempDir(), "house"), DB: url, Clock: now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	d := &door{TB: t, h: h, Handler: h.DeviceHandler(), band: bandID, tokens: map[string]string{}}
	d.street, err = street.New(h, street.Config{})
	d.must(err)
	var who customer.ID
	who, d.card = d.settle()
	for range 3 {
		for _, at := range []string{gateReader, "xidan.out"} {
			_, err := d.street.Tap(ctx, bandID, at, street.Options{})
			d.must(err)
			now.Advance(20 * time.Minute)
		}
	}
	r, err := d.street.Reader(ctx, gateReader)
	d.must(err)
	held, err := r.Held()
	d.must(err)
	d.gate = r.Terminal
	d.batch = purse.Batch{Terminal: r.Terminal, First: held.Debits[0].Number}
	for _, s := range held.Debits {
		d.batch.Debits = append(d.batch.Debits, s.Debit)
	}
	d.must(d.topUp(who, d.card))
	s, err := h.TSM.Next(ctx, bandID)
	d.must(err)
	d.script = s.ID
	return d
}

// settle makes a customer with a wallet, a band and a card with 50 yuan.
func (d *door) settle() (customer.ID, purse.Number) {
	d.Helper()
	desk := &customer.Desk{Store: d.h.Store, Seal: d.h.Keys.Seal, Salt: clock.Entropy(), Cost: 1}
	c, err := desk.Register(ctx, customer.Application{Login: "ann", Name: "安", Phone: "13900000001", Secret: "secret-1"})
	d.must(err)
	d.must(d.h.Store.Write(ctx, func(tx *db.Tx) error {
		if err := wallet.Open(tx, c.ID); err != nil {
			return err
		}
		_, err := wallet.Fund(tx, "first", c.ID, money.Fen(1000_00))
		return err
	}))
	d.must(d.street.GiveBand(ctx, string(c.ID), bandID))
	var card purse.Number
	d.must(d.h.Store.Write(ctx, func(tx *db.Tx) error {
		a, err := issuing.Open(tx, issuing.Application{Ref: "card", Customer: c.ID, Band: bandID, Product: issuing.TransitBJ})
		if err != nil {
			return err
		}
		card = a.ID.Purse()
		_, err = d.h.TSM.Place(tx, tsm.Request{Ref: "issue", Kind: tsm.Issue, Band: bandID, Card: issuing.IDOf(card), Customer: string(c.ID)})
		return err
	}))
	d.must(d.street.RunAgent(ctx, bandID))
	d.must(d.topUp(c.ID, card))
	d.must(d.street.RunAgent(ctx, bandID))
	return c.ID, card
}

func (d *door) topUp(who customer.ID, card purse.Number) error {
	return d.h.Store.Write(ctx, func(tx *db.Tx) error {
		_, err := d.h.TSM.Place(tx, tsm.Request{Ref: tx.NewID("wish"), Kind: tsm.TopUp, Band: bandID, Card: issuing.IDOf(card), Customer: string(who), Amount: money.Fen(50_00)})
		return err
	})
}

func (d *door) must(err error) {
	d.Helper()
	if err != nil {
		d.Fatal(err)
	}
}

// token of a device, made once.
func (d *door) token(kind, id string) string {
	d.Helper()
	if d.tokens[kind+id] == "" {
		t, err := d.h.DeviceToken(ctx, kind, id)
		d.must(err)
		d.tokens[kind+id] = t
	}
	return d.tokens[kind+id]
}

func (d *door) gateID() string { return strings.ToLower(d.gate.String()) }

// ask makes one request.
func (d *door) ask(method, path, token string, body []byte) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, "/device"+path, bytes.NewReader(body))
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	w := httptest.NewRecorder()
	d.ServeHTTP(w, r)
	return w
}

// hand gives the gate's own door a body.
func (d *door) hand(body []byte) *httptest.ResponseRecorder {
	d.Helper()
	return d.ask("POST", "/terminals/"+d.gateID()+"/debits", d.token(device.KindTerminal, d.gateID()), body)
}

func (d *door) report(body string) *httptest.ResponseRecorder {
	d.Helper()
	return d.ask("POST", "/bands/"+d.band+"/report", d.token(device.KindBand, d.band), []byte(body))
}

// A mark is everything that a refused request must leave as it is.
type mark struct {
	tip    uint64
	events int64
	odd    int
	number uint32 // the gate's last
	float  int64  // fen on the card, as the books have it
	order  tsm.Order
}

func (d *door) mark() (m mark) {
	d.Helper()
	m.tip, _ = d.h.Book.Tip()
	var err error
	m.events, err = d.h.Outbox.Last(ctx)
	d.must(err)
	b, err := d.h.Book.Balance(issuing.Float(issuing.IDOf(d.card)))
	d.must(err)
	m.float = b.Posted.Minor()
	d.must(d.h.Store.Read(ctx, func(q *db.Query) error {
		odd, err := transit.OddTaps(q, "", 100)
		if err != nil {
			return err
		}
		g, err := transit.DeviceOf(q, d.gate)
		if err != nil {
			return err
		}
		orders, err := tsm.Orders(q, tsm.Filter{Band: d.band, Limit: 1})
		if len(orders) == 1 {
			m.order = orders[0]
		}
		m.odd, m.number = len(odd), g.Number
		return err
	}))
	return m
}

func (m mark) equal(o mark) bool {
	return m.tip == o.tip && m.events == o.events && m.odd == o.odd && m.number == o.number &&
		m.order.ID == o.order.ID && m.order.State == o.order.State && m.order.Phase == o.order.Phase && m.order.Session == o.order.Session
}

// problem checks a refusal: status, code, RFC 9457 form, nothing changed.
func (d *door) problem(w *httptest.ResponseRecorder, before mark, status int, code string) {
	d.Helper()
	var p web.Problem
	if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil {
		d.Errorf("%d %q: %v", w.Code, w.Body, err)
		return
	}
	if w.Code != status || p.Status != status || p.Code != code || p.Detail == "" || p.Title == "" || w.Header().Get("Content-Type") != "application/problem+json" {
		d.Errorf("%d %s; want %d %s", w.Code, w.Body, status, code)
	}
	if after := d.mark(); !after.equal(before) {
		d.Errorf("%s changed something: before %+v, after %+v", code, before, after)
	}
}

func (d *door) body(b purse.Batch) []byte {
	d.Helper()
	raw, err := b.AppendBinary(nil)
	d.must(err)
	return raw
}

// TestTokens: a device is let in by its own token and by no other.
func TestTokens(t *testing.T) {
	d := newDoor(t, "")
	band, gate := d.token("band", bandID), d.token("terminal", d.gateID())
	for _, tt := range []struct{ name, path, token string }{
		{"none", "/bands/band-1/next", ""},
		{"not hexadecimal", "/bands/band-1/next", "open sesame"},
		{"too short", "/bands/band-1/next", band[:20]},
		{"one digit wrong", "/bands/band-1/next", "0" + band[1:len(band)-1] + "0"},
		{"another band's", "/bands/band-2/next", band},
		{"a gate's", "/bands/band-1/next", gate},
		{"a band's at a gate", "/terminals/" + d.gateID() + "/debits", band},
		{"another gate's", "/terminals/300000000101/debits", gate},
		{"a gate's for a band of its name", "/bands/" + d.gateID() + "/next", gate},
		{"another spelling of the gate", "/terminals/" + strings.ToUpper(d.gateID() + "A")[:11] + "A/debits", gate},
		{"a kind inside a name", "/bands/x%7Cband-1/next", band},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d.TB = t
			before := d.mark()
			d.problem(d.ask("POST", tt.path, tt.token, d.body(d.batch)), before, http.StatusForbidden, "device.token")
		})
	}
}

// TestAddresses: what is no address, and what an address does not take.
func TestAddresses(t *testing.T) {
	d := newDoor(t, "")
	bad, nobody := d.token("terminal", "nonsense"), d.token("terminal", "300000000101")
	ghost, gate := d.token("band", "ghost"), d.token("terminal", d.gateID())
	for _, tt := range []struct {
		name, method, path, token string
		status                    int
		code                      string
	}{
		{"nothing", "GET", "/", "", 404, "device.no_address"},
		{"another verb", "POST", "/bands/band-1/explode", "", 404, "device.no_address"},
		{"another method", "GET", "/bands/band-1/next", "", 404, "device.no_address"},
		{"a band nobody registered", "POST", "/bands/ghost/next", ghost, 404, "tsm.band_not_found"},
		{"a report of a band nobody registered", "POST", "/bands/ghost/report", ghost, 404, "tsm.script_not_found"},
		{"a terminal's number that is none", "GET", "/terminals/nonsense/tariff", bad, 404, "device.no_address"},
		{"a deny list for it", "GET", "/terminals/nonsense/deny", bad, 404, "device.no_address"},
		{"a terminal nobody registered", "GET", "/terminals/300000000101/tariff", nobody, 404, "transit.no_device"},
		{"a deny list for it", "GET", "/terminals/300000000101/deny", nobody, 404, "transit.no_device"},
		{"a version that is none", "GET", "/terminals/" + d.gateID() + "/tariff?have=x", gate, 422, "device.body"},
		{"a version below zero", "GET", "/terminals/" + d.gateID() + "/deny?have=-1", gate, 422, "device.body"},
		{"a version beyond 32 bits", "GET", "/terminals/" + d.gateID() + "/deny?have=4294967296", gate, 422, "device.body"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d.TB = t
			before := d.mark()
			d.problem(d.ask(tt.method, tt.path, tt.token, []byte(`{"script":"scr_x"}`)), before, tt.status, tt.code)
		})
	}
}

// TestPacks: a gate gets what is newer than what it has.
func TestPacks(t *testing.T) {
	each(t, func(t *testing.T, d *door) {
		token, at := d.token("terminal", d.gateID()), "/terminals/"+d.gateID()
		d.must(d.h.Store.Write(ctx, func(tx *db.Tx) error {
			return d.h.Transit.Books().Deny(tx, "03105170070104791381", purse.DenyLost, "test")
		}))
		d.must(d.h.Tick(ctx))
		for _, tt := range []struct {
			path   string
			status int
		}{{"/tariff", 200}, {"/tariff?have=0", 200}, {"/tariff?have=1", 204}, {"/deny", 200}, {"/deny?have=0", 200}, {"/deny?have=1", 204},
			{"/deny?have=4294967295", 204}} {
			w := d.ask("GET", at+tt.path, token, nil)
			if w.Code != tt.status || (w.Code == 200) != (w.Body.Len() > 64) {
				t.Errorf("%s: %d, %d bytes", tt.path, w.Code, w.Body.Len())
			}
		}
	})
}

// TestBadBatches: each is refused whole.
func TestBadBatches(t *testing.T) {
	each(t, func(t *testing.T, d *door) {
		good := d.body(d.batch)
		with := func(f func(b *purse.Batch)) []byte {
			b := d.batch
			b.Debits = append([]purse.Debit(nil), b.Debits...)
			f(&b)
			return d.body(b)
		}
		for _, tt := range []struct {
			name string
			body []byte
		}{
			{"empty", nil},
			{"text", []byte("hello")},
			{"JSON", []byte(`{"debits":[]}`)},
			{"cut short", good[:len(good)-1]},
			{"one byte more", append(bytes.Clone(good), 0)},
			{"a bit wrong", flip(good, len(good)/2)},
			{"another magic", sealed(flip(good, 0))},
			{"a count too high", sealed(flip(good, 14))},
			{"a debit's version unknown", sealed(flip(good, 16))},
			{"too large", bytes.Repeat([]byte{0}, 1<<20+1)},
			{"another terminal's batch", with(func(b *purse.Batch) { b.Terminal[5] ^= 1 })},
			{"another terminal's debit among good ones", with(func(b *purse.Batch) { b.Debits[2].Terminal[5] ^= 1 })},
			{"numbers that run over", with(func(b *purse.Batch) { b.First = 1<<32 - 2 })},
			{"numbers from zero", with(func(b *purse.Batch) { b.First = 0 })},
		} {
			before := d.mark()
			w := d.hand(tt.body)
			if w.Code != http.StatusUnprocessableEntity {
				t.Errorf("%s: %d %s", tt.name, w.Code, w.Body)
			}
			d.problem(w, before, 422, "device.body")
		}
		d.green()
	})
}

// flip changes one bit of byte i.
func flip(b []byte, i int) []byte {
	b = bytes.Clone(b)
	b[i] ^= 4
	return b
}

// sealed makes the batch's checksum right again.
func sealed(b []byte) []byte {
	if len(b) < 4 {
		return b
	}
	b = bytes.Clone(b)
	body := b[:len(b)-4]
	binary.BigEndian.PutUint32(b[len(body):], crc32.ChecksumIEEE(body))
	return b
}

func (d *door) green() {
	d.Helper()
	p, err := d.h.Verify(ctx)
	if err != nil || !p.OK {
		d.Errorf("%v %q", err, p.Problems)
	}
}

// TestReplayedBatches: again, in part, out of order, with gaps: each debit is
// booked once and the answer releases what was sent.
func TestReplayedBatches(t *testing.T) {
	each(t, func(t *testing.T, d *door) {
		n := uint32(len(d.batch.Debits))
		first := d.batch.First
		part := func(from, to uint32) []byte {
			return d.body(purse.Batch{Terminal: d.gate, First: from + first, Debits: d.batch.Debits[from:to]})
		}
		var tip uint64
		for i, tt := range []struct {
			body    []byte
			release uint32
		}{
			{part(1, 2), first + 1}, {part(2, 3), first + 2}, {part(0, 1), first}, {part(0, n), first + n - 1}, {part(0, n), first + n - 1},
			{part(1, 2), first + 1}, {part(0, 0), first - 1},
		} {
			w := d.hand(tt.body)
			if want := fmt.Sprintf(`{"release":%d}`, tt.release); w.Code != 200 || strings.TrimSpace(w.Body.String()) != want {
				t.Errorf("batch %d: %d %s, want %s", i, w.Code, w.Body, want)
			}
			switch now, _ := d.h.Book.Tip(); {
			case i == 3:
				tip = now
			case i > 3 && now != tip:
				t.Errorf("batch %d moved the journal", i)
			}
		}
		for _, b := range d.batch.Debits {
			d.must(d.h.Store.Read(ctx, func(q *db.Query) error {
				kept, _, _, err := transit.TapOf(q, b.Card, b.Seq)
				if err == nil && !kept.Equal(b) {
					err = errors.New("it is kept otherwise")
				}
				return err
			}))
		}
		d.green()
	})
}

// TestBadTACAmongGood: it is kept for staff, the good ones are booked, and the
// gate may forget all of them.
func TestBadTACAmongGood(t *testing.T) {
	each(t, func(t *testing.T, d *door) {
		b := d.batch
		b.Debits = append([]purse.Debit(nil), b.Debits...)
		b.Debits[1].TAC[0] ^= 1
		if w := d.hand(d.body(b)); w.Code != 200 {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
		if w := d.hand(d.body(b)); w.Code != 200 {
			t.Fatalf("again: %d %s", w.Code, w.Body)
		}
		d.must(d.h.Store.Read(ctx, func(q *db.Query) error {
			for i, x := range b.Debits {
				_, _, _, err := transit.TapOf(q, x.Card, x.Seq)
				if booked := err == nil; booked != (i != 1) {
					t.Errorf("debit %d is booked: %v (%v)", i, booked, err)
				}
			}
			odd, err := transit.OddTaps(q, "", 10)
			if len(odd) != 1 || odd[0].Why != "tac" || !odd[0].Debit.Equal(b.Debits[1]) {
				t.Errorf("kept for staff: %+v", odd)
			}
			return err
		}))
		d.green()
	})
}

// TestForkedDebit: another debit with a good TAC cannot be made here without
// the card; the same sequence with another body is refused by its TAC or kept
// as a fork, and never booked over the first.
func TestForkedDebit(t *testing.T) {
	d := newDoor(t, "")
	if w := d.hand(d.body(d.batch)); w.Code != 200 {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	tip, _ := d.h.Book.Tip()
	b := d.batch
	b.Debits = append([]purse.Debit(nil), b.Debits...)
	b.Debits[0].Balance++ // the TAC does not cover it
	if w := d.hand(d.body(b)); w.Code != 200 {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	if now, _ := d.h.Book.Tip(); now != tip {
		t.Error("a fork moved the journal")
	}
	d.must(d.h.Store.Read(ctx, func(q *db.Query) error {
		odd, err := transit.OddTaps(q, "", 10)
		if len(odd) != 1 || odd[0].Why != "fork" {
			t.Errorf("kept for staff: %+v", odd)
		}
		return err
	}))
	d.green()
}

// TestBadReports: each is refused, and the order goes on as if nothing had come.
func TestBadReports(t *testing.T) {
	each(t, func(t *testing.T, d *door) {
		many := strings.Repeat(`"9000",`, tsm.MaxAnswers) + `"9000"`
		for _, tt := range []struct {
			name, body string
			status     int
			code       string
		}{
			{"empty", "", 422, "device.body"},
			{"text", "hello", 422, "device.body"},
			{"a list", "[]", 422, "device.body"},
			{"cut short", `{"script":"x"`, 422, "device.body"},
			{"two values", `{"script":"x"} {}`, 422, "device.body"},
			{"an answer that is a number", `{"script":"x","answers":[9000]}`, 422, "device.body"},
			{"not hexadecimal", `{"script":"SCRIPT","answers":["9G00"]}`, 422, "device.body"},
			{"half a byte", `{"script":"SCRIPT","answers":["900"]}`, 422, "device.body"},
			{"too many answers", `{"script":"SCRIPT","answers":[` + many + `]}`, 422, "device.body"},
			{"too large", `{"script":"` + strings.Repeat("x", 1<<20) + `"}`, 422, "device.body"},
			{"more answers than commands", `{"script":"SCRIPT","answers":["9000","9000","9000","9000","9000"]}`, 422, "tsm.bad_answers"},
			{"an answer without status word", `{"script":"SCRIPT","answers":["90"]}`, 422, "tsm.bad_answers"},
			{"an empty answer", `{"script":"SCRIPT","answers":[""]}`, 422, "tsm.bad_answers"},
			{"an answer that is too long", `{"script":"SCRIPT","answers":["` + strings.Repeat("00", 300) + `9000"]}`, 422, "tsm.bad_answers"},
			{"answers after a refusal", `{"script":"SCRIPT","answers":["6A82","9000"]}`, 422, "tsm.bad_answers"},
			{"no script", `{"answers":["9000"]}`, 404, "tsm.script_not_found"},
			{"an unknown script", `{"script":"scr_nothing"}`, 404, "tsm.script_not_found"},
			{"a script of zeros", `{"script":"\u0000"}`, 422, "device.body"},
			{"a script in no encoding", "{\"script\":\"\xff\xfe\"}", 404, "tsm.script_not_found"},
		} {
			before := d.mark()
			w := d.report(strings.ReplaceAll(tt.body, "SCRIPT", d.script))
			if w.Code != tt.status {
				t.Errorf("%s: %d %s", tt.name, w.Code, w.Body)
			}
			d.problem(w, before, tt.status, tt.code)
		}
		d.must(d.street.RunAgent(ctx, bandID))
		if o := d.mark().order; o.State != tsm.Done {
			t.Errorf("afterwards the order is %s: %s", o.State, o.Why)
		}
		d.green()
	})
}

// TestReportOfAnotherBand: a band cannot speak for another one.
func TestReportOfAnotherBand(t *testing.T) {
	d := newDoor(t, "")
	d.must(d.h.Store.Write(ctx, func(tx *db.Tx) error { return d.h.TSM.Register(tx, "band-2", "somebody") }))
	before := d.mark()
	w := d.ask("POST", "/bands/band-2/report", d.token("band", "band-2"), fmt.Appendf(nil, `{"script":%q,"cut":true}`, d.script))
	d.problem(w, before, 404, "tsm.script_not_found")
}

// TestLateReports: a report that comes twice, or after the script was given up,
// is taken and changes nothing.
func TestLateReports(t *testing.T) {
	each(t, func(t *testing.T, d *door) {
		cut := fmt.Sprintf(`{"script":%q,"answers":[],"cut":true}`, d.script)
		if w := d.report(cut); w.Code != http.StatusNoContent {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
		before := d.mark()
		for _, body := range []string{cut, fmt.Sprintf(`{"script":%q,"answers":["9000","9000"]}`, d.script), fmt.Sprintf(`{"script":%q,"answers":["6A82"]}`, d.script)} {
			if w := d.report(body); w.Code != http.StatusNoContent || w.Body.Len() > 0 {
				t.Errorf("%d %s", w.Code, w.Body)
			}
			if after := d.mark(); !after.equal(before) {
				t.Errorf("a late report: before %+v, after %+v", before, after)
			}
		}
		d.must(d.street.RunAgent(ctx, bandID))
		if o := d.mark().order; o.State != tsm.Done {
			t.Errorf("afterwards the order is %s: %s", o.State, o.Why)
		}
		done := d.mark()
		if w := d.report(cut); w.Code != http.StatusNoContent || !d.mark().equal(done) {
			t.Errorf("a report after the end: %d", w.Code)
		}
		d.green()
	})
}

// TestStatusPerKind: what every kind of failure of the house is to a device.
func TestStatusPerKind(t *testing.T) {
	for kind, status := range map[fail.Kind]int{fail.Broken: 500, fail.Invalid: 422, fail.Refused: 409, fail.NotFound: 404,
		fail.Conflict: 409, fail.Busy: 503, fail.Forbidden: 403} {
		f := &fail.Failure{Kind: kind, Code: "test.kind", Text: "said in public"}
		h := device.New(device.Deps{Devices: guard{fmt.Errorf("a secret of the inside: %w", f)}})
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("POST", "/device/bands/b/next", nil))
		var p web.Problem
		if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || w.Code != status || p.Code != f.Code || p.Detail != f.Text {
			t.Errorf("%s: %d %s", kind, w.Code, w.Body)
		}
		if strings.Contains(w.Body.String(), "secret") {
			t.Errorf("%s tells what was wrapped: %s", kind, w.Body)
		}
		if again := w.Header().Get("Retry-After"); (again != "") != (kind == fail.Busy) {
			t.Errorf("%s: Retry-After %q", kind, again)
		}
	}
}

// TestBlameIsLogged: with its path and what was wrapped; a device's own
// mistakes are not the house's.
func TestBlameIsLogged(t *testing.T) {
	var out bytes.Buffer
	log := slog.New(slog.NewTextHandler(&out, nil))
	for _, err := range []error{fmt.Errorf("disk 7: %w", db.ErrDisk), fmt.Errorf("a mistake: %w", device.ErrBody)} {
		h := device.New(device.Deps{Devices: guard{err}, Log: log})
		h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("POST", "/device/bands/b/next", nil))
	}
	if got := out.String(); !strings.Contains(got, "/device/bands/b/next") || !strings.Contains(got, "disk 7") || strings.Contains(got, "mistake") {
		t.Errorf("%s", got)
	}
}

// A guard is a registry that has always the same answer.
type guard struct{ err error }

func (g guard) CheckDevice(context.Context, string, string, string) error { return g.err }
