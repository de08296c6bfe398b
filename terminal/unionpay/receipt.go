package unionpay

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"image/png"
	"slices"
	"strings"

	"koala/money"
	"koala/spec/emv"
	"koala/spec/tlv"
	"koala/terminal"
	"koala/terminal/kernel"
)

// Bounds of a signature: a PNG of at most 4,096 bytes and 800 by 400 dots, kept
// and sent in pieces.
const (
	MaxSignature = 4096
	pieceLen     = 900
	maxWide      = 800
	maxHigh      = 400
)

// ErrSignature says that a signature is none, too large, or there already.
var ErrSignature = errors.New("unionpay: not a signature of this transaction")

// Receipt is what the terminal prints of a transaction, in Chinese if zh; again
// says that it is a reprint. The card's number is masked.
func (t *Terminal) Receipt(e *Entry, again, zh bool) []string {
	say := func(en, cn string, args ...any) string { return fmt.Sprintf(terminal.Words{en, cn}.In(zh), args...) }
	k := &t.cfg.Till.Kernel
	lines := []string{k.MerchantName, say("merchant %s", "商户号 %s", k.MerchantID), say("terminal %s", "终端号 %s", k.TerminalID)}
	if name := t.packs.parameters.Name; name != "" {
		lines[0] = name
	}
	if again {
		lines = append(lines, say("*** REPRINT ***", "*** 重打印 ***"))
	}
	if e.Card() != "" {
		lines = append(lines, say("card %s", "卡号 %s", e.Card()))
	}
	if v := e.Get(14); len(v) == 4 {
		lines = append(lines, say("expires 20%s-%s", "有效期 20%s-%s", v[:2], v[2:]))
	}
	lines = append(lines, say("kind: %s", "交易类型：%s", e.Kind.Words(zh)), say("batch %06d  trace %06d", "批次号 %06d  流水号 %06d", e.Batch, e.STAN))
	for _, x := range []struct {
		field  int
		en, cn string
	}{{37, "reference %s", "参考号 %s"}, {38, "authorisation %s", "授权码 %s"}} {
		if v := e.Get(x.field); v != "" {
			lines = append(lines, say(x.en, x.cn, v))
		}
	}
	if o, err := ParseOriginal(e.Get(61)); err == nil {
		lines = append(lines, say("original %06d/%06d", "原交易 %06d/%06d", o.Batch, o.STAN))
	}
	lines = append(lines, t.moment(e), say("amount %s yuan", "金额 %s 元", yuan(e.Fen())))
	if f := t.journal.by[e.key()]; f != nil && f.fen() != e.Fen() {
		lines = append(lines, say("adjusted to %s yuan", "调整后 %s 元", yuan(f.fen())))
	}
	if v := e.Get(62); e.Kind == Instalment && len(v) == 36 && digits(v) {
		lines = append(lines, say("first part %s, each further %s, fee %s", "首期 %s，每期 %s，手续费 %s", yuan(number(v[:12])), yuan(number(v[12:24])), yuan(number(v[24:]))))
	}
	lines = append(lines, chipLines(e)...)
	return append(lines, t.ending(e, zh)...)
}

// moment is when it happened, by the host's clock where it answered.
func (t *Terminal) moment(e *Entry) string {
	d, c := e.Get(13), e.Get(12)
	if len(d) != 4 || len(c) != 6 {
		return ""
	}
	year := t.Now().Year()
	if d > t.Now().AddDate(0, 0, 1).Format("0102") { // of the year before
		year--
	}
	return fmt.Sprintf("%04d-%s-%s %s:%s:%s", year, d[:2], d[2:], c[:2], c[2:4], c[4:])
}

