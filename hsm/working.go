package hsm

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"koala/spec/dukpt"
	"koala/spec/iso8583"
	"koala/spec/iso9797"
	"koala/spec/pboc"
	"koala/spec/poskey"
)

// TMK is the kind of a terminal's master key, which wraps its working keys. The
// kinds of those are package poskey's.
const TMK poskey.Kind = "TMK"

// A Secret is a key of one terminal as the host of terminals keeps it: of use to
// this hsm only, and for that terminal and kind only.
type Secret struct {
	Kind   poskey.Kind
	KCV    [4]byte // first bytes of eight zeros enciphered
	Sealed []byte  // for the caller's own table
}

// A Working is a new working key: how the terminal is given it, and how the host
// keeps it.
type Working struct {
	Secret
	Block poskey.Block // for field 62
}

// secretPlace binds a sealed key to its terminal and kind.
func secretPlace(tid string, kind poskey.Kind) []byte {
	return fmt.Appendf(nil, "terminal secret %s %s", kind, tid)
}

// draw16 draws a two-key 3DES key.
func (h *HSM) draw16(ctx context.Context) (key [16]byte, err error) {
	b, err := h.draw(ctx, ZoneKey)
	copy(key[:], b)
	clear(b)
	return key, err
}

// keepSecret seals a terminal's key.
func (h *HSM) keepSecret(ctx context.Context, tid string, kind poskey.Kind, key [16]byte) (Secret, error) {
	sealed, err := h.sealAt(ctx, key[:], secretPlace(tid, kind))
	return Secret{Kind: kind, KCV: poskey.KCV(key), Sealed: sealed}, err
}

// openSecret is the reverse of keepSecret.
func (h *HSM) openSecret(ctx context.Context, tid string, kind poskey.Kind, sealed []byte) (key [16]byte, err error) {
	b, err := h.unsealAt(ctx, sealed, secretPlace(tid, kind))
	if err != nil || len(b) != len(key) {
		return key, fmt.Errorf("%s of terminal %s: %w", kind, tid, errors.Join(err, ErrSealed))
	}
	defer clear(b)
	return [16]byte(b), nil
}

// NewMaster draws a terminal's master key: wrapped under its transport key as
// NewTransport sealed it (use TerminalMaster), and for keeping.
func (h *HSM) NewMaster(ctx context.Context, tid string, transport []byte) (in Injected, master Secret, err error) {
	key, err := h.draw16(ctx)
	defer clear(key[:])
	if err == nil {
		in, err = h.block(ctx, TerminalKey{Use: TerminalMaster, TID: tid}, 1, key[:], transport)
	}
	if err == nil {
		master, err = h.keepSecret(ctx, tid, TMK, key)
	}
	if err != nil {
		return Injected{}, Secret{}, fmt.Errorf("master key of terminal %s: %w", tid, err)
	}
	return in, master, nil
}

// NewWorking draws working keys of a terminal, one for each kind, wrapped under
// its master key as it is kept. Those of before go on working until their keeper
// forgets them.
func (h *HSM) NewWorking(ctx context.Context, tid string, master []byte, kinds ...poskey.Kind) ([]Working, error) {
	return h.newWorking(ctx, tid, master, false, kinds)
}

// NewSingle draws working keys of single length (DES): for a terminal that has
// nothing better, and whose keeper has said so.
func (h *HSM) NewSingle(ctx context.Context, tid string, master []byte, kinds ...poskey.Kind) ([]Working, error) {
	return h.newWorking(ctx, tid, master, true, kinds)
}

