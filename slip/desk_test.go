package slip_test

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"koala/calendar"
	"koala/hsm"
	"koala/internal/clock"
	"koala/internal/db"
	"koala/internal/db/dbtest"
	"koala/internal/openkey"
	"koala/internal/outbox"
	"koala/internal/proposal"
	"koala/issuing"
	"koala/merchant"
	"koala/money"
	"koala/settlement"
	"koala/slip"
	"koala/spec/iso8583"
	"koala/switching"
)

var ctx = context.Background()

// A shop is a store with what a switch leaves there, made by hand.
type shop struct {
	*testing.T
	store *db.Store
	now   *clock.Virtual
	keys  *hsm.HSM
	desk  *slip.Desk
	n     int
}

var noon = time.Date(2016, 9, 6, 4, 0, 0, 0, time.UTC)

func open(t *testing.T, cfg db.Config) *shop {
	t.Helper()
	s := &shop{T: t, now: clock.NewVirtual(noon)}
	cfg.Clock = s.now
	var err error
	if s.store, err = db.Open(ctx, cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.store.Close() })
	s.must(s.store.Migrate(ctx, outbox.Schema, settlement.Schema, merchant.Schema, issuing.Schema, proposal.Schema, switching.Schema, slip.Schema))
	outbox.Open(s.store)
	s.keys, err = hsm.Open(ctx, s.store, hsm.Config{KeyFile: filepath.Join(t.TempDir(), "koala.key")})
	s.must(err)
	_, err = s.keys.Generate(ctx, slip.Label, hsm.Signing)
	s.must(err)
	s.again()
	s.exec(`INSERT INTO merchant_shop (id, merchant, mid, name_en, name_zh, mcc, city, address, state, made) VALUES ('shop1', 'm1', 'MID1', 'WOK', '锅', '5812', '110000', 'x', 'active', 0)`)
	return s
}

// again is the desk after a restart: what it kept in memory is gone.
func (s *shop) again() {
	s.desk = &slip.Desk{Store: s.store, Keys: s.keys, Switch: switching.New(s.store, s.keys, issuing.NewBank(s.store, s.keys), nil, switching.Config{})}
}

func (s *shop) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

func (s *shop) exec(text string, args ...any) {
	s.Helper()
	s.must(s.store.Write(ctx, func(tx *db.Tx) error { _, err := tx.Exec(text, args...); return err }))
}

// sale writes a transaction's row and its event, as the switch does.
func (s *shop) sale(tid, kind, name string, state switching.State, entry string, fen int64) (rrn string) {
	s.Helper()
	s.must(s.store.Write(ctx, func(tx *db.Tx) error { rrn = s.put(tx, tid, kind, name, state, entry, fen); return nil }))
	return rrn
}

func (s *shop) put(tx *db.Tx, tid, kind, name string, state switching.State, entry string, fen int64) (rrn string) {
	s.Helper()
	s.n++
	rrn = fmt.Sprintf("0000002%05X", s.n)
	at := tx.Now().UnixMicro()
	_, err := tx.Exec(`INSERT INTO switching_txn (tid, batch, stan, rrn, kind, state, mid, shop, host, card, counter, token, masked, class, abroad, fen, due, refunded,
		entry, auth, code, why, original, plan, standin, hash, reply, extra, at, changed, cut, disputed)
		VALUES ($1, 1, $2, $3, $4, $5, 'MID1', 'shop1', '', '', 0, '', '622588******0019', 'debit', FALSE, $6, $6, 0, $7, '654321', '00', '', '', '', FALSE, '', $8, '', $9, $9, $9, 0)`,
		tid, s.n, rrn, kind, state, fen, entry, []byte{}, at)
	s.must(err)
	s.must(outbox.Put(tx, outbox.Event{Name: name, Subject: rrn, Data: switching.Event{TID: tid, Shop: "shop1", Batch: 1, STAN: s.n, Kind: kind, Fen: fen, Code: "00"}}))
	return rrn
}

