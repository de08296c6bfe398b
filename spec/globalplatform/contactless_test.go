package globalplatform

import (
	"bytes"
	"fmt"
	"reflect"
	"testing"

	"koala/spec/iso7816"
	"koala/spec/tlv"
	"pgregory.net/rapid"
)

// Answers as the test suite of a public GlobalPlatform client has them.
func TestContactlessAnswers(t *testing.T) {
	list, err := ParseContactlessStatus(unhex(t, "610C4F05D2450077009F70020701 610C4F05A0000001519F70020700"))
	if err != nil || len(list) != 2 || list[0].Availability != Activated || list[1].Availability != Deactivated || list[0].State != Selectable {
		t.Errorf("%+v %v", list, err)
	}
	for _, s := range []string{"A5099F0802010080020005", "6F1684 09A00000015143525300 A5099F0802010080020005"} {
		if i, err := ParseRegistryInfo(unhex(t, s)); err != nil || i.Version != [2]byte{1, 0} || i.Counter != 5 {
			t.Errorf("%s: %+v %v", s, i, err)
		}
	}
	failed, conflicts, err := ParseFailures(unhex(t, "A10E4F05D2450077004F05A000000151"))
	if err != nil || len(failed) != 2 || failed[0] != "\xD2\x45\x00\x77\x00" || conflicts != nil {
		t.Errorf("%v %v %v", failed, conflicts, err)
	}
}

// Commands as phone wallets and that client send them.
func TestContactlessCommands(t *testing.T) {
	for _, tt := range []struct {
		c    iso7816.Command
		want string
	}{
		{ContactlessQuery{}.Command(), "80F24000024F0000"},
		{ContactlessQuery{Tags: []tlv.Tag{0x4F, 0x9F70}}.Command(), "80F24000074F005C034F9F7000"},
		{ContactlessQuery{Next: true, Tags: []tlv.Tag{0x4F, 0x9F70}}.Command(), "80F24001074F005C034F9F7000"},
		{ContactlessQuery{Tags: []tlv.Tag{0x4F, 0x9F70, 0xA4}}.Command(), "80F24000084F005C044F9F70A400"},
		{ContactlessSet{Activate, []AID{"\xA0\x00\x00\x00\x03\x14"}}.Command(), "80F00101084F06A0000000031400"},
		{ContactlessSet{MakeDefaults, []AID{"\xA0\x00\x00\x00\x04\x10\x10\xAA\x03\x00\x02"}}.Command(), "80F002020D4F0BA0000000041010AA03000200"},
		{ContactlessSet{Change: ForgetOrder}.Command(), "80F0020000"},
	} {
		if got := fmt.Sprintf("%X", tt.c.Bytes()); got != tt.want {
			t.Errorf("%s, want %s", got, tt.want)
		}
	}
}

func TestContactlessMatch(t *testing.T) {
	e := ContactlessEntry{AID: inst, State: Selectable, Availability: Activated, Family: []byte{0, 0x20}, Display: []byte{1}}
	for _, tt := range []struct {
		q    ContactlessQuery
		want bool
	}{
		{ContactlessQuery{}, true}, {ContactlessQuery{Prefix: inst[:5]}, true}, {ContactlessQuery{Prefix: inst + "\x00"}, false},
		{ContactlessQuery{Criterion: 0x9F70, Value: []byte{1}}, true}, {ContactlessQuery{Criterion: 0x9F70, Value: []byte{0}}, false},
		{ContactlessQuery{Criterion: 0x9F70, Value: []byte{7, 1}}, true}, {ContactlessQuery{Criterion: 0x9F70, Value: []byte{3, 1}}, false},
		{ContactlessQuery{Criterion: TagFamily, Value: []byte{0, 0x20}}, true}, {ContactlessQuery{Criterion: TagFamily, Value: []byte{0x20}}, false},
		{ContactlessQuery{Criterion: TagDisplay, Value: []byte{0}}, false},
	} {
		if got := tt.q.Matches(e); got != tt.want {
			t.Errorf("%+v: %v", tt.q, got)
		}
	}
}

