package desfire

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"time"

	"koala/spec/iso9797"
)

// A Stamp is date and time in BCD, YYYYMMDD hhmmss, Beijing wall clock.
type Stamp [7]byte

var beijing = time.FixedZone("CST", 8*3600)

// StampOf is the Beijing wall clock at t, cut to the second. Years beyond 9999
// are a defect and panic.
func StampOf(t time.Time) Stamp {
	b, err := hex.DecodeString(t.In(beijing).Format("20060102150405"))
	if err != nil || len(b) != len(Stamp{}) {
		panic("desfire: a time that has no stamp")
	}
	return Stamp(b)
}

// Moment is the instant the stamp means. A date that does not exist is ErrTime.
func (s Stamp) Moment() (time.Time, error) {
	t, err := time.ParseInLocation("20060102150405", hex.EncodeToString(s[:]), beijing)
	if err != nil {
		return time.Time{}, fmt.Errorf("%w: %X", ErrTime, s[:])
	}
	return t, nil
}

// String gives "2024-12-29 14:17:40", whatever the digits are.
func (s Stamp) String() string {
	return fmt.Sprintf("%X-%X-%X %X:%X:%X", s[:2], s[2:3], s[3:4], s[4:5], s[5:6], s[6:])
}

// The canteen's application: value file 0 and the log of what moved in file 1,
// both enciphered, changed together. Key 0 is the master, 1 the till's (debit,
// limited credit, log), 2 the top-up host's (credit, and the log's line for it).
const (
	CanteenAID   AID  = 0x4B4C01
	CanteenValue byte = 0x00
	CanteenLog   byte = 0x01

	CanteenMaster byte = 0
	CanteenTill   byte = 1
	CanteenHost   byte = 2

	CanteenLimit = 50_000 // highest value, fen
	CanteenLogs  = 20     // records of the log file, one of them for the change under way
)

// CanteenSystem is the system identifier in the diversification of its keys.
const CanteenSystem = "KOALA CANTEEN"

// Canteen is the application for a card, value and log empty.
func Canteen(keys [3]SealedKey) Application {
	return Application{
		AID: CanteenAID, Settings: FreeListing | ChangeMaster | ChangeSettings, Keys: keys[:],
		Files: []InitialFile{
			{NewFile: NewFile{No: CanteenValue, Settings: FileSettings{
				Type: ValueFile, Mode: Enciphered, Access: Rights(Never, CanteenTill, CanteenHost, CanteenMaster),
				Upper: CanteenLimit, LimitedOn: true,
			}}},
			{NewFile: NewFile{No: CanteenLog, Settings: FileSettings{
				Type: CyclicFile, Mode: Enciphered, Access: Rights(CanteenHost, CanteenHost, CanteenTill, CanteenMaster),
				Size: LogLen, Max: CanteenLogs,
			}}},
		},
	}
}

// OpenBalance lets anybody read the value of a canteen application without a
// key, in the clear, for balance kiosks where the canteen's policy allows them.
func (a Application) OpenBalance() Application {
	a.Files = append([]InitialFile(nil), a.Files...)
	a.Files[CanteenValue].Settings.FreeValue = true
	return a
}

// A Log is one record of the canteen's log on the card, 17 bytes, big endian:
// amount 4 (negative: given back or topped up) | till 4 | date and time 7 | till's number 2.
type Log struct {
	Fen  int32
	Till Till
	At   Stamp
	Seq  uint16 // low half of the till's running number
}

// LogLen is the length of a log record in bytes.
const LogLen = 17

// Bytes codes the record.
func (l Log) Bytes() []byte {
	b := binary.BigEndian.AppendUint32(make([]byte, 0, LogLen), uint32(l.Fen))
	b = append(append(b, l.Till[:]...), l.At[:]...)
	return binary.BigEndian.AppendUint16(b, l.Seq)
}

// ParseLog reads the record.
func ParseLog(b []byte) (l Log, err error) {
	if err := exactly("canteen log", b, LogLen); err != nil {
		return l, err
	}
	return Log{int32(binary.BigEndian.Uint32(b)), Till(b[4:8]), Stamp(b[8:15]), binary.BigEndian.Uint16(b[15:])}, nil
}

