package switching

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"koala/calendar"
	"koala/internal/db"
	"koala/issuing/points"
	"koala/ledger"
	"koala/spec/iso8583"
	"koala/switching/route"
	"koala/switching/telling"
)

// Reload reads the routes again.
func (h *Host) Reload(ctx context.Context) error {
	return h.store.Read(ctx, func(q *db.Query) error {
		t, err := route.Load(q)
		if err == nil {
			h.table.Store(t)
		}
		return err
	})
}

// Costs are those of SetCosts.
func (h *Host) Costs() route.Costs {
	if c := h.costs.Load(); c != nil {
		return *c
	}
	return nil
}

// SetCosts tells the switch what the ways to issuers cost, by clearing files.
func (h *Host) SetCosts(c route.Costs) { h.costs.Store(&c) }

// Ways gives the ways to a card's issuer in the order in which they are tried for
// a sale of an amount, fen.
func (h *Host) Ways(r route.Route, fen int64) []route.Choice {
	now := h.store.Now()
	return r.Order(fen, h.Costs(), func(host string) bool { return h.cfg.Peers[host] != nil },
		func(host string) bool {
			since := h.health(host).outSince.Load()
			return since != 0 && now.Sub(db.Moment(since)) < outFor
		})
}

// outFor is how long a host that could not be reached stands behind the other
// ways; then a sale tries it again.
const outFor = 30 * time.Second

// A Health is how an issuer's host does.
type Health struct {
	Host     string
	Here     bool // there is a way to it
	Asked    int64
	Answered int64
	Silent   int64 // no answer in time
	Down     int64 // could not be reached
	Lies     int64 // answers that were none: another amount, a wrong MAC
	Last     time.Duration
	Since    time.Time // of the last answer
}

type health struct {
	asked, answered, silent, down, lies, last, since atomic.Int64
	outSince                                         atomic.Int64 // microseconds; 0: it was reached when it was asked last
}

func (h *Host) health(host string) *health {
	v, ok := h.peers.Load(host)
	if !ok {
		v, _ = h.peers.LoadOrStore(host, new(health))
	}
	return v.(*health)
}

// Peers tells how the issuers' hosts do.
func (h *Host) Peers() []Health {
	var out []Health
	for host := range h.cfg.Peers {
		x := h.health(host)
		out = append(out, Health{Host: host, Here: true, Asked: x.asked.Load(), Answered: x.answered.Load(), Silent: x.silent.Load(), Down: x.down.Load(),
			Lies: x.lies.Load(), Last: time.Duration(x.last.Load()), Since: db.Moment(x.since.Load())})
	}
	slices.SortFunc(out, func(a, b Health) int { return strings.Compare(a.Host, b.Host) })
	return out
}

// Labels of the keys shared with an issuer's host, usage hsm.ZoneKey.
func pinLabel(host string) string { return "zone." + host + ".PIN" }
func macLabel(host string) string { return "zone." + host + ".MAC" }

// ZoneLabels are the labels of the keys that a host has to share with the
// house: of PIN blocks and of MACs.
func ZoneLabels(host string) (pin, mac string) { return pinLabel(host), macLabel(host) }

// enqueue keeps what a host is asked or has to be told of t, once, and gives its
// trace number at that host. A notice that was told is not told again.
func (h *Host) enqueue(tx *db.Tx, t *Txn, what string, sealed []byte) (trace int, err error) {
	if what == telling.Notice {
		var n int
		err := tx.QueryRow(`SELECT COUNT(*) FROM switching_queue WHERE tid = $1 AND batch = $2 AND stan = $3 AND what = $4`, t.TID, t.Batch, t.STAN, telling.Told).Scan(&n)
		if err != nil || n > 0 {
			return 0, err
		}
	}
	trace = int(h.trace.Add(1)-1)%999_999 + 1
	_, err = tx.Exec(`INSERT INTO switching_queue (id, tid, batch, stan, host, what, sealed, attempts, due, last, at, changed, trace)
		VALUES ($1, $2, $3, $4, $5, $6, $7, 0, $8, '', $8, $8, $9) ON CONFLICT (tid, batch, stan, what) DO NOTHING`,
		tx.NewSeq(), t.TID, t.Batch, t.STAN, t.Host, what, sealed, tx.Now().UnixMicro(), trace)
	return trace, err
}