// log writes the terminal's message of a transaction into the log.
func (s *shop) log(tid, rrn string, chip []byte) {
	s.Helper()
	var m iso8583.Message
	m.Reset(iso8583.UnionPayPOS(), "0200")
	m.SetHead([]byte{0x60, 0, 3, 0, 0, 0x61, 0x31, 0, 0x31, 0x13, 0x12})
	m.SetText(41, tid)
	m.Set(55, chip)
	wire, err := m.AppendTo(nil)
	s.must(err)
	sealed, err := s.keys.Seal(ctx, append(binary.BigEndian.AppendUint16(nil, uint16(len(wire))), wire...))
	s.must(err)
	s.exec(`INSERT INTO switching_message (seq, tid, batch, stan, rrn, way, mti, note, sealed, at) VALUES ($1, $2, 1, 1, $3, 'terminal', '0200', '00', $4, 0)`, s.n, tid, rrn, sealed)
}

func (s *shop) slip(rrn string) (k slip.Kept, err error) {
	err = s.store.Read(ctx, func(q *db.Query) (err error) { k, err = slip.OfSale(q, rrn); return err })
	return k, err
}

func (s *shop) wrong() []string {
	s.Helper()
	wrong, err := s.desk.Prove(ctx)
	s.must(err)
	return wrong
}

// cryptogram is a chip's 9F26, 9F27, 9F36 and 84.
var cryptogram, _ = hex.DecodeString("9F26080102030405060708" + "9F270140" + "9F36020012" + "8408A000000333010101")

func TestSlips(t *testing.T) {
	dbtest.EachConfig(t, func(t *testing.T, cfg db.Config) {
		s := open(t, cfg)
		swiped := s.sale("T1", "sale", "sale.approved", switching.Approved, "021", 1200)
		refused := s.sale("T1", "sale", "sale.declined", switching.Declined, "021", 1300)
		asked := s.sale("T1", "balance", "balance.asked", switching.Noted, "021", 0)
		back := s.sale("T1", "sale", "sale.approved", switching.Reversed, "021", 1400)
		elsewhere := s.sale("T2", "preauth", "preauth.approved", switching.Approved, "021", 5000)
		s.must(s.desk.Catch(ctx))
		for _, rrn := range []string{refused, asked, back} {
			if _, err := s.slip(rrn); !errors.Is(err, slip.ErrNotFound) {
				t.Errorf("%s has a slip: %v", rrn, err)
			}
		}
		first, err := s.slip(swiped)
		s.must(err)
		if first.ShopZH != "锅" || first.Amount.Minor() != 1200 || first.Number != 1 || first.Auth != "654321" || first.Prev != [32]byte{} || !first.At.Equal(noon) {
			t.Errorf("slip:\n%s", first.Bytes)
		}
		// What is told of the sale later, a new name and a new key change nothing of it.
		s.exec(`UPDATE merchant_shop SET name_zh = '碗'`)
		s.exec(`UPDATE switching_txn SET state = 'cleared', due = 1100, refunded = 100 WHERE rrn = $1`, swiped)
		s.must(s.store.Write(ctx, func(tx *db.Tx) error {
			return outbox.Put(tx, outbox.Event{Name: "sale.cleared", Subject: swiped, Data: switching.Event{TID: "T1", Kind: "sale", Fen: 1100}})
		}))
		_, err = s.keys.Rotate(ctx, slip.Label)
		s.must(err)
		later := s.sale("T1", "sale", "sale.approved", switching.Approved, "021", 1500)
		s.again()
		s.must(s.desk.Catch(ctx))
		s.must(s.desk.Catch(ctx))
		if same, err := s.slip(swiped); err != nil || string(same.File()) != string(first.File()) {
			t.Errorf("printed again: %v\n%s", err, same.File())
		}
		second, err := s.slip(later)
		s.must(err)
		if second.Number != 2 || second.Prev != first.Hash || second.Key == first.Key || second.ShopZH != "碗" {
			t.Errorf("the next slip:\n%s", second.Bytes)
		}
		if k, err := s.slip(elsewhere); err != nil || k.Number != 1 {
			t.Errorf("another terminal's: %v\n%s", err, k.Bytes)
		}
		if wrong := s.wrong(); len(wrong) > 0 {
			t.Error(wrong)
		}
		s.finds(first)
		s.altered(first)
		s.breaks()
	})
}

