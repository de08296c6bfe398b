package purse

import (
	"bytes"
	"crypto/subtle"

	"koala/card"
	"koala/spec/iso7816"
	"koala/spec/iso9797"
	"koala/spec/purse"
)

// getChallenge gives 4 or 8 random bytes, good for the next protected command.
func (a *applet) getChallenge(s *card.Session, c iso7816.Command) iso7816.Response {
	if c.P1 != 0 || c.P2 != 0 {
		return fails(iso7816.SWP1P2)
	}
	if c.Le != 4 && c.Le != 8 {
		return fails(iso7816.SWLength)
	}
	a.challenge = make([]byte, c.Le)
	s.Random(a.challenge)
	return answer(bytes.Clone(a.challenge))
}

// unprotect checks the MAC of a command under DAMK and the challenge that was
// asked for right before. A wrong MAC counts against the key.
func (a *applet) unprotect(c iso7816.Command) (iso7816.Command, iso7816.SW) {
	k := a.firstKey(purse.DAMK)
	switch {
	case k == 0:
		return c, iso7816.SWPurseKey
	case a.locked(k):
		return c, iso7816.SWBlocked
	case a.challenge == nil:
		return c, iso7816.SWReferenceInvalid
	case len(c.Data) < 4:
		return c, iso7816.SWSecureMissing
	case len(c.Data) > iso7816.MaxShortData:
		return c, iso7816.SWLength // the MAC covers a length of one byte
	}
	plain, err := purse.Unprotect(a.value(k), a.challenge, c)
	if err != nil {
		a.wrong(k)
		return c, iso7816.SWSecureWrong
	}
	a.right(k)
	return plain, iso7816.OK
}

// block is APPLICATION BLOCK, for a time or for ever, and APPLICATION UNBLOCK.
func (a *applet) block(c iso7816.Command) iso7816.Response {
	plain, sw := a.unprotect(c)
	switch {
	case sw != iso7816.OK:
		return fails(sw)
	case len(plain.Data) != 0:
		return fails(iso7816.SWLength)
	case plain.P1 != 0 || plain.P2 > 1 || plain.P2 == 1 && plain.INS == purse.InsAppUnblock:
		return fails(iso7816.SWP1P2)
	}
	state := byte(0)
	if plain.INS == purse.InsAppBlock {
		state = blocked + plain.P2 // 00 blocked, 01 blockedForEver
	}
	a.cells.Write(atBlock, []byte{state})
	return answer(nil)
}

// The PIN, where the issuer set one: use 1 (bit 1 load ED, bit 2 load EP) |
// tries left 1 | tries 1 | length 1 | PIN 6.
const (
	pinTries  = atPIN + 1
	pinLimit  = atPIN + 2
	pinLen    = atPIN + 3
	pinValue  = atPIN + 4
	maxPINLen = 6
	minPINLen = 2
)

// pinShown tells whether a load of the purse may begin.
func (a *applet) pinShown(p purse.Purse) bool {
	return a.verified || a.cells.Bytes()[atPIN]&byte(p) == 0
}

// verify is VERIFY; a card without PIN knows nothing to compare with (6A88).
func (a *applet) verify(s *card.Session, c iso7816.Command) iso7816.Response {
	b := a.cells.Bytes()
	n, left := int(b[pinLen]), int(b[pinTries])
	switch {
	case c.P1 != 0 || c.P2 != 0:
		return fails(iso7816.SWP1P2)
	case n == 0:
		return fails(iso7816.SWReferenceNotFound)
	case left == 0:
		return fails(iso7816.SWBlocked)
	case len(c.Data) == 0:
		return fails(iso7816.Tries(left))
	}
	// The try is spent in a unit of its own before the comparison: taking power
	// away when a PIN looks wrong must not give the try back.
	a.cells.Write(pinTries, []byte{byte(left - 1)})
	if s.Commit() != nil {
		return fails(iso7816.SWMemory)
	}
	a.verified = subtle.ConstantTimeCompare(c.Data, b[pinValue:pinValue+n]) == 1
	if !a.verified {
		return fails(iso7816.Tries(left - 1))
	}
	a.cells.Write(pinTries, []byte{b[pinLimit]})
	return answer(nil)
}

