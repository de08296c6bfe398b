package hsm

import (
	"context"
	"encoding/hex"
	"fmt"

	"koala/spec/desfire"
	"koala/spec/emv"
	"koala/spec/iso7816"
	"koala/spec/pboc"
)

// A BankCard names the keys of one bank card. No form of printing shows its
// number.
type BankCard struct {
	PAN string         // digits, at most 19
	PSN byte           // sequence number, 0 to 99
	Alg pboc.Algorithm // 0: 3DES
	DKI byte           // version of the roots it was issued under, as 9F10 tells; 0: the newest
}

// String shows the card masked.
func (c BankCard) String() string { return pboc.MaskPAN(c.PAN) }

// GoString is String.
func (c BankCard) GoString() string { return c.String() }

// label is the root's for the card's algorithm.
func (c BankCard) label(root string) (string, Usage) {
	if c.Alg == pboc.SM4 {
		return root + LabelSM, CardRootSM
	}
	return root, CardRoot
}

// disperse is the card's own key under a root: with 3DES option A of EMV 4.4
// Book 2, A1.4, which PBOC takes for PANs of every length; with SM4 the same two
// halves as one block. Parity bits are left as they come.
func (k *key) disperse(c BankCard) (mk [16]byte, err error) {
	bcd := c.PSN/10<<4 | c.PSN%10
	if k.info.Usage == CardRoot {
		b, err := emv.CardKey(k.clear, c.PAN, bcd, emv.OptionA)
		if err != nil {
			return mk, fmt.Errorf("%w: %w", ErrUsage, err)
		}
		return [16]byte(b), nil
	}
	y, err := halves(c.PAN, bcd)
	if err != nil {
		return mk, err
	}
	return [16]byte(pboc.NewKey(pboc.SM4, [16]byte(k.clear)).Encrypt(y)), nil
}

// halves is Y | not Y, Y the rightmost 16 digits of PAN and sequence number.
func halves(pan string, psn byte) ([]byte, error) {
	digits := fmt.Sprintf("%016s%02X", pan, psn)
	y, err := hex.DecodeString(digits[len(digits)-16:])
	if err != nil {
		return nil, fmt.Errorf("a PAN of %d characters: %w", len(pan), ErrUsage)
	}
	for _, b := range y[:8] {
		y = append(y, ^b)
	}
	return y, nil
}

// cardKey is a card's key of one kind. One transaction asks for several, and
// for some twice.
func (h *HSM) cardKey(root string, c BankCard) (*pboc.Key, [16]byte, error) {
	r, err := h.ofCard(root, c)
	if err != nil {
		return nil, [16]byte{}, err
	}
	return r.card, r.master, nil
}

// session is a card's key of one kind for one transaction: what verified a
// cryptogram also answers it.
func (h *HSM) session(root string, c BankCard, atc uint16) (*pboc.Key, error) {
	r, err := h.ofCard(root, c)
	if err != nil {
		return nil, err
	}
	if s := r.session.Load(); s != nil && s.atc == atc {
		return s.key, nil
	}
	s := &cardSession{atc, r.card.Session(atc)}
	r.session.Store(s)
	return s.key, nil
}

// A cardSession is the session key of one transaction.
type cardSession struct {
	atc uint16
	key *pboc.Key
}

func (h *HSM) ofCard(root string, c BankCard) (*ready, error) {
	label, usage := c.label(root)
	k, err := h.key(label, usage, c.DKI)
	if err != nil {
		return nil, err
	}
	var room [64]byte
	name := append(append(room[:0], label...), k.info.Version, c.PSN)
	name = append(name, c.PAN...)
	if r := h.cards.get(name); r != nil {
		return r, nil
	}
	mk, err := k.disperse(c)
	if err != nil {
		return nil, fmt.Errorf("key %s: %w", label, err)
	}
	alg := pboc.TripleDES
	if usage == CardRootSM {
		alg = pboc.SM4
	}
	r := &ready{card: pboc.NewKey(alg, mk), master: mk}
	h.cards.put(name, r)
	return r, nil
}

// Dispersal is how a new card's keys come about: the version (DKI) that its
// 9F10 has to name.
func (h *HSM) Dispersal(ctx context.Context, alg pboc.Algorithm) (dki byte, err error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	label, usage := BankCard{Alg: alg}.label(LabelCardAC)
	k, err := h.key(label, usage, 0)
	if err != nil {
		return 0, err
	}
	return k.info.Version, nil
}

// A Cryptogram is what a card says of a transaction with its key.
type Cryptogram struct {
	PAN  string
	PSN  byte
	AC   [8]byte          // 9F26
	ATC  uint16           // 9F36
	AIP  [2]byte          // 82
	IAD  []byte           // 9F10: key version, cryptogram version, CVR, balance
	Data pboc.Transaction // what the terminal brought
}

// String names the transaction without the card's number.
func (c Cryptogram) String() string { return fmt.Sprintf("%s ATC %d", pboc.MaskPAN(c.PAN), c.ATC) }

// GoString is String.
func (c Cryptogram) GoString() string { return c.String() }