// A Till is the number of a canteen's till, four bytes.
type Till [4]byte

// String gives the eight digits.
func (t Till) String() string { return fmt.Sprintf("%X", t[:]) }

// Key is the till's own key for its sales, derived from the canteen's master.
func (t Till) Key(master [16]byte) [16]byte {
	k := Diversify(AESKey(master, 0), append([]byte("KOALA TILL"), t[:]...))
	return [16]byte(k.Bytes())
}

// A SaleKind says what a sale did.
type SaleKind byte

// Kinds of sales.
const (
	Purchase SaleKind = 0x01 // the card paid
	Refund   SaleKind = 0x02 // the card got money back
	Void     SaleKind = 0x03 // the number was used up and no money moved
)

// Words names the kind, in Chinese if zh.
func (k SaleKind) Words(zh bool) string {
	w, ok := map[SaleKind][2]string{Purchase: {"purchase", "消费"}, Refund: {"refund", "退款"}, Void: {"void", "作废"}}[k]
	switch {
	case !ok:
		return fmt.Sprintf("%02X", byte(k))
	case zh:
		return w[1]
	default:
		return w[0]
	}
}

// A Sale is what a till hands to its host: one change of one card's value,
// under the till's MAC. Till and Seq name it for ever; every number of a till
// comes to the host some day: a Void fills the place of a sale that came to
// nothing.
type Sale struct {
	Card    UID
	App     AID
	Till    Till
	Seq     uint32 // the till's running number, from 1
	Kind    SaleKind
	Meal    byte   // meal of the price list, 0 none
	Fen     uint32 // moved on the card: taken by a purchase, given back by a refund
	Subsidy uint32 // of the price, what the employer pays instead
	Before  int32  // value of the card
	After   int32
	At      Stamp
	Of      uint32 // of a refund: the number of the purchase it gives back
	MAC     [8]byte
}

// SaleLen is the length of a sale in bytes.
const SaleLen = saleHead + 8

const (
	saleVersion = 0x01
	saleHead    = 48
)

// body is what the MAC covers, big endian: version 1, card 7, AID 3 (as on the
// wire), till 4, number 4, kind 1, meal 1, amount 4, subsidy 4, before 4, after
// 4, time 7, number of the purchase 4.
func (s Sale) body() []byte {
	app := s.App.Bytes()
	b := append(append(append(make([]byte, 0, SaleLen), saleVersion), s.Card[:]...), app[:]...)
	b = binary.BigEndian.AppendUint32(append(b, s.Till[:]...), s.Seq)
	b = binary.BigEndian.AppendUint32(append(b, byte(s.Kind), s.Meal), s.Fen)
	b = binary.BigEndian.AppendUint32(b, s.Subsidy)
	b = binary.BigEndian.AppendUint32(b, uint32(s.Before))
	b = append(binary.BigEndian.AppendUint32(b, uint32(s.After)), s.At[:]...)
	return binary.BigEndian.AppendUint32(b, s.Of)
}

// Bytes codes the sale.
func (s Sale) Bytes() []byte { return append(s.body(), s.MAC[:]...) }

// ParseSale reads one sale. What it says is not checked; see Verify.
func ParseSale(b []byte) (s Sale, err error) {
	if err := exactly("sale", b, SaleLen); err != nil {
		return s, err
	}
	if b[0] != saleVersion {
		return s, fmt.Errorf("sale: %w: %02X", ErrVersion, b[0])
	}
	u := binary.BigEndian.Uint32
	return Sale{
		Card: UID(b[1:8]), App: AIDFrom([3]byte(b[8:11])), Till: Till(b[11:15]), Seq: u(b[15:]), Kind: SaleKind(b[19]), Meal: b[20],
		Fen: u(b[21:]), Subsidy: u(b[25:]), Before: int32(u(b[29:])), After: int32(u(b[33:])), At: Stamp(b[37:44]), Of: u(b[44:]),
		MAC: [8]byte(b[48:56]),
	}, nil
}

