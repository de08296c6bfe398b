package kernel

import (
	"koala/spec/emv"
	"koala/spec/iso7816"
	"koala/terminal"
)

// insReadCAPP is READ CAPP DATA.
const insReadCAPP = 0xB4

// Modes of the extended application, tag DF60 (CARD.md 1.12).
const (
	SegmentFare       byte = 0x01
	PreAuthorise      byte = 0x02
	CompletePreAuth   byte = 0x03
	supportsPreAuth   byte = 0x02 // DF61 without its R-MAC bit
	supportsFareOnly  byte = 0x01
	supportsCardProof byte = 0x80
)

// A Ride is a transit gate's use of a card: the operator's record on it is
// read, priced, and written together with the payment (CARD.md 1.12).
type Ride struct {
	SFI byte    // industry file, 15 to 1E
	ID  [2]byte // of the operator's record: 0221
	// Number is the record that names the card (5A or 57), read before the
	// transaction: cards that approve need not give 57 in their answer. The zero
	// record reads none.
	Number emv.RecordID
	Decide func(Fare) (FareDecision, error)
	// Update builds UPDATE CAPP DATA CACHE for the record: the PSAM proves it
	// with a key of the card (o.PAN) and its ATC (tag 9F36 of o).
	Update func(o *Outcome, record []byte) (iso7816.Command, error)
}

// A Fare is what a gate knows before it asks for money.
type Fare struct {
	Record  []byte // the operator's, as the card has it
	Fen     uint64 // e-cash, 9F79
	PreAuth bool   // the card can hold money back for a ride
}

// A FareDecision is what a gate wants of a card.
type FareDecision struct {
	Refuse Reason // other than NoReason: nothing, for this reason
	Mode   byte   // SegmentFare, PreAuthorise or CompletePreAuth
	Fen    uint64 // fare, or what is held; 0 at an entry
	Record []byte // the operator's record from now on
}

// Ride serves a card at a transit gate: directory, SELECT, the record, the
// balance, GET PROCESSING OPTIONS with the fare, the record's update, and the
// records up to the one that commits it all. Amount and limits of tx do not
// count; there is no host. What Tap says of Seams holds here.
func (k *Kernel) Ride(card iso7816.Transmit, tx Transaction, s Seams, ride Ride) (Outcome, error) {
	card = terminal.Complete(card)
	tx.Fen = 0
	var open []combination
	for _, app := range k.cfg.Applications {
		c := combination{app: app, ttq: k.cfg.TTQ}
		c.ttq[1] &^= 0xC0
		c.ttq.Set(emv.TTQOfflineOnly)
		open = append(open, c)
	}
	if len(open) == 0 {
		return Outcome{Result: EndApplication, Reason: NoApplication}, nil
	}
	begin := func(c Candidate) *run {
		r := k.newRun(card, tx, s, c.combination, false)
		r.ride = &ride
		return r
	}
	found, err := k.paymentSystem(card, open)
	if err != nil {
		return begin(Candidate{combination: open[0]}).finish(err)
	}
	return k.tryEach(found, begin, (*run).tap)
}

// board reads record and balance before the transaction begins and has the
// gate decide.
func (r *run) board() error {
	support := r.icc[emv.TagCAPPCard]
	if len(support) != 1 {
		return end(SelectNext, NoApplication)
	}
	kind := support[0] &^ supportsCardProof
	if kind != supportsFareOnly && kind != supportsPreAuth {
		return end(SelectNext, NoApplication)
	}
	if err := r.readNumber(); err != nil {
		return err
	}
	record, err := r.ask(iso7816.Command{CLA: 0x80, INS: insReadCAPP, P2: r.ride.SFI << 3, Data: r.ride.ID[:]}, SelectNext)
	if err != nil {
		return err
	}
	v, ok, err := r.readData(emv.TagECBalance)
	if err != nil {
		return err
	}
	fen, good := number(v)
	if !ok || len(v) != 6 || !good || len(record) < 2 || [2]byte(record) != r.ride.ID {
		return errCard
	}
	d, err := r.ride.Decide(Fare{Record: record, Fen: fen, PreAuth: kind == supportsPreAuth})
	switch {
	case err != nil:
		return err
	case d.Refuse != NoReason:
		return end(Declined, d.Refuse)
	}
	r.tx.Fen = d.Fen
	r.term[emv.TagAmount], r.term[emv.TagCAPPIndicator] = digits(d.Fen, 6), []byte{d.Mode}
	r.record = d.Record
	return nil
}

// readNumber takes the card's number from its record. What the transaction
// reads afterwards must agree.
func (r *run) readNumber() error {
	id := r.ride.Number
	if id.SFI == 0 {
		return nil
	}
	data, err := r.ask(iso7816.ReadRecord(id.Number, id.SFI, 0), SelectNext)
	if err != nil {
		return err
	}
	inside, ok := path(data, emv.TagRecord)
	o, err := flat(inside)
	if !ok || err != nil {
		return errCard
	}
	number := run{icc: o}
	err = number.identify()
	r.expect = number.out.PAN
	return err
}

// update writes the operator's record into the card's cache. It becomes real
// with the last record, together with the money.
func (r *run) update() error {
	if err := r.identify(); err != nil {
		return err
	}
	if r.out.PAN == "" {
		r.out.PAN = r.expect
	}
	if r.out.PAN == "" || r.expect != "" && r.out.PAN != r.expect {
		return errCard
	}
	r.expect = r.out.PAN
	r.remember()
	c, err := r.ride.Update(&r.out, r.record)
	if err != nil {
		return err
	}
	_, err = r.ask(c, Declined)
	return err
}

// Prove asks a card that came back for the cryptogram of its last completed
// ride (GET TRANS PROVE); false when its last one has another ATC. The
// application must be selected.
func Prove(card iso7816.Transmit, atc uint16) (tc [8]byte, ok bool, err error) {
	a, err := terminal.Complete(card)(iso7816.Command{CLA: 0x80, INS: 0x5A, Data: []byte{byte(atc >> 8), byte(atc)}})
	if err != nil {
		return tc, false, err
	}
	if !a.SW.OK() || len(a.Data) != len(tc) {
		return tc, false, nil
	}
	return [8]byte(a.Data), true, nil
}
