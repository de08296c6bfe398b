package terminal

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"time"

	"koala/spec/iso7816"
	"koala/spec/purse"
)

// A Collector is the part of a device that takes money from cards: it knows
// the terminal, the store and the deny list.
type Collector struct {
	Terminal purse.Terminal // this and the next two by Open
	Store    *Store
	Deny     *DenyList

	City         [2]byte          // UnionPay region code; other cities' cards must be interoperable
	KeyIndex     map[[4]byte]byte // purchase key by issuer code; 1 for those not in it
	IssuerFactor bool             // the PSAM holds the national root: send the issuer's factor too

	lastTSeq uint32 // of the purchase the PSAM still waits for MAC2 of; volatile like the PSAM's own
}

// Open begins over what the flash holds, for the terminal the PSAM stands for.
// Deltas of the deny list must be signed by key.
func (c *Collector) Open(sam iso7816.Transmit, debits, denied *Flash, key ed25519.PublicKey) (err error) {
	if c.Terminal, err = readTerminal(Complete(sam)); err != nil {
		return err
	}
	if c.Store, err = OpenStore(debits); err != nil {
		return fmt.Errorf("terminal %s: %w", c.Terminal, err)
	}
	if c.Deny, err = OpenDenyList(denied, key); err != nil {
		return fmt.Errorf("terminal %s: %w", c.Terminal, err)
	}
	return nil
}

// readTerminal asks the PSAM which terminal it stands for (file 16).
func readTerminal(sam iso7816.Transmit) (purse.Terminal, error) {
	r, err := sam(iso7816.ReadBinarySFI(purse.SFISAMTerminal, 0, 6))
	switch {
	case err != nil:
		return purse.Terminal{}, fmt.Errorf("terminal number: %w: %w", ErrSAM, err)
	case !r.SW.OK() || len(r.Data) != 6:
		return purse.Terminal{}, fmt.Errorf("terminal number: %w: %v", ErrSAM, r.SW)
	}
	return purse.Terminal(r.Data), nil
}

// A Stop ends a tap: the card is refused, or must come again. It is an
// outcome that travels as an error inside a device.
type Stop struct {
	Result Result
	Reason Reason
	SW     iso7816.SW
	Deny   purse.DenyReason
}

// Error names result and reason.
func (s *Stop) Error() string {
	return Outcome{Result: s.Result, Reason: s.Reason, SW: s.SW}.Words(false)
}

// Refuse is a Stop for a reason of the device's own.
func Refuse(reason Reason) error { return &Stop{Result: Refused, Reason: reason} }

// Put writes what a Stop says into an outcome. Any other error comes back.
func (o *Outcome) Put(err error) error {
	var s *Stop
	if err == nil || !errors.As(err, &s) {
		return err
	}
	o.Result, o.Reason, o.SW, o.Deny = s.Result, s.Reason, s.SW, s.Deny
	return nil
}

// A Tap is one card at the device.
type Tap struct {
	At     time.Time
	Stamp  purse.Stamp
	Public purse.File15
	Region purse.File17
	Rail   purse.Transit // of file 1A, when it was read

	c         *Collector
	card, sam iso7816.Transmit
	Balance   uint32 // fen, including what may be overdrawn
}

// Tap begins a tap. A device whose store has no room takes none.
func (c *Collector) Tap(card, sam iso7816.Transmit, now time.Time) (*Tap, error) {
	t := &Tap{At: now, Stamp: purse.StampOf(now), c: c, card: Complete(card), sam: Complete(sam)}
	err := c.Store.Room()
	switch {
	case NoRoom(err):
		return t, &Stop{Result: OutOfService, Reason: StoreFull}
	case err != nil:
		return nil, err
	}
	return t, nil
}

// Complete fetches what a T=0 card holds back: GET RESPONSE after 61xx, the
// same command again after 6Cxx. A card that never ends is cut off.
func Complete(send iso7816.Transmit) iso7816.Transmit {
	return func(c iso7816.Command) (iso7816.Response, error) {
		r, err := send(c)
		if n, ok := r.SW.Exact(); ok && err == nil {
			c.Le = n
			r, err = send(c)
		}
		for {
			n, ok := r.SW.More()
			if !ok || err != nil || len(r.Data) > iso7816.MaxExtendedLe {
				return r, err
			}
			var more iso7816.Response
			if more, err = send(iso7816.GetResponse(n)); len(more.Data) == 0 {
				return more, err
			}
			r = iso7816.Response{Data: append(r.Data, more.Data...), SW: more.SW}
		}
	}
}

