package hsm

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"

	"koala/internal/fail"
	"koala/spec/globalplatform"
	"koala/spec/iso7816"
	"koala/spec/iso9797"
)

// ErrReceipt says that what an element confirms was not made with its key, or is
// about something else.
var ErrReceipt = fail.Define(fail.Refused, "hsm.receipt", "the element's receipt does not verify")

// Labels of the keys of delegated management (GPCS 9.1.3.3). The token key is
// P-256, made from its root; receipt keys and the keys of domains are made for
// each element.
const (
	LabelInstallToken = "domain.token"
	LabelReceipt      = "domain.receipt"
	LabelDomainENC    = "domain.ENC"
	LabelDomainMAC    = "domain.MAC"
	LabelDomainDEK    = "domain.DEK"
)

var delegationKeys = []labelled{
	{LabelInstallToken, HashKey}, {LabelReceipt, AESRoot},
	{LabelDomainENC, ChannelRoot}, {LabelDomainMAC, ChannelRoot}, {LabelDomainDEK, ChannelRoot},
}

// Key versions of the sets of firms' domains on elements: version 1 of the roots
// is 41. An answer to INITIALIZE UPDATE tells by it whose keys a domain uses.
const (
	domainVersion = 0x40
	lastDomainSet = 0x4F
)

// ProvisionDomains generates those keys of delegated management that are
// missing. It is called when the first firm's domain is made, by several at once
// if need be: a key that another has just made is taken.
func (h *HSM) ProvisionDomains(ctx context.Context) (err error) {
	for range delegationKeys {
		if err = h.provision(ctx, delegationKeys); !errors.Is(err, ErrExists) {
			break
		}
	}
	return err
}

// A Bring is a PUT KEY that the hsm makes whole, beside Plain.PutKeys.
type Bring struct {
	Key     Brought
	Replace bool               // over the one that is there; otherwise as a new one
	Domain  globalplatform.AID // of DomainKeys
}

// A Brought is what a Bring brings in; zero is nothing.
type Brought byte

// What is brought in.
const (
	TokenKey   Brought = iota + 1 // verifies tokens; into the issuer's domain
	ReceiptKey                    // makes receipts; into the issuer's domain
	DomainKeys                    // a firm's domain's own set
)

// bring makes the PUT KEY.
func (h *HSM) bring(host *globalplatform.Host, a globalplatform.InitAnswer, b Bring) (c iso7816.Command, err error) {
	p := globalplatform.PutKey{First: 1}
	switch b.Key {
	case DomainKeys:
		set, err := h.domainKeys(b.Domain, a.KDD, 0)
		if err != nil {
			return c, err
		}
		return host.PutKey(0, set, globalplatform.BareKeys)
	case TokenKey:
		key, err := h.tokenKey(0)
		if err != nil {
			return c, err
		}
		f, err := globalplatform.PublicField(key.Public())
		if err != nil {
			return c, fmt.Errorf("token key: %w", err)
		}
		p.NewVersion, p.Keys = globalplatform.TokenKeyVersion, []globalplatform.KeyField{f}
	case ReceiptKey:
		key, err := h.receiptKey(a.KDD, 0)
		if err != nil {
			return c, err
		}
		cipher, err := host.EncryptKey(key)
		if err != nil {
			return c, fmt.Errorf("receipt key: %w", err)
		}
		kcv := globalplatform.AES.Check(key)
		p.NewVersion, p.Keys = globalplatform.ReceiptKeyVersion, []globalplatform.KeyField{{Type: globalplatform.AES, Length: len(key), Cipher: cipher, Check: kcv[:]}}
	default:
		return c, fmt.Errorf("bringing in %d: %w", b.Key, ErrUsage)
	}
	if b.Replace {
		p.Replaces = p.NewVersion
	}
	return p.Command(globalplatform.BareKeys), nil
}

// domainKeys are the own keys of a firm's domain under a version of the roots, 0
// the newest: made first for the firm, by its domain's name, then for the
// element, so that a firm could be given its masters.
func (h *HSM) domainKeys(domain globalplatform.AID, kdd [10]byte, version byte) (set globalplatform.KeySet, err error) {
	var roots [3]*key
	for i, label := range [3]string{LabelDomainENC, LabelDomainMAC, LabelDomainDEK} {
		if roots[i], err = h.key(label, ChannelRoot, version); err != nil {
			return set, err
		}
		if roots[i].info.Version != roots[0].info.Version {
			return set, fmt.Errorf("%s and %s have different versions, rotate them together: %w", LabelDomainENC, label, ErrUsage)
		}
	}
	var firm [10]byte
	if v := roots[0].info.Version; v > lastDomainSet-domainVersion || len(domain) > len(firm) {
		return set, fmt.Errorf("version %d of the domains' roots for %X: %w", v, string(domain), ErrUsage)
	}
	copy(firm[:], domain)
	master := globalplatform.KeySet{Version: domainVersion + roots[0].info.Version, ENC: roots[0].clear, MAC: roots[1].clear, DEK: roots[2].clear}
	return globalplatform.DiversifyKDF(globalplatform.DiversifyKDF(master, firm), kdd), nil
}

