package kernel_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"koala/spec/emv"
	"koala/spec/iso7816"
	"koala/terminal/kernel"
)

// A test card of UnionPay's, logged at a terminal (spec/emv/testdata): with
// the same data this kernel sends what that terminal sent, byte for byte, its
// certificates recover under the published key 09, its dynamic signature
// verifies, and TVR and TSI go the same way to the end.
func TestLoggedContactCard(t *testing.T) {
	raw, err := os.ReadFile("../../spec/emv/testdata/cards.json")
	if err != nil {
		t.Fatal(err)
	}
	var all []struct {
		ID        string
		Exchanges []struct{ C, R string }
	}
	if err := json.Unmarshal(raw, &all); err != nil {
		t.Fatal(err)
	}
	answers := map[string]string{} // after the SELECT in force
	phase, selected := "", ""
	var cryptograms, sent []string
	for _, x := range all {
		if x.ID != "contact-upi" {
			continue
		}
		for _, e := range x.Exchanges {
			if strings.HasPrefix(e.C, "00A404") {
				phase = strings.TrimSuffix(e.C, "00")
			}
			answers[phase+e.C] = e.R
			if strings.HasPrefix(e.C, "80AE") {
				cryptograms = append(cryptograms, e.C)
			}
		}
	}
	if len(cryptograms) != 2 {
		t.Fatalf("%d cryptograms in the log", len(cryptograms))
	}
	const un, logged = "7863AFC6", "3510540E" // that terminal drew a new number after INTERNAL AUTHENTICATE
	card := func(c iso7816.Command) (iso7816.Response, error) {
		text := c.String()
		if c.INS == 0xAE {
			text = strings.Replace(text, un, logged, 1)
			text = strings.TrimSuffix(text, "00")
			sent = append(sent, text)
			text = strings.TrimSuffix(cryptograms[len(sent)-1], "00")
			text += "00" // as it is logged
			if _, ok := answers[selected+text]; !ok {
				text = cryptograms[len(sent)-1]
			}
		}
		if c.INS == iso7816.InsSelect {
			selected = strings.TrimSuffix(text, "00")
		}
		a, ok := answers[selected+text]
		if !ok {
			a, ok = answers[selected+strings.TrimSuffix(text, "00")]
		}
		if !ok {
			t.Logf("not in the log: %s", text)
			return iso7816.Response{SW: iso7816.SWReferenceNotFound}, nil
		}
		return iso7816.ParseResponse(unhex(a))
	}
	k := newKernel(t, func(c *kernel.Config) {
		a := &c.Applications[0]
		a.Version, a.ContactFloor = [2]byte{0, 0x20}, 0
		c.Keys, c.Country, c.Currency, c.MerchantName = emv.CAKeys(), 36, 36, ""
		c.Capabilities = [3]byte(unhex("E0F0C8"))
	})
	tx := kernel.Transaction{
		Fen: 65_80, At: time.Date(2015, 3, 16, 8, 1, 36, 0, time.UTC), Unpredictable: [4]byte(unhex(un)), Sequence: 1,
		Chosen: unhex("A000000333010102"),
	}
	var request []byte
	o, err := k.Insert(card, tx, kernel.Seams{Issuer: host("00", object(emv.TagIssuerAuth, unhex("1122334455667788")), &request)})
	if err != nil {
		t.Fatal(err)
	}
	if want(t, o, kernel.Approved, kernel.NoReason); o.CVM != kernel.Signature || o.Label != "UICC CREDIT" {
		t.Errorf("%s by %s", o.Label, o.CVM.Words(false))
	}
	if hex.EncodeToString(o.TVR[:]) != "0000008040" || hex.EncodeToString(o.TSI[:]) != "f800" {
		t.Errorf("TVR %X TSI %X", o.TVR, o.TSI)
	}
	for i := range sent {
		if log := strings.TrimSuffix(cryptograms[i], "00"); strings.TrimRight(sent[i], "0") != strings.TrimRight(log, "0") {
			t.Errorf("GENERATE AC %d:\n%s, logged\n%s", i+1, sent[i], log)
		}
	}
	if !bytes.Contains(request, unhex("9F2608B04398D218017BF9")) {
		t.Errorf("request %X", request)
	}
}
