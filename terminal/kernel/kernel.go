// Package kernel runs the transactions of bank cards at a terminal: the entry
// point that finds the application (EMV Contactless Books A and B), the
// contactless kernel of UnionPay's quickPass and its near twin of Visa
// (CARD.md 1.13, 1.15), and contact EMV (EMV 4.4 Books 3 and 4) with e-cash.
// Start with Kernel.Tap and Kernel.Insert.
//
// There is no device in it: the clock, chance, the host, the PIN pad and what
// must survive a power failure come in with each transaction.
package kernel

import (
	"encoding/hex"
	"errors"
	"fmt"

	"koala/spec/emv"
	"koala/spec/iso7816"
	"koala/spec/tlv"
)

// ErrConfig says that a terminal cannot work with its configuration.
var ErrConfig = errors.New("kernel: bad configuration")

// Seams are what a transaction needs of the device around it. A nil function
// is a thing the device does not have.
type Seams struct {
	// Listed says whether a card is on the exception list.
	Listed func(pan string, psn byte) bool
	// Commit is called once all checks that can be made before are made, right
	// before the card is told to commit an offline approval. The device keeps
	// what o says; an error ends the transaction and nothing has been paid.
	Commit func(o *Outcome) error
	// Doubt gives a transaction of this card whose end the device does not
	// know. Settle is told what the card's log says about it; accept ends this
	// transaction as Approved, Recovered, otherwise it goes on.
	Doubt  func(pan string, psn byte) (d Doubt, ok bool)
	Settle func(d Doubt, f Found) (accept bool, err error)
	// Issuer asks the host; used on the contact interface, where the card takes
	// part in the answer.
	Issuer Issuer
	// Online is called right before the host is asked. The device keeps what o
	// says: a host that approved what the device forgot must be told.
	Online func(o *Outcome) error
	// PIN asks for the PIN that the card is to check. False: none was entered.
	PIN func(tries int) (digits string, ok bool)
	// OnlinePIN asks for the PIN that the host is to check and gives its block.
	OnlinePIN func(pan string) (block []byte, ok bool)
	// Choose lets the cardholder choose; -1 is none of them.
	Choose func(of []Candidate) int
}

// An Issuer asks the host: request is EMV TLV data, the content of field 55
// with 57 or 5A and, when there is one, the PIN block. An error is a host that
// does not answer.
type Issuer func(request []byte) (Answer, error)

// An Answer is the host's.
type Answer struct {
	ARC  string // tag 8A, two characters
	Data []byte // objects 91, 71 and 72
}

// Approves says whether the host agrees.
func (a Answer) Approves() bool {
	return a.ARC == "00" || a.ARC == "08" || a.ARC == "10" || a.ARC == "11"
}

// A Doubt is an offline approval that the card was told to commit, and left.
type Doubt struct {
	ATC  uint16
	Fen  uint64
	Date [3]byte // 9A
	Time [3]byte // 9F21
	Key  string  // the device's own name for it
}

// Found is what a card's log says about a Doubt.
type Found byte

// What a log says.
const (
	FoundNothing Found = iota // it keeps none, or has moved on past it: the host must find out
	FoundPaid                 // the card paid
	FoundUnpaid               // the card did not
)

// A stop ends a transaction, or one application's attempt at it.
type stop struct {
	Result Result
	Reason Reason
	SW     iso7816.SW
}

func (s *stop) Error() string {
	return fmt.Sprintf("kernel: %s (%s) %04X", s.Result.Words(false), s.Reason.Words(false), uint16(s.SW))
}

func end(r Result, why Reason) error { return &stop{Result: r, Reason: why} }

// Refuse is what a Seam returns to decline a card for a reason, without an
// error of the device.
func Refuse(why Reason) error { return end(Declined, why) }

var errCard = &stop{Result: EndApplication, Reason: CardError}

