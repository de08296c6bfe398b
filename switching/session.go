package switching

import (
	"bytes"
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"koala/calendar"
	"koala/hsm"
	"koala/internal/db"
	"koala/internal/outbox"
	"koala/spec/dukpt"
	"koala/spec/poskey"
	"koala/spec/tlv"
	"koala/switching/field"
	"koala/switching/single"
)

// Network codes, field 60.
const (
	netSignOff  = "002"
	netSingle   = "001"
	netDouble   = "003"
	netTrack    = "004"
	netSettle   = "201"
	netEcho     = "301"
	netParams   = "360"
	netParamEnd = "361"
	netStatus   = "362"
	netCA       = "370"
	netCAEnd    = "371"
	netCAList   = "372"
	netAID      = "380"
	netAIDEnd   = "381"
	netAIDList  = "382"
	netBlack    = "390"
	netBlackEnd = "391"
)

// dispatch does what a message asks for and gives the answer's code.
func (h *Host) dispatch(ctx context.Context, w *work, mti string) (code string, err error) {
	w.batch = number(w.in.Get(60)[2:8])
	w.stan = number(w.in.Get(11))
	w.net = string(rest(w.in.Get(60), 8, 11))
	reader, ours := w.in.Has(57), w.ours()
	switch bare := mti == "0820" && w.net == netEcho || mti == "0800" && !reader && signsOn(w.net); {
	case bare && !ours:
		return "03", nil
	case mti == "0820" && w.net == netEcho:
		return "00", nil
	case bare:
		return h.signOn(ctx, w)
	}
	if code, err := h.verify(ctx, w); code != "" || err != nil {
		return code, err
	}
	if !ours {
		return "03", nil
	}
	w.verified = true
	if err := h.meet(ctx, w); err != nil {
		return "", err
	}
	switch mti {
	case "0800", "0820":
		return h.manage(ctx, w)
	case "0100", "0200", "0220":
		return h.transact(ctx, w)
	case "0400":
		return h.reverse(ctx, w)
	case "0500":
		return h.settle(ctx, w)
	case "0320":
		return h.upload(ctx, w)
	case "0620":
		return h.notice(ctx, w)
	case "0920":
		return h.signature(ctx, w)
	}
	return "40", nil
}

// ours says whether the terminal is the merchant's that the message names.
func (w *work) ours() bool { return w.in.Text(42) == w.s.place.MID }

// signsOn says whether a network code is a sign-on's.
func signsOn(net string) bool { return net == netSingle || net == netDouble || net == netTrack }

// rest is v[from:to] as far as there is one.
func rest(v []byte, from, to int) []byte {
	if from >= len(v) {
		return nil
	}
	return v[from:min(to, len(v))]
}

// number reads checked digits; 0 for none.
func number(digits []byte) int {
	n := 0
	for _, c := range digits {
		if c < '0' || c > '9' {
			return 0
		}
		n = n*10 + int(c-'0')
	}
	return n
}

// verify checks the MAC and whether the terminal may speak at all. Nothing
// changes for a message that does not verify.
func (h *Host) verify(ctx context.Context, w *work) (code string, err error) {
	if w.in.Has(57) {
		return h.verifyReader(ctx, w)
	}
	r := &w.next
	if r.proven.empty() && r.fresh.empty() {
		return "77", nil
	}
	err = hsm.ErrMAC
	for _, k := range []*keySet{&r.proven, &r.fresh} {
		if !w.keyedBy(k) {
			continue
		}
		if err = h.keys.VerifyMAC(ctx, w.under, &w.in); err == nil {
			w.keys = *k
			break
		}
	}
	switch {
	case errors.Is(err, hsm.ErrMAC):
		if w.s.bad++; w.s.bad <= maxBad { // whoever sends more does not fill the log
			w.note("MAC failed, %d in a row", w.s.bad)
		}
		if w.s.bad >= maxBad {
			return "77", nil
		}
		return "A0", nil
	case err != nil:
		return "", err
	}
	if len(r.fresh.mak) > 0 && string(w.keys.mak) == string(r.fresh.mak) { // they count from now on
		r.proven, r.fresh, w.dirty = r.fresh, keySet{}, true
	}
	age := w.now.Sub(r.keyed)
	if w.s.bad >= maxBad || !r.signed || age > keysEnd {
		return "77", nil
	}
	w.s.bad = 0
	if r.demand == 0 && age > keysAsk {
		w.demand = 3
	}
	return "", nil
}

