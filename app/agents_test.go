package app_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"mime/multipart"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"koala/calendar"
	"koala/internal/db"
	"koala/internal/proposal"
	"koala/merchant"
	"koala/settlement"
	"koala/web/merchant/shell"
	ops "koala/web/ops/shell"
)

// proposed is the only open proposal of a kind.
func (o *office) proposed(kind string) (id string) {
	o.Helper()
	o.read(func(q *db.Query) error {
		list, err := proposal.Waiting(q, kind, 10)
		if len(list) != 1 {
			o.Fatalf("%d proposals of kind %s wait", len(list), kind)
		}
		id = list[0].ID
		return err
	})
	return id
}

// both has one person propose and another confirm; the first cannot do both.
func (o *office) both(kind string, wang, zhao colleague, path string, form ...string) {
	o.Helper()
	if code := wang.post(path, why(form...), ""); code != http.StatusSeeOther {
		o.Fatalf("proposing at %s: %d", path, code)
	}
	at := "/ops/merchants/proposals/" + kind + "/" + o.proposed(kind) + "/confirm"
	wang.post(at, why(), "")
	o.proposed(kind) // still
	if code := zhao.post(at, why(), ""); code != http.StatusSeeOther {
		o.Fatalf("confirming at %s: %d", at, code)
	}
	if code := zhao.post(at, why(), ""); code == http.StatusInternalServerError {
		o.Fatalf("confirming again: %d", code)
	}
}

func (o *office) tree() map[string]merchant.Branch {
	o.Helper()
	out := map[string]merchant.Branch{}
	o.read(func(q *db.Query) error {
		all, err := merchant.TreeOn(q, calendar.Of(o.clock.Now(), calendar.Beijing).AddDays(1))
		for _, b := range all {
			out[b.Agent.ID] = b
		}
		return err
	})
	return out
}

// says looks for texts on a page in both languages.
func (o *office) says(path string, zh, en string) {
	o.Helper()
	for _, x := range [][2]string{{"zh", zh}, {"en", en}} {
		if code, body := o.as("wang", x[0]).get(path); code != 200 || !strings.Contains(body, x[1]) || holes.MatchString(body) {
			o.Errorf("%s in %s: %d, has %q: %t, holes %v", path, x[0], code, x[1], strings.Contains(body, x[1]), holes.FindAllString(body, 3))
		}
	}
}

// TestAgentsAreMadeByTwo: agents are made, priced, moved, given an account and
// ended by two people, from tomorrow on, and nothing is kept of what cannot be.
func TestAgentsAreMadeByTwo(t *testing.T) {
	o := openOffice(t)
	wang, zhao, shen := o.as("wang", "en"), o.as("zhao", "zh"), o.as("shen", "en")
	tomorrow := calendar.Of(o.clock.Now(), calendar.Beijing).AddDays(1).String()
	const at = "/ops/merchants/agents"
	form := func(id, over, share string) []string {
		return []string{"id", id, "name", "Agency " + id, "over", over, "share", share, "since", tomorrow, "bank", "中国银行", "account", "6222 0212 3456 7890"}
	}
	o.both("agent", wang, zhao, at, form("east", "", "12.50")...)
	o.both("agent", wang, zhao, at, form("tang", "east", "30")...)
	if b := o.tree()["tang"]; b.Over != "east" || b.Points != 3_000 || b.Agent.Opened.IsZero() {
		t.Errorf("%+v", b)
	}
	o.read(func(q *db.Query) error {
		a, err := settlement.AccountOf(q, merchant.Payee("tang"))
		if a.Masked != "****7890" || a.Bank != "中国银行" || bytes.Contains(a.Sealed, []byte("62220212")) {
			t.Errorf("%+v", a)
		}
		terms, err2 := settlement.AllTerms(q, merchant.Payee("tang"))
		if len(terms) != 1 || !terms[0].Monthly {
			t.Errorf("%+v", terms)
		}
		return errors.Join(err, err2)
	})
	for _, bad := range [][]string{form("no spaces", "", "1"), form("west", "nobody", "1"), form("west", "tang", "60"), form("west", "", "x"), form("tang", "", "1"), append(form("west", "", "1"), "account", "12")} {
		wang.post(at, why(bad...), "")
	}
	wang.post(at+"/tang/move", why("over", "tang", "since", tomorrow), "")
	wang.post(at+"/tang/end", why("since", calendar.Of(o.clock.Now(), calendar.Beijing).String()), "")
	if code := shen.post(at, why(form("west", "", "1")...), ""); code != http.StatusForbidden {
		t.Errorf("an auditor proposes: %d", code)
	}
	o.read(func(q *db.Query) error {
		list, err := proposal.Waiting(q, "agent", 10)
		if len(list) != 0 {
			t.Errorf("%d proposals of what cannot be, first %s", len(list), list[0].What)
		}
		return err
	})
	o.both("agent", wang, zhao, at+"/tang/rate", "share", "40.25", "since", tomorrow)
	o.both("agent", wang, zhao, at+"/tang/account", "bank", "农业银行", "account", "6228480000001234")
	o.both("agent", wang, zhao, at+"/tang/move", "over", "", "since", tomorrow)
	if b := o.tree()["tang"]; b.Over != "" || b.Points != 4_025 {
		t.Errorf("%+v", b)
	}
	o.says(at+"/tang", "农业银行 ****1234", "农业银行 ****1234")
	o.says(at, "平台直属", "the house")
	wang.post(at+"/east/end", why("since", tomorrow), "")
	o.says(at, "east 自 "+tomorrow+" 起终止", "east ends on "+tomorrow)
	if code := wang.post("/ops/merchants/proposals/agent/"+o.proposed("agent")+"/undo", why(), ""); code != http.StatusSeeOther {
		t.Errorf("taken back: %d", code)
	}
	o.both("agent", wang, zhao, at+"/east/end", "since", tomorrow)
	if b := o.tree()["east"]; !b.Ended {
		t.Errorf("%+v", b)
	}
	green(t, o.h)
}

