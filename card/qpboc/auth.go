package qpboc

import (
	"crypto/subtle"
	"encoding/binary"
	"sync"

	"koala/card"
	"koala/spec/emv"
	"koala/spec/iso7816"
	"koala/spec/iso9797"
	"koala/spec/pboc"
	"koala/spec/tlv"
)

// internalAuthenticate is INTERNAL AUTHENTICATE: dynamic data authentication by
// contact over the DDOL's values.
func (a *applet) internalAuthenticate(s *card.Session, c iso7816.Command) iso7816.Response {
	t := &a.tx
	key := a.privateKey(s)
	switch {
	case c.P1 != 0 || c.P2 != 0:
		return fails(iso7816.SWP1P2)
	case t.path != fullPath && t.path != cashPath, key == nil, !emv.AIP(t.options.AIP).Has(emv.AIPDDA):
		return fails(iso7816.SWConditions)
	}
	n := defaultDDOL
	if list, err := emv.ParseDOL(a.inRecord(s, emv.TagDDOL)); err == nil && len(list) > 0 {
		n = list.Len()
	}
	if len(c.Data) != n {
		return fails(iso7816.SWLength)
	}
	var atc [2]byte
	binary.BigEndian.PutUint16(atc[:], a.atc())
	sdad, err := key.SignDDA(atc[:], c.Data)
	if err != nil {
		return fails(iso7816.SWUnknown)
	}
	t.contact.checks |= pboc.CVRDDA
	return answer(format1(sdad))
}

// defaultDDOL is the length of the terminal's default list: 9F37.
const defaultDDOL = 4

// externalAuthenticate is EXTERNAL AUTHENTICATE: the issuer proves itself, once in a
// transaction. After a hundred failures in a row it never does again.
func (a *applet) externalAuthenticate(c iso7816.Command) iso7816.Response {
	t := &a.tx
	k := &t.contact
	switch {
	case c.P1 != 0 || c.P2 != 0:
		return fails(iso7816.SWP1P2)
	case k.answered != 1 || k.first != pboc.ARQC || a.byteAt(atAuthFails) >= maxFails:
		return fails(iso7816.SWConditions)
	case k.asked:
		k.failed = true
		return fails(iso7816.SWConditions)
	case len(c.Data) != 10:
		return fails(iso7816.SWLength)
	}
	k.asked = true
	arpc := a.session(offsetACKey).ARPC(k.ac, [2]byte(c.Data[8:]))
	if subtle.ConstantTimeCompare(arpc[:], c.Data[:8]) != 1 {
		k.failed = true
		a.count(atAuthFails)
		return fails(iso7816.SWWarning)
	}
	a.clear(atAuthFails)
	return answer(nil)
}

// verify is VERIFY of the offline PIN in plain, by contact. The try is spent in a
// unit of its own before the comparison: taking power away when a PIN looks wrong
// must not give it back.
func (a *applet) verify(s *card.Session, c iso7816.Command) iso7816.Response {
	left := int(a.byteAt(atTries))
	k := &a.tx.contact
	switch {
	case c.P1 != 0 || c.P2 != 0x80:
		return fails(iso7816.SWP1P2)
	case !a.given(givenPIN):
		return fails(iso7816.SWReferenceNotFound)
	case s.Interface != card.Contact:
		return fails(iso7816.SWConditions)
	case left == 0:
		return fails(iso7816.SWBlocked)
	case len(c.Data) != pinBlockLen:
		return fails(iso7816.SWLength)
	}
	a.setByte(atTries, byte(left-1))
	if s.Commit() != nil {
		return fails(iso7816.SWMemory)
	}
	k.checks |= pboc.CVROfflinePIN
	if subtle.ConstantTimeCompare(c.Data, a.cells.Bytes()[atPIN:atPIN+pinBlockLen]) == 1 {
		k.checks &^= pboc.CVRPINFailed
		a.setByte(atTries, a.byteAt(atTryLimit))
		return answer(nil)
	}
	k.checks |= pboc.CVRPINFailed
	if left == 1 && a.action(adaBlockByPIN) {
		a.setByte(atLife, blocked)
		a.setFlag(lastPINBlocked, true)
	}
	return fails(iso7816.Tries(left - 1))
}

func getChallenge(s *card.Session, c iso7816.Command) iso7816.Response {
	switch {
	case c.P1 != 0 || c.P2 != 0:
		return fails(iso7816.SWP1P2)
	case len(c.Data) != 0 || c.Le != 0 && c.Le != 4 && c.Le != 8:
		return fails(iso7816.SWLength)
	}
	b := make([]byte, 8)
	if c.Le == 4 {
		b = b[:4]
	}
	s.Random(b)
	return answer(b)
}

// A keyring keeps parsed private keys: reading one and checking its parts costs a
// good part of a signature. It is shared by every element with the module.
type keyring struct {
	mu   sync.Mutex
	keys map[string]*emv.PrivateKey
}

// keyringSize bounds the number of keys kept.
const keyringSize = 64

func newKeyring() *keyring { return &keyring{keys: make(map[string]*emv.PrivateKey)} }

// key gives the RSA key of five parts of one length, or the SM2 key of a private
// number; nil when they are none.
func (r *keyring) key(parts []byte) *emv.PrivateKey {
	r.mu.Lock()
	defer r.mu.Unlock()
	if k, ok := r.keys[string(parts)]; ok {
		return k
	}
	k, err := parsed(parts)
	if err != nil {
		return nil
	}
	if len(r.keys) == keyringSize {
		clear(r.keys)
	}
	r.keys[string(parts)] = k
	return k
}

// keyParts is the number of groups of an RSA private key, 8201 to 8205; scalarLen
// the length of an SM2 one, shorter than any five parts.
const (
	keyParts  = 5
	scalarLen = 32
)

func parsed(parts []byte) (*emv.PrivateKey, error) {
	if len(parts) == scalarLen {
		return emv.NewSM2Key(parts)
	}
	n := len(parts) / keyParts
	return emv.FromCRT(emv.CRT{QInv: parts[:n], DQ: parts[n : 2*n], DP: parts[2*n : 3*n], Q: parts[3*n : 4*n], P: parts[4*n:]})
}

// chooseChain takes the second chain where the terminal asks for it (DF69 01) and
// the card has it on this path; the first otherwise.
func (a *applet) chooseChain(s *card.Session, first, second uint16) uint16 {
	v, ok := a.tx.terminal(emv.TagSM)
	a.tx.sm = ok && len(v) == 1 && v[0] == 1 && a.given(givenSM) && blob(s, second) != nil
	if a.tx.sm {
		return second
	}
	return first
}

// privateKey is the card's key of the chain that the terminal reads; nil when it
// has none.
func (a *applet) privateKey(s *card.Session) *emv.PrivateKey {
	if a.tx.sm {
		scalar, err := iso9797.Unpad2(blob(s, pboc.DGIScalarSM))
		if err != nil {
			return nil
		}
		return a.keys.key(scalar)
	}
	var buf [keyParts * emv.MaxKeyBytes / 2]byte
	parts, n := buf[:0], 0
	for i := range uint16(keyParts) {
		part, err := iso9797.Unpad2(blob(s, pboc.DGICoefficient+i))
		if err != nil || len(part) == 0 || i > 0 && len(part) != n {
			return nil
		}
		n = len(part)
		parts = append(parts, part...)
	}
	return a.keys.key(parts)
}

// format1 wraps a value in template 80.
func format1(v []byte) []byte { return tlv.Append(nil, emv.TagAnswer1, v) }
