package qpboc

import (
	"koala/spec/emv"
	"koala/spec/pboc"
)

// A question is everything card risk management looks at on the contactless path
// (CARD 1.4).
type question struct {
	ttq     emv.TTQ
	cpp     pboc.Processing
	amount  uint64
	foreign bool // the currency is neither the card's nor that of its second e-cash

	newCard, noTries bool
	vouched          bool   // the device around the element has verified its wearer
	cvmLimit         uint64 // 9F6B or DF72

	usable, single, reset uint64 // e-cash: balance with offset or hold, 9F78, 9F6D
	prepaid               uint64 // what an online request can take at once: the balance
	total, totalLimit     uint64 // cumulative total and 9F5C, else 9F54

	foreignCount, foreignLimit byte
}

// A verdict is what the card will do.
type verdict struct {
	refuse   bool // status word 6985 instead of an answer
	decision pboc.Cryptogram
	cvr      pboc.CVR
	ctq      emv.CTQ
	fromCash bool // the amount goes from the e-cash
	toTotal  bool // the amount goes to the cumulative total
	abroad   bool // counts as a transaction in another currency
}

// decide is card risk management in the order of CARD 1.4. A decision to go online
// at a reader that cannot is a decline.
func decide(q question) verdict {
	v := verdict{decision: pboc.TC}
	if q.ttq.Has(emv.TTQOfflineOnly) {
		q.offlineOnly(&v)
	} else {
		q.onlineCapable(&v)
	}
	if v.decision == pboc.TC && !v.refuse {
		if q.foreign {
			q.foreignMoney(&v)
		} else {
			q.money(&v)
		}
	}
	if v.decision == pboc.ARQC && q.ttq.Has(emv.TTQOfflineOnly) {
		v.decision = pboc.AAC
	}
	if v.decision == pboc.ARQC && !v.refuse {
		q.online(&v)
	}
	if v.decision == pboc.AAC {
		v.ctq = emv.CTQ{}
	}
	return v
}

// needsCVM tells whether the cardholder must be verified.
func (q question) needsCVM() bool {
	switch {
	case q.ttq.Has(emv.TTQCVM):
		return true
	case q.foreign:
		return q.cpp.Has(pboc.ProcForeignCVM)
	}
	return q.amount > q.cvmLimit
}

// onDevice lets the device's own verification count, where the reader asks for
// it (EMV Contactless C-3, TTQ byte 3 bit 7 and CTQ byte 2 bit 8).
func (q question) onDevice(v *verdict) bool {
	if !q.vouched || !q.ttq.Has(emv.TTQOnDevice) {
		return false
	}
	v.ctq.Set(emv.CTQOnDevice)
	return true
}

// sign verifies by signature, or refuses when one of the two cannot.
func (q question) sign(v *verdict) {
	if !q.ttq.Has(emv.TTQSignature) || !q.cpp.Has(pboc.ProcSignature) {
		v.refuse = true
		return
	}
	v.ctq.Set(emv.CTQSignature)
}

func (q question) offlineOnly(v *verdict) {
	switch {
	case q.foreign && q.cpp.Has(pboc.ProcNoForeign):
		v.decision = pboc.AAC
	case q.newCard && q.cpp.Has(pboc.ProcNewCardDecline):
		v.cvr |= pboc.CVRNewCard
		v.decision = pboc.AAC
	case q.noTries && q.cpp.Has(pboc.ProcPINTries):
		v.cvr |= pboc.CVRPINLimit
		v.decision = pboc.AAC
	default:
		if q.needsCVM() && !q.onDevice(v) {
			q.sign(v)
		}
		q.toOnline(v)
	}
}

func (q question) onlineCapable(v *verdict) {
	if q.foreign && q.cpp.Has(pboc.ProcNoForeign) {
		v.decision = pboc.AAC
		return
	}
	if q.needsCVM() && !q.onDevice(v) {
		pin := pboc.ProcOnlinePIN
		if q.foreign {
			pin = pboc.ProcForeignPIN
		}
		if q.ttq.Has(emv.TTQOnlinePIN) && q.cpp.Has(pin) {
			v.ctq.Set(emv.CTQOnlinePIN)
			v.decision = pboc.ARQC
			return
		}
		q.sign(v)
	}
	q.toOnline(v)
}

// toOnline are the reasons to ask the issuer that have nothing to do with money.
func (q question) toOnline(v *verdict) {
	switch {
	case q.ttq.Has(emv.TTQOnline), q.foreign && !q.cpp.Has(pboc.ProcForeignOffline):
		v.decision = pboc.ARQC
	case q.newCard && q.cpp.Has(pboc.ProcNewCard):
		v.cvr |= pboc.CVRNewCard
		v.decision = pboc.ARQC
	case q.noTries && q.cpp.Has(pboc.ProcPINTries):
		v.cvr |= pboc.CVRPINLimit
		v.decision = pboc.ARQC
	}
}

// cashSuffices is the e-cash check: a reader that can go online keeps the reset
// threshold free, so that the card asks for a load in time.
func (q question) cashSuffices() bool {
	if q.ttq.Has(emv.TTQOfflineOnly) {
		return q.amount <= q.usable && q.amount <= q.single
	}
	return q.amount <= q.single && q.amount+q.reset <= q.usable
}

func (q question) totalSuffices() bool { return q.total+q.amount <= q.totalLimit }

// money decides in a currency of the card.
func (q question) money(v *verdict) {
	cash, total := q.cashSuffices(), q.totalSuffices()
	switch {
	case q.cpp.Has(pboc.ProcECashAndTotal):
		v.fromCash, v.toTotal = cash && total, cash && total
	case q.cpp.Has(pboc.ProcECashOrTotal):
		v.fromCash, v.toTotal = cash, !cash && total
	case q.cpp.Has(pboc.ProcECash):
		v.fromCash = cash
	default:
		v.decision = pboc.ARQC
		return
	}
	if !v.fromCash && !v.toTotal {
		v.cvr |= pboc.CVRVelocity
		v.decision = pboc.ARQC
	}
}

// foreignMoney counts transactions in other currencies.
func (q question) foreignMoney(v *verdict) {
	if q.foreignCount >= q.foreignLimit {
		v.cvr |= pboc.CVRVelocity
		v.decision = pboc.ARQC
		return
	}
	v.abroad = true
}

// online is what an online request costs: the other interface, or with a prepaid
// card the money at once.
func (q question) online(v *verdict) {
	if q.cpp.Has(pboc.ProcPreferContact) && q.ttq.Has(emv.TTQContact) {
		v.refuse = true
		return
	}
	if !q.cpp.Has(pboc.ProcPrepaid) || q.foreign {
		return
	}
	if q.amount == 0 || q.amount > q.prepaid {
		v.decision = pboc.AAC
		return
	}
	v.fromCash = true
}
