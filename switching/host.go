package switching

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"koala/hsm"
	"koala/internal/clock"
	"koala/internal/db"
	"koala/internal/outbox"
	"koala/issuing"
	"koala/ledger"
	"koala/money"
	"koala/spec/iso8583"
	"koala/switching/macs"
	"koala/switching/pulse"
	"koala/switching/route"
	"koala/switching/tally"
)

// The limits and times of the switch.
const (
	DefaultWait = 10 * time.Second    // for an issuer's host
	DefaultKeep = 14 * 24 * time.Hour // messages in bytes
	DefaultTaps = 5_000_00            // fen by taps of other issuers' cards, by shop and day
	keysAsk     = 24 * time.Hour      // then a terminal is asked to sign on again
	keysEnd     = 48 * time.Hour      // then it has to
	preauthLife = 30 * 24 * time.Hour
	placeLife   = 5 * time.Second // what a terminal stands in is looked up again after it
	maxBad      = 3               // MACs in a row
	maxItems    = 999             // transactions of a batch: its counts have three digits
	maxTotal    = 999_999_999_999
	maxPage     = 500
)

// A Peer is the way to an issuer's host, in the interchange dialect. An error
// that wraps ErrDown says that nothing left; after any other the request may
// have arrived.
type Peer interface {
	Ask(ctx context.Context, request []byte) (answer []byte, err error)
}

// Config says whom the switch works with. Zero values are defaults.
type Config struct {
	Acquirer string // field 32, at most 11 digits; empty: 00010344
	Peers    map[string]Peer
	Wait     time.Duration
	Keep     time.Duration
	Watch    Watch // nil: nobody watches
	// TapsAbroad is how much, in fen, a shop may take in a Beijing day by offline
	// taps of other issuers' cards, whose proof only the issuer can check.
	TapsAbroad int64
}

// A Watch judges what terminals ask for, from memory: the house's risk desk.
type Watch interface {
	// Judge looks at a transaction before its issuer is asked. It has no
	// reference number yet.
	Judge(t Txn, p Place) Judgement
}

// A Judgement is what a Watch says.
type Judgement struct {
	Code, Why string                       // of a refusal; empty: none. What was done already is never refused
	Keep      func(tx *db.Tx, t Txn) error // writes it down with the transaction, a refused one too; may be nil
}

// A Host is the switch. It is safe for concurrent use; one terminal's messages
// are taken one after the other.
type Host struct {
	store  *db.Store
	keys   *hsm.HSM
	bank   *issuing.Bank
	estate Estate
	cfg    Config

	sessions sync.Map // TID to *session
	table    atomic.Pointer[route.Table]
	costs    atomic.Pointer[route.Costs]
	peers    sync.Map // name to *health
	spec     *iso8583.Spec
	works    sync.Pool
	trace    atomic.Int64 // of messages to issuers' hosts

	mu   sync.Mutex
	late []line // of the message log, written with the next unit

	tally *tally.Tally // what shops have taken

	stuck  map[string]time.Time // transactions that could not be booked, and when that was tried
	tapsTo tapMark
	packs  packs

	pulse pulse.Pulse
}

// Beats are the transactions answered from a moment on, oldest first.
func (h *Host) Beats(since time.Time) []pulse.Beat { return h.pulse.Since(since) }

// New makes the switch over a store that has this package's Schema and those of
// issuing and settlement.
func New(store *db.Store, keys *hsm.HSM, bank *issuing.Bank, estate Estate, cfg Config) *Host {
	if cfg.Acquirer == "" {
		cfg.Acquirer = "00010344"
	}
	if cfg.Wait == 0 {
		cfg.Wait = DefaultWait
	}
	if cfg.TapsAbroad == 0 {
		cfg.TapsAbroad = DefaultTaps
	}
	if cfg.Keep == 0 {
		cfg.Keep = DefaultKeep
	}
	h := &Host{store: store, keys: keys, bank: bank, estate: estate, cfg: cfg, spec: iso8583.UnionPayPOS(), tally: tally.New(), stuck: map[string]time.Time{}}
	h.works.New = func() any { return new(work) }
	store.Provide(tallyKey{}, h.tally)
	return h
}

