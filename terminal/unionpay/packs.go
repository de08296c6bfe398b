package unionpay

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"koala/spec/emv"
	"koala/spec/tlv"
	"koala/switching/pack"
	"koala/terminal"
	"koala/terminal/kernel"
	"koala/terminal/pos"
)

// Failures of downloads.
var (
	ErrPack    = errors.New("unionpay: what was downloaded does not read")
	ErrSigned  = fmt.Errorf("%w: the pack is not one that the house signed for this terminal", ErrPack)
	errLastDay = fmt.Errorf("%w: the last day of a CA key is not YYYYMMDD", ErrPack)
)

// Kinds of sections.
const (
	sectionParameters = 'P' // field 62 of 360
	sectionKey        = 'K' // a CA key, as field 62 of 370 has it behind the 1
	sectionAID        = 'A' // AID parameters, as field 62 of 380
	sectionNumber     = 'N' // pack.Mark of the pack in use
)

// staged makes of a kind that of a section whose pack is not whole yet: it means
// nothing until then.
const staged = 'a' - 'A'

// A section is one thing as it was downloaded.
type section struct {
	kind byte
	data []byte
}

// packs are what was downloaded, in a Bank: kind 1 | length 2 | data each.
type packs struct {
	bank       *terminal.Bank
	list       []section
	number     uint32 // of the pack in use; 0: what is here has none
	parameters Parameters
	keys       []emv.CAKey
	apps       []kernel.Application
}

func openPacks(f *terminal.Flash) (*packs, error) {
	p := &packs{bank: terminal.OpenBank(f)}
	for in := p.bank.Value(); len(in) > 0; {
		if len(in) < 3 || len(in)-3 < int(binary.BigEndian.Uint16(in[1:])) {
			return nil, ErrPack
		}
		n := int(binary.BigEndian.Uint16(in[1:]))
		p.list = append(p.list, section{in[0], in[3 : 3+n]})
		in = in[3+n:]
	}
	return p, p.read()
}

// write keeps the sections, all or none.
func (p *packs) write() error {
	var out []byte
	for _, s := range p.list {
		out = append(binary.BigEndian.AppendUint16(append(out, s.kind), uint16(len(s.data))), s.data...)
	}
	if err := p.bank.Put(p.bank.Version()+1, out); err != nil {
		return fmt.Errorf("unionpay: packs: %w", err)
	}
	return nil
}

// without are the sections of the other kinds.
func (p *packs) without(kind byte) []section {
	return slices.DeleteFunc(slices.Clone(p.list), func(s section) bool { return s.kind == kind })
}

// live are the sections that count.
func (p *packs) live() []section {
	return slices.DeleteFunc(slices.Clone(p.list), func(s section) bool { return s.kind >= staged+'A' })
}

