package switching

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/text/encoding/simplifiedchinese"

	"koala/hsm"
	"koala/internal/db"
	"koala/internal/fail"
	"koala/spec/dukpt"
	"koala/spec/emv"
	"koala/spec/pboc"
	"koala/spec/tlv"
)

// Objects of downloads in field 62.
const (
	tagExpiry   tlv.Tag = 0xDF05
	tagHash     tlv.Tag = 0xDF06
	tagSign     tlv.Tag = 0xDF07
	tagModulus  tlv.Tag = 0xDF02
	tagExponent tlv.Tag = 0xDF04
	tagCheck    tlv.Tag = 0xDF03
	tagIndex    tlv.Tag = 0x9F22
)

// download answers a terminal that asks for parameters, keys or lists.
func (h *Host) download(ctx context.Context, w *work) (string, error) {
	asked := w.in.Get(62)
	switch bad := false; w.net {
	case netCAList, netAIDList:
		bad = len(asked) != 3 || asked[0] != '1' || strings.Trim(string(asked[1:]), "0123456789") != ""
		fallthrough
	case netCA, netAID:
		if bad || len(asked) == 0 {
			w.bad = 62
			return "30", nil
		}
	}
	switch w.net {
	case netParams:
		w.field62 = parameters(w.s.place)
		return "00", nil
	case netCA, netCAList:
		keys, err := h.bank.CAKeys(ctx)
		if err != nil {
			return "", err
		}
		keys = slices.DeleteFunc(append(keys, emv.CAKeys()...), useless)
		if w.net == netCA {
			w.field62 = caKey(keys, asked)
		} else {
			w.field62 = listed(asked, len(keys), func(i int) []byte { return caName(keys[i]) })
		}
		return "00", nil
	case netAID:
		w.field62 = aidParameter(asked)
		return "00", nil
	case netAIDList:
		w.field62 = listed(asked, len(applications), func(i int) []byte { return tlv.Append(nil, emv.TagTerminalAID, applications[i].aid) })
		return "00", nil
	case netBlack:
		return h.blackList(ctx, w)
	}
	return "40", nil
}

// parameters is field 62 of a parameter download.
func parameters(p Place) []byte {
	name, err := simplifiedchinese.GBK.NewEncoder().Bytes([]byte(p.Name))
	if err != nil {
		name = []byte(clean([]byte(p.Name), 40))
	}
	name = append(name, bytes.Repeat([]byte{' '}, 40)...)[:40]
	tips := 0
	if p.Tips > 0 {
		tips = 1
	}
	keyed := 1
	if p.Barred.Keyed {
		keyed = 0
	}
	out := fmt.Appendf(nil, "1260"+"133"+"18%d"+"19%02d"+"20%d"+"210"+"22", tips, min(p.Tips, 99), keyed)
	out = append(out, name...)
	return fmt.Appendf(out, "233"+"26%012d"+"27%04s", p.Limits["debit"].Single, p.Category)
}

// listSize is how many names one answer lists.
const listSize = 20

// listed is one piece of a list: the terminal says how many names it has.
func listed(asked []byte, n int, name func(int) []byte) []byte {
	from := number(rest(asked, 1, 3))
	if n == 0 || from >= n {
		return []byte("0")
	}
	to := min(from+listSize, n)
	flag := byte('2')
	switch {
	case from == 0 && to == n:
		flag = '1'
	case to == n:
		flag = '3'
	}
	out := []byte{flag}
	for i := from; i < to; i++ {
		out = append(out, name(i)...)
	}
	return out
}

// caExpiry is the last day of the CA keys; no list says one.
const caExpiry = "20301231"

// caName names a CA key: 9F06 RID, 9F22 index, DF05 its last day.
func caName(k emv.CAKey) []byte {
	out := tlv.Append(nil, emv.TagTerminalAID, k.RID[:])
	out = tlv.Append(out, tagIndex, []byte{k.Index})
	return tlv.Append(out, tagExpiry, []byte(caExpiry))
}

// useless is a CA key of a scheme none of whose applications a terminal is given:
// all published keys would be more than a list of two digits can name.
func useless(k emv.CAKey) bool {
	return !slices.ContainsFunc(applications, func(a application) bool { return bytes.HasPrefix(a.aid, k.RID[:]) })
}

