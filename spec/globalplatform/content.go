package globalplatform

import (
	"fmt"

	"koala/spec/iso7816"
	"koala/spec/tlv"
)

// A Delete is the DELETE command: of an entry of the registry, or of keys
// (GPCS 11.2).
type Delete struct {
	App     AID
	Related bool // a load file with the instances that come from it
	// Keys, if App is empty: all with this version, and identifier if not 0.
	KeyVersion, KeyID byte
	Token             []byte // delegated management, of an entry only
}

// Tags of DELETE.
const (
	tagKeyID      tlv.Tag = 0xD0
	tagKeyVersion tlv.Tag = 0xD2
	tagToken      tlv.Tag = 0x9E
)

// Command codes the command in plain.
func (d Delete) Command() iso7816.Command {
	var data []byte
	if d.App != "" {
		data = tlv.Append(nil, tagAID, []byte(d.App))
		if len(d.Token) > 0 {
			data = tlv.Append(data, tagToken, d.Token)
		}
	} else {
		if d.KeyID != 0 {
			data = tlv.Append(data, tagKeyID, []byte{d.KeyID})
		}
		if d.KeyVersion != 0 {
			data = tlv.Append(data, tagKeyVersion, []byte{d.KeyVersion})
		}
	}
	p2 := byte(0)
	if d.Related {
		p2 = 0x80
	}
	return plain(InsDelete, 0, p2, data)
}

// ParseDelete reads the command in plain. A token (9E) may follow the AID. Of the
// old form that names several applications nothing would be known to be deleted
// when one cannot be, so it is refused.
func ParseDelete(c iso7816.Command) (d Delete, err error) {
	if err := expect(c, InsDelete); err != nil {
		return d, err
	}
	bad := fmt.Errorf("%w: DELETE", ErrCommand)
	if c.P1 != 0 || c.P2&^0x80 != 0 {
		return d, bad
	}
	d.Related = c.P2&0x80 != 0
	for in := c.Data; len(in) > 0; {
		var tag tlv.Tag
		var v []byte
		if tag, v, in, err = tlv.Next(in); err != nil {
			return d, bad
		}
		switch {
		case tag == tagAID && AID(v).valid() && d.App == "": // one at a time
			d.App = AID(v)
		case tag == tagKeyID && len(v) == 1:
			d.KeyID = v[0]
		case tag == tagKeyVersion && len(v) == 1:
			d.KeyVersion = v[0]
		case tag == tagToken:
			d.Token = v
		case tag == 0xB6: // who made the token
		default:
			return d, bad
		}
	}
	if d.App == "" {
		d.Token = nil
	}
	if (d.App == "") == (d.KeyID == 0 && d.KeyVersion == 0) {
		return d, bad
	}
	return d, nil
}

// tagLoadBlock encloses the load file data block (GPCS 11.6.2.3).
const tagLoadBlock tlv.Tag = 0xC4

// Load cuts a load file into LOAD commands of at most limit data bytes. More
// than 256 blocks do not exist.
func Load(code []byte, limit int) ([]iso7816.Command, error) {
	data := tlv.Append(nil, tagLoadBlock, code)
	if len(data) > 256*limit {
		return nil, fmt.Errorf("LOAD of %d bytes: %w", len(code), ErrTooLong)
	}
	var out []iso7816.Command
	for i := 0; i == 0 || len(data) > 0; i++ {
		n := min(limit, len(data))
		p1 := byte(0)
		if n == len(data) {
			p1 = 0x80
		}
		out = append(out, plain(InsLoad, p1, byte(i), data[:n:n]))
		data = data[n:]
	}
	return out, nil
}

// ParseLoad reads one LOAD in plain: the block, its number, whether it is the
// last.
func ParseLoad(c iso7816.Command) (block []byte, number byte, last bool, err error) {
	if err := expect(c, InsLoad); err != nil {
		return nil, 0, false, err
	}
	if c.P1&^0x80 != 0 || len(c.Data) == 0 {
		return nil, 0, false, fmt.Errorf("%w: LOAD", ErrCommand)
	}
	return c.Data, c.P2, c.P1 == 0x80, nil
}

