package iso8583

import (
	"bytes"
	"errors"
	"testing"
)

func key(t testing.TB, s string) *Key {
	t.Helper()
	k, err := NewKey(unhex(t, s))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestMACVectors(t *testing.T) {
	now := hexOf("Now is the time for all ")
	for _, tt := range []struct {
		name string
		a    Algorithm
		key  string
		data string
		want string
	}{
		// solo123/pgate test/integration/pos_mac_test.rb: the steps of the algorithm
		// in its comment, MAC E267B6E2.
		{"pgate", ECB, "2222222222222222", "1234567890ABCDEFABCDEF1234567890", "E267B6E21913D339"},
		// FIPS PUB 113, appendix: X9.9 over 7654321 Now is the time for .
		{"FIPS 113", X99, "0123456789ABCDEF", hexOf("7654321 Now is the time for "), "F1D30F6849312CA4"},
		// ISO/IEC 9797-1, annex: algorithms 1 and 3 with padding method 1.
		{"ISO 9797-1 algorithm 1", X99, "0123456789ABCDEF", now, "70A30640CC76DD8B"},
		{"ISO 9797-1 algorithm 1, X9.19 with a short key", X919, "0123456789ABCDEF", now, "70A30640CC76DD8B"},
		{"ISO 9797-1 algorithm 3", X919, "0123456789ABCDEFFEDCBA9876543210", now, "A1C72E74EA3FA9B6"},
		// Own: a key of two equal halves is single DES in all of them.
		{"equal halves, ECB", ECB, "22222222222222222222222222222222", "1234567890ABCDEFABCDEF1234567890", "E267B6E21913D339"},
		{"equal halves, X9.19", X919, "0123456789ABCDEF0123456789ABCDEF", now, "70A30640CC76DD8B"},
		{"equal halves, CBC", CBC, "0123456789ABCDEF0123456789ABCDEF", now, "70A30640CC76DD8B"},
		{"filled with 00", ECB, "2222222222222222", "1234567890ABCDEFABCDEF12345678900000", "E267B6E21913D339"},
	} {
		if got := key(t, tt.key).MAC(tt.a, unhex(t, tt.data)); !bytes.Equal(got[:], unhex(t, tt.want)) {
			t.Errorf("%s: %X, want %s", tt.name, got, tt.want)
		}
	}
	if _, err := NewKey(make([]byte, 24)); err != ErrKey {
		t.Errorf("a key of 24 bytes: %v", err)
	}
	for name := range algorithmNames {
		if a, ok := AlgorithmNamed(name); !ok || a.String() != name {
			t.Errorf("%s is called %v", name, a)
		}
	}
}

// TestMACOfADemonstration follows the blocks that a published demonstration of
// the algorithm lists (blog.csdn.net 80005341: message, key, first sums).
func TestMACOfADemonstration(t *testing.T) {
	body := unhex(t, "0200302004C020C0981100000000000000005100183402100006324392260009942820D1312101120084393136363838303134303030303030303030303030303031313536ACF46E73838A82F92600000000000000000822000001")
	var m Message
	in := append(unhex(t, posHead), append(bytes.Clone(body), "00000000"...)...)
	if err := m.Unpack(UnionPayPOS(), in); err != nil {
		t.Fatal(err)
	}
	k := key(t, "C24A8FB57AA20123")
	sealed, err := m.Seal(nil, k)
	if err != nil {
		t.Fatal(err)
	}
	full := k.MAC(ECB, body)
	if want := hexOf(string(full[:4])); string(sealed[len(sealed)-8:]) != want {
		t.Errorf("sealed with %s, want %s", sealed[len(sealed)-8:], want)
	}
	if !bytes.Equal(sealed[:len(sealed)-8], in[:len(in)-8]) {
		t.Error("sealing changed the message")
	}
	if err := m.Unpack(UnionPayPOS(), sealed); err != nil || m.Verify(k) != nil {
		t.Errorf("%v, %v", err, m.Verify(k))
	}
}

func TestSealAndVerify(t *testing.T) {
	k, other := key(t, "0123456789ABCDEFFEDCBA9876543210"), key(t, "1123456789ABCDEFFEDCBA9876543210")
	for _, s := range Specs() {
		var m Message
		m.Reset(s, "0200")
		if s.Head == POSHead {
			m.SetHead(unhex(t, posHead))
		}
		m.SetText(2, "6224242000000021")
		m.SetText(3, "000000")
		m.SetText(4, "10000")
		m.SetText(11, "12")
		m.SetText(41, "12345678")
		if s.Head == InterchangeHead {
			m.SetText(100, "03050001")
		}
		sealed, err := m.Seal(nil, k)
		if err != nil {
			t.Fatalf("%s: %v", s.Name, err)
		}
		var again Message
		if err := again.Unpack(s, sealed); err != nil {
			t.Fatal(err)
		}
		if err := again.Verify(k); err != nil {
			t.Errorf("%s: %v", s.Name, err)
		}
		if err := again.Verify(other); err != ErrMAC {
			t.Errorf("%s under another key: %v", s.Name, err)
		}
		for i := len(again.Head()); i < len(sealed); i++ {
			torn := bytes.Clone(sealed)
			torn[i] ^= 1
			if again.Unpack(s, torn) == nil && again.Verify(k) == nil && !s.MAC.Chosen {
				t.Errorf("%s: byte %d may change", s.Name, i)
			}
		}
		_ = again.Unpack(s, sealed)
		again.Delete(again.MACField())
		if err := again.Verify(k); err != ErrNoMAC {
			t.Errorf("%s without the field: %v", s.Name, err)
		}
	}
}

// TestInterchangeCoversChosenFields: own vector, the text by the rule and the
// MAC over it by X9.9. The sets of fields are those that five public
// implementations have in common.
func TestInterchangeCoversChosenFields(t *testing.T) {
	var m Message
	m.Reset(UnionPayInterchange(), "0200")
	for n, v := range map[int]string{2: "6224242000000021", 3: "000000", 4: "000000010000", 7: "0511234203", 11: "000012", 12: "234203", 32: "92010000",
		41: "a1  b-2 ", 42: "123456789012345", 43: "not covered", 52: "12345678"} {
		m.SetText(n, v)
	}
	k := key(t, "0123456789ABCDEF")
	sealed, err := m.Seal(nil, k)
	if err != nil {
		t.Fatal(err)
	}
	const text = "0200 166224242000000021 000000 000000010000 0511234203 000012 0892010000 A1 B2 123456789012345"
	if got := string(m.covered(sealed, m.Spec().MAC, nil)); got != text {
		t.Errorf("covers %q, want %q", got, text)
	}
	mac := k.MAC(X99, []byte(text))
	if want := hexOf(string(mac[:4])); string(sealed[len(sealed)-8:]) != want {
		t.Errorf("sealed with %q, want %q", sealed[len(sealed)-8:], want)
	}
}

func TestInterchangeKindsOfMessages(t *testing.T) {
	for _, tt := range []struct {
		mti    string
		fields map[int]string
		want   string
	}{
		{"0420", map[int]string{4: "1", 90: "020000001205112342030009201000000092010000"[:42], 102: "6231039919010928233"},
			"0420 000000000001 02000000120511234203 196231039919010928233"},
		{"0800", map[int]string{7: "0511234203", 11: "1", 33: "92010000", 53: "2600000000000000", 70: "101", 100: "03050001"},
			"0800 0511234203 000001 2600000000000000 101 0803050001"},
		{"0520", map[int]string{7: "0511234203", 11: "1", 39: "00", 66: "1", 97: "C0000000000000001"}, "0520 0511234203 000001 1 C0000000000000001"},
		{"0200", map[int]string{38: " - ", 41: "-  a -  "}, "0200 A"},
	} {
		var m Message
		m.Reset(UnionPayInterchange(), tt.mti)
		for n, v := range tt.fields {
			m.SetText(n, v)
		}
		sealed, err := m.Seal(nil, key(t, "0123456789ABCDEF"))
		if got := string(m.covered(sealed, m.Spec().MAC, nil)); err != nil || got != tt.want {
			t.Errorf("%s covers %q, %v, want %q", tt.mti, got, err, tt.want)
		}
	}
}

func TestSealRefuses(t *testing.T) {
	var m Message
	m.Reset(ISO87ASCII(), "0200")
	m.SetText(4, "x")
	if out, err := m.Seal([]byte{1}, key(t, "0123456789ABCDEF")); !errors.Is(err, ErrDigits) || len(out) != 1 {
		t.Errorf("%v", err)
	}
	m.Reset(UnionPayPOS(), "0200")
	m.SetHead(unhex(t, posHead))
	m.SetText(90, "1")
	if _, err := m.Seal(nil, key(t, "0123456789ABCDEF")); err == nil {
		t.Error("a field behind the MAC was sealed")
	}
}