// chipLines are what the card said.
func chipLines(e *Entry) (lines []string) {
	get := func(tag tlv.Tag) []byte { v, _ := tlv.Find(e.fields[55], tag); return v }
	if aid := get(emv.TagDFName); aid != nil {
		lines = append(lines, strings.TrimSpace(fmt.Sprintf("%s  AID %X", get(emv.TagLabel), aid)))
	}
	if ac := get(emv.TagAC); ac != nil {
		kind := "ARQC"
		if v := get(emv.TagCID); len(v) == 1 {
			kind = map[byte]string{emv.TC: "TC", emv.ARQC: "ARQC", emv.AAC: "AAC"}[v[0]]
		}
		lines = append(lines, fmt.Sprintf("%s %X  ATC %X", kind, ac, get(emv.TagATC)), fmt.Sprintf("TVR %X  TSI %X", get(emv.TagTVR), get(emv.TagTSI)))
	}
	return lines
}

// ending is how it ended and who signs.
func (t *Terminal) ending(e *Entry, zh bool) (lines []string) {
	say := func(en, cn string, args ...any) string { return fmt.Sprintf(terminal.Words{en, cn}.In(zh), args...) }
	switch {
	case t.Undone(e):
		lines = append(lines, say("TAKEN BACK", "已撤销"))
	case e.State != Done:
		lines = append(lines, e.State.Words(zh))
	default:
		lines = append(lines, e.State.Words(zh)+" "+e.Get(39))
	}
	if (e.State == Asked || e.State == Undoing) && t.NeedsHelp(e) {
		lines = append(lines, say("reversal sent %d times without an answer: call the acquirer", "冲正已发送 %d 次未获应答，请联系收单机构", e.Tries))
	}
	if f := t.journal.by[e.key()]; f != nil && f.refused() {
		lines = append(lines, say("refused by the host: %s", "主机拒绝：%s", f.told))
	} else if f != nil && f.signature != nil {
		return append(lines, say("signed electronically %X", "电子签名 %X", f.signature[:4]))
	}
	if NeedsSignature(e) {
		return append(lines, say("signature ______________", "持卡人签名 ______________"))
	}
	return append(lines, say("no signature", "免签"))
}

// NeedsSignature says that the cardholder signs: as the chip wants it, and
// always where a stripe or a number stood for the card.
func NeedsSignature(e *Entry) bool {
	if s := table[e.Kind].side; s == credit && e.Kind != Refund || s == replaces || e.Kind == Balance {
		return false
	}
	if mode := e.Get(22); len(mode) == 3 && (mode[:2] == "02" || mode[:2] == "01" || mode[:2] == "80") {
		return e.Card() != ""
	}
	return e.CVM == kernel.Signature || e.CVM == kernel.PINAndSignature
}

// yuan prints minor units with two decimals.
func yuan(fen uint64) string { return money.Fen(int64(fen)).Yuan() }

// Find gives the latest transaction of the batch whose card ends like that, at
// least four digits: for a reprint.
func (t *Terminal) Find(tail string) (*Entry, bool) {
	for _, e := range slices.Backward(t.journal.list) {
		if e.Tail(tail) {
			return e.copy(), true
		}
	}
	return nil, false
}

// Entry gives a transaction of the batch by its trace.
func (t *Terminal) Entry(stan uint32) (*Entry, bool) {
	f := t.journal.by[noteKey(markEntry, t.book.batch, stan, -1)]
	if f == nil {
		return nil, false
	}
	return f.entry.copy(), true
}

// Sign attaches the picture of a signature to a transaction of the batch. It
// counts once all of it is kept.
func (t *Terminal) Sign(stan uint32, picture []byte) error {
	f := t.journal.by[noteKey(markEntry, t.book.batch, stan, -1)]
	if f == nil {
		return t.failed(ErrOriginal)
	}
	if f.signature != nil || !drawn(picture) {
		return t.failed(ErrSignature)
	}
	n := note{batch: f.entry.Batch, stan: stan}
	pieces := slices.Collect(slices.Chunk(picture, pieceLen))
	for i, old := range f.pieces { // of an attempt that power cut off
		if i >= len(pieces) || !bytes.Equal(old, pieces[i]) {
			return t.failed(ErrSignature)
		}
	}
	for i := len(f.pieces); i < len(pieces); i++ {
		if err := t.journal.shelf.Room(); err != nil {
			return t.failed(full(err))
		}
		n.mark, n.piece, n.data = markPiece, i, pieces[i]
		if err := t.journal.note(n); err != nil {
			return t.failed(full(err))
		}
	}
	sum := sha256.Sum256(picture)
	n.mark, n.piece, n.data = markSigned, -1, sum[:]
	if err := t.journal.note(n); err != nil {
		return t.failed(full(err))
	}
	return nil
}

