package script_test

import (
	"bytes"
	"testing"

	"koala/spec/emv"
	"koala/spec/globalplatform"
	"koala/spec/iso7816"
	"koala/spec/purse"
	"koala/spec/tlv"
	"koala/tsm/script"
)

func FuzzSteps(f *testing.F) {
	f.Add(script.PackSteps(nil))
	f.Add(script.PackSteps([]script.Step{
		script.Sent("credit", iso7816.Select(purse.AIDTUnion), iso7816.OK, iso7816.SWSelectedBlocked),
		{Phase: "keys", Plain: iso7816.GetChallenge(8), Wire: []byte{1, 2}, Expect: []iso7816.SW{iso7816.OK}, Secret: []string{"isd.ENC"}},
	}))
	f.Fuzz(func(t *testing.T, in []byte) {
		steps, err := script.ParseSteps(in)
		if err != nil {
			return
		}
		if again := script.PackSteps(steps); !bytes.Equal(again, in) {
			t.Errorf("%X reads as %+v but writes %X", in, steps, again)
		}
	})
}

func FuzzAnswers(f *testing.F) {
	f.Add(script.PackAnswers(nil))
	f.Add(script.PackAnswers([][]byte{{0x90, 0}, {1, 2, 0x61, 3}}))
	f.Fuzz(func(t *testing.T, in []byte) {
		answers, err := script.ParseAnswers(in)
		if err != nil || len(in) == 0 {
			return
		}
		if again := script.PackAnswers(answers); !bytes.Equal(again, in) {
			t.Errorf("%X reads as %X but writes %X", in, answers, again)
		}
	})
}

// TestConceal takes a card number out of records, wherever it stands, and leaves
// lengths and everything else as they are.
func TestConceal(t *testing.T) {
	number := []byte{0x62, 0x88, 0x88, 0x06, 0x00, 0x00, 0x00, 0x12, 0x34, 0x5F}
	track := []byte{0x62, 0x88, 0x88, 0x06, 0x00, 0x00, 0x12, 0x34, 0xD2, 0x01, 0x22, 0x0F}
	record := tlv.Append(nil, emv.TagRecord, tlv.Append(tlv.Append(tlv.Append(nil, emv.TagPAN, number), emv.TagTrack2, track), emv.TagICCCert, []byte{1, 2, 3}))
	got := script.Conceal([]globalplatform.DGI{{ID: 0x0101, Data: record}, {ID: 0x9000, Data: []byte{1, 2, 3}}})
	pan, _ := tlv.Find(got[0].Data, emv.TagPAN)
	two, _ := tlv.Find(got[0].Data, emv.TagTrack2)
	cert, _ := tlv.Find(got[0].Data, emv.TagICCCert)
	if want := []byte{0x62, 0x88, 0x88, 0, 0, 0, 0, 0x02, 0x34, 0x5F}; !bytes.Equal(pan, want) {
		t.Errorf("number %X, want %X", pan, want)
	}
	if want := []byte{0x62, 0x88, 0x88, 0, 0, 0, 0x12, 0x34, 0xD2, 0x01, 0x22, 0x0F}; !bytes.Equal(two, want) {
		t.Errorf("track 2 %X, want %X", two, want)
	}
	if !bytes.Equal(cert, make([]byte, 3)) || !bytes.Equal(got[1].Data, []byte{1, 2, 3}) || bytes.Equal(record, got[0].Data) {
		t.Errorf("%X and %X", got[0].Data, got[1].Data)
	}
	steps := []script.Step{script.Sent("x", iso7816.ReadRecord(1, 2, 0)), script.Sent("x", iso7816.ReadRecord(0, 12, 0))}
	answers := [][]byte{append(bytes.Clone(record), 0x90, 0), append(bytes.Clone(record), 0x90, 0)}
	kept := script.ConcealAnswers(steps, answers)
	if bytes.Contains(kept[0], number[2:8]) || !bytes.Equal(kept[1], answers[1]) || !bytes.Contains(answers[0], number) {
		t.Error("of the records the first alone names the card")
	}
}
