package hsm_test

import (
	"bytes"
	"errors"
	"testing"

	"koala/hsm"
	"koala/spec/globalplatform"
	"koala/spec/iso7816"
)

// TestToken signs the same command twice alike and another one otherwise, after a
// rotation with another key, and never a command that takes no token.
func TestToken(t *testing.T) {
	h := bank(t)
	c := globalplatform.Delete{App: "\xF0koala\x04\x10\x00\x01"}.Command()
	if _, err := h.SignToken(ctx, c); !errors.Is(err, hsm.ErrNoKey) {
		t.Errorf("without a key: %v", err)
	}
	for range 2 {
		if err := h.ProvisionDomains(ctx); err != nil {
			t.Fatal(err)
		}
	}
	token := func(c iso7816.Command) []byte {
		t.Helper()
		signed, err := h.SignToken(ctx, c)
		if err != nil {
			t.Fatal(err)
		}
		_, token, err := globalplatform.TokenData(signed)
		if err != nil || len(token) != 64 {
			t.Fatalf("%X: %v", token, err)
		}
		return token
	}
	first := token(c)
	related := globalplatform.Delete{App: "\xF0koala\x04\x10\x00\x02"}.Command()
	if !bytes.Equal(first, token(c)) || bytes.Equal(first, token(related)) {
		t.Error("a token is for one command, and always the same")
	}
	if _, err := h.Rotate(ctx, hsm.LabelInstallToken); err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(first, token(c)) {
		t.Error("the old key signs on")
	}
	if _, err := h.SignToken(ctx, globalplatform.Delete{KeyVersion: 0x30}.Command()); !errors.Is(err, hsm.ErrScript) {
		t.Errorf("DELETE of keys: %v", err)
	}
}

// TestNoReceipt refuses what is no receipt of the element. That true ones are
// taken is tested with an element (tsm).
func TestNoReceipt(t *testing.T) {
	h := bank(t)
	if err := h.ProvisionDomains(ctx); err != nil {
		t.Fatal(err)
	}
	forged := globalplatform.Confirmation{Receipt: make([]byte, 16), Counter: 1, Unique: make([]byte, 10)}
	for name, answer := range map[string][]byte{"nothing": nil, "an empty one": {0}, "half": forged.Bytes()[:9], "a forged one": forged.Bytes()} {
		r := hsm.Receipt{Answer: answer, Said: globalplatform.Delete{App: "\xF0koala\x04\x10\x00\x01"}.Command()}
		if _, err := h.CheckReceipt(ctx, r); !errors.Is(err, hsm.ErrReceipt) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
