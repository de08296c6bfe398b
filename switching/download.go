package switching

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"golang.org/x/text/encoding/simplifiedchinese"

	"koala/hsm"
	"koala/internal/db"
	"koala/internal/fail"
	"koala/spec/dukpt"
	"koala/spec/iso8583"
	"koala/switching/pack"
	"koala/switching/rollout"
)

// download answers a terminal that asks for parameters, keys or lists. What one
// download gives is of one pack, whatever is confirmed meanwhile.
func (h *Host) download(ctx context.Context, w *work) (string, error) {
	asked, mark := pack.Cut(w.in.Get(62))
	switch bad := false; w.net {
	case netBlack:
		return h.blackList(ctx, w)
	case netCAList, netAIDList:
		bad = len(asked) != 3 || asked[0] != '1' || strings.Trim(string(asked[1:]), "0123456789") != ""
		fallthrough
	case netCA, netAID:
		if bad || len(asked) == 0 {
			w.bad = 62
			return "30", nil
		}
	case netParams:
	default:
		return "40", nil
	}
	if w.net == netParams && mark.There {
		w.s.said.Have = mark.Number // what the terminal says counts: it may be another device
	}
	p, err := h.given(ctx, w, w.net == netParams || (w.net == netCAList || w.net == netAIDList) && string(asked) == "100")
	if err != nil || p == nil {
		return "40", err
	}
	switch w.net {
	case netParams:
		if w.field62 = parameters(p.Content, w.s.place); mark.There {
			w.field62 = pack.Mark{Number: p.Content.Number, Black: p.Content.Black, Signature: p.Signature}.Append(w.field62)
		}
		return "00", nil
	case netCA:
		w.field62 = p.Content.Key(asked)
	case netCAList:
		w.field62 = p.Content.KeyNames(number(asked[1:]))
	case netAID:
		w.field62 = p.Content.Application(asked)
	case netAIDList:
		w.field62 = p.Content.ApplicationNames(number(asked[1:]))
	}
	if mark.There {
		w.field62 = pack.Mark{Number: p.Content.Number}.Append(w.field62)
	}
	return "00", nil
}

// packs are what terminals are given, in memory.
type packs struct {
	once  sync.Once
	shelf *rollout.Shelf
}

// Packs are the numbered packs that terminals are given.
func (h *Host) Packs() *rollout.Shelf {
	h.packs.once.Do(func() { h.packs.shelf = rollout.NewShelf(h.store, h.keys) })
	return h.packs.shelf
}

// carrier is what a session remembers of the terminal's packs.
type carrier struct {
	met    bool
	turn   int             // of the shelf when it was read
	has    rollout.Carrier // as it is kept
	said   rollout.Carrier // with what this message says, kept with its unit
	target uint32          // that it is to have; 0: the house has no packs
	from   uint32          // whose parts it is loading
}

// meet reads what the terminal has of packs, and what it is to have.
func (h *Host) meet(ctx context.Context, w *work) error {
	s := w.s
	if turn := h.Packs().Turn(); s.turn != turn || !s.met || !s.loaded {
		err := h.store.Read(ctx, func(q *db.Query) (err error) {
			s.has, err = rollout.CarrierOf(q, w.next.tid, w.now)
			return err
		})
		if err != nil {
			return err
		}
		s.met, s.turn = true, turn
	}
	s.said = s.has
	target, err := h.Packs().Target(ctx, s.has)
	s.target = target
	return err
}

// keepCarrier writes what a message has changed of it; who may not sell is in no ring.
func (h *Host) keepCarrier(tx *db.Tx, w *work) error {
	s := w.s
	if s.said == s.has || !s.place.Open {
		return nil
	}
	s.met = false // until the unit is durable it is as it was
	halted, err := s.said.Keep(tx)
	tx.After(func() {
		s.said.Did = 0
		if s.has, s.met = s.said, true; halted {
			h.Packs().Reload()
		}
	})
	return err
}

// given is the pack that the terminal loads, the same from first to last; nil: none.
func (h *Host) given(ctx context.Context, w *work, first bool) (*rollout.Given, error) {
	if w.s.from == 0 || first {
		w.s.from = w.s.target
	}
	return h.Packs().Give(ctx, w.s.from)
}

// tasks are the parts of a pack by the code that ends each.
var tasks = map[string]struct{ task, part int }{netParamEnd: {1, rollout.Parameters}, netCAEnd: {4, rollout.Keys}, netAIDEnd: {5, rollout.Applications}}

