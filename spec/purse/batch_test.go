package purse_test

import (
	"bytes"
	"errors"
	"testing"

	"koala/spec/purse"
)

func batch(t testing.TB, n int) []byte {
	t.Helper()
	b := purse.Batch{Terminal: terminal(t, "300089000340"), First: 7}
	for i := range n {
		b.Debits = append(b.Debits, purse.Debit{Card: "03105170070104791381", Seq: uint16(i), Fen: 500, Record: []byte{byte(i)}})
	}
	raw, err := b.AppendBinary(nil)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestBatch(t *testing.T) {
	raw := batch(t, 3)
	b, err := purse.ParseBatch(raw)
	if err != nil || b.First != 7 || len(b.Debits) != 3 || b.Debits[2].Seq != 2 || b.Terminal != terminal(t, "300089000340") {
		t.Fatalf("%+v %v", b, err)
	}
	for i := range raw {
		bad := bytes.Clone(raw)
		bad[i] ^= 1
		if _, err := purse.ParseBatch(bad); !errors.Is(err, purse.ErrChecksum) && !errors.Is(err, purse.ErrRecord) {
			t.Fatalf("byte %d changed: %v", i, err)
		}
	}
	if _, err := (purse.Batch{Debits: make([]purse.Debit, purse.MaxBatch+1)}).AppendBinary(nil); !errors.Is(err, purse.ErrLength) {
		t.Errorf("too many: %v", err)
	}
	if _, err := (purse.Batch{Debits: []purse.Debit{{Card: "x"}}}).AppendBinary(nil); !errors.Is(err, purse.ErrNumber) {
		t.Errorf("bad card: %v", err)
	}
}

func FuzzParseBatch(f *testing.F) {
	f.Add(batch(f, 2))
	f.Fuzz(func(t *testing.T, in []byte) {
		b, err := purse.ParseBatch(in)
		if err != nil {
			return
		}
		if again, err := b.AppendBinary(nil); err != nil || !bytes.Equal(again, in) {
			t.Errorf("%X writes %X, %v", in, again, err)
		}
	})
}