// reroute has another host asked about t: in the transaction, and in the queue
// under a trace number of its own.
func (h *Host) reroute(tx *db.Tx, t *Txn, host string, sealed []byte) (trace int, err error) {
	trace = int(h.trace.Add(1)-1)%999_999 + 1
	n, err := tx.Exec(`UPDATE switching_txn SET host = $4, changed = $6 WHERE tid = $1 AND batch = $2 AND stan = $3 AND state = $5`, t.TID, t.Batch, t.STAN, host, Sent, tx.Now().UnixMicro())
	if err == nil && n == 1 {
		n, err = tx.Exec(`UPDATE switching_queue SET host = $4, sealed = $5, trace = $6, due = $7, changed = $7 WHERE tid = $1 AND batch = $2 AND stan = $3 AND what = $8`,
			t.TID, t.Batch, t.STAN, host, sealed, trace, tx.Now().UnixMicro(), telling.Asked)
	}
	if err == nil && n != 1 { // it was taken back meanwhile
		err = fmt.Errorf("transaction %s: %w", t.RRN, ErrState)
	}
	return trace, err
}

// otherWay asks another host that reaches the same issuer, when nothing has left
// for the one before: who is asked is stored before it is sent, as at first.
func (h *Host) otherWay(ctx context.Context, w *work, host string) (*iso8583.Message, error) {
	w.route.Host = host
	sealed, code, err := h.template(ctx, w, w.in.MTI(), nil)
	if err == nil && code != "" { // no key for PINs with that host
		err = ErrDown
	}
	if err != nil {
		return nil, err
	}
	trace := 0
	err = h.unit(ctx, w, func(tx *db.Tx) (err error) {
		trace, err = h.reroute(tx, w.txn, host, sealed)
		return err
	})
	if err != nil {
		return nil, err
	}
	w.txn.Host = host
	m, err := h.open(ctx, sealed)
	if err != nil {
		return nil, err
	}
	return h.ask(ctx, w.txn, trace, m)
}

// standIn says whether the switch approves in a host's place: a sale with a chip
// that asked to go online, up to the route's limit, when the host cannot be
// reached; a sale that it keeps whenever the host has not taken it.
func (h *Host) standIn(w *work, answer *iso8583.Message, asked error) bool {
	if w.keeps() {
		return asked != nil || telling.Read(telling.Advice, answer.Text(39)) == telling.Again
	}
	return errors.Is(asked, ErrDown) && w.kind.Name == "sale" && w.chip.here && w.chip.cid&0xC0 == 0x80 && !w.pin && w.fen <= w.route.StandIn
}

// meant says whether t is what a reversal repeats: kind, amount and, where it says
// them, card and authorisation; of an answer with a wrong MAC (A0) that may be
// anything.
func (h *Host) meant(ctx context.Context, w *work, t *Txn) (bool, error) {
	same := t.Kind == w.kind.Name && (t.Amount.Minor() == w.fen || w.fen == 0) && (!w.in.Has(38) || t.Auth == "" || w.in.Text(38) == t.Auth || w.in.Text(39) == "A0")
	number := w.in.Text(2)
	if !same || number == "" || t.Token == "" { // of what was reversed before it came nothing else is known
		return same, nil
	}
	token, err := h.keys.Token(ctx, number)
	return token == t.Token, err
}

// requeue changes what has to be done about t at its host.
func requeue(tx *db.Tx, t *Txn, to, last string) error {
	if t.Host == "" {
		return nil
	}
	_, err := tx.Exec(`UPDATE switching_queue SET what = $4, due = $5, last = $6, changed = $5 WHERE tid = $1 AND batch = $2 AND stan = $3 AND what NOT IN ($7, $8)`,
		t.TID, t.Batch, t.STAN, to, tx.Now().UnixMicro(), last, telling.Notice, telling.Told)
	return err
}