// Start makes the switch ready: it opens the accounts of issuers' hosts that it
// can reach (another's opens with its first item), and takes back at them what was asked before a restart and has no answer.
func (h *Host) Start(ctx context.Context) error {
	err := h.store.Write(ctx, func(tx *db.Tx) error {
		var err error
		for _, host := range slices.Sorted(maps.Keys(h.cfg.Peers)) {
			if err == nil {
				err = openReceivable(tx, host)
			}
		}
		if err == nil {
			err = takeBackAsked(tx, tx.Now().Add(time.Second), "the switch was started again before the issuer answered")
		}
		return err
	})
	if err == nil {
		err = h.store.Read(ctx, func(q *db.Query) error {
			var last int64
			err := q.QueryRow(`SELECT COALESCE(MAX(trace), 0) FROM switching_queue WHERE id = (SELECT MAX(id) FROM switching_queue)`).Scan(&last)
			h.trace.Store(last)
			return err
		})
	}
	if err == nil {
		err = h.Reload(ctx)
	}
	if err != nil {
		return fmt.Errorf("starting the switch: %w", err)
	}
	return nil
}

// codeReceivable is the chart code of what issuers' hosts owe.
const codeReceivable = "1120"

// Receivable is the account of what an issuer's host owes the house.
func Receivable(host string) ledger.AccountID { return ledger.AccountID("receivable." + host) }

// openReceivable opens it; again it changes nothing.
func openReceivable(tx *db.Tx, host string) error {
	return ledger.OpenAccount(tx, ledger.Account{ID: Receivable(host), Code: codeReceivable, Name: "due from " + host, Currency: money.CNY})
}

// Forget has the switch look a terminal up again once the unit is durable:
// something about it, its shop or its merchant has changed.
func (h *Host) Forget(tx *db.Tx, tids ...string) {
	tx.After(func() {
		for _, tid := range tids {
			if s, ok := h.sessions.Load(tid); ok {
				s.(*session).stale.Store(true)
			}
		}
	})
}

// A line is one message of the log.
type line struct {
	tid         string
	batch, stan int
	rrn         string // what it is about, empty for nothing
	way, mti    string
	note        string
	sealed      []byte
	at          time.Time
}

func (l line) append(tx *db.Tx) error {
	return tx.Append("switching_message", "seq, tid, batch, stan, rrn, way, mti, note, sealed, at",
		tx.NewSeq(), l.tid, l.batch, l.stan, l.rrn, l.way, l.mti, l.note, full(l.sealed), l.at.UnixMicro())
}

// A work is one message on its way through the switch. It is used again and
// again, so that a message costs few allocations.
type work struct {
	h       *Host
	s       *session
	in, out iso8583.Message
	now     time.Time
	under   hsm.Under // what the message verified under
	keyed   bool      // the answer can be sealed
	next    terminalRow
	dirty   bool // next has to be written
	lines   []line
	counted []tally.Change // by the unit under way
	message []byte         // as it came

	malformed int // field that cannot be read, 0: none
	request
}

var errDialect = errors.New("switching: not a request of this dialect")

// Handle answers one message of a terminal, without the length before it. An
// error is for what is no message of the dialect: nothing answers it.
func (h *Host) Handle(ctx context.Context, message []byte) (answer []byte, err error) {
	w := h.works.Get().(*work)
	defer h.works.Put(w)
	w.reset(h)
	w.message = message
	if err := w.in.Unpack(h.spec, message); err != nil {
		if w.malformed = w.salvage(message, err); w.malformed == 0 {
			return nil, fmt.Errorf("%w: %w", errDialect, err)
		}
	} else if len(w.in.Get(60)) < 8 {
		w.malformed = 60
	}
	tid := w.in.Text(41)
	mti := w.in.MTI()
	if len(tid) != 8 || mti[0] != '0' || mti[3] != '0' || mti[2] != '0' && mti[2] != '2' {
		return nil, errDialect
	}
	s, known := h.sessions.Load(tid)
	if !known {
		s, _ = h.sessions.LoadOrStore(tid, new(session))
	}
	w.s = s.(*session)
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	begun := machine.Now()
	code, err := h.code(ctx, w, tid, mti)
	if err != nil && ctx.Err() == nil { // the same message again finds what the unit left, or does it now
		w.once()
		code, err = h.code(ctx, w, tid, mti)
	}
	if err != nil { // nobody knows what became of it: without an answer the terminal takes it back
		w.s.loaded = false
		w.note("failed: %v", err)
		for _, l := range w.lines {
			h.remember(l)
		}
		return nil, nil
	}
	answer, err = h.seal(ctx, w, code)
	if w.txn != nil && w.kind != nil {
		h.pulse.Add(pulse.Beat{At: w.now, Took: machine.Now().Sub(begun), Kind: w.kind.Name, Host: w.route.Host, Code: code})
	}
	return answer, err
}