// read makes of the sections what they mean.
func (p *packs) read() error {
	for _, s := range p.list {
		var err error
		switch s.kind {
		case sectionParameters:
			p.parameters, err = parseParameters(s.data)
		case sectionKey:
			var k emv.CAKey
			if k, err = parseCAKey(s.data); err == nil {
				p.keys = append(p.keys, k)
			}
		case sectionAID:
			var a kernel.Application
			if a, err = parseApplication(s.data); err == nil {
				p.apps = append(p.apps, a)
			}
		case sectionNumber:
			_, m := pack.Cut(s.data)
			p.number = m.Number
		case sectionKey + staged, sectionAID + staged, sectionNumber + staged:
		default:
			err = ErrPack
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// apply adds the packs to what the terminal was built with: keys beside its
// own, applications and name in their place.
func (p *packs) apply(c *kernel.Config) error {
	c.Keys = append(slices.Clone(c.Keys), p.keys...)
	if len(p.apps) > 0 {
		c.Applications = p.apps
	}
	if n := p.parameters.Name; n != "" && len(n) <= 20 {
		c.MerchantName = n
	}
	if p.parameters.Category != 0 {
		c.Category = p.parameters.Category
	}
	return nil
}

// check has a kernel start with the packs.
func (p *packs) check(c kernel.Config) error {
	if err := p.apply(&c); err != nil {
		return err
	}
	if _, err := kernel.New(c); err != nil {
		return fmt.Errorf("%w: %w", ErrPack, err)
	}
	return nil
}

// Parameters are what the host sets (360). Those that switch something off are
// named so that a terminal without parameters does everything.
type Parameters struct {
	Wait     int    // seconds for an answer; 0: the line's own
	Redial   int    // how often to dial again
	NoTips   bool   // 18
	TipsMax  int    // 19, per cent of the sale
	NoKeying bool   // 20
	SignOff  bool   // 21: signs off by itself after settlement
	Name     string // 22, of the shop
	Resend   int    // 23, repeats of a reversal before somebody is asked; 0: DefaultResend
	Most     uint64 // 26, largest single sale, fen; 0: none
	Category uint16 // 27, merchant category code
}

// parameterLen are the lengths of the values by number.
var parameterLen = map[string]int{"12": 2, "13": 1, "18": 1, "19": 2, "20": 1, "21": 1, "22": 40, "23": 1, "26": 12, "27": 4}

// eachParameter walks over field 62 of 360: number 2 | value, one behind the
// other.
func eachParameter(in []byte, see func(number, value string) error) error {
	for s := string(in); s != ""; {
		if len(s) < 2 {
			return ErrPack
		}
		size := parameterLen[s[:2]]
		if size == 0 || len(s) < 2+size {
			return ErrPack
		}
		if err := see(s[:2], s[2:2+size]); err != nil {
			return err
		}
		s = s[2+size:]
	}
	return nil
}

// parseParameters reads field 62 of 360.
func parseParameters(in []byte) (p Parameters, err error) {
	err = eachParameter(in, func(name, v string) error {
		if name == "22" {
			p.Name = strings.TrimRight(v, " ")
			return nil
		}
		if !digits(v) {
			return ErrPack
		}
		switch n := number(v); name {
		case "12":
			p.Wait = int(n)
		case "13":
			p.Redial = int(n)
		case "18":
			p.NoTips = n != 1
		case "19":
			p.TipsMax = int(n)
		case "20":
			p.NoKeying = n != 1
		case "21":
			p.SignOff = n == 1
		case "23":
			p.Resend = int(n)
		case "26":
			p.Most = n
		case "27":
			p.Category = uint16(n)
		}
		return nil
	})
	return p, err
}

// cutParameters parts field 62 of 360 from the mark behind it. No parameter's
// number begins with DF.
func cutParameters(in []byte) (text []byte, m pack.Mark, err error) {
	at := 0
	for at < len(in) && in[at] != 0xDF {
		size := 0
		if len(in)-at >= 2 {
			size = parameterLen[string(in[at:at+2])]
		}
		if size == 0 || len(in)-at < 2+size {
			return nil, m, ErrPack
		}
		at += 2 + size
	}
	before, m := pack.Cut(in[at:])
	if len(before) > 0 || at < len(in) && !m.There {
		return nil, m, ErrPack
	}
	return in[:at], m, nil
}

// compose makes the pack again that was signed: what is not the shop's of the
// parameters, and the sections with keys and AID parameters.
func compose(m pack.Mark, parameters []byte, sections []section) (p pack.Pack, err error) {
	p = pack.Pack{Number: m.Number, Black: m.Black}
	err = eachParameter(parameters, func(name, v string) error {
		if n := byte(number(name)); !pack.OfShop(n) {
			p.Parameters = append(p.Parameters, pack.Parameter{Number: n, Value: v})
		}
		return nil
	})
	for _, s := range sections {
		switch {
		case err != nil:
		case s.kind == sectionKey:
			var k emv.CAKey
			k, err = parseCAKey(s.data)
			p.Keys = append(p.Keys, k)
		case s.kind == sectionAID:
			tag, aid, rest, bad := tlv.Next(s.data)
			if bad != nil || tag != emv.TagTerminalAID {
				return p, ErrPack
			}
			p.Applications = append(p.Applications, pack.Application{AID: aid, Data: rest})
		}
	}
	return p, err
}

// defaultTip is the most a tip may be, per cent of the sale.
const defaultTip = 20

func (p Parameters) tip() uint64 {
	if p.TipsMax == 0 || p.TipsMax > defaultTip {
		return defaultTip
	}
	return uint64(p.TipsMax)
}

func (p Parameters) resend() int {
	if p.Resend == 0 {
		return DefaultResend
	}
	return p.Resend
}

// over says that an amount is above the largest sale.
func (p Parameters) over(k Kind, fen uint64) bool {
	return p.Most > 0 && fen > p.Most && (table[k].side == debit || k == PreAuth)
}

// Objects of a CA key and of AID parameters as a host sends them.
const (
	tagKeyIndex     tlv.Tag = 0x9F22
	tagKeyExpiry    tlv.Tag = 0xDF05
	tagKeyAlgorithm tlv.Tag = 0xDF07
	tagKeyModulus   tlv.Tag = 0xDF02
	tagKeyExponent  tlv.Tag = 0xDF04
	tagKeyHash      tlv.Tag = 0xDF03

	tagExact       tlv.Tag = 0xDF01
	tagTACDefault  tlv.Tag = 0xDF11
	tagTACOnline   tlv.Tag = 0xDF12
	tagTACDenial   tlv.Tag = 0xDF13
	tagDDOL        tlv.Tag = 0xDF14
	tagThreshold   tlv.Tag = 0xDF15
	tagMaxTarget   tlv.Tag = 0xDF16
	tagTarget      tlv.Tag = 0xDF17
	tagFloor       tlv.Tag = 0x9F1B
	tagCashLimit   tlv.Tag = 0x9F7B
	tagAirFloor    tlv.Tag = 0xDF19
	tagAirLimit    tlv.Tag = 0xDF20
	tagAirCVMLimit tlv.Tag = 0xDF21
)

// keyAlgorithmSM2 is DF07 of an SM2 key.
const keyAlgorithmSM2 = 0x04

// parseCAKey reads a key; one whose check value is wrong is none.
func parseCAKey(in []byte) (emv.CAKey, error) {
	get := func(tag tlv.Tag) []byte { v, _ := tlv.Find(in, tag); return v }
	rid, index, hash := get(emv.TagTerminalAID), get(tagKeyIndex), get(tagKeyHash)
	if len(rid) != 5 || len(index) != 1 || len(hash) != 20 {
		return emv.CAKey{}, ErrPack
	}
	k := emv.CAKey{RID: [5]byte(rid), Index: index[0], Modulus: get(tagKeyModulus), Exponent: get(tagKeyExponent), Hash: [20]byte(hash), Environment: "unstated"}
	if v := get(tagKeyAlgorithm); len(v) == 1 && v[0] == keyAlgorithmSM2 {
		k.Algorithm, k.Exponent = emv.SM2, nil
	}
	if last := get(tagKeyExpiry); len(last) > 0 {
		day, err := time.Parse("20060102", string(last))
		if err != nil || day.Format("20060102") != string(last) {
			return emv.CAKey{}, fmt.Errorf("CA key %X/%02X says %q: %w", rid, index, last, errLastDay)
		}
		k.Last = string(last)
	}
	if _, err := k.Public(); err != nil || !k.Valid() {
		return emv.CAKey{}, fmt.Errorf("%w: CA key %X/%02X", ErrPack, rid, index)
	}
	return k, nil
}

// parseApplication reads AID parameters; what they leave out is as pos.QuickPass
// has it.
func parseApplication(in []byte) (kernel.Application, error) {
	a := pos.QuickPass()
	for len(in) > 0 {
		tag, v, rest, err := tlv.Next(in)
		if err != nil {
			return a, ErrPack
		}
		in = rest
		ok := true
		switch tag {
		case emv.TagTerminalAID:
			a.AID = v
		case tagExact:
			if ok = len(v) == 1; ok {
				a.Exact = v[0] == 1
			}
		case emv.TagTerminalVersion:
			if ok = len(v) == 2; ok {
				a.Version = [2]byte(v)
			}
		case tagTACDefault, tagTACOnline, tagTACDenial:
			if ok = len(v) == 5; ok {
				*map[tlv.Tag]*[5]byte{tagTACDefault: &a.TACDefault, tagTACOnline: &a.TACOnline, tagTACDenial: &a.TACDenial}[tag] = [5]byte(v)
			}
		case tagDDOL:
			a.DDOL = v
		case tagFloor, tagThreshold:
			if ok = len(v) == 4; ok {
				*map[tlv.Tag]*uint64{tagFloor: &a.ContactFloor, tagThreshold: &a.Threshold}[tag] = uint64(binary.BigEndian.Uint32(v))
			}
		case tagMaxTarget, tagTarget:
			if ok = len(v) == 1; ok {
				*map[tlv.Tag]*byte{tagMaxTarget: &a.MaxTargetPercent, tagTarget: &a.TargetPercent}[tag] = v[0]
			}
		case tagAirFloor, tagAirLimit, tagAirCVMLimit:
			to := map[tlv.Tag]*uint64{tagAirFloor: &a.FloorLimit, tagAirLimit: &a.TapLimit, tagAirCVMLimit: &a.CVMLimit}[tag]
			if ok = len(v) == 6 && digits(upper(v)); ok {
				*to = number(upper(v))
			}
		case tagCashLimit:
			a.ECash = true
		}
		if !ok {
			return a, fmt.Errorf("%w: AID parameter %X", ErrPack, uint32(tag))
		}
	}
	if len(a.AID) < 5 || len(a.AID) > 16 || a.TargetPercent > 99 || a.MaxTargetPercent > 99 || a.TargetPercent > a.MaxTargetPercent {
		return a, ErrPack
	}
	return a, nil
}

// maxListed bounds what a list can name.
const maxListed = 99

// names reads a list. The first named tags of an element ask for what it stands
// for.
func (t *Terminal) names(list string, of []tlv.Tag, named int) (names [][]byte, err error) {
	for {
		v, err := t.fetch("0820", list, []byte(fmt.Sprintf("1%02d", len(names))))
		if err != nil {
			return nil, err
		}
		if len(v) == 0 {
			return nil, ErrPack
		}
		if v[0] == '0' {
			return names, nil
		}
		more, err := elements(v[1:], of, named)
		if err != nil || len(more) == 0 || len(names)+len(more) > maxListed {
			return nil, ErrPack
		}
		names = append(names, more...)
		if v[0] != '2' {
			return names, nil
		}
	}
}

// What names keys and AIDs in a list, and how many of the objects ask for one.
var (
	keyNames = []tlv.Tag{emv.TagTerminalAID, tagKeyIndex, tagKeyExpiry}
	aidNames = []tlv.Tag{emv.TagTerminalAID}
)

// getList reads a list of names and then what each name stands for. A CA key
// whose last day is none is refused alone: Refusals says so.
func (t *Terminal) getList(list, one string, kind byte, of []tlv.Tag, named int) error {
	names, err := t.names(list, of, named)
	if err != nil {
		return err
	}
	next := t.packs.without(kind)
	var refused []string
	for _, name := range names {
		v, err := t.fetch("0800", one, name)
		if err != nil {
			return err
		}
		if len(v) < 2 || v[0] != '1' {
			continue
		}
		if kind == sectionKey {
			if _, err := parseCAKey(v[1:]); errors.Is(err, errLastDay) {
				refused = append(refused, err.Error())
				continue
			}
		}
		next = append(next, section{kind, v[1:]})
	}
	if err := t.adopt(next); err != nil {
		return err
	}
	if kind == sectionKey {
		t.refused = refused
	}
	return t.end(one)
}

// elements cuts a list whose elements have the objects of, and gives of each
// the first named.
func elements(in []byte, of []tlv.Tag, named int) (out [][]byte, err error) {
	for len(in) > 0 {
		var one []byte
		for i, want := range of {
			tag, v, rest, err := tlv.Next(in)
			if err != nil || tag != want {
				return nil, ErrPack
			}
			if in = rest; i < named {
				one = tlv.Append(one, tag, v)
			}
		}
		out = append(out, one)
	}
	return out, nil
}