// caKey is the key that 9F06 and 9F22 name.
func caKey(keys []emv.CAKey, asked []byte) []byte {
	rid, index := object(asked, emv.TagTerminalAID), object(asked, tagIndex)
	for _, k := range keys {
		if !bytes.Equal(rid, k.RID[:]) || len(index) != 1 || index[0] != k.Index {
			continue
		}
		out := append([]byte("1"), caName(k)...)
		hash, sign, exponent := byte(1), byte(1), k.Exponent
		if k.Algorithm == emv.SM2 {
			hash, sign, exponent = 7, 4, []byte{0x11}
		}
		out = tlv.Append(out, tagHash, []byte{hash})
		out = tlv.Append(out, tagSign, []byte{sign})
		out = tlv.Append(out, tagModulus, k.Modulus)
		out = tlv.Append(out, tagExponent, exponent)
		return tlv.Append(out, tagCheck, k.Hash[:])
	}
	return []byte("0")
}

// object finds one object.
func object(v []byte, want tlv.Tag) []byte {
	for len(v) > 0 {
		tag, val, after, err := tlv.Next(v)
		if err != nil {
			return nil
		}
		if tag == want {
			return val
		}
		v = after
	}
	return nil
}

// An application is what terminals are told about an AID.
type application struct {
	aid                            []byte
	version                        uint16
	defaults, online, denial       [5]byte
	ddol                           []byte
	ecash, floor, limit, cvmAmount uint64 // fen
}

// applications are UnionPay's debit, credit and quasi-credit, with the limits of
// offline Quickpass in 2015.
var applications = func() (out []application) {
	for _, last := range []byte{0x01, 0x02, 0x03} {
		out = append(out, application{aid: []byte{0xA0, 0x00, 0x00, 0x03, 0x33, 0x01, 0x01, last}, version: 0x0030,
			defaults: [5]byte{0xD8, 0x40, 0x00, 0xA8, 0x00}, online: [5]byte{0xD8, 0x40, 0x04, 0xF8, 0x00}, denial: [5]byte{0x00, 0x10, 0x00, 0x00, 0x00},
			ddol: []byte{0x9F, 0x37, 0x04}, ecash: 1000_00, limit: 1000_00, cvmAmount: 300_00})
	}
	return out
}()

// aidParameter is field 62 for one AID.
func aidParameter(asked []byte) []byte {
	aid := object(asked, emv.TagTerminalAID)
	for _, a := range applications {
		if !bytes.Equal(a.aid, aid) {
			continue
		}
		amount := func(fen uint64) []byte { b := pboc.Amount(fen); return b[:] }
		out := tlv.Append([]byte("1"), emv.TagTerminalAID, a.aid)
		for _, f := range []struct {
			tag tlv.Tag
			val []byte
		}{
			{0xDF01, []byte{0}}, {emv.TagTerminalVersion, binary.BigEndian.AppendUint16(nil, a.version)}, {0xDF11, a.defaults[:]}, {0xDF12, a.online[:]},
			{0xDF13, a.denial[:]}, {emv.TagFloorLimit, []byte{0, 0, 0, 0}}, {0xDF15, []byte{0, 0, 0, 0}}, {0xDF16, []byte{99}}, {0xDF17, []byte{50}},
			{0xDF14, a.ddol}, {0xDF18, []byte{1}}, {0x9F7B, amount(a.ecash)}, {0xDF19, amount(a.floor)}, {0xDF20, amount(a.limit)}, {0xDF21, amount(a.cvmAmount)},
		} {
			out = tlv.Append(out, f.tag, f.val)
		}
		return out
	}
	return []byte("0")
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
		pack, err := h.bank.ExceptionList(ctx, uint32(have))
		if err != nil {
			return "", err
		}
		at.have, at.pack = have, pack
	}
	pack := at.pack
	if from >= len(pack) {
		w.field62 = []byte("0")
		return "00", nil
	}
	w.field62 = fmt.Appendf(nil, "1%010d", len(pack))
	w.field62 = append(w.field62, pack[from:min(from+pieceLen, len(pack))]...)
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

// signatureStep keeps the pictures of signatures, as terminals send them: in
// pieces, sealed.
const signatureStep = `CREATE TABLE switching_signature (
	tid TEXT NOT NULL, batch BIGINT NOT NULL, stan BIGINT NOT NULL,
	piece BIGINT NOT NULL, pieces BIGINT NOT NULL,
	hash TEXT NOT NULL,  -- SHA-256 of the whole
	sealed BYTEA NOT NULL, at BIGINT NOT NULL,
	PRIMARY KEY (tid, batch, stan, piece))`

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
