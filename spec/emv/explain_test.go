package emv_test

import (
	"fmt"
	"strings"
	"testing"
	"unicode"

	"koala/spec/emv"
	"koala/spec/iso7816"
	"koala/spec/tlv"
)

// What a card dialogue shows has a Chinese name (CARD.md part 1).
func TestNames(t *testing.T) {
	for _, tag := range []tlv.Tag{
		0x4F, 0x50, 0x57, 0x5A, 0x61, 0x6F, 0x70, 0x71, 0x72, 0x77, 0x80, 0x82, 0x83, 0x84, 0x86, 0x87, 0x88, 0x8A, 0x8C, 0x8D, 0x8E, 0x8F,
		0x90, 0x91, 0x92, 0x93, 0x94, 0x95, 0x97, 0x98, 0x9A, 0x9B, 0x9C, 0xA5, 0x5F20, 0x5F24, 0x5F25, 0x5F28, 0x5F2A, 0x5F2D, 0x5F30, 0x5F34,
		0x9F02, 0x9F03, 0x9F07, 0x9F08, 0x9F09, 0x9F0D, 0x9F0E, 0x9F0F, 0x9F10, 0x9F11, 0x9F12, 0x9F13, 0x9F17, 0x9F1A, 0x9F1E, 0x9F21,
		0x9F26, 0x9F27, 0x9F2A, 0x9F32, 0x9F33, 0x9F34, 0x9F35, 0x9F36, 0x9F37, 0x9F38, 0x9F41, 0x9F42, 0x9F45, 0x9F46, 0x9F47, 0x9F48, 0x9F49,
		0x9F4A, 0x9F4B, 0x9F4C, 0x9F4D, 0x9F4E, 0x9F4F, 0x9F51, 0x9F52, 0x9F53, 0x9F54, 0x9F56, 0x9F57, 0x9F58, 0x9F59, 0x9F5C, 0x9F5D, 0x9F63,
		0x9F66, 0x9F68, 0x9F69, 0x9F6B, 0x9F6C, 0x9F6D, 0x9F72, 0x9F73, 0x9F74, 0x9F75, 0x9F76, 0x9F77, 0x9F78, 0x9F79, 0x9F7A, 0xBF0C,
		0xDF4D, 0xDF4F, 0xDF60, 0xDF61, 0xDF62, 0xDF63, 0xDF69, 0xDF71, 0xDF72, 0xDF76, 0xDF77, 0xDF78, 0xDF79,
	} {
		o, ok := emv.Lookup(tag, true)
		if !ok || !strings.ContainsFunc(o.ZH, func(r rune) bool { return unicode.Is(unicode.Han, r) }) || o.EN == "" || o.Tag != tag {
			t.Errorf("%v is %+v", tag, o)
		}
	}
	if o, _ := emv.Lookup(emv.TagECBalance, false); o.EN == "Electronic Cash Balance" {
		t.Error("another brand's tag has PBOC's meaning")
	}
	if _, ok := emv.Lookup(0xDF7E, true); ok {
		t.Error("an unknown tag is known")
	}
	if s := fmt.Sprint(emv.Binary, emv.Numeric, emv.Compressed, emv.Text, emv.List); s != "b n cn ans dol" {
		t.Error(s)
	}
}