func (h *HSM) newWorking(ctx context.Context, tid string, master []byte, single bool, kinds []poskey.Kind) ([]Working, error) {
	tmk, err := h.openSecret(ctx, tid, TMK, master)
	if err != nil {
		return nil, err
	}
	defer clear(tmk[:])
	out := make([]Working, len(kinds))
	for i, kind := range kinds {
		if kind != poskey.PIK && kind != poskey.MAK && kind != poskey.TDK {
			return nil, fmt.Errorf("working key %q: %w", kind, ErrUsage)
		}
		key, err := h.draw16(ctx)
		if err == nil {
			if out[i].Block = poskey.Wrap(tmk, key); single {
				out[i].Block = poskey.WrapSingle(tmk, [8]byte(key[:8]))
				copy(key[8:], key[:8])
			}
			out[i].Secret, err = h.keepSecret(ctx, tid, kind, key)
		}
		clear(key[:])
		if err != nil {
			return nil, fmt.Errorf("%s of terminal %s: %w", kind, tid, err)
		}
	}
	return out, nil
}

// NewReader gives a mobile reader its initial key (DUKPT), wrapped under its
// transport key as NewTransport sealed it (use ReaderInitial). k is the reader's
// serial number; the base key is made when there is none.
func (h *HSM) NewReader(ctx context.Context, tid string, k dukpt.KSN, transport []byte) (Injected, error) {
	root, err := h.key(LabelReader, ReaderRoot, 0)
	if errors.Is(err, ErrNoKey) {
		if _, err = h.Generate(ctx, LabelReader, ReaderRoot); err == nil || errors.Is(err, ErrExists) {
			root, err = h.key(LabelReader, ReaderRoot, 0)
		}
	}
	if err != nil {
		return Injected{}, fmt.Errorf("initial key of reader %s: %w", tid, err)
	}
	initial := dukpt.Initial([16]byte(root.clear), k)
	defer clear(initial[:])
	return h.block(ctx, TerminalKey{Use: ReaderInitial, TID: tid}, root.info.Version, initial[:], transport)
}

// An Under names the key that a message of a terminal is protected with: a
// working key as it is kept, or that of a reader's transaction.
type Under struct {
	TID    string
	Sealed []byte // a Secret's; nil: Reader tells
	Reader dukpt.KSN
	Base   byte // version of the base key that the reader was made under; 0: the newest
}

// ready is a key prepared for what it is for.
type ready struct {
	tid   string
	kind  poskey.Kind
	in    *iso8583.Key  // MAK: of requests
	out   *iso8583.Key  // MAK: of answers
	block *iso9797.TDES // PIK, TDK

	card    *pboc.Key // of a card, with the key in clear
	master  [16]byte
	session atomic.Pointer[cardSession]
}

// find gives the prepared key. The caller keeps the counters of readers, and
// refuses one that does not rise: the hsm knows none.
func (h *HSM) find(ctx context.Context, u *Under, kind poskey.Kind) (*ready, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if u.Sealed == nil {
		return h.ofReader(u, kind)
	}
	if r := h.recent.get(u.Sealed); r != nil {
		if r.tid != u.TID || r.kind != kind {
			return nil, fmt.Errorf("%s of terminal %s: %w", kind, u.TID, ErrSealed)
		}
		return r, nil
	}
	key, err := h.openSecret(ctx, u.TID, kind, u.Sealed)
	if err != nil {
		return nil, err
	}
	defer clear(key[:])
	r := prepared(kind, key, key)
	r.tid = u.TID
	h.recent.put(u.Sealed, r)
	return r, nil
}

func prepared(kind poskey.Kind, in, out [16]byte) *ready {
	r := &ready{kind: kind}
	if kind != poskey.MAK {
		r.block = iso9797.NewTDES(in[:])
		return r
	}
	var err1, err2 error
	if r.in, err1 = iso8583.NewKey(in[:]); in == out {
		r.out = r.in
	} else {
		r.out, err2 = iso8583.NewKey(out[:])
	}
	if err := errors.Join(err1, err2); err != nil {
		panic(err) // the length is fixed
	}
	return r
}

