package switching

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"koala/internal/db"
	"koala/internal/fail"
	"koala/internal/outbox"
	"koala/money"
	"koala/settlement"
	"koala/spec/pan"
	"koala/spec/pboc"
)

// Results of a comparison of totals, field 48.
const (
	Balanced    = 1
	NotBalanced = 2
	InError     = 3
)

// States of a batch.
const (
	batchTotalled = "totalled" // the terminal: send items if it was not balanced, then the end
	batchEnded    = "ended"    // nobody
)

// A sum are the totals of the cards of one country.
type sum struct {
	debits, credits int64
	debitN, creditN int
	foreign         bool
}

// add counts a transaction.
func (s *sum) add(t *Txn) {
	k := kindNames[t.Kind]
	if t.State != Approved && t.State != Cleared && t.State != Voided || t.Foreign != s.foreign {
		return
	}
	switch k.Side {
	case Debits:
		s.debits, s.debitN = s.debits+t.Due.Minor(), s.debitN+1
	case Credits:
		s.credits, s.creditN = s.credits+t.Due.Minor(), s.creditN+1
	}
}

// field is the sum as half of field 48, without its result.
func (s sum) field() string {
	return fmt.Sprintf("%012d%03d%012d%03d", s.debits, s.debitN%1000, s.credits, s.creditN%1000)
}

// compare gives the result of half a field 48.
func (s sum) compare(said string) int {
	if s.debitN > maxItems || s.creditN > maxItems {
		return InError
	}
	if said == s.field() {
		return Balanced
	}
	return NotBalanced
}

// totals are the sums of a batch.
func totals(q db.Reader, tid string, batch int) (home, abroad sum, err error) {
	abroad.foreign = true
	list, err := txns(q, `tid = $1 AND batch = $2 ORDER BY stan`, tid, batch)
	for i := range list {
		home.add(&list[i])
		abroad.add(&list[i])
	}
	return home, abroad, err
}

// settle compares the terminal's totals with the switch's and closes the batch
// for new transactions. A batch that balances is the shop's at once.
func (h *Host) settle(ctx context.Context, w *work) (string, error) {
	said := w.in.Text(48)
	switch {
	case len(said) != 62:
		w.bad = 48
		return "30", nil
	case w.again:
		return "A7", nil
	case w.batch != w.next.batch:
		return "95", nil
	}
	w.stan = 0
	w.next.closed, w.dirty = true, true
	var rh, ra int
	err := h.unit(ctx, w, func(tx *db.Tx) error {
		home, abroad, err := totals(tx, w.next.tid, w.batch)
		if err != nil {
			return err
		}
		rh, ra = home.compare(said[:30]), abroad.compare(said[31:61])
		w.field48 = fmt.Sprintf("%s%d%s%d", home.field(), rh, abroad.field(), ra)
		_, err = tx.Exec(`INSERT INTO switching_batch (tid, batch, shop, state, said, counted, home, abroad, items, opened, totalled, ended)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 0, 0, $9, 0)
			ON CONFLICT (tid, batch) DO UPDATE SET said = excluded.said, counted = excluded.counted, home = excluded.home, abroad = excluded.abroad, totalled = excluded.totalled`,
			w.next.tid, w.batch, w.s.place.Shop, batchTotalled, said, w.field48, rh, ra, tx.Now().UnixMicro())
		if err != nil {
			return err
		}
		name := "batch.settled"
		if rh != Balanced || ra != Balanced {
			name = "batch.differs"
		}
		return outbox.Put(tx, outbox.Event{Name: name, Subject: fmt.Sprintf("%s/%06d", w.next.tid, w.batch),
			Data: Event{TID: w.next.tid, Shop: w.s.place.Shop, Batch: w.batch, Fen: home.debits + abroad.debits - home.credits - abroad.credits}})
	})
	if err == nil && rh == Balanced && ra == Balanced {
		err = h.clearAll(ctx, `tid = $1 AND batch = $2`, `tid, batch, stan`, w.next.tid, w.batch)
	}
	return "00", err
}

// clearChunk is how many transactions one unit makes the shop's: other units
// wait for it.
const clearChunk = 40

// clearable are approved transactions that a batch's end makes the shop's. What
// the terminal does not know waits for people.
const clearable = ` AND state = 'approved' AND kind IN ('sale', 'instalment', 'points', 'phone', 'phone18', 'reservation', 'offline')
	AND NOT EXISTS (SELECT 1 FROM switching_difference d WHERE d.tid = switching_txn.tid AND d.batch = switching_txn.batch AND d.stan = switching_txn.stan
		AND d.what = 'missing_at_terminal') ORDER BY `