// machine measures how long an answer takes: a city's clock runs faster.
var machine = clock.System()

// code does what the message asks for and gives the answer's code. After an error
// what became of its unit is read again.
func (h *Host) code(ctx context.Context, w *work, tid, mti string) (string, error) {
	code, err := h.ready(ctx, w, tid)
	if errors.Is(err, ErrNotFound) {
		h.sessions.CompareAndDelete(tid, w.s) // a made-up number is not remembered
		return "97", nil
	}
	switch {
	case err == nil && w.malformed != 0:
		w.bad = w.malformed
		w.keyedBy(&w.next.proven)
		w.keyedBy(&w.next.fresh)
		return "30", nil
	case err == nil && code == "":
		code, err = h.dispatch(ctx, w, mti)
	}
	return code, err
}

// once makes the work ready for the same message once more.
func (w *work) once() {
	s, lines, malformed := w.s, w.lines, w.malformed
	s.loaded = false
	w.reset(w.h)
	w.s, w.lines, w.malformed = s, lines, malformed
}

func (w *work) reset(h *Host) {
	lines := w.lines[:0]
	w.h, w.s, w.now = h, nil, h.store.Now()
	w.under, w.keyed, w.next, w.dirty, w.lines = hsm.Under{}, false, terminalRow{}, false, lines
	w.request, w.malformed = request{}, 0
}

// ready loads what is known of the terminal.
func (h *Host) ready(ctx context.Context, w *work, tid string) (code string, err error) {
	s := w.s
	if s.stale.Swap(false) || !s.loaded || w.now.Sub(s.looked) > placeLife || w.now.Before(s.looked) {
		err = h.store.Read(ctx, func(q *db.Query) (err error) {
			if s.place, err = h.estate.Place(q, tid); err != nil || s.loaded {
				return err
			}
			s.row, err = terminalAt(q, tid)
			if errors.Is(err, ErrNotFound) {
				s.row, err = terminalRow{tid: tid, batch: 1}, nil
			}
			if err == nil {
				err = q.QueryRow(`SELECT COALESCE(MAX(stan), 0), COUNT(*), CAST(COALESCE(SUM(CASE state WHEN 'declined' THEN 0 ELSE fen END), 0) AS BIGINT)
					FROM switching_txn WHERE tid = $1 AND batch = $2`, tid, s.row.batch).Scan(&s.top, &s.rows, &s.fen)
			}
			return err
		})
		if err != nil {
			return "", err
		}
		s.loaded, s.looked, s.ends = true, w.now, time.Time{}
	}
	w.next = s.row
	return "", nil
}

// unit runs f as one unit with what goes along: the terminal's row and the
// message log. The session follows once it is durable.
func (h *Host) unit(ctx context.Context, w *work, f func(tx *db.Tx) error) error {
	h.mu.Lock()
	late := h.late
	h.late = nil
	h.mu.Unlock()
	err := h.store.Write(ctx, func(tx *db.Tx) error {
		h.tally.Begin(&w.counted)
		defer h.tally.Begin(nil)
		for _, l := range late {
			if err := l.append(tx); err != nil {
				return err
			}
		}
		for _, l := range w.lines {
			if err := l.append(tx); err != nil {
				return err
			}
		}
		if f != nil {
			if err := f(tx); err != nil {
				return err
			}
		}
		if w.dirty {
			return w.next.save(tx)
		}
		return nil
	})
	h.tally.End(&w.counted, err == nil || errors.Is(err, db.ErrUnknown)) // what may be in counts
	if err != nil {
		w.begun = false
		h.mu.Lock()
		h.late = append(late, h.late...)
		h.mu.Unlock()
		return err
	}
	if w.s.row.batch != w.next.batch {
		w.s.top, w.s.rows, w.s.fen = 0, 0, 0
	}
	if w.begun && w.batch == w.next.batch {
		if w.s.rows++; w.txn != nil && w.txn.State != Declined {
			w.s.fen += w.txn.Amount.Minor()
		}
	}
	w.begun = false
	w.s.row, w.dirty, w.lines = w.next, false, w.lines[:0]
	if w.stan > w.s.top && w.batch == w.next.batch {
		w.s.top = w.stan
	}
	return nil
}

