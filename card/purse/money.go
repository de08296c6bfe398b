package purse

import (
	"koala/card"
	"koala/spec/iso7816"
	"koala/spec/purse"
)

// cacheSize bounds what UPDATE CAPP DATA CACHE may hold before one DEBIT, in
// bytes; cacheCount bounds the number of records.
const (
	cacheSize  = 512
	cacheCount = 4
)

// An operation is what INITIALIZE has armed: exactly one load or purchase, with
// the card's random, to be ended by its own next command.
type operation struct {
	kind    purse.Type // 0: nothing armed
	purse   purse.Purse
	key     keyAt
	fen     uint32
	term    purse.Terminal
	rnd     [4]byte
	load    *purse.Session
	records []cached
	cached  int // bytes in records
}

// A cached record goes into its file with the debit: slot of a linear file, or
// a new record of the cyclic trip file when slot is 0.
type cached struct {
	file linear
	slot int
	data []byte
}

// survives tells whether a command leaves the operation armed before it is
// even looked at: reads, and the operation's own next commands.
func (o *operation) survives(c iso7816.Command) bool {
	switch {
	case c.CLA == 0x80:
		switch c.INS {
		case purse.InsCredit, purse.InsDebit, purse.InsUpdateCAPP, purse.InsBalance:
			return true
		}
	case c.CLA == 0x00:
		return c.INS == iso7816.InsReadBinary || c.INS == iso7816.InsReadRecord
	}
	return false
}

func (a *applet) initialize(s *card.Session, c iso7816.Command) iso7816.Response {
	if x, err := purse.ParseInitPurchase(c); err == nil {
		return a.initPurchase(s, x)
	}
	x, err := purse.ParseInitLoad(c)
	if err != nil {
		return malformed(err)
	}
	if x.Unload {
		return fails(iso7816.SWP1P2)
	}
	return a.initLoad(s, x)
}

// initPurchase arms a purchase. Nothing is written: readers use it as a probe.
func (a *applet) initPurchase(s *card.Session, x purse.InitPurchase) iso7816.Response {
	if x.Purse != purse.ED && x.Purse != purse.EP || x.CAPP && x.Purse != purse.EP {
		return fails(iso7816.SWP1P2)
	}
	k := a.key(purse.DPK, x.Key)
	w := a.side(x.Purse)
	switch {
	case k == 0 || a.firstKey(purse.DTK) == 0:
		return fails(iso7816.SWPurseKey)
	case a.locked(k):
		return fails(iso7816.SWBlocked)
	case w.offline == 0xFFFF:
		return fails(iso7816.SWPurseSequence)
	case x.Fen > w.have:
		return fails(iso7816.SWPurseMoney)
	}
	a.op = operation{kind: x.Type(), purse: x.Purse, key: k, fen: x.Fen, term: x.Terminal}
	s.Random(a.op.rnd[:])
	version, alg := a.version(k)
	return answer(purse.InitPurchaseAnswer{
		Balance: w.have, Seq: w.offline, Overdraft: w.limit, KeyVersion: version, Alg: alg, Rnd: a.op.rnd,
	}.Bytes())
}

// initLoad arms a load and proves the balance to the host.
func (a *applet) initLoad(s *card.Session, x purse.InitLoad) iso7816.Response {
	if x.Purse != purse.ED && x.Purse != purse.EP {
		return fails(iso7816.SWP1P2)
	}
	k := a.key(purse.DLK, x.Key)
	w := a.side(x.Purse)
	switch {
	case !a.pinShown(x.Purse):
		return fails(iso7816.SWSecurity)
	case k == 0 || a.firstKey(purse.DTK) == 0:
		return fails(iso7816.SWPurseKey)
	case a.locked(k):
		return fails(iso7816.SWBlocked)
	case w.online == 0xFFFF:
		return fails(iso7816.SWPurseSequence)
	case !a.room(w, x.Fen):
		return fails(iso7816.SWData)
	}
	a.op = operation{kind: x.Type(), purse: x.Purse, key: k, fen: x.Fen, term: x.Terminal}
	s.Random(a.op.rnd[:])
	a.op.load = purse.NewSession(purse.LoadSession(a.value(k), a.op.rnd, w.online))
	version, alg := a.version(k)
	return answer(purse.InitLoadAnswer{
		Balance: w.have, Seq: w.online, KeyVersion: version, Alg: alg, Rnd: a.op.rnd,
		MAC1: a.op.load.LoadMAC1(w.have, x.Fen, a.op.kind, x.Terminal),
	}.Bytes())
}

