package transit_test

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"koala/calendar"
	"koala/fare"
	"koala/hsm"
	"koala/internal/clock"
	"koala/internal/db"
	"koala/internal/db/dbtest"
	"koala/internal/outbox"
	"koala/issuing"
	"koala/ledger"
	"koala/money"
	"koala/settlement"
	"koala/spec/purse"
	"koala/transit"
	"koala/transit/network"
)

var (
	ctx  = context.Background()
	nw   = network.Beijing()
	dtk  = [16]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}
	day0 = time.Date(2015, 9, 16, 8, 0, 0, 0, calendar.Beijing) // a Wednesday
)

// A house is a back office with gates at every station that tests name.
type house struct {
	t      testing.TB
	now    *clock.Virtual
	store  *db.Store
	book   *ledger.Book
	keys   *hsm.HSM
	office *transit.Office
	tables map[fare.Code]*fare.Table
	gates  map[string]purse.Terminal
	cards  int
}

func open(t testing.TB, cfg db.Config) *house {
	t.Helper()
	h := &house{t: t, now: clock.NewVirtual(day0), tables: map[fare.Code]*fare.Table{}, gates: map[string]purse.Terminal{}}
	cfg.Clock, cfg.Rand, cfg.Inline = h.now, clock.Random(7), true
	var err error
	if h.store, err = db.Open(ctx, cfg); err != nil {
		t.Fatal(err)
	}
	if err := h.store.Migrate(ctx, outbox.Schema, settlement.Schema, transit.Schema, issuing.Schema); err != nil {
		t.Fatal(err)
	}
	if h.book, err = ledger.Open(ctx, h.store, ledger.Config{Inline: true}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.book.Close(); h.store.Close() })
	if h.keys, err = hsm.Open(ctx, h.store, hsm.Config{KeyFile: filepath.Join(t.TempDir(), "key"), Rand: clock.Random(8)}); err != nil {
		t.Fatal(err)
	}
	if _, err := h.keys.Import(ctx, hsm.LabelDTK, hsm.PurseRoot, dtk[:]); err != nil {
		t.Fatal(err)
	}
	if err := h.keys.Provision(ctx); err != nil {
		t.Fatal(err)
	}
	h.office = transit.NewOffice(h.store, h.keys, nw)
	h.do(h.office.Books().SetUp)
	h.do(func(tx *db.Tx) error {
		return ledger.OpenAccount(tx, ledger.Account{ID: "source", Code: "1010", Name: "source", Currency: money.CNY})
	})
	return h
}

func (h *house) do(f func(*db.Tx) error) {
	h.t.Helper()
	if err := h.store.Write(ctx, f); err != nil {
		h.t.Fatal(err)
	}
}

func (h *house) read(f func(*db.Query) error) {
	h.t.Helper()
	if err := h.store.Read(ctx, f); err != nil {
		h.t.Fatal(err)
	}
}

// gate returns the terminal number of a station's gate of a kind, registered.
func (h *house) gate(kind transit.DeviceKind, station string) purse.Terminal {
	h.t.Helper()
	key := string(kind) + " " + station
	if t, ok := h.gates[key]; ok {
		return t
	}
	t := purse.Terminal{0x30, 0, 0, 0, byte(len(h.gates) / 200), byte(len(h.gates)%200 + 1)}
	h.gates[key] = t
	d := transit.Device{Terminal: t, Kind: kind}
	if kind == transit.OnBus {
		d.Operator, d.Route = "bjbus", transit.Route{Line: 52, FlatFen: 200}
		if station == "distance" {
			d.Route = transit.Route{Line: 880, Stops: []transit.Stop{{Code: 950001}, {Code: 950002, Metres: 12_000}, {Code: 950003, Metres: 24_000}}}
		}
	} else {
		d.Station = h.station(station).Code()
	}
	h.do(func(tx *db.Tx) error { return h.office.Books().Register(tx, d) })
	return t
}

func (h *house) station(name string) *network.Station {
	h.t.Helper()
	s, err := nw.Find(name)
	if err != nil {
		h.t.Fatal(err)
	}
	return s
}

