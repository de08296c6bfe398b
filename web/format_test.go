package web_test

import (
	"encoding/csv"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"koala/web"
)

func TestYuan(t *testing.T) {
	for _, tt := range []struct {
		fen  int64
		want string
	}{
		{0, "¥0.00"}, {5, "¥0.05"}, {740, "¥7.40"}, {-80, "−¥0.80"}, {100_000, "¥1\u2009000.00"},
		{123_456_789, "¥1\u2009234\u2009567.89"}, {-1 << 63, "−¥92\u2009233\u2009720\u2009368\u2009547\u2009758.08"},
	} {
		if got := web.Yuan(tt.fen); got != tt.want {
			t.Errorf("%d fen is %q, want %q", tt.fen, got, tt.want)
		}
	}
}

func TestYuanLosesNoFen(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		fen := rapid.Int64().Draw(t, "fen")
		s := strings.NewReplacer("¥", "", "\u2009", "", "−", "-", ".", "").Replace(web.Yuan(fen))
		if back, err := strconv.ParseInt(s, 10, 64); err != nil || back != fen {
			t.Fatalf("%d is written %q, read %d (%v)", fen, web.Yuan(fen), back, err)
		}
	})
}

func TestTimesAreBeijing(t *testing.T) {
	at := time.Date(2015, 9, 14, 23, 59, 30, 0, time.UTC)
	ctx := web.WithLang(t.Context(), web.ZH)
	if got := web.Moment(at) + " " + web.Clock(at) + " " + web.Day(ctx, at); got != "2015-09-15 07:59:30 07:59:30 9月15日 周二" {
		t.Error(got)
	}
	if got := web.Day(web.WithLang(t.Context(), web.EN), at); got != "Tue 15 Sep" {
		t.Error(got)
	}
}

func TestCSV(t *testing.T) {
	r := httptest.NewRequest("GET", "/ops/gates?as=csv&after=k", nil)
	w := httptest.NewRecorder()
	table := web.Table{ID: "gates", Head: []web.Column{{Name: web.Text{ZH: "站", EN: "Station"}}, {Name: web.Same("Fen")}},
		Rows: []web.Row{{Cells: []web.Cell{web.Plain("东单"), web.Money(-123456)}}, {Cells: []web.Cell{web.Plain("=SUM(A1)"), web.Count(1234)}}}}
	if err := web.WriteCSV(w, r, table); err != nil {
		t.Fatal(err)
	}
	rows, err := csv.NewReader(strings.NewReader(strings.TrimPrefix(w.Body.String(), "\uFEFF"))).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	if got := rows[1][1] + rows[2][0] + rows[2][1]; got != "-1234.56'=SUM(A1)1234" {
		t.Error(got)
	}
}

func TestPagesFollowTheirFilter(t *testing.T) {
	r := httptest.NewRequest("GET", "/ops/gates?q=东单&after=a", nil)
	p := web.PageOf(r, 2)
	if next := web.NextURL(r, 2, p, "k&1"); next != "/ops/gates?after=k%261&q=%E4%B8%9C%E5%8D%95" || p.After != "a" {
		t.Error(next, p)
	}
	if next := web.NextURL(r, 1, p, "k"); next != "" {
		t.Errorf("a short page has a next one: %s", next)
	}
}

func TestTexts(t *testing.T) {
	text := web.Text{ZH: "%[2]s的%[1]s", EN: "%[1]s of %[2]s"}
	if got := text.To(web.ZH, "卡", "安") + text.To(web.EN, "card", "Ann"); got != "安的卡card of Ann" {
		t.Error(got)
	}
	if got := (web.Text{ZH: "好", EN: "fine"}).To(web.EN, "surplus"); got != "fine" {
		t.Error(got)
	}
	flaws := web.Flaws(struct{ A, B, C web.Text }{web.Text{ZH: "甲", EN: "a"}, web.Text{ZH: "乙"}, web.Text{ZH: "%[1]d", EN: "c"}})
	if len(flaws) != 2 {
		t.Error(flaws)
	}
}

func TestMapPlacesEveryStation(t *testing.T) {
	n := web.NewNetwork([]web.MapLine{{ID: "1", Stops: []string{"a", "b"}, Color: "#A73C34"}},
		[]web.MapStation{{ID: "a", Lat: 39.9, Lon: 116.2, Lines: []string{"1"}}, {ID: "b", Lat: 39.95, Lon: 116.6, Lines: []string{"1"}}})
	var out strings.Builder
	view := web.MapView{Href: func(id string) string { return "/at/" + id }, Route: []string{"a", "b"}}
	if err := web.CityMap(n, view).Render(web.WithLang(t.Context(), web.EN), &out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`href="/at/a"`, `data-id="b"`, `class="route"`, `stroke="#A73C34"`} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the map lacks %s", want)
		}
	}
	defer func() {
		if recover() == nil {
			t.Error("a line through an unknown station is drawn")
		}
	}()
	web.NewNetwork([]web.MapLine{{ID: "1", Stops: []string{"x"}}}, nil)
}
