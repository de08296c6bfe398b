package pboc

import (
	"encoding/binary"
	"errors"
	"fmt"

	"koala/spec/iso7816"
)

// The commands of the extended application (JR/T 0025.14, CARD 1.12). A record
// begins with its identifier, two bytes; its key proves updates and, in R-MAC
// mode, reads.

// An IndustryID is the first two bytes of an industry record: 0221, 2703.
type IndustryID [2]byte

// atcIV is the initial value of MACs over CAPP commands: 00*6 | ATC.
func atcIV(atc uint16) []byte {
	return []byte{0, 0, 0, 0, 0, 0, byte(atc >> 8), byte(atc)}
}

// A ReadCAPP asks for an industry record.
type ReadCAPP struct {
	SFI    byte
	ID     IndustryID
	Next   bool     // the next record with the same identifier
	Random *[8]byte // asks for a proof of the answer; the card is in R-MAC mode after it
}

// ErrCAPP says that a command is none of the extended application's coding.
var ErrCAPP = errors.New("pboc: malformed CAPP command")

// Command builds the command.
func (x ReadCAPP) Command() iso7816.Command {
	c := iso7816.Command{CLA: 0x80, INS: InsReadCAPP, P2: x.SFI << 3, Data: x.ID[:]}
	if x.Next {
		c.P2 |= 0x01
	}
	if x.Random != nil {
		c.Data = append(append([]byte(nil), x.ID[:]...), x.Random[:]...)
	}
	return c
}

// ParseReadCAPP reads the command.
func ParseReadCAPP(c iso7816.Command) (ReadCAPP, error) {
	if c.CLA&^0x03 != 0x80 || c.INS != InsReadCAPP || c.P1 != 0 || c.P2&0x06 != 0 {
		return ReadCAPP{}, fmt.Errorf("%w: P1 P2 %02X%02X", ErrCAPP, c.P1, c.P2)
	}
	x := ReadCAPP{SFI: c.P2 >> 3, Next: c.P2&1 != 0}
	switch len(c.Data) {
	case 10:
		r := [8]byte(c.Data[2:])
		x.Random = &r
		fallthrough
	case 2:
		x.ID = IndustryID(c.Data)
		return x, nil
	}
	return ReadCAPP{}, fmt.Errorf("%w: %d data bytes", ErrCAPP, len(c.Data))
}

// ReadMAC proves a record that was read with a random. k is the record's key.
func (k *Key) ReadMAC(random [8]byte, rec []byte) [4]byte { return k.MAC4(random[:], rec) }

// UpdateCAPP builds UPDATE CAPP DATA CACHE: the new record, proved by the MAC under
// its key with the ATC as initial value, over header and record.
func UpdateCAPP(k *Key, sfi byte, rec []byte, atc uint16) iso7816.Command {
	c := iso7816.Command{CLA: claSecure, INS: InsUpdateCAPP, P2: sfi << 3, Data: rec, Le: iso7816.NoLe}
	m := k.CAPPMAC(c, atc)
	c.Data = append(append(make([]byte, 0, len(rec)+4), rec...), m[:]...)
	return c
}

// CAPPMAC is the MAC of UPDATE CAPP DATA CACHE and APPEND RECORD over header, Lc
// with the MAC counted, and data without it.
func (k *Key) CAPPMAC(plain iso7816.Command, atc uint16) [4]byte {
	b := make([]byte, 0, 5+len(plain.Data))
	b = append(b, iso7816.WithoutChannel(plain.CLA), plain.INS, plain.P1, plain.P2, byte(len(plain.Data)+4))
	return k.MAC4(atcIV(atc), append(b, plain.Data...))
}

// OpenCAPP checks and takes off the MAC of such a command.
func (k *Key) OpenCAPP(c iso7816.Command, atc uint16) (data []byte, err error) {
	n := len(c.Data) - 4
	if n < 2 || len(c.Data) > iso7816.MaxShortData {
		return nil, ErrMAC
	}
	plain := c
	plain.Data = c.Data[:n:n]
	if k.CAPPMAC(plain, atc) != [4]byte(c.Data[n:]) {
		return nil, ErrMAC
	}
	return plain.Data, nil
}

// UpdateProof is the answer to an update in R-MAC mode: the first half of the key's
// encipherment of 9000 | 8000 | MAC of the command.
func (k *Key) UpdateProof(mac [4]byte) [4]byte {
	b := [16]byte{0x90, 0x00, 0x80, 0x00, mac[0], mac[1], mac[2], mac[3]}
	k.encryptBlock(b[:k.Block()])
	return [4]byte(b[:4])
}

