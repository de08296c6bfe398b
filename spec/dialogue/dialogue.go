// Package dialogue explains what a card and a reader said to each other: it
// takes commands and answers as they were written down, by this house or by
// anybody's tool, and says which card it is, what each exchange means, what
// every data object is called, what money and which transactions the card
// holds, and whether its certificates hold under the schemes' published keys.
//
// It is the one order in which the explainers of spec/purse, spec/emv,
// spec/globalplatform, spec/desfire and spec/iso7816 are asked: the same bytes
// mean different things in different applications, so a Session remembers what
// was selected, which values the card asked for and what it gave.
package dialogue

import (
	"koala/spec/emv"
	"koala/spec/iso7816"
	"koala/spec/tlv"
)

// An Exchange is one command and its answer. A command not written down is
// empty; an answer that never came is empty.
type Exchange struct {
	Command  []byte
	Response []byte // data and status word
	Bare     bool   // Response is data objects without a status word

	// Bits set where a digit was not written down; nil where all were. The
	// bits themselves are zero in Command and Response.
	CommandMask, ResponseMask []byte
}

// Options say how a dialogue is told.
type Options struct {
	Clear   bool                                     // show PAN, track data and the holder's name; they are masked otherwise
	Station func(code uint32) (name string, ok bool) // names a station of a rail record by its code; nil: codes stay codes

	CAs []emv.CAKey // keys beside the schemes' published ones, such as a house's own; they win
}

// A Report is everything a dialogue tells.
type Report struct {
	Card         Kind
	Interface    Interface
	Applications []Application // in the order they were selected, then those only listed
	Number       string        // card number or PAN, masked as Options say; empty: not seen
	From, To     string        // validity as dates, empty: not seen
	Balance      Balance       // of the first application that has one
	Records      []Record
	Certificates []Certificate
	Lines        []Line
	Unnamed      []tlv.Tag // data objects that no list of names has, each once
}

// Explained says that at least one exchange or object means something.
func (r Report) Explained() bool {
	for _, l := range r.Lines {
		if l.Known {
			return true
		}
	}
	return false
}

// Sound is false when a certificate or signature was checked and found wrong.
func (r Report) Sound() bool {
	for _, c := range r.Certificates {
		if c.Decided && !c.OK {
			return false
		}
	}
	return true
}

// An Interface is the way a card was spoken to, as far as the dialogue shows.
type Interface string

// The interfaces.
const (
	UnknownInterface Interface = ""
	Contact          Interface = "contact"
	Contactless      Interface = "contactless"
)

// A Balance is money on a card. Known is false while none was read.
type Balance struct {
	Known    bool
	Fen      int64  // minor units
	Currency string // numeric code, "156"
	Source   string // what it was read from: "GET BALANCE", "9F79", "9F10"
}

// An Application is one application of the card.
type Application struct {
	AID      []byte
	Kind     Kind
	Name     string // by its identifier
	NameZH   string
	Label    string // the card's own name for it
	Priority byte   // in the payment directory, 0: not listed
	Selected bool
	Balance  Balance
}

// A RecordKind says which log a record comes from.
type RecordKind string

// The logs that cards keep.
const (
	PurseLog       RecordKind = "purse log"       // file 18
	TripLog        RecordKind = "trip"            // file 1E
	RailRecord     RecordKind = "rail record"     // file 1A
	TransactionLog RecordKind = "transaction log" // fields by 9F4F
	LoadLog        RecordKind = "load log"        // fields by DF4F
)

// A Record is one entry of a log.
type Record struct {
	Kind   RecordKind
	SFI    byte
	Index  byte // record number, 1 is the newest; 0: read by its identifier
	Raw    []byte
	Values []Value
}

// A Value is one named value of a record.
type Value struct {
	Key, Name, NameZH string // Key is for programs: "amount_fen"
	Text, TextZH      string // for people; TextZH only where it differs
	Int               int64  // valid when Numeric
	Numeric           bool
}

// Get gives the value with that key.
func (r Record) Get(key string) (Value, bool) {
	for _, v := range r.Values {
		if v.Key == key {
			return v, true
		}
	}
	return Value{}, false
}

// A CertificateKind says what a signature vouches for.
type CertificateKind string

// What offline data authentication checks (EMV 4.4 Book 2, 5 and 6).
const (
	IssuerKey  CertificateKind = "issuer" // tag 90 under the scheme's key
	CardKey    CertificateKind = "icc"    // tag 9F46 under the issuer's key
	StaticData CertificateKind = "sda"    // tag 93 under the issuer's key
	Dynamic    CertificateKind = "dda"    // answer to INTERNAL AUTHENTICATE under the card's key
	Combined   CertificateKind = "cda"    // 9F4B in the answer to GENERATE AC
	FastDDA    CertificateKind = "fdda"   // 9F4B of a contactless transaction
)

// A Certificate is one signature and what became of its check.
type Certificate struct {
	Kind             CertificateKind
	App              []byte // application identifier
	OK               bool
	Decided          bool   // false: something needed for the check was not in the dialogue
	Reason, ReasonZH string // why not, or what was recovered
	Signer, SignerZH string // "UnionPay 0B (test)", or the key above
	Bits             int    // of the key recovered
	Expiry           string // last month of validity, YYYY-MM
	Owner            string // issuer's digits or the PAN, masked as Options say
	Serial           string
	Hash             bool // the hash inside matches
}

// A Line is one exchange explained. Command and Response are hexadecimal with
// X for digits that are masked or were never written down.
type Line struct {
	Command, Response string
	Bare              bool
	Status            iso7816.SW // 0: none
	Known             bool       // some explainer knew the exchange
	Explanation       iso7816.Explanation
	Objects           []Object
}

// An Object is one data object of an exchange.
type Object struct {
	Depth        int
	Sent         bool // of the command; otherwise of the answer
	Tag          tlv.Tag
	Name, NameZH string
	Named        bool
	Value        string // hexadecimal, masked as Options say; empty when constructed
	Text, TextZH string // what it says in words, may be empty
}

// Explain explains a whole dialogue.
func Explain(list []Exchange, o Options) Report {
	s := NewSession(o)
	for _, e := range list {
		s.Say(e)
	}
	return s.Report()
}
