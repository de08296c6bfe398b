package band_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"koala/band"
	"koala/card"
	"koala/card/cardtest"
	cardpurse "koala/card/purse"
	"koala/spec/iso7816"
	"koala/spec/iso9797"
	"koala/spec/purse"
)

const purseAID = card.AID("\xA0\x00\x00\x06\x32\x01\x01\x05")

// modules is what the bands' elements can install.
var modules = cardtest.Modules{purseAID: cardpurse.Module()}

var (
	loadKey  = [16]byte{1, 2, 3}
	tacKey   = [16]byte{4, 5, 6}
	terminal = purse.Terminal{0x80, 1, 0, 0, 0, 1}
	stamp    = purse.StampFrom([7]byte{0x20, 0x26, 0x11, 0x23, 0x08, 0, 0})
)

func newBand(t testing.TB) *band.Band {
	t.Helper()
	e := cardtest.New(t, card.Config{UID: [7]byte{4, 1, 2, 3, 4, 5, 6}}, modules)
	id := e.Install(card.Entry{AID: purseAID})
	for i, k := range []purse.KeyRecord{{Kind: purse.DLK, Key: loadKey}, {Kind: purse.DTK, Key: tacKey}} {
		k.Index, k.Version, k.KCV = 1, 1, iso9797.KCVDES(k.Key[:])
		e.Store(id, purse.DGIKeyFirst+uint16(i), k.Bytes())
	}
	b, err := band.New("band_1", e.Element)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// A house tops a band up once and finds out by reading the card whether it did:
// the order of business of the tsm, without its books.
type house struct {
	fen     uint32
	bound   int // online sequence the top-up is bound to, -1 none yet
	done    bool
	n       int
	stage   string
	current band.Script
	seen    map[string]bool
	breaks  int // reports that get lost before they arrive
	loses   int // answers to reports that get lost after they arrived
}

func newHouse(fen uint32) *house { return &house{fen: fen, bound: -1, seen: map[string]bool{}} }

func (h *house) script(stage string, cmds ...iso7816.Command) {
	h.n++
	h.stage, h.current = stage, band.Script{ID: fmt.Sprintf("scr_%d", h.n), Order: "ord_1"}
	for _, c := range cmds {
		h.current.Steps = append(h.current.Steps, band.Step{APDU: c.Bytes(), Expect: []iso7816.SW{iso7816.OK}})
	}
}

func (h *house) Next(context.Context, string, band.Hello) (band.Script, error) {
	if h.done {
		return band.Script{Done: true}, nil
	}
	if h.current.ID == "" {
		h.script("init", iso7816.Select([]byte(purseAID)), purse.InitLoad{Purse: purse.EP, Key: 1, Fen: h.fen, Terminal: terminal}.Command())
	}
	return h.current, nil
}

var errLost = errors.New("the report was lost")

func (h *house) Report(_ context.Context, _, script string, answers [][]byte, cut bool) error {
	if h.breaks > 0 {
		h.breaks--
		return errLost
	}
	if h.seen[script] {
		return nil
	}
	h.seen[script] = true
	stage := h.stage
	h.current, h.stage = band.Script{}, ""
	switch {
	case stage == "init" && len(answers) == 2 && len(answers[1]) == 18:
		a, err := purse.ParseInitLoadAnswer(answers[1][:16])
		if err != nil {
			return err
		}
		if h.bound >= 0 && int(a.Seq) > h.bound {
			h.done = true // the card has moved on: paid
			break
		}
		h.bound = int(a.Seq)
		sk := purse.LoadSession(loadKey, a.Rnd, a.Seq)
		h.script("credit", purse.CreditCommand{Stamp: stamp, MAC2: purse.LoadMAC2(sk, h.fen, purse.LoadEP, terminal, stamp)}.Command())
	case stage == "credit" && !cut:
		h.done = len(answers) == 1 && len(answers[0]) == 6
	}
	if h.loses > 0 {
		h.loses--
		return errLost
	}
	return nil
}

func balanceOf(t testing.TB, b *band.Band) uint32 {
	t.Helper()
	b.Suffer(band.Fault{})
	card, err := b.Field()
	if err != nil {
		t.Fatal(err)
	}
	defer b.Leave()
	_, _ = card(iso7816.Select([]byte(purseAID)))
	r, err := card(purse.GetBalance{Purse: purse.EP}.Command())
	if err != nil {
		t.Fatal(err)
	}
	fen, err := purse.ParseBalance(r.Data)
	if err != nil {
		t.Fatal(err)
	}
	return fen
}

// finish runs the agent until the house is done; reports may fail on the way,
// and the band is written down and read back in between.
func finish(t *testing.T, b *band.Band, link band.Link, h *house) *band.Band {
	t.Helper()
	for range 10 {
		if err := b.Run(context.Background(), link); err != nil && !errors.Is(err, errLost) && !errors.Is(err, band.ErrLink) {
			t.Fatal(err)
		}
		again, err := band.Load(b.Image(), modules, new(cardtest.Chance))
		if err != nil {
			t.Fatal(err)
		}
		if b = again; h.done {
			return b
		}
	}
	t.Fatal("the order never ended")
	return nil
}

// The contact fails at every write and at every answer, the report gets lost
// before or after it arrived: the top-up is paid exactly once.
func TestTopUpIsPaidOnce(t *testing.T) {
	for cut := 0; cut <= 12; cut++ {
		for lose := 0; lose <= 4; lose++ {
			for lost := range 3 {
				b, h := newBand(t), newHouse(50_00)
				b.Suffer(band.Fault{Cut: cut, Keep: 20, Lose: lose})
				h.breaks, h.loses = lost%2, lost/2
				b = finish(t, b, h, h)
				if got := balanceOf(t, b); got != 50_00 {
					t.Fatalf("cut %d, answer %d lost, report %d lost: balance %d", cut, lose, lost, got)
				}
			}
		}
	}
}

// serve puts a house behind HTTP as web/device does.
func serve(t *testing.T, h *house) *band.HTTPLink {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /device/bands/{id}/next", func(w http.ResponseWriter, r *http.Request) {
		var in band.HelloJSON
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil || in.UID != "04010203040506" || r.PathValue("id") != "band_1" {
			http.Error(w, "hello", http.StatusBadRequest)
			return
		}
		s, _ := h.Next(r.Context(), "", band.Hello{})
		_ = json.NewEncoder(w).Encode(s.JSON())
	})
	mux.HandleFunc("POST /device/bands/{id}/report", func(w http.ResponseWriter, r *http.Request) {
		var in band.ReportJSON
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil || r.Header.Get("Authorization") != "Bearer t0ken" {
			http.Error(w, "report", http.StatusBadRequest)
			return
		}
		answers := make([][]byte, len(in.Answers))
		for i, a := range in.Answers {
			answers[i], _ = hex.DecodeString(a)
		}
		if h.Report(r.Context(), "", in.Script, answers, in.Cut) != nil {
			http.Error(w, "lost", http.StatusServiceUnavailable)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return &band.HTTPLink{Base: s.URL + "/device/", Token: "t0ken", Client: s.Client()}
}

func TestTopUpOverHTTP(t *testing.T) {
	h := newHouse(12_00)
	h.breaks, h.loses = 1, 1
	b := finish(t, newBand(t), serve(t, h), h)
	if got := balanceOf(t, b); got != 12_00 {
		t.Errorf("balance %d", got)
	}
}

func TestHTTPLinkRefusesNonsense(t *testing.T) {
	for _, tt := range []struct {
		name, body string
		status     int
		want       error
	}{
		{"failure", "{}", 500, band.ErrLink},
		{"no JSON", "<html>", 200, band.ErrLink},
		{"too long", `{"id":"` + strings.Repeat("a", 1<<20) + `"}`, 200, band.ErrLink},
		{"no hexadecimal", `{"id":"s","steps":[{"apdu":"0G"}]}`, 200, band.ErrScript},
		{"no status word", `{"id":"s","steps":[{"apdu":"00A40400","expect":["nine"]}]}`, 200, band.ErrScript},
		{"no command", `{"id":"s","steps":[{"apdu":"00"}]}`, 200, band.ErrScript},
		{"no id", `{"steps":[{"apdu":"00A40400"}]}`, 200, band.ErrScript},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(tt.status)
				_, _ = w.Write([]byte(tt.body))
			}))
			defer s.Close()
			if err := newBand(t).Run(context.Background(), &band.HTTPLink{Base: s.URL}); !errors.Is(err, tt.want) {
				t.Errorf("%v, want %v", err, tt.want)
			}
		})
	}
	if err := newBand(t).Run(context.Background(), &band.HTTPLink{Base: "http://127.0.0.1:1"}); !errors.Is(err, band.ErrLink) {
		t.Errorf("nobody there: %v", err)
	}
}

