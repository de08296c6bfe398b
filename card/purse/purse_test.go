package purse

import (
	"encoding/hex"
	"strings"

	"koala/card"
	"koala/card/cardtest"
	"koala/spec/iso7816"
	"koala/spec/iso9797"
	"koala/spec/purse"
)

// The keys of the constructed golden traces, at card level (dispersed once with
// factor 5170070104791381); DAMK is ours.
var (
	dpk  = key16("85B3F8D3A5E6E6A4BEBC4306CAAB53B4")
	dlk  = key16("C8772AF7DC2C96F6E65C4FE641A843C0")
	dtk  = key16("4515223C1E1EABB0E457FDD02769ACA8")
	damk = key16("505152535455565758595A5B5C5D5E5F")
)

const (
	purseAID = card.AID("\xA0\x00\x00\x06\x32\x01\x01\x05")
	// File 15 and file 17 head as NFSEE's tests have them.
	file15 = "01011000FFFFFFFF020103105170070104791381" + "20190718" + "20401231" + "0000"
	file17 = "0000015658005840000101"
	file04 = "10007515114099280102003000000000000000000000000020180410" + "20240410"
)

func unhex(s string) []byte {
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		panic(err)
	}
	return b
}

func key16(s string) [16]byte { return [16]byte(unhex(s)) }

// A bench is an element with one purse on it.
type bench struct {
	t      cardtest.T
	e      *cardtest.Element
	chance *cardtest.Chance
	self   card.ID
}

type option func(b *bench, s *card.Session)

func store(dgi uint16, data string) option {
	return func(b *bench, s *card.Session) {
		if sw := s.Personalise(b.self, dgi, unhex(data), cardtest.Clear); !sw.OK() {
			b.t.Fatalf("DGI %04X: %v", dgi, sw)
		}
	}
}

func storeKey(n uint16, kind purse.KeyKind, key [16]byte) option {
	r := purse.KeyRecord{Kind: kind, Index: 1, Version: 1, Key: key, KCV: iso9797.KCVDES(key[:])}
	return store(purse.DGIKeyFirst+n, hex.EncodeToString(r.Bytes()))
}

// holds puts the EP purse into a state.
func holds(have uint32, online, offline uint16) option {
	return func(b *bench, s *card.Session) {
		a := &applet{cells: regionOf(s, b.self)}
		w := a.side(purse.EP)
		w.have, w.online, w.offline = have, online, offline
		a.setSide(purse.EP, w)
	}
}

// regionOf finds the purse's cells from the maker's session.
func regionOf(s *card.Session, id card.ID) card.Region {
	own := *s
	own.Self = id
	return own.Region(regionTag)
}

func newBench(t cardtest.T, opts ...option) *bench {
	t.Helper()
	b := &bench{t: t, chance: &cardtest.Chance{}}
	b.e = cardtest.New(t, card.Config{Rand: b.chance}, cardtest.Modules{purseAID: Module()})
	b.self = b.e.Install(card.Entry{AID: purseAID})
	number := purse.Number("03105170070104791381")
	opts = append([]option{
		store(purse.DGIPublic, file15), store(purse.DGIRegion, file17),
		store(purse.DGITransit, hex.EncodeToString(purse.NewTransit(number).Bytes())),
		storeKey(0, purse.DPK, dpk), storeKey(1, purse.DLK, dlk), storeKey(2, purse.DTK, dtk), storeKey(3, purse.DAMK, damk),
	}, opts...)
	for _, o := range opts {
		b.e.Work(func(s *card.Session) iso7816.SW { o(b, s); return iso7816.OK })
	}
	b.tap()
	return b
}

// defaultSelected makes the purse what the contactless reader meets first.
func defaultSelected(b *bench, s *card.Session) {
	x, _ := s.Registry().Entry(b.self)
	x.Privileges[0] |= card.PrivilegeDefault
	s.Registry().Update(x)
}