// A run is one transaction with one application of one card.
type run struct {
	k        *Kernel
	tx       Transaction
	seam     Seams
	send     iso7816.Transmit
	app      Application
	ttq      emv.TTQ
	contact  bool
	term     objects // what the terminal knows; before it is told nothing of the card counts
	icc      objects // what the card said
	aip      emv.AIP
	records  []emv.Record // read so far, in order
	issuer   emv.PublicKey
	card     emv.PublicKey // recovered, verified
	proved   bool          // the card's signature is verified
	combined bool          // cryptograms come signed
	pdol     []byte        // values sent, for the combined signature
	cdol1    []byte
	tvr      emv.TVR
	tsi      emv.TSI
	cvm      emv.CVMResults
	pin      []byte           // block for the host
	serve    func(*run) error // what runs once the application is selected
	ride     *Ride            // of a transit gate, nil at a till
	record   []byte           // the operator's record to be written
	expect   string           // the number the card gave before
	again    bool             // a doubt of this card has been looked into
	out      Outcome
}

func (k *Kernel) newRun(card iso7816.Transmit, tx Transaction, s Seams, c combination, contact bool) *run {
	r := &run{k: k, tx: tx, seam: s, send: card, app: c.app, ttq: c.ttq, contact: contact, term: k.terminal(c.app, tx), icc: objects{}}
	r.term[emv.TagTTQ] = r.ttq[:]
	r.out.Application, r.out.Contact = c.app, contact
	return r
}

// get gives an object of either side; the terminal's own go first, so that no
// card can put words into its mouth.
func (r *run) get(tag tlv.Tag) []byte {
	if v, ok := r.term[tag]; ok {
		return v
	}
	return r.icc[tag]
}

// has says whether the card gave an object.
func (r *run) has(tag tlv.Tag) bool { _, ok := r.icc[tag]; return ok }

// once are the objects a card gives once; others may come again with the same
// value, and 9F5D with another (CARD.md 1.13).
var once = map[tlv.Tag]bool{
	emv.TagPAN: true, emv.TagTrack2: true, emv.TagExpiry: true, emv.TagAIP: true, emv.TagAFL: true, emv.TagATC: true,
	emv.TagIAD: true, emv.TagAC: true, emv.TagSDAD: true, emv.TagIssuerCert: true, emv.TagIssuerRemainder: true,
	emv.TagIssuerExponent: true, emv.TagICCCert: true, emv.TagICCExponent: true, emv.TagICCRemainder: true,
	emv.TagCAIndex: true, emv.TagSDATagList: true, emv.TagCardAuth: true, emv.TagCDOL1: true, emv.TagCDOL2: true,
	emv.TagCVMList: true,
}

// put takes an object of the card.
func (r *run) put(tag tlv.Tag, val []byte) error {
	if old, ok := r.icc[tag]; ok && tag != emv.TagAvailable && (once[tag] || string(old) != string(val)) {
		return errCard
	}
	r.icc[tag] = val
	return nil
}

// putAll takes the objects of a template's value.
func (r *run) putAll(in []byte) error {
	for len(in) > 0 {
		tag, val, rest, err := tlv.Next(in)
		if err != nil {
			return errCard
		}
		if err := r.put(tag, val); err != nil {
			return err
		}
		in = rest
	}
	return nil
}

// ask sends a command. A card that left is TryAgain, one that answers other
// than 9000 is other with its status word.
func (r *run) ask(c iso7816.Command, other Result) ([]byte, error) {
	a, err := r.send(c)
	switch {
	case err != nil:
		return nil, end(TryAgain, Torn)
	case !a.SW.OK():
		return nil, &stop{Result: other, Reason: CardRefused, SW: a.SW}
	}
	return a.Data, nil
}

// readData reads one of the card's own objects (GET DATA). False when the
// card does not give it; an error when it left.
func (r *run) readData(tag tlv.Tag) ([]byte, bool, error) {
	a, err := r.send(iso7816.Command{CLA: 0x80, INS: iso7816.InsGetData, P1: byte(tag >> 8), P2: byte(tag)})
	if err != nil {
		return nil, false, end(TryAgain, Torn)
	}
	got, val, rest, err := tlv.Next(a.Data)
	return val, a.SW.OK() && err == nil && got == tag && len(rest) == 0, nil
}

// optionsCommand builds GET PROCESSING OPTIONS of the PDOL in the FCI.
func (r *run) optionsCommand() (iso7816.Command, error) {
	dol, err := emv.ParseDOL(r.icc[emv.TagPDOL])
	if err != nil || dol.Len() > emv.MaxDOLData {
		return iso7816.Command{}, errCard
	}
	r.pdol = dol.Append(nil, r.get)
	return iso7816.Command{CLA: 0x80, INS: insOptions, Data: tlv.Append(nil, emv.TagCommand, r.pdol)}, nil
}

