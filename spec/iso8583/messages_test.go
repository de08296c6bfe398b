package iso8583

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"os"
	"strconv"
	"strings"
	"testing"
)

// A published is one message of testdata/messages.json.
type published struct {
	ID, Spec, Hex, MTI, Bitmap, TPDU, Header string
	Length                                   int
	Fields                                   map[string]any
	Decoded                                  struct {
		MTI    string
		Fields map[string]string
		Binary map[string]string `json:"binary_fields"`
	}
}

// dialectOf are the names that the messages' source uses.
func dialectOf(t testing.TB, name string) *Spec {
	t.Helper()
	switch {
	case strings.HasPrefix(name, "unionpay-pos"):
		return UnionPayPOS()
	case strings.HasPrefix(name, "unionpay-interchange"):
		return UnionPayInterchange()
	case strings.HasPrefix(name, "visa-basei"):
		return ISO87ASCIIBoth()
	}
	t.Fatalf("no dialect for %q", name)
	return nil
}

func messages(t testing.TB) []published {
	t.Helper()
	text, err := os.ReadFile("testdata/messages.json")
	if err != nil {
		t.Fatal(err)
	}
	var all []published
	if err := json.Unmarshal(text, &all); err != nil {
		t.Fatal(err)
	}
	if len(all) != 20 {
		t.Fatalf("%d messages, want 20", len(all))
	}
	return all
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestPublishedMessagesRoundTrip(t *testing.T) {
	for _, p := range messages(t) {
		t.Run(p.ID, func(t *testing.T) {
			whole := unhex(t, p.Hex)
			if strings.HasSuffix(p.Spec, "header-46") {
				checkHeader(t, whole, p.Fields)
				return
			}
			in, framed := Unframe(whole)
			if framed != (p.Length > 0) || framed && len(in) != p.Length {
				t.Fatalf("framed %v with %d bytes, want %d", framed, len(in), p.Length)
			}
			var m Message
			if err := m.Unpack(dialectOf(t, p.Spec), in); err != nil {
				t.Fatal(err)
			}
			out, err := m.AppendTo(nil)
			if err != nil || !bytes.Equal(out, in) {
				t.Fatalf("writes %X, %v, want %X", out, err, in)
			}
			checkFields(t, &m, p)
			rebuild(t, &m, in)
		})
	}
}

// checkFields compares with what the source decoded.
func checkFields(t *testing.T, m *Message, p published) {
	t.Helper()
	mti, want := p.MTI, map[string]string{}
	for n, v := range p.Fields {
		want[n] = v.(string)
	}
	if p.Decoded.MTI != "" {
		mti, want = p.Decoded.MTI, p.Decoded.Fields
	}
	if m.MTI() != mti {
		t.Errorf("type %s, want %s", m.MTI(), mti)
	}
	if p.TPDU != "" {
		if got := hex.EncodeToString(m.Head()); got != p.TPDU+p.Header {
			t.Errorf("header %s, want %s%s", got, p.TPDU, p.Header)
		}
	}
	d := Describe(m, Options{Clear: true})
	seen := 0
	for _, l := range d.Lines {
		text, ok := want[strconv.Itoa(l.Field)]
		if l.Depth > 0 || l.Field == 55 && p.Decoded.Binary != nil {
			continue
		}
		seen++
		if f, _ := m.Spec().Field(l.Field); ok && f.Class == Binary {
			text = strings.TrimPrefix(text, "hex:")
		}
		if !ok || l.Value != text {
			t.Errorf("field %d reads %q, want %q (listed: %v)", l.Field, l.Value, text, ok)
		}
	}
	if seen != len(want) {
		t.Errorf("%d fields, want %d", seen, len(want))
	}
	chip := map[string]string{}
	for i, l := range d.Lines {
		if l.Field == 55 && l.Depth > 0 {
			if l.Value == "" && i+1 < len(d.Lines) && d.Lines[i+1].Key == "" {
				l.Value = d.Lines[i+1].Value // script templates 71 and 72, filled with what is no object
			}
			chip["55."+l.Key] = l.Value
		}
	}
	for tag, v := range p.Decoded.Binary {
		if chip[tag] != v {
			t.Errorf("object %s reads %q, want %q", tag, chip[tag], v)
		}
	}
}

// rebuild sets every value anew, as a sender would, and wants the same bytes.
func rebuild(t *testing.T, m *Message, want []byte) {
	t.Helper()
	var again Message
	again.Reset(m.Spec(), m.MTI())
	again.SetHead(m.Head())
	for n, v := range m.Fields() {
		again.SetText(n, string(v))
	}
	out, err := again.AppendTo(nil)
	if err != nil || !bytes.Equal(out, want) {
		t.Errorf("built anew it is %X, %v, want %X", out, err, want)
	}
}

func checkHeader(t *testing.T, whole []byte, want map[string]any) {
	t.Helper()
	h, err := ParseInterchangeHeader(whole)
	if err != nil {
		t.Fatal(err)
	}
	if out := h.AppendTo(nil); !bytes.Equal(out, whole) {
		t.Errorf("writes %X, want %X", out, whole)
	}
	got := map[string]string{
		"flag_version": hex.EncodeToString([]byte{h.Version}), "total_length": "0" + strconv.Itoa(h.Total), "destination_id": string(h.Destination[:]),
		"source_id": string(h.Source[:]), "reserved": hex.EncodeToString(h.Reserved[:]), "batch": hex.EncodeToString([]byte{h.Batch}),
		"transaction_info": string(h.Transaction[:]), "user_info": hex.EncodeToString([]byte{h.User}), "reject_code": string(h.Reject[:]),
	}
	for name, v := range got {
		if alt, ok := want[name].(string); !ok || alt != v && alt != strings.Trim(v, "'") {
			t.Errorf("%s is %q, want %v", name, v, want[name])
		}
	}
	swapped := h.Answer()
	if swapped.Destination != h.Source || swapped.Source != h.Destination {
		t.Error("the answer's header is not turned round")
	}
}
