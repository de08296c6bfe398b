package hsm_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"koala/hsm"
	"koala/internal/clock"
	"koala/internal/db"
	"koala/internal/db/dbtest"
	"koala/spec/globalplatform"
	"koala/spec/iso7816"
	"koala/spec/iso9797"
	"koala/spec/purse"
)

var ctx = context.Background()

func open(t testing.TB, s *db.Store, file string) *hsm.HSM {
	t.Helper()
	h, err := hsm.Open(ctx, s, hsm.Config{KeyFile: file, Rand: clock.Random(3)})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func provisioned(t testing.TB) *hsm.HSM {
	t.Helper()
	h := open(t, dbtest.Open(t), filepath.Join(t.TempDir(), "koala.key"))
	if err := h.Provision(ctx); err != nil {
		t.Fatal(err)
	}
	return h
}

func TestKeysSurviveARestart(t *testing.T) {
	dbtest.EachConfig(t, func(t *testing.T, cfg db.Config) {
		file := filepath.Join(t.TempDir(), "koala.key")
		var lists [2]string
		var sealed, signature []byte
		for i := range lists {
			s, err := db.Open(ctx, cfg)
			if err != nil {
				t.Fatal(err)
			}
			h := open(t, s, file)
			if err := h.Provision(ctx); err != nil {
				t.Fatal(err)
			}
			list, err := h.List(ctx)
			if err != nil {
				t.Fatal(err)
			}
			lists[i] = fmt.Sprint(list)
			if i == 0 {
				sealed, err = h.Seal(ctx, []byte("file 15"))
				if err == nil {
					signature, err = h.Sign(ctx, hsm.LabelPack, []byte("pack"))
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			if clear, err := h.Unseal(ctx, sealed); err != nil || string(clear) != "file 15" {
				t.Errorf("unsealed %q, %v", clear, err)
			}
			if err := h.Verify(ctx, hsm.LabelPack, []byte("pack"), signature); err != nil {
				t.Error(err)
			}
			if err := h.Verify(ctx, hsm.LabelPack, []byte("other"), signature); !errors.Is(err, hsm.ErrSignature) {
				t.Errorf("a signature of other data: %v", err)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}
		if lists[0] != lists[1] {
			t.Errorf("keys before\n%s\nand after\n%s", lists[0], lists[1])
		}
		if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("key file: %v %v", info.Mode(), err)
		}
	})
}

func TestKeyFileTrouble(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	s := dbtest.Open(t)
	open(t, s, at("right.key"))
	if _, err := hsm.Open(ctx, dbtest.Open(t), hsm.Config{KeyFile: at("other.key")}); err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(at("right.key"))
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, text string, mode os.FileMode) {
		t.Helper()
		if err := os.WriteFile(at(name), []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	damaged := bytes.Replace(good, []byte("check "), []byte("check 0"), 1)
	write("damaged.key", string(damaged), 0o600)
	write("short.key", string(good[:40]), 0o600)
	write("binary.key", string([]byte{0, 1, 2}), 0o600)
	write("shared.key", string(good), 0o644)
	for _, tt := range []struct {
		file string
		want error
	}{
		{"right.key", nil},
		{"missing.key", hsm.ErrNoKeyFile},
		{"other.key", hsm.ErrWrongFile},
		{"damaged.key", hsm.ErrKeyFile},
		{"short.key", hsm.ErrKeyFile},
		{"binary.key", hsm.ErrKeyFile},
		{"shared.key", hsm.ErrOpenFile},
		{"", hsm.ErrKeyFile}, // a directory
	} {
		_, err := hsm.Open(ctx, s, hsm.Config{KeyFile: at(tt.file)})
		if !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.file, err, tt.want)
		}
		if err != nil && !strings.Contains(err.Error(), at(tt.file)) {
			t.Errorf("%s: %v does not name the file", tt.file, err)
		}
	}
	if _, err := os.Stat(at("missing.key")); err == nil {
		t.Error("a key file was made for a database that has another")
	}
	if _, err := hsm.Open(ctx, dbtest.Open(t), hsm.Config{KeyFile: at("no/such/dir.key")}); !errors.Is(err, hsm.ErrKeyFile) {
		t.Errorf("directory missing: %v", err)
	}
}

func TestSealedKeysStayInTheirRow(t *testing.T) {
	s := dbtest.Open(t)
	file := filepath.Join(t.TempDir(), "koala.key")
	h := open(t, s, file)
	if err := h.Provision(ctx); err != nil {
		t.Fatal(err)
	}
	err := s.Write(ctx, func(tx *db.Tx) error {
		_, err := tx.Exec(`UPDATE hsm_key SET sealed = (SELECT sealed FROM hsm_key WHERE label = 'transit.DPK')
			WHERE label = 'transit.DTK'`)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := hsm.Open(ctx, s, hsm.Config{KeyFile: file}); !errors.Is(err, hsm.ErrSealed) {
		t.Errorf("a key in another's row: %v", err)
	}
}

func TestGenerateImportRotate(t *testing.T) {
	h := provisioned(t)
	root := bytes.Repeat([]byte{0x5A, 1, 2, 3}, 4)
	root[15] = 9
	for _, tt := range []struct {
		name    string
		do      func() (hsm.KeyInfo, error)
		want    error
		version byte
	}{
		{"generate again", func() (hsm.KeyInfo, error) { return h.Generate(ctx, hsm.LabelDPK, hsm.PurseRoot) }, hsm.ErrExists, 0},
		{"unknown usage", func() (hsm.KeyInfo, error) { return h.Generate(ctx, "x", "fun") }, hsm.ErrUsage, 0},
		{"no label", func() (hsm.KeyInfo, error) { return h.Generate(ctx, "", hsm.PurseRoot) }, hsm.ErrUsage, 0},
		{"import", func() (hsm.KeyInfo, error) { return h.Import(ctx, hsm.LabelDPK, hsm.PurseRoot, root) }, nil, 2},
		{"import as another usage", func() (hsm.KeyInfo, error) { return h.Import(ctx, hsm.LabelDPK, hsm.ChannelRoot, root) }, hsm.ErrUsage, 0},
		{"too short", func() (hsm.KeyInfo, error) { return h.Import(ctx, hsm.LabelDPK, hsm.PurseRoot, root[:8]) }, hsm.ErrWeak, 0},
		{"equal halves", func() (hsm.KeyInfo, error) {
			return h.Import(ctx, hsm.LabelDPK, hsm.PurseRoot, bytes.Repeat(root[:8], 2))
		}, hsm.ErrWeak, 0},
		{"zeros", func() (hsm.KeyInfo, error) { return h.Import(ctx, "isd.ENC", hsm.ChannelRoot, make([]byte, 16)) }, hsm.ErrWeak, 0},
		{"new label", func() (hsm.KeyInfo, error) { return h.Import(ctx, "test.root", hsm.PurseRoot, root) }, nil, 1},
	} {
		info, err := tt.do()
		if !errors.Is(err, tt.want) || info.Version != tt.version {
			t.Errorf("%s: version %d, %v; want %d, %v", tt.name, info.Version, err, tt.version, tt.want)
		}
		if err == nil && info.KCV != iso9797.KCVDES(root) {
			t.Errorf("%s: check value %X", tt.name, info.KCV)
		}
	}
	list, err := h.Rotate(ctx, hsm.LabelENC, hsm.LabelMAC, hsm.LabelDEK)
	if err != nil || len(list) != 3 || list[0].Version != 2 || list[2].Version != 2 {
		t.Errorf("rotated to %v, %v", list, err)
	}
	if _, err := h.Rotate(ctx, hsm.LabelDTK, "none"); !errors.Is(err, hsm.ErrNoKey) {
		t.Errorf("rotating what is not there: %v", err)
	}
}

const card = purse.Number("03105170070104791381")

// The roots of the tests, and what their card holds.
var (
	dtk, dlk, damk = rootOf(1), rootOf(2), rootOf(3)
	terminal       = purse.Terminal{0x11, 0x22, 0x33, 0x44, 0x55, 0x66}
	at             = purse.StampOf(time.Date(2015, 9, 16, 0, 1, 2, 0, time.UTC))
)

func rootOf(n byte) (k [16]byte) {
	for i := range k {
		k[i] = n*17 + byte(i)*3
	}
	return k
}

func withRoots(t testing.TB) *hsm.HSM {
	t.Helper()
	h := open(t, dbtest.Open(t), filepath.Join(t.TempDir(), "koala.key"))
	for label, k := range map[string][16]byte{hsm.LabelDTK: dtk, hsm.LabelDLK: dlk, hsm.LabelDAMK: damk} {
		if _, err := h.Import(ctx, label, hsm.PurseRoot, k[:]); err != nil {
			t.Fatal(err)
		}
	}
	if err := h.Provision(ctx); err != nil {
		t.Fatal(err)
	}
	return h
}

func debit() purse.Debit {
	d := purse.Debit{Card: card, Seq: 7, Fen: 400, Type: purse.CAPP, Terminal: terminal, TSeq: 99, At: at}
	d.TAC = purse.PurchaseTAC(purse.TACKey(purse.Disperse(dtk, card.Factor())), d.Fen, d.Type, d.Terminal, d.TSeq, d.At)
	return d
}

func TestCheckDebitTAC(t *testing.T) {
	h := withRoots(t)
	for _, tt := range []struct {
		name  string
		spoil func(*purse.Debit)
		want  error
	}{
		{"as the card made it", func(*purse.Debit) {}, nil},
		{"amount", func(d *purse.Debit) { d.Fen++ }, hsm.ErrTAC},
		{"terminal sequence", func(d *purse.Debit) { d.TSeq++ }, hsm.ErrTAC},
		{"another card", func(d *purse.Debit) { d.Card = "03105170070104791382" }, hsm.ErrTAC},
		{"TAC", func(d *purse.Debit) { d.TAC[3] ^= 1 }, hsm.ErrTAC},
	} {
		d := debit()
		tt.spoil(&d)
		if err := h.CheckDebitTAC(ctx, d); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
	}
	if _, err := h.Rotate(ctx, hsm.LabelDTK); err != nil {
		t.Fatal(err)
	}
	if err := h.CheckDebitTAC(ctx, debit()); err != nil {
		t.Errorf("after a rotation: %v", err)
	}
	done, cancel := context.WithCancel(ctx)
	cancel()
	if err := h.CheckDebitTAC(done, debit()); !errors.Is(err, context.Canceled) {
		t.Errorf("with an ended context: %v", err)
	}
}

func TestAuthoriseLoad(t *testing.T) {
	h := withRoots(t)
	rnd := [4]byte{1, 2, 3, 4}
	sk := purse.LoadSession(purse.Disperse(dlk, card.Factor()), rnd, 41)
	good := hsm.Load{Card: card, Fen: 5000, Terminal: terminal, At: at,
		Answer: purse.InitLoadAnswer{Balance: 300, Seq: 41, KeyVersion: 1, Rnd: rnd,
			MAC1: purse.LoadMAC1(sk, 300, 5000, purse.LoadEP, terminal)}}
	mac2, err := h.AuthoriseLoad(ctx, good)
	if err != nil || mac2 != purse.LoadMAC2(sk, 5000, purse.LoadEP, terminal, at) {
		t.Errorf("MAC2 %X, %v", mac2, err)
	}
	for _, tt := range []struct {
		name  string
		spoil func(*hsm.Load)
		want  error
	}{
		{"balance", func(l *hsm.Load) { l.Answer.Balance++ }, hsm.ErrMAC1},
		{"sequence", func(l *hsm.Load) { l.Answer.Seq++ }, hsm.ErrMAC1},
		{"amount", func(l *hsm.Load) { l.Fen++ }, hsm.ErrMAC1},
		{"purse", func(l *hsm.Load) { l.Type = purse.LoadED }, hsm.ErrMAC1},
		{"key version", func(l *hsm.Load) { l.Answer.KeyVersion = 2 }, hsm.ErrNoKey},
		{"algorithm", func(l *hsm.Load) { l.Answer.Alg = purse.AlgSM4 }, hsm.ErrNoKey},
	} {
		l := good
		tt.spoil(&l)
		if _, err := h.AuthoriseLoad(ctx, l); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
		if err := h.CheckMAC1(ctx, l); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
	}
	proof := hsm.LoadProof{Card: card, Balance: 5300, Seq: 41, Fen: 5000, Terminal: terminal, At: at}
	tk := purse.TACKey(purse.Disperse(dtk, card.Factor()))
	proof.TAC = purse.LoadTAC(tk, 5300, 41, 5000, purse.LoadEP, terminal, at)
	if err := h.CheckLoadTAC(ctx, proof); err != nil {
		t.Error(err)
	}
	proof.Balance--
	if err := h.CheckLoadTAC(ctx, proof); !errors.Is(err, hsm.ErrTAC) {
		t.Errorf("another balance: %v", err)
	}
}

func TestProtect(t *testing.T) {
	h := withRoots(t)
	challenge := []byte{8, 7, 6, 5, 4, 3, 2, 1}
	c, err := h.Protect(ctx, card, 0, challenge, purse.AppBlock(false))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := purse.Unprotect(purse.Disperse(damk, card.Factor()), challenge, c); err != nil {
		t.Errorf("the card says %v", err)
	}
	if _, err := h.Protect(ctx, card, 0, challenge[:5], purse.AppUnblock()); !errors.Is(err, hsm.ErrScript) {
		t.Errorf("challenge of 5 bytes: %v", err)
	}
	if _, err := h.Protect(ctx, card, 9, challenge, purse.AppUnblock()); !errors.Is(err, hsm.ErrNoKey) {
		t.Errorf("root version 9: %v", err)
	}
}

// An element is the card's end of the channel with the sets it holds.
type element struct {
	kdd  [10]byte
	keys globalplatform.KeySet
	seq  uint32
	card *globalplatform.Card
}

func (e *element) initialise(t testing.TB, host [8]byte) []byte {
	t.Helper()
	e.seq++
	c, a, err := globalplatform.NewCard03(e.keys, e.kdd, e.seq, globalplatform.IssuerDomain, host)
	if err != nil {
		t.Fatal(err)
	}
	e.card = c
	return a.Bytes()
}

// run authenticates and unwraps.
func (e *element) run(t testing.TB, list []iso7816.Command) []iso7816.Command {
	t.Helper()
	if err := e.card.Authenticate(list[0]); err != nil {
		t.Fatal(err)
	}
	var out []iso7816.Command
	for _, c := range list[1:] {
		p, err := e.card.Open(c)
		if err != nil {
			t.Fatal(err)
		}
		e.card.Seal(iso7816.Response{SW: iso7816.OK})
		out = append(out, p)
	}
	return out
}

// adopt lets the script's PUT KEY give the element its own keys.
func (e *element) adopt(t testing.TB, c iso7816.Command) {
	t.Helper()
	p, err := globalplatform.ParsePutKey(c)
	if err != nil {
		t.Fatal(err)
	}
	var keys [3][]byte
	for i, f := range p.Keys {
		if keys[i], err = f.Open(e.card.DecryptKey); err != nil {
			t.Fatal(err)
		}
	}
	e.keys = globalplatform.KeySet{Version: p.NewVersion, ENC: keys[0], MAC: keys[1], DEK: keys[2]}
}

var host = [8]byte{1, 1, 2, 3, 5, 8, 13, 21}

func TestWrapScriptFromFactoryToPurse(t *testing.T) {
	h := withRoots(t)
	e := &element{kdd: [10]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, keys: globalplatform.FactoryKeys()}
	script := hsm.Script{KDD: e.kdd[:], HostChallenge: host, Level: globalplatform.CMAC | globalplatform.CENC,
		Commands: []hsm.Plain{{PutKeys: true}}}

	script.InitAnswer = e.initialise(t, host)
	list, err := h.WrapScript(ctx, script)
	if err != nil {
		t.Fatal(err)
	}
	again, err := h.WrapScript(ctx, script)
	if err != nil || fmt.Sprint(again) != fmt.Sprint(list) {
		t.Errorf("the same script wrapped otherwise: %v", err)
	}
	e.adopt(t, e.run(t, list)[0])
	if e.keys.Version != 0x30 || bytes.Equal(e.keys.ENC, globalplatform.FactoryKeys().ENC) {
		t.Errorf("the element has set %02X", e.keys.Version)
	}

	store := iso7816.Command{CLA: globalplatform.CLA, INS: globalplatform.InsStoreData, P1: 0x88, Le: iso7816.NoLe}
	script.Commands = []hsm.Plain{{Command: store, Keys: []hsm.KeyRef{
		{DGI: purse.DGIKeyFirst, Kind: purse.DTK, Label: hsm.LabelDTK, Card: string(card)},
		{DGI: purse.DGIKeyFirst + 1, Kind: purse.DLK, Index: 2, Label: hsm.LabelDLK},
	}}}
	script.InitAnswer = e.initialise(t, host)
	if list, err = h.WrapScript(ctx, script); err != nil {
		t.Fatal(err)
	}
	data := e.run(t, list)[0].Data
	for _, want := range []struct {
		key   [16]byte
		kind  purse.KeyKind
		index byte
	}{{purse.Disperse(dtk, card.Factor()), purse.DTK, 1}, {dlk, purse.DLK, 2}} {
		d, rest, ok, err := globalplatform.NextDGI(data)
		if err != nil || !ok {
			t.Fatal(err)
		}
		rec, err := purse.ParseKeyRecord(d.Data)
		if err != nil {
			t.Fatal(err)
		}
		clear, err := e.card.DecryptKey(rec.Key[:])
		if err != nil || [16]byte(clear) != want.key || rec.KCV != iso9797.KCVDES(clear) ||
			rec.Kind != want.kind || rec.Index != want.index || rec.Version != 1 {
			t.Errorf("%v does not hold the key: %v", rec, err)
		}
		data = rest
	}

	if _, err := h.Rotate(ctx, hsm.LabelENC, hsm.LabelMAC, hsm.LabelDEK); err != nil {
		t.Fatal(err)
	}
	script.Commands = []hsm.Plain{{PutKeys: true}}
	script.InitAnswer = e.initialise(t, host)
	if list, err = h.WrapScript(ctx, script); err != nil {
		t.Fatalf("with keys of the version before: %v", err)
	}
	e.adopt(t, e.run(t, list)[0])
	if e.keys.Version != 0x31 {
		t.Errorf("the element has set %02X after the rotation", e.keys.Version)
	}
}

func TestWrapScriptRefuses(t *testing.T) {
	h := withRoots(t)
	kdd := [10]byte{1}
	fresh := func() *element { return &element{kdd: kdd, keys: globalplatform.FactoryKeys()} }
	for _, tt := range []struct {
		name string
		set  func(e *element, s *hsm.Script)
		want error
	}{
		{"another element's answer", func(_ *element, s *hsm.Script) { s.KDD = make([]byte, 10) }, hsm.ErrCryptogram},
		{"another challenge", func(_ *element, s *hsm.Script) { s.HostChallenge[0]++ }, hsm.ErrCryptogram},
		{"a cut answer", func(_ *element, s *hsm.Script) { s.InitAnswer = s.InitAnswer[:20] }, hsm.ErrAnswer},
		{"an unknown set", func(_ *element, s *hsm.Script) { s.InitAnswer[10] = 0x20 }, hsm.ErrNoKey},
		{"a version to come", func(_ *element, s *hsm.Script) { s.InitAnswer[10] = 0x35 }, hsm.ErrNoKey},
		{"a level that is none", func(_ *element, s *hsm.Script) { s.Level = 0x80 }, hsm.ErrScript},
		{"a root that is not there", func(_ *element, s *hsm.Script) {
			s.Commands = []hsm.Plain{{Keys: []hsm.KeyRef{{Label: "none"}}}}
		}, hsm.ErrScript},
		{"too many keys", func(_ *element, s *hsm.Script) {
			s.Commands = []hsm.Plain{{Keys: make([]hsm.KeyRef, 12)}}
			for i := range s.Commands[0].Keys {
				s.Commands[0].Keys[i].Label = hsm.LabelDPK
			}
		}, hsm.ErrScript},
		{"data too long", func(_ *element, s *hsm.Script) {
			s.Commands = []hsm.Plain{{Command: iso7816.Command{CLA: 0x80, INS: 0xE2, Data: make([]byte, 300), Le: iso7816.NoLe}}}
		}, hsm.ErrScript},
		{"too many commands", func(_ *element, s *hsm.Script) { s.Commands = make([]hsm.Plain, 1001) }, hsm.ErrScript},
	} {
		e := fresh()
		s := hsm.Script{KDD: kdd[:], HostChallenge: host, Level: globalplatform.CMAC, InitAnswer: e.initialise(t, host)}
		tt.set(e, &s)
		if _, err := h.WrapScript(ctx, s); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
	}
}

func TestUnsealRefuses(t *testing.T) {
	h := provisioned(t)
	sealed, err := h.Seal(ctx, []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(sealed, []byte("secret")) {
		t.Error("sealed data shows what it is")
	}
	for i := range sealed {
		bad := bytes.Clone(sealed)
		bad[i] ^= 0x40
		if _, err := h.Unseal(ctx, bad); !errors.Is(err, hsm.ErrSealed) {
			t.Errorf("byte %d changed: %v", i, err)
		}
		if _, err := h.Unseal(ctx, sealed[:i]); !errors.Is(err, hsm.ErrSealed) {
			t.Errorf("cut to %d bytes: %v", i, err)
		}
	}
}

func TestCeremony(t *testing.T) {
	parts := [][16]byte{rootOf(7), rootOf(11), rootOf(13)}
	var whole [16]byte
	for _, p := range parts {
		for i := range whole {
			whole[i] ^= p[i]
		}
	}
	kcv := func(k [16]byte) [3]byte { return iso9797.KCVDES(k[:]) }
	h := provisioned(t)
	if _, err := h.Begin("transit.DPK", hsm.PurseRoot, 1); !errors.Is(err, hsm.ErrParts) {
		t.Errorf("one part: %v", err)
	}
	if _, err := h.Begin("pack.sign", hsm.Signing, 2); !errors.Is(err, hsm.ErrUsage) {
		t.Errorf("a signing key: %v", err)
	}
	c, err := h.Begin("transit.DPK", hsm.PurseRoot, 3)
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		who  string
		part [16]byte
		kcv  [3]byte
		want error
	}{
		{"ann", parts[0], kcv(parts[1]), hsm.ErrCheck},
		{"ann", parts[0], kcv(parts[0]), nil},
		{"ann", parts[1], kcv(parts[1]), hsm.ErrCustodian},
		{"", parts[1], kcv(parts[1]), hsm.ErrCustodian},
		{"bob", parts[1], kcv(parts[1]), nil},
		{"cid", parts[2], kcv(parts[2]), nil},
		{"dan", parts[2], kcv(parts[2]), hsm.ErrParts},
	} {
		part := step.part
		if err := c.Enter(step.who, part[:], step.kcv); !errors.Is(err, step.want) {
			t.Errorf("%s: %v, want %v", step.who, err, step.want)
		}
		if part != [16]byte{} {
			t.Error("the part was left in memory")
		}
	}
	info, err := c.Finish(ctx, kcv(whole))
	if err != nil || info.Version != 2 || info.KCV != kcv(whole) {
		t.Errorf("key %v, %v", info, err)
	}
	if _, err := c.Finish(ctx, kcv(whole)); !errors.Is(err, hsm.ErrParts) {
		t.Errorf("finished twice: %v", err)
	}
	c, err = h.Begin("transit.DLK", hsm.PurseRoot, 2)
	if err != nil {
		t.Fatal(err)
	}
	for i, who := range []string{"ann", "bob"} {
		part := parts[i]
		if err := c.Enter(who, part[:], kcv(parts[i])); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.Finish(ctx, kcv(whole)); !errors.Is(err, hsm.ErrCheck) {
		t.Errorf("another whole: %v", err)
	}
}

func BenchmarkCheckDebitTAC(b *testing.B) {
	h, d := withRoots(b), debit()
	for b.Loop() {
		if err := h.CheckDebitTAC(ctx, d); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkWrapScript wraps what personalises one card: four keys and ten
// commands of 200 bytes.
func BenchmarkWrapScript(b *testing.B) {
	h := withRoots(b)
	e := &element{kdd: [10]byte{1}, keys: globalplatform.FactoryKeys()}
	s := hsm.Script{HostChallenge: host, Level: globalplatform.CMAC | globalplatform.CENC, InitAnswer: e.initialise(b, host)}
	for range 10 {
		s.Commands = append(s.Commands, hsm.Plain{Command: iso7816.Command{CLA: 0x80, INS: 0xE2, Data: make([]byte, 200), Le: iso7816.NoLe}})
	}
	var refs []hsm.KeyRef
	for i, label := range []string{hsm.LabelDPK, hsm.LabelDLK, hsm.LabelDTK, hsm.LabelDAMK} {
		refs = append(refs, hsm.KeyRef{DGI: purse.DGIKeyFirst + uint16(i), Kind: purse.KeyKind(i + 1), Label: label, Card: string(card)})
	}
	s.Commands = append(s.Commands, hsm.Plain{Command: iso7816.Command{CLA: 0x80, INS: 0xE2, Le: iso7816.NoLe}, Keys: refs})
	for b.Loop() {
		if _, err := h.WrapScript(ctx, s); err != nil {
			b.Fatal(err)
		}
	}
}
