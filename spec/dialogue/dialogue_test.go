package dialogue_test

import (
	"encoding/csv"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"koala/spec/dialogue"
	"koala/spec/purse"
	"koala/spec/tlv"
)

var update = flag.Bool("update", false, "write the golden explanations anew")

// allowed are the tags of the traces that no list names, each with its reason.
var allowed = map[tlv.Tag]string{
	0xBF63: "issuer's own template in a French PPSE entry, not published",
	0xDF20: "issuer's own object inside BF63",
	0x9F28: "scheme's own object in a French PPSE entry, not in EMV Book B",
}

func traces(t testing.TB) []dialogue.Transcript {
	t.Helper()
	text, err := os.ReadFile("testdata/cards.json")
	if err != nil {
		t.Fatal(err)
	}
	list, err := dialogue.Read(text)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestKindsOfTheTraces(t *testing.T) {
	want := map[string]struct {
		kind dialogue.Kind
		way  dialogue.Interface
		app  string // selected first beside the directory
	}{
		"tunion-beijing":            {dialogue.TUnion, "", "A000000632010105"},
		"tunion-zero-balance":       {dialogue.TUnion, "", "A000000632010105"},
		"bmac-beijing":              {dialogue.BeijingBMAC, "", ""},
		"emv-visacardppse":          {dialogue.CB, dialogue.Contactless, "A0000000421010"},
		"emv-visacardppse3":         {dialogue.CB, dialogue.Contactless, "A0000000421010"},
		"emv-visacardaid":           {dialogue.Visa, "", "A0000000031010"},
		"emv-visacardppsenooptions": {dialogue.CB, dialogue.Contactless, "A0000000421010"},
		"emv-mastercardppse":        {dialogue.CB, dialogue.Contactless, "A0000000421010"},
		"emv-mastercardppse3":       {dialogue.Mastercard, dialogue.Contactless, "A0000000041010"},
		"emv-geldkarteppse":         {dialogue.GeldKarte, dialogue.Contactless, "D27600002547410100"},
		"emv-unknowncard":           {dialogue.GlobalPlatform, "", ""}, // only its production data answered
		"emv-failppsevisaaid":       {dialogue.Visa, "", "A0000000031010"},
		"contact-upi":               {dialogue.UnionPay, dialogue.Contact, "A000000333010102"},
		"contactless-mastercard":    {dialogue.Mastercard, "", "A0000000041010"},
		"contact-visa":              {dialogue.Visa, dialogue.Contact, "A0000000031010"},
	}
	list := traces(t)
	if len(list) != len(want) {
		t.Fatalf("%d cards, want %d", len(list), len(want))
	}
	for _, x := range list {
		r, w := dialogue.Explain(x.Exchanges, dialogue.Options{}), want[x.ID]
		if r.Card != w.kind || r.Interface != w.way {
			t.Errorf("%s: %s %q, want %s %q", x.ID, r.Card, r.Interface, w.kind, w.way)
		}
		if !r.Explained() || !r.Sound() || len(r.Lines) != len(x.Exchanges) {
			t.Errorf("%s: explained %t, sound %t, %d lines for %d exchanges", x.ID, r.Explained(), r.Sound(), len(r.Lines), len(x.Exchanges))
		}
		for _, tag := range r.Unnamed {
			if allowed[tag] == "" {
				t.Errorf("%s: tag %v has no name", x.ID, tag)
			}
		}
		if i := slices.IndexFunc(r.Applications, func(a dialogue.Application) bool { return a.Selected && a.Kind != dialogue.Directory }); w.app != "" &&
			(i < 0 || fmt.Sprintf("%X", r.Applications[i].AID) != w.app) {
			t.Errorf("%s: applications %+v, want %s", x.ID, r.Applications, w.app)
		}
		for i, l := range r.Lines {
			if l.Explanation.EN == "" || l.Explanation.ZH == "" {
				t.Errorf("%s: line %d says nothing", x.ID, i+1)
			}
		}
	}
}

// What the authors of the traces say must come out.
func TestExpectedOfTheTraces(t *testing.T) {
	text, err := os.ReadFile("testdata/cards.json")
	if err != nil {
		t.Fatal(err)
	}
	var cards []struct {
		ID       string
		Expected struct {
			Display *int64 `json:"display_balance_fen"`
			Balance *int64 `json:"balance_fen"`
			Field   string `json:"card_number_field"`
			Number  string `json:"card_number"`
			From    string `json:"valid_from"`
			To      string `json:"valid_to"`
			Issued  string `json:"issue_date"`
			Expires string `json:"expiry_date"`
			Records []struct {
				Raw       string
				Number    int64
				Overdraft int64 `json:"overdraft_fen"`
				Amount    int64 `json:"amount_fen"`
				Type      string
				TypeName  string `json:"type_name"`
				Terminal  string
				Date      string
				Time      string
			}
		}
	}
	if err := json.Unmarshal(text, &cards); err != nil {
		t.Fatal(err)
	}
	checked := 0
	for i, x := range traces(t) {
		r, want := dialogue.Explain(x.Exchanges, dialogue.Options{}), cards[i].Expected
		for _, fen := range []*int64{want.Display, want.Balance} {
			if fen != nil && (!r.Balance.Known || r.Balance.Fen != *fen) {
				t.Errorf("%s: balance %+v, want %d", x.ID, r.Balance, *fen)
			}
		}
		if n := want.Field + want.Number; n != "" && r.Number != n {
			t.Errorf("%s: number %s, want %s", x.ID, r.Number, n)
		}
		if from := want.From + want.Issued; from != "" {
			to := want.To + want.Expires
			checked++
			if strings.ReplaceAll(r.From, "-", "") != from || strings.ReplaceAll(r.To, "-", "") != to {
				t.Errorf("%s: valid %s to %s, want %s to %s", x.ID, r.From, r.To, from, to)
			}
			if len(r.Records) != len(want.Records) {
				t.Errorf("%s: %d records, want %d", x.ID, len(r.Records), len(want.Records))
			}
		}
		for n, w := range want.Records {
			got := r.Records[n]
			line := fmt.Sprintf("%X %d %d %d %s %s %s %s %s", got.Raw, num(got, "number"), num(got, "overdraft_fen"), num(got, "amount_fen"),
				text1(got, "type"), text1(got, "type_name"), text1(got, "terminal"), text1(got, "date"), text1(got, "time"))
			if want := fmt.Sprintf("%s %d %d %d %s %s %s %s %s", w.Raw, w.Number, w.Overdraft, w.Amount, w.Type, w.TypeName, w.Terminal, w.Date, w.Time); line != want {
				t.Errorf("%s record %d:\n got %s\nwant %s", x.ID, n+1, line, want)
			}
		}
	}
	if checked != 3 {
		t.Errorf("%d cards with expected values, want 3", checked)
	}
}

func num(r dialogue.Record, key string) int64 {
	v, _ := r.Get(key)
	return v.Int
}

func text1(r dialogue.Record, key string) string {
	v, _ := r.Get(key)
	return v.Text
}

// The two chains that are whole recover and verify down to the signature of
// the transaction.
func TestCertificatesOfTheTraces(t *testing.T) {
	want := map[string]string{
		"contact-upi":            "issuer ok 1408 2030-12 621094, sda ok 0  , icc ok 1408 2030-12 621094••••••0011, dda ok 0  ",
		"contactless-mastercard": "issuer ok 1152 2014-12 54133300, icc ok 1152 2014-12 541333••••••0044, cda ok 0  ",
		"emv-visacardppse3":      "issuer no 0  , icc no 0  , fdda no 0  ", // no key of its scheme is published, data masked
	}
	for _, x := range traces(t) {
		var got []string
		for _, c := range dialogue.Explain(x.Exchanges, dialogue.Options{}).Certificates {
			outcome := map[bool]string{true: "ok", false: "no"}[c.OK]
			got = append(got, fmt.Sprintf("%s %s %d %s %s", c.Kind, outcome, c.Bits, c.Expiry, c.Owner))
			if c.OK != c.Hash || c.OK && !c.Decided || !c.OK && c.Reason == "" || (c.Reason == "") != (c.ReasonZH == "") {
				t.Errorf("%s: %+v", x.ID, c)
			}
		}
		if g := strings.Join(got, ", "); g != want[x.ID] {
			t.Errorf("%s:\n got %s\nwant %s", x.ID, g, want[x.ID])
		}
	}
}

// Every logged T-Union record decodes, and its amount is what stands in its
// bytes.
func TestLoggedRecordsDecode(t *testing.T) {
	file, err := os.Open("../purse/testdata/tunion_records.csv")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	rows, err := csv.NewReader(file).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	places := 0
	for _, row := range rows[1:] {
		raw, _, err := dialogue.Hex(row[1])
		if err != nil {
			t.Fatal(err)
		}
		sfi := map[string]byte{"SFI18": purse.SFILog, "SFI1E": purse.SFITrip}[row[0]]
		r, ok := dialogue.DecodeRecord(sfi, raw)
		if !ok || len(r.Values) < 8 || text1(r, "type_name") == "" {
			t.Errorf("%s %s: %t %+v", row[0], row[1], ok, r)
			continue
		}
		if date := text1(r, "date"); !strings.Contains(row[1], date) || len(date) != 8 {
			t.Errorf("%s: date %s", row[1], date)
		}
		if _, ok := r.Get("city_name"); ok {
			places++
		}
	}
	if len(rows)-1 != 132 || places < 100 {
		t.Errorf("%d records, %d in a known city", len(rows)-1, places)
	}
}

// rendered is a report as text, everything that people see.
func rendered(x dialogue.Transcript, r dialogue.Report) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s %s %s %s %s %+v\n", x.ID, r.Card, r.Interface, r.Number, r.From, r.To, r.Balance)
	for _, a := range r.Applications {
		fmt.Fprintf(&b, "app %X %s %q %d %t %+v\n", a.AID, a.Kind, a.Label, a.Priority, a.Selected, a.Balance)
	}
	for _, c := range r.Certificates {
		fmt.Fprintf(&b, "certificate %s %t %t %s | %s | %s %d %s %s %s\n", c.Kind, c.Decided, c.OK, c.Reason, c.ReasonZH, c.Signer, c.Bits, c.Expiry, c.Owner, c.Serial)
	}
	for _, x := range r.Records {
		fmt.Fprintf(&b, "record %s %02X %d", x.Kind, x.SFI, x.Index)
		for _, v := range x.Values {
			fmt.Fprintf(&b, " %s=%s", v.Key, v.Text)
		}
		b.WriteString("\n")
	}
	for _, l := range r.Lines {
		fmt.Fprintf(&b, "> %s\n< %s\n  %s | %s\n", l.Command, l.Response, l.Explanation.EN, l.Explanation.ZH)
		for _, f := range l.Explanation.Fields {
			fmt.Fprintf(&b, "  %s | %s: %s\n", f.Name, f.NameZH, f.Value)
		}
		for _, o := range l.Objects {
			fmt.Fprintf(&b, "  %s%v %s | %s: %s (%s | %s)\n", strings.Repeat("  ", o.Depth), o.Tag, o.Name, o.NameZH, o.Value, o.Text, o.TextZH)
		}
	}
	return b.String()
}