// tap brings the card into the field and selects the purse.
func (b *bench) tap() {
	b.t.Helper()
	b.e.Power(card.Contactless)
	if r, err := b.e.Transmit(iso7816.Select([]byte(purseAID))); err != nil || r.Data == nil && r.SW.OK() {
		b.t.Fatalf("select: %v %v", r, err)
	}
}

func (b *bench) send(c iso7816.Command) iso7816.Response {
	b.t.Helper()
	return b.e.Send(c)
}

// run plays a script: "command > answer" per line, "…" for bytes of no matter.
func (b *bench) run(script string) {
	b.t.Helper()
	for line := range strings.Lines(script) {
		cmd, want, ok := strings.Cut(strings.TrimSpace(line), ">")
		if !ok {
			continue
		}
		raw, err := b.e.TransmitRaw(unhex(cmd))
		if err != nil {
			b.t.Fatalf("%s: %v", cmd, err)
		}
		got := strings.ToUpper(hex.EncodeToString(raw))
		head, tail, open := strings.Cut(strings.ReplaceAll(want, " ", ""), "…")
		if got != head && !(open && strings.HasPrefix(got, head) && strings.HasSuffix(got, tail)) {
			b.t.Errorf("%s\n got %s\nwant %s", cmd, got, want)
		}
	}
}

// state is everything of the purse that lasts.
func (b *bench) state() string {
	b.t.Helper()
	out := ""
	on := b.e.Powered()
	b.e.Work(func(s *card.Session) iso7816.SW {
		out = string(regionOf(s, b.self).Bytes())
		return iso7816.OK
	})
	if on {
		b.tap()
	}
	return out
}

var (
	gate  = purse.Terminal(unhex("300089000340"))
	kiosk = purse.Terminal(unhex("800100000001"))
	stamp = purse.StampFrom([7]byte(unhex("20241229141740")))
)

// debitOf is the terminal's next command after INITIALIZE, with a right MAC1.
func debitOf(a purse.InitPurchaseAnswer, typ purse.Type, fen, tseq uint32) purse.DebitCommand {
	sk := purse.PurchaseSession(dpk, a.Rnd, a.Seq, tseq)
	return purse.DebitCommand{TSeq: tseq, Stamp: stamp, MAC1: purse.PurchaseMAC1(sk, fen, typ, gate, stamp)}
}

// creditOf is the host's next command, with a right MAC2.
func creditOf(a purse.InitLoadAnswer, typ purse.Type, fen uint32) purse.CreditCommand {
	sk := purse.LoadSession(dlk, a.Rnd, a.Seq)
	return purse.CreditCommand{Stamp: stamp, MAC2: purse.LoadMAC2(sk, fen, typ, kiosk, stamp)}
}

func (b *bench) initPurchase(x purse.InitPurchase) (purse.InitPurchaseAnswer, iso7816.SW) {
	b.t.Helper()
	x.Key, x.Terminal = 1, gate
	r := b.send(x.Command())
	if !r.SW.OK() {
		return purse.InitPurchaseAnswer{}, r.SW
	}
	a, err := purse.ParseInitPurchaseAnswer(r.Data)
	if err != nil {
		b.t.Fatalf("%v", err)
	}
	return a, r.SW
}

func (b *bench) initLoad(fen uint32) (purse.InitLoadAnswer, iso7816.SW) {
	b.t.Helper()
	r := b.send(purse.InitLoad{Purse: purse.EP, Key: 1, Fen: fen, Terminal: kiosk}.Command())
	if !r.SW.OK() {
		return purse.InitLoadAnswer{}, r.SW
	}
	a, err := purse.ParseInitLoadAnswer(r.Data)
	if err != nil {
		b.t.Fatalf("%v", err)
	}
	return a, r.SW
}

func (b *bench) balance() uint32 {
	b.t.Helper()
	fen, err := purse.ParseBalance(b.send(purse.GetBalance{Purse: purse.EP}.Command()).Data)
	if err != nil {
		b.t.Fatalf("%v", err)
	}
	return fen
}
