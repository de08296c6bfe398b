package web

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"koala/internal/fail"
)

// A Lang is one of the two languages every page speaks.
type Lang string

// The languages, as HTML names them.
const (
	ZH Lang = "zh"
	EN Lang = "en"
)

// A Text is one phrase in both languages. Arguments are numbered (%[1]s), for
// the languages order them differently.
type Text struct{ ZH, EN string }

// In says the text in the language of the page being rendered.
func (t Text) In(ctx context.Context, args ...any) string { return t.To(LangOf(ctx), args...) }

// To says the text in a given language.
func (t Text) To(l Lang, args ...any) string {
	s := t.EN
	if l == ZH {
		s = t.ZH
	}
	return fill(s, args)
}

// fill puts args in; a phrase need not use them all.
func fill(s string, args []any) string {
	if len(args) == 0 {
		return s
	}
	used := 0
	for _, m := range verbPattern.FindAllStringSubmatch(s, -1) {
		if n, err := strconv.Atoi(strings.Trim(m[1], "[]")); err == nil {
			used = max(used, n)
		}
	}
	return fmt.Sprintf(s, args[:min(used, len(args))]...)
}

// Same is a text that reads alike in both languages: a name, a number.
func Same(s string) Text { return Text{s, s} }

// F fills arguments in, giving a text again.
func (t Text) F(args ...any) Text {
	return Text{fill(t.ZH, args), fill(t.EN, args)}
}

// Empty reports whether there is nothing to say.
func (t Text) Empty() bool { return t == Text{} }

// Flaws lists what is wrong with a catalog (a struct of Texts): a language
// missing, or arguments that differ between the two. Every console tests its
// catalog with it.
func Flaws(catalog any) []string {
	var out []string
	v := reflect.ValueOf(catalog)
	for i := range v.NumField() {
		name := v.Type().Field(i).Name
		t, ok := v.Field(i).Interface().(Text)
		switch {
		case !ok:
			out = append(out, name+" is not a Text")
		case t.ZH == "" || t.EN == "":
			out = append(out, name+" lacks a language")
		case !slices.Equal(verbs(t.ZH), verbs(t.EN)):
			out = append(out, name+" has other arguments in the other language")
		}
	}
	return out
}

var verbPattern = regexp.MustCompile(`%(\[\d+\])?[a-z]`)

func verbs(s string) []string {
	v := verbPattern.FindAllString(s, -1)
	slices.Sort(v)
	return slices.Compact(v)
}

// A View is what a page knows about who looks at it.
type View struct {
	Lang  Lang
	Theme string // "", "light" or "dark"; empty follows the device
	Who   User
	In    bool // somebody is logged in
	kit   *Kit
	url   url.URL
}

type viewKey struct{}

func viewOf(ctx context.Context) *View {
	if v, ok := ctx.Value(viewKey{}).(*View); ok {
		return v
	}
	return &View{Lang: EN}
}

func withNote(ctx context.Context, n *requestNote) context.Context {
	return context.WithValue(ctx, noteKey{}, n)
}

// WithLang gives a context whose pages speak l: for tests and mails.
func WithLang(ctx context.Context, l Lang) context.Context {
	v := *viewOf(ctx)
	v.Lang = l
	return context.WithValue(ctx, viewKey{}, &v)
}

// LangOf is the language of the page being rendered.
func LangOf(ctx context.Context) Lang { return viewOf(ctx).Lang }

// Who is the logged-in user of a request, and whether there is one. Handlers
// on a Mux of any audience but Public always have one.
func Who(ctx context.Context) (User, bool) {
	v := viewOf(ctx)
	return v.Who, v.In
}

// Here is the address of the page being rendered, with its query.
func Here(ctx context.Context) string {
	u := viewOf(ctx).url
	return u.RequestURI()
}

const (
	langCookie  = "koala_lang"
	themeCookie = "koala_theme"
	toastCookie = "koala_toast"
	yearSeconds = 365 * 24 * 3600
)

// langOf takes the language chosen on the page, else the one the browser
// prefers, else Chinese: it is a Beijing house.
func langOf(r *http.Request) Lang {
	if c, err := r.Cookie(langCookie); err == nil && (c.Value == string(ZH) || c.Value == string(EN)) {
		return Lang(c.Value)
	}
	best, bestQ := ZH, 0.0
	for part := range strings.SplitSeq(r.Header.Get("Accept-Language"), ",") {
		tag, params, _ := strings.Cut(strings.TrimSpace(part), ";")
		q := 1.0
		if v, ok := strings.CutPrefix(strings.TrimSpace(params), "q="); ok {
			if f, err := strconv.ParseFloat(v, 64); err == nil {
				q = f
			}
		}
		primary, _, _ := strings.Cut(strings.ToLower(tag), "-")
		if (primary == "zh" || primary == "en") && q > bestQ {
			best, bestQ = Lang(primary), q
		}
	}
	return best
}

func themeOf(r *http.Request) string {
	if c, err := r.Cookie(themeCookie); err == nil && (c.Value == "light" || c.Value == "dark") {
		return c.Value
	}
	return ""
}

func (k *Kit) setLang(w http.ResponseWriter, r *http.Request) error {
	to := r.PostFormValue("to")
	if to != string(ZH) && to != string(EN) {
		return fmt.Errorf("language: %w", ErrForm)
	}
	prefer(w, langCookie, to)
	http.Redirect(w, r, localPath(r.PostFormValue("back")), http.StatusSeeOther)
	return nil
}

func (k *Kit) setTheme(w http.ResponseWriter, r *http.Request) error {
	to := r.PostFormValue("to")
	if to != "" && to != "light" && to != "dark" {
		return fmt.Errorf("theme: %w", ErrForm)
	}
	prefer(w, themeCookie, to)
	http.Redirect(w, r, localPath(r.PostFormValue("back")), http.StatusSeeOther)
	return nil
}

func prefer(w http.ResponseWriter, name, value string) {
	http.SetCookie(w, &http.Cookie{Name: name, Value: value, Path: "/", MaxAge: yearSeconds,
		HttpOnly: true, SameSite: http.SameSiteLaxMode})
}

// localPath keeps a redirect inside the house: a path, never another host.
func localPath(s string) string {
	if !strings.HasPrefix(s, "/") || strings.HasPrefix(s, "//") || strings.ContainsAny(s, "\\\r\n") {
		return "/"
	}
	return s
}

func queryEscape(s string) string { return url.QueryEscape(s) }

// Untranslated lists the codes of declared failures that have no Chinese
// sentence yet. A program that imports every domain tests that it is empty.
func Untranslated() (codes []string) {
	for _, f := range fail.All() {
		if _, ok := failuresZH[f.Code]; !ok {
			codes = append(codes, f.Code)
		}
	}
	return codes
}
