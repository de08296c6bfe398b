package pboc

import (
	"encoding/binary"
	"errors"
	"fmt"

	"koala/spec/iso7816"
)

// A LoadEntry is one line of the load log as the signed list shows it: which
// balance, before and after, and when by the terminal's clock (CARD 1.8).
type LoadEntry struct {
	Tag      uint16 // 9F79 or DF79
	Old, New uint64 // fen
	Date     [3]byte
	Time     [3]byte
	ATC      uint16
}

const loadEntryLen = 22

// Bytes codes the entry: tag 2 | old 6 | new 6 | date 3 | time 3 | ATC 2. A plain
// record of the log file is the first three fields and the objects of DF4F, which
// on a card of the house come to the same.
func (x LoadEntry) Bytes() []byte {
	b := binary.BigEndian.AppendUint16(make([]byte, 0, loadEntryLen), x.Tag)
	older, newer := Amount(x.Old), Amount(x.New)
	b = append(append(b, older[:]...), newer[:]...)
	b = append(append(b, x.Date[:]...), x.Time[:]...)
	return binary.BigEndian.AppendUint16(b, x.ATC)
}

// ErrLoadLog says that bytes are no load log.
var ErrLoadLog = errors.New("pboc: not a load log")

// ParseLoadEntry reads an entry.
func ParseLoadEntry(b []byte) (x LoadEntry, err error) {
	if len(b) != loadEntryLen {
		return x, fmt.Errorf("%w: entry of %d bytes", ErrLoadLog, len(b))
	}
	x.Tag = binary.BigEndian.Uint16(b)
	if x.Old, err = ParseAmount(b[2:8]); err != nil {
		return LoadEntry{}, fmt.Errorf("%w: %w", ErrLoadLog, err)
	}
	if x.New, err = ParseAmount(b[8:14]); err != nil {
		return LoadEntry{}, fmt.Errorf("%w: %w", ErrLoadLog, err)
	}
	x.Date, x.Time, x.ATC = [3]byte(b[14:]), [3]byte(b[17:]), binary.BigEndian.Uint16(b[20:])
	return x, nil
}

// A SignedLoadLog is the answer to READ RECORD of the load log with P1 00: ATC 2 |
// count 1 | entries, newest first | MAC 4 under the session MAC key. It proves to
// the issuer whether a load arrived.
type SignedLoadLog struct {
	ATC     uint16
	Entries []LoadEntry // at most 10
	MAC     [4]byte
}

func (x SignedLoadLog) body() []byte {
	b := append(binary.BigEndian.AppendUint16(nil, x.ATC), byte(len(x.Entries)))
	for _, e := range x.Entries {
		b = append(b, e.Bytes()...)
	}
	return b
}

// Sign fills in the MAC. k is the MAC session key of the ATC.
func (x *SignedLoadLog) Sign(k *Key) { x.MAC = k.MAC4(nil, x.body()) }

// Verify tells whether the MAC is the card's.
func (x SignedLoadLog) Verify(k *Key) bool { return k.MAC4(nil, x.body()) == x.MAC }

// Bytes codes the list.
func (x SignedLoadLog) Bytes() []byte { return append(x.body(), x.MAC[:]...) }

// ParseSignedLoadLog reads the list.
func ParseSignedLoadLog(b []byte) (x SignedLoadLog, err error) {
	if len(b) < 7 || b[2] > LogRecords || len(b) != 7+int(b[2])*loadEntryLen {
		return x, fmt.Errorf("%w: %d bytes", ErrLoadLog, len(b))
	}
	x.ATC = binary.BigEndian.Uint16(b)
	n, rest := int(b[2]), b[3:]
	for range n {
		e, err := ParseLoadEntry(rest[:loadEntryLen])
		if err != nil {
			return SignedLoadLog{}, err
		}
		x.Entries, rest = append(x.Entries, e), rest[loadEntryLen:]
	}
	x.MAC = [4]byte(rest)
	return x, nil
}

// ReadSignedLoadLog asks for the list.
func ReadSignedLoadLog(sfi byte) iso7816.Command { return iso7816.ReadRecord(0, sfi, 0) }

// A LogEntry is a record of the transaction log in the format of the house's cards
// (9F4F: 9A03 9F2103 9F0206 9F0306 9F1A02 5F2A02 9F4E14 9C01 9F3602), which readers
// find in QuickPass cards too. Log records have no template around them.
type LogEntry struct {
	Date, Time        [3]byte
	Amount, Other     uint64 // fen
	Country, Currency [2]byte
	Merchant          [20]byte // 9F4E, filled with 20 or 00
	Type              byte     // 9C
	ATC               uint16
}

// LogEntryLen is its length in bytes.
const LogEntryLen = 45

// Bytes codes the record.
func (x LogEntry) Bytes() []byte {
	a, o := Amount(x.Amount), Amount(x.Other)
	b := append(append(make([]byte, 0, LogEntryLen), x.Date[:]...), x.Time[:]...)
	b = append(append(b, a[:]...), o[:]...)
	b = append(append(b, x.Country[:]...), x.Currency[:]...)
	b = append(append(b, x.Merchant[:]...), x.Type)
	return binary.BigEndian.AppendUint16(b, x.ATC)
}

// ParseLogEntry reads a record of that format.
func ParseLogEntry(b []byte) (x LogEntry, err error) {
	if len(b) != LogEntryLen {
		return x, fmt.Errorf("pboc: log record of %d bytes", len(b))
	}
	if x.Amount, err = ParseAmount(b[6:12]); err != nil {
		return LogEntry{}, err
	}
	if x.Other, err = ParseAmount(b[12:18]); err != nil {
		return LogEntry{}, err
	}
	x.Date, x.Time = [3]byte(b), [3]byte(b[3:])
	x.Country, x.Currency = [2]byte(b[18:]), [2]byte(b[20:])
	x.Merchant, x.Type, x.ATC = [20]byte(b[22:]), b[42], binary.BigEndian.Uint16(b[43:])
	return x, nil
}
