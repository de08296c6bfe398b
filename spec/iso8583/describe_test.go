package iso8583

import (
	"fmt"
	"strings"
	"testing"
)

func described(t testing.TB, id string, o Options) Description {
	t.Helper()
	for _, p := range messages(t) {
		if p.ID == id {
			in, _ := Unframe(unhex(t, p.Hex))
			var m Message
			if err := m.Unpack(dialectOf(t, p.Spec), in); err != nil {
				t.Fatal(err)
			}
			return Describe(&m, o)
		}
	}
	t.Fatalf("no message %s", id)
	return Description{}
}

// line finds a line by its key.
func (d Description) line(key string) Line {
	for _, l := range d.Lines {
		if l.Key == key {
			return l
		}
	}
	return Line{}
}

func TestDescribe(t *testing.T) {
	for _, tt := range []struct{ id, key, value, en, zh string }{
		{"pos-pay-request", "2", "622424******0069", "", ""},
		{"pos-pay-request", "3", "000000", "sale", "消费"},
		{"pos-pay-request", "4", "000000001111", "11.11 CNY", "11.11 CNY"},
		{"pos-pay-request", "12", "141554", "14:15:54", "14:15:54"},
		{"pos-pay-request", "13", "0824", "08-24", "08-24"},
		{"pos-pay-request", "14", "2903", "2029-03", "2029-03"},
		{"pos-pay-request", "22", "071", "contactless chip, with PIN", "非接触芯片，带密码"},
		{"pos-pay-request", "25", "00", "normal presentment", "正常提交"},
		{"pos-pay-request", "49", "156", "CNY", "人民币"},
		{"pos-pay-request", "52", "****", "", ""},
		{"pos-pay-request", "53.1", "2", "PIN block with card number", "带主账号的密码块"},
		{"pos-pay-request", "60.1", "22", "sale", "消费"},
		{"pos-pay-request", "60.2", "000727", "", ""},
		{"pos-pay-request", "9F02", "000000001111", "11.11", "11.11"},
		{"pos-pay-request", "64", "3833353932373435", "83592745", "83592745"},
		{"pos-signin-response", "39", "00", "approved", "交易成功"},
		{"pos-signin-response", "56", "成功", "", ""},
		{"pos-signin-response", "62", "****", "", ""},
		{"pos-signon-a", "62", "53657175656E6365204E6F3136333135305358582D3443333034313139", "Sequence No163150SXX-4C304119", "Sequence No163150SXX-4C304119"},
		{"pos-signon-a", "60.3", "003", "sign on: double DES", "签到（双倍长）"},
		{"cups-test03", "35", "622601******5479D****", "", ""},
		{"cups-test03", "3", "300000", "balance inquiry", "余额查询"},
		{"cups-test10", "43", "中国银联CHINA UNIONPAY SIMULATOR        ", "", ""},
		{"cupd-test02", "104", "****", "", ""},
		{"cupd-test02", "102", "623103*********8233", "", ""},
		{"cupd-test05", "39", "57", "transaction not permitted to the cardholder", "不允许持卡人进行的交易"},
		{"basei-0420-reversal-advice", "90.2", "223344", "", ""},
		{"basei-0420-reversal-advice", "49", "840", "USD", "美元"},
		{"basei-0420-reversal-advice", "4", "000000012345", "123.45 USD", "123.45 USD"},
		{"basei-0100-auth-request", "4", "000000005000", "5000 JPY", "5000 JPY"},
		{"basei-0810-network-echo-response", "70", "301", "echo test", "回响测试"},
	} {
		l := described(t, tt.id, Options{}).line(tt.key)
		if l.Value != tt.value || l.Meaning != tt.en || !strings.HasPrefix(l.MeaningZH, tt.zh) {
			t.Errorf("%s %s: %q %q %q, want %q %q %q", tt.id, tt.key, l.Value, l.Meaning, l.MeaningZH, tt.value, tt.en, tt.zh)
		}
	}
	d := described(t, "pos-pay-request", Options{Clear: true})
	if d.TPDU != "6000030000" || d.Head != "603100310100" || d.EN != "financial request" || d.ZH != "金融请求" || d.line("2").Value != "6224242300000069" {
		t.Errorf("%+v", d)
	}
}

// TestNothingSecretIsShown looks for card numbers and tracks in everything that
// the masked descriptions of the published messages say.
func TestNothingSecretIsShown(t *testing.T) {
	for _, p := range messages(t) {
		if strings.HasSuffix(p.Spec, "header-46") {
			continue
		}
		said := fmt.Sprintf("%+v", described(t, p.ID, Options{}).Lines)
		clear := described(t, p.ID, Options{Clear: true})
		for _, l := range clear.Lines {
			f, _ := clear.Spec.Field(l.Field)
			secret := f.Secrecy != Open && f.Secrecy != SecretBatch && f.Secrecy != SecretKeys
			if secret && l.Depth == 0 && len(l.Value) > 10 && strings.Contains(said, l.Value) {
				t.Errorf("%s: field %d is shown", p.ID, l.Field)
			}
		}
	}
}