// table is the fare table of a station's gates.
func (h *house) table(s *network.Station) *fare.Table {
	h.t.Helper()
	if tb, ok := h.tables[s.Code()]; ok {
		return tb
	}
	tf, err := fare.At(h.now.Now())
	if err != nil {
		h.t.Fatal(err)
	}
	tb, err := nw.Table(s, tf, 1, tf.From, tf.To)
	if err != nil {
		h.t.Fatal(err)
	}
	h.tables[s.Code()] = tb
	return tb
}

// A rider is a card and what stands on it, tapped as gates write it.
type rider struct {
	h    *house
	card purse.Number
	rec  purse.Transit
	seq  uint16
	at   time.Time
	made []purse.Debit
}

// rider makes a new card with money on its float account.
func (h *house) rider(fen int64) *rider {
	h.t.Helper()
	h.cards++
	n, err := purse.ParseNumber(fmt.Sprintf("031051700000%08d", h.cards))
	if err != nil {
		h.t.Fatal(err)
	}
	h.do(func(tx *db.Tx) error {
		if err := ledger.OpenAccount(tx, ledger.Account{ID: issuing.Float(issuing.IDOf(n)), Code: "2020", Name: "card", Currency: money.CNY, Limits: ledger.Limits{Floor: ledger.AtLeast(0)}}); err != nil {
			return err
		}
		if fen == 0 {
			return nil
		}
		_, err := ledger.Post(tx, ledger.Move("load:"+string(n), "source", issuing.Float(issuing.IDOf(n)), money.Fen(fen)))
		return err
	})
	return &rider{h: h, card: n, rec: purse.NewTransit(n), at: h.now.Now()}
}

// tap makes the debit of one purchase with the record as it stands.
func (r *rider) tap(t purse.Terminal, fen int64, record bool) purse.Debit {
	d := purse.Debit{Card: r.card, Seq: r.seq, Fen: uint32(fen), Type: purse.CAPP, Terminal: t, TSeq: uint32(r.seq) + 1, At: purse.StampOf(r.at)}
	d.TAC = purse.PurchaseTAC(purse.TACKey(purse.Disperse(dtk, r.card.Factor())), d.Fen, d.Type, d.Terminal, d.TSeq, d.At)
	if record {
		d.Record = r.rec.Bytes()
	}
	r.seq++
	r.made = append(r.made, d)
	return d
}

// touch is what every tap writes.
func (r *rider) touch(bus bool, state byte) {
	if last, err := r.rec.LastAt.Moment(); err != nil || calendar.MonthOf(last) != calendar.MonthOf(r.at) {
		r.rec.Accumulated, r.rec.Count = 0, 0
	}
	r.rec.LastAt, r.rec.State, r.rec.Flags[0] = purse.StampOf(r.at), state, purse.IndustryMetro
	if bus {
		r.rec.Flags[0] = purse.IndustryBus
	}
}

func (r *rider) wait(d time.Duration) *rider { r.at = r.at.Add(d); return r }

func (r *rider) enter(name string) purse.Debit {
	r.touch(false, 0x55)
	r.rec.Status, r.rec.EntryStation, r.rec.EntryAt = purse.Entered, purse.StationBytes(uint32(r.h.station(name).Code())), purse.StampOf(r.at)
	return r.tap(r.h.gate(transit.EntryGate, name), 0, true)
}

func (r *rider) leave(name string) purse.Debit {
	s := r.h.station(name)
	code, _ := purse.StationCode(r.rec.EntryStation)
	in, _ := r.rec.EntryAt.Moment()
	r.touch(false, 0x55)
	q, err := r.h.table(s).Price(fare.Tap{Entry: fare.Code(code), Entered: in, Left: r.at, MonthSpent: money.Fen(int64(r.rec.Accumulated))})
	if err != nil {
		r.h.t.Fatal(err)
	}
	r.rec.Status, r.rec.ExitStation, r.rec.ExitAt = purse.Left, purse.StationBytes(uint32(s.Code())), purse.StampOf(r.at)
	r.rec.Accumulated += uint32(q.Counts.Minor())
	return r.tap(r.h.gate(transit.ExitGate, name), q.Fen.Minor(), true)
}

