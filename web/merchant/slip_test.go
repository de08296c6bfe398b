package merchant_test

import (
	"encoding/hex"
	"html"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"koala/calendar"
	"koala/city/market"
	"koala/internal/db"
	"koala/slip"
	"koala/switching"
	"koala/terminal/unionpay"
	"koala/web"
)

// slipOf is the slip that is kept of a sale.
func (h *house) slipOf(rrn string) (k slip.Kept) {
	h.Helper()
	h.read(func(q *db.Query) (err error) { k, err = slip.OfSale(q, rrn); return err })
	return k
}

// asks is what a holder writes into the form.
func asks(k slip.Kept) url.Values {
	return url.Values{"terminal": {k.TID}, "day": {calendar.Of(k.At, calendar.Beijing).String()}, "amount": {k.Amount.Yuan()}, "tail": {k.Tail()}}
}

// TestSlipIsLookedUp: all four have to be right, nobody is told which was not, and
// only so many are asked for.
func TestSlipIsLookedUp(t *testing.T) {
	h := open(t)
	rrn := h.sell("jialian.1", 1, 45_60)
	b := h.browser(web.EN)
	if body := b.page("/slips"); !strings.Contains(body, "Find a slip") {
		t.Error("no form")
	}
	h.must(h.h.Slips.Catch(ctx))
	k := h.slipOf(rrn)
	status, head, _ := b.post("/slips", asks(k))
	if status != http.StatusSeeOther || head.Get("Location") != "/slips/"+k.ID() {
		t.Fatalf("all four right: %d %s", status, head.Get("Location"))
	}
	for name, v := range map[string]string{"terminal": "10000099", "day": "2015-09-13", "amount": "45.61", "tail": "0000"} {
		h.now.Advance(6 * time.Second)
		form := asks(k)
		form.Set(name, v)
		status, _, body := b.post("/slips", form)
		if status != http.StatusOK || !strings.Contains(body, "agrees in all four") || strings.Contains(body, k.ID()) || strings.Contains(body, "field-error") {
			t.Errorf("another %s: %d", name, status)
		}
	}
	for name, v := range map[string]string{"terminal": "1", "day": "soon", "amount": "-1", "tail": "00x9"} {
		h.now.Advance(6 * time.Second)
		form := asks(k)
		form.Set(name, v)
		if _, _, body := b.post("/slips", form); strings.Contains(body, "agrees in all four") {
			t.Errorf("%s %q is looked up", name, v)
		}
	}
	h.now.Advance(time.Minute)
	for n := range 11 {
		if status, _, _ := b.get("/slips/" + k.ID()); (status == http.StatusOK) != (n < 10) {
			t.Errorf("request %d: %d", n+1, status)
		}
	}
	if status, _, body := b.post("/slips", asks(k)); status != http.StatusServiceUnavailable || !strings.Contains(body, "too many slips") {
		t.Errorf("one more: %d", status)
	}
	b.page("/slips") // the form alone is everybody's
	h.now.Advance(6 * time.Second)
	b.page("/slips/" + k.ID())
	for _, id := range []string{rrn, rrn + "-" + strings.Repeat("0", 24), "nothing-"} {
		h.now.Advance(6 * time.Second)
		if status, _, _ := b.get("/slips/" + id); status != http.StatusNotFound {
			t.Errorf("%s: %d", id, status)
		}
	}
}

var commands = regexp.MustCompile(`(?s)<code[^>]*>(grep -v .*?)</code>`)

// TestSlipProvesItself: the page, koala verify and, where there is one, openssl say
// the same of a slip that is as it was and of one that was altered.
func TestSlipProvesItself(t *testing.T) {
	h := open(t)
	rrn := h.sell("jialian.1", 1, 45_60)
	h.must(h.h.Tick(ctx))
	k := h.slipOf(rrn)
	b := h.browser(web.EN)
	at := "/slips/" + k.ID()
	body := b.page(at)
	if !strings.Contains(body, "genuine") || !strings.Contains(body, "45.60") {
		t.Errorf("a genuine slip:\n%s", body)
	}
	_, _, file := b.get(at + "/file")
	_, _, key := b.get("/keys/" + k.Key + ".pem")
	said := commands.FindStringSubmatch(body)
	if said == nil {
		t.Fatal("the page has no commands")
	}
	script := html.UnescapeString(said[1])
	if out, ok := openssl(t, script, k, file, key); !ok || !strings.Contains(out, "Verified Successfully") || !strings.Contains(out, hexOf(k.Hash)) {
		t.Errorf("openssl: %s", out)
	}
	if out, _ := openssl(t, script, k, strings.Replace(file, "45.60", "54.60", 1), key); out != "" && strings.Contains(out, "Verified Successfully") {
		t.Errorf("openssl of an altered file: %s", out)
	}
	if p, err := h.h.Verify(ctx); err != nil || !p.OK {
		t.Errorf("%v %q", err, p.Problems)
	}
	h.do(func(tx *db.Tx) error {
		_, err := tx.Exec(`UPDATE slip SET body = $2, fen = 5460 WHERE rrn = $1`, rrn, []byte(strings.Replace(string(k.Bytes), "45.60", "54.60", 1)))
		return err
	})
	if body := b.page(at); !strings.Contains(body, "does not prove") || strings.Contains(body, "genuine") || strings.Contains(body, "to the byte") {
		t.Error("an altered slip shows as good")
	}
	if status, _, body := h.login("li", web.EN).get("/merchant/sales/" + rrn + "/slip"); status != http.StatusInternalServerError || strings.Contains(body, "REPRINT") {
		t.Errorf("it is printed again: %d", status)
	}
	if p, err := h.h.Verify(ctx); err != nil || p.OK || len(p.Problems) != 1 || !strings.Contains(p.Problems[0], "slip of") || !strings.Contains(p.Problems[0], rrn) {
		t.Errorf("%v %q", err, p.Problems)
	}
}