// upload sends a file as a form does.
func (c colleague) upload(path, name, file string, fields ...string) (int, string) {
	c.o.Helper()
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	for i := 0; i+1 < len(fields); i += 2 {
		c.o.must(w.WriteField(fields[i], fields[i+1]))
	}
	f, err := w.CreateFormFile("file", name)
	c.o.must(err)
	_, err = f.Write([]byte(file))
	c.o.must(errors.Join(err, w.Close()))
	r, err := http.NewRequest("POST", c.o.server.URL+path, &b)
	c.o.must(err)
	r.Header.Set("Content-Type", w.FormDataContentType())
	return c.send(r)
}

// TestDenyListByTwo: entries come by hand and from a file, are confirmed by
// another person and lifted, and an identity number is kept nowhere.
func TestDenyListByTwo(t *testing.T) {
	o := openOffice(t)
	wang, zhao := o.as("wang", "en"), o.as("zhao", "zh")
	const at = "/ops/merchants/deny"
	o.says(at, "名单是空的", "The list is empty")
	o.both("denial", wang, zhao, at, "kind", "name", "value", "飞鸟商行", "source", "bank card network")
	person := "11010519491231002X"
	o.both("denial", wang, zhao, at, "kind", "person", "value", person, "source", "court")
	file := "kind,value,reason,source\nname,夜莺商行,bust-out,network\nname,飞鸟商行,again,network\nlicence,123,forged,network\nperson," + person + ",wanted,police\n"
	if code, _ := wang.upload(at+"/files/new", "list.csv", file, "why", "the list of december"); code != http.StatusSeeOther {
		t.Errorf("a file: %d", code)
	}
	id := o.proposed("denial")
	o.says(at, "3 行有效，1 行有误", "3 good lines, 1 wrong")
	o.says(at+"/proposals/"+id, "统一社会信用代码", "on the list already")
	if _, page := wang.get(at + "/proposals/" + id); strings.Contains(page, person) || !strings.Contains(page, "110105********002X") {
		t.Error("the report shows an identity number, or none")
	}
	if code := zhao.post("/ops/merchants/proposals/denial/"+id+"/confirm", why(), ""); code != http.StatusSeeOther {
		t.Errorf("confirmed: %d", code)
	}
	var entries []merchant.Denial
	o.read(func(q *db.Query) (err error) {
		entries, err = merchant.Denials(q, "", 10)
		return err
	})
	if len(entries) != 3 || entries[0].By != "wang, zhao" || fmt.Sprint(entries) == "" || strings.Contains(fmt.Sprint(entries), person) {
		t.Errorf("%+v", entries)
	}
	o.both("denial", wang, zhao, at+"/entries/"+hex.EncodeToString([]byte(entries[0].Key)))
	o.read(func(q *db.Query) error {
		list, err := merchant.Denials(q, "", 10)
		if len(list) != 2 {
			t.Errorf("after lifting one: %+v", list)
		}
		return err
	})
	for _, bad := range []string{"", "x", "kind,value,reason,source\nlicence,1,a,b\n"} {
		if code, _ := wang.upload(at+"/files/new", "bad.csv", bad, "why", "the list of december"); code == http.StatusInternalServerError {
			t.Errorf("%q: %d", bad, code)
		}
	}
	o.must(o.write(func(tx *db.Tx) error {
		return db.Each(tx, func(scan func(...any) error) error {
			var what string
			err := scan(&what)
			if strings.Contains(what, person) {
				t.Error("a proposal holds an identity number")
			}
			return err
		}, `SELECT what FROM proposal_change ORDER BY id`)
	}))
}