// After a change on purpose: go test ./spec/dialogue -run TestGolden -update.
func TestGolden(t *testing.T) {
	for _, x := range traces(t) {
		got := rendered(x, dialogue.Explain(x.Exchanges, dialogue.Options{}))
		file := filepath.Join("testdata", x.ID+".golden")
		if *update {
			if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			a, b := strings.Split(got, "\n"), strings.Split(string(want), "\n")
			for i := range min(len(a), len(b)) {
				if a[i] != b[i] {
					t.Errorf("%s line %d:\n got %s\nwant %s", file, i+1, a[i], b[i])
					break
				}
			}
			if len(a) != len(b) {
				t.Errorf("%s has %d lines, want %d", file, len(a), len(b))
			}
		}
	}
}

// No middle digits of a PAN, no name and no track data are in what is told,
// unless asked for.
func TestIdentityIsMasked(t *testing.T) {
	secrets := map[string][]string{
		"contact-upi":            {"6210948000000011", "D2F8C1AA3632", "313130313031313938", "3632313039343830"},
		"contactless-mastercard": {"5413330089600044", "455445432F504159"},
		"contact-visa":           {"4761340000000050", "4341524420352F56"},
		"emv-failppsevisaaid":    {"5772829193253472"},
		"emv-mastercardppse3":    {"5200000000000000D"},
		"emv-geldkarteppse":      {"1500001111", "44453031313330353130333030303030303030303030"},
	}
	for _, x := range traces(t) {
		masked := rendered(x, dialogue.Explain(x.Exchanges, dialogue.Options{}))
		clear := rendered(x, dialogue.Explain(x.Exchanges, dialogue.Options{Clear: true}))
		for _, s := range secrets[x.ID] {
			if strings.Contains(masked, s) {
				t.Errorf("%s shows %s", x.ID, s)
			}
			if !strings.Contains(clear, s) {
				t.Errorf("%s: %s is not in the clear text either", x.ID, s)
			}
		}
	}
}