// OwnDomainKeys tells from an answer to INITIALIZE UPDATE whether a firm's
// domain has keys of its own, and does not use the issuer's any more.
func OwnDomainKeys(a globalplatform.InitAnswer) bool {
	return a.Version > domainVersion && a.Version <= lastDomainSet
}

// keysOf are the keys that a domain opens the channel with; the empty name is
// the issuer's.
func (h *HSM) keysOf(domain globalplatform.AID, a globalplatform.InitAnswer) (globalplatform.KeySet, error) {
	if domain != "" && OwnDomainKeys(a) {
		return h.domainKeys(domain, a.KDD, a.Version-domainVersion)
	}
	return h.elementKeys(a)
}

// tokenKey is a version of the issuer's token key, 0 the newest.
func (h *HSM) tokenKey(version byte) (*ecdsa.PrivateKey, error) {
	root, err := h.key(LabelInstallToken, HashKey, version)
	if err != nil {
		return nil, err
	}
	for n := byte(0); ; n++ { // one in four thousand million is above the curve's order
		mac := hmac.New(sha256.New, root.clear)
		mac.Write(append([]byte("token key on P-256: "), n))
		k, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), mac.Sum(nil))
		if err == nil || n == 0xFF {
			return k, err
		}
	}
}

// SignToken puts the issuer's token into an INSTALL or DELETE. The same command
// gets the same token each time.
func (h *HSM) SignToken(ctx context.Context, c iso7816.Command) (iso7816.Command, error) {
	if err := ctx.Err(); err != nil {
		return c, err
	}
	key, err := h.tokenKey(0)
	if err != nil {
		return c, err
	}
	data, _, err := globalplatform.TokenData(c)
	if err != nil {
		return c, fmt.Errorf("%w: %w", ErrScript, err)
	}
	token, err := globalplatform.SignToken(nil, key, data) // deterministic, RFC 6979
	if err != nil {
		return c, fmt.Errorf("%w: %w", ErrScript, err)
	}
	out, err := globalplatform.WithToken(c, token)
	if err != nil {
		return c, fmt.Errorf("%w: %w", ErrScript, err)
	}
	return out, nil
}

// receiptKey is the key that the element with that key data makes receipts with.
func (h *HSM) receiptKey(kdd [10]byte, version byte) ([]byte, error) {
	root, err := h.key(LabelReceipt, AESRoot, version)
	if err != nil {
		return nil, err
	}
	mac := iso9797.NewAES(root.clear).CMAC(append([]byte("receipts:"), kdd[:]...))
	return mac[:], nil
}

// A Receipt is what an element confirmed of one INSTALL or DELETE.
type Receipt struct {
	KDD    [10]byte        // the element's key data
	Answer []byte          // to the command, without status word
	Said   iso7816.Command // in plain
	Domain globalplatform.AID
}

// CheckReceipt verifies that the element did what the command says, and gives
// the receipt. It may have been made under any version of the key: a rotated one
// comes into an element when it is next needed.
func (h *HSM) CheckReceipt(ctx context.Context, r Receipt) (globalplatform.Confirmation, error) {
	if err := ctx.Err(); err != nil {
		return globalplatform.Confirmation{}, err
	}
	c, err := globalplatform.ParseConfirmation(r.Answer)
	if err != nil || len(c.Receipt) == 0 {
		return c, fmt.Errorf("no receipt: %w", ErrReceipt)
	}
	about, err := globalplatform.ReceiptAbout(r.Said, r.Domain)
	if err != nil {
		return c, fmt.Errorf("%w: %w", ErrReceipt, err)
	}
	newest, err := h.key(LabelReceipt, AESRoot, 0)
	if err != nil {
		return c, err
	}
	for v := newest.info.Version; v >= 1; v-- {
		key, err := h.receiptKey(r.KDD, v)
		if err == nil && c.Verify(globalplatform.AES, key, about...) == nil {
			return c, nil
		}
	}
	return c, ErrReceipt
}