// card reads key version and algorithm out of 9F10.
func (c Cryptogram) card() (BankCard, pboc.IAD, error) {
	iad, err := pboc.ParseIAD(c.IAD)
	if err != nil {
		return BankCard{}, iad, fmt.Errorf("%w: %w", ErrAC, err)
	}
	// Issuers with one set of keys write 00.
	return BankCard{PAN: c.PAN, PSN: c.PSN, Alg: iad.Alg, DKI: max(iad.DKI, 1)}, iad, nil
}

// CheckAC verifies an ARQC, TC or AAC (CVN 01 and 17, 3DES and SM4) and, where
// 9F10 reports amounts, the card's own MAC over them, and gives 9F10 taken
// apart. What the card decided stands in its CVR.
func (h *HSM) CheckAC(ctx context.Context, c Cryptogram) (pboc.IAD, error) {
	if err := ctx.Err(); err != nil {
		return pboc.IAD{}, err
	}
	card, iad, err := c.card()
	if err != nil {
		return iad, err
	}
	ac, err := h.session(LabelCardAC, card, c.ATC)
	if err != nil {
		return iad, err
	}
	data, err := pboc.ACData(iad.CVN, c.Data, c.AIP, c.ATC, iad.CVR)
	if err != nil {
		return iad, fmt.Errorf("%w: %w", ErrAC, err)
	}
	if ac.MAC(nil, data) != c.AC {
		return iad, fmt.Errorf("card %s, ATC %d: %w", card, c.ATC, ErrAC)
	}
	return iad, h.checkReport(card, iad, c.ATC)
}

// ARPC answers a cryptogram with the issuer's response code, two ASCII
// characters (method 1): the content of tag 91, ARPC 8 | ARC 2. The caller has
// verified c.
func (h *HSM) ARPC(ctx context.Context, c Cryptogram, arc [2]byte) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	card, _, err := c.card()
	if err != nil {
		return nil, err
	}
	ac, err := h.session(LabelCardAC, card, c.ATC)
	if err != nil {
		return nil, err
	}
	mac := ac.ARPC(c.AC, arc)
	return append(mac[:], arc[:]...), nil
}

// ProtectScript puts the MAC onto script commands of the transaction whose
// first cryptogram is c.
func (h *HSM) ProtectScript(ctx context.Context, c Cryptogram, script ...pboc.Script) ([]iso7816.Command, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	card, _, err := c.card()
	if err != nil {
		return nil, err
	}
	mac, _, err := h.cardKey(LabelCardMAC, card)
	if err != nil {
		return nil, err
	}
	session := mac.Session(c.ATC)
	out := make([]iso7816.Command, len(script))
	for i, s := range script {
		out[i] = session.Protect(s, c.ATC, c.AC)
	}
	return out, nil
}

// CheckClearing verifies the cryptogram of a clearing record, that the card
// approved, and the balance where 9F10 reports one; it gives 9F10 taken apart.
func (h *HSM) CheckClearing(ctx context.Context, c pboc.Clearing) (iad pboc.IAD, err error) {
	if err := ctx.Err(); err != nil {
		return iad, err
	}
	card, iad, err := Cryptogram{PAN: c.PAN, PSN: c.PSN, IAD: c.IAD}.card()
	if err != nil {
		return iad, err
	}
	ac, _, err := h.cardKey(LabelCardAC, card)
	if err != nil {
		return iad, err
	}
	if err := c.Verify(ac); err != nil {
		return iad, fmt.Errorf("%w: %w", ErrAC, err)
	}
	return iad, h.checkReport(card, iad, c.ATC)
}

// checkReport verifies the card's own MAC over the amounts of 9F10.
func (h *HSM) checkReport(card BankCard, iad pboc.IAD, atc uint16) error {
	if iad.Report == pboc.NoReport {
		return nil
	}
	mac, _, err := h.cardKey(LabelCardMAC, card)
	if err != nil {
		return err
	}
	if !iad.Verify(mac.Session(atc), atc) {
		return fmt.Errorf("card %s, ATC %d: %w", card, atc, ErrBalance)
	}
	return nil
}

// CheckLoadLog verifies a signed load log (CARD.md 1.8) and gives it taken
// apart.
func (h *HSM) CheckLoadLog(ctx context.Context, card BankCard, raw []byte) (log pboc.SignedLoadLog, err error) {
	if err := ctx.Err(); err != nil {
		return log, err
	}
	if log, err = pboc.ParseSignedLoadLog(raw); err != nil {
		return log, fmt.Errorf("%w: %w", ErrBalance, err)
	}
	mac, _, err := h.cardKey(LabelCardMAC, card)
	if err != nil {
		return log, err
	}
	if !log.Verify(mac.Session(log.ATC)) {
		return log, fmt.Errorf("load log of card %s: %w", card, ErrBalance)
	}
	return log, nil
}

// CheckSale verifies the MAC of a canteen till's sale.
func (h *HSM) CheckSale(ctx context.Context, s desfire.Sale) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	k, err := h.key(LabelTill, AESRoot, 0)
	if err != nil {
		return err
	}
	if err := s.Verify(s.Till.Key([16]byte(k.clear))); err != nil {
		return fmt.Errorf("%w: %w", ErrAC, err)
	}
	return nil
}