// loaded notes the end of a download. A terminal that checks packs says what
// became of the whole; of another the switch knows which parts it was given.
func (h *Host) loaded(ctx context.Context, w *work) (string, error) {
	_, m := pack.Cut(w.in.Get(62))
	s, before := w.s, w.s.said.Have
	switch t := tasks[w.net]; {
	case !m.Ends:
		if w.done(t.task); s.from > 0 {
			s.said.Loaded(s.from, t.part, w.now)
		}
	case !m.Result.Known() || m.Number == 0 || m.Number > max(s.target, s.from, s.has.Have):
		w.bad = 62
		return "30", nil
	default:
		for _, t := range tasks {
			w.done(t.task)
		}
		s.said.Says(m.Number, m.Result, w.now)
	}
	if s.said.Have == before {
		return "00", nil
	}
	p, err := h.Packs().Give(ctx, s.said.Have)
	if p != nil && p.Content.Black > 0 { // it may work with no older list
		w.next.loaded, w.dirty = w.next.loaded&^(1<<7), true
	}
	return "00", err
}

// software is the version of the terminal's software as its header has it.
func (w *work) software() string {
	h, err := iso8583.ParsePOSHeader(w.in.Head())
	if err != nil {
		return ""
	}
	return fmt.Sprintf("%02X.%X", h.Version, h.Rest)
}

// task is what the terminal is asked to do next: what people want of it, then a
// sign-on that is due, then a pack that it is to have, then what it has never
// loaded. Mobile readers load nothing.
func (w *work) task() int {
	switch {
	case w.next.demand != 0 || w.demand != 0 || w.s.met && w.s.has.Asked != 0:
		return cmp.Or(w.next.demand, w.demand, w.s.has.Asked)
	case !w.next.signed || len(w.next.master) == 0:
		return 0
	}
	if w.s.met {
		if n := w.s.has.Next(w.s.target); n != 0 {
			return n
		}
	}
	for _, n := range firstTasks {
		if w.next.loaded>>n&1 == 0 {
			return n
		}
	}
	return 0
}

// parameters is field 62 of a parameter download: those of the pack and those of
// the shop, by number.
func parameters(p pack.Pack, place Place) []byte {
	name, err := simplifiedchinese.GBK.NewEncoder().Bytes([]byte(place.Name))
	if err != nil {
		name = []byte(clean([]byte(place.Name), 40))
	}
	name = append(name, bytes.Repeat([]byte{' '}, 40)...)[:40]
	flag := func(on bool) string { return map[bool]string{true: "1", false: "0"}[on] }
	list := append(slices.Clone(p.Parameters), pack.Parameter{Number: 18, Value: flag(place.Tips > 0)}, pack.Parameter{Number: 19, Value: fmt.Sprintf("%02d", min(place.Tips, 99))},
		pack.Parameter{Number: 20, Value: flag(!place.Barred.Keyed)}, pack.Parameter{Number: 22, Value: string(name)},
		pack.Parameter{Number: 26, Value: fmt.Sprintf("%012d", place.Limits["debit"].Single)}, pack.Parameter{Number: 27, Value: fmt.Sprintf("%04s", place.Category)})
	slices.SortFunc(list, func(a, b pack.Parameter) int { return int(a.Number) - int(b.Number) })
	var out []byte
	for _, x := range list {
		out = fmt.Appendf(out, "%02d%s", x.Number, x.Value)
	}
	return out
}

// pieceLen is how much of a list one answer carries.
const pieceLen = 900

// blackList is a piece of the bank's signed exception list.
func (h *Host) blackList(ctx context.Context, w *work) (string, error) {
	asked := w.in.Get(62)
	if len(asked) != 20 {
		w.bad = 62
		return "30", nil
	}
	have, from := number(asked[:10]), number(asked[10:])
	at := &w.s.black
	if from == 0 || at.pack == nil || at.have != have {
		list, err := h.bank.ExceptionList(ctx, uint32(have))
		if err != nil {
			return "", err
		}
		at.have, at.pack = have, list
	}
	list := at.pack
	if from >= len(list) {
		w.field62 = []byte("0")
		return "00", nil
	}
	w.field62 = fmt.Appendf(nil, "1%010d", len(list))
	w.field62 = append(w.field62, list[from:min(from+pieceLen, len(list))]...)
	return "00", nil
}