// keyedBy has the answer sealed under a sign-on's keys, if there are any.
func (w *work) keyedBy(k *keySet) bool {
	if k.empty() {
		return false
	}
	w.under, w.keyed = hsm.Under{TID: w.next.tid, Sealed: k.mak}, true
	return true
}

// verifyReader does the same for a reader with a key per transaction. Its
// serial numbers only rise; the one used last is taken for a repeat.
func (h *Host) verifyReader(ctx context.Context, w *work) (code string, err error) {
	v := w.in.Get(57)
	if len(v) != 13 || string(v[:3]) != "KSN" {
		w.bad = 57
		return "30", nil
	}
	ksn := dukpt.KSN(v[3:])
	if w.next.reader == "" || ksn.Check() != nil {
		return "A7", nil
	}
	b, err := hex.DecodeString(w.next.reader)
	if err != nil || len(b) != len(ksn) {
		return "", fmt.Errorf("serial number of reader %s: %w", w.next.tid, ErrState)
	}
	last := dukpt.KSN(b)
	if !last.Same(ksn) || ksn.Counter() < last.Counter() {
		return "A7", nil
	}
	w.under, w.keyed = hsm.Under{TID: w.next.tid, Reader: ksn, Base: byte(w.next.base)}, true
	if err := h.keys.VerifyMAC(ctx, w.under, &w.in); errors.Is(err, hsm.ErrMAC) {
		return "A0", nil
	} else if err != nil {
		return "", err
	}
	w.again = ksn.Counter() == last.Counter()
	w.next.reader, w.dirty = hex.EncodeToString(ksn[:]), !w.again
	switch {
	case !w.ours(): // and its serial number is not used up
		w.dirty = false
		return "03", nil
	case w.in.IsMTI("0800") && (w.net == netDouble || w.net == netTrack):
		w.next.signed = true
		w.sayBatch()
		return "00", h.unit(ctx, w, func(tx *db.Tx) error { return h.estate.SignedOn(tx, w.next.tid, w.software()) })
	case !w.next.signed:
		return "77", nil
	}
	return "", nil
}

// signOn gives a terminal its working keys. Whoever asks gets keys that only
// the terminal can read, and those in use stay until it uses the new ones.
func (h *Host) signOn(ctx context.Context, w *work) (string, error) {
	r := &w.next
	switch {
	case len(r.master) == 0:
		return "77", nil // it has not been installed
	case w.stan == 0:
		w.bad = 11
		return "30", nil
	}
	kinds := []poskey.Kind{poskey.PIK, poskey.MAK, poskey.TDK}
	if w.net != netTrack {
		kinds = kinds[:2]
	}
	draw := h.keys.NewWorking
	if w.net == netSingle {
		draw = h.keys.NewSingle
		if may, err := single.Asked(ctx, h.store, r.tid); err != nil || !may {
			return "40", err
		}
	}
	list, err := draw(ctx, r.tid, r.master, kinds...)
	if err != nil {
		return "", err
	}
	r.fresh, r.checks = keySet{pik: list[0].Sealed, mak: list[1].Sealed}, fmt.Sprintf("PIK %X, MAK %X", list[0].KCV, list[1].KCV)
	if len(list) == 3 {
		r.fresh.tdk, r.checks = list[2].Sealed, r.checks+fmt.Sprintf(", TDK %X", list[2].KCV)
	}
	for _, k := range list {
		w.field62 = k.Block.Append(w.field62)
	}
	r.keyed, r.signed, w.dirty = w.now, true, true
	if err := h.meet(ctx, w); err != nil {
		return "", err
	}
	w.s.said.Seen = w.now
	w.done(3)
	stan := w.stan
	w.stan = 0 // a sign-on's trace is no transaction's
	err = h.unit(ctx, w, func(tx *db.Tx) error {
		if err := errors.Join(h.estate.SignedOn(tx, r.tid, w.software()), h.keepCarrier(tx, w)); err != nil {
			return err
		}
		return outbox.Put(tx, outbox.Event{Name: "terminal.signed_on", Subject: r.tid, Data: Event{TID: r.tid, Shop: w.s.place.Shop, Batch: r.batch}})
	})
	w.stan, w.s.bad = stan, 0
	w.sayBatch()
	return "00", err
}

