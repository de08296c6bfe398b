package switching

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"koala/internal/db"
	"koala/internal/fail"
	"koala/issuing"
	"koala/spec/iso8583"
	"koala/switching/referral"
	"koala/switching/route"
	"koala/switching/telling"
)

// foreign has an issuer's host decide; o is the original, nil for none. What is
// asked is stored before it is sent, and whatever happens then ends in one
// state: approved, declined, or unknown with a reversal on its way.
func (h *Host) foreign(ctx context.Context, w *work, o *Txn) (string, error) {
	ways := []route.Choice{{Host: w.route.Host}}
	if o == nil { // what follows a sale goes where that went
		ways = h.Ways(w.route, w.fen)
		w.route.Host = ways[0].Host
	}
	if h.cfg.Peers[w.route.Host] == nil {
		return h.refused(ctx, w, "91", "there is no way to the issuer's host")
	}
	sealed, code, err := h.template(ctx, w, w.in.MTI(), o)
	if err != nil {
		return "", err
	}
	if code != "" {
		return h.refused(ctx, w, code, "PIN block")
	}
	trace := 0
	err = h.unit(ctx, w, func(tx *db.Tx) (err error) {
		t := w.begin(tx)
		t.State, t.Code, t.Auth = Sent, "", ""
		if w.keeps() { // should the answer be lost with the house, the sale still stands
			t.Auth, t.StandIn = w.in.Text(38), true
		}
		if w.kind.act == actPay {
			if err := w.room(tx); err != nil {
				return err
			}
		}
		if o != nil {
			t.Original, t.Masked, t.Plan = o.RRN, o.Masked, o.Plan
		} else if w.kind.Name == "instalment" {
			t.Plan, t.extra = string(w.in.Get(62)), string(w.field62)
		}
		if err := t.put(tx); err != nil {
			return err
		}
		trace, err = h.enqueue(tx, t, telling.Asked, sealed)
		return err
	})
	if code, err := h.ended(ctx, w, "", err); code != "" || err != nil {
		return code, err
	}
	m, err := h.open(ctx, sealed)
	if err != nil {
		return "", err
	}
	answer, err := h.ask(ctx, w.txn, trace, m)
	ctx = context.WithoutCancel(ctx) // what was asked gets its end whoever has left
	for _, way := range ways[1:] {
		if !errors.Is(err, ErrDown) { // a host that may have heard it keeps it
			break
		}
		if answer, err = h.otherWay(ctx, w, way.Host); err != nil && !errors.Is(err, ErrDown) && !errors.Is(err, errSilent) {
			return "", err
		}
	}
	return h.concluded(ctx, w, o, answer, err)
}

// concluded writes down how the asking ended.
func (h *Host) concluded(ctx context.Context, w *work, o *Txn, answer *iso8583.Message, asked error) (code string, err error) {
	t := *w.txn
	what, last := telling.Done, ""
	t.Auth, t.StandIn = "", false
	switch {
	case h.standIn(w, answer, asked):
		t.State, t.Code, t.StandIn, what = Approved, "00", true, telling.Advice
		if t.Auth = t.RRN[6:]; w.keeps() {
			t.Auth = w.in.Text(38)
		}
	case errors.Is(asked, ErrDown):
		t.decline("91", "the issuer's host cannot be reached")
	case asked != nil:
		t.State, t.Code, t.Why, what, last = Unknown, "98", clean([]byte(asked.Error()), 200), telling.Reversal, "no answer"
	case !iso8583.Approved(answer.Text(39)):
		t.decline(answer.Text(39), "the issuer declined")
		t.reply = answer.Get(55)
	case w.kind.act != actAsk && answer.Has(4) && int64(number(answer.Get(4))) != w.fen:
		t.decline("51", "the issuer approved another amount: it takes it back") // terminals of this dialect sell whole or not at all
		what, last = telling.Reversal, "approved in part"
	default:
		t.State, t.Code, t.Auth, t.reply = Approved, answer.Text(39), answer.Text(38), answer.Get(55)
		switch {
		case w.kind.act == actAsk:
			t.State, t.extra = Noted, answer.Text(54)
		case w.kind.Name == "offline": // what the issuer said by telephone
			t.Auth = w.in.Text(38)
		}
	}
	err = h.unit(ctx, w, func(tx *db.Tx) error { return h.conclude(tx, w, t, o, what, last) })
	var r refusal
	if errors.As(err, &r) { // the original has changed meanwhile: the issuer takes it back
		t.decline(r.code, r.why)
		err = h.unit(ctx, w, func(tx *db.Tx) error { return h.conclude(tx, w, t, nil, telling.Reversal, r.why) })
	}
	if err != nil {
		return "", err
	}
	if w.kind.act == actAsk {
		w.field54 = w.txn.extra
	}
	w.field55 = w.txn.reply
	return w.txn.Code, nil
}