// ErrTransport is an installation that nobody has prepared.
var ErrTransport = fail.Define(fail.Conflict, "switching.no_transport", "the terminal has no transport key; staff open it for installation and make one")

// transportStep keeps the transport keys of terminals that wait for their
// installation.
const transportStep = `CREATE TABLE switching_transport (tid TEXT PRIMARY KEY, sealed BYTEA NOT NULL, made BIGINT NOT NULL)`

// A Transport is a terminal's transport key between the hsm, which drew it, and
// the unit that keeps it (Keep). Form goes to the installer and is not kept.
type Transport struct {
	Form   hsm.TransportForm
	sealed []byte
}

// DrawTransport draws a transport key; it counts once a unit has kept it.
func (h *Host) DrawTransport(ctx context.Context, tid string) (t Transport, err error) {
	if t.Form, t.sealed, err = h.keys.NewTransport(ctx, tid); err != nil {
		err = fmt.Errorf("transport key of terminal %s: %w", tid, err)
	}
	return t, err
}

// Keep gives the key to its terminal; one that it had is worthless from then on.
func (t Transport) Keep(tx *db.Tx) error {
	_, err := tx.Exec(`INSERT INTO switching_transport (tid, sealed, made) VALUES ($1, $2, $3) ON CONFLICT (tid) DO UPDATE SET sealed = excluded.sealed, made = excluded.made`,
		t.Form.TID, t.sealed, tx.Now().UnixMicro())
	return err
}

// CheckProof compares a terminal's proof with the transport key that it was
// given: see hsm.CheckProof.
func (h *Host) CheckProof(ctx context.Context, tid string, proof []byte) (err error) {
	var transport []byte
	err = h.store.Read(ctx, func(q *db.Query) error {
		return q.QueryRow(`SELECT sealed FROM switching_transport WHERE tid = $1`, tid).Scan(&transport)
	})
	if errors.Is(err, db.ErrNoRows) {
		return fmt.Errorf("installing terminal %s: %w", tid, ErrTransport)
	}
	if err == nil {
		err = h.keys.CheckProof(ctx, tid, transport, proof)
	}
	return err
}

// InstallOnce installs a terminal under the transport key that it was given, and
// forgets that key: whatever becomes of the answer, it is good for one time.
// ksn is nil but for a reader with a key per transaction. note is told in the
// unit that takes the transport key.
func (h *Host) InstallOnce(ctx context.Context, tid string, ksn *dukpt.KSN, note func(*db.Tx) error) (hsm.Injected, error) {
	var transport []byte
	err := h.store.Write(ctx, func(tx *db.Tx) error {
		err := tx.QueryRow(`SELECT sealed FROM switching_transport WHERE tid = $1`, tid).Scan(&transport)
		if errors.Is(err, db.ErrNoRows) {
			err = ErrTransport
		}
		if err == nil {
			_, err = tx.Exec(`DELETE FROM switching_transport WHERE tid = $1`, tid)
		}
		if err == nil {
			err = note(tx)
		}
		return err
	})
	if err != nil {
		return hsm.Injected{}, fmt.Errorf("installing terminal %s: %w", tid, err)
	}
	if ksn != nil {
		return h.InstallReader(ctx, tid, *ksn, transport)
	}
	return h.Install(ctx, tid, transport)
}

// The bounds of a signature (docs/terminal-protocol.md 12): pieces of a picture
// of at most 4,096 bytes, each behind two counts of two digits and the hash.
const (
	maxSignature = 4096
	signedHead   = 2 + 2 + sha256.Size
)