func TestMeanings(t *testing.T) {
	for _, tt := range []struct{ object, value, en, zh string }{
		{"9F0206000000012345", "000000012345", "123.45", "123.45"},
		{"9F7906000000000007", "000000000007", "0.07", "0.07"},
		{"9F020600000001234A", "00000001234A", "", ""},
		{"9A03170601", "170601", "2017-06-01", "2017-06-01"},
		{"5F2403991231", "991231", "1999-12-31", "1999-12-31"},
		{"9A0317060A", "17060A", "", ""},
		{"9F2103160136", "160136", "16:01:36", "16:01:36"},
		{"9F36020240", "0240", "576", "576"},
		{"5F2A020156", "0156", "CNY", "人民币"},
		{"9F1A020156", "0156", "China", "中国"},
		{"9C0160", "60", "load from the holder's account", "指定账户圈存"},
		{"8A023030", "3030", "approved", "批准"},
		{"9F270180", "80", "ARQC: online authorisation requested", "ARQC：请求联机"},
		{"9F2701C8", "C8", "RFU", "保留"},
		{"82027D00", "7D00", "SDA supported; DDA supported; cardholder verification supported; terminal risk management to be performed; issuer authentication by EXTERNAL AUTHENTICATE; CDA supported", "支持静态数据认证；支持动态数据认证；支持持卡人验证；执行终端风险管理；支持发卡行认证；支持复合动态数据认证"},
		{"95050000000000", "0000000000", "none", "无"},
		{"9F0E050010000000", "0010000000", "service not allowed", "不允许请求的服务"},
		{"9F6604A6000080", "A6000080", "contactless magnetic stripe; quick contactless (qPBOC / qVSDC); online PIN; signature; fDDA version 01", "支持非接触磁条；支持 qPBOC；支持联机 PIN；支持签名；支持 fDDA 01 版本"},
		{"9F6C024000", "4000", "signature required", "需要签名"},
		{"9F3406", "", "", ""},
		{"9F34035E0302", "5E0302", "signature if the terminal supports it: successful", "终端支持时签名：成功"},
		{"8E0A00000064000000001F00", "00000064000000001F00", "X 100, Y 0; no verification always", "X 100，Y 0；总是无需验证"},
		{"8E0100", "00", "malformed", "格式错误"},
		{"940408010200", "08010200", "file 1 records 1 to 2, 0 signed", "文件 1 记录 1 至 2，0 条参与认证"},
		{"940108", "08", "malformed", "格式错误"},
		{"9F4D020B0A", "0B0A", "file 11, 10 records", "文件 11，10 条记录"},
		{"9F38069F0206DF7E01", "9F0206DF7E01", "9F02 Amount, Authorised (Numeric) (6), DF7E unknown (1)", "9F02 授权金额（6），DF7E 未知（1）"},
		{"9F38019F", "9F", "malformed", "格式错误"},
		{"9F4A0182", "82", "application interchange profile", "应用交互特征"},
		{"84035A5A5A", "5A5A5A", "ZZZ", "ZZZ"},
		{"9F2A0107", "07", "UnionPay", "银联"}, {"9F2A0177", "77", "", ""},
		{"9F210316013A", "16013A", "", ""}, {"9A021706", "1706", "", ""}, {"9F1300", "", "", ""}, {"9F2700", "", "", ""},
		{"9F34025E03", "5E03", "", ""}, {"9F4D010B", "0B", "", ""}, {"9F4A025A82", "5A82", "", ""}, {"9F0200", "", "", ""},
		{"9F34032A2A00", "2A2A00", "2A 2A: unknown", "2A2A：未知"},
		{"5F2002D2F8", "D2F8", "", ""},
		{"DF610182", "82", "full extended application; answers with a MAC", "支持扩展应用，返回 R-MAC"},
		{"5A0862109480000000115F340101", "621094••••0011", "", ""},
		{"57136210948000000011D301020100000123400000F0", "621094••••0011", "", ""},
		{"5A0412345678", "••••", "", ""},
		{"9F1F0131", "••••", "", ""},
	} {
		lines := emv.ExplainTLV(unhex(t, tt.object), true)
		if tt.object == "9F3406" { // ends inside
			if len(lines) != 1 || lines[0].Tag != 0 || lines[0].Value != "9F3406" {
				t.Errorf("%+v", lines)
			}
			continue
		}
		if l := lines[0]; l.Value != tt.value || l.Meaning != tt.en || l.MeaningZH != tt.zh {
			t.Errorf("%s is %q %q %q", tt.object, l.Value, l.Meaning, l.MeaningZH)
		}
	}
}

