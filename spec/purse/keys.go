package purse

import (
	"crypto/subtle"
	"encoding/binary"

	"koala/spec/iso9797"
)

// Disperse derives the key of one card, or of one issuer, from a master key:
// left half 3DES(key, factor), right half 3DES(key, not factor) (JR/T 0025.1).
func Disperse(key [16]byte, factor [8]byte) [16]byte {
	return NewRoot(key).Disperse(factor)
}

// A Root is a key that others are derived from, kept ready for a loop; safe
// for several goroutines.
type Root struct{ k *iso9797.TDES }

// NewRoot prepares a master or card key.
func NewRoot(key [16]byte) *Root { return &Root{iso9797.NewTDES(key[:])} }

// Disperse is the function Disperse under this key.
func (r *Root) Disperse(factor [8]byte) (out [16]byte) {
	var in [16]byte
	copy(in[:8], factor[:])
	for i, b := range factor {
		in[8+i] = ^b
	}
	r.k.EncryptBlock(out[:8], in[:8])
	r.k.EncryptBlock(out[8:], in[8:])
	return out
}

// PurchaseSession is the function PurchaseSession with this as card key.
func (r *Root) PurchaseSession(rnd [4]byte, seq uint16, tseq uint32) (sk [8]byte) {
	in := sessionInput(rnd, seq, uint16(tseq))
	r.k.EncryptBlock(sk[:], in[:])
	return sk
}

// LoadSession is the function LoadSession with this as card key.
func (r *Root) LoadSession(rnd [4]byte, seq uint16) (sk [8]byte) {
	in := sessionInput(rnd, seq, 0x8000)
	r.k.EncryptBlock(sk[:], in[:])
	return sk
}

func sessionInput(rnd [4]byte, seq, tail uint16) (in [8]byte) {
	copy(in[:4], rnd[:])
	binary.BigEndian.PutUint16(in[4:], seq)
	binary.BigEndian.PutUint16(in[6:], tail)
	return in
}

// PurchaseSession is the single DES key of one purchase: 3DES(DPK of the card,
// card random | offline sequence | low two bytes of the terminal sequence).
func PurchaseSession(dpk [16]byte, rnd [4]byte, seq uint16, tseq uint32) [8]byte {
	return NewRoot(dpk).PurchaseSession(rnd, seq, tseq)
}

// LoadSession is the single DES key of one load: 3DES(DLK of the card, card
// random | online sequence | 8000).
func LoadSession(dlk [16]byte, rnd [4]byte, seq uint16) [8]byte {
	return NewRoot(dlk).LoadSession(rnd, seq)
}

// TACKey folds the TAC key of a card: left half xor right half.
func TACKey(dtk [16]byte) (tk [8]byte) {
	for i := range tk {
		tk[i] = dtk[i] ^ dtk[8+i]
	}
	return tk
}

// A Session is a session key or folded TAC key kept ready; its methods are
// the functions of the same name. Safe for several goroutines.
type Session struct{ k *iso9797.DES }

// NewSession prepares a key from PurchaseSession, LoadSession or TACKey.
func NewSession(sk [8]byte) *Session { return &Session{iso9797.NewDES(sk[:])} }

func (s *Session) mac(data []byte) (out [4]byte) {
	full := s.k.MAC(nil, data)
	copy(out[:], full[:4])
	return out
}

// PurchaseMAC1 is what the PSAM proves to the card.
func (s *Session) PurchaseMAC1(fen uint32, typ Type, term Terminal, at Stamp) [4]byte {
	var buf [18]byte
	b := binary.BigEndian.AppendUint32(buf[:0], fen)
	return s.mac(appendStamp(appendParty(b, typ, term), at))
}

// PurchaseMAC2 is what the card proves to the PSAM after the debit.
func (s *Session) PurchaseMAC2(fen uint32) [4]byte {
	var buf [4]byte
	return s.mac(binary.BigEndian.AppendUint32(buf[:0], fen))
}

// LoadMAC1 is what the card proves to the host before a load.
func (s *Session) LoadMAC1(balance, fen uint32, typ Type, term Terminal) [4]byte {
	var buf [15]byte
	b := binary.BigEndian.AppendUint32(buf[:0], balance)
	return s.mac(appendParty(binary.BigEndian.AppendUint32(b, fen), typ, term))
}

// LoadMAC2 is what the host proves to the card: credit this amount.
func (s *Session) LoadMAC2(fen uint32, typ Type, term Terminal, at Stamp) [4]byte {
	return s.PurchaseMAC1(fen, typ, term, at)
}

// PurchaseTAC is the card's proof of a debit for the clearing.
func (s *Session) PurchaseTAC(fen uint32, typ Type, term Terminal, tseq uint32, at Stamp) [4]byte {
	var buf [22]byte
	b := appendParty(binary.BigEndian.AppendUint32(buf[:0], fen), typ, term)
	return s.mac(appendStamp(binary.BigEndian.AppendUint32(b, tseq), at))
}

// LoadTAC is the card's proof of a credit; seq is the online sequence before
// the load, balance the one after it.
func (s *Session) LoadTAC(balance uint32, seq uint16, fen uint32, typ Type, term Terminal, at Stamp) [4]byte {
	var buf [24]byte
	b := binary.BigEndian.AppendUint32(buf[:0], balance)
	b = binary.BigEndian.AppendUint16(b, seq)
	b = binary.BigEndian.AppendUint32(b, fen)
	return s.mac(appendStamp(appendParty(b, typ, term), at))
}

func appendParty(b []byte, typ Type, term Terminal) []byte {
	return append(append(b, byte(typ)), term[:]...)
}

func appendStamp(b []byte, at Stamp) []byte {
	return append(append(b, at.Date[:]...), at.Time[:]...)
}

// PurchaseMAC1 covers amount, type, terminal, date and time.
func PurchaseMAC1(sk [8]byte, fen uint32, typ Type, term Terminal, at Stamp) [4]byte {
	return NewSession(sk).PurchaseMAC1(fen, typ, term, at)
}

// PurchaseMAC2 covers the amount.
func PurchaseMAC2(sk [8]byte, fen uint32) [4]byte { return NewSession(sk).PurchaseMAC2(fen) }

// LoadMAC1 covers the balance before, amount, type and terminal.
func LoadMAC1(sk [8]byte, balance, fen uint32, typ Type, term Terminal) [4]byte {
	return NewSession(sk).LoadMAC1(balance, fen, typ, term)
}

// LoadMAC2 covers amount, type, terminal, date and time.
func LoadMAC2(sk [8]byte, fen uint32, typ Type, term Terminal, at Stamp) [4]byte {
	return NewSession(sk).LoadMAC2(fen, typ, term, at)
}

// PurchaseTAC covers amount, type, terminal, terminal sequence, date and
// time, under a key from TACKey.
func PurchaseTAC(tk [8]byte, fen uint32, typ Type, term Terminal, tseq uint32, at Stamp) [4]byte {
	return NewSession(tk).PurchaseTAC(fen, typ, term, tseq, at)
}

// LoadTAC covers the balance after, the online sequence before, amount, type,
// terminal, date and time, under a key from TACKey.
func LoadTAC(tk [8]byte, balance uint32, seq uint16, fen uint32, typ Type, term Terminal, at Stamp) [4]byte {
	return NewSession(tk).LoadTAC(balance, seq, fen, typ, term, at)
}

// Equal compares two MACs or TACs in constant time.
func Equal(a, b [4]byte) bool { return subtle.ConstantTimeCompare(a[:], b[:]) == 1 }
