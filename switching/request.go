package switching

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"koala/calendar"
	"koala/customer"
	"koala/hsm"
	"koala/internal/db"
	"koala/issuing"
	"koala/money"
	"koala/settlement"
	"koala/spec/emv"
	"koala/spec/iso8583"
	"koala/spec/pan"
	"koala/spec/pboc"
	"koala/spec/poskey"
	"koala/spec/tlv"
	"koala/switching/referral"
	"koala/switching/route"
	"koala/wallet"
)

// A request is what a message says, as far as it was read, and what its answer
// will.
type request struct {
	batch, stan int
	net         string
	keys        keySet // that the message verified under
	verified    bool
	again       bool // a reader's serial number was used before: only a repeat may have it
	kind        *Kind
	fen         int64
	number      pan.PAN
	track       string // track 2 in clear
	expiry      string
	code        string // payment code that was scanned
	chip        chip
	pin         bool
	hash        string
	route       route.Route
	token       string
	judged      Judgement

	txn     *Txn // what the answer is about
	begun   bool // it is new: it counts in its batch
	demand  int
	bad     int // field that is missing or malformed
	field48 string
	field54 string
	field55 []byte
	field62 []byte
	batch60 string
}

// A chip is what field 55 says, read once.
type chip struct {
	raw       []byte // with number and sequence number, as an issuer wants it
	cid, typ  byte
	here      bool
	hasType   bool
	amount    [6]byte
	hasAmount bool
	atc       int
	script    []byte // DF31
}

// tagScriptResult is what became of an issuer's script (terminals' dialect).
const tagScriptResult tlv.Tag = 0xDF31

// read takes a transaction's message apart; w.bad names what is wrong.
func (h *Host) read(ctx context.Context, w *work) (err error) {
	m := &w.in
	if w.hash = hashOf(w.message[len(m.Head()) : len(w.message)-8]); m.Has(57) {
		w.hash = plainHash(m)
	}
	fail := func(field int) error { w.bad = field; return nil }
	if w.stan == 0 {
		return fail(11)
	}
	if w.batch == 0 || len(m.Get(60)) < 11 {
		return fail(60)
	}
	if m.Text(49) != "156" && w.kind.act != actAsk {
		return fail(49)
	}
	if n := malformed(m); n != 0 {
		return fail(n)
	}
	if v := m.Get(4); v != nil {
		w.fen = int64(number(v))
	}
	if w.fen <= 0 && w.kind.act != actAsk {
		return fail(4)
	}
	if w.track, err = h.clearTrack(ctx, w); err != nil || w.bad != 0 {
		return err
	}
	digits := m.Text(2)
	if before, after, found := strings.Cut(w.track, "D"); found {
		if digits != "" && digits != before {
			return fail(35)
		}
		if digits = before; len(after) >= 4 {
			w.expiry = after[:4]
		}
	}
	if v := m.Text(14); v != "" {
		w.expiry = v
	}
	scanned := digits == "" && w.kind.Name == "sale" && strings.HasPrefix(m.Text(22), "03")
	if scanned {
		if w.code = clean(m.Get(62), maxCode); w.code == "" || w.code != m.Text(62) || w.expiry != "" {
			return fail(62)
		}
	}
	if digits != "" {
		if w.number, err = pan.Parse(digits); err != nil {
			return fail(2)
		}
	} else if w.kind.card && !scanned && w.kind.act != actRefund {
		return fail(2)
	}
	if w.pin = m.Has(52); w.pin && (len(m.Get(53)) < 3 || m.Get(53)[0] != '1' && m.Get(53)[0] != '2') {
		return fail(53)
	}
	if v := m.Get(55); len(v) > 0 && !w.readChip(v) {
		return fail(55)
	}
	return nil
}

// entries are the first two digits of field 22 that there are.
const entries = "01 02 03 05 07 80 91 98"

// monthDays are the days of each month; a leap day is one.
var monthDays = [13]int{0, 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31}

// malformed names the first of fields 22, 12, 13 and 14 that says what cannot be;
// 0: none does.
func malformed(m *iso8583.Message) int {
	two := func(v []byte, at int) int { return number(rest(v, at, at+2)) }
	month := func(v []byte, at int) bool { return two(v, at) >= 1 && two(v, at) <= 12 }
	entry, clock, day, last := m.Get(22), m.Get(12), m.Get(13), m.Get(14)
	switch {
	case len(entry) != 3, entry[2] > '2', !strings.Contains(entries, string(entry[:2])):
		return 22
	case len(clock) > 0 && (two(clock, 0) > 23 || two(clock, 2) > 59 || two(clock, 4) > 59):
		return 12
	case len(day) > 0 && (!month(day, 0) || two(day, 2) < 1 || two(day, 2) > monthDays[two(day, 0)]):
		return 13
	case len(last) > 0 && !month(last, 2):
		return 14
	}
	return 0
}