// Resend has what waits in the queue sent at the next tick, whatever its turn.
func Resend(tx *db.Tx, id int64) error {
	n, err := tx.Exec(`UPDATE switching_queue SET due = $2 WHERE id = $1 AND what IN ($3, $4, $5)`, id, tx.Now().UnixMicro(), telling.Reversal, telling.Advice, telling.Notice)
	if err == nil && n == 0 {
		err = fmt.Errorf("queue %d: %w", id, ErrNotFound)
	}
	return err
}

// takeBackAsked takes back what was asked before a moment and has no end, for a
// reason: the asking was cut off, and nobody knows what the host made of it.
func takeBackAsked(tx *db.Tx, before time.Time, why string) error {
	now := tx.Now().UnixMicro()
	kept, err := txns(tx, `state = $1 AND kind = 'offline' AND standin AND (tid, batch, stan) IN
		(SELECT tid, batch, stan FROM switching_queue WHERE what = $2 AND due < $3) ORDER BY rrn`, Sent, telling.Asked, before.UnixMicro())
	for i := range kept { // the goods are given: the host is told again, by the same trace
		t := &kept[i]
		t.State, t.Code = Approved, "00"
		if err == nil {
			err = errors.Join(requeue(tx, t, telling.Advice, why), t.update(tx, Sent), tell(tx, "sale.approved", t))
		}
	}
	lost, err2 := txns(tx, `state = $1 AND (tid, batch, stan) IN (SELECT tid, batch, stan FROM switching_queue WHERE what = $2 AND due < $3) ORDER BY rrn`, Sent, telling.Asked, before.UnixMicro())
	err = cmp.Or(err, err2)
	for i := range lost {
		t := &lost[i]
		t.State, t.Code, t.Auth, t.Why = Unknown, "98", "", why
		if err == nil {
			err = t.update(tx, Sent)
		}
	}
	if err == nil {
		_, err = tx.Exec(`UPDATE switching_queue SET what = $1, due = $2, changed = $2, last = $3 WHERE what = $4 AND due < $5`, telling.Reversal, now, why, telling.Asked, before.UnixMicro())
	}
	return err
}

// template is a message to an issuer's host without trace, reference number and
// MAC, which are put in when it is sent.
func (h *Host) template(ctx context.Context, w *work, mti string, o *Txn) (sealed []byte, code string, err error) {
	m := new(iso8583.Message)
	m.Reset(iso8583.UnionPayInterchange(), mti)
	local := w.now.In(calendar.Beijing)
	for _, f := range []int{3, 22, 23, 25, 26, 41, 42, 49} {
		if w.in.Has(f) {
			m.SetText(f, w.in.Text(f))
		}
	}
	if w.kind != nil { // an old terminal's refund looks like a sale
		m.SetText(3, w.kind.Process)
	}
	if w.in.Has(4) {
		m.SetText(4, fmt.Sprintf("%012d", w.fen))
	}
	m.SetText(7, local.Format("0102150405"))
	m.SetText(12, local.Format("150405"))
	m.SetText(13, local.Format("0102"))
	m.SetText(18, fmt.Sprintf("%04s", w.s.place.Category))
	m.SetText(32, h.cfg.Acquirer)
	m.SetText(33, h.cfg.Acquirer)
	m.SetText(43, fmt.Sprintf("%-40.40s", ascii(w.s.place.Name)))
	m.SetText(60, "0000"+"0000000000000000")
	number, track := string(w.number), w.track
	if o != nil && number == "" {
		if number, err = h.numberOf(ctx, o); err != nil {
			return nil, "", err
		}
	}
	if number != "" {
		m.SetText(2, number)
	}
	if track != "" {
		m.SetText(35, strings.ReplaceAll(track, "D", "="))
	}
	if w.expiry != "" {
		m.SetText(14, w.expiry)
	}
	if w.chip.here {
		m.Set(55, w.in.Get(55))
	}
	if o == nil && w.in.Has(38) { // said by telephone: only the issuer knows what it said
		m.SetText(38, fmt.Sprintf("%-6.6s", w.in.Text(38)))
	}
	if o != nil {
		m.SetText(38, fmt.Sprintf("%-6.6s", o.Auth))
		first, err := h.asked(ctx, o) // the host knows it by the trace and time it was asked under
		if err != nil {
			return nil, "", err
		}
		m.SetText(90, fmt.Sprintf("%s%s%s%011s%011s", first.MTI(), first.Text(11), first.Text(7), h.cfg.Acquirer, h.cfg.Acquirer))
	}
	pin, code, err := h.pinBlock(ctx, w, pinLabel(w.route.Host))
	if code != "" || err != nil {
		return nil, code, err
	}
	if pin != nil {
		m.Set(52, pin.Block[:])
		m.SetText(53, "2600000000000000")
	}
	wire, err := m.AppendTo(nil)
	if err == nil {
		sealed, err = h.keys.Seal(ctx, wire)
	}
	return sealed, "", err
}