func (h *Host) conclude(tx *db.Tx, w *work, t Txn, o *Txn, what, last string) error {
	w.txn = &t
	name := map[State]string{Approved: "sale.approved", Declined: "sale.declined", Unknown: "sale.unknown", Noted: "balance.asked"}[t.State]
	if o != nil && t.State == Approved {
		now, err := txnOf(tx, o.RRN)
		if err == nil {
			err = w.check(&now)
		}
		if err == nil {
			err = w.apply(tx, &t, &now)
		}
		if err != nil {
			return err
		}
		name = "sale." + happened[w.kind.act]
	}
	if err := requeue(tx, &t, what, last); err != nil {
		return err
	}
	if err := errors.Join(t.update(tx, Sent), w.keepJudged(tx, &t)); err != nil {
		return err
	}
	return tell(tx, name, &t)
}

// keeps says that the message tells of goods that are given (an offline sale,
// within what the shop may sell so): its issuer is told until it has answered.
func (w *work) keeps() bool { return w.kind.Name == "offline" && w.judged.Code == "" }

// waits says that a host has not yet taken what it has to be told of t.
func (t *Txn) waits(q db.Reader) (bool, error) {
	n := 0
	err := q.QueryRow(`SELECT COUNT(*) FROM switching_queue WHERE tid = $1 AND batch = $2 AND stan = $3 AND what = $4`, t.TID, t.Batch, t.STAN, telling.Advice).Scan(&n)
	return n > 0, err
}

// errFirst says that a change has its turn after what it changes.
var errFirst = errors.New("its original has to be told first")

// Tick does what has fallen due: it sends what issuers' hosts have to be told,
// books what no terminal settled before the cut-off, ends pre-authorisations
// that nobody completed, and forgets old messages. It may be called as often as
// one likes. What cannot be done for one transaction is left alone for an hour
// and said in the log; it holds up nothing else.
func (h *Host) Tick(ctx context.Context, now time.Time) error {
	err := errors.Join(
		h.collect(ctx),
		h.store.Write(ctx, func(tx *db.Tx) error {
			return takeBackAsked(tx, now.Add(-6*h.cfg.Wait), "the switch lost the issuer's answer")
		}),
		h.drain(ctx, now),
		h.cutOff(ctx, now),
		h.expire(ctx, now),
		referral.Expire(ctx, h.store, now),
		h.trim(ctx, now.Add(-h.cfg.Keep)),
		h.flush(ctx))
	if err != nil {
		return fmt.Errorf("the switch at %s: %w", now.Format(time.DateTime), err)
	}
	return nil
}

// tryAgain is how long a transaction is left alone for which something that has
// fallen due could not be done.
const tryAgain = time.Hour

// left names the transactions that are left alone now.
func (h *Host) left() map[string]time.Time {
	now := h.store.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	maps.DeleteFunc(h.stuck, func(_ string, at time.Time) bool { return now.Sub(at) > tryAgain })
	return maps.Clone(h.stuck)
}

// leave has a transaction left alone after what was tried for it went wrong, and
// says so in the log. What ails the whole store or the caller is given back.
func (h *Host) leave(ctx context.Context, t *Txn, what string, err error) error {
	if err == nil || ctx.Err() != nil || fail.Of(err).Kind == fail.Busy {
		return err
	}
	now := h.store.Now()
	h.mu.Lock()
	h.stuck[t.RRN] = now
	h.mu.Unlock()
	h.remember(line{tid: t.TID, batch: t.Batch, stan: t.STAN, rrn: t.RRN, way: "note", note: what + ": " + err.Error(), at: now})
	return nil
}

// trimChunk is how many old messages one unit drops.
const trimChunk = 500

// trim drops messages of before a moment, oldest first.
func (h *Host) trim(ctx context.Context, before time.Time) error {
	for {
		var oldest int64
		err := h.store.Read(ctx, func(q *db.Query) error {
			err := q.QueryRow(`SELECT at FROM switching_message ORDER BY seq LIMIT 1`).Scan(&oldest)
			if errors.Is(err, db.ErrNoRows) {
				oldest, err = before.UnixMicro(), nil
			}
			return err
		})
		if err != nil || oldest >= before.UnixMicro() {
			return err
		}
		err = h.store.Write(ctx, func(tx *db.Tx) error {
			_, err := tx.Exec(`DELETE FROM switching_message WHERE seq IN (SELECT seq FROM switching_message WHERE at < $1 ORDER BY seq LIMIT $2)`, before.UnixMicro(), trimChunk)
			return err
		})
		if err != nil {
			return err
		}
	}
}

