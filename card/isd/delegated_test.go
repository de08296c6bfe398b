package isd_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"testing"

	"koala/card"
	gp "koala/spec/globalplatform"
	"koala/spec/iso7816"
	"koala/spec/tlv"
)

// The issuer's token keys, made once.
var issuerRSA, issuerLong, issuerECC, stranger = func() (a, b, c, d crypto.Signer) {
	must := func(k crypto.Signer, err error) crypto.Signer {
		if err != nil {
			panic(err)
		}
		return k
	}
	r := func(bits int) crypto.Signer { k, err := rsa.GenerateKey(rand.Reader, bits); return must(k, err) }
	e, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	return r(1024), r(2048), must(e, err), r(1024)
}()

// receiptKey is the issuer's, AES or 3DES.
var receiptKey = bytes.Repeat([]byte{0x5A}, 16)

// putTokenKey sends the public key that tokens are checked with.
func (b *bench) putTokenKey(replaces byte, k crypto.Signer) iso7816.Response {
	b.t.Helper()
	f, err := gp.PublicField(k.Public())
	if err != nil {
		b.t.Fatal(err)
	}
	return b.do(gp.PutKey{Replaces: replaces, First: 1, NewVersion: gp.TokenKeyVersion, Keys: []gp.KeyField{f}}.Command(gp.BareKeys))
}

func (b *bench) putReceiptKey(kind gp.KeyType) {
	b.t.Helper()
	cipher, err := b.h.EncryptKey(receiptKey)
	if err != nil {
		b.t.Fatal(err)
	}
	kcv := kind.Check(receiptKey)
	b.must(gp.PutKey{First: 1, NewVersion: gp.ReceiptKeyVersion,
		Keys: []gp.KeyField{{Type: kind, Length: 16, Cipher: cipher, Check: kcv[:]}}}.Command(gp.BareKeys))
}

// delegate makes a domain with delegated management and keys of its own, and
// opens a session with it.
func (b *bench) delegate(kind gp.KeyType) {
	b.t.Helper()
	in := domainInstance()
	in.Privileges = in.Privileges.With(gp.PrivDelegated)
	b.must(in.Command())
	b.send(iso7816.Select([]byte(spDomain)))
	b.authenticate(0, 0x01) // with the issuer's keys: it has none yet
	own := newSet(0x20, 16)
	c, err := b.h.PutKey(0, own, gp.MeasuredKeys)
	if err != nil {
		b.t.Fatal(err)
	}
	b.must(c)
	b.keys = own
	b.authenticate(0x20, 0x01)
}

// signed is an INSTALL or DELETE with the token of key.
func signed(t testing.TB, key crypto.Signer, c iso7816.Command) iso7816.Command {
	t.Helper()
	data, _, err := gp.TokenData(c)
	if err != nil {
		t.Fatal(err)
	}
	token, err := gp.SignToken(rand.Reader, key, data)
	if err != nil {
		t.Fatal(err)
	}
	if c.INS == gp.InsDelete {
		c.Data = tlv.Append(bytes.Clone(c.Data), 0x9E, token)
		return c
	}
	in, err := gp.ParseInstall(c)
	if err != nil {
		t.Fatal(err)
	}
	in.Token = token
	return in.Command()
}

// long sends an INSTALL that may need more than one command.
func (b *bench) long(c iso7816.Command) iso7816.Response {
	b.t.Helper()
	in, err := gp.ParseInstall(c)
	if err != nil {
		b.t.Fatal(err)
	}
	var r iso7816.Response
	for _, part := range in.Commands(b.h.MaxData()) {
		if r = b.do(part); !r.SW.OK() {
			break
		}
	}
	return r
}

// The whole of delegated management: a domain of its own keys installs, moves
// and deletes with tokens of the issuer, and each answer is the card's receipt.
func TestDelegatedManagement(t *testing.T) {
	for _, kind := range []gp.KeyType{gp.DES, gp.AES} {
		for name, key := range map[string]crypto.Signer{"RSA-1024": issuerRSA, "RSA-2048": issuerLong, "P-256": issuerECC} {
			t.Run(fmt.Sprintf("%v %s", kind, name), func(t *testing.T) {
				b := newBench(t, kind)
				b.open(0x00) // a 2048-bit key is longer than a short command under a MAC
				if r := b.putTokenKey(0, key); !r.SW.OK() || !bytes.Equal(r.Data, []byte{gp.TokenKeyVersion}) {
					t.Fatal(r)
				}
				b.putReceiptKey(kind)
				b.delegate(kind)
				delegated(t, b, kind, key)
			})
		}
	}
}