// ascii is text with what is not ASCII left out.
func ascii(s string) string { return clean([]byte(s), 40) }

// numberOf takes a card number out of what its host was asked first.
func (h *Host) numberOf(ctx context.Context, o *Txn) (string, error) {
	m, err := h.asked(ctx, o)
	if err != nil {
		return "", err
	}
	return m.Text(2), nil
}

// asked reads what a host was asked about a transaction.
func (h *Host) asked(ctx context.Context, t *Txn) (*iso8583.Message, error) {
	var sealed []byte
	var trace int
	err := h.store.Read(ctx, func(q *db.Query) error {
		return q.QueryRow(`SELECT sealed, trace FROM switching_queue WHERE tid = $1 AND batch = $2 AND stan = $3 ORDER BY id LIMIT 1`, t.TID, t.Batch, t.STAN).Scan(&sealed, &trace)
	})
	if err != nil {
		return nil, err
	}
	m, err := h.open(ctx, sealed)
	if err == nil {
		m.SetText(11, fmt.Sprintf("%06d", trace))
	}
	return m, err
}

func (h *Host) open(ctx context.Context, sealed []byte) (*iso8583.Message, error) {
	wire, err := h.keys.Unseal(ctx, sealed)
	if err != nil {
		return nil, err
	}
	m := new(iso8583.Message)
	return m, m.Unpack(iso8583.UnionPayInterchange(), wire)
}

// advice is the template of what a host is told about a change at the house.
func (h *Host) advice(ctx context.Context, w *work, o *Txn) ([]byte, error) {
	sealed, _, err := h.template(ctx, w, "0220", o)
	return sealed, err
}

// errSilent says that a request may have arrived and nothing is known of it.
var errSilent = errors.New("switching: no answer that counts")

// ask sends a template for t and waits for an answer that answers it.
func (h *Host) ask(ctx context.Context, t *Txn, trace int, m *iso8583.Message) (*iso8583.Message, error) {
	peer := h.cfg.Peers[t.Host]
	x := h.health(t.Host)
	if peer == nil {
		return nil, ErrDown
	}
	m.SetText(11, fmt.Sprintf("%06d", trace))
	m.SetText(37, t.RRN)
	head := iso8583.InterchangeHeader{Version: 2, Reject: [5]byte([]byte("00000")), Transaction: [8]byte([]byte("00000000"))}
	copy(head.Destination[:], fmt.Sprintf("%-11.11s", t.Host))
	copy(head.Source[:], fmt.Sprintf("%-11.11s", h.cfg.Acquirer))
	copy(head.Reserved[:], "   ")
	m.SetHead(head.AppendTo(nil))
	wire, err := h.keys.SealZone(ctx, macLabel(t.Host), nil, m)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDown, err)
	}
	h.logPeer(ctx, t, t.Host+">", m.MTI(), "", wire)
	asking, cancel := context.WithTimeout(ctx, h.cfg.Wait)
	defer cancel()
	start := h.store.Now()
	x.asked.Add(1)
	raw, err := peer.Ask(asking, wire)
	ctx = context.WithoutCancel(ctx) // an answer that has come is read, however late it is by then
	if !errors.Is(err, ErrDown) {
		x.outSince.Store(0)
	}
	switch {
	case errors.Is(err, ErrDown):
		x.down.Add(1)
		x.outSince.Store(h.store.Now().UnixMicro())
		return nil, err
	case err != nil:
		x.silent.Add(1)
		return nil, fmt.Errorf("%w: %w", errSilent, err)
	}
	answer := new(iso8583.Message)
	why := h.answers(ctx, t, m, answer, raw)
	h.logPeer(ctx, t, t.Host+"<", answer.MTI(), why, raw)
	if why != "" {
		x.lies.Add(1)
		return nil, fmt.Errorf("%w: %s", errSilent, why)
	}
	x.answered.Add(1)
	x.last.Store(int64(h.store.Now().Sub(start)))
	x.since.Store(h.store.Now().UnixMicro())
	return answer, nil
}

