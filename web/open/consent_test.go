package open_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"koala/internal/db"
	"koala/internal/db/dbtest"
	"koala/internal/fail"
	"koala/wallet"
	"koala/web/open"
)

const cardsOfLin = "/v1/bands/band_lin/cards"

// TestACodeOpensOneCard: the code of the band's wearer opens one card, and the
// request that used it up is answered the same again.
func TestACodeOpensOneCard(t *testing.T) {
	dbtest.EachConfig(t, func(t *testing.T, cfg db.Config) { aCodeOpensOneCard(t, openOn(t, cfg)) })
}

func aCodeOpensOneCard(t *testing.T, h *house) {
	key := h.key("jiahe", open.Scopes...)
	lunch := h.approved(key, coupon)
	tea := h.approved(key, strings.Replace(coupon, "lunch-club", "tea-club", 1))
	code := h.agree("jiahe")
	first := h.send(ask{"POST", cardsOfLin, key, "1", wish(lunch, "m1", strings.ToLower(strings.ReplaceAll(code, "-", " "))), nil})
	if first.status != 202 {
		t.Fatalf("with a code: %d %s", first.status, first.body)
	}
	replayed := h.send(ask{"POST", cardsOfLin, key, "1", wish(lunch, "m1", strings.ToLower(strings.ReplaceAll(code, "-", " "))), nil})
	if replayed.status != 202 || replayed.text("id") != first.text("id") || replayed.header.Get("Idempotent-Replayed") != "true" {
		t.Errorf("the same request again: %d %s", replayed.status, replayed.body)
	}
	reused := h.send(ask{"POST", cardsOfLin, key, "2", wish(tea, "m2", code), nil})
	if reused.status != 409 || reused.text("code") != "open.consent_over" {
		t.Errorf("the code for another card: %d %s", reused.status, reused.body)
	}
	h.must(h.store.Read(ctx, func(q *db.Query) error {
		list, err := open.ConsentsOf(q, "cust_lin", time.Time{})
		if len(list) != 1 || list[0].End != open.ConsentUsed || list[0].By != "jiahe" || list[0].Order != first.text("id") {
			t.Errorf("kept %+v", list)
		}
		firm, found, err2 := open.FirmOf(q, first.text("id"))
		if !found || firm.Code != "jiahe" {
			t.Errorf("ordered by %+v", firm)
		}
		used, err3 := open.ConsentsUsedBy(q, "jiahe", 10)
		if len(used) != 1 {
			t.Errorf("used %+v", used)
		}
		return errors.Join(err, err2, err3)
	}))
	h.now.Advance(31 * 24 * time.Hour)
	h.do(open.Forget)
	h.must(h.store.Read(ctx, func(q *db.Query) error {
		list, err := open.ConsentsOf(q, "cust_lin", time.Time{})
		if len(list) != 0 {
			t.Error("old codes stay")
		}
		return err
	}))
}

// TestACodeThatFailsIsNotUsedUp: code and card stand in one unit.
func TestACodeThatFailsIsNotUsedUp(t *testing.T) {
	h := openHouse(t)
	key := h.key("jiahe", open.Scopes...)
	lunch := h.approved(key, coupon)
	h.send(ask{"POST", cardsOfLin, key, "1", wish(lunch, "m1", h.agree("")), nil})
	c, code := h.consent("band_lin", "cust_lin", "")
	if got := h.send(ask{"POST", cardsOfLin, key, "2", wish(lunch, "m2", code), nil}); got.text("code") != "issuing.band_has_card" {
		t.Fatalf("a second card: %d %s", got.status, got.body)
	}
	if got := h.codeNow(c.ID); !got.Lives(h.now.Now()) {
		t.Errorf("the code of a refused request: %+v", got)
	}
}

func (h *house) codeNow(id string) (out open.Consent) {
	h.t.Helper()
	h.must(h.store.Read(ctx, func(q *db.Query) error {
		list, err := open.ConsentsOf(q, "cust_lin", time.Time{})
		for _, c := range list {
			if c.ID == id {
				out = c
			}
		}
		return err
	}))
	return out
}

