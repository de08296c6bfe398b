package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"koala/internal/openkey"
	"koala/settlement"
)

// aBill writes a bill and its signature file, and gives the bill.
func aBill(t *testing.T, dir, day string, no int64, prev [32]byte, key ed25519.PrivateKey) settlement.Bill {
	t.Helper()
	b := settlement.Bill{Payee: "s1", Period: day, No: no, Prev: prev, Form: settlement.NewForm, Key: openkey.ID(key.Public().(ed25519.PublicKey)),
		CSV: []byte("ref,gross_fen\n" + day + ",1200\ntotal,1200\n")}
	b.Hash = sha256.Sum256(append(prev[:], b.CSV...))
	b.Signature = ed25519.Sign(key, b.Message())
	name := filepath.Join(dir, "bill-"+day+".csv")
	for file, text := range map[string][]byte{name: b.CSV, name + ".sig": b.SignatureFile("")} {
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

func TestBillVerify(t *testing.T) {
	dir := t.TempDir()
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize))
	other := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{8}, ed25519.SeedSize))
	public := func(k ed25519.PrivateKey) ed25519.PublicKey { return k.Public().(ed25519.PublicKey) }
	keys := filepath.Join(dir, "keys.json")
	// The other key is in the list, but for another use.
	list := openkey.Book{openkey.Of(openkey.Bills, public(key)), openkey.Of(openkey.OldBills, public(other))}
	if err := os.WriteFile(keys, list.JSON(), 0o600); err != nil {
		t.Fatal(err)
	}
	first := aBill(t, dir, "2016-09-06", 1, [32]byte{}, key)
	second := aBill(t, dir, "2016-09-07", 2, first.Hash, key)
	third := aBill(t, dir, "2016-09-08", 3, second.Hash, key)
	aBill(t, dir, "2016-09-09", 4, third.Hash, other)
	aBill(t, dir, "2016-09-10", 3, first.Hash, key)
	name := func(day string) string { return filepath.Join(dir, "bill-2016-09-"+day+".csv") }
	altered := filepath.Join(dir, "altered.csv")
	for to, text := range map[string][]byte{altered: bytes.Replace(first.CSV, []byte("1200"), []byte("1300"), 2), altered + ".sig": first.SignatureFile("")} {
		if err := os.WriteFile(to, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		name  string
		files []string
		code  int
		want  string
	}{
		{"one day", []string{name("06")}, exitFine, "bill 1 of s1 for 2016-09-06, the first"},
		{"three, in any order, by either file", []string{name("08"), name("06") + ".sig", name("07")}, exitFine, "bill 3 of s1 for 2016-09-08, after bill 2"},
		{"in the middle", []string{name("07")}, exitFine, "bill 1, which it names, was not given"},
		{"a day is missing", []string{name("06"), name("08")}, exitRefused, "bills 2 to 2 are missing"},
		{"a chain that branches", []string{name("07"), name("10")}, exitRefused, "does not carry the hash of bill 2"},
		{"twice", []string{name("07"), name("07")}, exitRefused, "two bills with number 2"},
		{"an amount", []string{altered}, exitRefused, "it is of another file, or was altered"},
		{"a key for another use", []string{name("09")}, exitRefused, "no such key for this use"},
		{"no file", []string{name("11")}, exitRefused, ""},
		{"nothing", nil, exitMisused, ""},
	} {
		var out, errs strings.Builder
		code := run(context.Background(), append([]string{"bill", "verify", "--keys", keys}, tt.files...), nil, &out, &errs)
		if code != tt.code || !strings.Contains(out.String(), tt.want) {
			t.Errorf("%s: code %d, %s%s", tt.name, code, out.String(), errs.String())
		}
	}
	var out, errs strings.Builder
	if code := run(context.Background(), []string{"bill", "verify", "--json", "--keys", keys, name("06")}, nil, &out, &errs); code != exitFine ||
		!strings.HasSuffix(out.String(), `"payee":"s1","period":"2016-09-06","number":1,"key":"`+first.Key+`","ok":true}`+"\n") {
		t.Errorf("code %d, %s%s", code, out.String(), errs.String())
	}
}