// sayBatch puts the open batch into the answer.
func (w *work) sayBatch() {
	w.s.looked = time.Time{} // the first sign-on puts the terminal to use
	w.batch60 = fmt.Sprintf("00%06d%s", w.next.batch, w.net)
}

// manage does what a signed-on terminal asks for beside transactions.
func (h *Host) manage(ctx context.Context, w *work) (string, error) {
	if w.again {
		return "A7", nil
	}
	w.stan = 0
	code, err := "00", error(nil)
	switch w.net {
	case netSignOff:
		w.next.signed, w.dirty = false, true
	case netStatus:
		if len(w.in.Get(62)) > maxStatus {
			w.bad = 62
			return "30", nil
		}
		w.next.status, w.next.reported, w.dirty = clean(w.in.Get(62), maxStatus), w.now, true
		w.done(2)
	case netParamEnd, netCAEnd, netAIDEnd:
		code, err = h.loaded(ctx, w)
	case netBlackEnd:
		w.s.black.pack = nil
		w.done(7)
	default:
		code, err = h.download(ctx, w)
	}
	if err == nil && code == "00" {
		err = h.unit(ctx, w, func(tx *db.Tx) error { return h.keepCarrier(tx, w) })
	}
	return code, err
}

// maxStatus is the longest text of a status, bytes.
const maxStatus = 256

// firstTasks are loaded once after an installation: parameters, keys, AIDs, black list.
var firstTasks = []int{1, 4, 5, 7}

// done takes a demand back that has been met.
func (w *work) done(demand int) {
	if bit := 1 << demand; w.next.loaded&bit == 0 {
		w.next.loaded, w.dirty = w.next.loaded|bit, true
	}
	if w.next.demand == demand {
		w.next.demand, w.dirty = 0, true
	}
	if w.s.said.Asked == demand {
		w.s.said.Asked, w.s.said.Did = 0, demand
	}
}

// object finds one object.
func object(v []byte, want tlv.Tag) []byte {
	found, _ := tlv.Find(v, want)
	return found
}

// clearLead is how long before the shop's cut-off its day is over at the switch:
// what was approved in it is booked by the cut-off, and paid with its own day.
const clearLead = 5 * time.Minute

// endOf is when the shop's day that a moment belongs to is over: what was
// approved in it is the shop's then, though no terminal settled. A night shop's
// day goes on after midnight.
func (s *session) endOf(at time.Time) time.Time {
	const whole = 24 * time.Hour
	if at.Before(s.ends) && !at.Before(s.ends.Add(-whole)) {
		return s.ends
	}
	cut := cmp.Or(s.place.CutOff, CutOff) - clearLead
	day := calendar.Of(at.Add(whole-cut), calendar.Beijing)
	s.ends, s.date = day.Start(calendar.Beijing).Add(cut), fmt.Sprintf("%02d%02d", int(day.Month), day.Day)
	return s.ends
}

// dayOf is that day as field 15 has it.
func (s *session) dayOf(at time.Time) string {
	s.endOf(at)
	return s.date
}

// build makes the answer out of code and what the work has found.
func (w *work) build(code string) error {
	if err := w.out.AnswerTo(&w.in, code); err != nil {
		return err
	}
	if head := w.out.Head(); len(head) == 11 { // the terminal's next task is the second digit of its state
		head[7] = head[7]&0xF0 | byte(w.task())
	}
	local := w.now.In(calendar.Beijing)
	if w.txn != nil && w.txn.RRN != "" {
		local = w.txn.At.In(calendar.Beijing)
		w.out.SetText(37, w.txn.RRN)
		if w.txn.Auth != "" {
			w.out.SetText(38, w.txn.Auth)
		}
		if !w.txn.Amount.IsZero() && w.in.Has(4) {
			w.out.SetText(4, fmt.Sprintf("%012d", w.txn.Amount.Minor()))
		}
		w.out.SetText(15, w.s.dayOf(w.txn.At))
	} else if w.in.Has(11) {
		if w.in.IsMTI("0500") {
			w.out.SetText(15, w.s.dayOf(w.now))
		}
		w.out.SetText(37, local.Format("060102150405"))
	}
	w.out.SetText(12, local.Format("150405"))
	w.out.SetText(13, local.Format("0102"))
	if !w.in.IsMTI("0820") || w.net != netEcho {
		w.out.SetText(32, w.h.cfg.Acquirer)
	}
	if w.bad != 0 {
		w.out.SetText(44, "F"+strconv.Itoa(w.bad))
	}
	if w.in.Has(57) {
		w.out.SetText(57, w.in.Text(57))
	}
	if len(w.field55) > 0 {
		w.out.Set(55, w.field55)
	}
	if len(w.field62) > 0 {
		w.out.Set(62, w.field62)
	}
	if w.field48 != "" {
		w.out.SetText(48, w.field48)
	}
	if w.field54 != "" {
		w.out.SetText(54, w.field54)
	}
	if w.batch60 != "" {
		w.out.SetText(60, w.batch60)
	}
	if w.txn != nil && w.txn.Foreign {
		w.out.SetText(63, field.Scheme(w.txn.Masked)) // the terminal counts it apart
	}
	if w.in.Has(63) && !w.out.Has(63) && w.in.IsMTI("0500") {
		w.out.Set(63, w.in.Get(63))
	}
	return nil
}

