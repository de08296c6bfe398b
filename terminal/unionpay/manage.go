package unionpay

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"time"

	"koala/spec/emv"
	"koala/spec/iso8583"
	"koala/spec/tlv"
	"koala/terminal"
)

// Network codes, field 60.3.
const (
	netSignOn1    = "001" // single length
	netSignOff    = "002"
	netSignOn     = "003"
	netSignOn3    = "004" // with a track key
	netTotals     = "201"
	netUnbalanced = "202"
	netOffline    = "203"
	netFailed     = "204"
	netTC         = "206"
	netBalanced   = "207"
	netEcho       = "301"
	netParameters = "360"
	netStatus     = "362"
	netKey        = "370"
	netKeys       = "372"
	netAID        = "380"
	netAIDs       = "382"
	netBlack      = "390"
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
func (t *Terminal) Download(w Want) (err error) {
	switch w {
	case WantParameters:
		err = t.getParameters()
	case WantCAKeys:
		err = t.getList(netKeys, netKey, sectionKey, []tlv.Tag{emv.TagTerminalAID, tagKeyIndex, tagKeyExpiry}, 2)
	case WantAIDs:
		err = t.getList(netAIDs, netAID, sectionAID, []tlv.Tag{emv.TagTerminalAID}, 1)
	case WantBlackList:
		err = t.getBlackList()
	case WantSignOn:
		err = t.signOn()
	default:
		err = ErrOrder
	}
	if err != nil {
		return t.failed(err)
	}
	return nil
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

// maxListed bounds what a list can name.
const maxListed = 99

// getList reads a list of names and then what each name stands for. The first
// named tags of an element of the list ask for it.
func (t *Terminal) getList(list, one string, kind byte, of []tlv.Tag, named int) error {
	var names [][]byte
	for {
		v, err := t.fetch("0820", list, []byte(fmt.Sprintf("1%02d", len(names))))
		if err != nil {
			return err
		}
		if len(v) == 0 {
			return ErrPack
		}
		if v[0] == '0' {
			break
		}
		more, err := elements(v[1:], of, named)
		if err != nil || len(more) == 0 || len(names)+len(more) > maxListed {
			return ErrPack
		}
		names = append(names, more...)
		if v[0] != '2' {
			break
		}
	}
	next := t.packs.without(kind)
	for _, name := range names {
		v, err := t.fetch("0800", one, name)
		if err != nil {
			return err
		}
		if len(v) > 1 && v[0] == '1' {
			next = append(next, section{kind, v[1:]})
		}
	}
	if err := t.adopt(next); err != nil {
		return err
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
