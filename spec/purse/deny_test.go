package purse_test

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"testing"
	"time"

	"koala/spec/purse"
)

func TestDenyDelta(t *testing.T) {
	private := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, 32))
	public := private.Public().(ed25519.PublicKey)
	d := purse.DenyDelta{
		From: 3, To: 4, At: time.Unix(1_700_000_000, 0).UTC(),
		Changes: []purse.Denial{{Card: "03105170070104791381", Reason: purse.DenyLost}, {Card: "03105170070104791399"}},
	}
	text, err := d.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	pack := append(bytes.Clone(text), ed25519.Sign(private, text)...)
	back, err := purse.OpenDenyDelta(public, pack)
	if err != nil || back.From != 3 || back.To != 4 || !back.At.Equal(d.At) || len(back.Changes) != 2 || back.Changes[0] != d.Changes[0] {
		t.Fatalf("%+v %v", back, err)
	}
	for i := range pack {
		bad := bytes.Clone(pack)
		bad[i] ^= 0x10
		if _, err := purse.OpenDenyDelta(public, bad); !errors.Is(err, purse.ErrSignature) {
			t.Fatalf("byte %d changed: %v", i, err)
		}
	}
	if _, err := purse.OpenDenyDelta(public, pack[:10]); !errors.Is(err, purse.ErrSignature) {
		t.Errorf("short: %v", err)
	}
	for name, bad := range map[string]purse.DenyDelta{
		"backwards": {From: 4, To: 4},
		"twice":     {To: 1, Changes: []purse.Denial{{Card: d.Changes[0].Card}, {Card: d.Changes[0].Card}}},
		"number":    {To: 1, Changes: []purse.Denial{{Card: "x"}}},
	} {
		if _, err := bad.Bytes(); err == nil {
			t.Errorf("%s is written", name)
		}
	}
}

func TestStationCodes(t *testing.T) {
	b := purse.StationBytes(10118)
	wantHex(t, "station", b[:], "0000000000010118")
	if code, ok := purse.StationCode(b); !ok || code != 10118 {
		t.Errorf("%d %v", code, ok)
	}
	for _, bad := range []string{"0000000001000000", "000000000001011A"} {
		if _, ok := purse.StationCode([8]byte(unhex(t, bad))); ok {
			t.Errorf("%s is a station", bad)
		}
	}
}

func FuzzParseDenyDelta(f *testing.F) {
	text, _ := purse.DenyDelta{To: 1, Changes: []purse.Denial{{Card: "03105170070104791381", Reason: purse.DenyLost}}}.Bytes()
	f.Add(text)
	f.Fuzz(func(t *testing.T, in []byte) {
		d, err := purse.ParseDenyDelta(in)
		if err != nil {
			return
		}
		if again, err := d.Bytes(); err != nil || !bytes.Equal(again, in) {
			t.Errorf("%X writes %X, %v", in, again, err)
		}
	})
}