func delegated(t *testing.T, b *bench, kind gp.KeyType, key crypto.Signer) {
	confirm := func(r iso7816.Response, counter uint16, about ...[]byte) {
		t.Helper()
		c, err := gp.ParseConfirmation(r.Data)
		if !r.SW.OK() || err != nil || c.Counter != counter || c.Verify(kind, receiptKey, about...) != nil {
			t.Fatalf("%v: %+v %v, want receipt %d about %v", r, c, err, counter, about)
		}
	}
	before := b.e.Image()
	note := noteInstance()
	for what, c := range map[string]iso7816.Command{
		"no token": note.Command(), "another's token": signed(t, stranger, note.Command()),
		"token for another": func() iso7816.Command {
			other := note
			other.App = secondNote
			in, _ := gp.ParseInstall(signed(t, key, other.Command()))
			in.App = noteAID
			return in.Command()
		}(),
	} {
		if r := b.long(c); r.SW != iso7816.SWSecurity {
			t.Errorf("%s: %v", what, r)
		}
	}
	if !bytes.Equal(b.e.Image(), before) {
		t.Error("refused commands have changed the card")
	}
	confirm(b.long(signed(t, key, note.Command())), 1, []byte(noteFile), []byte(noteAID))
	b.must(gp.Personalize(noteAID).Command()) // needs no token
	forLoad := gp.Install{For: gp.ForLoad, LoadFile: foreign, Domain: spDomain}.Command()
	if r := b.long(signed(t, key, forLoad)); !bytes.Equal(r.Bytes(), []byte{0, 0x90, 0}) {
		t.Errorf("INSTALL for load: %v", r) // its receipt comes with the last block
	}
	r := b.do(iso7816.Command{CLA: gp.CLA, INS: gp.InsLoad, P1: 0x80, Data: []byte{0xC4, 1, 2}})
	confirm(r, 2, []byte(foreign), []byte(spDomain))
	if got := keepsSelection(b, "80CA00C200"); got != "C20200029000" {
		t.Errorf("the receipt counter of the issuer's domain is %s", got)
	}
	if r := b.do(gp.Delete{App: foreign}.Command()); r.SW != iso7816.SWSecurity {
		t.Errorf("DELETE without a token: %v", r)
	}
	if key != issuerLong { // a DELETE with its token has to fit one command
		confirm(b.do(signed(t, key, gp.Delete{App: foreign}.Command())), 3, []byte(foreign))
		confirm(b.long(signed(t, key, gp.Install{For: gp.ForRegistryUpdate, App: noteAID, Keep: true}.Command())), 4, []byte(spDomain), []byte(noteAID), nil, nil, nil)
		confirm(b.long(signed(t, key, gp.Install{For: gp.ForExtradition, Domain: gp.IssuerDomain, App: noteAID}.Command())), 5, []byte(spDomain), []byte(noteAID), []byte(gp.IssuerDomain))
		if r := b.long(signed(t, key, gp.Install{For: gp.ForExtradition, Domain: spDomain, App: noteAID}.Command())); r.SW != iso7816.SWConditions {
			t.Errorf("taking back what is not its own any more: %v", r)
		}
	}
}

// Without a token key nothing is authorised, without a receipt key answers are
// empty, without the privilege there is nothing to authorise.
func TestDelegationNeedsItsKeys(t *testing.T) {
	b := newBench(t, gp.AES)
	b.open(0x01)
	b.delegate(gp.AES)
	if r := b.long(signed(t, issuerRSA, noteInstance().Command())); r.SW != iso7816.SWSecurity {
		t.Errorf("no token key: %v", r)
	}
	b = newBench(t, gp.AES)
	b.open(0x01)
	b.putTokenKey(0, issuerECC)
	b.delegate(gp.AES)
	if r := b.long(signed(t, issuerECC, noteInstance().Command())); !bytes.Equal(r.Bytes(), []byte{0, 0x90, 0}) {
		t.Errorf("no receipt key: %v", r)
	}
	b = newBench(t, gp.AES)
	b.open(0x01)
	b.putTokenKey(0, issuerECC)
	b.must(domainInstance().Command())
	b.send(iso7816.Select([]byte(spDomain)))
	b.authenticate(0, 0x01)
	if r := b.long(signed(t, issuerECC, noteInstance().Command())); r.SW != iso7816.SWConditions {
		t.Errorf("no delegated management: %v", r)
	}
	if r := b.putTokenKey(0, issuerECC); r.SW != iso7816.SWConditions {
		t.Errorf("a token key for a domain that verifies none: %v", r)
	}
}