// TestDocumentsAreOpenedWithAReason: staff see what an applicant brought, each
// look stands in the trail, and nobody else sees it.
func TestDocumentsAreOpenedWithAReason(t *testing.T) {
	o := openOffice(t)
	sale := o.sell("jialian.1", 1, 10_00)
	picture := append([]byte("\x89PNG\r\n\x1a\n"), bytes.Repeat([]byte{7}, 200)...)
	doc := merchant.Document{Kind: merchant.DocIDFront, Hash: sha256.Sum256(picture), Size: int64(len(picture)), Media: "image/png"}
	hash := hex.EncodeToString(doc.Hash[:])
	sealed, err := o.h.Keys.Seal(ctx, picture)
	o.must(err)
	var owner string
	o.must(o.write(func(tx *db.Tx) error {
		s, err := merchant.ShopOf(tx, sale.Shop)
		owner = s.Merchant
		return errors.Join(err, shell.KeepPaper(tx, owner, hash, doc.Media, sealed), merchant.AddDocument(tx, owner, "lin", doc))
	}))
	at := "/ops/merchants/" + owner
	o.says(at, "查看身份证正面", "Look at: identity card, front")
	wang, shen := o.as("wang", "en"), o.as("shen", "en")
	look := func(c colleague, form ...string) (int, string) {
		r, err := http.NewRequest("POST", o.server.URL+"/ops/merchants/papers/"+owner+"/"+hash, strings.NewReader(why(form...).Encode()))
		o.must(err)
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		return c.send(r)
	}
	if code, body := look(wang, "why", "x"); strings.Contains(body, string(picture)) {
		t.Errorf("without a reason: %d", code)
	}
	if code, body := look(shen); code != http.StatusForbidden || strings.Contains(body, string(picture)) {
		t.Errorf("an auditor: %d", code)
	}
	looks := func() (n int) {
		o.read(func(q *db.Query) error {
			list, err := ops.Deeds(q, ops.Deed{Target: at}, "", 10)
			for _, d := range list {
				if strings.Contains(d.What, "looked at id_front "+hash[:16]) && d.Who == "wang" && d.Why != "" {
					n++
				}
			}
			return err
		})
		return n
	}
	if n := looks(); n != 0 {
		t.Errorf("%d looks before the first", n)
	}
	for i := 1; i <= 2; i++ {
		if code, body := look(wang); code != http.StatusOK || body != string(picture) || looks() != i {
			t.Errorf("look %d: %d, %d bytes, %d in the trail", i, code, len(body), looks())
		}
	}
}

// TestWishesAreAnswered: a terminal that its shop wants stopped is listed and
// stopped with a reason; from then on it is refused.
func TestWishesAreAnswered(t *testing.T) {
	o := openOffice(t)
	sale := o.sell("jialian.1", 1, 10_00)
	const at = "/ops/merchants/wishes"
	o.says(at, "没有门店要求停用终端", "No shop wants a terminal stopped")
	o.must(o.write(func(tx *db.Tx) error { return merchant.AskStop(tx, sale.TID, "mei") }))
	o.says(at, "停用 "+sale.TID, "Stop "+sale.TID)
	wang := o.as("wang", "en")
	if code := wang.post(at+"/"+sale.TID+"/keep", why(), ""); code != http.StatusSeeOther {
		t.Errorf("kept: %d", code)
	}
	o.must(o.write(func(tx *db.Tx) error { return merchant.AskStop(tx, sale.TID, "mei") }))
	if code := wang.post(at+"/"+sale.TID+"/stop", why(), ""); code != http.StatusSeeOther {
		t.Errorf("stopped: %d", code)
	}
	o.read(func(q *db.Query) error {
		x, err := merchant.TerminalOf(q, sale.TID)
		if x.Life != merchant.Stopped {
			t.Errorf("it is %s", x.Life)
		}
		return err
	})
	if _, body := wang.get(at); len(regexp.MustCompile(`>stopped<|>kept<`).FindAllString(body, -1)) < 2 {
		t.Error("the answers are not listed")
	}
}
