package unionpay

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"koala/spec/iso8583"
	"koala/spec/tlv"
	"koala/switching/pack"
	"koala/terminal"
)

// Network codes, field 60.3.
const (
	netSignOn1       = "001" // single length
	netSignOff       = "002"
	netSignOn        = "003"
	netSignOn3       = "004" // with a track key
	netTotals        = "201"
	netUnbalanced    = "202"
	netOffline       = "203"
	netFailed        = "204"
	netIssuer        = "205"
	netTC            = "206"
	netBalanced      = "207"
	netEcho          = "301"
	netParameters    = "360"
	netParametersEnd = "361"
	netStatus        = "362"
	netKey           = "370"
	netKeys          = "372"
	netAID           = "380"
	netAIDs          = "382"
	netBlack         = "390"
)

// manage makes a message of network management.
func (t *Terminal) manage(mti, code string) (*iso8583.Message, error) {
	stan := uint32(0)
	if code != netEcho {
		var err error
		if stan, err = t.book.stan(); err != nil {
			return nil, err
		}
	}
	m := t.message(mti, stan, false)
	m.SetText(60, fmt.Sprintf("00%06d%s", max(t.book.batch, 1), code))
	return m, nil
}

// SignOn asks the host for working keys, the batch and the time.
func (t *Terminal) SignOn() error {
	if err := t.signOn(); err != nil {
		return t.failed(err)
	}
	return nil
}

func (t *Terminal) signOn() error {
	if !t.cfg.Keys.Injected() {
		return ErrNoKeys
	}
	code, sealed := netSignOn3, t.cfg.Keys.SealsSignOn()
	switch {
	case sealed:
		code = netSignOn
	case t.cfg.Single:
		code = netSignOn1
	}
	m, err := t.manage("0800", code)
	if err != nil {
		return err
	}
	m.SetText(62, "Sequence No"+t.cfg.Till.Kernel.Serial)
	m.SetText(63, t.cfg.Operator)
	a, err := t.exchange(m, sealed)
	switch {
	case err != nil:
		return err
	case a.Text(39) != "00":
		return fmt.Errorf("%w: sign-on, %s", ErrRefused, a.Text(39))
	}
	if !sealed {
		if err := t.cfg.Keys.Accept(a.Get(62)); err != nil {
			return err
		}
	}
	batch, shift := t.book.batch, t.book.shift
	if f := a.Text(60); len(f) >= 8 && digits(f[2:8]) && number(f[2:8]) > 0 {
		batch = uint32(number(f[2:8]))
	}
	if at, ok := t.host(a); ok {
		shift = int64(at.Sub(t.cfg.Till.Clock.Now()) / time.Second)
	}
	pending, err := t.journal.intents()
	if err != nil {
		return err
	}
	empty := len(t.journal.list) == 0 && len(pending) == 0 && t.book.phase == trading
	return t.book.change(func(p *page) {
		if p.signedOn, p.shift = true, shift; empty {
			p.batch = batch
		}
	})
}

// SignOff tells the host that the day is over. What is pending goes before.
func (t *Terminal) SignOff() error {
	err := t.ready(true)
	if err == nil {
		err = t.signOff()
	}
	if err != nil {
		return t.failed(err)
	}
	return nil
}

func (t *Terminal) signOff() error {
	m, err := t.manage("0820", netSignOff)
	if err != nil {
		return err
	}
	a, err := t.exchange(m, true)
	if err != nil {
		return err
	}
	if a.Text(39) != "00" {
		return fmt.Errorf("%w: sign-off, %s", ErrRefused, a.Text(39))
	}
	return t.forgetKeys()
}

// Echo asks whether the host is there.
func (t *Terminal) Echo() error {
	m, err := t.manage("0820", netEcho)
	if err != nil {
		return t.failed(err)
	}
	a, err := t.exchange(m, false)
	if err == nil && a.Text(39) != "00" {
		err = fmt.Errorf("%w: echo, %s", ErrRefused, a.Text(39))
	}
	if err != nil {
		return t.failed(err)
	}
	return nil
}

// maxStatus bounds the status text, bytes.
const maxStatus = 256

// Status tells the host how the terminal is: text of at most 256 bytes.
func (t *Terminal) Status(text string) error {
	if len(text) > maxStatus {
		return t.failed(ErrOrder)
	}
	if _, err := t.fetch("0820", netStatus, []byte(text)); err != nil {
		return t.failed(err)
	}
	return nil
}