// one is a house with one script, whose report it keeps.
type one struct {
	script  band.Script
	answers [][]byte
	cut     bool
	told    bool
}

func (o *one) Next(context.Context, string, band.Hello) (band.Script, error) {
	if o.told {
		return band.Script{Done: true}, nil
	}
	return o.script, nil
}

func (o *one) Report(_ context.Context, _, _ string, answers [][]byte, cut bool) error {
	o.answers, o.cut, o.told = answers, cut, true
	return nil
}

func TestScriptStopsAtTheFirstUnexpectedAnswer(t *testing.T) {
	steps := []band.Step{
		{APDU: iso7816.Select([]byte(purseAID)).Bytes()},
		{APDU: purse.GetBalance{Purse: 7}.Command().Bytes(), Expect: []iso7816.SW{iso7816.OK, iso7816.SWP1P2}},
		{APDU: purse.GetBalance{Purse: 7}.Command().Bytes()},
		{APDU: purse.GetBalance{Purse: purse.EP}.Command().Bytes()},
	}
	h := &one{script: band.Script{ID: "s", Steps: steps}}
	b := newBand(t)
	if err := b.Run(context.Background(), h); err != nil || len(h.answers) != 3 || h.cut || b.Element.Powered() {
		t.Errorf("%v: %X cut %v", err, h.answers, h.cut)
	}
}

