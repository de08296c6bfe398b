package isd

import (
	"crypto"

	"koala/card"
	gp "koala/spec/globalplatform"
	"koala/spec/iso7816"
)

// Layout of the region of delegated management, which a domain gets with its
// token key or its first receipt: receipt counter 2 | version 1 | identifier 1 |
// type 1 | length 2 | public key 256 | length 1 | second component 3. Version 0
// is no key.
const (
	delegatedTag  = 3
	delegatedSize = atReference + 1 + maxReference

	atToken      = 2
	atPublic     = 7
	atReference  = atPublic + maxPublic
	maxPublic    = 256
	maxReference = 3
)

// delegatedRegion finds the region, or makes it.
func delegatedRegion(s *card.Session) (card.Region, error) {
	if g := s.Region(delegatedTag); g.Present() {
		return g, nil
	}
	return s.Allocate(delegatedTag, delegatedSize)
}

// tokenKey reads the domain's public key. False if it has none.
func tokenKey(s *card.Session) (info gp.KeyInfo, f gp.KeyField, ok bool) {
	g := s.Region(delegatedTag)
	if !g.Present() || g.Bytes()[atToken] == 0 {
		return info, f, false
	}
	c := g.Bytes()
	n, m := int(g.Uint16(atToken+3)), int(c[atReference])
	if n > maxPublic || m > maxReference {
		return info, f, false
	}
	f = gp.KeyField{Type: gp.KeyType(c[atToken+2]), Length: n, Cipher: c[atPublic : atPublic+n], Reference: c[atReference+1 : atReference+1+m]}
	return gp.KeyInfo{Version: c[atToken], ID: c[atToken+1], Type: f.Type, Length: byte(n)}, f, true
}

// putTokenKey keeps the one public key of a domain that verifies tokens.
func putTokenKey(s *card.Session, p gp.PutKey) iso7816.SW {
	x, _ := s.Registry().Entry(s.Self)
	if !gp.Privileges(x.Privileges).Has(gp.PrivTokenVerification) {
		return iso7816.SWConditions
	}
	f := p.Keys[0]
	if _, err := f.Public(); err != nil || len(p.Keys) != 1 {
		return iso7816.SWData
	}
	old, _, ok := tokenKey(s)
	switch {
	case p.Replaces == 0 && ok && (old.Version != p.NewVersion || old.ID != p.First):
		return iso7816.SWNoSpace
	case p.Replaces == 0 && ok:
		return iso7816.SWData
	case p.Replaces != 0 && (!ok || old.Version != p.Replaces || old.ID != p.First):
		return iso7816.SWReferenceNotFound
	}
	g, err := delegatedRegion(s)
	if err != nil {
		return iso7816.SWNoSpace
	}
	c := make([]byte, delegatedSize-atToken)
	c[0], c[1], c[2], c[3], c[4] = p.NewVersion, p.First, byte(f.Type), byte(len(f.Cipher)>>8), byte(len(f.Cipher))
	copy(c[atPublic-atToken:], f.Cipher)
	c[atReference-atToken] = byte(len(f.Reference))
	copy(c[atReference-atToken+1:], f.Reference)
	g.Write(atToken, c)
	return iso7816.OK
}

// dropTokenKey removes the public key if it is the one named; id 0 and version 0
// are any.
func dropTokenKey(s *card.Session, version, id byte) bool {
	k, _, ok := tokenKey(s)
	if !ok || version != 0 && k.Version != version || id != 0 && k.ID != id {
		return false
	}
	s.Region(delegatedTag).Write(atToken, make([]byte, delegatedSize-atToken))
	return true
}

// above finds the nearest domain, from self upwards, that has the privilege, and
// a session of it.
func above(s *card.Session, self card.Entry, p gp.Privilege) (*card.Session, bool) {
	for range card.MaxEntries {
		if gp.Privileges(self.Privileges).Has(p) {
			o := *s
			o.Self = self.ID
			return &o, true
		}
		next, ok := s.Registry().Find(self.Domain)
		if !ok || next.ID == self.ID {
			break
		}
		self = next
	}
	return nil, false
}

// authorised says whether the domain may carry out an INSTALL or DELETE: of its
// own authority, or by a token of the card issuer (GPCS 9.1.3). A delegated
// domain's missing or wrong token is 6982.
func authorised(s *card.Session, self card.Entry, c iso7816.Command) iso7816.SW {
	if manages(self) {
		return iso7816.OK
	}
	if !gp.Privileges(self.Privileges).Has(gp.PrivDelegated) {
		return iso7816.SWConditions
	}
	signed, token, err := gp.TokenData(c)
	if err != nil {
		return iso7816.SWData
	}
	key, ok := verifier(s, self)
	if !ok || len(token) == 0 || gp.VerifyToken(key, signed, token) != nil {
		return iso7816.SWSecurity
	}
	return iso7816.OK
}

// verifier is the public key that tokens for the domain are checked with.
func verifier(s *card.Session, self card.Entry) (crypto.PublicKey, bool) {
	o, ok := above(s, self, gp.PrivTokenVerification)
	if !ok {
		return nil, false
	}
	_, f, ok := tokenKey(o)
	if !ok {
		return nil, false
	}
	key, err := f.Public()
	return key, err == nil
}

// confirm is the answer to what a domain has done: empty for one of its own
// authority; for a delegated one with a receipt, if the issuer has a receipt key
// on the card. The counter moves in the unit of the command.
func confirm(s *card.Session, self card.Entry, about ...[]byte) iso7816.Response {
	if manages(self) {
		return confirmed()
	}
	o, ok := above(s, self, gp.PrivReceiptGeneration)
	if !ok {
		return confirmed()
	}
	t := tableOf(o)
	i, ok := t.find(gp.ReceiptKeyVersion, 1)
	if !ok {
		return confirmed()
	}
	g, err := delegatedRegion(o)
	if err != nil {
		return status(iso7816.SWNoSpace)
	}
	counter := g.Uint16(0) + 1
	if counter == 0 {
		return status(iso7816.SWConditions) // the card has given all its receipts
	}
	g.WriteUint16(0, counter)
	k := t.get(i)
	return answer(gp.Confirmation{Counter: counter, Unique: uniqueData(o)}.Sign(k.kind, k.key, about...).Bytes())
}

// uniqueData tells the domain's receipts from those of all others: IIN and CIN
// one after the other, or where they are missing the key diversification data.
func uniqueData(s *card.Session) []byte {
	c := s.Region(dataTag).Bytes()
	iin, cin := c[atIIN:atCIN], c[atCIN:dataSize]
	if n, m := int(iin[0]), int(cin[0]); n > 0 && n <= maxNumber && m > 0 && m <= maxNumber {
		return append(append([]byte{}, iin[1:1+n]...), cin[1:1+m]...)
	}
	kdd := keyData(s.UID())
	return kdd[:]
}