func TestTree(t *testing.T) {
	raw := unhex(t, "6F30840E325041592E5359532E4444463031A51EBF0C1B61194F08A000000333010101500A50424F43204445424954870101 0000 DF7E0101 FF")
	var tree []string
	for _, l := range emv.ExplainTLV(raw, true) {
		tree = append(tree, fmt.Sprintf("%d %v %v", l.Depth, l.Tag, l.Structured))
	}
	want := "0 6F true,1 84 false,1 A5 true,2 BF0C true,3 61 true,4 4F false,4 50 false,4 87 false,0 DF7E false,0 00 false"
	if got := strings.Join(tree, ","); got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	if l := emv.ShowTLV(unhex(t, "5A086210948000000011"), true)[0]; l.Secret || l.Value != "6210948000000011" {
		t.Errorf("asked to show: %+v", l)
	}
	if l := emv.ExplainTLV(unhex(t, "9F6B06000000100000"), true)[0]; l.Secret || l.Meaning != "1000.00" {
		t.Errorf("a limit of PBOC: %+v", l)
	}
	if l := emv.ExplainTLV(unhex(t, "9F6B136210948000000011D301020100000123400000F0"), false)[0]; !l.Secret {
		t.Errorf("a track of Mastercard: %+v", l)
	}
}

// Every dialogue of the published traces with payment applications is told, no
// PAN in any word of it.
func TestTracesAreTold(t *testing.T) {
	dialogues := 0
	for _, tr := range traces(t) {
		if strings.HasPrefix(tr.ID, "tunion") || strings.HasPrefix(tr.ID, "bmac") {
			continue
		}
		dialogues++
		pans := map[string]bool{}
		for _, x := range tr.Exchanges {
			_ = tlv.Walk(unhex(t, x.R), func(_ int, tag tlv.Tag, val []byte) error {
				if tag == emv.TagPAN || tag == emv.TagTrack2 {
					pan, _, _ := strings.Cut(fmt.Sprintf("%X", val), "D")
					pans[strings.TrimRight(pan, "F")] = true
				}
				return nil
			})
		}
		teller := &emv.Teller{PBOC: true}
		for _, x := range tr.Exchanges {
			c, err := iso7816.ParseCommand(unhex(t, x.C))
			if err != nil {
				continue // masked by the trace's author
			}
			r, err := iso7816.ParseResponse(unhex(t, x.R))
			if err != nil {
				t.Fatal(err)
			}
			e, ok := teller.Explain(c, r)
			if ok != (e.EN != "") || ok != (e.ZH != "") {
				t.Errorf("%s: %s told %v as %q", tr.ID, x.C, ok, e.EN)
			}
			if !ok && c.CLA == 0x00 && c.INS != iso7816.InsGetChallenge {
				t.Errorf("%s: %s is not told", tr.ID, x.C)
			}
			for _, f := range e.Fields {
				for pan := range pans {
					if len(pan) > 12 && strings.Contains(f.Value, pan) {
						t.Errorf("%s: %s shows the PAN", tr.ID, f.Name)
					}
				}
			}
		}
	}
	if dialogues != 12 {
		t.Errorf("%d dialogues", dialogues)
	}
}

