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