// A session is a terminal as the switch remembers it; the rows are the truth.
type session struct {
	mu     sync.Mutex // one message of a terminal at a time
	loaded bool
	row    terminalRow
	place  Place
	looked time.Time // when place was
	ends   time.Time // of the shop's day that the last transaction was of
	date   string    // of that day, field 15
	stale  atomic.Bool
	stood  string // shop that it is known to have sold in
	top    int    // highest trace of the open batch
	rows   int    // transactions of it, refused ones too
	fen    int64  // their amounts without those of refused ones
	bad    int    // MACs that failed in a row
	carrier
	black struct { // exception list that is being downloaded: signed once for all its pieces
		have int
		pack []byte
	}
}

// full says that one more transaction of an amount might not fit into the totals
// of the open batch: counts of three digits, sums of twelve. A sum that is too
// high by what was reversed or adjusted errs on the safe side.
func (s *session) full(fen int64) bool {
	return s.rows >= maxItems || s.rows > 0 && s.fen+fen > maxTotal
}

// bitmapAt is where the bitmap begins: behind header and message type.
const bitmapAt = 11 + 2

// salvage reads what it can of a message that is malformed, so that its answer can
// say which field is: the first of those that it leaves out. 0: there is too little
// to answer.
func (w *work) salvage(message []byte, err error) (first int) {
	first = w.in.Salvage(w.h.spec, message, bitmapAt, err)
	if !w.in.Has(11) || !w.in.Has(41) {
		return 0
	}
	return first
}

// clearTrack is track 2 in clear. One of which eight bytes are enciphered comes in
// field 35, or in field 59: T2 | digits 2 | packed track.
func (h *Host) clearTrack(ctx context.Context, w *work) (string, error) {
	sealed, v := rest(w.in.Get(53), 2, 3), w.in.Get(59)
	if len(sealed) > 0 && sealed[0] == '2' && len(v) > 0 && w.in.Has(57) {
		return h.cardData(ctx, w, v)
	}
	plain := w.in.Text(35)
	if len(sealed) == 0 || sealed[0] != '1' {
		if strings.Trim(plain, "0123456789D") != "" {
			w.bad = 35
		}
		return plain, nil
	}
	if plain != "" { // as field 59 would have it
		packed, err := hex.DecodeString((plain + "0")[:(len(plain)+1)/2*2])
		if err != nil {
			w.bad = 35
			return "", nil
		}
		v = fmt.Appendf(nil, "T2%02d%s", len(plain), packed)
	}
	n := number(rest(v, 2, 4))
	under := w.under
	if !w.in.Has(57) {
		under.Sealed = w.keys.tdk
	}
	if len(v) != 4+(n+1)/2 || n > 37 || string(v[:2]) != "T2" || !w.in.Has(57) && len(under.Sealed) == 0 {
		w.bad = 59
		return "", nil
	}
	packed := bytes.Clone(v[4:])
	err := h.keys.DecipherTrack(ctx, under, packed)
	switch {
	case errors.Is(err, hsm.ErrUsage): // too short to be one
		w.bad = 59
		return "", nil
	case err != nil:
		return "", err
	}
	clear := strings.ToUpper(hex.EncodeToString(packed))[:n]
	if strings.Trim(clear, "0123456789D") != "" {
		w.bad = 59
	}
	return clear, nil
}