// Entries and parameters code and read back; what public tools send for "start
// activated" reads as that.
func TestContactlessRoundTrip(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		some := func(name string) []byte { return rapid.SliceOfN(rapid.Byte(), 1, 4).Draw(rt, name) }
		e := ContactlessEntry{AID: inst, State: rapid.Byte().Draw(rt, "state"), Availability: rapid.Byte().Draw(rt, "on"),
			Counter: rapid.Uint16().Draw(rt, "n"), Rank: rapid.Byte().Draw(rt, "rank"), Family: some("family"), Display: some("display"), Interaction: some("shown")}
		out, ok := e.Append(nil, nil)
		list, err := ParseContactlessStatus(out)
		if !ok || err != nil || len(list) != 1 || !reflect.DeepEqual(list[0], e) {
			rt.Fatalf("%+v is %X reads %+v %v", e, out, list, err)
		}
		quota := rapid.OneOf(rapid.Uint32Max(0xFFFF), rapid.Uint32())
		p := SystemParams{Code: quota.Draw(rt, "C6"), Volatile: quota.Draw(rt, "C7"), NonVolatile: quota.Draw(rt, "C8"),
			GrantedVolatile: quota.Draw(rt, "82"), Granted: quota.Draw(rt, "83"), Implicit: some("implicit")}
		if rapid.Bool().Draw(rt, "contactless") {
			p.Contactless = &ContactlessParams{Initial: rapid.SampledFrom([]byte{0, 1, 0x80}).Draw(rt, "initial"), Group: rapid.Byte().Draw(rt, "group"),
				Family: rapid.Byte().Draw(rt, "AFI"), NeedsDisplay: rapid.Bool().Draw(rt, "screen"), Interaction: tlv.Append(nil, 0x5F50, some("uri"))}
		}
		got, err := Install{Params: p.Append([]byte{0xC9, 0})}.System()
		if err != nil || !reflect.DeepEqual(got, p) {
			rt.Fatalf("%+v reads %+v %v", p, got, err)
		}
	})
	for s, want := range map[string]byte{"C900EF0AA008810101A5038201C0": 1, "C900EF0FA008810100A5038201C0A103880101": 0, "EF07A005A5038201C0": 1} {
		p, err := Install{Params: unhex(t, s)}.System()
		if err != nil || p.Contactless == nil || p.Contactless.Initial != want {
			t.Errorf("%s: %+v %v", s, p.Contactless, err)
		}
	}
	for _, s := range []string{"EF03C80101", "EF05A003810102", "EF04A0029F08", "EF02C8"} {
		if _, err := (Install{Params: unhex(t, s)}).System(); err == nil {
			t.Errorf("%s reads", s)
		}
	}
	var buf bytes.Buffer
	if _, ok := (ContactlessEntry{AID: inst}).Append(buf.Bytes(), []tlv.Tag{TagFamily}); ok {
		t.Error("an entry of nothing")
	}
}

// FuzzContactless: any bytes; what reads writes something that reads the same.
func FuzzContactless(f *testing.F) {
	for _, s := range []string{"80F24000074F005C034F9F70", "80F00101084F06A00000000314", "80F24000064F009F700101", "610C4F05D2450077009F70020701", "A1074F05D245007700", "EF0AA008810101A5038201C0", "080102030405060708020001020102"} {
		f.Add(unhex(f, s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		if c, err := iso7816.ParseCommand(raw); err == nil {
			if q, err := ParseContactlessQuery(c); err == nil {
				if w, err := ParseContactlessQuery(q.Command()); err != nil || fmt.Sprint(w) != fmt.Sprint(q) {
					t.Errorf("%X: %v and %v %v", raw, q, w, err)
				}
			}
			if s, err := ParseContactlessSet(c); err == nil {
				if w, err := ParseContactlessSet(s.Command()); err != nil || fmt.Sprint(w) != fmt.Sprint(s) {
					t.Errorf("%X: %v and %v %v", raw, s, w, err)
				}
			}
			_, _, _ = TokenData(c)
		}
		_, _ = ParseContactlessStatus(raw)
		_, _ = ParseRegistryInfo(raw)
		if failed, conflicts, err := ParseFailures(raw); err == nil && failed != nil {
			if a, b, err := ParseFailures(Failures(failed, conflicts)); err != nil || fmt.Sprint(a, b) != fmt.Sprint(failed, conflicts) {
				t.Errorf("%X: %v %v", raw, failed, conflicts)
			}
		}
		if c, err := ParseConfirmation(raw); err == nil && len(raw) > 1 && !bytes.Equal(c.Bytes(), raw) {
			t.Errorf("%X writes %X", raw, c.Bytes())
		}
		if p, err := (Install{Params: raw}).System(); err == nil {
			if w, err := (Install{Params: p.Append(nil)}).System(); err != nil || !reflect.DeepEqual(w, p) {
				t.Errorf("%X: %+v and %+v %v", raw, p, w, err)
			}
		}
	})
}
