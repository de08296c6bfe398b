package main

import (
	"crypto/ed25519"
	"fmt"
	"io"
	"time"

	"koala/calendar"
	"koala/card"
	"koala/card/catalog"
	"koala/card/isd"
	"koala/card/psam"
	"koala/fare"
	"koala/internal/clock"
	gp "koala/spec/globalplatform"
	"koala/spec/iso7816"
	"koala/spec/iso9797"
	"koala/spec/purse"
	"koala/terminal"
	"koala/terminal/gate"
	"koala/transit/network"
)

// A workshop makes cards and gates that fit each other, with keys of its own
// and without a house: over a secure channel with the factory's keys.
type workshop struct {
	catalog *catalog.Catalog
	rand    io.Reader
	roots   map[purse.KeyKind][16]byte
	sign    ed25519.PrivateKey
	made    int
}

// morning is when the bench's city wakes up.
var morning = time.Date(2015, 9, 16, 6, 0, 0, 0, calendar.Beijing)

func newWorkshop() (*workshop, error) {
	w := &workshop{catalog: catalog.New(isd.Config{}), rand: clock.Random(1), roots: map[purse.KeyKind][16]byte{}}
	for _, kind := range []purse.KeyKind{purse.DPK, purse.DLK, purse.DTK, purse.DAMK} {
		var k [16]byte
		if _, err := io.ReadFull(w.rand, k[:]); err != nil {
			return nil, err
		}
		w.roots[kind] = k
	}
	seed := make([]byte, ed25519.SeedSize)
	if _, err := io.ReadFull(w.rand, seed); err != nil {
		return nil, err
	}
	w.sign = ed25519.NewKeyFromSeed(seed)
	return w, nil
}

// next is the number of the next card.
func (w *workshop) next() purse.Number {
	w.made++
	return purse.Number(fmt.Sprintf("0310517%013d", w.made))
}

// write makes an element and writes one applet into it: channel, install,
// personalisation.
func (w *workshop) write(file, module card.AID, data func(key func(purse.KeyKind, [16]byte) []byte) []gp.DGI) (*card.Element, error) {
	e, err := w.catalog.NewElement([7]byte{8, 1}, clock.Random(uint64(w.made)))
	if err != nil {
		return nil, err
	}
	if err := e.PowerOn(card.Contact); err != nil {
		return nil, err
	}
	defer e.PowerOff()
	host, err := openChannel(e)
	if err != nil {
		return nil, err
	}
	var sealed error
	groups := data(func(kind purse.KeyKind, key [16]byte) []byte {
		cipher, err := host.EncryptKey(key[:])
		if err != nil || len(cipher) != len(key) {
			sealed = fmt.Errorf("a key of %d bytes enciphered: %w", len(cipher), err)
			return nil
		}
		return purse.KeyRecord{Kind: kind, Index: 1, Version: 1, Key: [16]byte(cipher), KCV: iso9797.KCVDES(key[:])}.Bytes()
	})
	if sealed != nil {
		return nil, sealed
	}
	list, err := gp.StoreData(groups, host.MaxData())
	if err != nil {
		return nil, err
	}
	aid := gp.AID(module)
	list = append([]iso7816.Command{gp.InstallApplet(gp.AID(file), aid, aid, gp.Privileges{}, nil).Command(), gp.Personalize(aid).Command()}, list...)
	for _, c := range list {
		wrapped, err := host.Wrap(c)
		if err != nil {
			return nil, err
		}
		if _, err := demand(e, wrapped); err != nil {
			return nil, err
		}
	}
	return e, nil
}

// openChannel opens SCP03 with the factory's keys, commands with MAC.
func openChannel(e *card.Element) (*gp.Host, error) {
	if _, err := demand(e, iso7816.Select(nil)); err != nil {
		return nil, err
	}
	raw, err := demand(e, gp.InitializeUpdate(0, [8]byte{1}))
	if err != nil {
		return nil, err
	}
	a, err := gp.ParseInitAnswer(raw)
	if err != nil {
		return nil, err
	}
	host, auth, err := gp.NewHost(gp.FactoryKeys(), [8]byte{1}, a, 0x03)
	if err != nil {
		return nil, err
	}
	_, err = demand(e, auth)
	return host, err
}

// demand sends a command that must end well.
func demand(e *card.Element, c iso7816.Command) ([]byte, error) {
	r, err := e.Transmit(c)
	if err == nil && !r.SW.OK() {
		err = fmt.Errorf("instruction %02X: the element answers %v", c.INS, r.SW)
	}
	return r.Data, err
}