// room tells whether a load of fen stays within the balance limit. The sum is
// done in 64 bits: a host may ask for any amount.
func (a *applet) room(w side, fen uint32) bool {
	return uint64(w.have)+uint64(fen) <= uint64(a.cells.Uint32(atMax))+uint64(w.limit)
}

// credit ends a load: MAC2 is the host's order to pay.
func (a *applet) credit(c iso7816.Command) iso7816.Response {
	op := a.op
	a.op = operation{}
	x, err := purse.ParseCreditCommand(c)
	switch {
	case op.kind != purse.LoadED && op.kind != purse.LoadEP:
		return fails(iso7816.SWConditions)
	case err != nil:
		return malformed(err)
	case !purse.Equal(x.MAC2, op.load.LoadMAC2(op.fen, op.kind, op.term, x.Stamp)):
		a.wrong(op.key)
		return fails(iso7816.SWPurseMAC)
	}
	w := a.side(op.purse)
	seq := w.online
	w.have += op.fen
	w.online++
	tac := a.tacKey().LoadTAC(w.have, seq, op.fen, op.kind, op.term, x.Stamp)
	a.right(op.key)
	a.setSide(op.purse, w)
	a.keepProof(op.kind, w.online, purse.ProveAnswer{TAC: tac})
	a.log(op, seq, w, x.Stamp)
	return answer(purse.CreditAnswer{TAC: tac}.Bytes())
}

// debit ends a purchase: MAC1 is the PSAM's order to pay. A compound purchase
// needs at least one cached record.
func (a *applet) debit(c iso7816.Command) iso7816.Response {
	op := a.op
	a.op = operation{}
	x, err := purse.ParseDebitCommand(c)
	switch {
	case op.kind != purse.PurchaseED && op.kind != purse.PurchaseEP && op.kind != purse.CAPP,
		op.kind == purse.CAPP && len(op.records) == 0:
		return fails(iso7816.SWConditions)
	case err != nil:
		return malformed(err)
	}
	w := a.side(op.purse)
	key := purse.PurchaseSession(a.value(op.key), op.rnd, w.offline, x.TSeq)
	session := purse.NewSession(key)
	if !purse.Equal(x.MAC1, session.PurchaseMAC1(op.fen, op.kind, op.term, x.Stamp)) {
		a.wrong(op.key)
		return fails(iso7816.SWPurseMAC)
	}
	if op.fen > w.have {
		return fails(iso7816.SWPurseMoney)
	}
	seq := w.offline
	w.have -= op.fen
	w.offline++
	out := purse.DebitAnswer{
		TAC:  a.tacKey().PurchaseTAC(op.fen, op.kind, op.term, x.TSeq, x.Stamp),
		MAC2: session.PurchaseMAC2(op.fen),
	}
	a.right(op.key)
	a.setSide(op.purse, w)
	a.keepProof(op.kind, w.offline, purse.ProveAnswer{MAC2: out.MAC2, TAC: out.TAC})
	a.log(op, seq, w, x.Stamp)
	for _, r := range op.records {
		if r.slot == 0 {
			tripFile.add(a.cells, r.data)
		} else {
			r.file.write(a.cells, r.slot, r.data)
		}
	}
	return answer(out.Bytes())
}