// finds looks a slip up: all four have to be right.
func (s *shop) finds(k slip.Kept) {
	s.Helper()
	day := calendar.Of(noon, calendar.Beijing)
	for i, want := range []int{1, 0, 0, 0, 0} {
		tid, day, fen, tail := "T1", day, int64(1200), "0019"
		switch i {
		case 1:
			tid = "T2"
		case 2:
			day = day.AddDays(1)
		case 3:
			fen++
		case 4:
			tail = "0018"
		}
		s.must(s.store.Read(ctx, func(q *db.Query) error {
			list, err := slip.Find(q, tid, day, money.Fen(fen), tail)
			if len(list) != want {
				s.Errorf("case %d finds %d", i, len(list))
			}
			return err
		}))
	}
	s.must(s.store.Read(ctx, func(q *db.Query) error {
		if _, err := slip.ByID(q, k.ID()[:len(k.ID())-1]+"g"); !errors.Is(err, slip.ErrNotFound) {
			s.Errorf("another id: %v", err)
		}
		same, err := slip.ByID(q, k.ID())
		if same.Hash != k.Hash {
			s.Error("another slip under the id")
		}
		return err
	}))
}

// altered changes what a slip says, or the row that it is found by: it is still
// found by its id, and does not prove.
func (s *shop) altered(k slip.Kept) {
	s.Helper()
	book, err := s.desk.List(ctx)
	s.must(err)
	for column, v := range map[string]any{"body": []byte(strings.Replace(string(k.Bytes), "CNY 12.00", "CNY 21.00", 1)), "fen": 2100, "day": "2016-09-07", "tail": "0018", "batch": 2, "signature": make([]byte, 64)} {
		s.exec(`UPDATE slip SET `+column+` = $2 WHERE rrn = $1`, k.RRN, v)
		s.must(s.store.Read(ctx, func(q *db.Query) error {
			x, err := slip.ByID(q, k.ID())
			if flaw := x.Check(book); !errors.Is(flaw, slip.ErrProof) {
				s.Errorf("another %s: %v", column, flaw)
			}
			return err
		}))
		if wrong := s.wrong(); len(wrong) != 1 || !strings.Contains(wrong[0], k.RRN) {
			s.Errorf("another %s: %q", column, wrong)
		}
		var was any
		switch column {
		case "body":
			was = k.Bytes
		case "fen":
			was = k.Amount.Minor()
		case "day":
			was = "2016-09-06"
		case "tail":
			was = k.Tail()
		case "batch":
			was = k.Batch
		case "signature":
			was = k.Signature
		}
		s.exec(`UPDATE slip SET `+column+` = $2 WHERE rrn = $1`, k.RRN, was)
	}
}

// breaks changes rows, and has Prove name each.
func (s *shop) breaks() {
	s.Helper()
	for _, x := range []struct{ do, undo string }{
		{`UPDATE slip SET fen = 1 WHERE tid = 'T2'`, `UPDATE slip SET fen = 5000 WHERE tid = 'T2'`},
		{`UPDATE slip SET day = '2016-09-07' WHERE tid = 'T2'`, `UPDATE slip SET day = '2016-09-06' WHERE tid = 'T2'`},
		{`UPDATE slip SET number = 9 WHERE tid = 'T1' AND number = 1`, `UPDATE slip SET number = 1 WHERE tid = 'T1' AND number = 9`},
		{`UPDATE slip SET tid = 'T3' WHERE tid = 'T2'`, `UPDATE slip SET tid = 'T2' WHERE tid = 'T3'`},
		{`UPDATE slip_chain SET number = 5 WHERE tid = 'T1'`, `UPDATE slip_chain SET number = 2 WHERE tid = 'T1'`},
		{`INSERT INTO slip_chain (tid, number, hash) VALUES ('T4', 1, '')`, `DELETE FROM slip_chain WHERE tid = 'T4'`},
		{`DELETE FROM slip WHERE tid = 'T1' AND number = 2`, ``},
	} {
		s.exec(x.do)
		if wrong := s.wrong(); len(wrong) == 0 {
			s.Errorf("%s is not noticed", x.do)
		}
		if x.undo != "" {
			s.exec(x.undo)
			if wrong := s.wrong(); len(wrong) > 0 {
				s.Fatalf("after %s: %v", x.undo, wrong)
			}
		}
	}
}

