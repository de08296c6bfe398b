package band

import (
	"encoding/hex"
	"strings"
	"testing"
)

func hexOf[T ~[32]byte | ~[16]byte | ~[7]byte | ~[3]byte](t *testing.T, s string, into *T) {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	switch x := any(into).(type) {
	case *[32]byte:
		*x = [32]byte(b)
	case *[16]byte:
		*x = [16]byte(b)
	case *[7]byte:
		*x = [7]byte(b)
	case *[3]byte:
		*x = [3]byte(b)
	}
}

// The sample data of Bluetooth Core, Vol 3, Part H, appendix D.
func TestPairingFunctions(t *testing.T) {
	var u, v, w [32]byte
	var x, y, n1, n2, mac, r [16]byte
	var a1, a2 [7]byte
	var caps [3]byte
	hexOf(t, "20b003d2f297be2c5e2c83a7e9f9a5b9 eff49111acf4fddbcc0301480e359de6", &u)
	hexOf(t, "55188b3d32f6bb9a900afcfbeed4e72a 59cb9ac2f19d7cfb6b4fdd49f47fc5fd", &v)
	hexOf(t, "ec0234a357c8ad05341010a60a397d9b 99796b13b4f866f1868d34f373bfa698", &w)
	hexOf(t, "d5cb8454d177733effffb2ec712baeab", &x)
	hexOf(t, "a6e8e7cc25a75f6e216583f7ff3dc4cf", &y)
	n1, n2 = x, y
	hexOf(t, "00561237 37bfce", &a1)
	hexOf(t, "00a713702dcfc1", &a2)
	hexOf(t, "12a3343bb453bb5408da42d20c2d0fc8", &r)
	hexOf(t, "010102", &caps)
	got := func(b []byte) string { return hex.EncodeToString(b) }
	c := f4(u, v, x, 0)
	if got(c[:]) != "f2c916f107a9bd1cf1eda1bea974872d" {
		t.Errorf("f4 = %x", c)
	}
	m, ltk := f5(w, n1, n2, a1, a2)
	if got(m[:]) != "2965f176a1084a02fd3f6a20ce636e20" || got(ltk[:]) != "6986791169d7cd23980522b594750a38" {
		t.Errorf("f5 = %x, %x", m, ltk)
	}
	mac = m
	e := f6(mac, n1, n2, r, caps, a1, a2)
	if got(e[:]) != "e3c473989cd0e8c5d26c0b09da958f61" {
		t.Errorf("f6 = %x", e)
	}
	if n := g2(u, v, x, y); n != 0x2f9ed5ba {
		t.Errorf("g2 = %08x", n)
	}
}