// P1 of STORE DATA (GPCS 11.11.2.1).
const (
	StoreLast      byte = 0x80
	StoreEncrypted byte = 0x60 // data enciphered under the DEK
	StoreDGI       byte = 0x08 // data groupings
	StoreTLV       byte = 0x10 // BER-TLV objects
)

// A DGI is a data grouping of STORE DATA (EMV CPS 1.1, 2.2): identifier 2 |
// length 1, or FF and 2 from 255 bytes on | data.
type DGI struct {
	ID   uint16
	Data []byte
}

// Append codes the grouping.
func (d DGI) Append(dst []byte) []byte {
	n := len(d.Data)
	if n > 0xFFFF {
		panic("globalplatform: data grouping beyond 65535 bytes")
	}
	dst = append(dst, byte(d.ID>>8), byte(d.ID))
	if n < 0xFF {
		dst = append(dst, byte(n))
	} else {
		dst = append(dst, 0xFF, byte(n>>8), byte(n))
	}
	return append(dst, d.Data...)
}

// NextDGI reads the first grouping of in. ok is false while the grouping is not
// complete; err says that it never will be.
func NextDGI(in []byte) (d DGI, rest []byte, ok bool, err error) {
	if len(in) < 3 {
		return d, in, false, nil
	}
	n, head := int(in[2]), 3
	if n == 0xFF {
		if len(in) < 5 {
			return d, in, false, nil
		}
		if n, head = int(in[3])<<8|int(in[4]), 5; n < 0xFF {
			return d, in, false, fmt.Errorf("%w: data grouping length %d in three bytes", ErrCommand, n)
		}
	}
	if len(in) < head+n {
		return d, in, false, nil
	}
	return DGI{uint16(in[0])<<8 | uint16(in[1]), in[head : head+n : head+n]}, in[head+n:], true, nil
}

// StoreData packs groupings into STORE DATA commands in plain of at most limit
// data bytes. A grouping is cut only when it is longer than a whole command.
func StoreData(groups []DGI, limit int) ([]iso7816.Command, error) {
	var blocks [][]byte
	var block []byte
	for _, g := range groups {
		b := g.Append(nil)
		if len(block)+len(b) > limit && len(block) > 0 {
			blocks, block = append(blocks, block), nil
		}
		for block = append(block, b...); len(block) > limit; block = block[limit:] {
			blocks = append(blocks, block[:limit:limit])
		}
	}
	if len(block) > 0 {
		blocks = append(blocks, block)
	}
	if len(blocks) > 256 {
		return nil, fmt.Errorf("STORE DATA of %d blocks: %w", len(blocks), ErrTooLong)
	}
	out := make([]iso7816.Command, len(blocks))
	for i, b := range blocks {
		out[i] = plain(InsStoreData, StoreDGI, byte(i), b)
	}
	if len(out) > 0 {
		out[len(out)-1].P1 |= StoreLast
	}
	return out, nil
}

// StoreTLVs is one STORE DATA of BER-TLV objects for the domain itself.
func StoreTLVs(objects []byte) iso7816.Command {
	return plain(InsStoreData, StoreLast|StoreTLV, 0, objects)
}

// A Stored is one STORE DATA as the card reads it.
type Stored struct {
	Last      bool
	Encrypted bool
	Form      byte // StoreDGI, StoreTLV, or 0: no structure given
	Block     byte
	Data      []byte
}

// ParseStoreData reads the command in plain.
func ParseStoreData(c iso7816.Command) (Stored, error) {
	if err := expect(c, InsStoreData); err != nil {
		return Stored{}, err
	}
	s := Stored{Last: c.P1&StoreLast != 0, Encrypted: c.P1&0x40 != 0, Form: c.P1 & (StoreDGI | StoreTLV), Block: c.P2, Data: c.Data}
	if s.Form == StoreDGI|StoreTLV || c.P1&0x06 != 0 {
		return s, fmt.Errorf("%w: STORE DATA form %02X", ErrCommand, c.P1)
	}
	return s, nil
}