// A key, a PIN or personalisation data is never shown, asked for or not.
func TestSecretsAreMasked(t *testing.T) {
	for _, tt := range []struct{ name, items, secret string }{
		{"PIN", "00A4040008A000000333010101 6F0A8408A0000003330101019000 0020008008241234FFFFFFFFFF 9000", "241234"},
		{"PIN of a purse", "0020000003123456 9000", "123456"},
		{"new PIN", "00A4040008A000000333010101 6F0A8408A0000003330101019000 842400020C1122334455667788AABBCCDD 9000", "1122334455667788"},
		{"keys", "00A4040008A000000151000000 9000 80D801811601801040414243" + "4445464748494A4B4C4D4E4F038BAF47 9000", "404142434445"},
		{"personalisation", "80E288000680000301020304 9000", "01020304"},
	} {
		x, err := dialogue.ReadItems(strings.Fields(tt.items))
		if err != nil {
			t.Fatal(tt.name, err)
		}
		if got := rendered(x, dialogue.Explain(x.Exchanges, dialogue.Options{Clear: true})); strings.Contains(got, tt.secret) {
			t.Errorf("%s shows %s:\n%s", tt.name, tt.secret, got)
		}
	}
}

// A certificate with one bit turned is found wrong, and the report says so.
func TestWrongCertificate(t *testing.T) {
	for _, x := range traces(t) {
		if x.ID != "contact-upi" {
			continue
		}
		for i, e := range x.Exchanges {
			if !strings.HasPrefix(fmt.Sprintf("%X", e.Response), "7081B39081B0") {
				continue
			}
			e.Response = slices.Clone(e.Response)
			e.Response[100] ^= 1
			x.Exchanges[i] = e
		}
		r := dialogue.Explain(x.Exchanges, dialogue.Options{})
		if r.Sound() || r.Certificates[0].OK || !r.Certificates[0].Decided {
			t.Errorf("%+v", r.Certificates)
		}
		for _, c := range r.Certificates[1:] {
			if c.OK || c.Decided {
				t.Errorf("checked without an issuer's key: %+v", c)
			}
		}
	}
}

