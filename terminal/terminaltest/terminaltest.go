// Package terminaltest is what tests of terminals share: the house's signing
// key, riders with a transit purse and the PSAM of their devices, DESFire cards,
// and the card of a stranger.
package terminaltest

import (
	"bytes"
	"crypto/ed25519"
	"time"

	"koala/card"
	"koala/card/cardtest"
	carddesfire "koala/card/desfire"
	"koala/card/psam"
	cardpurse "koala/card/purse"
	"koala/spec/desfire"
	"koala/spec/iso7816"
	"koala/spec/iso9797"
	"koala/spec/purse"
)

// The roots of the constructed golden traces (CARD 6.3).
var (
	rootDPK = [16]byte{0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11}
	rootDLK = [16]byte{0x40, 0x41, 0x42, 0x43, 0x44, 0x45, 0x46, 0x47, 0x48, 0x49, 0x4A, 0x4B, 0x4C, 0x4D, 0x4E, 0x4F}
	rootDTK = [16]byte{0x01, 0x23, 0x45, 0x67, 0x89, 0xAB, 0xCD, 0xEF, 0xFE, 0xDC, 0xBA, 0x98, 0x76, 0x54, 0x32, 0x10}
)

// Private signs what the house sends to its devices; they have Public.
var (
	Private = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{9}, ed25519.SeedSize))
	Public  = Private.Public().(ed25519.PublicKey)
)

// Sign makes a pack of a text: the text followed by its signature.
func Sign(text []byte) []byte {
	return append(bytes.Clone(text), ed25519.Sign(Private, text)...)
}

func key(kind purse.KeyKind, k [16]byte) []byte {
	return purse.KeyRecord{Kind: kind, Index: 1, Version: 1, Key: k, KCV: iso9797.KCVDES(k[:])}.Bytes()
}

const psamAID = card.AID("\xA0\x00\x00\x00\x03\x50\x53\x41\x4D")

// PSAM is the module of one terminal, with the root of the purchase keys.
func PSAM(t cardtest.T, terminal purse.Terminal) *cardtest.Element {
	t.Helper()
	e := cardtest.New(t, card.Config{}, cardtest.Modules{psamAID: psam.Module()})
	id := e.Install(card.Entry{AID: psamAID, Privileges: [3]byte{card.PrivilegeDefault}})
	e.Store(id, purse.DGIHolder, terminal[:])
	e.Store(id, purse.DGIKeyFirst, key(purse.DPK, rootDPK))
	e.Store(id, psam.DGISettings, psam.Settings{Levels: 1, Tries: 15, TSeq: 0x102A}.Bytes())
	return e
}

// Contact is an element behind T=0, as a PSAM is in a device.
func Contact(e *cardtest.Element) iso7816.Transmit { return (&card.T0{Card: e.Transmit}).Transmit }

// A Rider is a transit card in somebody's hand.
type Rider struct {
	*cardtest.Element
	t cardtest.T
	n purse.Number
}

// A Change alters a rider's card before it is issued.
type Change func(*purse.File15, *purse.File17, *purse.Transit)

// NewRider issues a card of Beijing, interoperable, good from July 2019 to the
// end of 2040, with fen in its purse.
func NewRider(t cardtest.T, n purse.Number, fen uint32, change ...Change) *Rider {
	t.Helper()
	f15 := purse.File15{
		Issuer: [8]byte{1, 1, 0x10, 0, 0xFF, 0xFF, 0xFF, 0xFF}, AppType: 2, Version: 1, Number: n,
		From: purse.DateBCD(2019, 7, 18), To: purse.DateBCD(2040, 12, 31),
	}
	f17 := purse.File17{Country: [4]byte{0, 0, 1, 0x56}, City: [2]byte{0x10, 0}, Interop: [2]byte{0, 1}, CardType: purse.CardOrdinary}
	rail := purse.NewTransit(n)
	for _, c := range change {
		c(&f15, &f17, &rail)
	}
	aid, f := card.AID(purse.AIDTUnion), n.Factor()
	r := &Rider{cardtest.New(t, card.Config{}, cardtest.Modules{aid: cardpurse.Module()}), t, n}
	id := r.Install(card.Entry{AID: aid})
	r.Store(id, purse.DGIPublic, f15.Bytes())
	r.Store(id, purse.DGIRegion, f17.Bytes())
	r.Store(id, purse.DGITransit, rail.Bytes())
	r.Store(id, purse.DGIKeyFirst, key(purse.DPK, purse.Disperse(rootDPK, f)))
	r.Store(id, purse.DGIKeyFirst+1, key(purse.DLK, purse.Disperse(rootDLK, f)))
	r.Store(id, purse.DGIKeyFirst+2, key(purse.DTK, purse.Disperse(rootDTK, f)))
	if fen > 0 {
		r.load(fen)
	}
	return r
}