// ofReader derives the key of a reader's transaction, or takes it from the ones
// just used: one transaction asks for several.
func (h *HSM) ofReader(u *Under, kind poskey.Kind) (*ready, error) {
	if err := u.Reader.Check(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUsage, err)
	}
	root, err := h.key(LabelReader, ReaderRoot, u.Base)
	if err != nil {
		return nil, err
	}
	var name [16]byte // KSN 10 | version 1 | kind 3
	copy(name[:], u.Reader[:])
	name[10] = root.info.Version
	copy(name[11:], kind)
	if r := h.recent.get(name[:]); r != nil {
		return r, nil
	}
	initial := dukpt.Initial([16]byte(root.clear), u.Reader)
	key := dukpt.Derive(initial, u.Reader)
	var r *ready
	switch kind {
	case poskey.PIK:
		r = prepared(kind, key.PIN(), key.PIN())
	case poskey.MAK:
		r = prepared(kind, key.MACRequest(), key.MACResponse())
	default:
		r = prepared(kind, key.DataRequest(), key.DataRequest())
	}
	clear(initial[:])
	clear(key[:])
	h.recent.put(name[:], r)
	return r, nil
}

// VerifyMAC checks the MAC of a message that a terminal sent, by the rule of its
// dialect: ErrMAC when it is wrong or missing.
func (h *HSM) VerifyMAC(ctx context.Context, u Under, m *iso8583.Message) error {
	r, err := h.find(ctx, &u, poskey.MAK)
	if err != nil {
		return err
	}
	if err := m.Verify(r.in); err != nil {
		return fmt.Errorf("terminal %s: %w: %w", u.TID, ErrMAC, err)
	}
	return nil
}

// ExplainMAC retraces the MAC of a message between a terminal and the house, by
// rule r. It is ErrMAC when the message does not carry that MAC: what the right
// one would be is told to nobody, or whoever may ask could make messages.
func (h *HSM) ExplainMAC(ctx context.Context, u Under, m *iso8583.Message, r iso8583.MACRule) (iso8583.MACExplanation, error) {
	keys, err := h.find(ctx, &u, poskey.MAK)
	if err != nil {
		return iso8583.MACExplanation{}, err
	}
	key := keys.in
	if (m.MTI()[2]-'0')%2 == 1 { // an answer
		key = keys.out
	}
	carried, computed, err := m.MACBy(key, r)
	if err == nil && subtle.ConstantTimeCompare(carried, computed[:]) != 1 {
		err = ErrMAC
	}
	if err != nil {
		return iso8583.MACExplanation{}, fmt.Errorf("MAC of terminal %s: %w", u.TID, err)
	}
	return iso8583.ExplainMAC(m, key, r)
}

// SealMAC appends an answer to a terminal to dst with its MAC, by the rule of
// its dialect.
func (h *HSM) SealMAC(ctx context.Context, u Under, dst []byte, m *iso8583.Message) ([]byte, error) {
	r, err := h.find(ctx, &u, poskey.MAK)
	if err != nil {
		return dst, err
	}
	return m.Seal(dst, r.out)
}

// VerifyZone checks the MAC of a message that another institution sent, under
// the key that both have (usage ZoneKey): ErrMAC when it is wrong or missing.
func (h *HSM) VerifyZone(ctx context.Context, label string, m *iso8583.Message) error {
	k, err := h.zone(ctx, label)
	if err != nil {
		return err
	}
	if err := m.Verify(k); err != nil {
		return fmt.Errorf("zone %s: %w: %w", label, ErrMAC, err)
	}
	return nil
}

// SealZone appends a message to another institution to dst with its MAC.
func (h *HSM) SealZone(ctx context.Context, label string, dst []byte, m *iso8583.Message) ([]byte, error) {
	k, err := h.zone(ctx, label)
	if err != nil {
		return dst, err
	}
	return m.Seal(dst, k)
}

// zone prepares a zone's key for MACs.
func (h *HSM) zone(ctx context.Context, label string) (*iso8583.Key, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	k, err := h.key(label, ZoneKey, 0)
	if err != nil {
		return nil, err
	}
	return iso8583.NewKey(k.clear)
}