// fetch sends one message of a download and gives field 62 of the answer.
func (t *Terminal) fetch(mti, code string, ask []byte) ([]byte, error) {
	if !t.SignedOn() {
		if err := t.signOn(); err != nil {
			return nil, err
		}
	}
	m, err := t.manage(mti, code)
	if err != nil {
		return nil, err
	}
	if len(ask) > 0 {
		m.Set(62, ask)
	}
	a, err := t.exchange(m, true)
	if err != nil {
		return nil, err
	}
	if a.Text(39) != "00" {
		return nil, fmt.Errorf("%w: %s, %s", ErrRefused, code, a.Text(39))
	}
	return bytes.Clone(a.Get(62)), nil
}

// end closes a download: its code is one higher.
func (t *Terminal) end(code string) error {
	n, _ := strconv.Atoi(code) // one of the constants
	_, err := t.fetch("0800", fmt.Sprintf("%03d", n+1), nil)
	return err
}

// Download takes over what the host has of a want: parameters, CA keys, AID
// parameters or the black list. What does not work is not kept.
//
// Where the host signs packs (Config.Signed) the first three come as one pack,
// whole or not at all, and the host is told what became of it.
func (t *Terminal) Download(w Want) (err error) {
	switch whole := len(t.cfg.Signed) > 0; {
	case whole && (w == WantParameters || w == WantCAKeys || w == WantAIDs):
		err = t.getPack()
	default:
		err = t.download(w)
	}
	if err != nil {
		return t.failed(err)
	}
	return nil
}

func (t *Terminal) download(w Want) (err error) {
	switch w {
	case WantParameters:
		err = t.getParameters()
	case WantCAKeys:
		err = t.getList(netKeys, netKey, sectionKey, keyNames, 2)
	case WantAIDs:
		err = t.getList(netAIDs, netAID, sectionAID, aidNames, 1)
	case WantBlackList:
		err = t.getBlackList()
	case WantSignOn:
		err = t.signOn()
	default:
		err = ErrOrder
	}
	return err
}

// maxWants bounds how much a host can want in a row.
const maxWants = 8