func TestFlatBatteryStillTaps(t *testing.T) {
	b := newBand(t)
	b.Battery = 1
	if err := b.Run(context.Background(), newHouse(1)); !errors.Is(err, band.ErrFlat) {
		t.Errorf("%v", err)
	}
	if balanceOf(t, b) != 0 {
		t.Error("no balance")
	}
}

func TestBadIDs(t *testing.T) {
	for _, id := range []string{"", strings.Repeat("x", band.MaxIDLen+1)} {
		if _, err := band.New(id, nil); !errors.Is(err, band.ErrID) {
			t.Errorf("%d bytes: %v", len(id), err)
		}
	}
}

// Every single changed byte and every shortening of an image is noticed.
func TestDamagedImages(t *testing.T) {
	b := newBand(t)
	b.Wear(false)
	b.Battery = 42
	image := b.Image()
	back, err := band.Load(image, modules, new(cardtest.Chance))
	if err != nil || back.ID != b.ID || back.Worn() || back.Battery != 42 || !bytes.Equal(back.Image(), image) {
		t.Fatalf("%+v %v", back, err)
	}
	for i := 0; i < len(image); i += 7 {
		bad := bytes.Clone(image)
		bad[i] ^= 0x40
		if _, err := band.Load(bad, modules, new(cardtest.Chance)); !errors.Is(err, band.ErrImage) {
			t.Fatalf("byte %d changed: %v", i, err)
		}
		if _, err := band.Load(image[:i], modules, new(cardtest.Chance)); !errors.Is(err, band.ErrImage) {
			t.Fatalf("cut to %d: %v", i, err)
		}
	}
}

func FuzzLoad(f *testing.F) {
	f.Add(newBand(f).Image())
	f.Fuzz(func(t *testing.T, in []byte) {
		if b, err := band.Load(in, modules, new(cardtest.Chance)); err == nil && !bytes.Equal(b.Image(), in) {
			t.Error("another image comes out")
		}
	})
}