// tryAgain is how long a transaction that cannot be booked is left alone.
const tryAgain = time.Hour

// clearAll makes all the shops' that a condition names, in an order that an
// index has. One that cannot be booked stays, the log says why, and it is tried
// again in an hour.
func (h *Host) clearAll(ctx context.Context, where, order string, args ...any) error {
	for {
		now := h.store.Now()
		h.mu.Lock()
		for rrn, at := range h.stuck {
			if now.Sub(at) > tryAgain {
				delete(h.stuck, rrn)
			}
		}
		stuck := maps.Clone(h.stuck)
		h.mu.Unlock()
		var list []Txn
		err := h.store.Read(ctx, func(q *db.Query) (err error) {
			list, err = txns(q, where+clearable+order+fmt.Sprint(" LIMIT ", clearChunk+len(stuck)), args...)
			return err
		})
		if err != nil {
			return err
		}
		todo := slices.DeleteFunc(list, func(t Txn) bool { _, is := stuck[t.RRN]; return is })
		if len(todo) == 0 {
			return nil
		}
		if err = h.clearList(ctx, todo); err == nil {
			continue
		}
		for i := range todo { // one of them: each by itself
			err := h.clearList(ctx, todo[i:i+1])
			if fail.Of(err).Kind == fail.Busy || ctx.Err() != nil {
				return err // nothing is wrong with the transaction
			}
			if err != nil {
				h.mu.Lock()
				h.stuck[todo[i].RRN] = now
				h.mu.Unlock()
				h.remember(line{tid: todo[i].TID, batch: todo[i].Batch, stan: todo[i].STAN, rrn: todo[i].RRN, way: "note", note: "not booked: " + err.Error(), at: now})
			}
		}
	}
}

