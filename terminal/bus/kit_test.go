package bus_test

import (
	"bytes"
	"crypto/ed25519"
	"testing"
	"time"

	"koala/calendar"
	"koala/card"
	"koala/card/psam"
	cardpurse "koala/card/purse"
	"koala/fare"
	"koala/internal/clock"
	"koala/spec/iso7816"
	"koala/spec/iso9797"
	"koala/spec/purse"
	"koala/terminal"
	"koala/terminal/bus"
)

// The roots of the constructed golden traces (CARD 6.3).
var (
	rootDPK = [16]byte{0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11}
	rootDLK = [16]byte{0x40, 0x41, 0x42, 0x43, 0x44, 0x45, 0x46, 0x47, 0x48, 0x49, 0x4A, 0x4B, 0x4C, 0x4D, 0x4E, 0x4F}
	rootDTK = [16]byte{0x01, 0x23, 0x45, 0x67, 0x89, 0xAB, 0xCD, 0xEF, 0xFE, 0xDC, 0xBA, 0x98, 0x76, 0x54, 0x32, 0x10}

	private = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{9}, ed25519.SeedSize))
	public  = private.Public().(ed25519.PublicKey)
)

const (
	number    = purse.Number("03105170070104791381")
	domainAID = card.AID("\xA0\x00\x00\x01\x51\x00\x00\x00")
	samAID    = card.AID("\xA0\x00\x00\x00\x03\x50\x53\x41\x4D")
)

// domain is a security domain that only holds the place of one.
type domain struct{}

func (domain) Select(*card.Session) iso7816.Response { return iso7816.Response{SW: iso7816.OK} }
func (domain) Process(*card.Session, iso7816.Command) iso7816.Response {
	return iso7816.Response{SW: iso7816.SWInstruction}
}

type catalog struct{}

func (catalog) Module(_, module card.AID) (card.Module, bool) {
	switch module {
	case card.AID(purse.AIDTUnion):
		return cardpurse.Module(), true
	case samAID:
		return psam.Module(), true
	}
	return card.Module{New: func() card.Applet { return domain{} }, Shared: true}, module == domainAID
}

func clear(in []byte) ([]byte, error) { return in, nil }

// element makes a card or a PSAM with one applet and its data.
func element(t testing.TB, aid card.AID, seed uint64, data map[uint16][]byte) *card.Element {
	t.Helper()
	e, err := card.New(card.Config{Rand: clock.Random(seed), Catalog: catalog{}, Domain: domainAID, DomainModule: domainAID})
	if err != nil {
		t.Fatal(err)
	}
	sw, err := e.Factory(func(s *card.Session) iso7816.SW {
		_, sw := s.Registry().Install(card.Entry{
			Kind: card.Application, State: card.StateSelectable, AID: aid, LoadFile: "koala", Module: aid, Domain: domainAID,
			Privileges: [3]byte{card.PrivilegeDefault},
		}, nil)
		return sw
	})
	if err != nil || !sw.OK() {
		t.Fatal(err, sw)
	}
	sw, err = e.Factory(func(s *card.Session) iso7816.SW {
		x, _ := s.Registry().Find(aid)
		for dgi, value := range data {
			if sw := s.Personalise(x.ID, dgi, value, clear); !sw.OK() {
				t.Errorf("DGI %04X: %v", dgi, sw)
			}
		}
		return iso7816.OK
	})
	if err != nil || !sw.OK() {
		t.Fatal(err, sw)
	}
	return e
}

func keyData(kind purse.KeyKind, key [16]byte) []byte {
	return purse.KeyRecord{Kind: kind, Index: 1, Version: 1, Key: key, KCV: iso9797.KCVDES(key[:])}.Bytes()
}

// A rider is a card in somebody's hand.
type rider struct {
	t testing.TB
	e *card.Element
	n purse.Number
}

func newRider(t testing.TB, n purse.Number, fen uint32, change ...func(*purse.File15, *purse.File17, *purse.Transit)) *rider {
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
	f := n.Factor()
	e := element(t, card.AID(purse.AIDTUnion), 7, map[uint16][]byte{
		purse.DGIPublic: f15.Bytes(), purse.DGIRegion: f17.Bytes(), purse.DGITransit: rail.Bytes(),
		purse.DGIKeyFirst:     keyData(purse.DPK, purse.Disperse(rootDPK, f)),
		purse.DGIKeyFirst + 1: keyData(purse.DLK, purse.Disperse(rootDLK, f)),
		purse.DGIKeyFirst + 2: keyData(purse.DTK, purse.Disperse(rootDTK, f)),
	})
	r := &rider{t, e, n}
	if fen > 0 {
		r.load(fen)
	}
	return r
}

