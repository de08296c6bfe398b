package kernel

import (
	"encoding/hex"
	"fmt"
	"time"

	"koala/spec/emv"
	"koala/spec/tlv"
)

// A Scheme is how a payment system's contactless cards differ from the others
// of their family (CARD.md 1.15). Kernel 7 is UnionPay's, kernel 3 Visa's.
type Scheme byte

// Schemes the kernel knows.
const (
	QuickPass Scheme = 7
	QVSDC     Scheme = 3
)

// An Application is one that the terminal accepts, with its scheme's rules and
// the acquirer's limits. Amounts are minor units.
type Application struct {
	AID     []byte // 5 to 16 bytes; matches every card AID that begins with it
	Exact   bool   // matches that AID only
	Scheme  Scheme
	Version [2]byte // 9F09

	// Contactless limits (EMV Contactless Book B, 3.1). Zero is no limit.
	TapLimit   uint64 // at or above it no contactless transaction
	FloorLimit uint64 // above it the host must be asked
	CVMLimit   uint64 // at or above it the cardholder must be verified
	ZeroOnline bool   // a zero amount is allowed and goes online; otherwise it is not

	// Contact risk management (EMV 4.4 Book 3, 10.6, 10.7).
	ContactFloor       uint64 // at or above it the host must be asked; 0 asks always
	Threshold          uint64 // below it the plain target applies
	TargetPercent      byte   // 0 to 99 of sales below the threshold go online
	MaxTargetPercent   byte   // rising to this at the floor limit
	TACDefault         [5]byte
	TACDenial          [5]byte
	TACOnline          [5]byte
	DDOL, TDOL         []byte // used when the card has none
	ECash              bool   // e-cash on the contact interface (9F7A)
	SkipExceptionCheck bool
}

// A Config is what a terminal is. Nothing of it changes during a transaction.
type Config struct {
	Applications []Application
	Keys         []emv.CAKey                                        // of both algorithms; one SM2 key of a scheme has its cards asked for their SM2 chain (DF69 01)
	Revoked      func(rid [5]byte, index byte, serial [3]byte) bool // issuer certificates; nil: none

	Country, Currency uint16  // 9F1A and 5F2A, decimal: 156
	Exponent          byte    // 5F36
	Type              byte    // 9F35: 22 attended, offline with online capability; 25 unattended
	Capabilities      [3]byte // 9F33
	MoreCapabilities  [5]byte // 9F40
	TTQ               [4]byte // 9F66 before the limits are looked at
	TerminalID        string  // 9F1C, 8 characters
	MerchantID        string  // 9F16, 15 characters
	MerchantName      string  // 9F4E, at most 20 bytes
	Category          uint16  // 9F15, decimal
	Acquirer          [6]byte // 9F01
	Serial            string  // 9F1E, 8 characters
	Zone              *time.Location
}

// A Transaction is one sale.
type Transaction struct {
	Fen, Other    uint64 // minor units
	Type          byte   // 9C: 00 goods, 01 cash, 20 refund, 63 load
	At            time.Time
	Unpredictable [4]byte // 9F37, fresh
	Random        byte    // 0 to 99, fresh: for random selection
	Sequence      uint32  // 9F41, 1 to 999999
	ForceOnline   bool
	Chosen        []byte // AID that the cardholder chose, contacts only; nil: the card's priority decides
	Spent         uint64 // minor units this card spent here offline before, for split sales
}

// A Kernel runs transactions for one terminal. It keeps nothing between them
// and may serve several goroutines.
type Kernel struct {
	cfg  Config
	keys map[keyID]emv.CAKey
	sm   map[[5]byte]bool // schemes with an SM2 key
	base objects          // terminal objects that never change
}

type keyID struct {
	rid   [5]byte
	index byte
}