const (
	insOptions    = 0xA8 // GET PROCESSING OPTIONS
	insGenerateAC = 0xAE
)

// maxRecords bounds what one application can make a terminal read.
const maxRecords = 64

// located lists the records that the card's file locator names.
func (r *run) located() ([]emv.RecordID, error) {
	afl, err := emv.ParseAFL(r.icc[emv.TagAFL])
	if err != nil {
		return nil, errCard
	}
	ids := afl.Records()
	if len(ids) > maxRecords {
		return nil, errCard
	}
	return ids, nil
}

func (r *run) readRecords(ids []emv.RecordID) error {
	for _, id := range ids {
		if err := r.readRecord(id); err != nil {
			return err
		}
	}
	return nil
}

// readRecord reads one record and takes its objects. A record of SFI 1 to 10
// is one template 70; of the others only those that are so are looked into.
func (r *run) readRecord(id emv.RecordID) error {
	data, err := r.ask(iso7816.ReadRecord(id.Number, id.SFI, 0), EndApplication)
	if err != nil {
		return err
	}
	r.records = append(r.records, emv.Record{RecordID: id, Data: data})
	tag, val, rest, err := tlv.Next(data)
	switch {
	case err == nil && tag == emv.TagRecord && len(rest) == 0:
		return r.putAll(val)
	case id.SFI <= 10:
		return errCard
	}
	return nil
}

// identify finds the card's number in what has been read, if it is there yet.
// 5A and 57 must agree.
func (r *run) identify() error {
	pan, ok := "", true
	if v, have := r.icc[emv.TagPAN]; have {
		pan, ok = panDigits(v, 'f')
	}
	if v, have := r.icc[emv.TagTrack2]; have && ok {
		var track string
		if track, ok = panDigits(v, 'd'); pan == "" {
			pan = track
		} else if track != pan {
			return errCard
		}
	}
	if !ok {
		return errCard
	}
	if r.expect != "" && pan != "" && pan != r.expect {
		return errCard
	}
	r.out.PAN = pan
	if v := r.icc[emv.TagPSN]; len(v) == 1 {
		n, ok := number(v)
		if !ok {
			return errCard
		}
		r.out.PSN = byte(n)
	}
	return nil
}

// today is the date of the transaction, YYMMDD.
func (r *run) today() [3]byte { return [3]byte(r.term[emv.TagDate]) }

// day is the same as YYYYMMDD, with the century that later takes.
func (r *run) day() string {
	today, century := r.today(), "20"
	if today[0] >= 0x50 {
		century = "19"
	}
	return century + hex.EncodeToString(today[:])
}

// later says whether the date a, YYMMDD, is after b; years from 50 on are
// 1950 to 1999 (EMV 4.4 Book 4, 6.7.3).
func later(a, b []byte) bool {
	century := func(d []byte) byte {
		if d[0] >= 0x50 {
			return 0
		}
		return 1
	}
	if ca, cb := century(a), century(b); ca != cb {
		return ca > cb
	}
	return string(a) > string(b)
}

// remember puts what is known into the outcome.
func (r *run) remember() {
	r.out.TVR, r.out.TSI = r.tvr, r.tsi
	r.out.Label = label(r.icc)
	if v := r.icc[emv.TagAvailable]; len(v) == 6 {
		if n, ok := number(v); ok {
			r.out.Available = &n
		}
	}
	r.out.data = make(objects, len(r.icc)+len(r.term))
	for tag, v := range r.icc {
		r.out.data[tag] = v
	}
	for tag, v := range r.term {
		r.out.data[tag] = v
	}
}

// finish turns the end of a run into its outcome. Errors of the device go on.
func (r *run) finish(err error) (Outcome, error) {
	r.remember()
	var s *stop
	if errors.As(err, &s) {
		r.out.Result, r.out.Reason, r.out.SW = s.Result, s.Reason, s.SW
		err = nil
	}
	return r.out, err
}

// Get gives a data object of either side as it was in the transaction, nil
// when there was none.
func (o *Outcome) Get(tag tlv.Tag) []byte { return o.data[tag] }