// AppendIndustry builds APPEND RECORD: it opens a record in an industry file with
// its own key, enciphered under the file's opening key.
func AppendIndustry(open *Key, sfi byte, key [16]byte, rec []byte, atc uint16) iso7816.Command {
	c := iso7816.Command{CLA: claSecureInter, INS: iso7816.InsAppendRecord, P2: sfi << 3, Le: iso7816.NoLe}
	c.Data = append(open.Encrypt(key[:]), rec...)
	m := open.CAPPMAC(c, atc)
	c.Data = append(c.Data, m[:]...)
	return c
}

// ReadIndustry asks for a record without proof.
func ReadIndustry(sfi byte, id IndustryID) iso7816.Command {
	return ReadCAPP{SFI: sfi, ID: id}.Command()
}

// GetProof builds GET TRANS PROVE: the certificate of the last completed
// transaction of the extended application, by its ATC. The answer is the TC, or
// zeros for a pre-authorisation.
func GetProof(atc uint16) iso7816.Command {
	return iso7816.Command{CLA: 0x80, INS: InsProve, Data: binary.BigEndian.AppendUint16(nil, atc)}
}

// BusID is the industry record of buses and metro gates that Bus lays out.
var BusID = IndustryID{0x02, 0x21}

// BusLen is the length of that record in bytes (CARD 1.12).
const BusLen = 64

// Status of a ride in a Bus record.
const (
	BusOut     byte = 0x00
	BusEntered byte = 0x01
)

// Flags of a Bus record: what the terminal does on it.
const (
	BusFare byte = 0x01 // segment fare
	BusHold byte = 0x02 // pre-authorisation
)

// A Bus is the industry record of a transit operator (record 0221): identifier 2 |
// length 1 | valid 1 | flag 1 | lock 1 | status 1 | entry time 7, device 4 | exit
// time 7, device 4 | last time 7, device 4 | month amount 3 | month rides 2 | actual
// amount 2 | reserved 17. Amounts are binary fen, times YYYYMMDDhhmmss in BCD; the
// length counts what follows it.
type Bus struct {
	Valid, Flag, Lock, Status byte
	Entry, Exit, Last         BusStop
	MonthFen                  uint32 // 24 bits
	MonthRides                uint16
	Fen                       uint16
	Reserved                  [17]byte
}

// A BusStop is when and where.
type BusStop struct {
	Time   [7]byte
	Device [4]byte
}

// Bytes codes the record. An amount beyond 24 bits is a defect and panics.
func (x Bus) Bytes() []byte {
	if x.MonthFen > 0xFFFFFF {
		panic("pboc: month amount beyond 24 bits")
	}
	b := append(make([]byte, 0, BusLen), BusID[0], BusID[1], BusLen-3, x.Valid, x.Flag, x.Lock, x.Status)
	for _, s := range []BusStop{x.Entry, x.Exit, x.Last} {
		b = append(append(b, s.Time[:]...), s.Device[:]...)
	}
	b = append(b, byte(x.MonthFen>>16), byte(x.MonthFen>>8), byte(x.MonthFen))
	b = binary.BigEndian.AppendUint16(b, x.MonthRides)
	b = binary.BigEndian.AppendUint16(b, x.Fen)
	return append(b, x.Reserved[:]...)
}

// ParseBus reads the record.
func ParseBus(b []byte) (x Bus, err error) {
	if len(b) != BusLen || IndustryID(b) != BusID || b[2] != BusLen-3 {
		return x, fmt.Errorf("%w: no record 0221", ErrCAPP)
	}
	x.Valid, x.Flag, x.Lock, x.Status = b[3], b[4], b[5], b[6]
	b = b[7:]
	for _, s := range []*BusStop{&x.Entry, &x.Exit, &x.Last} {
		*s = BusStop{[7]byte(b), [4]byte(b[7:])}
		b = b[11:]
	}
	x.MonthFen = uint32(b[0])<<16 | uint32(b[1])<<8 | uint32(b[2])
	x.MonthRides, x.Fen = binary.BigEndian.Uint16(b[3:]), binary.BigEndian.Uint16(b[5:])
	x.Reserved = [17]byte(b[7:])
	return x, nil
}
