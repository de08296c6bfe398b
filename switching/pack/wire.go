package pack

import (
	"bytes"

	"koala/spec/emv"
	"koala/spec/tlv"
)

// Objects of CA keys in field 62 (docs/terminal-protocol.md section 10).
const (
	tagExpiry   tlv.Tag = 0xDF05
	tagHash     tlv.Tag = 0xDF06
	tagSign     tlv.Tag = 0xDF07
	tagModulus  tlv.Tag = 0xDF02
	tagExponent tlv.Tag = 0xDF04
	tagCheck    tlv.Tag = 0xDF03
	tagIndex    tlv.Tag = 0x9F22
)

// listSize is how many names one answer lists.
const listSize = 20

// KeyNames is field 62 of 372: the names of the keys from the one after from.
func (p Pack) KeyNames(from int) []byte {
	return listed(from, len(p.Keys), func(i int) []byte { return keyName(p.Keys[i]) })
}

// ApplicationNames is field 62 of 382.
func (p Pack) ApplicationNames(from int) []byte {
	return listed(from, len(p.Applications), func(i int) []byte { return tlv.Append(nil, emv.TagTerminalAID, p.Applications[i].AID) })
}

// listed is one piece of a list: the terminal says how many names it has.
func listed(from, n int, name func(int) []byte) []byte {
	if from >= n {
		return []byte("0")
	}
	to := min(from+listSize, n)
	flag := byte('2')
	switch {
	case from == 0 && to == n:
		flag = '1'
	case to == n:
		flag = '3'
	}
	out := []byte{flag}
	for i := from; i < to; i++ {
		out = append(out, name(i)...)
	}
	return out
}

// keyName names a CA key: 9F06 RID, 9F22 index, DF05 its last day.
func keyName(k emv.CAKey) []byte {
	out := tlv.Append(nil, emv.TagTerminalAID, k.RID[:])
	out = tlv.Append(out, tagIndex, []byte{k.Index})
	return tlv.Append(out, tagExpiry, []byte(k.Last))
}

// Values of DF06 and DF07, and what stands for the exponent of SM2: its curve.
const (
	hashSHA1, signRSA = 1, 1
	hashSM3, signSM2  = 7, 4
	curveSM2          = 0x11
)

// Key is field 62 of 370: the key that 9F06 and 9F22 name, 0 where there is none.
func (p Pack) Key(asked []byte) []byte {
	rid, _ := tlv.Find(asked, emv.TagTerminalAID)
	index, _ := tlv.Find(asked, tagIndex)
	for _, k := range p.Keys {
		if !bytes.Equal(rid, k.RID[:]) || len(index) != 1 || index[0] != k.Index {
			continue
		}
		out := append([]byte("1"), keyName(k)...)
		hash, sign, exponent := byte(hashSHA1), byte(signRSA), k.Exponent
		if k.Algorithm == emv.SM2 {
			hash, sign, exponent = hashSM3, signSM2, []byte{curveSM2}
		}
		out = tlv.Append(out, tagHash, []byte{hash})
		out = tlv.Append(out, tagSign, []byte{sign})
		out = tlv.Append(out, tagModulus, k.Modulus)
		out = tlv.Append(out, tagExponent, exponent)
		return tlv.Append(out, tagCheck, k.Hash[:])
	}
	return []byte("0")
}

// Application is field 62 of 380: what is told about the AID in 9F06.
func (p Pack) Application(asked []byte) []byte {
	aid, _ := tlv.Find(asked, emv.TagTerminalAID)
	for _, a := range p.Applications {
		if bytes.Equal(a.AID, aid) {
			return append(tlv.Append([]byte("1"), emv.TagTerminalAID, a.AID), a.Data...)
		}
	}
	return []byte("0")
}
