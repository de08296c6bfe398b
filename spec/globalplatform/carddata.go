package globalplatform

import (
	"bytes"
	"encoding/hex"
	"fmt"

	"koala/spec/iso7816"
	"koala/spec/tlv"
)

// Objects of GET DATA (GPCS 11.3, H).
const (
	TagIIN          tlv.Tag = 0x42   // issuer identification number
	TagCIN          tlv.Tag = 0x45   // card image number
	TagCardData     tlv.Tag = 0x66   // card recognition data
	TagCapabilities tlv.Tag = 0x67   // card capability information
	TagSequence     tlv.Tag = 0xC1   // sequence counter of the default key version
	TagReceipts     tlv.Tag = 0xC2   // confirmation counter: how many receipts the domain has given
	TagKDD          tlv.Tag = 0xCF   // key derivation data
	TagKeyInfo      tlv.Tag = 0xE0   // key information template
	TagCPLC         tlv.Tag = 0x9F7F // card production life cycle
	TagPrePerso     tlv.Tag = 0x9F66 // STORE DATA: its pre-personalisation part
	TagPerso        tlv.Tag = 0x9F67 // STORE DATA: its personalisation part
)

// GetData asks for one object.
func GetData(tag tlv.Tag) iso7816.Command {
	return plain(InsGetData, byte(tag>>8), byte(tag), nil)
}

// A CPLC is the card production life cycle data, 42 bytes: what was done to the
// chip by whom and when. Dates are BCD year digit and day of the year.
type CPLC struct {
	Fabricator, Type             [2]byte // the integrated circuit
	System, SystemDate, Level    [2]byte // operating system
	FabricationDate              [2]byte
	Serial                       [4]byte
	Batch                        [2]byte
	ModuleFabricator, ModuleDate [2]byte
	Manufacturer, EmbeddingDate  [2]byte
	PrePerso, PrePersoDate       [2]byte
	PrePersoEquipment            [4]byte
	Perso, PersoDate             [2]byte
	PersoEquipment               [4]byte
}

const cplcSize = 42

// fields lists the parts in the order they are coded.
func (c *CPLC) fields() [][]byte {
	return [][]byte{c.Fabricator[:], c.Type[:], c.System[:], c.SystemDate[:], c.Level[:], c.FabricationDate[:], c.Serial[:],
		c.Batch[:], c.ModuleFabricator[:], c.ModuleDate[:], c.Manufacturer[:], c.EmbeddingDate[:],
		c.PrePerso[:], c.PrePersoDate[:], c.PrePersoEquipment[:], c.Perso[:], c.PersoDate[:], c.PersoEquipment[:]}
}

// Bytes codes the object with its tag 9F7F.
func (c CPLC) Bytes() []byte {
	return tlv.Append(nil, TagCPLC, bytes.Join(c.fields(), nil))
}

// ParseCPLC reads the object, with its tag or without.
func ParseCPLC(in []byte) (c CPLC, err error) {
	if len(in) != cplcSize {
		tag, v, rest, err := tlv.Next(in)
		if err != nil || tag != TagCPLC || len(v) != cplcSize || len(rest) != 0 {
			return c, fmt.Errorf("%w: CPLC of %d bytes", ErrAnswer, len(in))
		}
		in = v
	}
	for _, f := range c.fields() {
		in = in[copy(f, in):]
	}
	return c, nil
}

// The object identifiers of card recognition data (GPCS H.2): the registered
// root 1.2.840.114283 and its children 1 to 4.
var oidRoot = []byte{0x2A, 0x86, 0x48, 0x86, 0xFC, 0x6B}

func oid(child ...byte) []byte {
	return tlv.Append(nil, 0x06, append(bytes.Clone(oidRoot), child...))
}

// CardData codes card recognition data: GlobalPlatform 2.3 and the secure
// channel protocol with its option, which clients trust unseen.
func CardData(protocol, option byte) []byte {
	body := oid(1)
	body = tlv.Append(body, 0x60, oid(2, 2, 3))
	body = tlv.Append(body, 0x63, oid(3))
	body = tlv.Append(body, 0x64, oid(4, protocol, option))
	return tlv.Append(nil, TagCardData, tlv.Append(nil, 0x73, body))
}

// ParseCardData reads the secure channel protocol and its option.
func ParseCardData(in []byte) (protocol, option byte, err error) {
	if v, ok := tlv.Find(in, 0x64); ok {
		tag, v, _, err := tlv.Next(v)
		if err == nil && tag == 0x06 && len(v) == len(oidRoot)+3 && bytes.HasPrefix(v, oidRoot) && v[6] == 4 {
			return v[7], v[8], nil
		}
	}
	return 0, 0, fmt.Errorf("%w: card recognition data", ErrAnswer)
}

// Capabilities codes card capability information (GPCS H.4): SCP02 and SCP03
// with their options and AES lengths, what domains and applications may be
// given, SHA-1 and SHA-256 for load file hashes, RSA with either scheme and
// P-256 for tokens, 3DES and AES of all lengths for receipts.
func Capabilities() []byte {
	body := tlv.Append(nil, 0xA0, mustHex("800102810115"))
	body = tlv.Append(body, 0xA0, mustHex("800103810170820107"))
	body = tlv.Append(body, 0x81, mustHex("BEFFB0"))
	body = tlv.Append(body, 0x82, mustHex("1E9F30"))
	body = tlv.Append(body, 0x83, mustHex("0102"))
	body = tlv.Append(body, 0x85, mustHex("43"))
	body = tlv.Append(body, 0x86, mustHex("3C"))
	return tlv.Append(nil, TagCapabilities, body)
}

func mustHex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return b
}

// A KeyInfo is one key of the key information template.
type KeyInfo struct {
	ID, Version byte
	Type        KeyType
	Length      byte
}

// KeyTemplate codes E0 with one C0 per key (GPCS 11.3.3.1).
func KeyTemplate(keys []KeyInfo) []byte {
	var body []byte
	for _, k := range keys {
		body = tlv.Append(body, 0xC0, []byte{k.ID, k.Version, byte(k.Type), k.Length})
	}
	return tlv.Append(nil, TagKeyInfo, body)
}

// ParseKeyTemplate reads E0. Of a key with several components the first counts.
func ParseKeyTemplate(in []byte) ([]KeyInfo, error) {
	tag, body, rest, err := tlv.Next(in)
	if err != nil || tag != TagKeyInfo || len(rest) != 0 {
		return nil, fmt.Errorf("%w: key information template", ErrAnswer)
	}
	var keys []KeyInfo
	for len(body) > 0 {
		var v []byte
		if tag, v, body, err = tlv.Next(body); err != nil || tag != 0xC0 || len(v) < 4 {
			return nil, fmt.Errorf("%w: key information template", ErrAnswer)
		}
		keys = append(keys, KeyInfo{v[0], v[1], KeyType(v[2]), v[3]})
	}
	return keys, nil
}

// FCI is the answer to SELECT of a security domain: its AID, the recognition
// OID and the longest command data it takes (GPCS 9.9.3.1).
func FCI(domain AID) []byte {
	inner := tlv.Append(nil, 0x73, oid(1))
	inner = tlv.Append(inner, 0x9F65, []byte{maxShort})
	return tlv.Append(nil, 0x6F, tlv.Append(tlv.Append(nil, 0x84, []byte(domain)), 0xA5, inner))
}
