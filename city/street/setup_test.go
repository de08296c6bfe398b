package street

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"testing"

	"koala/hsm"
)

// TestSetupKeys: a device unwraps its keys under its own transport key alone; one
// installed before keys came wrapped works on with what it has; the house cannot
// hand keys over in clear any more.
func TestSetupKeys(t *testing.T) {
	s, _ := aStreet(t)
	ctx := context.Background()
	if err := s.OpenShops(ctx); err != nil {
		t.Fatal(err)
	}
	a, err := s.Acceptor(ctx, "kesi.canteen")
	if err != nil {
		t.Fatal(err)
	}
	got := a.setup
	for _, use := range []hsm.TerminalUse{hsm.TillCards, hsm.TillSales} {
		if key, version, err := got.key(use); err != nil || key == [16]byte{} || version != 1 {
			t.Errorf("%s: version %d, %v", use, version, err)
		}
	}
	other := got
	other.Transport = make([]byte, len(hsm.TransportKey{}))
	if _, _, err := other.key(hsm.TillSales); !errors.Is(err, hsm.ErrBlock) {
		t.Errorf("under another transport key: %v", err)
	}
	other = got
	other.TID = "20090099"
	if _, _, err := other.key(hsm.TillSales); !errors.Is(err, hsm.ErrBlock) {
		t.Errorf("in another device: %v", err)
	}
	if _, _, err := got.key(hsm.DoorHost); !errors.Is(err, errSetup) {
		t.Errorf("a key it was not given: %v", err)
	}
}

// TestSetupOfBefore reads the image of a device that was installed before keys
// came wrapped.
func TestSetupOfBefore(t *testing.T) {
	const own, cards = "00112233445566778899aabbccddeeff", "ffeeddccbbaa99887766554433221100"
	var before setup
	if err := json.Unmarshal([]byte(`{"tid":"20090001","cards":"`+cards+`","version":2,"own":"`+own+`"}`), &before); err != nil {
		t.Fatal(err)
	}
	for use, want := range map[hsm.TerminalUse]string{hsm.TillCards: cards, hsm.TillSales: own, hsm.DoorReader: cards, hsm.DoorHost: own, hsm.CouponMerchant: own} {
		if key, version, err := before.key(use); err != nil || hex.EncodeToString(key[:]) != want || version != 2 {
			t.Errorf("%s: version %d, %v", use, version, err)
		}
	}
	if err := before.read([]byte(`{"tid":"20090001","cards":"` + cards + `","own":"` + own + `"}`)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := before.key(hsm.TillSales); !errors.Is(err, errSetup) {
		t.Errorf("keys taken in clear: %v", err)
	}
}