// The values of other readers' fixtures (CARD.md 6.7) come out.
func TestReaderFixtures(t *testing.T) {
	for _, tt := range []struct{ name, items, want string }{
		{"FCI of T-Union", "00A4040008A000000632010105 6F318408A000000632010105A5259F0801029F0C1E01011000FFFFFFFF0201031051700701047913812019071820401231000" + "09000",
			"t-union  03105170070104791381 2019-07-18 2040-12-31"},
		{"file 17", "00A4040008A000000632010105 9000 00B097000B 00000156580058400001019000", "city's name | 城市名称: Shenzhen 深圳"},
		{"file 04", "00B0840020 10007515114099280102003000000000000000000000000020180410202404109000", "bmac  1000751511409928 2018-04-10 2024-04-10"},
		{"DF 1001", "00A4000002100100 6F08840450424F43A5009000", "SELECT directory 1001"},
		{"trip", "00A4040008A000000632010105 9000 00B201F430 0400003000890003400108001900300000000001F400000E0120241229141740100001011000FFFFFFFF0000000000009000",
			"record trip 1E 1 type=04 type_name=exit industry=01 metro line=0800 station=1900 operator=3000 amount_fen=5.00 CNY balance_fen=35.85 CNY date=20241229 time=141740"},
	} {
		x, err := dialogue.ReadItems(strings.Fields(tt.items))
		if err != nil {
			t.Fatal(tt.name, err)
		}
		if got := rendered(x, dialogue.Explain(x.Exchanges, dialogue.Options{})); !strings.Contains(got, tt.want) {
			t.Errorf("%s: %s is not in\n%s", tt.name, tt.want, got)
		}
	}
}