// ask sends a command to the card. A lost card and an unexpected status word
// are Stops.
func (t *Tap) ask(c iso7816.Command) ([]byte, error) {
	r, err := t.card(c)
	if err != nil {
		return nil, &Stop{Result: TryAgain, Reason: Torn}
	}
	if !r.SW.OK() {
		return nil, refusedBy(r.SW)
	}
	return r.Data, nil
}

func refusedBy(sw iso7816.SW) error {
	reason := CardRefused
	switch sw {
	case iso7816.SWPurseMoney:
		return Refuse(NoMoney)
	case iso7816.SWPurseSequence:
		return Refuse(Sequence)
	case iso7816.SWSelectedBlocked, iso7816.SWPurseBlocked, iso7816.SWFunction:
		reason = CardBlocked
	}
	return &Stop{Result: Refused, Reason: reason, SW: sw}
}

// Read selects the purse and reads what a decision needs, in the order of
// T-Union gates: file 15, file 17, the rail record if wanted, the balance.
// A card that may not travel ends here.
func (t *Tap) Read(rail bool) error {
	if _, err := t.ask(iso7816.Select(purse.AIDTUnion)); err != nil {
		var s *Stop
		if errors.As(err, &s) && s.SW == iso7816.SWFileNotFound {
			s.Reason = NoPurse
		}
		return err
	}
	data, err := t.ask(iso7816.ReadBinarySFI(purse.SFIPublic, 0, purse.File15Len))
	if err != nil {
		return err
	}
	if t.Public, err = purse.ParseFile15(data); err != nil {
		return Refuse(NoPurse)
	}
	if data, err = t.ask(iso7816.ReadBinarySFI(purse.SFIRegion, 0, purse.File17Head)); err != nil {
		return err
	}
	if t.Region, err = purse.ParseFile17(data); err != nil {
		return Refuse(NoPurse)
	}
	if err := t.admit(); err != nil {
		return err
	}
	if rail {
		if err := t.readRail(); err != nil {
			return err
		}
	}
	if data, err = t.ask(purse.GetBalance{Purse: purse.EP}.Command()); err != nil {
		return err
	}
	if t.Balance, err = purse.ParseBalance(data); err != nil {
		return Refuse(NoPurse)
	}
	return nil
}

func (t *Tap) readRail() error {
	data, err := t.ask(iso7816.ReadRecordByID(purse.RailID>>8, purse.SFITransit, purse.TransitLen))
	if err != nil {
		return err
	}
	if t.Rail, err = purse.ParseTransit(data); err != nil || t.Rail.Serial != t.Public.Number.Factor() {
		return Refuse(RecordDamaged)
	}
	if t.Rail.Valid != 1 || t.Rail.Lock != 0 {
		return Refuse(RecordLocked)
	}
	return nil
}

// admit refuses cards that are denied, out of their dates, or of a city that
// keeps its cards to itself.
func (t *Tap) admit() error {
	if r := t.c.Deny.Reason(t.Public.Number); r != purse.Allowed {
		return &Stop{Result: Refused, Reason: OnDenyList, Deny: r}
	}
	switch {
	case string(t.Public.From[:]) > string(t.Stamp.Date[:]):
		return Refuse(NotYetValid)
	case !t.Public.ValidOn(t.Stamp):
		return Refuse(Expired)
	case !t.Region.Interoperable() && t.Region.City != t.c.City:
		return Refuse(OtherCity)
	}
	return nil
}

// CardType is what the card says of its holder, in file 17 or else file 15.
func (t *Tap) CardType() purse.CardType {
	if t.Region.CardType != 0 {
		return t.Region.CardType
	}
	return t.Public.CardType
}

func (t *Tap) keyIndex() byte {
	if i, ok := t.c.KeyIndex[t.Public.IssuerCode()]; ok {
		return i
	}
	return 1
}

