package qpboc

import (
	"testing"

	"koala/spec/emv"
	"koala/spec/pboc"
	"pgregory.net/rapid"
)

const full = pboc.ProcECash | pboc.ProcSignature | pboc.ProcOnlinePIN

// Card risk management, one line a rule, in the order of CARD 1.4.
func TestRiskManagement(t *testing.T) {
	const (
		online   = "26000000" // online PIN, signature
		bare     = "20000000" // neither
		offline  = "2A000000" // offline-only, signature
		offBare  = "28000000"
		onlyPIN  = "24000000"
		needAC   = "26800000"
		needCVM  = "26400000"
		contact  = "36000000"
		offlnCVM = "2A400000"
	)
	cash := question{amount: 10, usable: 100, single: 50, cvmLimit: 30, prepaid: 100}
	with := func(q question, change func(*question)) question { change(&q); return q }
	foreign := with(cash, func(q *question) { q.foreign, q.foreignLimit = true, 2 })
	for _, tt := range []struct {
		name string
		ttq  string
		cpp  pboc.Processing
		q    question
		want verdict
	}{
		{"approved", online, full, cash, verdict{decision: pboc.TC, fromCash: true}},
		{"2 new card, offline-only", offline, full | pboc.ProcNewCardDecline, with(cash, func(q *question) { q.newCard = true }), verdict{decision: pboc.AAC, cvr: pboc.CVRNewCard}},
		{"2 new card, online-capable", online, full | pboc.ProcNewCardDecline, with(cash, func(q *question) { q.newCard = true }), verdict{decision: pboc.TC, fromCash: true}},
		{"2 PIN tries, offline-only", offline, full | pboc.ProcPINTries, with(cash, func(q *question) { q.noTries = true }), verdict{decision: pboc.AAC, cvr: pboc.CVRPINLimit}},
		{"2 CVM, signature", offlnCVM, full, cash, verdict{decision: pboc.TC, fromCash: true, ctq: emv.CTQ{0x40}}},
		{"2 CVM, card cannot sign", offlnCVM, pboc.ProcECash, cash, verdict{refuse: true, decision: pboc.TC}},
		{"2 CVM over the limit, reader cannot", offBare, full, with(cash, func(q *question) { q.amount = 31 }), verdict{refuse: true, decision: pboc.TC}},
		{"3 CVM wanted, online PIN", needCVM, full, cash, verdict{decision: pboc.ARQC, ctq: emv.CTQ{0x80}}},
		{"3 CVM over the limit, online PIN", onlyPIN, full, with(cash, func(q *question) { q.amount = 31 }), verdict{decision: pboc.ARQC, ctq: emv.CTQ{0x80}}},
		{"3 at the limit", online, full, with(cash, func(q *question) { q.amount = 30 }), verdict{decision: pboc.TC, fromCash: true}},
		{"3 no online PIN on the card, signature", needCVM, pboc.ProcECash | pboc.ProcSignature, cash, verdict{decision: pboc.TC, fromCash: true, ctq: emv.CTQ{0x40}}},
		{"3 neither", "20400000", full, cash, verdict{refuse: true, decision: pboc.TC}},
		{"3 other currency needs CVM", online, full | pboc.ProcForeignCVM | pboc.ProcForeignPIN, foreign, verdict{decision: pboc.ARQC, ctq: emv.CTQ{0x80}}},
		{"3 other currency, PIN for ours only", online, full | pboc.ProcForeignCVM | pboc.ProcForeignOffline, foreign, verdict{decision: pboc.TC, abroad: true, ctq: emv.CTQ{0x40}}},
		{"3 verified on the wrist", "26004000", full, with(cash, func(q *question) { q.amount, q.vouched = 31, true }), verdict{decision: pboc.TC, fromCash: true, ctq: emv.CTQ{0, 0x80}}},
		{"3 verified on the wrist, reader does not ask", online, full, with(cash, func(q *question) { q.amount, q.vouched = 31, true }), verdict{decision: pboc.ARQC, ctq: emv.CTQ{0x80}}},
		{"2 verified on the wrist, offline-only", "28404000", full, with(cash, func(q *question) { q.vouched = true }), verdict{decision: pboc.TC, fromCash: true, ctq: emv.CTQ{0, 0x80}}},
		{"3 verified on the wrist, not needed", "26004000", full, with(cash, func(q *question) { q.vouched = true }), verdict{decision: pboc.TC, fromCash: true}},
		{"4 cryptogram required", needAC, full, cash, verdict{decision: pboc.ARQC}},
		{"4 other currency", online, full, foreign, verdict{decision: pboc.ARQC}},
		{"4 other currency, offline-only", offline, full, foreign, verdict{decision: pboc.AAC}},
		{"4 new card", online, full | pboc.ProcNewCard, with(cash, func(q *question) { q.newCard = true }), verdict{decision: pboc.ARQC, cvr: pboc.CVRNewCard}},
		{"4 PIN tries", online, full | pboc.ProcPINTries, with(cash, func(q *question) { q.noTries = true }), verdict{decision: pboc.ARQC, cvr: pboc.CVRPINLimit}},
		{"4 PIN tries, not looked at", online, full, with(cash, func(q *question) { q.noTries = true }), verdict{decision: pboc.TC, fromCash: true}},
		{"5 single limit", bare, full, with(cash, func(q *question) { q.amount, q.cvmLimit = 51, 1000 }), verdict{decision: pboc.ARQC, cvr: pboc.CVRVelocity}},
		{"5 single limit, offline-only", offBare, full, with(cash, func(q *question) { q.amount, q.cvmLimit = 51, 1000 }), verdict{decision: pboc.AAC, cvr: pboc.CVRVelocity}},
		{"5 balance", bare, full, with(cash, func(q *question) { q.usable = 9 }), verdict{decision: pboc.ARQC, cvr: pboc.CVRVelocity}},
		{"5 reset threshold", bare, full, with(cash, func(q *question) { q.reset = 91 }), verdict{decision: pboc.ARQC, cvr: pboc.CVRVelocity}},
		{"5 reset threshold, offline-only", offBare, full, with(cash, func(q *question) { q.reset = 91 }), verdict{decision: pboc.TC, fromCash: true}},
		{"5 all of it", bare, full, with(cash, func(q *question) { q.amount, q.usable = 10, 10 }), verdict{decision: pboc.TC, fromCash: true}},
		{"5 and, both", bare, pboc.ProcECashAndTotal, with(cash, func(q *question) { q.total, q.totalLimit = 90, 100 }), verdict{decision: pboc.TC, fromCash: true, toTotal: true}},
		{"5 and, total spent", bare, pboc.ProcECashAndTotal, with(cash, func(q *question) { q.total, q.totalLimit = 91, 100 }), verdict{decision: pboc.ARQC, cvr: pboc.CVRVelocity}},
		{"5 or, cash first", bare, pboc.ProcECashOrTotal, with(cash, func(q *question) { q.totalLimit = 100 }), verdict{decision: pboc.TC, fromCash: true}},
		{"5 or, total", bare, pboc.ProcECashOrTotal, with(cash, func(q *question) { q.usable, q.totalLimit = 0, 100 }), verdict{decision: pboc.TC, toTotal: true}},
		{"5 or, neither", bare, pboc.ProcECashOrTotal, with(cash, func(q *question) { q.usable = 0 }), verdict{decision: pboc.ARQC, cvr: pboc.CVRVelocity}},
		{"5 none enabled", bare, pboc.ProcSignature, cash, verdict{decision: pboc.ARQC}},
		{"5 none enabled, offline-only", offBare, pboc.ProcSignature, cash, verdict{decision: pboc.AAC}},
		{"6 abroad", online, full | pboc.ProcForeignOffline, with(foreign, func(q *question) { q.foreignCount = 1 }), verdict{decision: pboc.TC, abroad: true}},
		{"6 abroad too often", online, full | pboc.ProcForeignOffline, with(foreign, func(q *question) { q.foreignCount = 2 }), verdict{decision: pboc.ARQC, cvr: pboc.CVRVelocity}},
		{"6 abroad too often, offline-only", offline, full | pboc.ProcForeignOffline, with(foreign, func(q *question) { q.foreignCount = 2 }), verdict{decision: pboc.AAC, cvr: pboc.CVRVelocity}},
		{"no other currencies", online, full | pboc.ProcNoForeign, foreign, verdict{decision: pboc.AAC}},
		{"7 contact preferred", "36800000", full | pboc.ProcPreferContact, cash, verdict{refuse: true, decision: pboc.ARQC}},
		{"7 contact preferred, none there", needAC, full | pboc.ProcPreferContact, cash, verdict{decision: pboc.ARQC}},
		{"7 contact preferred, offline anyway", contact, full | pboc.ProcPreferContact, cash, verdict{decision: pboc.TC, fromCash: true}},
		{"7 prepaid", needAC, full | pboc.ProcPrepaid, cash, verdict{decision: pboc.ARQC, fromCash: true}},
		{"7 prepaid, nothing", needAC, full | pboc.ProcPrepaid, with(cash, func(q *question) { q.amount = 0 }), verdict{decision: pboc.AAC}},
		{"7 prepaid, not enough", needAC, full | pboc.ProcPrepaid, with(cash, func(q *question) { q.prepaid = 9 }), verdict{decision: pboc.AAC}},
	} {
		q := tt.q
		q.ttq, q.cpp = emv.TTQ(unhex(tt.ttq)), tt.cpp
		if got := decide(q); got != tt.want {
			t.Errorf("%s: %+v, want %+v", tt.name, got, tt.want)
		}
	}
}

