package hsm

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"strings"

	"koala/spec/coupon"
	"koala/spec/desfire"
	"koala/spec/iso9797"
)

// A TransportKey protects a device's other keys on their way into it: AES-256.
// No form of printing shows it.
type TransportKey [32]byte

// String leaves the key out.
func (TransportKey) String() string { return "a transport key" }

// GoString leaves it out too.
func (k TransportKey) GoString() string { return k.String() }

// A TransportForm is a device's transport key as the installer carries it to
// the device: two components whose exclusive or is the key, each with its check
// value, so that two persons can bring one half each. It is shown once; Text
// alone writes it out.
type TransportForm struct {
	TID    string
	Parts  [2]TransportKey
	Checks [2][3]byte // KCV of each component, as of an AES key
	KCV    [3]byte    // of the whole key
}

// String names the form without what it holds.
func (f TransportForm) String() string {
	return fmt.Sprintf("transport key of device %s, check value %X", f.TID, f.KCV)
}

// GoString is String.
func (f TransportForm) GoString() string { return f.String() }

// formHead begins the text of a form.
const formHead = "KTK1"

// Text is the form in one line, as a code to be scanned or a sheet to be typed
// from: KTK1 TID COMPONENT KCV COMPONENT KCV KCV, hexadecimal but for the TID.
func (f TransportForm) Text() string {
	return fmt.Sprintf("%s %s %X %X %X %X %X", formHead, f.TID, f.Parts[0][:], f.Checks[0], f.Parts[1][:], f.Checks[1], f.KCV)
}

// ParseTransportForm reads what Text writes, as a device does; it checks every
// check value.
func ParseTransportForm(text string) (f TransportForm, err error) {
	words := strings.Fields(text)
	if len(words) != 7 || words[0] != formHead || !goodTID(words[1]) {
		return f, fmt.Errorf("%d words: %w", len(words), ErrForm)
	}
	f.TID = words[1]
	for i, to := range [][]byte{f.Parts[0][:], f.Checks[0][:], f.Parts[1][:], f.Checks[1][:], f.KCV[:]} {
		b, err := hex.DecodeString(words[2+i])
		if err != nil || len(b) != len(to) {
			return TransportForm{}, fmt.Errorf("word %d: %w", 3+i, ErrForm)
		}
		copy(to, b)
	}
	if _, err := f.Key(); err != nil {
		return TransportForm{}, err
	}
	return f, nil
}

// Key puts the components together. ErrCheck is a component that was typed
// wrongly, or one of another form.
func (f TransportForm) Key() (k TransportKey, err error) {
	subtle.XORBytes(k[:], f.Parts[0][:], f.Parts[1][:])
	for _, x := range []struct {
		key  TransportKey
		want [3]byte
	}{{f.Parts[0], f.Checks[0]}, {f.Parts[1], f.Checks[1]}, {k, f.KCV}} {
		if iso9797.KCVAES(x.key[:]) != x.want {
			return TransportKey{}, fmt.Errorf("transport key of device %s: %w", f.TID, ErrCheck)
		}
	}
	return k, nil
}

// proofLen is the length of a transport key's proof, bytes.
const proofLen = 16

// Proof shows the house that a device has its transport key, and tells nobody
// else anything of it: the first 16 bytes of the HMAC-SHA-256, under the key, of
// "koala installation " and the device's number.
func (k TransportKey) Proof(tid string) []byte {
	m := hmac.New(sha256.New, k[:])
	m.Write([]byte("koala installation " + tid))
	return m.Sum(nil)[:proofLen]
}

// CheckProof compares a device's proof with the transport key that NewTransport
// sealed for it: another key's is ErrTransport.
func (h *HSM) CheckProof(ctx context.Context, tid string, transport, proof []byte) error {
	key, err := h.unsealAt(ctx, transport, transportPlace(tid))
	if err != nil || len(key) != len(TransportKey{}) {
		return fmt.Errorf("transport key of device %s: %w", tid, ErrSealed)
	}
	defer clear(key)
	if !hmac.Equal(TransportKey(key).Proof(tid), proof) {
		return fmt.Errorf("device %s: %w", tid, ErrTransport)
	}
	return nil
}

// goodTID says whether a terminal number can stand in forms and key blocks: 8
// printing characters (field 41).
func goodTID(tid string) bool {
	return len(tid) == 8 && !strings.ContainsFunc(tid, func(r rune) bool { return r <= ' ' || r > '~' })
}

// transportPlace binds a sealed transport key to its device.
func transportPlace(tid string) []byte { return []byte("transport key of " + tid) }

// NewTransport draws a device's transport key: the form for its installer, and
// the key sealed for the caller to keep, which Inject takes.
func (h *HSM) NewTransport(ctx context.Context, tid string) (f TransportForm, sealed []byte, err error) {
	if !goodTID(tid) {
		return f, nil, fmt.Errorf("terminal number of %d characters: %w", len(tid), ErrUsage)
	}
	f.TID = tid
	for i := range f.Parts {
		if err := h.Random(ctx, f.Parts[i][:]); err != nil {
			return TransportForm{}, nil, err
		}
		f.Checks[i] = iso9797.KCVAES(f.Parts[i][:])
	}
	var whole TransportKey
	subtle.XORBytes(whole[:], f.Parts[0][:], f.Parts[1][:])
	defer clear(whole[:])
	f.KCV = iso9797.KCVAES(whole[:])
	if sealed, err = h.sealAt(ctx, whole[:], transportPlace(tid)); err != nil {
		return TransportForm{}, nil, err
	}
	return f, sealed, nil
}