// card makes a card with as much money as it may hold.
func (w *workshop) card(n purse.Number) (*card.Element, error) {
	f := n.Factor()
	e, err := w.write(catalog.PurseLoadFile, catalog.PurseModule, func(key func(purse.KeyKind, [16]byte) []byte) []gp.DGI {
		groups := []gp.DGI{
			{ID: purse.DGIPublic, Data: purse.File15{Issuer: [8]byte{1, 1, 0x10, 0, 0xFF, 0xFF, 0xFF, 0xFF}, AppType: 2, Version: 1, Number: n,
				From: purse.DateBCD(2015, 1, 1), To: purse.DateBCD(2040, 12, 31)}.Bytes()},
			{ID: purse.DGIRegion, Data: purse.File17{Country: [4]byte{0, 0, 1, 0x56}, City: [2]byte{0x10, 0}, Interop: [2]byte{0, 1},
				CardType: purse.CardOrdinary}.Bytes()},
			{ID: purse.DGITransit, Data: purse.NewTransit(n).Bytes()},
		}
		for i, kind := range []purse.KeyKind{purse.DPK, purse.DLK, purse.DTK, purse.DAMK} {
			groups = append(groups, gp.DGI{ID: purse.DGIKeyFirst + uint16(i), Data: key(kind, purse.Disperse(w.roots[kind], f))})
		}
		return groups
	})
	if err != nil {
		return nil, fmt.Errorf("writing a card: %w", err)
	}
	if err := w.load(e, n, 1000_00); err != nil {
		return nil, fmt.Errorf("loading a card: %w", err)
	}
	return e, nil
}

// load tops a card up as the issuer's host does.
func (w *workshop) load(e *card.Element, n purse.Number, fen uint32) error {
	if err := e.PowerOn(card.Contact); err != nil {
		return err
	}
	defer e.PowerOff()
	if _, err := demand(e, iso7816.Select(purse.AIDTUnion)); err != nil {
		return err
	}
	x := purse.InitLoad{Purse: purse.EP, Key: 1, Fen: fen, Terminal: purse.Terminal{0x80, 1, 0, 0, 0, 1}}
	raw, err := demand(e, x.Command())
	if err != nil {
		return err
	}
	a, err := purse.ParseInitLoadAnswer(raw)
	if err != nil {
		return err
	}
	key := purse.LoadSession(purse.Disperse(w.roots[purse.DLK], n.Factor()), a.Rnd, a.Seq)
	at := purse.StampOf(morning)
	_, err = demand(e, purse.CreditCommand{Stamp: at, MAC2: purse.LoadMAC2(key, fen, x.Type(), x.Terminal, at)}.Command())
	return err
}

// A turnstile is a gate with its PSAM.
type turnstile struct {
	gate    *gate.Gate
	contact iso7816.Transmit
}

// open makes the gates of a line: in at 东单, out at 西单.
func (w *workshop) open(rate terminal.Rate) (*line, error) {
	l := &line{clock: clock.NewVirtual(morning)}
	var err error
	if l.in, err = w.turnstile("东单", gate.Entry, rate, l.clock); err != nil {
		return nil, err
	}
	l.out, err = w.turnstile("西单", gate.Exit, rate, l.clock)
	return l, err
}

func (w *workshop) turnstile(station string, kind gate.Kind, rate terminal.Rate, now *clock.Virtual) (*turnstile, error) {
	s, err := network.Beijing().Find(station)
	if err != nil {
		return nil, err
	}
	number := []byte{0x30, byte(kind), byte(s.Code() >> 24), byte(s.Code() >> 16), byte(s.Code() >> 8), byte(s.Code())}
	sam, err := w.write(catalog.PSAMLoadFile, catalog.PSAMModule, func(key func(purse.KeyKind, [16]byte) []byte) []gp.DGI {
		return []gp.DGI{
			{ID: purse.DGIHolder, Data: number},
			{ID: psam.DGISettings, Data: psam.Settings{Levels: 1, Tries: 15, TSeq: 1}.Bytes()},
			{ID: purse.DGIKeyFirst, Data: key(purse.DPK, w.roots[purse.DPK])},
		}
	})
	if err != nil {
		return nil, fmt.Errorf("writing a PSAM: %w", err)
	}
	if err := sam.PowerOn(card.Contact); err != nil {
		return nil, err
	}
	t := &turnstile{contact: (&card.T0{Card: sam.Transmit}).Transmit}
	if _, err := t.contact(iso7816.Select([]byte(catalog.PSAMModule))); err != nil {
		return nil, err
	}
	t.gate, err = gate.New(gate.Config{
		Kind: kind, Station: s.Code(), City: [2]byte{0x10, 0}, Clock: now, Key: w.sign.Public().(ed25519.PublicKey), MinBalance: 3_00,
		Debits: terminal.NewFlash(256), Denied: terminal.NewFlash(2), Tariff: terminal.NewFlash(64), Rate: rate, Record: true,
	}, t.contact)
	if err != nil {
		return nil, err
	}
	pack, err := w.pack(s)
	if err != nil {
		return nil, err
	}
	return t, t.gate.Load(pack)
}

// pack is a station's signed fare table.
func (w *workshop) pack(s *network.Station) ([]byte, error) {
	day := calendar.Of(morning, calendar.Beijing)
	tariff, err := fare.On(day)
	if err != nil {
		return nil, err
	}
	table, err := network.Beijing().Table(s, tariff, 1, fare.Day{Date: day}, fare.Day{})
	if err != nil {
		return nil, err
	}
	pack, err := table.AppendBinary(nil)
	if err != nil {
		return nil, err
	}
	return append(pack, ed25519.Sign(w.sign, pack)...), nil
}