// A token key is listed, replaced by its version, one at a time, and deleted.
func TestTokenKey(t *testing.T) {
	b := newBench(t, gp.AES)
	b.open(0x01)
	step := func(what string, r iso7816.Response, want iso7816.SW) {
		t.Helper()
		if r.SW != want {
			t.Errorf("%s: %v, want %v", what, r.SW, want)
		}
	}
	step("replacing nothing", b.putTokenKey(gp.TokenKeyVersion, issuerRSA), iso7816.SWReferenceNotFound)
	step("first", b.putTokenKey(0, issuerRSA), iso7816.OK)
	step("again", b.putTokenKey(0, issuerECC), iso7816.SWData)
	keys, err := gp.ParseKeyTemplate(b.must(gp.GetData(gp.TagKeyInfo)))
	if err != nil || len(keys) != 4 || keys[3] != (gp.KeyInfo{ID: 1, Version: gp.TokenKeyVersion, Type: gp.RSA, Length: 128}) {
		t.Errorf("%+v %v", keys, err)
	}
	step("replaced", b.putTokenKey(gp.TokenKeyVersion, issuerECC), iso7816.OK)
	step("deleted", b.do(gp.Delete{KeyVersion: gp.TokenKeyVersion}.Command()), iso7816.OK)
	step("deleted twice", b.do(gp.Delete{KeyVersion: gp.TokenKeyVersion}.Command()), iso7816.SWReferenceNotFound)
	step("a second component that is no exponent", b.do(iso7816.Command{CLA: gp.CLA, INS: gp.InsPutKey, P2: 1,
		Data: append(append([]byte{0x70, 0xB0, 65, 4}, make([]byte, 64)...), 0xF0, 1, 0, 0)}), iso7816.SWData)
	b.open(0x01)
}

// A receipt and what it confirms are one unit: no operation without its counter.
func TestTornReceipt(t *testing.T) {
	b := newBench(t, gp.AES)
	b.open(0x01)
	b.putTokenKey(0, issuerECC)
	b.putReceiptKey(gp.AES)
	b.delegate(gp.AES)
	image, own := b.e.Image(), b.keys
	command := signed(t, issuerECC, noteInstance().Command())
	seen := map[bool]uint16{}
	for n := 1; ; n++ {
		c := b.from(image)
		c.keys = own
		c.send(iso7816.Select([]byte(spDomain)))
		c.authenticate(0x20, 0x01)
		w, err := c.h.Wrap(command)
		if err != nil {
			t.Fatal(err)
		}
		c.e.Memory().CutAfter(n)
		_, err = c.e.Transmit(w)
		c.e.Memory().CutAfter(0)
		if err != nil && !errors.Is(err, iso7816.ErrTorn) {
			t.Fatal(err)
		}
		c.power()
		_, there := find(c.e, card.AID(noteAID))
		c.send(iso7816.Select([]byte(spDomain)))
		c.authenticate(0x20, 0x01)
		next := noteInstance()
		next.App = secondNote
		got, perr := gp.ParseConfirmation(c.long(signed(t, issuerECC, next.Command())).Data)
		if perr != nil {
			t.Fatal(perr)
		}
		if before, ok := seen[there]; ok && before != got.Counter {
			t.Fatalf("write %d: installed %v, receipt %d after %d", n, there, got.Counter, before)
		}
		seen[there] = got.Counter
		if err == nil {
			break
		}
	}
	if seen[true] != seen[false]+1 || len(seen) != 2 {
		t.Errorf("receipts %v", seen)
	}
}

// keepsSelection asks the issuer's domain on another channel, so that a session
// on the basic one goes on.
func keepsSelection(b *bench, s string) string {
	b.t.Helper()
	if r := b.raw("0070000100"); !r.SW.OK() {
		b.t.Fatal(r)
	}
	defer b.raw("00708001")
	c := iso7816.Select([]byte(gp.IssuerDomain))
	c.CLA = 1
	b.send(c)
	ask, err := iso7816.ParseCommand(unhexConst(s))
	if err != nil {
		b.t.Fatal(err)
	}
	ask.CLA |= 1
	return fmt.Sprintf("%X", b.send(ask).Bytes())
}

// find looks an entry up from inside.
func find(e *card.Element, aid card.AID) (x card.Entry, ok bool) {
	e.PowerOff()
	_, _ = e.Factory(func(s *card.Session) iso7816.SW {
		x, ok = s.Registry().Find(aid)
		return iso7816.OK
	})
	_ = e.PowerOn(card.Contact)
	return x, ok
}