func (t *Tap) init(fen uint32) (a purse.InitPurchaseAnswer, err error) {
	x := purse.InitPurchase{CAPP: true, Purse: purse.EP, Key: t.keyIndex(), Fen: fen, Terminal: t.c.Terminal}
	data, err := t.ask(x.Command())
	if err != nil {
		return a, err
	}
	if a, err = purse.ParseInitPurchaseAnswer(data); err != nil {
		return a, Refuse(CardRefused)
	}
	return a, nil
}

// Pay takes fen from the card and has it write records with it: INITIALIZE,
// MAC1 from the PSAM, the records, DEBIT, MAC2 to the PSAM, and the debit into
// the store. The intent is in the store before the card is told to pay.
// keep is the record that goes into the store with the debit, may be nil.
func (t *Tap) Pay(fen uint32, keep []byte, records ...purse.UpdateCAPP) (Stored, error) {
	a, err := t.init(fen)
	if err != nil {
		return Stored{}, err
	}
	if a.Balance < fen {
		return Stored{}, Refuse(NoMoney)
	}
	order, err := t.orderFrom(a, fen)
	if err != nil {
		return Stored{}, err
	}
	for _, r := range records {
		if _, err := t.ask(r.Command()); err != nil {
			return Stored{}, err
		}
	}
	d := purse.Debit{
		Card: t.Public.Number, Seq: a.Seq, Fen: fen, Type: purse.CAPP, Terminal: t.c.Terminal, TSeq: order.TSeq,
		At: t.Stamp, Record: keep, Balance: a.Balance - fen,
	}
	if err := t.c.Store.Begin(d); err != nil {
		return Stored{}, err
	}
	data, err := t.ask(purse.DebitCommand{TSeq: order.TSeq, Stamp: t.Stamp, MAC1: order.MAC1}.Command())
	if err != nil {
		return Stored{}, t.notPaid(d, err)
	}
	proof, err := purse.ParseDebitAnswer(data)
	if err != nil {
		return Stored{}, Refuse(WrongProof)
	}
	s, err := t.collect(d, proof.TAC, proof.MAC2)
	if err == nil {
		t.Balance = d.Balance
	}
	return s, err
}

// orderFrom has the PSAM make MAC1.
func (t *Tap) orderFrom(a purse.InitPurchaseAnswer, fen uint32) (purse.SAMPurchaseAnswer, error) {
	x := purse.SAMPurchase{
		Rnd: a.Rnd, Seq: a.Seq, Fen: fen, Type: purse.CAPP, Stamp: t.Stamp, KeyVersion: a.KeyVersion, Alg: a.Alg,
		Factors: [][8]byte{t.Public.Number.Factor()},
	}
	if t.c.IssuerFactor {
		x.Factors = append(x.Factors, purse.IssuerFactor(t.Public.IssuerCode()))
	}
	r, err := t.sam(x.Command())
	if err != nil {
		return purse.SAMPurchaseAnswer{}, &Stop{Result: OutOfService, Reason: SAMRefused}
	}
	order, err := purse.ParseSAMPurchaseAnswer(r.Data)
	if !r.SW.OK() || err != nil {
		return order, &Stop{Result: OutOfService, Reason: SAMRefused, SW: r.SW}
	}
	t.c.lastTSeq = order.TSeq
	return order, nil
}

// notPaid handles a DEBIT without a good answer. A card that refused has not
// paid; of a card that left nothing is known, and its intent stays.
func (t *Tap) notPaid(d purse.Debit, err error) error {
	var s *Stop
	if errors.As(err, &s) && s.Result != TryAgain {
		if err := t.c.Store.Settle(d.Card, d.Seq); err != nil {
			return err
		}
	}
	return err
}

// collect has the PSAM check MAC2 and stores the debit. A wrong MAC2 is not a
// genuine card: nothing opens, and the intent stays for the host to look at.
// When the PSAM cannot check (its purchase is over, or it broke down) the TAC
// is the proof, and the host will check it.
func (t *Tap) collect(d purse.Debit, tac, mac2 [4]byte) (Stored, error) {
	if d.TSeq == t.c.lastTSeq {
		r, err := t.sam(purse.SAMCredit{MAC2: mac2}.Command())
		if err == nil && r.SW == iso7816.SWPurseMAC {
			return Stored{}, &Stop{Result: Refused, Reason: WrongProof, SW: r.SW}
		}
		t.c.lastTSeq = 0
	}
	d.TAC = tac
	return t.c.Store.Keep(d)
}