// load tops the card up as a host would.
func (r *Rider) load(fen uint32) {
	r.t.Helper()
	r.Power(card.Contactless)
	defer r.PowerOff()
	r.Ask(iso7816.Select(purse.AIDTUnion))
	x := purse.InitLoad{Purse: purse.EP, Key: 1, Fen: fen, Terminal: purse.Terminal{0x80, 1, 0, 0, 0, 1}}
	a, err := purse.ParseInitLoadAnswer(r.Ask(x.Command()))
	if err != nil {
		r.t.Fatalf("load: %v", err)
	}
	sk := purse.LoadSession(purse.Disperse(rootDLK, r.n.Factor()), a.Rnd, a.Seq)
	at := purse.StampOf(time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC))
	r.Ask(purse.CreditCommand{Stamp: at, MAC2: purse.LoadMAC2(sk, fen, purse.LoadEP, x.Terminal, at)}.Command())
}

// Holds reads balance in fen and rail record without a terminal.
func (r *Rider) Holds() (uint32, purse.Transit) {
	r.t.Helper()
	r.Mend()
	r.Power(card.Contactless)
	defer r.PowerOff()
	r.Ask(iso7816.Select(purse.AIDTUnion))
	fen, err := purse.ParseBalance(r.Ask(purse.GetBalance{Purse: purse.EP}.Command()))
	if err != nil {
		r.t.Fatalf("balance: %v", err)
	}
	rail, err := purse.ParseTransit(r.Ask(iso7816.ReadRecordByID(purse.RailID>>8, purse.SFITransit, 0)))
	if err != nil {
		r.t.Fatalf("rail record: %v", err)
	}
	return fen, rail
}

// Proved says whether a debit's TAC is the one of its card.
func Proved(d purse.Debit) bool {
	tk := purse.TACKey(purse.Disperse(rootDTK, d.Card.Factor()))
	return d.TAC == purse.PurchaseTAC(tk, d.Fen, d.Type, d.Terminal, d.TSeq, d.At)
}

// DESFireAID is the name under which readers select a DESFire card.
const DESFireAID = card.AID("\xD2\x76\x00\x00\x85\x01\x00")

// DESFire issues a DESFire card with one application.
func DESFire(t cardtest.T, uid desfire.UID, app desfire.Application) *cardtest.Element {
	t.Helper()
	data, err := app.Bytes()
	if err != nil {
		t.Fatalf("application: %v", err)
	}
	e := cardtest.New(t, card.Config{UID: uid}, cardtest.Modules{DESFireAID: carddesfire.Module()})
	e.Store(e.Install(card.Entry{AID: DESFireAID}), desfire.DGIApplication, data)
	return e
}

// Sealed is a key as Clear seals it.
func Sealed(t cardtest.T, k desfire.Key) desfire.SealedKey {
	t.Helper()
	s, err := desfire.Seal(k, cardtest.Clear)
	if err != nil {
		t.Fatalf("key: %v", err)
	}
	return s
}

// Stranger is a card that answers what the bytes say: length, then an answer of
// that length, and so on. At their end it leaves.
func Stranger(in []byte) iso7816.Transmit {
	return func(iso7816.Command) (iso7816.Response, error) {
		if len(in) == 0 {
			return iso7816.Response{}, iso7816.ErrTorn
		}
		n := min(int(in[0]), len(in)-1)
		r, err := iso7816.ParseResponse(in[1 : 1+n])
		in = in[1+n:]
		if err != nil {
			err = iso7816.ErrTorn
		}
		return r, err
	}
}