// plainHash names the content of a reader's request without what is of its
// serial number: repeated, it comes under the next one.
func plainHash(m *iso8583.Message) string {
	b := []byte(m.MTI())
	for n := 2; n < 64; n++ {
		if n == 52 || n == 53 || n == 57 || n == 59 || !m.Has(n) {
			continue
		}
		v := m.Get(n)
		b = append(binary.BigEndian.AppendUint16(append(b, byte(n)), uint16(len(v))), v...)
	}
	return hashOf(b)
}

// maxCode bounds a payment code, characters.
const maxCode = 64

// hashOf names a request's content.
func hashOf(v []byte) string {
	sum := sha256.Sum256(v)
	return string(hex.AppendEncode(make([]byte, 0, 24), sum[:12]))
}

// cardData is track 2 as a reader enciphers it whose phone sees no card (section
// 13 of the protocol).
func (h *Host) cardData(ctx context.Context, w *work, data []byte) (string, error) {
	clear, err := h.keys.DecipherData(ctx, w.under, data)
	if errors.Is(err, hsm.ErrUsage) {
		w.bad = 59
		return "", nil
	}
	track := strings.TrimRight(strings.ToUpper(hex.EncodeToString(clear)), "F")
	if err == nil && strings.Trim(track, "0123456789D") != "" {
		w.bad = 59
	}
	return track, err
}

// maxObjects bounds field 55.
const maxObjects = 48

// readChip reads field 55; false when it is not what it should be.
func (w *work) readChip(v []byte) bool {
	c := &w.chip
	var hasNumber, hasPSN bool
	var seen [maxObjects]tlv.Tag
	for in, n := v, 0; len(in) > 0; n++ {
		tag, val, after, err := tlv.Next(in)
		if err != nil || n == maxObjects || has(seen[:n], tag) {
			return false
		}
		seen[n], in = tag, after
		switch tag {
		case emv.TagPAN, emv.TagTrack2:
			hasNumber = true
		case emv.TagPSN:
			hasPSN = true
		case emv.TagCID:
			if len(val) == 1 {
				c.cid = val[0]
			}
		case emv.TagType:
			c.hasType = len(val) == 1
			c.typ = first(val)
		case emv.TagAmount:
			c.hasAmount = copy(c.amount[:], val) == 6 && len(val) == 6
		case emv.TagATC:
			if len(val) == 2 {
				c.atc = int(binary.BigEndian.Uint16(val))
			}
		case tagScriptResult:
			c.script = val
		}
	}
	c.here, c.raw = true, v
	if !hasNumber && w.number != "" {
		digits := string(w.number)
		if len(digits)%2 == 1 {
			digits += "F"
		}
		packed, _ := hex.DecodeString(digits)
		c.raw = tlv.Append(bytes.Clone(c.raw), emv.TagPAN, packed)
	}
	if psn := w.in.Get(23); !hasPSN && len(psn) == 3 {
		c.raw = tlv.Append(bytes.Clone(c.raw), emv.TagPSN, []byte{(psn[1]-'0')<<4 | psn[2] - '0'})
	}
	return true
}

func has(seen []tlv.Tag, tag tlv.Tag) bool {
	for _, t := range seen {
		if t == tag {
			return true
		}
	}
	return false
}

func first(v []byte) byte {
	if len(v) == 0 {
		return 0
	}
	return v[0]
}

// asks says that field 55 asks for what the message asks for: the same amount,
// and a type that goes with its processing code.
func (w *work) asks() bool {
	c := w.chip
	process := byte(w.kind.Process[0]-'0')<<4 | byte(w.kind.Process[1]-'0')
	if fen, err := pboc.ParseAmount(c.amount[:]); err != nil || !c.hasAmount || int64(fen) != w.fen {
		return false
	}
	return c.hasType && (c.typ == process || c.typ == 0 && w.kind.Process[0] == '0' || c.typ == issuing.TypeLoad && w.kind.act == actLoad)
}

// pinBlock takes the PIN from under the terminal's key to under a zone's.
func (h *Host) pinBlock(ctx context.Context, w *work, zone string) (*hsm.PINBlock, string, error) {
	if !w.pin {
		return nil, "", nil
	}
	under := w.under
	if !w.in.Has(57) {
		under.Sealed = w.keys.pik
	}
	b, err := h.keys.TranslatePIN(ctx, under, poskey.PINForm(w.in.Get(53)[0]-'0'), [8]byte(w.in.Get(52)), string(w.number), zone)
	if errors.Is(err, hsm.ErrPINBlock) {
		return nil, "99", nil
	}
	return &b, "", err
}