// drawn says whether bytes are a picture within the bounds.
func drawn(picture []byte) bool {
	c, err := png.DecodeConfig(bytes.NewReader(picture))
	if err != nil || len(picture) > MaxSignature || c.Width > maxWide || c.Height > maxHigh {
		return false
	}
	_, err = png.Decode(bytes.NewReader(picture))
	return err == nil
}

// Signature gives the picture that was attached to a transaction.
func (t *Terminal) Signature(stan uint32) ([]byte, bool) {
	f := t.journal.by[noteKey(markEntry, t.book.batch, stan, -1)]
	if f == nil || f.signature == nil {
		return nil, false
	}
	picture := bytes.Join(f.pieces, nil)
	sum := sha256.Sum256(picture)
	return picture, subtle.ConstantTimeCompare(sum[:], f.signature) == 1
}

// netSignature is the code of a signature, kind 07 (section 12 of the protocol).
const netSignature = "800"

// sendSignatures sends the signatures that the host has not got. A host that
// does not take them (40) does not hold the settlement up: they stay here until
// the batch is forgotten.
func (t *Terminal) sendSignatures() error {
	for _, e := range t.journal.list {
		f := t.journal.by[e.key()]
		if f.signature == nil || f.uploaded {
			continue
		}
		for i, piece := range f.pieces {
			stan, err := t.book.stan()
			if err != nil {
				return err
			}
			m := t.message("0920", stan, false)
			if v := e.Get(37); v != "" {
				m.SetText(37, v)
			}
			m.SetText(60, fmt.Sprintf("07%06d%s", e.Batch, netSignature))
			m.SetText(61, Original{Batch: e.Batch, STAN: e.STAN}.String())
			head := fmt.Sprintf("%02d%02d", len(f.pieces), i+1)
			m.Set(62, slices.Concat([]byte(head), f.signature, piece))
			a, err := t.exchange(m, true)
			if err != nil {
				return err
			}
			switch code := a.Text(39); {
			case heldBack(code):
				return fmt.Errorf("%w: signature, %s", ErrRefused, code)
			case !Approves(code):
				return nil
			}
		}
		if err := t.journal.note(note{mark: markSignature, batch: e.Batch, stan: e.STAN, piece: -1}); err != nil {
			return err
		}
	}
	return nil
}

// TotalsSlip is what the terminal prints at a settlement.
func (t *Terminal) TotalsSlip(s Settlement, zh bool) []string {
	say := func(en, cn string, args ...any) string { return fmt.Sprintf(terminal.Words{en, cn}.In(zh), args...) }
	lines := []string{say("settlement of batch %06d", "批次 %06d 结算", s.Batch)}
	for _, x := range []struct {
		en, cn string
		n      uint32
		fen    uint64
	}{
		{"debits", "借记", s.Totals.Debits, s.Totals.DebitFen}, {"credits", "贷记", s.Totals.Credits, s.Totals.CreditFen},
		{"foreign debits", "外卡借记", s.Totals.ForeignDebits, s.Totals.ForeignDebitFen}, {"foreign credits", "外卡贷记", s.Totals.ForeignCredits, s.Totals.ForeignCreditFen},
	} {
		lines = append(lines, say(x.en, x.cn)+fmt.Sprintf(" %d  %s", x.n, yuan(x.fen)))
	}
	lines = append(lines, say("net %s yuan", "净额 %s 元", money.Fen(s.Totals.Net()).Yuan()))
	if s.Balanced {
		return append(lines, say("balanced with the host", "对账平"))
	}
	return append(lines, say("not balanced: %d items sent", "对账不平，已上送 %d 笔", s.Items))
}