// answers says why raw does not answer m, empty when it does.
func (h *Host) answers(ctx context.Context, t *Txn, m, answer *iso8583.Message, raw []byte) string {
	if err := answer.Unpack(iso8583.UnionPayInterchange(), raw); err != nil {
		return "not a message: " + err.Error()
	}
	if err := h.keys.VerifyZone(ctx, macLabel(t.Host), answer); err != nil {
		return "its MAC is wrong"
	}
	want := []byte(m.MTI())
	want[2]++
	if answer.MTI() != string(want) {
		return "it is a " + answer.MTI()
	}
	for _, f := range []int{2, 3, 4, 7, 11, 32, 37, 41, 42} {
		if f == 4 && answer.Text(39) == "10" {
			continue
		}
		if answer.Has(f) && answer.Text(f) != m.Text(f) || !answer.Has(f) && (f == 7 || f == 11) {
			return fmt.Sprintf("its field %d is another one", f)
		}
	}
	if len(answer.Get(39)) != 2 {
		return "it has no response code"
	}
	return ""
}

// logPeer puts a message between hosts into the log.
func (h *Host) logPeer(ctx context.Context, t *Txn, way, mti, note string, wire []byte) {
	sealed, err := h.keys.Seal(ctx, wire)
	if err == nil {
		h.remember(line{tid: t.TID, batch: t.Batch, stan: t.STAN, rrn: t.RRN, way: way, mti: clean([]byte(mti), 4), note: clean([]byte(note), 200), sealed: sealed, at: h.store.Now()})
	}
}

// Late takes a message of an issuer's host that answers nothing that waits: it
// is kept in the log and never booked. What it is about has been taken back.
func (h *Host) Late(ctx context.Context, host string, message []byte) {
	var m iso8583.Message
	note := "late or doubled"
	if err := m.Unpack(iso8583.UnionPayInterchange(), message); err != nil {
		note = "not a message"
	}
	t := Txn{Host: host}
	_ = h.store.Read(ctx, func(q *db.Query) error {
		x, err := txnOf(q, m.Text(37))
		if err == nil {
			t = x
		}
		return nil
	})
	h.logPeer(ctx, &t, host+"<", m.MTI(), note, message)
}

// clean is printable text of at most n bytes.
func clean(v []byte, n int) string {
	out := make([]byte, 0, min(len(v), n))
	for _, c := range v[:min(len(v), n)] {
		if c >= ' ' && c < 0x7F {
			out = append(out, c)
		}
	}
	return string(out)
}

// byPoints says that a sale was paid with points of a card of the house.
func (t *Txn) byPoints() bool { return t.Host == "" && t.Kind == "points" }

// debtor is who owes the shop's money: another issuer's host, or the house for
// points; kind and text name the entry.
func (t *Txn) debtor() (id ledger.AccountID, kind, text string) {
	if t.byPoints() {
		return points.House, "card.points", "points"
	}
	return Receivable(t.Host), "card.foreign", "card of another issuer"
}

// openDebtor opens the debtor's account; again it changes nothing.
func openDebtor(tx *db.Tx, t *Txn) error {
	if t.byPoints() {
		return points.Open(tx)
	}
	return openReceivable(tx, t.Host)
}