// DGIPIN sets a PIN: use 1 | tries 1 | 16 bytes under the domain's key, which
// are length 1 | PIN 2 to 6 | padding 80 00… It stands above the keys' groups.
const DGIPIN = 0x8110

// StoreData personalises the purse. Every group may come again: an issue that
// was cut off starts over at any group.
func (a *applet) StoreData(s *card.Session, dgi uint16, data []byte) iso7816.SW {
	a.open(s)
	switch {
	case dgi == purse.DGIPublic:
		if _, err := purse.ParseFile15(data); err != nil {
			return iso7816.SWData
		}
		return a.storeFile(filePublic, atPublic, purse.File15Len, data)
	case dgi == purse.DGIHolder:
		return a.storeFile(fileHolder, atHolder, holderLen, data)
	case dgi == purse.DGIRegion:
		return a.storeFile(fileRegion, atRegion, purse.File17Len, data)
	case dgi == purse.DGIBeijing:
		if len(data) != purse.BeijingFileLen {
			return iso7816.SWData
		}
		return a.storeFile(fileBeijing, atBeijing, purse.BeijingFileLen, data)
	case dgi == purse.DGITransit:
		if len(data) != purse.TransitLen {
			return iso7816.SWData
		}
		transitFile.write(a.cells, 1, data)
		return iso7816.OK
	case dgi == purse.DGILimits:
		return a.storeLimits(data)
	case dgi == DGIPIN:
		return a.storePIN(s, data)
	case dgi >= purse.DGIKeyFirst && dgi <= purse.DGIKeyLast:
		return a.storeKey(s, data)
	}
	return iso7816.SWReferenceNotFound
}

func (a *applet) storeFile(bit byte, at, n int, data []byte) iso7816.SW {
	if len(data) == 0 || len(data) > n {
		return iso7816.SWData
	}
	a.cells.Write(at, data)
	a.cells.Write(atFiles, []byte{a.cells.Bytes()[atFiles] | bit})
	return iso7816.OK
}

// storeLimits changes the balance limit and the EP overdraft. What is already
// used of the overdraft stays owed, so the new limit must cover it.
func (a *applet) storeLimits(data []byte) iso7816.SW {
	l, err := purse.ParseLimits(data)
	if err != nil || l.MaxBalance > 0x7FFFFFFF {
		return iso7816.SWData
	}
	for _, p := range []purse.Purse{purse.ED, purse.EP} {
		w := a.side(p)
		if w.used() > l.Overdraft {
			return iso7816.SWData
		}
		w.have = w.own() + l.Overdraft - w.used()
		w.limit = l.Overdraft
		a.setSide(p, w)
	}
	a.cells.WriteUint32(atMax, l.MaxBalance)
	return iso7816.OK
}

// storeKey puts a key in the place of the one of its kind and index, or in an
// empty one, after its check value has been compared.
func (a *applet) storeKey(s *card.Session, data []byte) iso7816.SW {
	r, err := purse.ParseKeyRecord(data)
	if err != nil || r.Kind < purse.DPK || r.Kind > purse.DRPK || r.Alg > 0x01 {
		return iso7816.SWData
	}
	clear, err := s.DecryptKey(r.Key[:])
	if err != nil || len(clear) != len(r.Key) || iso9797.KCVDES(clear) != r.KCV {
		return iso7816.SWData
	}
	at := a.key(r.Kind, r.Index)
	if at == 0 {
		if at = a.firstKey(0); at == 0 {
			return iso7816.SWNoSpace
		}
	}
	b := append(make([]byte, 0, keySize), byte(r.Kind), r.Index, r.Version, r.Alg, KeyTries)
	a.cells.Write(int(at), append(b, clear...))
	return iso7816.OK
}

func (a *applet) storePIN(s *card.Session, data []byte) iso7816.SW {
	if len(data) != 18 || data[1] == 0 || data[1] > 15 || data[0] > 3 {
		return iso7816.SWData
	}
	clear, err := s.DecryptKey(data[2:])
	if err != nil || len(clear) != 16 {
		return iso7816.SWData
	}
	n := int(clear[0])
	if n < minPINLen || n > maxPINLen || clear[1+n] != 0x80 {
		return iso7816.SWData
	}
	a.cells.Write(atPIN, []byte{data[0], data[1], data[1], byte(n)})
	a.cells.Write(pinValue, clear[1:1+n])
	return iso7816.OK
}
