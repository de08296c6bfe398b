package iso8583

import (
	"iter"
	"math/bits"
)

// A Message is one message, read or to be written. The zero value is empty;
// used again and again it allocates nothing once its buffer has grown. Values
// are parts of the input of Unpack or of that buffer, and hold until the next
// Unpack, Reset or AnswerTo. A Message serves one goroutine.
//
// Values are the field's characters: digits as ASCII whatever the coding, track
// data with its separator, bytes where the field is binary.
type Message struct {
	spec    *Spec
	head    []byte
	mti     [4]byte
	present [2]uint64 // bit 63 of the first is field 1
	values  [MaxField + 1][]byte
	store   []byte // decoded digits and texts that were set
	wire    []byte // what Unpack read
	scratch []byte // the data of a MAC
	room    [16]byte
}

// Reset empties m for a message of type mti (four digits) in a dialect.
func (m *Message) Reset(s *Spec, mti string) {
	m.clear(s)
	m.SetMTI(mti)
}

func (m *Message) clear(s *Spec) {
	m.spec, m.head, m.mti, m.wire = s, nil, [4]byte{}, nil
	m.present = [2]uint64{}
	m.store = m.store[:0]
}

// Spec is the dialect that m is in.
func (m *Message) Spec() *Spec { return m.spec }

// MTI is the message type, four digits.
func (m *Message) MTI() string { return string(m.mti[:]) }

// IsMTI compares the message type without allocating.
func (m *Message) IsMTI(mti string) bool { return string(m.mti[:]) == mti }

// SetMTI sets the message type; AppendTo refuses what is not four digits.
func (m *Message) SetMTI(mti string) {
	m.mti = [4]byte{}
	if len(mti) == len(m.mti) {
		copy(m.mti[:], mti)
	}
}

// Head is what stands before the message type, as bytes; see POSHeader and
// InterchangeHeader.
func (m *Message) Head() []byte { return m.head }

// SetHead sets what stands before the message type and keeps h itself.
func (m *Message) SetHead(h []byte) { m.head = h }

// Has says whether field n is present.
func (m *Message) Has(n int) bool { return m.present[(n-1)>>6]&bit(n) != 0 }

func bit(n int) uint64 { return 1 << (63 - (n-1)&63) }

// Get is the value of field n, nil when it is absent. An empty variable field
// has a value of no bytes that is not nil.
func (m *Message) Get(n int) []byte {
	if !m.Has(n) {
		return nil
	}
	return m.values[n]
}

// Text is Get as a string.
func (m *Message) Text(n int) string { return string(m.Get(n)) }

// Set gives field n (2 to 128) a value and keeps v itself. Whether the dialect
// takes it is said by AppendTo.
func (m *Message) Set(n int, v []byte) {
	if n < 2 || n > MaxField {
		panic("iso8583: no field has this number")
	}
	if v == nil {
		v = empty
	}
	m.values[n] = v
	m.present[(n-1)>>6] |= bit(n)
}

var empty = []byte{}

// SetText is Set with a copy of v.
func (m *Message) SetText(n int, v string) {
	from := len(m.store)
	m.store = append(m.store, v...)
	m.Set(n, m.store[from:len(m.store):len(m.store)])
}

// setCopy is Set with a copy of v.
func (m *Message) setCopy(n int, v []byte) {
	m.Set(n, m.keep(v))
}

// keep copies v into the buffer.
func (m *Message) keep(v []byte) []byte {
	from := len(m.store)
	m.store = append(m.store, v...)
	return m.store[from:len(m.store):len(m.store)]
}

// Delete takes field n out.
func (m *Message) Delete(n int) { m.present[(n-1)>>6] &^= bit(n) }

// Fields gives the fields that are present in ascending order.
func (m *Message) Fields() iter.Seq2[int, []byte] {
	return func(yield func(int, []byte) bool) {
		for w, b := range m.present {
			if w == 0 {
				b &^= bit(1)
			}
			for b != 0 {
				i := bits.LeadingZeros64(b)
				b &^= 1 << (63 - i)
				if n := w<<6 + i + 1; !yield(n, m.values[n]) {
					return
				}
			}
		}
	}
}

// AnswerTo makes m the answer to req with a response code: the next function of
// the message type (0200 becomes 0210, a repeat 0221 becomes 0230), the header
// turned round, and the fields that the dialect's answers echo. Nothing secret
// is echoed but the card number: no tracks, PIN, chip data or MAC. Values are
// copied, so that req may be used again. Field 39 stays out for an empty code.
func (m *Message) AnswerTo(req *Message, code string) error {
	mti := req.mti
	if !all(mti[:], isDigit) || (mti[2]-'0')%2 == 1 || mti[2] >= '6' {
		return &FieldError{req.spec.Name, PartMTI, len(req.head), ErrAnswer}
	}
	m.clear(req.spec)
	mti[2]++
	if mti[3]%2 == 1 {
		mti[3]-- // the originator repeats, the answer is to the original
	}
	m.mti = mti
	m.head = m.answerHead(req.head)
	for n, v := range req.Fields() {
		if m.spec.fields[n].Echoed {
			m.setCopy(n, v)
		}
	}
	if code != "" {
		m.SetText(39, code)
	}
	return nil
}

// answerHead turns a header round; one that is malformed is kept, AppendTo
// refuses it.
func (m *Message) answerHead(head []byte) []byte {
	from := len(m.store)
	switch {
	case m.spec.Head == POSHead:
		if h, err := ParsePOSHeader(head); err == nil {
			m.store = h.Answer().AppendTo(m.store)
			return m.store[from:len(m.store):len(m.store)]
		}
	case m.spec.Head == InterchangeHead && len(head) > 0:
		if h, err := ParseInterchangeHeader(head); err == nil {
			m.store = h.Answer().AppendTo(m.store)
			return m.store[from:len(m.store):len(m.store)]
		}
	}
	return m.keep(head)
}