// masked is the first six and the last four digits.
func (w *work) masked() string {
	if w.number == "" {
		return ""
	}
	return pboc.MaskPAN(string(w.number))
}

// references are letters and digits that cannot be taken for one another.
var references = base32.NewEncoding("0123456789ABCDEFGHJKMNPQRSTVWXYZ").WithPadding(base32.NoPadding)

// reference writes a number that rises with the commits as a reference number,
// 12 characters, and its last 30 bits as an authorisation, 6 characters.
func reference(seq int64) (rrn, auth string) {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], uint64(seq)<<4)
	rrn = references.EncodeToString(b[:])[:12]
	return rrn, rrn[6:]
}

// begin is the row of the message's transaction.
func (w *work) begin(tx *db.Tx) *Txn {
	seq := tx.NewSeq()
	rrn, auth := reference(seq)
	w.stand(tx)
	t := &Txn{TID: w.next.tid, Batch: w.batch, STAN: w.stan, RRN: rrn, Auth: auth, Kind: w.kind.Name, State: Approved, MID: w.s.place.MID, Shop: w.s.place.Shop,
		Host: w.route.Host, Counter: -1, Token: w.token, Masked: w.masked(), Class: w.route.Class, Foreign: w.route.Foreign, Amount: money.Fen(w.fen), Due: money.Fen(w.fen),
		Refunded: money.Fen(0), Disputed: money.Fen(0), Entry: w.in.Text(22), Code: "00", At: tx.Now(), Changed: tx.Now(), hash: w.hash}
	if t.cut = w.s.endOf(t.At); w.kind.Name == "preauth" {
		t.cut = t.At.Add(preauthLife)
	}
	w.txn, w.begun = t, true
	return t
}

// stand keeps that the terminal has sold in the shop, once. What goes wrong
// fails the unit.
func (w *work) stand(tx *db.Tx) {
	if shop := w.s.place.Shop; w.s.stood != shop {
		_, _ = tx.Exec(`INSERT INTO switching_place (shop, tid) VALUES ($1, $2) ON CONFLICT (shop, tid) DO NOTHING`, shop, w.next.tid)
		tx.After(func() { w.s.stood = shop })
	}
}

// judge asks the watch about the message's transaction; o is its original, nil
// for none.
func (h *Host) judge(w *work, o *Txn) {
	if h.cfg.Watch == nil {
		return
	}
	t := Txn{TID: w.next.tid, Batch: w.batch, STAN: w.stan, Kind: w.kind.Name, State: Approved, MID: w.s.place.MID, Shop: w.s.place.Shop, Host: w.route.Host, Token: w.token,
		Class: w.route.Class, Foreign: w.route.Foreign, Amount: money.Fen(w.fen), Due: money.Fen(w.fen), Entry: w.in.Text(22), At: w.now}
	if o != nil {
		t.Original = o.RRN
	}
	w.judged = h.cfg.Watch.Judge(t, w.s.place)
}

// keepJudged writes the watch's judgement down with the row.
func (w *work) keepJudged(tx *db.Tx, t *Txn) error {
	if w.judged.Keep == nil {
		return nil
	}
	return w.judged.Keep(tx, *t)
}

// decline makes the row one that was refused.
func (t *Txn) decline(code, why string) {
	t.State, t.Code, t.Why, t.Auth = Declined, code, why, ""
}

// fallback says that a chip card came by its stripe though its chip was not
// tried: service codes 2 and 6 begin those of cards with a chip.
func (w *work) fallback() bool {
	_, after, _ := strings.Cut(w.track, "D")
	f := w.in.Get(60)
	if w.chip.here || len(after) < 5 || after[4] != '2' && after[4] != '6' || len(f) < 12 || f[11] < '5' {
		return false
	}
	return len(f) < 13 || f[12] != '2'
}

// parts are the numbers of instalments there are.
var parts = []int{3, 6, 9, 12, 18, 24}

// planLen is field 62 of instalments: parts 2, product 30, fee mode 1.
const planLen = 33

// plan checks the instalments that are asked for and makes the answer's field 62.
func (w *work) plan() bool {
	v := w.in.Get(62)
	if len(v) != planLen || v[32] != '0' && v[32] != '1' || clean(v, planLen) != string(v) {
		return false
	}
	n := number(v[:2])
	if !slices.Contains(parts, n) {
		return false
	}
	each := w.fen / int64(n)
	w.field62 = fmt.Appendf(nil, "%012d%012d%012d", w.fen-each*int64(n-1), each, 0)
	return true
}