// New checks the configuration. A CA key whose check value is wrong is left
// out by error, never used.
func New(cfg Config) (*Kernel, error) {
	if cfg.Zone == nil {
		cfg.Zone = time.FixedZone("CST", 8*3600)
	}
	k := &Kernel{cfg: cfg, keys: map[keyID]emv.CAKey{}, sm: map[[5]byte]bool{}}
	for _, a := range cfg.Applications {
		if len(a.AID) < 5 || len(a.AID) > 16 || a.TargetPercent > 99 || a.MaxTargetPercent > 99 || a.TargetPercent > a.MaxTargetPercent {
			return nil, fmt.Errorf("%w: application %X", ErrConfig, a.AID)
		}
	}
	for _, key := range cfg.Keys {
		if !key.Valid() {
			return nil, fmt.Errorf("%w: check value of CA key %X/%02X", ErrConfig, key.RID, key.Index)
		}
		k.keys[keyID{key.RID, key.Index}] = key
		k.sm[key.RID] = k.sm[key.RID] || key.Algorithm == emv.SM2
	}
	if len(cfg.TerminalID) != 8 || len(cfg.MerchantID) != 15 || len(cfg.Serial) != 8 || len(cfg.MerchantName) > 20 ||
		cfg.Country > 999 || cfg.Currency > 999 || cfg.Category > 9999 {
		return nil, fmt.Errorf("%w: terminal %q", ErrConfig, cfg.TerminalID)
	}
	k.base = objects{
		emv.TagTerminalCountry: digits(uint64(cfg.Country), 2), emv.TagCurrency: digits(uint64(cfg.Currency), 2),
		tagCurrencyExponent: {cfg.Exponent}, emv.TagTerminalType: {cfg.Type}, emv.TagCapabilities: cfg.Capabilities[:],
		emv.TagMoreCapabilities: cfg.MoreCapabilities[:], emv.TagTerminalID: []byte(cfg.TerminalID),
		emv.TagMerchantID: []byte(cfg.MerchantID), emv.TagMerchantName: []byte(cfg.MerchantName),
		emv.TagMerchantCategory: digits(uint64(cfg.Category), 2), emv.TagAcquirer: cfg.Acquirer[:],
		emv.TagDeviceSerial: []byte(cfg.Serial),
	}
	return k, nil
}

const tagCurrencyExponent tlv.Tag = 0x5F36

// objects are data objects by tag.
type objects map[tlv.Tag][]byte

// terminal gives the terminal's objects for a transaction.
func (k *Kernel) terminal(app Application, tx Transaction) objects {
	o := make(objects, len(k.base)+16)
	for tag, v := range k.base {
		o[tag] = v
	}
	at := tx.At.In(k.cfg.Zone)
	o[emv.TagAmount], o[emv.TagAmountOther] = digits(tx.Fen, 6), digits(tx.Other, 6)
	o[emv.TagDate], o[emv.TagTime] = clockDigits(at.Year()%100, int(at.Month()), at.Day()), clockDigits(at.Hour(), at.Minute(), at.Second())
	o[emv.TagType], o[emv.TagUN] = []byte{tx.Type}, append([]byte(nil), tx.Unpredictable[:]...)
	o[emv.TagSequence] = digits(uint64(tx.Sequence), 4)
	o[emv.TagTerminalVersion], o[emv.TagTerminalAID] = app.Version[:], app.AID
	o[emv.TagTVR], o[emv.TagTSI] = make([]byte, 5), make([]byte, 2)
	if k.sm[[5]byte(app.AID)] {
		o[emv.TagSM] = []byte{1}
	}
	return o
}

func clockDigits(a, b, c int) []byte {
	two := func(n int) byte { return byte(n/10<<4 | n%10) }
	return []byte{two(a), two(b), two(c)}
}

// digits is n in size BCD bytes, its low digits if it has more.
func digits(n uint64, size int) []byte {
	out := make([]byte, size)
	for i := size - 1; i >= 0; i-- {
		out[i] = byte(n/10%10<<4 | n%10)
		n /= 100
	}
	return out
}

// number reads BCD of at most nine bytes; false when a digit is none.
func number(b []byte) (n uint64, ok bool) {
	if len(b) > 9 {
		return 0, false
	}
	for _, x := range b {
		if x>>4 > 9 || x&0x0F > 9 {
			return 0, false
		}
		n = n*100 + uint64(x>>4*10+x&0x0F)
	}
	return n, true
}

// panDigits reads the value of tag 5A, or of 57 up to its separator.
func panDigits(b []byte, separator byte) (string, bool) {
	text := hex.EncodeToString(b)
	end := len(text)
	for i := range len(text) {
		if text[i] == separator {
			end = i
			break
		}
	}
	for i := range end {
		if text[i] > '9' {
			return "", false
		}
	}
	if end < 8 || end > 19 || separator == 'f' && end < len(text)-1 {
		return "", false
	}
	return text[:end], true
}