// payMissingExit is a machine that closes the open ride.
func (r *rider) payMissingExit(name string) purse.Debit {
	s := r.h.station(name)
	r.touch(false, 0x66)
	r.rec.Status, r.rec.ExitStation, r.rec.ExitAt = purse.Left, purse.StationBytes(uint32(s.Code())), purse.StampOf(r.at)
	return r.tap(r.h.gate(transit.Machine, name), 300, true)
}

// payMissingEntry is a machine that lets out who has no entry, and the gate.
func (r *rider) payMissingEntry(name string) []purse.Debit {
	s := r.h.station(name)
	q, err := r.h.table(s).Price(fare.Tap{Left: r.at})
	if err != nil {
		r.h.t.Fatal(err)
	}
	r.touch(false, 0x66)
	r.rec.Status, r.rec.EntryStation, r.rec.EntryAt = purse.Entered, purse.StationBytes(uint32(s.Code())), purse.StampOf(r.at)
	paid := r.tap(r.h.gate(transit.Machine, name), q.Fen.Minor(), true)
	r.wait(time.Minute).touch(false, 0x55)
	r.rec.Status, r.rec.ExitStation, r.rec.ExitAt = purse.Left, purse.StationBytes(uint32(s.Code())), purse.StampOf(r.at)
	return []purse.Debit{paid, r.tap(r.h.gate(transit.ExitGate, name), 0, true)}
}

func (r *rider) flatBus() purse.Debit { return r.tap(r.h.gate(transit.OnBus, "flat"), 100, false) }

func (r *rider) board(stop int, owed int64) purse.Debit {
	r.touch(true, 0x55)
	r.rec.Status, r.rec.EntryStation, r.rec.EntryAt = purse.Entered, purse.StationBytes(uint32(950_000+stop)), purse.StampOf(r.at)
	return r.tap(r.h.gate(transit.OnBus, "distance"), owed, true)
}

func (r *rider) alight(stop int, fen int64) purse.Debit {
	r.touch(true, 0x55)
	r.rec.Status, r.rec.ExitStation, r.rec.ExitAt = purse.Left, purse.StationBytes(uint32(950_000+stop)), purse.StampOf(r.at)
	return r.tap(r.h.gate(transit.OnBus, "distance"), fen, true)
}

// bookAll books debits in the order given.
func (h *house) bookAll(debits ...purse.Debit) {
	h.t.Helper()
	for _, d := range debits {
		h.do(func(tx *db.Tx) error {
			_, err := h.office.Books().Book(tx, d, 0)
			return err
		})
	}
}

func (h *house) journeys(card purse.Number) (out []transit.Journey) {
	h.t.Helper()
	h.read(func(q *db.Query) (err error) {
		out, err = transit.JourneysOfCard(q, card, -1, 500)
		return err
	})
	for i, j := 0, len(out)-1; i < j; i, j = i+1, j-1 {
		out[i], out[j] = out[j], out[i]
	}
	return out
}

// proofs of what must hold whatever happened: every debit shared to the fen,
// captures equal to the clearing tables, operators' accounts equal to both.
func (h *house) prove() {
	h.t.Helper()
	h.read(func(q *db.Query) error {
		wrong, err := transit.Check(q)
		if err != nil || len(wrong) > 0 {
			h.t.Errorf("shares: %v, %v", wrong, err)
		}
		table, err := transit.Clearing(q, calendar.ServiceDay(h.now.Now()))
		if err != nil {
			return err
		}
		byOperator := map[string]int64{}
		for _, s := range table {
			byOperator[s.Operator] += s.Fen.Minor()
		}
		open, err := settlement.Open(q)
		if err != nil {
			return err
		}
		for _, p := range open {
			b, err := h.book.Balance(settlement.Payable(p.Payee))
			if err != nil || p.Amount.Minor() != byOperator[p.Payee] || b.Posted != p.Amount {
				h.t.Errorf("%s: captured %s, cleared %d fen, account %s (%v)", p.Payee, p.Amount, byOperator[p.Payee], b.Posted, err)
			}
		}
		return nil
	})
}

func each(t *testing.T, f func(t *testing.T, h *house)) {
	t.Helper()
	dbtest.EachConfig(t, func(t *testing.T, cfg db.Config) { f(t, open(t, cfg)) })
}