// Whatever the card is asked, it never approves more than it has, never goes online
// at a reader that cannot, and charges nothing for a decline.
func TestRiskNeverOverspends(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		fen := rapid.Uint64Range(0, 200)
		q := question{ttq: emv.TTQ(rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, "ttq")), cpp: pboc.Processing(rapid.Uint32().Draw(t, "cpp")),
			amount: fen.Draw(t, "amount"), foreign: rapid.Bool().Draw(t, "foreign"), newCard: rapid.Bool().Draw(t, "new"), noTries: rapid.Bool().Draw(t, "tries"),
			cvmLimit: fen.Draw(t, "cvm"), usable: fen.Draw(t, "usable"), single: fen.Draw(t, "single"), reset: fen.Draw(t, "reset"),
			total: fen.Draw(t, "total"), totalLimit: fen.Draw(t, "limit"), foreignCount: rapid.Byte().Draw(t, "count"), foreignLimit: rapid.Byte().Draw(t, "most")}
		q.prepaid = q.usable
		v := decide(q)
		switch {
		case v.fromCash && q.amount > q.usable, v.toTotal && q.total+q.amount > q.totalLimit,
			v.decision == pboc.AAC && (v.fromCash || v.toTotal || v.abroad),
			v.decision == pboc.ARQC && q.ttq.Has(emv.TTQOfflineOnly),
			v.decision == pboc.TC && !v.refuse && !v.fromCash && !v.toTotal && !v.abroad,
			v.abroad && !q.foreign:
			t.Fatalf("%+v: %+v", q, v)
		}
	})
}
