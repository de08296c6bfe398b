package app_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"koala/internal/db"
	"koala/issuing"
	partners "koala/web/open"
)

// A partner is a firm's program at the front door.
type partner struct {
	t    *testing.T
	base string
	key  string
}

func (p partner) send(method, path, idem, body string) (int, map[string]any) {
	p.t.Helper()
	r, err := http.NewRequest(method, p.base+path, strings.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+p.key)
	r.Header.Set("Idempotency-Key", idem)
	r.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		p.t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	out := map[string]any{}
	if err != nil || len(b) > 0 && json.Unmarshal(b, &out) != nil {
		p.t.Fatalf("%s %s: %s, %v", method, path, b, err)
	}
	return res.StatusCode, out
}

// partnerOf makes a partner with a key.
func partnerOf(w *town, s *httptest.Server) partner {
	w.Helper()
	text := partners.KeyText(bytes.Repeat([]byte{7}, 24))
	w.write(func(tx *db.Tx) error {
		if err := partners.AddPartner(tx, partners.Partner{Code: "jiahe", NameEN: "Jiahe", NameZH: "嘉和"}); err != nil {
			return err
		}
		_, err := partners.AddKey(tx, partners.Key{Partner: "jiahe", Name: "test", Scopes: partners.Scopes, By: "test"}, "form", text)
		return err
	})
	return partner{w.T, s.URL, text}
}

// TestPartnerIssuesACardOverTheAir: from a described template, through staff's
// approval, to a card that the band's element has proven.
func TestPartnerIssuesACardOverTheAir(t *testing.T) {
	w, r := lived(t, config(t))
	s := front(t, w)
	p := partnerOf(w, s)
	status, made := p.send("POST", "/v1/card-templates", "1", `{"code": "tea", "kind": "coupon", "name_en": "Tea", "name_zh": "茶",
		"coupon": {"gives": "amount", "value": 500, "minimum_fen": 2000, "uses": 3, "days": 30}}`)
	id, _ := made["id"].(string)
	if status != http.StatusCreated {
		t.Fatalf("draft: %d %v", status, made)
	}
	if status, got := p.send("POST", "/v1/card-templates/"+id+"/submit", "2", ""); status != http.StatusOK || got["state"] != "submitted" {
		t.Fatalf("submit: %d %v", status, got)
	}
	w.write(func(tx *db.Tx) error {
		list, err := issuing.Templates(tx, "jiahe", 1)
		if err == nil {
			_, err = issuing.Approve(tx, list[0].ID, "mei")
		}
		return err
	})
	var code string
	w.write(func(tx *db.Tx) (err error) {
		_, code, err = partners.Agree(tx, time.Now(), string(w.who), r.band, "jiahe", "form", bytes.Repeat([]byte{7}, 8))
		return err
	})
	status, order := p.send("POST", "/v1/bands/"+r.band+"/cards", "3", `{"template": "`+id+`", "reference": "member-1", "consent": "`+code+`"}`)
	if status != http.StatusAccepted || order["state"] != "waiting" {
		t.Fatalf("order: %d %v", status, order)
	}
	w.must(w.street.RunAgent(ctx, r.band))
	if _, got := p.send("GET", "/v1/orders/"+order["id"].(string), "", ""); got["state"] != "done" || got["steps_done"] != got["steps"] {
		t.Errorf("order: %v", got)
	}
	if _, got := p.send("GET", "/v1/cards/"+order["card"].(string), "", ""); got["state"] != "active" || got["kind"] != "coupon" {
		t.Errorf("card: %v", got)
	}
	green(t, w.h)
}

// TestPartnersDoor: the door needs a key, forgets what is old, and needs no
// session or same origin.
func TestPartnersDoor(t *testing.T) {
	w := newTown(t, config(t))
	s := front(t, w)
	p := partnerOf(w, s)
	for path, want := range map[string]int{"/v1/openapi.json": 200, "/developers": 200, "/v1/card-templates": 401, "/v1/nowhere": 401} {
		res, err := http.Get(s.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != want {
			t.Errorf("%s: status %d, want %d", path, res.StatusCode, want)
		}
	}
	if status, _ := p.send("GET", "/v1/card-templates", "", ""); status != http.StatusOK {
		t.Errorf("with a key: status %d", status)
	}
	w.clock.Advance(31 * 24 * time.Hour)
	w.must(w.h.Tick(ctx))
	w.read(func(q *db.Query) error {
		rows, err := partners.RequestsOf(q, "jiahe", "", 10)
		if len(rows) != 0 {
			t.Errorf("%d old rows", len(rows))
		}
		return err
	})
}
