package web

import (
	"net/http/httptest"
	"strings"
	"testing"
)

func TestCatalog(t *testing.T) {
	for _, flaw := range Flaws(words) {
		t.Error(flaw)
	}
}

func TestLanguageOfABrowser(t *testing.T) {
	for accept, want := range map[string]Lang{"": ZH, "fr": ZH, "en-GB,en;q=0.9": EN, "zh-TW": ZH, "en;q=0.3, zh;q=0.8": ZH, "de, en;q=0.1": EN, ";;;=,": ZH} {
		r := httptest.NewRequest("GET", "/", nil)
		r.Header.Set("Accept-Language", accept)
		if got := langOf(r); got != want {
			t.Errorf("%q gives %s, want %s", accept, got, want)
		}
	}
}

func FuzzLocalPath(f *testing.F) {
	for _, s := range []string{"/", "//x", "/my/?a=b", `/\x`, "x", "/a\r\nSet-Cookie: b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := localPath(s)
		if !strings.HasPrefix(got, "/") || strings.HasPrefix(got, "//") || strings.ContainsAny(got, "\\\r\n") {
			t.Errorf("%q leads to %q", s, got)
		}
	})
}

func FuzzToast(f *testing.F) {
	f.Add("Z29vZHxoaQ")
	f.Fuzz(func(t *testing.T, s string) {
		r := httptest.NewRequest("GET", "/", nil)
		r.Header.Set("Cookie", toastCookie+"="+s)
		switch toast := takeToast(httptest.NewRecorder(), r); toast.Tone {
		case Neutral, Good, Warn, Bad, Info:
		default:
			t.Errorf("%q gives tone %q", s, toast.Tone)
		}
	})
}

// TestAPartLeavesTheToast: what refreshes itself while a form is answered does
// not take the words that its answer is to show.
func TestAPartLeavesTheToast(t *testing.T) {
	r := httptest.NewRequest("GET", "/", nil)
	r.Header.Set("Cookie", toastCookie+"=Z29vZHxoaQ")
	if toast := takeToast(httptest.NewRecorder(), r); toast.Text != "hi" {
		t.Errorf("a page shows %+v", toast)
	}
	r.Header.Set("HX-Request", "true")
	w := httptest.NewRecorder()
	if toast := takeToast(w, r); toast.Text != "" || len(w.Result().Cookies()) != 0 {
		t.Errorf("a part takes %+v", toast)
	}
}