func TestSecretsInChipDataAndUploads(t *testing.T) {
	var m Message
	m.Reset(UnionPayPOS(), "0320")
	m.SetHead(unhex(t, posHead))
	m.SetText(48, "02"+"22"+"000079"+"00006224242300000069"+"000000001111"+"36"+"000080"+"00006224242300000069"+"000000000500")
	m.SetText(60, "00000727201")
	m.Set(55, unhex(t, "5A086224242300000069 9F0206000000001111 700C57 0A6224242300000069D290 00"))
	out, err := m.AppendTo(nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Unpack(UnionPayPOS(), out); err != nil {
		t.Fatal(err)
	}
	d := Describe(&m, Options{})
	if said := fmt.Sprintf("%+v", d.Lines); strings.Contains(said, "6224242300000069") {
		t.Error(said)
	}
	if got, want := d.line("55").Value, "5A08XXXXXXXXXXXXXXXX9F0206000000001111700C570AXXXXXXXXXXXXXXXXXXXX"; !strings.HasPrefix(got, want) {
		t.Errorf("chip data is shown as %s, want %s", got, want)
	}
	if l := d.line("48.3"); l.Value == "" || strings.Contains(l.Value, "00000069") {
		t.Errorf("%+v", d.line("48.3"))
	}
	clear := Describe(&m, Options{Clear: true})
	if clear.line("48").Value != m.Text(48) || clear.line("5A").Value != "6224242300000069" {
		t.Error("clear is masked")
	}
}

func TestSignOnKeys(t *testing.T) {
	var m Message
	m.Reset(UnionPayPOS(), "0810")
	m.SetHead(unhex(t, posHead))
	m.SetText(39, "00")
	m.SetText(60, "00000727003")
	m.Set(62, unhex(t, strings.Repeat("11", 16)+"AABBCCDD"+strings.Repeat("22", 16)+"01020304"))
	d := Describe(&m, Options{})
	if l := d.line("62.2"); l.Value != "****" || l.Meaning != "check value 01020304" || l.EN != "MAC key" || d.line("62").Value != "****" {
		t.Errorf("%+v", l)
	}
	if l := Describe(&m, Options{Clear: true}).line("62.1"); l.Value != strings.Repeat("11", 16) {
		t.Errorf("%+v", l)
	}
	m.SetText(60, "00000727370")
	if l := Describe(&m, Options{}).line("62"); l.Secret {
		t.Error("a download is masked")
	}
}

func TestSettlementTotals(t *testing.T) {
	var m Message
	m.Reset(UnionPayPOS(), "0500")
	m.SetText(48, "000000012345"+"003"+"000000000100"+"001"+"1"+strings.Repeat("0", 31))
	d := Describe(&m, Options{})
	if d.EN != "reconciliation request" || d.line("48.1").Meaning != "123.45" || d.line("48.5").Meaning != "balanced" || d.line("48.10").Value != "0" {
		t.Errorf("%+v", d.Lines)
	}
}

func TestDescribeHead(t *testing.T) {
	for _, tt := range []struct {
		head  string
		lines int
		first string
	}{
		{posHead, 6, "0003"}, {head46("0407"), 9, "02"}, {"", 0, ""}, {posHead[:8], 0, ""},
	} {
		lines := DescribeHead(unhex(t, tt.head))
		if len(lines) != tt.lines || len(lines) > 0 && lines[0].Value != tt.first {
			t.Errorf("%s: %+v", tt.head, lines)
		}
	}
	if l := DescribeHead(unhex(t, posHead))[2]; l.Meaning != "magnetic stripe payment" {
		t.Errorf("%+v", l)
	}
}

// TestDescribeTakesAnything: a message being built may be looked at.
func TestDescribeTakesAnything(t *testing.T) {
	for _, s := range Specs() {
		for _, v := range []string{"", "x", "12", "\x00\xFF", strings.Repeat("9", 70)} {
			var m Message
			m.Reset(s, "x")
			for n := 2; n <= MaxField; n++ {
				m.SetText(n, v)
			}
			for _, clear := range []bool{true, false} {
				if d := Describe(&m, Options{Clear: clear}); len(d.Lines) < 127 {
					t.Errorf("%s: %d lines", s.Name, len(d.Lines))
				}
			}
		}
	}
}

func TestApproved(t *testing.T) {
	for code, want := range map[string]bool{"00": true, "A2": true, "A4": true, "A6": true, "A0": false, "A3": false, "51": false, "": false} {
		if Approved(code) != want {
			t.Errorf("%s: %v", code, !want)
		}
	}
}