func (h *Host) clearList(ctx context.Context, list []Txn) error {
	return h.store.Write(ctx, func(tx *db.Tx) error {
		for i := range list {
			t, err := txnOf(tx, list[i].RRN)
			if err == nil && t.State == Approved {
				err = clearTxn(tx, &t)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// remember puts a line into the log with the next unit.
func (h *Host) remember(l line) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.late) < maxLate {
		h.late = append(h.late, l)
	}
}

// upload takes what a terminal sends up of a closed batch, and its end.
func (h *Host) upload(ctx context.Context, w *work) (code string, err error) {
	own := w.stan
	w.stan = 0
	switch {
	case w.again:
		return "A7", nil
	case w.batch == w.next.batch-1 && (w.net == "202" || w.net == "207"): // its end's answer was lost
		w.sayBatch()
		return "00", h.unit(ctx, w, nil)
	case w.batch != w.next.batch || !w.next.closed:
		return "95", nil
	}
	switch w.net {
	case netSettle:
		return h.takeItems(ctx, w)
	case "203", "204", "205", "206":
		return h.takeChip(ctx, w, own)
	case "202", "207":
		return h.end(ctx, w)
	}
	return "40", nil
}

// An item is one transaction as the terminal has it.
type item struct {
	kind, token, masked string
	stan                int
	fen                 int64
}

const itemLen = 40

// takeItems keeps items of a batch that did not balance.
func (h *Host) takeItems(ctx context.Context, w *work) (string, error) {
	v := w.in.Get(48)
	n := number(rest(v, 0, 2))
	if n == 0 || len(v) != 2+n*itemLen || n > 8 {
		w.bad = 48
		return "30", nil
	}
	list := make([]item, n)
	for i := range list {
		d := v[2+i*itemLen:]
		it := item{kind: string(d[:2]), stan: number(d[2:8]), fen: int64(number(d[28:40]))}
		digits := strings.TrimLeft(string(d[8:28]), "0")
		if _, err := pan.Parse(digits); err == nil {
			if it.token, err = h.keys.Token(ctx, digits); err != nil {
				return "", err
			}
			it.masked = pboc.MaskPAN(digits)
		}
		list[i] = it
	}
	return "00", h.unit(ctx, w, func(tx *db.Tx) error {
		for _, it := range list {
			if err := keepItem(tx, w, it, w.net, nil); err != nil {
				return err
			}
		}
		return nil
	})
}

// keepItem keeps an item once.
func keepItem(tx *db.Tx, w *work, it item, code string, chip []byte) error {
	n, err := tx.Exec(`INSERT INTO switching_item (tid, batch, stan, kind, token, masked, fen, code, chip) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
		ON CONFLICT (tid, batch, stan, code) DO NOTHING`, w.next.tid, w.batch, it.stan, it.kind, it.token, it.masked, it.fen, code, full(chip))
	if err == nil && n > 0 {
		_, err = tx.Exec(`UPDATE switching_batch SET items = items + 1 WHERE tid = $1 AND batch = $2`, w.next.tid, w.batch)
	}
	return err
}

// end closes a batch: what differs is written down, what agrees is the shop's.
func (h *Host) end(ctx context.Context, w *work) (code string, err error) {
	said := number(w.in.Get(48))
	old := w.batch
	err = h.unit(ctx, w, func(tx *db.Tx) error {
		var home, abroad, items int
		err := tx.QueryRow(`SELECT home, abroad, items FROM switching_batch WHERE tid = $1 AND batch = $2`, w.next.tid, old).Scan(&home, &abroad, &items)
		if err != nil {
			return err
		}
		balanced := home == Balanced && abroad == Balanced
		if code = "00"; said != items%10_000 || balanced != (w.net == "207") {
			code = "95"
			return nil
		}
		if !balanced {
			if err := differ(tx, w.next.tid, old); err != nil {
				return err
			}
		}
		w.next.batch, w.next.closed, w.dirty = old%999_999+1, false, true // in the same unit: what differs is written down once
		_, err = tx.Exec(`UPDATE switching_batch SET state = $3, ended = $4 WHERE tid = $1 AND batch = $2`, w.next.tid, old, batchEnded, tx.Now().UnixMicro())
		return err
	})
	if err != nil || code != "00" {
		return code, err
	}
	w.sayBatch()
	return "00", h.clearAll(ctx, `tid = $1 AND batch = $2`, `tid, batch, stan`, w.next.tid, old)
}

// What can differ between a terminal's batch and the switch's.
const (
	MissingAtHost     = "missing_at_host"     // the terminal has it, the switch never approved it
	MissingAtTerminal = "missing_at_terminal" // the switch approved it, the terminal does not know
	AmountDiffers     = "amount"
	CardDiffers       = "card"
)

// A Difference is one of them, for people to decide.
type Difference struct {
	ID           string
	TID          string
	Batch, STAN  int
	RRN          string // empty: the switch has none
	What         string
	Ours, Theirs money.Amount
	Masked       string
	At, Decided  time.Time
	By, Note     string
}

// Words says what differs for people, in Chinese if zh.
func (d Difference) Words(zh bool) string {
	return pick(map[string][2]string{MissingAtHost: {"the switch has no such approval", "主机无此交易"}, MissingAtTerminal: {"the terminal does not know it", "终端无此交易"},
		AmountDiffers: {"another amount", "金额不符"}, CardDiffers: {"another card", "卡号不符"}}[d.What], d.What, zh)
}

// differ compares a batch item by item and writes down what differs.
func differ(tx *db.Tx, tid string, batch int) error {
	list, err := txns(tx, `tid = $1 AND batch = $2 ORDER BY stan`, tid, batch)
	if err != nil {
		return err
	}
	theirs := map[int]item{}
	err = db.Each(tx, func(scan func(...any) error) error {
		var it item
		err := scan(&it.stan, &it.kind, &it.token, &it.masked, &it.fen)
		theirs[it.stan] = it
		return err
	}, `SELECT stan, kind, token, masked, fen FROM switching_item WHERE tid = $1 AND batch = $2 AND code IN ($3, '203') ORDER BY stan, code DESC`, tid, batch, netSettle)
	if err != nil {
		return err
	}
	add := func(d Difference) error {
		_, err := tx.Exec(`INSERT INTO switching_difference (id, tid, batch, stan, rrn, what, ours, theirs, masked, at, decided, by_whom, note)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 0, '', '')`, tx.NewID("diff"), tid, batch, d.STAN, d.RRN, d.What, d.Ours.Minor(), d.Theirs.Minor(), d.Masked,
			tx.Now().UnixMicro())
		return err
	}
	for i := range list {
		t := &list[i]
		if kindNames[t.Kind].Side == Uncounted || t.State != Approved && t.State != Cleared && t.State != Voided {
			continue
		}
		it, there := theirs[t.STAN]
		delete(theirs, t.STAN)
		d := Difference{STAN: t.STAN, RRN: t.RRN, Ours: t.Due, Theirs: money.Fen(it.fen), Masked: t.Masked}
		switch {
		case !there:
			d.What = MissingAtTerminal
		case it.fen != t.Due.Minor():
			d.What = AmountDiffers
		case it.token != "" && it.token != t.Token:
			d.What = CardDiffers
		default:
			continue
		}
		if err := add(d); err != nil {
			return err
		}
	}
	for _, stan := range slices.Sorted(maps.Keys(theirs)) {
		it := theirs[stan]
		if err := add(Difference{STAN: it.stan, What: MissingAtHost, Ours: money.Fen(0), Theirs: money.Fen(it.fen), Masked: it.masked}); err != nil {
			return err
		}
	}
	return nil
}

// Resolve ends a case: an approval that the terminal does not know is booked,
// or given up; of the others only the decision is kept.
func Resolve(tx *db.Tx, id string, pay bool, by, note string) error {
	var d Difference
	var decided int64
	err := tx.QueryRow(`SELECT rrn, what, decided FROM switching_difference WHERE id = $1`, id).Scan(&d.RRN, &d.What, &decided)
	switch {
	case errors.Is(err, db.ErrNoRows):
		err = ErrNotFound
	case err == nil && decided != 0:
		err = ErrState
	case err == nil && d.What == MissingAtTerminal:
		err = resolve(tx, d.RRN, pay)
	}
	if err == nil {
		_, err = tx.Exec(`UPDATE switching_difference SET decided = $2, by_whom = $3, note = $4 WHERE id = $1`, id, tx.Now().UnixMicro(), by, note)
	}
	if err != nil {
		return fmt.Errorf("difference %s: %w", id, err)
	}
	return nil
}

func resolve(tx *db.Tx, rrn string, pay bool) error {
	t, err := txnOf(tx, rrn)
	if err != nil || t.State != Approved {
		return err
	}
	if pay {
		return clearTxn(tx, &t)
	}
	if err := release(tx, &t); err != nil {
		return err
	}
	if err := requeue(tx, &t, queueReversal, ""); err != nil {
		return err
	}
	t.State, t.Why = Reversed, "the terminal did not know it"
	if err := t.update(tx, Approved); err != nil {
		return err
	}
	return tell(tx, "sale.reversed", &t)
}

// Prove compares what terminals sold with what settlement has of it: a booked
// payment has one item of its amount, a refund one that takes it back. A
// payment by the house's own chip may have been booked by its clearing record
// before, under that one's name.
func Prove(q db.Reader) (wrong []string, err error) {
	const page = 1_000
	for after := ""; ; {
		list, err := txns(q, `rrn > $1 AND state = 'cleared' ORDER BY rrn LIMIT $2`, after, page)
		if err != nil {
			return nil, err
		}
		for i := range list {
			t := &list[i]
			after = t.RRN
			what, err := t.proven(q)
			if err != nil {
				return nil, err
			}
			if what != "" {
				wrong = append(wrong, fmt.Sprintf("transaction %s of terminal %s: %s", t.RRN, t.TID, what))
			}
		}
		if len(list) < page {
			return wrong, nil
		}
	}
}

// proven says what is wrong with a booked transaction's item; empty: nothing.
func (t *Txn) proven(q db.Reader) (string, error) {
	k := kindNames[t.Kind]
	if k == nil {
		return "it is of no kind", nil
	}
	ref, due := "sale:"+t.RRN, t.Due.Minor()
	switch k.act {
	case actPay, actComplete:
	case actRefund:
		ref, due = "refund:"+t.RRN, -t.Amount.Minor()
	default:
		return "", nil
	}
	i, _, err := settlement.Explain(q, ref)
	switch {
	case errors.Is(err, settlement.ErrItem):
		if t.Host == "" && k.act == actPay && t.Counter >= 0 && t.Counter <= maxCounter {
			return "", nil
		}
		return "it is booked and has no item", nil
	case err != nil:
		return "", err
	case i.Payee != t.Shop || i.Amount.Minor() != due:
		return fmt.Sprintf("its item is %s for %s, it is due %d fen", i.Amount, i.Payee, due), nil
	}
	return "", nil
}

// maxCounter is the highest counter of a chip; above it are requests without.
const maxCounter = 0xFFFF
