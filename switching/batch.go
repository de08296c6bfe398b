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
	"koala/internal/outbox"
	"koala/money"
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
	case w.net != netSettle:
		return "40", nil
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
// the terminal does not know, or its issuer would not hear of, waits for people;
// an offline sale waits until its issuer has taken it.
const clearable = ` AND state = 'approved' AND kind IN ('sale', 'instalment', 'points', 'phone', 'phone18', 'reservation', 'offline')
	AND NOT EXISTS (SELECT 1 FROM switching_difference d WHERE d.tid = switching_txn.tid AND d.batch = switching_txn.batch AND d.stan = switching_txn.stan
		AND d.what IN ('missing_at_terminal', 'declined_advice'))
	AND NOT (kind = 'offline' AND EXISTS (SELECT 1 FROM switching_queue q WHERE q.tid = switching_txn.tid AND q.batch = switching_txn.batch AND q.stan = switching_txn.stan
		AND q.what = 'advice')) ORDER BY `

// clearAll makes all the shops' that a condition names, in an order that an
// index has. One that cannot be booked stays, the log says why, and it is tried
// again in an hour.
func (h *Host) clearAll(ctx context.Context, where, order string, args ...any) error {
	for {
		stuck := h.left()
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
			if err = h.leave(ctx, &todo[i], "not booked", err); err != nil {
				return err
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
	case w.batch != w.next.batch && (w.net == "202" || w.net == "207"):
		return h.endedBefore(ctx, w)
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

// endedBefore answers the end of a batch that has ended: its answer was lost, if
// it is the one before the open one.
func (h *Host) endedBefore(ctx context.Context, w *work) (string, error) {
	last := 0
	err := h.store.Read(ctx, func(q *db.Query) error {
		return q.QueryRow(`SELECT COUNT(*) FROM switching_batch WHERE tid = $1 AND batch = $2 AND state = $3
			AND ended = (SELECT MAX(ended) FROM switching_batch WHERE tid = $1)`, w.next.tid, w.batch, batchEnded).Scan(&last)
	})
	if err != nil || last == 0 {
		return "95", err
	}
	w.sayBatch()
	return "00", h.unit(ctx, w, nil)
}

// maxBatch is the highest number of a batch; 1 comes after it.
const maxBatch = 999_999

// nextBatch is the number of the batch after one that has just ended: the next
// that the terminal never had, so that no trace of long ago is met again.
func nextBatch(q db.Reader, tid string, batch int) (int, error) {
	for _, from := range []int{batch%maxBatch + 1, 1} {
		had, err := hasBatch(q, tid, from)
		if err != nil || !had {
			return from, err
		}
		free := 0 // behind the numbers that follow from without a gap
		err = q.QueryRow(`SELECT MIN(b.batch) + 1 FROM switching_batch b WHERE b.tid = $1 AND b.batch >= $2
			AND NOT EXISTS (SELECT 1 FROM switching_batch n WHERE n.tid = b.tid AND n.batch = b.batch + 1)`, tid, from).Scan(&free)
		if err != nil || free <= maxBatch {
			return free, err
		}
	}
	return 0, fmt.Errorf("terminal %s has had all its batches: %w", tid, ErrState)
}

// hasBatch says whether totals of a batch have come; the open one has none yet.
func hasBatch(q db.Reader, tid string, batch int) (bool, error) {
	n := 0
	err := q.QueryRow(`SELECT COUNT(*) FROM switching_batch WHERE tid = $1 AND batch = $2`, tid, batch).Scan(&n)
	return n > 0, err
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
		if w.next.batch, err = nextBatch(tx, w.next.tid, old); err != nil {
			return err
		}
		w.next.closed, w.dirty = false, true // in the same unit: what differs is written down once
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
	DeclinedAdvice    = "declined_advice" // the issuer's host was told and refused
	NoVoice           = "no_voice"        // sold by telephone, and the code does not stand for it
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
		AmountDiffers: {"another amount", "金额不符"}, CardDiffers: {"another card", "卡号不符"},
		DeclinedAdvice: {"the issuer refused what it was told", "发卡方拒绝通知"}, NoVoice: {"sold without a good voice authorisation", "语音授权码不成立"}}[d.What], d.What, zh)
}

// put opens the case.
func (d Difference) put(tx *db.Tx) error {
	_, err := tx.Exec(`INSERT INTO switching_difference (id, tid, batch, stan, rrn, what, ours, theirs, masked, at, decided, by_whom, note)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 0, '', '')`, tx.NewID("diff"), d.TID, d.Batch, d.STAN, d.RRN, d.What, d.Ours.Minor(), d.Theirs.Minor(), d.Masked,
		tx.Now().UnixMicro())
	return err
}

// refusedByIssuer opens a case about what an issuer's host was told and refused.
// A changed amount is the sale's.
func refusedByIssuer(tx *db.Tx, x Queued) error {
	t, err := txnAt(tx, x.TID, x.Batch, x.STAN)
	theirs := money.Fen(0)
	if err == nil && kindNames[t.Kind].act == actAdjust {
		t, err = txnOf(tx, t.Original)
		theirs = t.Amount
	}
	n := 0
	if err == nil {
		err = tx.QueryRow(`SELECT COUNT(*) FROM switching_difference WHERE rrn = $1 AND what = $2 AND decided = 0`, t.RRN, DeclinedAdvice).Scan(&n)
	}
	if err != nil || n > 0 { // a change of what it refused is the same case
		return err
	}
	d := Difference{TID: t.TID, Batch: t.Batch, STAN: t.STAN, RRN: t.RRN, What: DeclinedAdvice, Ours: t.Due, Theirs: theirs, Masked: t.Masked}
	t.Why = "its issuer refused what it was told"
	if err := errors.Join(d.put(tx), t.update(tx, t.State)); err != nil {
		return err
	}
	return tell(tx, "sale.differs", &t)
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
	for i := range list {
		t := &list[i]
		if kindNames[t.Kind].Side == Uncounted || t.State != Approved && t.State != Cleared && t.State != Voided {
			continue
		}
		it, there := theirs[t.STAN]
		delete(theirs, t.STAN)
		d := Difference{TID: tid, Batch: batch, STAN: t.STAN, RRN: t.RRN, Ours: t.Due, Theirs: money.Fen(it.fen), Masked: t.Masked}
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
		if err := d.put(tx); err != nil {
			return err
		}
	}
	for _, stan := range slices.Sorted(maps.Keys(theirs)) {
		it := theirs[stan]
		d := Difference{TID: tid, Batch: batch, STAN: it.stan, What: MissingAtHost, Ours: money.Fen(0), Theirs: money.Fen(it.fen), Masked: it.masked}
		if err := d.put(tx); err != nil {
			return err
		}
	}
	return nil
}

// CutOff is when a shop's day ends whose terms say nothing else, after the
// midnight that begins it: 23:00 Beijing. Days of issuers' hosts end then too.
const CutOff = 23 * time.Hour

// cutOff books what was approved on days of shops that are over.
func (h *Host) cutOff(ctx context.Context, now time.Time) error {
	return h.clearAll(ctx, `cut <= $1`, `cut, rrn`, now.UnixMicro())
}

// expire ends pre-authorisations, each by itself.
func (h *Host) expire(ctx context.Context, now time.Time) error {
	for {
		stuck := h.left()
		var list []Txn
		err := h.store.Read(ctx, func(q *db.Query) (err error) {
			list, err = txns(q, `state = 'approved' AND cut <= $1 AND kind = 'preauth' ORDER BY cut, rrn LIMIT $2`, now.UnixMicro(), clearChunk+len(stuck))
			return err
		})
		if err != nil {
			return err
		}
		todo := slices.DeleteFunc(list, func(t Txn) bool { _, is := stuck[t.RRN]; return is })
		if len(todo) == 0 {
			return nil
		}
		for i := range todo {
			err := h.store.Write(ctx, func(tx *db.Tx) error { return expired(tx, todo[i].RRN) })
			if err = h.leave(ctx, &todo[i], "not ended", err); err != nil {
				return err
			}
		}
	}
}

// expired ends one pre-authorisation, if it is still there to be ended.
func expired(tx *db.Tx, rrn string) error {
	t, err := txnOf(tx, rrn)
	if err != nil || t.State != Approved {
		return err
	}
	if err := release(tx, &t); err != nil {
		return err
	}
	t.State = Expired
	if err := t.update(tx, Approved); err != nil {
		return err
	}
	return tell(tx, "preauth.expired", &t)
}
