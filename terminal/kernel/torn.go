package kernel

import (
	"bytes"
	"encoding/binary"

	"koala/spec/emv"
	"koala/spec/iso7816"
	"koala/spec/tlv"
	"koala/terminal"
)

// maxLog bounds the log records looked at; a cyclic file has no more.
const maxLog = 30

// recognise finds the card's number, and what is still open with that card.
func (r *run) recognise() error {
	if err := r.identify(); err != nil {
		return err
	}
	return r.doubt()
}

// doubt looks for a transaction of this card whose end the device does not
// know, before this one can commit: the card left while the last record was
// read. What the card's log says is the end of it (CARD.md 5.1). Then this
// transaction begins anew, or is over because the customer came back for the
// one before.
func (r *run) doubt() error {
	if r.again || r.seam.Doubt == nil || r.seam.Settle == nil || r.out.PAN == "" {
		return nil
	}
	d, ok := r.seam.Doubt(r.out.PAN, r.out.PSN)
	if !ok {
		return nil
	}
	r.again = true
	aid := r.icc[emv.TagDFName]
	if err := r.open(aid); err != nil { // ends the transaction that has begun: nothing of it is kept
		return err
	}
	found, err := r.inLog(d)
	if err != nil {
		return err
	}
	accept, err := r.seam.Settle(d, found)
	switch {
	case err != nil:
		return err
	case accept:
		return end(Approved, Recovered)
	}
	r.restart()
	if err := r.open(aid); err != nil {
		return err
	}
	return r.serve(r)
}

// restart forgets what the card said, for another go at the same sale.
func (r *run) restart() {
	r.out = Outcome{Application: r.app, Contact: r.contact}
	r.records, r.issuer, r.card, r.proved = nil, emv.PublicKey{}, emv.PublicKey{}, false
	r.pdol, r.cdol1, r.combined = nil, nil, false
	r.tvr, r.tsi, r.cvm, r.pin, r.aip = emv.TVR{}, emv.TSI{}, emv.CVMResults{}, nil, emv.AIP{}
	delete(r.term, emv.TagCVMResults)
	r.term[emv.TagTVR], r.term[emv.TagTSI] = make([]byte, 5), make([]byte, 2)
}

// inLog looks for a transaction in the card's log by its ATC. Records come
// newest first and without template; their fields are those of 9F4F (CARD.md
// 1.8).
func (r *run) inLog(d Doubt) (Found, error) {
	entry := r.icc[emv.TagLogEntry]
	format, ok, err := r.readData(emv.TagLogFormat)
	if err != nil || !ok || len(entry) != 2 || entry[0] < 1 || entry[0] > 30 {
		return FoundNothing, err
	}
	dol, err := emv.ParseDOL(format)
	if err != nil || !dol.Has(emv.TagATC) || !dol.Has(emv.TagAmount) {
		return FoundNothing, nil
	}
	n := min(int(entry[1]), maxLog)
	for i := 1; i <= n; i++ {
		a, err := r.send(iso7816.ReadRecord(byte(i), entry[0], 0))
		switch {
		case err != nil:
			return FoundNothing, end(TryAgain, Torn)
		case a.SW == iso7816.SWRecordNotFound:
			return FoundUnpaid, nil // the log ends, and it was not there
		case !a.SW.OK():
			return FoundNothing, nil
		}
		v, err := dol.Split(a.Data)
		if err != nil {
			return FoundNothing, nil
		}
		atc, _ := v.Get(emv.TagATC)
		if len(atc) != 2 {
			return FoundNothing, nil
		}
		switch seen := binary.BigEndian.Uint16(atc); {
		case seen == d.ATC:
			return d.is(v), nil
		case seen < d.ATC:
			return FoundUnpaid, nil
		}
	}
	return FoundNothing, nil // all are newer
}

// is says whether a log record with the doubt's ATC shows its payment.
func (d Doubt) is(v emv.Values) Found {
	same := func(tag tlv.Tag, want []byte) bool {
		got, ok := v.Get(tag)
		return !ok || bytes.Equal(got, want)
	}
	if same(emv.TagAmount, digits(d.Fen, 6)) && same(emv.TagDate, d.Date[:]) && same(emv.TagTime, d.Time[:]) {
		return FoundPaid
	}
	return FoundUnpaid
}

// A Holding is what an e-cash card says it holds, outside of a transaction.
type Holding struct {
	AID    []byte
	Label  string
	Fen    uint64 // 9F79
	Limit  uint64 // 9F77, the most it may hold; 0 when the card does not say
	Single uint64 // 9F78, the most it pays at once; 0 when the card does not say
	// LoadLog is the card's signed log of loads, whole: the issuer reads from
	// it whether a load arrived (CARD.md 1.8). Nil when it has none.
	LoadLog []byte
}

// Look asks the first application that keeps e-cash what it holds. Nothing on
// the card changes. The outcome is Approved, or says why nothing was found.
func (k *Kernel) Look(card iso7816.Transmit) (Holding, Outcome) {
	card = terminal.Complete(card)
	var open []combination
	for _, app := range k.cfg.Applications {
		open = append(open, combination{app: app, ttq: k.cfg.TTQ})
	}
	found, err := k.paymentSystem(card, open)
	var h Holding
	why := error(end(EndApplication, NoApplication))
	for _, c := range found {
		r := k.newRun(card, Transaction{}, Seams{}, c.combination, false)
		if err = r.open(c.AID); err == nil {
			h, err = r.holding()
		}
		if s, ok := err.(*stop); err == nil || ok && s.Reason == Torn {
			break
		}
		why, err = err, nil
		h = Holding{}
	}
	if err == nil && h.AID == nil {
		err = why
	}
	if err == nil {
		err = end(Approved, NoReason)
	}
	o, _ := (&run{}).finish(err)
	return h, o
}

// holding reads the e-cash objects of the selected application.
func (r *run) holding() (Holding, error) {
	h := Holding{AID: r.icc[emv.TagDFName], Label: label(r.icc)}
	for _, x := range []struct {
		tag tlv.Tag
		to  *uint64
	}{{emv.TagECBalance, &h.Fen}, {emv.TagECBalanceLimit, &h.Limit}, {emv.TagECAmountLimit, &h.Single}} {
		v, ok, err := r.readData(x.tag)
		if err != nil {
			return Holding{}, err
		}
		n, good := number(v)
		if !ok || len(v) != 6 || !good {
			if x.tag == emv.TagECBalance {
				return Holding{}, end(SelectNext, CardRefused)
			}
			continue
		}
		*x.to = n
	}
	if entry := r.icc[emv.TagLoadLogEntry]; len(entry) == 2 && entry[0] >= 1 && entry[0] <= 30 {
		a, err := r.send(iso7816.Command{INS: iso7816.InsReadRecord, P2: entry[0]<<3 | 0x04})
		if err != nil {
			return Holding{}, end(TryAgain, Torn)
		}
		if a.SW.OK() {
			h.LoadLog = a.Data
		}
	}
	return h, nil
}