func (a *applet) tacKey() *purse.Session {
	return purse.NewSession(purse.TACKey(a.value(a.firstKey(purse.DTK))))
}

// log writes file 18; the record carries the sequence before the increment.
func (a *applet) log(op operation, seq uint16, w side, at purse.Stamp) {
	logFile.add(a.cells, purse.Log{
		Seq: seq, Overdraft: w.limit, Fen: op.fen, Type: op.kind, Terminal: op.term, Stamp: at,
	}.Bytes())
}

// updateCache is UPDATE CAPP DATA CACHE: the record waits for DEBIT. A record
// of file 19 or 1A must exist and keep its length; a trip record is added.
// A command it refuses disarms the purchase.
func (a *applet) updateCache(c iso7816.Command) iso7816.Response {
	if a.op.kind != purse.CAPP {
		a.op = operation{}
		return fails(iso7816.SWConditions)
	}
	x, err := purse.ParseUpdateCAPP(c)
	sw := iso7816.SWP1P2
	if err == nil {
		sw = a.cache(x)
	}
	if sw != iso7816.OK {
		a.op = operation{}
	}
	return fails(sw)
}

func (a *applet) cache(x purse.UpdateCAPP) iso7816.SW {
	var r cached
	size := 0
	switch x.SFI {
	case purse.SFITrip:
		size = purse.TripLen
		if x.ID > 1 {
			return iso7816.SWRecordNotFound
		}
	case purse.SFITransit, purse.SFILocal:
		r.file = transitFile
		if x.SFI == purse.SFILocal {
			r.file = localFile
		}
		if r.slot = int(x.ID); !x.ByNumber {
			r.slot = r.file.find(a.cells, x.ID)
		}
		old := r.file.record(a.cells, r.slot)
		if len(old) == 0 {
			return iso7816.SWRecordNotFound
		}
		if size = len(old); x.Record[0] != old[0] {
			return iso7816.SWData
		}
	default:
		return a.noRecords(x.SFI)
	}
	switch {
	case len(x.Record) != size:
		return iso7816.SWLength
	case len(a.op.records) == cacheCount || a.op.cached+size > cacheSize:
		return iso7816.SWMemory
	}
	r.data = append(make([]byte, 0, size), x.Record...)
	a.op.records = append(a.op.records, r)
	a.op.cached += size
	return iso7816.OK
}

// prove is GET TRANSACTION PROVE. The sequence may be the one the transaction
// carried or the one that came of it: the PBOC text names the first, gates send
// the second, which INITIALIZE returns after the lost answer (as in the ETC
// trace of the tests). One proof per type is kept, so both mean the last one.
func (a *applet) prove(c iso7816.Command) iso7816.Response {
	x, err := purse.ParseProve(c)
	if err != nil {
		return malformed(err)
	}
	at, ok := proofAt(x.Type)
	if !ok {
		return fails(iso7816.SWPurseProve)
	}
	after := a.cells.Uint16(at)
	if after == 0 || x.Seq != after && x.Seq != after-1 {
		return fails(iso7816.SWPurseProve)
	}
	b := a.cells.Bytes()[at:]
	return answer(purse.ProveAnswer{MAC2: [4]byte(b[2:6]), TAC: [4]byte(b[6:10])}.Bytes())
}

// balance is GET BALANCE.
func (a *applet) balance(c iso7816.Command) iso7816.Response {
	x, err := purse.ParseGetBalance(c)
	if err != nil {
		return malformed(err)
	}
	if x.Purse != purse.ED && x.Purse != purse.EP {
		return fails(iso7816.SWP1P2)
	}
	w := a.side(x.Purse)
	fen := w.have
	switch x.Part {
	case purse.BalanceLimit:
		fen = w.limit
	case purse.BalanceOverdrawn:
		fen = w.used()
	case purse.BalanceOwn:
		fen = w.own()
	}
	return answer(purse.BalanceBytes(fen))
}
