package desfire_test

import (
	"strings"
	"testing"

	"koala/spec/desfire"
	"koala/spec/iso7816"
)

func TestExplain(t *testing.T) {
	for _, tt := range []struct {
		command, response string
		en, zh, fields    string
	}{
		{"905A000003014C4B00", "9100", "SELECT APPLICATION", "选择应用", "application=4B4C01 canteen 餐卡"},
		{"90AA0000010000", "C8A331FF8EDD3DB175E1545DBEFB760B91AF", "AUTHENTICATE (AES): more follows", "认证（AES）：待续", "key=0;random of the card, enciphered=C8A331FF8EDD3DB175E1545DBEFB760B;status=91AF"},
		{"906C0000010000", "881300003B2ECDF53FF0685D9100", "GET VALUE", "读值", "file=0;value=5000;MAC of the card=3B2ECDF53FF0685D"},
		{"906C0000010300", "B5C92149FEE06A7E6E41313F3F9CAACC9100", "GET VALUE", "读值", "file=3;answer=B5C92149FEE06A7E6E41313F3F9CAACC"},
		{"900C00000D01E8030000A3F1EF1C271377D700", "1E29557F7B307EC49100", "CREDIT, kept at the commit", "充值（提交后生效）", "file=1;amount=1000;protection of the command=A3F1EF1C271377D7;MAC of the card=1E29557F7B307EC4"},
		{"90F50000010000", "0200000000000000FFFFFF7F0000000000" + "50604E27990360D19100", "GET FILE SETTINGS", "读文件设置", "file=0;type=value 值;communication=plain 明文;access=read 0, write 0, both 0, change 0;limits=0 … 2147483647;limited credit=0, false;MAC of the card=50604E27990360D1"},
		{"90C4000011000102030405060708090A0B0C0D0E0F1000", "9100", "CHANGE KEY", "修改密钥", "key=00;new key, enciphered=••••"},
		{"906A000000", "010203014C4B9100", "GET APPLICATION IDS", "列出应用", "application=030201;application=4B4C01 canteen 餐卡"},
		{"90C7000000", "910C", "COMMIT TRANSACTION: all changes become permanent together: nothing to commit or abort", "提交交易：全部改动一起生效：无改动", "status=910C"},
		{"90CC00001101030110000000004C1D0000E803000001" + "00", "9100", "CREATE FILE", "创建文件", "file=1;type=value 值;communication=enciphered 加密;access=read 1, write 0, both 0, change 1;limits=0 … 7500;limited credit=0, true;value=1000"},
	} {
		c, err := iso7816.ParseCommand(unhex(tt.command))
		if err != nil {
			t.Fatal(err)
		}
		r, err := iso7816.ParseResponse(unhex(tt.response))
		if err != nil {
			t.Fatal(err)
		}
		e, ok := desfire.Explain(c, r)
		var fields []string
		for _, f := range e.Fields {
			if f.NameZH == "" {
				t.Errorf("%s: %s has no Chinese name", tt.command, f.Name)
			}
			fields = append(fields, f.Name+"="+f.Value)
		}
		if got := strings.Join(fields, ";"); !ok || e.EN != tt.en || e.ZH != tt.zh || got != tt.fields {
			t.Errorf("%s:\n%s | %s\n%s, want\n%s", tt.command, e.EN, e.ZH, got, tt.fields)
		}
	}
	for _, other := range []string{"00A4040000", "80CA9F3600", "9077000000"} {
		c, _ := iso7816.ParseCommand(unhex(other))
		if _, ok := desfire.Explain(c, iso7816.Response{}); ok {
			t.Errorf("%s is explained", other)
		}
	}
}

// FuzzExplain: nothing that came over the air makes it panic.
func FuzzExplain(f *testing.F) {
	f.Add(unhex("906C0000010000"), unhex("881300003B2ECDF53FF0685D9100"))
	f.Add(unhex("906A000000"), unhex("0102039100"))
	f.Fuzz(func(t *testing.T, c, r []byte) {
		command, err := iso7816.ParseCommand(c)
		if err != nil {
			return
		}
		response, _ := iso7816.ParseResponse(r)
		desfire.Explain(command, response)
	})
}
