package purse

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

// Log is one record of file 18, 23 bytes, the card's own account of a
// transaction. Seq is the value before the increment, online for loads,
// offline for purchases. Overdraft has three bytes.
type Log struct {
	Seq       uint16
	Overdraft uint32
	Fen       uint32 // as it stands; see Amount
	Type      Type
	Terminal  Terminal
	Stamp     Stamp
}

// LogLen and LogCount are the size in bytes and the number of log records.
const (
	LogLen   = 23
	LogCount = 10
)

// Bytes codes the record.
func (l Log) Bytes() []byte {
	b := binary.BigEndian.AppendUint16(make([]byte, 0, LogLen), l.Seq)
	b = appendUint24(b, l.Overdraft)
	b = binary.BigEndian.AppendUint32(b, l.Fen)
	return appendStamp(appendParty(b, l.Type, l.Terminal), l.Stamp)
}

// Amount is Fen without the top bit, which readers mask.
func (l Log) Amount() uint32 { return l.Fen & 0x7FFFFFFF }

// ParseLog reads the record.
func ParseLog(b []byte) (l Log, err error) {
	if err := exactly("log record", b, LogLen); err != nil {
		return l, err
	}
	l = Log{Seq: binary.BigEndian.Uint16(b), Overdraft: uint24(b[2:]), Fen: binary.BigEndian.Uint32(b[5:]), Type: Type(b[9])}
	copy(l.Terminal[:], b[10:])
	l.Stamp = StampFrom([7]byte(b[16:23]))
	return l, nil
}

// Trip is one record of file 1E, 48 bytes: one tap, with where it was. The
// layout is that of T-Union_Master, checked with 124 records of real cards.
type Trip struct {
	Kind     TripKind
	Terminal [8]byte
	Industry byte // 01 metro, 02 bus
	Line     [2]byte
	Station  [2]byte
	Operator [2]byte
	RFU      byte
	Fen      uint32
	Balance  uint32 // after
	Stamp    Stamp
	City     [2]byte
	Acquirer [8]byte
	Tail     [6]byte
}

// TripKind says what the tap did.
type TripKind byte

// Kinds of trip records.
const (
	TripSingle TripKind = 0x06 // one tap pays, as on a flat-fare bus
	TripEntry  TripKind = 0x03
	TripExit   TripKind = 0x04
)

// Industries of trip records.
const (
	IndustryMetro = 0x01
	IndustryBus   = 0x02
)

// TripLen and TripCount are the size in bytes and the number of trip records.
const (
	TripLen   = 48
	TripCount = 30
)

// Bytes codes the record.
func (r Trip) Bytes() []byte {
	b := append(make([]byte, 0, TripLen), byte(r.Kind))
	b = append(append(b, r.Terminal[:]...), r.Industry)
	b = append(append(b, r.Line[:]...), r.Station[:]...)
	b = append(append(b, r.Operator[:]...), r.RFU)
	b = binary.BigEndian.AppendUint32(b, r.Fen)
	b = appendStamp(binary.BigEndian.AppendUint32(b, r.Balance), r.Stamp)
	b = append(append(b, r.City[:]...), r.Acquirer[:]...)
	return append(b, r.Tail[:]...)
}

// ParseTrip reads the record.
func ParseTrip(b []byte) (r Trip, err error) {
	if err := exactly("trip record", b, TripLen); err != nil {
		return r, err
	}
	r.Kind, r.Terminal, r.Industry = TripKind(b[0]), [8]byte(b[1:9]), b[9]
	r.Line, r.Station, r.Operator = [2]byte(b[10:12]), [2]byte(b[12:14]), [2]byte(b[14:16])
	r.RFU = b[16]
	r.Fen, r.Balance = binary.BigEndian.Uint32(b[17:]), binary.BigEndian.Uint32(b[21:])
	r.Stamp = StampFrom([7]byte(b[25:32]))
	r.City, r.Acquirer, r.Tail = [2]byte(b[32:34]), [8]byte(b[34:42]), [6]byte(b[42:48])
	return r, nil
}

// RailID is the identifier of the rail record in file 1A (JT/T 1356.2).
const RailID = 0x2703

// TransitLen is the size of the rail record in bytes.
const TransitLen = 128

// TransitStatus says whether the card is inside.
type TransitStatus byte

// States of the card between two gates.
const (
	NeverRidden TransitStatus = 0x00
	Entered     TransitStatus = 0x01
	Left        TransitStatus = 0x02
)