// A TerminalKey names a key that a door, a till or a shop's terminal works
// with.
type TerminalKey struct {
	Use      TerminalUse
	TID      string    // the terminal's number, 8 characters
	Merchant coupon.ID // of a CouponMerchant key
}

// A TerminalUse is what the key is for.
type TerminalUse string

// The uses.
const (
	DoorReader     TerminalUse = "door.reader"     // AES, master of key 1 of door cards
	DoorHost       TerminalUse = "door.host"       // AES, MAC of credentials
	TillCards      TerminalUse = "till.cards"      // AES, master of key 1 of canteen cards
	TillSales      TerminalUse = "till.sales"      // AES, one till's own key for its sales; its TID is of hexadecimal digits
	CouponMerchant TerminalUse = "coupon.merchant" // AES, root of one merchant's keys on discount cards
	TerminalMaster TerminalUse = "pos.master"      // two-key 3DES, wraps a terminal's working keys (TMK); see NewMaster
	ReaderInitial  TerminalUse = "reader.initial"  // two-key 3DES, initial key of a mobile reader (DUKPT); see NewReader
)

// injected says which root an injected key comes from.
var injected = map[TerminalUse]string{
	DoorReader: fmt.Sprintf("%s.%d", LabelDoor, desfire.DoorReader), DoorHost: LabelDoorHost,
	TillCards: fmt.Sprintf("%s.%d", LabelCanteen, desfire.CanteenTill), TillSales: LabelTill, CouponMerchant: LabelCoupon,
}

// place binds an injected key to its device and to what it is for.
func (k TerminalKey) place(header []byte) []byte {
	return fmt.Appendf(nil, "terminal key %X %s %s %X", header, k.Use, k.TID, k.Merchant[:])
}

// check is the key's check value: of AES, of triple DES where the use is.
func (u TerminalUse) check(key []byte) [3]byte {
	if u == TerminalMaster || u == ReaderInitial {
		return iso9797.KCVDES(key)
	}
	return iso9797.KCVAES(key)
}

// An Injected is a key on its way into a device.
type Injected struct {
	Use     TerminalUse
	Version byte    // of the root it comes from
	KCV     [3]byte // check value
	Block   []byte  // form 1 | version 1 | KCV 3 | nonce 12 | AES-256-GCM of the key under the transport key
}

const (
	blockForm   = 2 // that of form 1 was not bound to its device
	blockHeader = 5
)

// Inject enciphers a terminal's key under the device's transport key, as
// NewTransport sealed it. The block is bound to the device and the use, and
// authenticated with its header: OpenInjected opens it nowhere else. No other
// form of the key leaves.
func (h *HSM) Inject(ctx context.Context, k TerminalKey, transport []byte) (Injected, error) {
	label := injected[k.Use]
	if label == "" {
		return Injected{}, fmt.Errorf("terminal key %q: %w", k.Use, ErrUsage)
	}
	root, err := h.key(label, AESRoot, 0)
	if err != nil {
		return Injected{}, err
	}
	value := [16]byte(root.clear)
	switch k.Use {
	case TillSales:
		var till desfire.Till
		if n, err := hex.Decode(till[:], []byte(k.TID)[:min(8, len(k.TID))]); err != nil || n != len(till) {
			return Injected{}, fmt.Errorf("terminal key %s of device %s: %w", k.Use, k.TID, ErrUsage)
		}
		value = till.Key(value)
	case CouponMerchant:
		if value, _, err = h.couponRoot(LabelCoupon, 0, coupon.MerchantKey, k.Merchant); err != nil {
			return Injected{}, err
		}
	}
	defer clear(value[:])
	return h.block(ctx, k, root.info.Version, value[:], transport)
}

// block wraps a key under a sealed transport key.
func (h *HSM) block(ctx context.Context, k TerminalKey, version byte, value, transport []byte) (Injected, error) {
	key, err := h.unsealAt(ctx, transport, transportPlace(k.TID))
	if err != nil || len(key) != len(TransportKey{}) {
		return Injected{}, fmt.Errorf("transport key of device %s: %w", k.TID, ErrSealed)
	}
	defer clear(key)
	var nonce [nonceLen]byte
	if err := h.Random(ctx, nonce[:]); err != nil {
		return Injected{}, err
	}
	out := Injected{Use: k.Use, Version: version, KCV: k.Use.check(value)}
	header := append([]byte{blockForm, version}, out.KCV[:]...)
	out.Block = append(bytes.Clone(header), newSealer(key).seal(nonce[:], value, k.place(header))...)
	return out, nil
}

// OpenInjected is the device's side of Inject, a secure memory's. ErrBlock is a
// block that was altered, or made for another device, another use or another
// transport key.
func OpenInjected(k TerminalKey, transport TransportKey, block []byte) (key [16]byte, version byte, err error) {
	bad := func() ([16]byte, byte, error) {
		return [16]byte{}, 0, fmt.Errorf("key %s of device %s: %w", k.Use, k.TID, ErrBlock)
	}
	if len(block) < blockHeader || block[0] != blockForm {
		return bad()
	}
	header := block[:blockHeader]
	b, err := newSealer(transport[:]).open(block[blockHeader:], k.place(header))
	if err != nil || len(b) != len(key) || k.Use.check(b) != [3]byte(header[2:]) {
		return bad()
	}
	return [16]byte(b), block[1], nil
}
