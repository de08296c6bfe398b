package switching

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"koala/calendar"
	"koala/hsm"
	"koala/internal/db"
	"koala/internal/outbox"
	"koala/spec/dukpt"
	"koala/spec/poskey"
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
	reader := w.in.Has(57)
	switch {
	case mti == "0820" && w.net == netEcho:
		return "00", nil
	case mti == "0800" && (w.net == netSingle || w.net == netDouble || w.net == netTrack) && !reader:
		return h.signOn(ctx, w)
	}
	if code, err := h.verify(ctx, w); code != "" || err != nil {
		return code, err
	}
	w.verified = true
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
		if k.empty() {
			continue
		}
		w.under, w.keyed = hsm.Under{TID: r.tid, Sealed: k.mak}, true
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
	case w.in.IsMTI("0800") && (w.net == netDouble || w.net == netTrack):
		w.next.signed = true
		w.sayBatch()
		return "00", h.unit(ctx, w, func(tx *db.Tx) error { return h.estate.SignedOn(tx, w.next.tid) })
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
	case w.net == netSingle:
		return "40", nil
	case len(r.master) == 0:
		return "77", nil // it has not been installed
	case w.stan == 0:
		w.bad = 11
		return "30", nil
	}
	kinds := []poskey.Kind{poskey.PIK, poskey.MAK, poskey.TDK}
	if w.net == netDouble {
		kinds = kinds[:2]
	}
	list, err := h.keys.NewWorking(ctx, r.tid, r.master, kinds...)
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
	stan := w.stan
	w.stan = 0 // a sign-on's trace is no transaction's
	err = h.unit(ctx, w, func(tx *db.Tx) error {
		if err := h.estate.SignedOn(tx, r.tid); err != nil {
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
		w.next.status, w.next.reported, w.dirty = clean(w.in.Get(62), 256), w.now, true
		w.done(2)
	case netParamEnd:
		w.done(1)
	case netCAEnd:
		w.done(4)
	case netAIDEnd:
		w.done(5)
	case netBlackEnd:
		w.s.black.pack = nil
		w.done(7)
	default:
		code, err = h.download(ctx, w)
	}
	if err == nil && code == "00" {
		err = h.unit(ctx, w, nil)
	}
	return code, err
}

// done takes a demand back that has been met.
func (w *work) done(demand int) {
	if w.next.demand == demand {
		w.next.demand, w.dirty = 0, true
	}
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

// scheme names the scheme of a foreign card by the beginning of its number
// (ISO/IEC 7812-1).
func scheme(number string) string {
	switch {
	case strings.HasPrefix(number, "35"):
		return "JCB"
	case strings.HasPrefix(number, "3"):
		return "AMX"
	case strings.HasPrefix(number, "4"):
		return "VIS"
	}
	return "MCC"
}

// endOf is when the shop's day that a moment belongs to is over: what was
// approved in it is the shop's then, though no terminal settled. A night shop's
// day goes on after midnight.
func (s *session) endOf(at time.Time) time.Time {
	const whole = 24 * time.Hour
	if at.Before(s.ends) && !at.Before(s.ends.Add(-whole)) {
		return s.ends
	}
	cut := cmp.Or(s.place.CutOff, CutOff)
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
		demand := w.next.demand
		if w.demand != 0 && demand == 0 {
			demand = w.demand
		}
		head[7] = head[7]&0xF0 | byte(demand)
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
		w.out.SetText(63, scheme(w.txn.Masked)) // the terminal counts it apart
	}
	if w.in.Has(63) && !w.out.Has(63) && w.in.IsMTI("0500") {
		w.out.Set(63, w.in.Get(63))
	}
	return nil
}

// Install draws a terminal's master key, wrapped under its transport key (as
// hsm.NewTransport sealed it), and keeps it. What the terminal had before is
// worthless from then on.
func (h *Host) Install(ctx context.Context, tid string, transport []byte) (hsm.Injected, error) {
	in, master, err := h.keys.NewMaster(ctx, tid, transport)
	if err == nil {
		err = h.keep(ctx, tid, func(r *terminalRow) {
			r.master, r.proven, r.fresh, r.signed, r.reader = master.Sealed, keySet{}, keySet{}, false, ""
			r.checks = fmt.Sprintf("TMK %X", master.KCV)
		})
	}
	if err != nil {
		return hsm.Injected{}, fmt.Errorf("installing terminal %s: %w", tid, err)
	}
	return in, nil
}

// InstallReader gives a mobile reader its initial key; ksn is its serial number
// with the counter 0.
func (h *Host) InstallReader(ctx context.Context, tid string, ksn dukpt.KSN, transport []byte) (hsm.Injected, error) {
	in, err := h.keys.NewReader(ctx, tid, ksn, transport)
	if err == nil {
		err = h.keep(ctx, tid, func(r *terminalRow) {
			r.master, r.proven, r.fresh, r.signed = nil, keySet{}, keySet{}, false
			r.reader, r.base, r.checks = hex.EncodeToString(ksn[:]), int(in.Version), ksn.String()
		})
	}
	if err != nil {
		return hsm.Injected{}, fmt.Errorf("installing reader %s: %w", tid, err)
	}
	return in, nil
}

// keep changes a terminal's row from inside the house.
func (h *Host) keep(ctx context.Context, tid string, change func(*terminalRow)) error {
	v, _ := h.sessions.LoadOrStore(tid, new(session))
	s := v.(*session)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.loaded = false
	return h.store.Write(ctx, func(tx *db.Tx) error {
		r, err := terminalAt(tx, tid)
		if errors.Is(err, ErrNotFound) {
			r, err = terminalRow{tid: tid, batch: 1}, nil
		}
		if err != nil {
			return err
		}
		change(&r)
		return r.save(tx)
	})
}

// Demand has a terminal do something at its next message: 1 load parameters, 2
// send its status, 3 sign on, 4 load CA keys, 5 load AID parameters, 7 load the
// black list.
func (h *Host) Demand(ctx context.Context, tid string, what int) error {
	if what < 0 || what > 9 {
		return fmt.Errorf("demand %d of terminal %s: %w", what, tid, ErrState)
	}
	return h.keep(ctx, tid, func(r *terminalRow) { r.demand = what })
}