// Sign puts the till's MAC on: the first half of the AES-CMAC.
func (s Sale) Sign(key [16]byte) Sale {
	full := iso9797.CMAC(key[:], s.body())
	s.MAC = [8]byte(full[:8])
	return s
}

// Verify checks the MAC under the till's key and that the numbers agree:
// before and after differ by what moved.
func (s Sale) Verify(key [16]byte) error {
	moved := -int64(s.Fen)
	switch s.Kind {
	case Purchase:
	case Refund:
		moved = int64(s.Fen)
	case Void:
		moved = 0
	default:
		return fmt.Errorf("sale %d: kind %02X: %w", s.Seq, byte(s.Kind), ErrSettings)
	}
	full := iso9797.CMAC(key[:], s.body())
	if !same(full[:8], s.MAC[:]) {
		return fmt.Errorf("sale %d: %w", s.Seq, ErrMAC)
	}
	if int64(s.After)-int64(s.Before) != moved || s.Kind == Void && s.Fen != 0 {
		return fmt.Errorf("sale %d: before and after do not agree: %w", s.Seq, ErrSettings)
	}
	return nil
}

// Log is the record the sale leaves on the card.
func (s Sale) Log() Log {
	fen := int32(s.Fen)
	if s.Kind == Refund {
		fen = -fen
	}
	return Log{fen, s.Till, s.At, uint16(s.Seq)}
}

// A SaleBatch is what a till hands over at once: sales with the places First,
// First+1, … in the till's store, so that gaps and repetitions show. A sale
// whose end was not known at once stands behind later ones, out of order of Seq.
type SaleBatch struct {
	Till  Till
	First uint32
	Sales []Sale
}

// MaxSaleBatch bounds one batch, in sales.
const MaxSaleBatch = 1000

var saleBatchMagic = [4]byte{'K', 'D', 'S', 0x01}

// Bytes codes the batch: magic 4, till 4, first 4, count 2, the sales, CRC-32 (IEEE) 4
// over all of it, big endian.
func (b SaleBatch) Bytes() ([]byte, error) {
	if len(b.Sales) > MaxSaleBatch {
		return nil, fmt.Errorf("batch of %d sales: %w", len(b.Sales), ErrLength)
	}
	out := append(append([]byte(nil), saleBatchMagic[:]...), b.Till[:]...)
	out = binary.BigEndian.AppendUint32(out, b.First)
	out = binary.BigEndian.AppendUint16(out, uint16(len(b.Sales)))
	for _, s := range b.Sales {
		out = append(out, s.Bytes()...)
	}
	return binary.BigEndian.AppendUint32(out, crc32.ChecksumIEEE(out)), nil
}

// ParseSaleBatch reads one batch and nothing after it. All sales must be of the
// batch's till.
func ParseSaleBatch(in []byte) (b SaleBatch, err error) {
	const head, sum = 14, 4
	if len(in) < head+sum || [4]byte(in[:4]) != saleBatchMagic {
		return b, fmt.Errorf("sale batch: %w: %d bytes", ErrLength, len(in))
	}
	body := in[:len(in)-sum]
	if crc32.ChecksumIEEE(body) != binary.BigEndian.Uint32(in[len(body):]) {
		return b, fmt.Errorf("sale batch: %w", ErrMAC)
	}
	n := int(binary.BigEndian.Uint16(in[12:]))
	if n > MaxSaleBatch || len(body) != head+n*SaleLen {
		return b, fmt.Errorf("sale batch: %w: %d sales in %d bytes", ErrLength, n, len(in))
	}
	b.Till, b.First = Till(in[4:8]), binary.BigEndian.Uint32(in[8:])
	for rest := body[head:]; len(rest) > 0; rest = rest[SaleLen:] {
		s, err := ParseSale(rest[:SaleLen])
		if err != nil {
			return SaleBatch{}, err
		}
		if s.Till != b.Till {
			return SaleBatch{}, fmt.Errorf("sale batch: sale %d is of till %s: %w", s.Seq, s.Till, ErrSettings)
		}
		b.Sales = append(b.Sales, s)
	}
	return b, nil
}