// TestChipWaitsForItsMessage: the switch writes its log behind the sale; a slip of
// a chip waits for it, and what was sold after it waits too, but not for ever.
func TestChipWaitsForItsMessage(t *testing.T) {
	s := open(t, db.Config{URL: dbtest.File(t), Inline: true})
	chip := s.sale("T1", "sale", "sale.approved", switching.Approved, "051", 1200)
	after := s.sale("T2", "sale", "sale.approved", switching.Approved, "021", 1300)
	s.must(s.desk.Catch(ctx))
	if _, err := s.slip(after); !errors.Is(err, slip.ErrNotFound) {
		t.Errorf("it did not wait: %v", err)
	}
	s.log("T1", chip, cryptogram)
	s.must(s.desk.Catch(ctx))
	if k, err := s.slip(chip); err != nil || k.AID != "A000000333010101" || k.Cryptogram != "TC 0102030405060708" || k.ATC != "0012" {
		t.Errorf("%v\n%s", err, k.Bytes)
	}
	if _, err := s.slip(after); err != nil {
		t.Error(err)
	}
	lost := s.sale("T1", "sale", "sale.approved", switching.Approved, "051", 1400)
	s.must(s.desk.Catch(ctx))
	s.now.Advance(6 * time.Minute)
	s.must(s.desk.Catch(ctx))
	if k, err := s.slip(lost); err != nil || k.Cryptogram != "" {
		t.Errorf("%v\n%s", err, k.Bytes)
	}
}

// TestSignedByHand: the picture comes after the slip; the slip stays as it is and
// gets what says which picture it is, once.
func TestSignedByHand(t *testing.T) {
	s := open(t, db.Config{URL: dbtest.File(t), Inline: true})
	rrn := s.sale("T1", "sale", "sale.approved", switching.Approved, "021", 1200)
	s.must(s.desk.Catch(ctx))
	before, err := s.slip(rrn)
	s.must(err)
	picture := []byte("a picture")
	sum := sha256.Sum256(picture)
	sealed, err := s.keys.Seal(ctx, picture)
	s.must(err)
	s.exec(`INSERT INTO switching_signature (tid, batch, stan, piece, pieces, hash, sealed, at) VALUES ('T1', 1, $1, 1, 1, $2, $3, 0)`, s.n, hex.EncodeToString(sum[:]), sealed)
	s.must(s.store.Write(ctx, func(tx *db.Tx) error {
		return outbox.Put(tx, outbox.Event{Name: "batch.settled", Subject: "T1/000001", Data: switching.Event{TID: "T1", Batch: 1}})
	}))
	s.must(s.desk.Catch(ctx))
	k, err := s.slip(rrn)
	s.must(err)
	if k.Hash != before.Hash || k.Signed.Picture != sum {
		t.Errorf("signed: %x", k.Signed.Picture)
	}
	again, err := s.desk.Fresh(ctx, rrn)
	s.must(err)
	book, err := s.desk.List(ctx)
	s.must(err)
	if err := again.Check(book); err != nil {
		t.Error(err)
	}
	again.Signed.Picture[0] ^= 1
	if err := again.Check(book); !errors.Is(err, openkey.ErrSignature) {
		t.Errorf("another picture: %v", err)
	}
	if wrong := s.wrong(); len(wrong) > 0 {
		t.Error(wrong)
	}
}

// faults breaks commits: each one first before it, then behind it, then not.
type faults struct {
	on   bool
	step int
}

var errCut = errors.New("cut")

func (f *faults) BeforeCommit(int64) error {
	if f.on && f.step%3 == 0 {
		f.step++
		return errCut
	}
	return nil
}

func (f *faults) AfterCommit(int64) error {
	if f.on && f.step%3 == 1 {
		f.step++
		return errCut
	}
	f.step = 0
	return nil
}

