// Package globalplatform holds what GlobalPlatform Card Specification 2.3.1
// (GPCS) says both ends of a card management session must agree on: the secure
// channels SCP02 (i = 15) and SCP03 (Amendment D, i = 70) from the host's and
// from the card's side, the content management commands and their answers, the
// registry's coding, life cycles, privileges, card data, key diversification,
// the tokens and receipts of delegated management, and the contactless registry
// (Amendment C). It moves bytes and does no I/O. Start at NewHost for a
// session and at Install for what is sent through it.
package globalplatform

import (
	"errors"
	"fmt"
	"strings"

	"koala/spec/iso7816"
)

// Class bytes: plain, and under a secure channel (GPCS 11.1.4).
const (
	CLA       = 0x80
	CLASecure = 0x84
)

// Instructions (GPCS table 11-1).
const (
	InsInitializeUpdate = 0x50
	InsExternalAuth     = 0x82
	InsGetData          = 0xCA
	InsPutKey           = 0xD8
	InsStoreData        = 0xE2
	InsDelete           = 0xE4
	InsInstall          = 0xE6
	InsLoad             = 0xE8
	InsSetStatus        = 0xF0
	InsGetStatus        = 0xF2
)

// SWMore is GET STATUS's "more entries follow; ask with P2 bit 1 set"
// (GPCS 11.4.3.2).
const SWMore iso7816.SW = 0x6310

// What can be wrong with what the other end sent. The text never carries data.
var (
	ErrCommand    = errors.New("globalplatform: malformed command")
	ErrAnswer     = errors.New("globalplatform: malformed answer")
	ErrCryptogram = errors.New("globalplatform: the cryptogram is wrong")
	ErrMAC        = errors.New("globalplatform: the MAC is wrong")
	ErrLevel      = errors.New("globalplatform: this security level does not exist")
	ErrProtocol   = errors.New("globalplatform: the key set does not suit the secure channel protocol")
	ErrTooLong    = errors.New("globalplatform: too long for one command")
	ErrKey        = errors.New("globalplatform: the key does not match its length or check value")
)

// An AID is an application identifier, 5 to 16 raw bytes.
type AID string

// Identifiers that the specification or its users fix.
const (
	IssuerDomain     AID = "\xA0\x00\x00\x01\x51\x00\x00\x00"     // the issuer security domain
	DomainLoadFile   AID = "\xA0\x00\x00\x01\x51\x53\x50"         // the load file that supplementary domains come from
	DomainModule     AID = "\xA0\x00\x00\x01\x51\x53\x50\x41"     // its module
	ContactlessAID   AID = "\xA0\x00\x00\x01\x51\x43\x52\x53\x00" // the contactless registry (Amendment C)
	minAID, maxAID       = 5, 16
	maxShort             = iso7816.MaxShortData
	dataElementLimit     = 127 // an LV field of INSTALL coded on one byte
)

// String writes the AID in hexadecimal.
func (a AID) String() string { return fmt.Sprintf("%X", string(a)) }

func (a AID) valid() bool { return len(a) >= minAID && len(a) <= maxAID }

// A Level is the security level of a session, P1 of EXTERNAL AUTHENTICATE
// (GPCS 10.6, D.4.1, Amendment D 7.1.2).
type Level byte

// Bits of a Level.
const (
	LevelNone Level = 0x00 // both ends authenticated, messages unprotected
	CMAC      Level = 0x01 // commands carry a MAC
	CENC      Level = 0x02 // command data is enciphered (only with CMAC)
	RMAC      Level = 0x10 // answers carry a MAC
	RENC      Level = 0x20 // answer data is enciphered (SCP03 with RMAC and CENC)
)

// String names the level's bits: "C-MAC C-ENC R-MAC".
func (l Level) String() string {
	var parts []string
	for _, b := range []struct {
		bit  Level
		name string
	}{{CMAC, "C-MAC"}, {CENC, "C-ENC"}, {RMAC, "R-MAC"}, {RENC, "R-ENC"}} {
		if l&b.bit != 0 {
			parts = append(parts, b.name)
		}
	}
	if parts == nil {
		return "authenticated only"
	}
	return strings.Join(parts, " ")
}

// exists says whether protocol (2 or 3) has the level.
func (l Level) exists(protocol byte) bool {
	switch l {
	case 0x00, 0x01, 0x03, 0x11, 0x13:
		return true
	case 0x10:
		return protocol == 2
	case 0x33:
		return protocol == 3
	}
	return false
}

// plain is a command of class 80 that wants an answer of any length.
func plain(ins, p1, p2 byte, data []byte) iso7816.Command {
	return iso7816.Command{CLA: CLA, INS: ins, P1: p1, P2: p2, Data: data}
}

// expect refuses a command of another instruction. Class 80 and 84 are the same
// command; the secure channel has already been taken off.
func expect(c iso7816.Command, ins byte) error {
	if c.INS != ins || iso7816.Base(c.CLA) != CLA {
		return fmt.Errorf("%w: instruction %02X, want %02X", ErrCommand, c.INS, ins)
	}
	return nil
}