// Transit is the rail record of file 1A: where the card entered and left
// last. The layout is read from public reader code; the tail from Accumulated
// on is that of one city, and the byte order of the checksum is ours, since
// no source names it (CRC-32 IEEE over bytes 6 to 123, big endian).
type Transit struct {
	ID                          uint16 // RailID
	Length                      byte   // bytes after this one, 125
	RFU                         byte
	Valid, Lock                 byte
	Serial                      [8]byte // last 8 bytes of the card number
	Status                      TransitStatus
	EntryCity, ExitCity         [2]byte
	EntryOperator, ExitOperator [8]byte
	EntryStation, ExitStation   [8]byte
	EntryDevice, ExitDevice     [8]byte
	EntryAt, ExitAt             Stamp
	MaxFare                     uint32
	EntryLine, ExitLine         byte
	EntryAmount, EntryBalance   uint32
	Actual                      uint32 // paid for the last ride
	LastAt                      Stamp
	LastDevice                  [4]byte
	Accumulated                 uint32 // three bytes: spent this month, fen
	Count                       uint16
	Transfer                    [5]byte
	Flags                       [2]byte
	State                       byte
	RFU2                        byte
}

// NewTransit is the record of a card that has not been used yet.
func NewTransit(n Number) Transit {
	return Transit{ID: RailID, Length: TransitLen - 3, Valid: 1, Serial: n.Factor()}
}

// Bytes codes the record with its checksum.
func (r Transit) Bytes() []byte {
	b := binary.BigEndian.AppendUint16(make([]byte, 0, TransitLen), r.ID)
	b = append(b, r.Length, r.RFU, r.Valid, r.Lock)
	b = append(append(b, r.Serial[:]...), byte(r.Status))
	for _, pair := range [][]byte{
		r.EntryCity[:], r.ExitCity[:], r.EntryOperator[:], r.ExitOperator[:],
		r.EntryStation[:], r.ExitStation[:], r.EntryDevice[:], r.ExitDevice[:],
	} {
		b = append(b, pair...)
	}
	b = appendStamp(appendStamp(b, r.EntryAt), r.ExitAt)
	b = append(binary.BigEndian.AppendUint32(b, r.MaxFare), r.EntryLine, r.ExitLine)
	b = binary.BigEndian.AppendUint32(b, r.EntryAmount)
	b = binary.BigEndian.AppendUint32(b, r.EntryBalance)
	b = binary.BigEndian.AppendUint32(b, r.Actual)
	b = append(appendStamp(b, r.LastAt), r.LastDevice[:]...)
	b = binary.BigEndian.AppendUint16(appendUint24(b, r.Accumulated), r.Count)
	b = append(append(b, r.Transfer[:]...), r.Flags[:]...)
	b = append(b, r.State, r.RFU2)
	return binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b[6:]))
}

// ParseTransit reads the record and checks its identifier and checksum.
func ParseTransit(b []byte) (r Transit, err error) {
	if err := exactly("rail record", b, TransitLen); err != nil {
		return r, err
	}
	if id := binary.BigEndian.Uint16(b); id != RailID {
		return r, fmt.Errorf("rail record: %w: identifier %04X", ErrRecord, id)
	}
	if crc32.ChecksumIEEE(b[6:124]) != binary.BigEndian.Uint32(b[124:]) {
		return r, fmt.Errorf("rail record: %w", ErrChecksum)
	}
	r = Transit{
		ID: RailID, Length: b[2], RFU: b[3], Valid: b[4], Lock: b[5], Serial: [8]byte(b[6:14]), Status: TransitStatus(b[14]),
		EntryCity: [2]byte(b[15:17]), ExitCity: [2]byte(b[17:19]),
		EntryOperator: [8]byte(b[19:27]), ExitOperator: [8]byte(b[27:35]),
		EntryStation: [8]byte(b[35:43]), ExitStation: [8]byte(b[43:51]),
		EntryDevice: [8]byte(b[51:59]), ExitDevice: [8]byte(b[59:67]),
		EntryAt: StampFrom([7]byte(b[67:74])), ExitAt: StampFrom([7]byte(b[74:81])),
		MaxFare: binary.BigEndian.Uint32(b[81:]), EntryLine: b[85], ExitLine: b[86],
		EntryAmount: binary.BigEndian.Uint32(b[87:]), EntryBalance: binary.BigEndian.Uint32(b[91:]),
		Actual: binary.BigEndian.Uint32(b[95:]), LastAt: StampFrom([7]byte(b[99:106])), LastDevice: [4]byte(b[106:110]),
		Accumulated: uint24(b[110:]), Count: binary.BigEndian.Uint16(b[113:]), Transfer: [5]byte(b[115:120]),
		Flags: [2]byte(b[120:122]), State: b[122], RFU2: b[123],
	}
	return r, nil
}

// StationBytes is a station code of up to six digits as the rail record of
// this house carries it: BCD, zeros on the left. A larger code panics.
func StationBytes(code uint32) (b [8]byte) {
	if code > 999_999 {
		panic(fmt.Sprintf("purse: station code %d", code))
	}
	for i := 7; code > 0; i-- {
		b[i] = bcd(int(code % 100))
		code /= 100
	}
	return b
}

// StationCode reads it back; false when it is not such a code.
func StationCode(b [8]byte) (uint32, bool) {
	var code uint32
	for _, x := range b {
		if x>>4 > 9 || x&0x0F > 9 {
			return 0, false
		}
		if code = code*100 + uint32(x>>4*10+x&0x0F); code > 999_999 {
			return 0, false
		}
	}
	return code, true
}