func must(t testing.TB, r iso7816.Response, err error) []byte {
	t.Helper()
	if err != nil || !r.SW.OK() {
		t.Fatal(r.SW, err)
	}
	return r.Data
}

func (r *rider) send(c iso7816.Command) []byte {
	r.t.Helper()
	resp, err := r.e.Transmit(c)
	return must(r.t, resp, err)
}

func (r *rider) powerOn() {
	r.t.Helper()
	if err := r.e.PowerOn(card.Contactless); err != nil {
		r.t.Fatal(err)
	}
}

// load tops the card up as a host would.
func (r *rider) load(fen uint32) {
	r.t.Helper()
	r.powerOn()
	r.send(iso7816.Select(purse.AIDTUnion))
	x := purse.InitLoad{Purse: purse.EP, Key: 1, Fen: fen, Terminal: purse.Terminal{0x80, 1, 0, 0, 0, 1}}
	a, err := purse.ParseInitLoadAnswer(r.send(x.Command()))
	if err != nil {
		r.t.Fatal(err)
	}
	sk := purse.LoadSession(purse.Disperse(rootDLK, r.n.Factor()), a.Rnd, a.Seq)
	at := purse.StampOf(time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC))
	r.send(purse.CreditCommand{Stamp: at, MAC2: purse.LoadMAC2(sk, fen, purse.LoadEP, x.Terminal, at)}.Command())
	r.e.PowerOff()
}

// holds reads balance and rail record without a gate.
func (r *rider) holds() (uint32, purse.Transit) {
	r.t.Helper()
	r.e.Memory().CutAt(0, 0)
	r.powerOn()
	defer r.e.PowerOff()
	r.send(iso7816.Select(purse.AIDTUnion))
	fen, err := purse.ParseBalance(r.send(purse.GetBalance{Purse: purse.EP}.Command()))
	if err != nil {
		r.t.Fatal(err)
	}
	rail, err := purse.ParseTransit(r.send(iso7816.ReadRecordByID(0x27, purse.SFITransit, 0)))
	if err != nil {
		r.t.Fatal(err)
	}
	return fen, rail
}

var noon = time.Date(2024, 12, 30, 12, 0, 0, 0, calendar.Beijing)

// A vehicle is a validator with its PSAM and its flash.
type vehicle struct {
	t   testing.TB
	cfg bus.Config
	sam *card.Element
	v   *bus.Validator
	now *clock.Virtual
}

func newVehicle(t testing.TB, id byte, route bus.Route, now *clock.Virtual) *vehicle {
	t.Helper()
	tariff, err := fare.At(noon)
	if err != nil {
		t.Fatal(err)
	}
	v := &vehicle{t: t, now: now, sam: element(t, samAID, 3, map[uint16][]byte{
		purse.DGIHolder: {0x50, 0x01, 0x18, 0x00, 0x00, id}, purse.DGIKeyFirst: keyData(purse.DPK, rootDPK),
	})}
	v.cfg = bus.Config{
		Route: route, Tariff: tariff, City: [2]byte{0x10, 0}, Clock: now, Key: public,
		Debits: terminal.NewFlash(4), Denied: terminal.NewFlash(2),
	}
	v.boot()
	return v
}

func (v *vehicle) boot() {
	v.t.Helper()
	v.cfg.Debits.PowerOn()
	if err := v.sam.PowerOn(card.Contact); err != nil {
		v.t.Fatal(err)
	}
	var err error
	if v.v, err = bus.New(v.cfg, v.contact()); err != nil {
		v.t.Fatal(err)
	}
}

func (v *vehicle) contact() iso7816.Transmit { return (&card.T0{Card: v.sam.Transmit}).Transmit }

func (v *vehicle) tap(r *rider) (terminal.Outcome, error) {
	if err := r.e.PowerOn(card.Contactless); err != nil {
		return terminal.Outcome{Result: terminal.TryAgain}, nil // cut in recovery
	}
	defer r.e.PowerOff()
	return v.v.Tap(r.e.Transmit, v.contact())
}

func (v *vehicle) collected() (fen uint32) {
	v.t.Helper()
	for _, x := range v.v.Batch(1 << 20).Debits {
		tk := purse.TACKey(purse.Disperse(rootDTK, x.Card.Factor()))
		if x.TAC != purse.PurchaseTAC(tk, x.Fen, x.Type, x.Terminal, x.TSeq, x.At) {
			v.t.Errorf("sequence %d: wrong TAC", x.Seq)
		}
		fen += x.Fen
	}
	return fen
}