// signature keeps a piece of a signature. It moves no money; the same again
// changes nothing, and a picture that was whole stays.
func (h *Host) signature(ctx context.Context, w *work) (string, error) {
	v, f61 := w.in.Get(62), w.in.Get(61)
	switch {
	case len(f61) < 12:
		w.bad = 61
	case len(v) <= signedHead || len(v) > signedHead+pieceLen:
		w.bad = 62
	}
	if w.bad != 0 {
		return "30", nil
	}
	of, n, hash := number(v[:2]), number(v[2:4]), hex.EncodeToString(v[4:signedHead])
	if n < 1 || n > of || of > (maxSignature+pieceLen-1)/pieceLen {
		w.bad = 62
		return "30", nil
	}
	sealed, err := h.keys.Seal(ctx, v[signedHead:])
	if err != nil {
		return "", err
	}
	batch, stan := number(f61[:6]), number(f61[6:12])
	var whole bool
	code := "00"
	err = h.unit(ctx, w, func(tx *db.Tx) error {
		t, err := txnAt(tx, w.next.tid, batch, stan)
		switch rrn := w.in.Text(37); {
		case errors.Is(err, ErrNotFound), err == nil && (rrn != "" && rrn != t.RRN || t.State == Declined):
			code = "25"
			return nil
		case err != nil:
			return err
		}
		list, err := signaturePieces(tx, t)
		if err != nil {
			return err
		}
		if len(list) > 0 && (list[0].hash != hash || list[0].of != of) {
			code, w.bad = "94", 62 // a transaction is signed once
			return nil
		}
		_, err = tx.Exec(`INSERT INTO switching_signature (tid, batch, stan, piece, pieces, hash, sealed, at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
			ON CONFLICT (tid, batch, stan, piece) DO NOTHING`, w.next.tid, batch, stan, n, of, hash, sealed, tx.Now().UnixMicro())
		whole = n == of
		return err
	})
	if err != nil || !whole {
		return code, err
	}
	_, err = h.Signature(ctx, Txn{TID: w.next.tid, Batch: batch, STAN: stan})
	if errors.Is(err, ErrNotFound) { // not what the hash says: it is sent again from its first piece
		code, w.bad = "30", 62
		err = h.unit(ctx, w, func(tx *db.Tx) error {
			_, err := tx.Exec(`DELETE FROM switching_signature WHERE tid = $1 AND batch = $2 AND stan = $3`, w.next.tid, batch, stan)
			return err
		})
	}
	return code, err
}

// A piece is one of a signature.
type piece struct {
	of     int
	hash   string
	sealed []byte
}

func signaturePieces(q db.Reader, t Txn) (out []piece, err error) {
	err = db.Each(q, func(scan func(...any) error) error {
		var p piece
		err := scan(&p.of, &p.hash, &p.sealed)
		out = append(out, p)
		return err
	}, `SELECT pieces, hash, sealed FROM switching_signature WHERE tid = $1 AND batch = $2 AND stan = $3 ORDER BY piece`, t.TID, t.Batch, t.STAN)
	return out, err
}

// Signature is the picture of a transaction's signature, PNG; ErrNotFound when
// there is none, or not all of it.
func (h *Host) Signature(ctx context.Context, t Txn) ([]byte, error) {
	var list []piece
	err := h.store.Read(ctx, func(q *db.Query) (err error) {
		list, err = signaturePieces(q, t)
		return err
	})
	var picture []byte
	for _, p := range list {
		if err == nil {
			var clear []byte
			clear, err = h.keys.Unseal(ctx, p.sealed)
			picture = append(picture, clear...)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("signature of %s: %w", t.RRN, err)
	}
	if sum := sha256.Sum256(picture); len(list) == 0 || len(list) != list[0].of || hex.EncodeToString(sum[:]) != list[0].hash {
		return nil, fmt.Errorf("signature of %s: %w", t.RRN, ErrNotFound)
	}
	return picture, nil
}

// Install draws a terminal's master key, wrapped under its transport key (as
// hsm.NewTransport sealed it), and keeps it. What the terminal had before is
// worthless from then on.
func (h *Host) Install(ctx context.Context, tid string, transport []byte) (hsm.Injected, error) {
	in, master, err := h.keys.NewMaster(ctx, tid, transport)
	if err == nil {
		err = h.keep(ctx, tid, func(r *terminalRow) {
			r.master, r.proven, r.fresh, r.signed, r.reader, r.loaded = master.Sealed, keySet{}, keySet{}, false, "", 0
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
func (h *Host) keep(ctx context.Context, tid string, change func(*terminalRow), notes ...func(*db.Tx) error) error {
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
		err = r.save(tx)
		for i := 0; err == nil && i < len(notes); i++ {
			err = notes[i](tx)
		}
		return err
	})
}

// Demand has a terminal do something at its next message: 1 load parameters, 2
// send its status, 3 sign on, 4 load CA keys, 5 load AID parameters, 7 load the
// black list. Notes are told in its unit.
func (h *Host) Demand(ctx context.Context, tid string, what int, notes ...func(*db.Tx) error) error {
	if what < 0 || what > 9 {
		return fmt.Errorf("demand %d of terminal %s: %w", what, tid, ErrState)
	}
	return h.keep(ctx, tid, func(r *terminalRow) { r.demand = what }, notes...)
}