// TestCutAnywhere rolls each unit back once and loses the answer to it once, each
// time with a desk that knows nothing of before: in the end each sale has one
// slip, and the chains hold.
func TestCutAnywhere(t *testing.T) {
	const sales = 1100 // more than two pages of events
	f := &faults{}
	s := open(t, db.Config{URL: dbtest.File(t), Inline: true, Faults: f})
	var all []string
	for i := range sales {
		all = append(all, s.sale(fmt.Sprint("T", i%3), "sale", "sale.approved", switching.Approved, "021", 1200))
	}
	cuts := 0
	for f.on = true; ; cuts++ {
		if err := s.desk.Catch(ctx); err == nil {
			break
		}
		s.again()
	}
	f.on = false
	if cuts < 3 {
		t.Errorf("%d cuts", cuts)
	}
	for _, rrn := range all {
		if _, err := s.slip(rrn); err != nil {
			t.Fatal(err)
		}
	}
	if wrong := s.wrong(); len(wrong) > 0 {
		t.Error(wrong)
	}
}

// TestCatchesUpInBounds: a store from before there were slips is caught up over
// several calls, each of which does so much and no more, and a person who waits for
// a page waits for one unit.
func TestCatchesUpInBounds(t *testing.T) {
	const events, each = 500*20 + 600, 10 // every tenth makes a slip
	s := open(t, db.Config{URL: dbtest.File(t), Inline: true})
	s.must(s.store.Write(ctx, func(tx *db.Tx) error { // what the switch leaves, in one unit
		for i := range events {
			if i%each == 0 {
				s.put(tx, "T1", "sale", "sale.approved", switching.Approved, "051", 1200)
			} else {
				s.must(outbox.Put(tx, outbox.Event{Name: "card.blocked", Subject: "x", Data: struct{}{}}))
			}
		}
		return nil
	}))
	s.now.Advance(time.Hour) // the messages of these chips are gone
	written := func() (n int) {
		s.must(s.store.Read(ctx, func(q *db.Query) error { return q.QueryRow(`SELECT COUNT(*) FROM slip`).Scan(&n) }))
		return n
	}
	if _, err := s.desk.Fresh(ctx, "0000002T9999"); !errors.Is(err, slip.ErrNotFound) || written() != 500/each {
		t.Errorf("a page waits for %d slips: %v", written(), err)
	}
	for _, want := range []int{500 * 21 / each, events / each, events / each} {
		s.must(s.desk.Catch(ctx))
		if n := written(); n != want {
			t.Errorf("%d slips, want %d", n, want)
		}
	}
	if wrong := s.wrong(); len(wrong) > 0 {
		t.Error(wrong)
	}
}

// TestNothingToWrite: events that make no slip are read once, by a desk that lives;
// no unit is spent on them, and another desk begins where the mark is.
func TestNothingToWrite(t *testing.T) {
	s := open(t, db.Config{URL: dbtest.File(t), Inline: true})
	mark := func() (seq int64) {
		s.must(s.store.Read(ctx, func(q *db.Query) error { return q.QueryRow(`SELECT seq FROM slip_mark`).Scan(&seq) }))
		return seq
	}
	for range 3 {
		s.sale("T1", "sale", "sale.declined", switching.Declined, "021", 1300)
		s.must(s.desk.Catch(ctx))
	}
	if mark() != 0 {
		t.Error("a unit for nothing")
	}
	rrn := s.sale("T1", "sale", "sale.approved", switching.Approved, "021", 1200)
	s.must(s.desk.Catch(ctx))
	if _, err := s.slip(rrn); err != nil || mark() == 0 {
		t.Errorf("mark %d: %v", mark(), err)
	}
	last := mark()
	other := &slip.Desk{Store: s.store, Keys: s.keys, Switch: s.desk.Switch} // of another process
	s.must(other.Catch(ctx))
	later := s.sale("T1", "sale", "sale.approved", switching.Approved, "021", 1200)
	s.must(other.Catch(ctx))
	s.must(s.desk.Catch(ctx))
	if k, err := s.slip(later); err != nil || k.Number != 2 || mark() == last {
		t.Errorf("%v\n%s", err, k.Bytes)
	}
	if wrong := s.wrong(); len(wrong) > 0 {
		t.Error(wrong)
	}
}