func TestCommandsAreTold(t *testing.T) {
	ok := func(data string) iso7816.Response { return iso7816.Response{Data: unhex(t, data), SW: 0x9000} }
	for _, tt := range []struct {
		command string
		answer  iso7816.Response
		en      string
		fields  string // names and values that must be there, in order
	}{
		{"00A404000E325041592E5359532E444446303100", ok("6F10840E325041592E5359532E4444463031"), "SELECT contactless payment directory (PPSE)", "2PAY.SYS.DDF01"},
		{"00A4040008A00000033301010100", ok("6F1B8408A000000333010101A50F9F3803 9F3704 9F4902 9F02 500101"), "SELECT payment application", "AID A000000333010101"},
		{"80A8000006830401020304", iso7816.Response{SW: 0x6985}, "GET PROCESSING OPTIONS: 6985 ", "9F37 Unpredictable Number 01020304"},
		{"80A8000002830000", ok("80067C0008010100"), "GET PROCESSING OPTIONS", "file 1 records 1 to 1"},
		{"00B2010C00", ok("70055A0362280F"), "READ RECORD 1 of file 1", "••••"},
		{"80CA9F7900", ok("9F7906000000005000"), "GET DATA: Electronic Cash Balance", "50.00"},
		{"80AE9000020102", ok("800B 40 0240 0102030405060708"), "GENERATE AC, terminal asks ARQC: online authorisation requested, signed (CDA)", "0102"},
		{"008800000401020304", ok("8003010203"), "INTERNAL AUTHENTICATE", "9F4B Signed Dynamic Application Data 010203"},
		{"008200000A01020304050607083031", iso7816.Response{SW: 0x6300}, "EXTERNAL AUTHENTICATE: the issuer's answer: 6300 authentication failed", "refer to issuer"},
		{"0020008008241234FFFFFFFFFF", iso7816.Response{SW: 0x63C2}, "VERIFY plaintext PIN: 63C2 ", "tries left 2"},
		{"0020008804 01020304", iso7816.Response{SW: 0x9000}, "VERIFY enciphered PIN", "••••"},
		{"04DA9F790A000000005000AE268094", iso7816.Response{SW: 0x9000}, "PUT DATA (issuer script): Electronic Cash Balance", "50.00"},
		{"841E00000442CA0591", iso7816.Response{SW: 0x9000}, "APPLICATION BLOCK (issuer script)", "42CA0591"},
		{"84240002101122334455667788AABBCCDD42CA0591", iso7816.Response{SW: 0x9000}, "PIN CHANGE/UNBLOCK (issuer script)", "content ••••"},
	} {
		c, err := iso7816.ParseCommand(unhex(t, tt.command))
		if err != nil {
			t.Fatal(tt.command, err)
		}
		teller := &emv.Teller{PBOC: true}
		if c.INS == emv.InsGPO { // it knows the PDOL from SELECT
			s, _ := iso7816.ParseCommand(unhex(t, "00A4040008A00000033301010100"))
			teller.Explain(s, ok("6F1A8408A000000333010101A50E9F38039F37049F49029F02500101"))
		}
		e, told := teller.Explain(c, tt.answer)
		var fields []string
		for _, f := range e.Fields {
			fields = append(fields, f.Name+" "+f.Value)
		}
		if !told || !strings.HasPrefix(e.EN, tt.en) || !strings.Contains(strings.Join(fields, "\n"), tt.fields) {
			t.Errorf("%s: %v %q\n%s", tt.command, told, e.EN, strings.Join(fields, "\n"))
		}
		if strings.Contains(strings.Join(fields, ""), "241234") || strings.Contains(strings.Join(fields, ""), "1122334455667788") {
			t.Errorf("%s shows a PIN", tt.command)
		}
		if one, told := emv.Explain(c, tt.answer); !told || one.EN != e.EN {
			t.Errorf("%s alone: %q", tt.command, one.EN)
		}
	}
	for _, other := range []string{"00A40000021001", "80CA9F7F00", "80CA006600", "00B201 0800", "805C000204", "80240000", "00DA9F7900", "8450000000"} {
		c, err := iso7816.ParseCommand(unhex(t, other))
		if err != nil {
			t.Fatal(other, err)
		}
		if e, told := emv.Explain(c, iso7816.Response{SW: 0x9000}); told {
			t.Errorf("%s told as %q", other, e.EN)
		}
	}
}

func FuzzExplain(f *testing.F) {
	f.Add(unhex(f, "00A4040008A00000033301010100"), unhex(f, "6F1A8408A000000333010101A50E9F38039F37049F49029F025001019000"))
	f.Add(unhex(f, "80AE9000020102"), unhex(f, "800B40024001020304050607089000"))
	f.Add(unhex(f, "00B2010C00"), unhex(f, "70055A0362280F9000"))
	f.Fuzz(func(t *testing.T, command, answer []byte) {
		for _, pboc := range []bool{true, false} {
			emv.ShowTLV(answer, pboc)
			for _, l := range emv.ExplainTLV(answer, pboc) {
				if l.EN == "" || l.ZH == "" {
					t.Errorf("%v has no name", l.Tag)
				}
			}
		}
		c, err := iso7816.ParseCommand(command)
		if err != nil {
			return
		}
		r, err := iso7816.ParseResponse(answer)
		if err != nil {
			return
		}
		teller := &emv.Teller{}
		for range 2 {
			if e, ok := teller.Explain(c, r); ok != (e.EN != "") {
				t.Errorf("%X told %v as %q", command, ok, e.EN)
			}
		}
	})
}
