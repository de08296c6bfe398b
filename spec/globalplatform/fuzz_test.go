package globalplatform

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"koala/spec/iso7816"
)

// FuzzCommands: every parser stands any bytes; what parses codes back to
// something that parses to the same.
func FuzzCommands(f *testing.F) {
	for _, s := range []string{
		"80F21002024F00", "80F0408008A000000632010105", "80E620000F000008A000000632010105000000",
		"80E400000A4F08A000000632010105", "80E80000 05 C403010203", "80E2880008001605313233343500",
		"80D8000118308810404142434445464748494A4B4C4D4E4F03504A77", "8050300008010000000000000000",
		"80F22002084F005C044F9F70C5", "80D8000150 70 B041 04" + strings.Repeat("11", 64) + "F0010000",
		"80E6020013 06A00000063201 08A000000151000000 000000",
	} {
		f.Add(unhex(f, s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		c, err := iso7816.ParseCommand(raw)
		if err != nil {
			return
		}
		Explain(c, iso7816.Response{Data: raw, SW: iso7816.OK})
		again := func(what string, parse func(iso7816.Command) (any, iso7816.Command, error)) {
			v, back, err := parse(c)
			if err != nil {
				return
			}
			if w, _, err := parse(back); err != nil || fmt.Sprint(w) != fmt.Sprint(v) {
				t.Errorf("%s %X: %v writes %v and reads %v %v", what, raw, v, back, w, err)
			}
		}
		again("INSTALL", func(c iso7816.Command) (any, iso7816.Command, error) {
			x, err := ParseInstall(c)
			if len(x.Params)+len(x.Token)+len(x.Hash) > 1000 {
				return x, c, err
			}
			return fmt.Sprintf("%+v", x), x.Command(), err
		})
		again("GET STATUS", func(c iso7816.Command) (any, iso7816.Command, error) {
			x, err := ParseGetStatus(c)
			return x, x.Command(), err
		})
		again("SET STATUS", func(c iso7816.Command) (any, iso7816.Command, error) {
			x, err := ParseSetStatus(c)
			return x, x.Command(), err
		})
		again("DELETE", func(c iso7816.Command) (any, iso7816.Command, error) {
			x, err := ParseDelete(c)
			return x, x.Command(), err
		})
		again("PUT KEY", func(c iso7816.Command) (any, iso7816.Command, error) {
			x, err := ParsePutKey(c)
			return x, x.Command(MeasuredKeys), err
		})
		_, _, _, _ = ParseLoad(c)
		_, _ = ParseStoreData(c)
		_, _, _ = ParseInitializeUpdate(c)
	})
}

// FuzzAnswers does the same for what a card says.
func FuzzAnswers(f *testing.F) {
	f.Add(CardData(3, 0x70))
	f.Add(KeyTemplate([]KeyInfo{{1, 0xFF, AES, 16}}))
	f.Add(CPLC{}.Bytes())
	f.Add(InitAnswer{Protocol: 3, Option: OptionSCP03}.Bytes())
	f.Add(InitAnswer{Protocol: 2}.Bytes())
	f.Add(Entry{AID: inst, State: 7, LoadFile: pkg}.Append(nil, Applications, nil))
	f.Add(PutKeyAnswer(0x30, [3]byte{1, 2, 3}))
	f.Fuzz(func(t *testing.T, in []byte) {
		_, _, _ = ParseCardData(in)
		_, _ = ParseKeyTemplate(in)
		_, _ = ParseStatus(in)
		if a, err := ParseInitAnswer(in); err == nil && !bytes.Equal(a.Bytes(), in) {
			t.Errorf("%X writes %X", in, a.Bytes())
		}
		if p, err := ParseCPLC(in); err == nil && !bytes.HasSuffix(p.Bytes(), in[len(in)-42:]) {
			t.Errorf("%X writes %X", in, p.Bytes())
		}
		if v, checks, err := ParsePutKeyAnswer(in); err == nil && !bytes.Equal(PutKeyAnswer(v, checks...), in) {
			t.Errorf("%X writes %X", in, PutKeyAnswer(v, checks...))
		}
	})
}

// FuzzDGI: a grouping that reads writes the same bytes.
func FuzzDGI(f *testing.F) {
	f.Add([]byte{0x00, 0x16, 0x01, 0xAA})
	f.Add(append([]byte{0x00, 0x16, 0xFF, 0x01, 0x00}, make([]byte, 256)...))
	f.Fuzz(func(t *testing.T, in []byte) {
		d, rest, ok, err := NextDGI(in)
		if !ok || err != nil {
			return
		}
		if again := append(d.Append(nil), rest...); !bytes.Equal(again, in) {
			t.Errorf("%X writes %X", in, again)
		}
	})
}

// FuzzOpen: no bytes pass the MAC of a session but the right ones, none panic.
func FuzzOpen(f *testing.F) {
	f.Add(unhex(f, "84F280020A4F003B95F09317DE6A4E00"), byte(0x33))
	f.Fuzz(func(t *testing.T, raw []byte, level byte) {
		c, err := iso7816.ParseCommand(raw)
		if err != nil {
			return
		}
		keys := FactoryKeys()
		two, a2, _ := NewCard02(keys, [10]byte{}, 1, [6]byte{}, [8]byte{})
		three, a3, _ := NewCard03(keys, [10]byte{}, 1, IssuerDomain, [8]byte{})
		for i, k := range []*Card{two, three} {
			h, auth, err := NewHost(keys, [8]byte{}, []InitAnswer{a2, a3}[i], Level(level))
			if err != nil {
				continue
			}
			if err := k.Authenticate(auth); err != nil {
				t.Fatal(err)
			}
			if got, err := k.Open(c); err == nil && h.Level()&CMAC != 0 {
				t.Errorf("%X opens as %v", raw, got)
			}
			_, _ = h.Wrap(iso7816.Command{CLA: CLA})
			_, _ = h.Unwrap(iso7816.Response{Data: raw, SW: iso7816.OK})
		}
	})
}
