package qpboc

import (
	"encoding/binary"

	"koala/card"
	"koala/spec/emv"
	"koala/spec/iso7816"
	"koala/spec/pboc"
	"koala/spec/tlv"
)

// An ecash is one of the two e-cash balances by the tags of its objects.
type ecash struct{ currency, balance, most, single, reset, cvm tlv.Tag }

var (
	firstECash = &ecash{emv.TagECCurrency, emv.TagECBalance, emv.TagECBalanceLimit, emv.TagECAmountLimit, emv.TagECReset, emv.TagCardCVMLimit}
	// The second has no transit extension and no cumulative total.
	secondECash = &ecash{pboc.TagCurrency2, pboc.TagBalance2, pboc.TagBalanceLimit2, pboc.TagSingleLimit2, pboc.TagResetThreshold2, pboc.TagCVMLimit2}
)

// A balances is what an approval changes, fen.
type balances struct {
	e      *ecash
	have   uint64 // 9F79, DF79
	offset uint64 // DF63: what the holder owes of segment fares
	limit  uint64 // DF62
	total  uint64 // cumulative total of offline transactions
}

func (a *applet) balances(e *ecash) balances {
	b := balances{e: e, total: a.amount(atTotal)}
	b.have, _ = a.fen(e.balance)
	if e == firstECash {
		b.offset, _ = a.fen(emv.TagOffsetUsed)
		b.limit, _ = a.fen(emv.TagOffsetLimit)
	}
	return b
}

// keep writes what differs from the memory.
func (a *applet) keep(b balances) {
	now := a.balances(b.e)
	if now.have != b.have {
		a.setFen(b.e.balance, b.have)
	}
	if now.offset != b.offset {
		a.setFen(emv.TagOffsetUsed, b.offset)
	}
	if now.total != b.total {
		a.setAmount(atTotal, b.total)
	}
}

// usable is what a transaction of the mode may cost: a segment fare may leave the
// holder owing up to the offset limit, a completion has its hold beside the balance.
func (b balances) usable(mode pboc.Mode, held uint64) uint64 {
	switch mode {
	case pboc.ModeFare:
		return b.have + b.limit - min(b.offset, b.limit)
	case pboc.ModeComplete:
		return b.have + held
	}
	return b.have
}

// A charge is the money of one approval.
type charge struct {
	mode     pboc.Mode
	amount   uint64
	held     uint64 // what the pre-authorisation to be completed has set aside
	fromCash bool
	toTotal  bool
	abroad   bool
}

// after is the balances once the charge is done. The caller has checked that they
// suffice; a total without limit stays at the end of n12.
func (b balances) after(c charge) balances {
	if c.toTotal {
		b.total = min(b.total+c.amount, pboc.MaxFen)
	}
	switch {
	case !c.fromCash:
	case c.mode == pboc.ModeComplete:
		b.have += c.held - c.amount
	case c.mode == pboc.ModeFare && b.have < c.amount:
		b.offset += c.amount - b.have
		b.have = 0
	default:
		b.have -= c.amount
	}
	return b
}

// totalLimit is the bound of the cumulative total: 9F5C, or 9F54 without it.
func (a *applet) totalLimit() uint64 {
	if fen, ok := a.fen(emv.TagCTTAUpper); ok && fen > 0 {
		return fen
	}
	fen, _ := a.fen(emv.TagCTTALimit)
	return fen
}

// available is 9F5D: what can be spent offline (CARD 1.4, step 5).
func (a *applet) available(b balances) uint64 {
	limit := a.totalLimit()
	room := limit - min(b.total, limit)
	switch p := a.processing(); {
	case p.Has(pboc.ProcECashAndTotal):
		return min(b.have, room)
	case p.Has(pboc.ProcECashOrTotal):
		return min(b.have+room, pboc.MaxFen)
	case p.Has(pboc.ProcECash):
		return b.have
	}
	return 0
}

// report fills in the amounts that the issuer application data carry.
func (a *applet) report(id pboc.ReportID, b balances) (out [2]uint64) {
	limit, _ := a.fen(emv.TagCTTALimit)
	switch id {
	case pboc.ReportBalance:
		out[0] = b.have
	case pboc.ReportTotal:
		out[0] = b.total
	case pboc.ReportBalanceTotal:
		out = [2]uint64{b.have, b.total}
	case pboc.ReportTotalAndLimit:
		out = [2]uint64{b.total, limit}
	case pboc.ReportAvailable:
		out[0] = a.available(b)
	}
	return out
}

// load is PUT DATA of a balance (CARD 1.11): what the holder owes of segment fares
// is paid first. Money set aside counts against the limit, so that it can come
// back. Balance, offset and load log are one unit with the script's own state.
func (a *applet) load(s *card.Session, e *ecash, fen uint64) iso7816.SW {
	b := a.balances(e)
	most, _ := a.fen(e.most)
	old := b.have
	switch {
	case b.offset == 0:
		b.have = fen
	case fen > b.offset:
		b.have, b.offset = fen-b.offset, 0
	default:
		b.have, b.offset = 0, b.offset-fen
	}
	aside := uint64(0)
	if e == firstECash {
		aside = a.held()
	}
	if b.have+aside > most {
		return iso7816.SWData
	}
	a.keep(b)
	a.logLoad(s, e, old, b.have)
	return iso7816.OK
}

// logLoad writes the load log: tag 2 | old 6 | new 6 | the objects of DF4F.
func (a *applet) logLoad(s *card.Session, e *ecash, before, after uint64) {
	older, newer := pboc.Amount(before), pboc.Amount(after)
	rec := binary.BigEndian.AppendUint16(nil, uint16(e.balance))
	rec = append(append(rec, older[:]...), newer[:]...)
	loadLog.add(a, s, a.listed(rec, emv.TagLoadLogFormat))
}

// logTransaction writes the transaction log in the format of 9F4F.
func (a *applet) logTransaction(s *card.Session) {
	if rec := a.listed(nil, emv.TagLogFormat); len(rec) > 0 {
		transactionLog.add(a, s, rec)
	}
}

// listed appends the objects of a log format: the card's own, and what the terminal
// sent in this transaction.
func (a *applet) listed(dst []byte, format tlv.Tag) []byte {
	list, err := emv.ParseDOL(a.object(format))
	if err != nil {
		return dst
	}
	return list.Append(dst, func(tag tlv.Tag) []byte {
		if tag == emv.TagATC {
			return a.cells.Bytes()[atATC : atATC+2]
		}
		v, _ := a.tx.terminal(tag)
		return v
	})
}