// record puts a message and its answer into the log, sealed together: length of
// the message 2 | message | answer. The line is written with the next unit.
func (h *Host) record(ctx context.Context, w *work, code string, answer []byte) error {
	both := binary.BigEndian.AppendUint16(make([]byte, 0, len(w.message)+len(answer)+2), uint16(len(w.message)))
	both = append(append(both, w.message...), answer...)
	sealed, err := h.keys.Seal(ctx, both)
	if err == nil {
		stan := w.stan
		if stan == 0 {
			stan = number(w.in.Get(11))
		}
		rrn := ""
		if w.txn != nil {
			rrn = w.txn.RRN
		}
		w.lines = append(w.lines, line{tid: w.s.row.tid, batch: w.batch, stan: stan, rrn: rrn, way: "terminal", mti: w.in.MTI(), note: code, sealed: sealed, at: w.now})
	}
	return err
}

// note remembers what happened, for the log.
func (w *work) note(format string, args ...any) {
	w.lines = append(w.lines, line{tid: w.s.row.tid, batch: w.batch, stan: w.stan, way: "note", mti: w.in.MTI(), note: fmt.Sprintf(format, args...), at: w.now})
}

// maxLate bounds the lines of the log that wait for a unit.
const maxLate = 4096

// seal writes the answer: code and what the work has put into out, with a MAC
// where there is a key.
func (h *Host) seal(ctx context.Context, w *work, code string) ([]byte, error) {
	if err := w.build(code); err != nil {
		return nil, err
	}
	var out []byte
	var err error
	if w.keyed {
		out, err = h.keys.SealMAC(ctx, w.under, make([]byte, 0, 512), &w.out)
	} else {
		out, err = w.out.AppendTo(make([]byte, 0, 256))
	}
	if err != nil {
		return nil, fmt.Errorf("answering terminal %s: %w", w.s.row.tid, err)
	}
	if w.s.loaded && w.verified {
		if err := h.record(ctx, w, code, out); err != nil {
			return nil, err
		}
	}
	h.mu.Lock()
	if len(h.late) < maxLate {
		h.late = append(h.late, w.lines...)
	}
	h.mu.Unlock()
	w.lines = w.lines[:0]
	return out, nil
}

// An Event is the data of this package's events: names of things, never a card
// number.
type Event struct {
	TID    string `json:"tid"`
	Shop   string `json:"shop"`
	Batch  int    `json:"batch"`
	STAN   int    `json:"stan,omitempty"`
	Kind   string `json:"kind,omitempty"`
	Fen    int64  `json:"fen,omitempty"`
	Code   string `json:"code,omitempty"`
	Host   string `json:"host,omitempty"`
	Masked string `json:"card,omitempty"`
}

// tell puts an event of a transaction.
func tell(tx *db.Tx, name string, t *Txn) error {
	return outbox.Put(tx, outbox.Event{Name: name, Subject: t.RRN, Data: Event{TID: t.TID, Shop: t.Shop, Batch: t.Batch, STAN: t.STAN, Kind: t.Kind,
		Fen: t.Due.Minor(), Code: t.Code, Host: t.Host, Masked: t.Masked}})
}

// ExplainMAC explains the MAC of a message between a terminal and the switch, as
// it is on the wire. Nothing changes.
func (h *Host) ExplainMAC(ctx context.Context, wire []byte) (x macs.Report, err error) {
	var m iso8583.Message
	if err = m.Unpack(h.spec, wire); err != nil {
		return x, err
	}
	var r terminalRow
	if err = h.store.Read(ctx, func(q *db.Query) (err error) { r, err = terminalAt(q, m.Text(41)); return err }); err != nil {
		return x, err
	}
	return macs.Explain(ctx, h.keys, &m, r.proven.mak, r.fresh.mak)
}

// loadRefused writes a refused load down. What funded it went back with its unit;
// what the paying card said does not, above all a wrong PIN: it has used a try up.
func (h *Host) loadRefused(ctx context.Context, w *work, err error, p issuing.Prepared, payer *issuing.Prepared) (string, error) {
	var r refusal
	if !errors.As(err, &r) {
		return "", err
	}
	if payer != nil {
		p = *payer
	}
	return r.code, h.unit(ctx, w, func(tx *db.Tx) error {
		if _, err := h.bank.Decide(tx, p.Inquiry()); err != nil {
			return err
		}
		t := w.begin(tx)
		t.decline(r.code, r.why)
		return errors.Join(t.insert(tx), w.keepJudged(tx, t), tell(tx, "sale.declined", t))
	})
}