// codeClass is the fee class of payments by code: a wallet is money that was
// paid in before, as a prepaid card's is.
const codeClass = "prepaid"

// scanned says that a sale was paid by code out of a wallet of the house.
func (t *Txn) scanned() bool {
	return t.Kind == "sale" && t.Host == "" && t.Card == "" && len(t.Entry) == 3 && t.Entry[:2] == "03"
}

// payer finds whose payment code was scanned.
func (h *Host) payer(ctx context.Context, w *work) (string, error) {
	var who customer.ID
	err := h.store.Read(ctx, func(q *db.Query) (err error) {
		who, err = wallet.PayerOf(q, w.code, w.now)
		return err
	})
	w.route = route.Route{Class: codeClass}
	if err == nil {
		w.token, err = h.keys.Token(ctx, "wallet:"+string(who))
		return "", err
	}
	return h.ended(ctx, w, "", domain(err))
}

// byCode holds a payment on the wallet of the customer who showed a code. The
// code is used up by the unit that keeps the approval; after a refusal it is
// good for what is left of its minute.
func (h *Host) byCode(ctx context.Context, w *work) (string, error) {
	err := h.unit(ctx, w, func(tx *db.Tx) error {
		t := w.begin(tx)
		t.Masked = w.code[:6] + strings.Repeat("*", len(w.code)-10) + w.code[len(w.code)-4:]
		err := w.room(tx)
		if err == nil {
			_, err = wallet.PayByCode(tx, wallet.Payment{Ref: t.RRN, Code: w.code, Payee: settlement.Payable(t.Shop), Amount: t.Amount, Text: w.s.place.Name})
		}
		if err != nil {
			return domain(err)
		}
		if err := errors.Join(t.insert(tx), w.keepJudged(tx, t)); err != nil {
			return err
		}
		return tell(tx, "sale.approved", t)
	})
	return h.ended(ctx, w, "00", err)
}

// byVoice books a sale that the shop had approved by telephone: it stands for the
// hold of its code, once, and holds nothing new. The goods are given, so what has
// no hold is refused and made a case: neither shop nor cardholder has it, and
// people see who is to ask whom.
func (h *Host) byVoice(ctx context.Context, w *work) (string, error) {
	err := h.unit(ctx, w, func(tx *db.Tx) error {
		t := w.begin(tx)
		if err := w.room(tx); err != nil {
			return err
		}
		r, flaw, err := referral.Use(tx, referral.Sale{RRN: t.RRN, Shop: t.Shop, Token: t.Token, Code: w.in.Text(38), Amount: t.Amount})
		if err != nil {
			return err
		}
		if flaw != referral.NoFlaw {
			return refuse(flaw.Code(), string(flaw))
		}
		t.Card, t.Counter, t.Auth = r.Card, r.Counter, r.Code
		if err := errors.Join(t.insert(tx), w.keepJudged(tx, t)); err != nil {
			return err
		}
		return tell(tx, "sale.approved", t)
	})
	var r refusal
	if !errors.As(err, &r) {
		return "00", err
	}
	err = h.unit(ctx, w, func(tx *db.Tx) error {
		t := w.begin(tx)
		t.decline(r.code, r.why)
		d := Difference{TID: t.TID, Batch: t.Batch, STAN: t.STAN, RRN: t.RRN, What: NoVoice, Ours: money.Fen(0), Theirs: t.Amount, Masked: t.Masked}
		if err := errors.Join(t.insert(tx), w.keepJudged(tx, t), d.put(tx)); err != nil {
			return err
		}
		return errors.Join(tell(tx, "sale.declined", t), tell(tx, "sale.differs", t))
	})
	return r.code, err
}

// trust says whether the house still takes a tap that its issuer has not proven.
func (w *work) trust(tx *db.Tx, t *Txn) error {
	var fen int64
	from := calendar.Of(t.At, calendar.Beijing).Start(calendar.Beijing)
	err := tx.QueryRow(`SELECT CAST(COALESCE(SUM(due), 0) AS BIGINT) FROM switching_txn WHERE kind = 'tap' AND shop = $1 AND host <> '' AND at >= $2 AND state = 'cleared'`,
		t.Shop, from.UnixMicro()).Scan(&fen)
	if err == nil && fen+w.fen > w.h.cfg.TapsAbroad {
		err = refuse("61", "above what the shop may take by taps of other issuers' cards in a day")
	}
	return err
}