// TranslatePIN takes a PIN block from under a terminal's key to under a zone's:
// format 0 with the PAN, for the issuer to verify (CheckPIN). zone is the label
// of the zone's key, "" the house's own. What does not open is ErrPINBlock.
func (h *HSM) TranslatePIN(ctx context.Context, u Under, form poskey.PINForm, block [8]byte, pan, zone string) (PINBlock, error) {
	r, err := h.find(ctx, &u, poskey.PIK)
	if err != nil {
		return PINBlock{}, err
	}
	r.block.DecryptBlock(block[:], block[:])
	pin, err := poskey.ParsePIN(form, block, pan)
	if err != nil {
		return PINBlock{}, fmt.Errorf("terminal %s: %w: %w", u.TID, ErrPINBlock, err)
	}
	return h.encipher(pan, pin, zone)
}

// encipher makes the block of format 0 under a zone's key.
func (h *HSM) encipher(pan, pin, zone string) (b PINBlock, err error) {
	label := zone
	if label == "" {
		label = LabelZone
	}
	k, err := h.key(label, ZoneKey, 0)
	if err != nil {
		return b, err
	}
	clear8, err := poskey.PINBlock(poskey.WithPAN, pin, pan)
	if err != nil {
		return b, fmt.Errorf("%w: %w", ErrPINBlock, err)
	}
	return PINBlock{Zone: zone, Block: [8]byte(pboc.NewKey(pboc.TripleDES, [16]byte(k.clear)).Encrypt(clear8[:]))}, nil
}

// DecipherTrack puts the clear digits back into a packed track (poskey.TrackBlock)
// in its place.
func (h *HSM) DecipherTrack(ctx context.Context, u Under, packed []byte) error {
	b, err := poskey.TrackBlock(packed)
	if err != nil {
		return fmt.Errorf("terminal %s: %w: %w", u.TID, ErrUsage, err)
	}
	r, err := h.find(ctx, &u, poskey.TDK)
	if err == nil {
		r.block.DecryptBlock(b, b)
	}
	return err
}

// DecipherData deciphers what a reader sends in triple DES CBC from zeros: whole
// blocks of 8 bytes.
func (h *HSM) DecipherData(ctx context.Context, u Under, data []byte) ([]byte, error) {
	if len(data) == 0 || len(data)%8 != 0 {
		return nil, fmt.Errorf("%d bytes of data of terminal %s: %w", len(data), u.TID, ErrUsage)
	}
	r, err := h.find(ctx, &u, poskey.TDK)
	if err != nil {
		return nil, err
	}
	return r.block.DecryptCBC(nil, data), nil
}

// maxRecent bounds the keys that are kept ready: about 2 KB each.
const maxRecent = 8192

// recent keeps the keys used last ready for use, so that a message costs no
// opening of its keys. The zero value is empty.
type recent struct {
	mu   sync.Mutex
	all  map[string]*used
	ring used // next is the one used last, prev the one used longest ago
}

// A used key in the ring.
type used struct {
	prev, next *used
	name       string
	key        *ready
}

func (u *used) leave() { u.prev.next, u.next.prev = u.next, u.prev }

func (r *recent) front(u *used) {
	u.prev, u.next = &r.ring, r.ring.next
	u.prev.next, u.next.prev = u, u
}

// get finds a key by its sealed form or serial number; nil when it has to be
// made.
func (r *recent) get(name []byte) *ready {
	r.mu.Lock()
	defer r.mu.Unlock()
	u := r.all[string(name)]
	if u == nil {
		return nil
	}
	u.leave()
	r.front(u)
	return u.key
}

func (r *recent) put(name []byte, key *ready) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.all == nil {
		r.all = map[string]*used{}
		r.ring.prev, r.ring.next = &r.ring, &r.ring
	}
	if old := r.all[string(name)]; old != nil {
		old.leave()
	} else if len(r.all) == maxRecent {
		last := r.ring.prev
		last.leave()
		delete(r.all, last.name)
	}
	u := &used{name: string(name), key: key}
	r.all[u.name] = u
	r.front(u)
}