func TestCodesThatOpenNothing(t *testing.T) {
	h := openHouse(t)
	key := h.key("jiahe", open.Scopes...)
	h.key("other", open.Scopes...)
	lunch := h.approved(key, coupon)
	h.do(func(tx *db.Tx) error {
		return errors.Join(wallet.Open(tx, "cust_mei"), h.tsm.Register(tx, "band_mei", "cust_mei"))
	})
	_, foreign := h.consent("band_mei", "cust_mei", "")
	gone, withdrawn := h.consent("band_lin", "cust_lin", "")
	h.do(func(tx *db.Tx) error { return open.Withdraw(tx, "cust_lin", gone.ID) })
	_, old := h.consent("band_lin", "cust_lin", "")
	h.now.Advance(open.ConsentTime)
	theirs := h.agree("other")
	for _, tt := range []struct {
		name, body string
		status     int
		code       string
	}{
		{"none", fmt.Sprintf(`{"template": %q, "reference": "m1"}`, lunch), 422, "open.request"},
		{"empty", wish(lunch, "m1", ""), 422, "open.request"},
		{"of another band", wish(lunch, "m1", foreign), 403, "open.consent"},
		{"for another firm", wish(lunch, "m1", theirs), 403, "open.consent_firm"},
		{"withdrawn", wish(lunch, "m1", withdrawn), 409, "open.consent_over"},
		{"too old", wish(lunch, "m1", old), 409, "open.consent_over"},
		{"never made", wish(lunch, "m1", "2222-2222"), 403, "open.consent"},
	} {
		got := h.send(ask{"POST", cardsOfLin, key, "k", tt.body, nil})
		if got.status != tt.status || got.text("code") != tt.code {
			t.Errorf("%s: %d %s, want %d %s", tt.name, got.status, got.body, tt.status, tt.code)
		}
	}
	if got := h.send(ask{"POST", cardsOfLin, key, "k", wish(lunch, "m1", h.agree("")), nil}); got.status != 202 {
		t.Errorf("a right code under the key of refused requests: %d %s", got.status, got.body)
	}
}

func TestFiveWrongCodesEndAllOfThem(t *testing.T) {
	dbtest.EachConfig(t, func(t *testing.T, cfg db.Config) { fiveWrongCodesEndAllOfThem(t, openOn(t, cfg)) })
}

func fiveWrongCodesEndAllOfThem(t *testing.T, h *house) {
	key := h.key("jiahe", open.Scopes...)
	lunch := h.approved(key, coupon)
	tea := h.approved(key, strings.Replace(coupon, "lunch-club", "tea-club", 1))
	wrong := func(n int) {
		t.Helper()
		for i := range n {
			h.now.Advance(time.Second)
			if got := h.send(ask{"POST", cardsOfLin, key, "w", wish(tea, "t1", fmt.Sprintf("2222-333%d", i+2)), nil}); got.text("code") != "open.consent" {
				t.Fatalf("wrong code: %d %s", got.status, got.body)
			}
		}
	}
	a, b := h.agree(""), h.agree("")
	wrong(4)
	if got := h.send(ask{"POST", cardsOfLin, key, "1", wish(lunch, "m1", a), nil}); got.status != 202 {
		t.Fatalf("after four: %d %s", got.status, got.body)
	}
	wrong(4) // a right one came between
	c := h.agree("jiahe")
	wrong(1)
	for _, code := range []string{b, c} {
		if got := h.send(ask{"POST", cardsOfLin, key, "2", wish(tea, "t1", code), nil}); got.status != 409 || got.text("code") != "open.consent_over" {
			t.Errorf("after five: %d %s", got.status, got.body)
		}
	}
	h.must(h.store.Read(ctx, func(q *db.Query) error {
		list, err := open.ConsentsOf(q, "cust_lin", time.Time{})
		if len(list) != 3 || list[0].End != open.ConsentGuessed || list[1].End != open.ConsentGuessed || list[2].End != open.ConsentUsed {
			t.Errorf("ended as %+v", list)
		}
		return err
	}))
}

func TestWhoMayAgree(t *testing.T) {
	h := openHouse(t)
	h.key("jiahe", open.Scopes...)
	chance := bytes.Repeat([]byte{7}, 8)
	h.agree("")
	for _, tt := range []struct {
		owner, band, firm, form string
		chance                  []byte
		want                    string
	}{
		{"cust_mei", "band_lin", "", "f", chance, "tsm.band_not_found"}, {"cust_lin", "band_no", "", "f", chance, "tsm.band_not_found"},
		{"cust_lin", "band_lin", "nobody", "f", chance, "open.no_partner"}, {"cust_lin", "band_lin", "", "", chance, "open.request"},
		{"cust_lin", "band_lin", "", "f", chance[:7], "open.request"}, {"cust_lin", "band_lin", "", fmt.Sprint("form ", h.refs), chance, "open.consent_shown"},
	} {
		err := h.store.Write(ctx, func(tx *db.Tx) error {
			_, _, err := open.Agree(tx, h.now.Now(), tt.owner, tt.band, tt.firm, tt.form, tt.chance)
			return err
		})
		if fail.Of(err).Code != tt.want {
			t.Errorf("%+v: %v, want %s", tt, err, tt.want)
		}
	}
	c, code := h.consent("band_lin", "cust_lin", "jiahe")
	if strings.Contains(fmt.Sprintf("%+v", c), strings.ReplaceAll(code, "-", "")) {
		t.Error("a consent tells its code")
	}
	if err := h.store.Write(ctx, func(tx *db.Tx) error { return open.Withdraw(tx, "cust_mei", c.ID) }); !errors.Is(err, open.ErrNoThing) {
		t.Errorf("withdrawn by another: %v", err)
	}
	for range open.MaxConsents - 2 {
		h.agree("")
	}
	err := h.store.Write(ctx, func(tx *db.Tx) error {
		_, _, err := open.Agree(tx, h.now.Now(), "cust_lin", "band_lin", "", "one more", chance)
		return err
	})
	if !errors.Is(err, open.ErrConsentMany) {
		t.Errorf("one too many: %v", err)
	}
}