// Obey does what the host asks for in the headers of its answers, until it asks
// for nothing more: downloads, a new sign-on, the status that is given.
func (t *Terminal) Obey(status string) error {
	for range maxWants {
		var err error
		switch w := t.Wants(); w {
		case WantNothing:
			return nil
		case WantStatus:
			err = t.Status(status)
		default:
			err = t.Download(w)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (t *Terminal) getParameters() error {
	v, err := t.fetch("0800", netParameters, nil)
	if err != nil {
		return err
	}
	if _, err := parseParameters(v); err != nil {
		return err
	}
	next := t.packs.without(sectionParameters)
	if err := t.adopt(append(next, section{sectionParameters, v})); err != nil {
		return err
	}
	return t.end(netParameters)
}

// maxBlack bounds an exception list, bytes.
const maxBlack = 1 << 20

// getBlackList reads the signed exception list in pieces and applies it, until
// there is nothing newer.
func (t *Terminal) getBlackList() error {
	var whole []byte
	for {
		v, err := t.fetch("0800", netBlack, []byte(fmt.Sprintf("%010d%010d", t.till.Deny().Version(), len(whole))))
		if err != nil {
			return err
		}
		if len(v) > 0 && v[0] == '0' {
			break
		}
		if len(v) < 12 || v[0] != '1' || !digits(string(v[1:11])) || number(string(v[1:11])) > maxBlack {
			return ErrPack
		}
		total := int(number(string(v[1:11])))
		if whole = append(whole, v[11:]...); len(whole) > total {
			return ErrPack
		}
		if len(whole) == total {
			before := t.till.Deny().Version()
			if err := t.till.Deny().Apply(whole); err != nil && !errors.Is(err, terminal.ErrOld) {
				return err
			}
			if whole = nil; t.till.Deny().Version() == before {
				break
			}
		}
	}
	return t.end(netBlack)
}

// maxPacks is how often a download begins anew because the host has gone on to
// another pack.
const maxPacks = 3

// errOther says that a part came of another pack than the one that was begun.
var errOther = errors.New("unionpay: the host went on to another pack")

// getPack brings the terminal to the host's pack: parameters with its mark, then
// what of keys and AID parameters is not staged yet. Each part is staged when it
// has come, so a torn download goes on where it was; until the signature over
// the whole is checked the pack of before stands.
func (t *Terminal) getPack() (err error) {
	for range maxPacks {
		if err = t.loadPack(); !errors.Is(err, errOther) {
			return err
		}
	}
	return fmt.Errorf("%w: %w", ErrPack, err)
}

func (t *Terminal) loadPack() error {
	v, err := t.fetch("0800", netParameters, pack.Mark{Number: t.packs.number}.Append(nil))
	if err != nil {
		return err
	}
	text, m, err := cutParameters(v)
	switch {
	case err != nil:
		return err
	case m.Signature == nil || m.Number == 0:
		return fmt.Errorf("%w: it has no signature", ErrSigned)
	case m.Number < t.packs.number:
		return t.refuse(m.Number, pack.Outdated)
	}
	kinds := [2]byte{sectionKey, sectionAID} // of the pack in use: only the shop's parameters can be new
	if m.Number > t.packs.number {
		kinds = [2]byte{sectionKey + staged, sectionAID + staged}
		if err := t.stage(m); err != nil {
			return err
		}
	}
	next := []section{{sectionNumber, m.Append(nil)}, {sectionParameters, text}}
	for _, s := range t.packs.list {
		if s.kind == kinds[0] || s.kind == kinds[1] {
			next = append(next, section{s.kind &^ staged, s.data})
		}
	}
	if why := t.judge(m, text, next); why != pack.InUse {
		return t.refuse(m.Number, why)
	}
	switch err := t.adopt(next); {
	case errors.Is(err, ErrPack):
		return t.refuse(m.Number, pack.WontWork)
	case err != nil:
		return err
	}
	// Power that goes here costs one more 360: the host asks again, the pack is in use.
	if err := t.report(m.Number, pack.InUse); err != nil || m.Black <= t.till.Deny().Version() {
		return err
	}
	return t.getBlackList()
}

// judge says whether the parts make a pack that the house signed.
func (t *Terminal) judge(m pack.Mark, text []byte, list []section) pack.Result {
	p, err := compose(m, text, list)
	if err != nil {
		return pack.Unreadable
	}
	b, err := p.Bytes()
	if err != nil {
		return pack.Unreadable
	}
	for _, key := range t.cfg.Signed {
		if len(key) == ed25519.PublicKeySize && ed25519.Verify(key, b, m.Signature) {
			return pack.InUse
		}
	}
	return pack.BadSign
}

// stage loads the keys and AID parameters of a pack that are not staged yet.
func (t *Terminal) stage(m pack.Mark) error {
	mark := m.Append(nil)
	if i := slices.IndexFunc(t.packs.list, func(s section) bool { return s.kind == sectionNumber+staged }); i < 0 || !bytes.Equal(t.packs.list[i].data, mark) {
		t.packs.list = append(t.packs.live(), section{sectionNumber + staged, mark})
	}
	for _, l := range []struct {
		list, one string
		kind      byte
		of        []tlv.Tag
		named     int
	}{{netKeys, netKey, sectionKey, keyNames, 2}, {netAIDs, netAID, sectionAID, aidNames, 1}} {
		names, err := t.names(l.list, l.of, l.named)
		if err != nil {
			return err
		}
		for _, name := range names {
			if slices.ContainsFunc(t.packs.list, func(s section) bool { return s.kind == l.kind+staged && bytes.HasPrefix(s.data, name) }) {
				continue
			}
			v, err := t.fetch("0800", l.one, pack.Mark{Number: m.Number}.Append(bytes.Clone(name)))
			if err != nil {
				return err
			}
			part, of := v, pack.Mark{}
			if len(v) > 0 {
				part, of = pack.Cut(v[1:])
			}
			if of.Number != m.Number || v[0] != '1' || !bytes.HasPrefix(part, name) {
				return errOther
			}
			t.packs.list = append(t.packs.list, section{l.kind + staged, part})
			if err := t.packs.write(); err != nil {
				return err
			}
		}
	}
	return nil
}

// refuse drops what is staged, tells the host why, and leaves the pack of before.
func (t *Terminal) refuse(number uint32, why pack.Result) error {
	t.packs.list = t.packs.live()
	if err := t.packs.write(); err != nil {
		return err
	}
	if err := t.report(number, why); err != nil {
		return err
	}
	return fmt.Errorf("%w: pack %d, %s", ErrSigned, number, why)
}

// report ends a pack's download with what became of it.
func (t *Terminal) report(number uint32, r pack.Result) error {
	_, err := t.fetch("0800", netParametersEnd, pack.Mark{Number: number, Result: r, Ends: true}.Append(nil))
	return err
}

// Pack is the number of the signed pack in use, 0 none.
func (t *Terminal) Pack() uint32 { return t.packs.number }

// Refusals says which CA keys of the last download were not taken, and why.
func (t *Terminal) Refusals() []string { return slices.Clone(t.refused) }

// adopt keeps a new set of packs after the chip part has started with it.
func (t *Terminal) adopt(next []section) error {
	trial := &packs{bank: t.packs.bank, list: next}
	if err := trial.read(); err != nil {
		return err
	}
	if err := trial.check(t.cfg.Till.Kernel); err != nil {
		return err
	}
	if err := trial.write(); err != nil {
		return err
	}
	t.packs = trial
	return t.openTill()
}