// openssl runs a page's commands on files in a folder; ok is true too where there
// is no openssl.
func openssl(t *testing.T, script string, k slip.Kept, file, key string) (out string, ok bool) {
	t.Helper()
	if _, err := exec.LookPath("openssl"); err != nil {
		return "Verified Successfully " + hexOf(k.Hash), true
	}
	dir := t.TempDir()
	for name, text := range map[string]string{"slip-" + k.RRN + ".txt": file, k.Key + ".pem": key} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), "sh", "-c", script)
	cmd.Dir = dir
	said, err := cmd.CombinedOutput()
	return string(said), err == nil
}

// TestReprint: what is printed again says so, and not in what is signed.
func TestReprint(t *testing.T) {
	h := open(t)
	rrn := h.sell("jialian.1", 1, 45_60)
	b := h.login("li", web.EN)
	if body := b.page("/merchant/sales/" + rrn); !strings.Contains(body, "/merchant/sales/"+rrn+"/slip") || strings.Contains(body, "REPRINT") {
		t.Error("the sale's page")
	}
	k := h.slipOf(rrn)
	_, _, before := b.get("/slips/" + k.ID() + "/file")
	if body := b.page("/merchant/sales/" + rrn + "/slip"); !strings.Contains(body, "*** REPRINT ***") || !strings.Contains(body, "*** 重打印 ***") {
		t.Error("a reprint does not say so")
	}
	_, _, after := b.get("/slips/" + k.ID() + "/file")
	if after != before || after != string(k.File()) || strings.Contains(strings.ToUpper(after), "REPRINT") {
		t.Errorf("what is signed:\n%s", after)
	}
	strange := h.sell("chuanxiang.1", 33, 60_00)
	if status, _, _ := b.get("/merchant/sales/" + strange + "/slip"); status != http.StatusNotFound {
		t.Errorf("another shop's slip: %d", status)
	}
}

// TestRefusedHasNone: of what was refused there is no slip, and no page of one.
func TestRefusedHasNone(t *testing.T) {
	h := open(t)
	h.now.Advance(time.Hour)
	c := h.m.Institutions()[0].Cards[2]
	o := market.Order{Order: unionpay.Order{Kind: unionpay.Sale, Fen: 45_60, Card: unionpay.Card{Track2: c.Track2}}, PIN: "000000"}
	if c.PIN == o.PIN {
		o.PIN = "111111"
	}
	out, err := h.m.Do(ctx, "jialian.1", o)
	if err != nil || out.Approved {
		t.Fatalf("a wrong PIN: %+v %v", out, err)
	}
	var list []switching.Txn
	h.read(func(q *db.Query) (err error) {
		list, err = switching.Live(q, switching.Filter{Shop: h.shop.Payee, Limit: 5})
		return err
	})
	if len(list) != 1 || list[0].State != switching.Declined {
		t.Fatalf("%+v", list)
	}
	h.must(h.h.Tick(ctx))
	b := h.login("li", web.EN)
	at := "/merchant/sales/" + list[0].RRN
	if body := b.page(at); !strings.Contains(body, "No slip") || strings.Contains(body, at+"/slip") {
		t.Error("the page of a refused sale shows a slip")
	}
	if status, _, _ := b.get(at + "/slip"); status != http.StatusNotFound {
		t.Errorf("its slip: %d", status)
	}
}

// TestEvidenceHasTheSlip: in both languages, and the file that proves itself.
func TestEvidenceHasTheSlip(t *testing.T) {
	h := open(t)
	h.story()
	c := h.quarrel(h.rrns[1])
	k := h.slipOf(h.rrns[1])
	_, _, pack := h.login("qian", web.EN).get("/merchant/disputes/" + c.ID + "/pack")
	for _, want := range []string{"slip.txt", "Slip no.", "单号", "koala slip 1", strings.TrimSpace(string(k.File()[strings.Index(string(k.File()), "signature: "):]))} {
		if !strings.Contains(pack, want) {
			t.Errorf("the evidence pack lacks %q", want)
		}
	}
}

func hexOf(hash [32]byte) string { return hex.EncodeToString(hash[:]) }