// tapLife is how long a tap is looked after that the bank could not book.
const tapLife = 90 * 24 * time.Hour

// maxTaps is how many of them one Tick looks at. The next goes on behind them, so
// that many that can never be booked hide none that can.
const maxTaps = 1000

// collect marks taps that the bank could book only later: they are the shops'.
// Where the money a card paid with was still on its way, the bank tries again.
func (h *Host) collect(ctx context.Context) error {
	h.mu.Lock()
	after := h.tapsTo
	h.mu.Unlock()
	first := h.store.Now().Add(-tapLife).UnixMicro()
	var list []Txn
	err := h.store.Read(ctx, func(q *db.Query) (err error) {
		list, err = txns(q, `state = 'approved' AND at > $1 AND kind = 'tap' AND host = '' AND (at > $2 OR at = $2 AND rrn > $3) ORDER BY at, rrn LIMIT $4`,
			first, after.at, after.rrn, maxTaps)
		return err
	})
	if err != nil {
		return err
	}
	stuck := h.left()
	for i := range list {
		t := &list[i]
		if _, is := stuck[t.RRN]; is {
			continue
		}
		var err error
		if t.Why == string(issuing.FlawShort) {
			err = h.bank.RetryCard(ctx, t.Card)
		}
		if err == nil {
			err = h.store.Write(ctx, func(tx *db.Tx) error { return collected(tx, t.RRN) })
		}
		if err = h.leave(ctx, t, "not collected", err); err != nil {
			return err
		}
	}
	after = tapMark{}
	if len(list) == maxTaps {
		after = tapMark{list[maxTaps-1].At.UnixMicro(), list[maxTaps-1].RRN}
	}
	h.mu.Lock()
	h.tapsTo = after
	h.mu.Unlock()
	return nil
}

// A tapMark is the tap up to which collect has looked; zero: none.
type tapMark struct {
	at  int64
	rrn string
}

// collected marks one of them, if it is booked now.
func collected(tx *db.Tx, rrn string) error {
	t, err := txnOf(tx, rrn)
	if err != nil || t.State != Approved {
		return err
	}
	done, err := issuing.Collected(tx, t.Card, t.Counter)
	if err != nil || !done {
		return err
	}
	t.State, t.Why = Cleared, ""
	if err := t.update(tx, Approved); err != nil {
		return err
	}
	return tell(tx, "sale.cleared", &t)
}

// flush writes the lines of the log that wait.
func (h *Host) flush(ctx context.Context) error {
	h.mu.Lock()
	late := h.late
	h.late = nil
	h.mu.Unlock()
	if len(late) == 0 {
		return nil
	}
	return h.store.Write(ctx, func(tx *db.Tx) error {
		for _, l := range late {
			if err := l.append(tx); err != nil {
				return err
			}
		}
		return nil
	})
}

// A Queued is what an issuer's host has to be told.
type Queued struct {
	ID          int64
	TID         string
	Batch, STAN int
	Host        string
	What        string // reversal, advice
	Attempts    int
	Due         time.Time
	Last        string // what the last attempt came to
	At          time.Time
	sealed      []byte
	trace       int
}

// Queue lists what waits to be told, oldest first, from the one after the given.
func Queue(q db.Reader, after int64, limit int) ([]Queued, error) {
	return queued(q, `id > $1 AND what IN ('reversal', 'advice', 'notice') ORDER BY id LIMIT $2`, after, min(max(limit, 1), maxPage))
}

func queued(q db.Reader, where string, args ...any) (out []Queued, err error) {
	err = db.Each(q, func(scan func(...any) error) error {
		var x Queued
		var due, at int64
		err := scan(&x.ID, &x.TID, &x.Batch, &x.STAN, &x.Host, &x.What, &x.sealed, &x.Attempts, &due, &x.Last, &at, &x.trace)
		x.Due, x.At = db.Moment(due), db.Moment(at)
		out = append(out, x)
		return err
	}, `SELECT id, tid, batch, stan, host, what, sealed, attempts, due, last, at, trace FROM switching_queue WHERE `+where, args...)
	return out, err
}