// Recover finds out how a tap of this card ended that the device never heard
// the end of: the card's sequence tells whether it paid, GET TRANSACTION PROVE
// repeats its proofs, and its log says whether the payment was ours. The
// debit is given when the card had paid here; nil when there is nothing to
// recover.
func (t *Tap) Recover() (*Stored, error) {
	intent, ok := t.c.Store.Doubt(t.Public.Number)
	if !ok {
		return nil, nil
	}
	a, err := t.init(0)
	if err != nil {
		return nil, err
	}
	switch {
	case a.Seq < intent.Seq: // a genuine card never counts back
		return nil, Refuse(WrongProof)
	case a.Seq == intent.Seq:
		return nil, t.c.Store.Settle(intent.Card, intent.Seq)
	case a.Seq == intent.Seq+1:
		return t.prove(intent, a.Seq)
	}
	in, err := t.inLog(intent, int(a.Seq-intent.Seq))
	if err != nil {
		return nil, err
	}
	return nil, t.settle(intent, in)
}

// settle ends a doubt whose proofs the card no longer keeps by what its log
// says. If the log has moved on too, the host must find out.
func (t *Tap) settle(intent purse.Debit, in found) error {
	switch in {
	case ours:
		return t.c.Store.Paid(intent.Card, intent.Seq)
	case others:
		return t.c.Store.Settle(intent.Card, intent.Seq)
	}
	return nil
}

// prove fetches the proofs of the card's last purchase if that was intent.
// The card is asked with the sequence it shows now, as gates in the field do.
func (t *Tap) prove(intent purse.Debit, seq uint16) (*Stored, error) {
	in, err := t.inLog(intent, 1)
	if err != nil {
		return nil, err
	}
	if in != ours {
		return nil, t.settle(intent, in)
	}
	data, err := t.ask(purse.Prove{Type: purse.CAPP, Seq: seq}.Command())
	if err != nil {
		return nil, err
	}
	proof, err := purse.ParseProveAnswer(data)
	if err != nil {
		return nil, Refuse(WrongProof)
	}
	s, err := t.collect(intent, proof.TAC, proof.MAC2)
	if err != nil {
		return nil, err
	}
	return &s, nil
}

// found is what a card's log says of an intent.
type found byte

const (
	nowhere found = iota // the log has moved on past it
	ours                 // it is there: the card paid this terminal
	others               // its sequence went to another purchase
)

// inLog looks for intent in the card's log, from record first on: loads stand
// between purchases there, so the place is not exact.
func (t *Tap) inLog(intent purse.Debit, first int) (found, error) {
	for n := first; n <= purse.LogCount; n++ {
		r, err := t.card(iso7816.ReadRecord(byte(n), purse.SFILog, purse.LogLen))
		if err != nil {
			return nowhere, &Stop{Result: TryAgain, Reason: Torn}
		}
		l, err := purse.ParseLog(r.Data)
		switch {
		case !r.SW.OK() || err != nil:
			return nowhere, nil
		case l.Seq != intent.Seq, l.Type != purse.CAPP && l.Type != purse.PurchaseEP:
		case l.Type == intent.Type && l.Terminal == intent.Terminal && l.Stamp == intent.At && l.Amount() == intent.Fen:
			return ours, nil
		default:
			return others, nil
		}
	}
	return nowhere, nil
}

// TripRecord is the update that adds a record to the card's trip file.
func TripRecord(r purse.Trip) purse.UpdateCAPP {
	return purse.UpdateCAPP{SFI: purse.SFITrip, Record: r.Bytes()}
}

// RailRecord is the update that replaces the card's rail record.
func RailRecord(r purse.Transit) purse.UpdateCAPP {
	return purse.UpdateCAPP{SFI: purse.SFITransit, ID: purse.RailID >> 8, Record: r.Bytes()}
}

// String names the tap without showing the whole card number.
func (t *Tap) String() string {
	n := t.Public.Number
	if len(n) < 4 {
		return "tap"
	}
	return fmt.Sprintf("tap of card …%s", n[len(n)-4:])
}
