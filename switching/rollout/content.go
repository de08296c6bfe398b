package rollout

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"

	"koala/spec/emv"
	"koala/spec/pboc"
	"koala/spec/tlv"
	"koala/switching/pack"
)

// Settings are what people can set of a pack; amounts are fen.
type Settings struct {
	Wait    int    // seconds for an answer, 5 to 99
	Redial  int    // how often to dial again, 0 to 9
	SignOff bool   // by itself after settlement
	Resend  int    // repeats of a reversal before the terminal asks for help, 1 to 9
	Tap     int64  // largest offline Quickpass payment
	CVM     int64  // from which a tap wants a PIN or a signature
	ECash   int64  // largest payment by e-cash in the slot
	Black   uint32 // oldest black list to work with; 0 any
}

// Usual are the settings of the first pack: the protocol's times, UnionPay's
// limits of offline Quickpass in 2015.
var Usual = Settings{Wait: 60, Redial: 3, Resend: 3, Tap: 1000_00, CVM: 300_00, ECash: 1000_00}

// maxLimit bounds a limit of taps and e-cash, fen (house rule).
const maxLimit = 5000_00

// Check refuses settings that no terminal is given.
func (s Settings) Check() error {
	within := func(v, least, most int64) bool { return v >= least && v <= most }
	if !within(int64(s.Wait), 5, 99) || !within(int64(s.Redial), 0, 9) || !within(int64(s.Resend), 1, 9) ||
		!within(s.Tap, 0, maxLimit) || !within(s.CVM, 0, s.Tap) || !within(s.ECash, 0, maxLimit) {
		return fmt.Errorf("settings %+v: %w", s, ErrSettings)
	}
	return nil
}

// Of reads the settings of a pack; what it does not say is as usual.
func Of(p pack.Pack) Settings {
	s := Usual
	s.Black = p.Black
	for _, x := range p.Parameters {
		n := 0
		if _, err := fmt.Sscan(x.Value, &n); err != nil {
			continue
		}
		switch x.Number {
		case 12:
			s.Wait = n
		case 13:
			s.Redial = n
		case 21:
			s.SignOff = n == 1
		case 23:
			s.Resend = n
		}
	}
	if len(p.Applications) > 0 {
		data := p.Applications[0].Data
		for tag, to := range map[tlv.Tag]*int64{tagAirLimit: &s.Tap, tagAirCVMLimit: &s.CVM, tagCashLimit: &s.ECash} {
			v, _ := tlv.Find(data, tag)
			if fen, err := pboc.ParseAmount(v); err == nil {
				*to = int64(fen)
			}
		}
	}
	return s
}

// Make is a pack of settings and CA keys. Of two keys of one name the first is
// taken; one without a last day, or whose last day was before day (YYYYMMDD),
// is not brought.
func Make(number uint32, s Settings, keys []emv.CAKey, day string) (pack.Pack, error) {
	if err := s.Check(); err != nil {
		return pack.Pack{}, err
	}
	off := 0
	if s.SignOff {
		off = 1
	}
	p := pack.Pack{Number: number, Black: s.Black, Applications: applications(s),
		Parameters: []pack.Parameter{{Number: 12, Value: fmt.Sprintf("%02d", s.Wait)}, {Number: 13, Value: fmt.Sprint(s.Redial)}, {Number: 21, Value: fmt.Sprint(off)}, {Number: 23, Value: fmt.Sprint(s.Resend)}}}
	for _, k := range keys {
		if k.Last == "" || k.Last < day || slices.ContainsFunc(p.Keys, func(x emv.CAKey) bool { return byName(x, k) == 0 }) {
			continue
		}
		p.Keys = append(p.Keys, k)
	}
	slices.SortFunc(p.Keys, byName)
	_, err := p.Bytes()
	return p, err
}

func byName(a, b emv.CAKey) int {
	return cmp.Or(bytes.Compare(a.RID[:], b.RID[:]), cmp.Compare(a.Index, b.Index))
}

// lastDays are those of UnionPay's live RSA keys, by index. The list of keys
// (spec/emv) has none; these are what acquirers' parameter files in public
// repositories say of the same moduli, where they differ what most of them say.
var lastDays = map[byte]string{0x01: "20141231", 0x02: "20211231", 0x03: "20221231", 0x04: "20221231"}

// Published are UnionPay's live keys with their last days. Test keys are not
// brought to shops.
func Published() (out []emv.CAKey) {
	for _, k := range emv.CAKeys() {
		if k.RID != emv.RIDUnionPay || k.Environment != "live" {
			continue
		}
		if k.Last == "" {
			k.Last = lastDays[k.Index]
		}
		out = append(out, k)
	}
	return out
}

// Objects of AID parameters (docs/terminal-protocol.md section 10).
const (
	tagCashLimit   tlv.Tag = 0x9F7B
	tagAirFloor    tlv.Tag = 0xDF19
	tagAirLimit    tlv.Tag = 0xDF20
	tagAirCVMLimit tlv.Tag = 0xDF21
)

// version is that of the debit and credit application, PBOC 3.0.
const version = 0x0030

// applications are UnionPay's debit, credit and quasi-credit: part of the name is
// enough, default DDOL 9F37, random selection up to 99 per cent.
func applications(s Settings) (out []pack.Application) {
	amount := func(fen int64) []byte { b := pboc.Amount(uint64(fen)); return b[:] }
	var data []byte
	for _, f := range []struct {
		tag tlv.Tag
		val []byte
	}{
		{0xDF01, []byte{0}}, {emv.TagTerminalVersion, binary.BigEndian.AppendUint16(nil, version)}, {0xDF11, []byte{0xD8, 0x40, 0x00, 0xA8, 0x00}}, {0xDF12, []byte{0xD8, 0x40, 0x04, 0xF8, 0x00}},
		{0xDF13, []byte{0x00, 0x10, 0x00, 0x00, 0x00}}, {emv.TagFloorLimit, []byte{0, 0, 0, 0}}, {0xDF15, []byte{0, 0, 0, 0}}, {0xDF16, []byte{99}}, {0xDF17, []byte{50}},
		{0xDF14, []byte{0x9F, 0x37, 0x04}}, {0xDF18, []byte{1}}, {tagCashLimit, amount(s.ECash)}, {tagAirFloor, amount(0)}, {tagAirLimit, amount(s.Tap)}, {tagAirCVMLimit, amount(s.CVM)},
	} {
		data = tlv.Append(data, f.tag, f.val)
	}
	for _, last := range []byte{0x01, 0x02, 0x03} {
		out = append(out, pack.Application{AID: []byte{0xA0, 0x00, 0x00, 0x03, 0x33, 0x01, 0x01, last}, Data: data})
	}
	return out
}
