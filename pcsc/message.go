package pcsc

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// The messages of pcscd's socket (pcsc-lite, winscard_msg.h, protocol 4:3 to
// 4:5): a header of size and command, then the command's structure, numbers of
// 32 bits in the machine's byte order, answered by the same structure with its
// result filled in.
const (
	cmdEstablish    = 0x01
	cmdRelease      = 0x02
	cmdConnect      = 0x04
	cmdReconnect    = 0x05
	cmdDisconnect   = 0x06
	cmdBegin        = 0x07
	cmdEnd          = 0x08
	cmdTransmit     = 0x09
	cmdVersion      = 0x11
	cmdReaderStates = 0x12
)

// Sizes of pcsc-lite's arrays.
const (
	nameSize   = 128 // of a reader's name, NUL padded
	atrSize    = 33
	stateSize  = 184 // of one reader's state with its padding
	maxReaders = 16
	// maxAnswer is what the client has room for: an extended answer.
	maxAnswer = 4 + 3 + 1<<16 + 3 + 2
)

// A result is what pcscd says of a call (SCARD_...).
type result uint32

const (
	resultOK             result = 0
	resultUnknownReader  result = 0x80100009
	resultSharing        result = 0x8010000B
	resultNoCard         result = 0x8010000C
	resultProtocol       result = 0x8010000F
	resultNotTransacted  result = 0x80100016
	resultUnavailable    result = 0x80100017
	resultStopped        result = 0x8010001E
	resultCommunication  result = 0x8010002F
	resultUnresponsive   result = 0x80100066
	resultUnpowered      result = 0x80100067
	resultReset          result = 0x80100068
	resultRemoved        result = 0x80100069
	resultInvalidHandle  result = 0x80100003
	resultNoReaders      result = 0x8010002E
	resultInsufficient   result = 0x80100008
	resultInvalidPointer result = 0x80100004
)

var resultWords = map[result]string{
	resultUnknownReader: "unknown reader", resultSharing: "another program has the card for itself", resultNoCard: "no card in the reader",
	resultProtocol: "the card does not speak the protocol", resultNotTransacted: "the transaction failed", resultUnavailable: "the reader is gone",
	resultStopped: "the service does not speak this protocol", resultCommunication: "communication error", resultUnresponsive: "the card is mute",
	resultUnpowered: "the card is without power", resultReset: "the card was reset", resultRemoved: "the card was taken out",
	resultInvalidHandle: "invalid handle", resultNoReaders: "no readers", resultInsufficient: "buffer too small", resultInvalidPointer: "invalid parameter",
}

func (r result) String() string {
	if w, ok := resultWords[r]; ok {
		return fmt.Sprintf("%08X %s", uint32(r), w)
	}
	return fmt.Sprintf("%08X", uint32(r))
}

// torn tells results after which nothing is known of the command in flight.
func (r result) torn() bool {
	switch r {
	case resultNotTransacted, resultCommunication, resultUnresponsive, resultUnpowered, resultReset, resultRemoved, resultNoCard, resultUnavailable:
		return true
	}
	return false
}

var (
	// ErrService says that pcscd refused a call or did not answer as agreed.
	ErrService = errors.New("pcsc: the smart card service refuses")
	// ErrNoCard says that the reader is empty, or not there.
	ErrNoCard = errors.New("pcsc: no card in the reader")
)

// A structure is a message of 32-bit numbers, a reader's name in one place of
// CONNECT excepted.
type structure []byte

func numbers(n ...uint32) structure {
	var s structure
	for _, v := range n {
		s = binary.NativeEndian.AppendUint32(s, v)
	}
	return s
}

// at reads the i-th number of a structure that has only numbers.
func (s structure) at(i int) uint32 { return binary.NativeEndian.Uint32(s[4*i:]) }

// result reads the last number: every structure ends with it.
func (s structure) result() result { return result(s.at(len(s)/4 - 1)) }

// send writes one message; extra follows its structure uncounted.
func send(w io.Writer, command uint32, body structure, extra []byte) error {
	out := append(numbers(uint32(len(body)), command), body...)
	_, err := w.Write(append(out, extra...))
	return err
}

func receive(r io.Reader, size int) (structure, error) {
	s := make(structure, size)
	_, err := io.ReadFull(r, s)
	return s, err
}

// A ReaderState is one reader that pcscd has.
type ReaderState struct {
	Name    string
	Present bool   // a card is in it
	ATR     []byte // of the card
}

// presentBit of a reader's state on the wire, which counts its bits unlike the
// public SCARD_STATE words.
const presentBit = 0x0004

// parseStates reads the table of readers: name 128 | events 4 | state 4 |
// sharing 4 | ATR 33, padding 3 | ATR length 4 | protocol 4.
func parseStates(table []byte) []ReaderState {
	var out []ReaderState
	for ; len(table) >= stateSize; table = table[stateSize:] {
		name, _, _ := bytes.Cut(table[:nameSize], []byte{0})
		if len(name) == 0 {
			continue
		}
		state := binary.NativeEndian.Uint32(table[nameSize+4:])
		x := ReaderState{Name: string(name), Present: state&presentBit != 0}
		const atrAt = nameSize + 12
		if n := binary.NativeEndian.Uint32(table[atrAt+atrSize+3:]); x.Present && n <= atrSize {
			x.ATR = bytes.Clone(table[atrAt : atrAt+n])
		}
		out = append(out, x)
	}
	return out
}