// A contactless decision is told with every value of the PDOL named, and the
// e-cash balance comes out of 9F10 (CARD.md 6.7, QKATA).
func TestContactlessDecision(t *testing.T) {
	x, err := dialogue.ReadItems([]string{
		"00A4040008A00000033301010100", "6F2A" + "8408A000000333010101" + "A51E" + "870101" + "9F38189F66049F02069F03069F1A0295055F2A029A039C019F3704" + "9000",
		"80A80000238321" + "36800000" + "000000000100" + "000000000000" + "0156" + "0000000000" + "0156" + "170601" + "00" + "2B29EBE4" + "00",
		"772F" + "82027C00" + "9F36020ADC" + "9F101307010103A00000010A010000038787868FD1FC" + "9F2608AD03EE811AFAD484" + "9F6C020000" + "9000",
	})
	if err != nil {
		t.Fatal(err)
	}
	r := dialogue.Explain(x.Exchanges, dialogue.Options{})
	got := rendered(x, r)
	for _, want := range []string{"unionpay contactless", "the card decides: go online (ARQC)", "9F37 Unpredictable Number", "(1.00 CNY | 1.00 CNY)",
		"9A Transaction Date", "(2017-06-01 | 2017-06-01)", "balance 387.87 CNY"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in\n%s", want, got)
		}
	}
	if r.Balance.Fen != 38787 || r.Balance.Source != "9F10" {
		t.Errorf("balance %+v", r.Balance)
	}
}

// Digits that were not written down stay unknown, and nothing is concluded
// from them.
func TestHiddenDigits(t *testing.T) {
	for _, tt := range []struct{ items, want, not string }{
		{"805C000204 00000.E49000", "> 805C000204\n< 00000XE49000", "2.28"},
		{"805C000204 XXXXXXXX9000", "balance | 余额: ?", "0.00 CNY"},
		{"00B201C417 00B1000000000000..09413100629380202403102115089000", "sequence | 交易序号: 177", "record purse log"},
		{"5F24033010XX", "5F24 Application Expiration Date", "2030-10-0"},
		{"00A4040008A00000063201....", "SELECT ", "unknown card"},
	} {
		x, err := dialogue.ReadItems(strings.Fields(tt.items))
		if err != nil {
			t.Fatal(tt.items, err)
		}
		got := rendered(x, dialogue.Explain(x.Exchanges, dialogue.Options{}))
		if !strings.Contains(got, tt.want) || strings.Contains(got, tt.not) {
			t.Errorf("%s: want %q, not %q in\n%s", tt.items, tt.want, tt.not, got)
		}
	}
}

// What is told of a dialogue can be read again: masked digits are digits not
// written down.
func TestOwnOutputReadsBack(t *testing.T) {
	for _, x := range traces(t) {
		r := dialogue.Explain(x.Exchanges, dialogue.Options{})
		var b strings.Builder
		for _, l := range r.Lines {
			fmt.Fprintf(&b, "> %s\n< %s\n", l.Command, l.Response)
		}
		again, err := dialogue.Read([]byte(b.String()))
		if err != nil {
			t.Fatal(x.ID, err)
		}
		r2 := dialogue.Explain(again[0].Exchanges, dialogue.Options{})
		if r2.Card != r.Card || r2.Balance != r.Balance || len(r2.Lines) != len(r.Lines) {
			t.Errorf("%s: %s %+v %d lines, first %s %+v %d", x.ID, r2.Card, r2.Balance, len(r2.Lines), r.Card, r.Balance, len(r.Lines))
		}
		for i := range min(len(r.Lines), len(r2.Lines)) {
			if a, b := r.Lines[i], r2.Lines[i]; a.Response != b.Response || a.Command != b.Command {
				t.Errorf("%s line %d: %s < %s\nagain %s < %s", x.ID, i+1, a.Command, a.Response, b.Command, b.Response)
			}
		}
	}
}