// maxDrain is how many messages one Tick sends.
const maxDrain = 50

// drain sends what is due, until a host has answered it. A host that is down is
// asked once; what cannot be sent or kept for one transaction waits its turn.
func (h *Host) drain(ctx context.Context, now time.Time) error {
	var list []Queued
	err := h.store.Read(ctx, func(q *db.Query) (err error) {
		list, err = queued(q, `what IN ('reversal', 'advice', 'notice') AND due <= $1 ORDER BY due, id LIMIT $2`, now.UnixMicro(), maxDrain)
		return err
	})
	if err != nil {
		return err
	}
	down := map[string]bool{}
	for _, x := range list {
		if down[x.Host] {
			continue
		}
		last, code, silent := h.deliver(ctx, x)
		down[x.Host] = silent
		err := h.store.Write(ctx, func(tx *db.Tx) error { return delivered(tx, now, x, last, code) })
		if err == nil {
			continue
		}
		if err := h.leave(ctx, &Txn{TID: x.TID, Batch: x.Batch, STAN: x.STAN}, "queue", err); err != nil {
			return err
		}
		err = h.store.Write(ctx, func(tx *db.Tx) error { return postpone(tx, now, x, clean([]byte(err.Error()), 200)) })
		if err != nil {
			return err
		}
	}
	return nil
}

// deliver sends one message; without a code no answer came that counts. A host
// that is silent has nothing more to be sent now.
func (h *Host) deliver(ctx context.Context, x Queued) (last, code string, silent bool) {
	var t Txn
	err := h.store.Read(ctx, func(q *db.Query) (err error) {
		if t, err = txnAt(q, x.TID, x.Batch, x.STAN); err != nil || t.Original == "" || x.What != telling.Advice {
			return err
		}
		o, err := txnOf(q, t.Original)
		if err != nil {
			return err
		}
		waits, err := o.waits(q)
		if err == nil && waits {
			err = errFirst
		}
		return err
	})
	if err == nil {
		code, err = h.forward(ctx, x, &t)
	}
	if err != nil {
		return clean([]byte(err.Error()), 200), "", errors.Is(err, ErrDown) || errors.Is(err, errSilent)
	}
	return "answered " + code, code, false
}

// delivered writes down what came of a message, by its host's answer. What was
// changed meanwhile goes its new way.
func delivered(tx *db.Tx, now time.Time, x Queued, last, code string) error {
	means := telling.Read(x.What, code)
	if means == telling.Again {
		return postpone(tx, now, x, last)
	}
	to := telling.Done
	if x.What == telling.Notice {
		to = telling.Told
	}
	n, err := tx.Exec(`UPDATE switching_queue SET what = $2, attempts = attempts + 1, last = $3, changed = $4 WHERE id = $1 AND what = $5`,
		x.ID, to, last, tx.Now().UnixMicro(), x.What)
	if err == nil && n > 0 && means == telling.Refused {
		err = refusedByIssuer(tx, x)
	}
	return err
}

// postpone has a message sent again later.
func postpone(tx *db.Tx, now time.Time, x Queued, last string) error {
	_, err := tx.Exec(`UPDATE switching_queue SET attempts = attempts + 1, due = $2, last = $3, changed = $4 WHERE id = $1 AND what = $5`,
		x.ID, now.Add(telling.Wait(x.Attempts)).UnixMicro(), last, tx.Now().UnixMicro(), x.What)
	return err
}

// forward sends one reversal (0420) or advice (0220) and gives field 39 of its
// answer.
func (h *Host) forward(ctx context.Context, x Queued, t *Txn) (code string, err error) {
	m, err := h.open(ctx, x.sealed)
	if err != nil {
		return "", fmt.Errorf("cannot be read: %w", err)
	}
	switch x.What {
	case telling.Reversal:
		m.SetText(90, fmt.Sprintf("%s%06d%s%011s%011s", m.MTI(), x.trace, m.Text(7), m.Text(32), m.Text(33)))
		m.SetMTI("0420")
		for _, f := range []int{35, 52, 53, 55} {
			m.Delete(f)
		}
		if t.Auth != "" {
			m.SetText(38, fmt.Sprintf("%-6.6s", t.Auth))
		}
	case telling.Advice:
		m.SetMTI("0220")
		m.Delete(52)
		m.Delete(53)
		m.SetText(38, fmt.Sprintf("%-6.6s", t.Auth))
	}
	answer, err := h.ask(ctx, t, x.trace, m)
	if err != nil {
		return "", err
	}
	return answer.Text(39), nil
}
