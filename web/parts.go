package web

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
	"unicode"

	"github.com/a-h/templ"
)

// A Page is the frame around a console's content.
type Page struct {
	Title  Text
	Lead   Text      // one sentence under the title, may be empty
	Back   string    // address of the page above; shows an arrow
	Nav    []NavItem // the console's own navigation
	Here   string    // which NavItem.Href this page belongs to
	Action *Link     // the one primary action of the page
	Topics []string  // live topics, see Hub.Publish
	Plain  bool      // no page header: the content brings its own
	Phone  bool      // phone first: one narrow column, navigation at the bottom
}

// A NavItem is one entry of a console's navigation.
type NavItem struct {
	Href  string
	Name  Text
	Icon  string
	Group Text // heading it stands under; empty: none, or that of the item before
}

// A navGroup is the entries under one heading.
type navGroup struct {
	name  Text
	items []NavItem
}

// navGroups gathers grouped entries, nil when nothing is grouped.
func navGroups(list []NavItem) (out []navGroup) {
	grouped := false
	for _, n := range list {
		grouped = grouped || !n.Group.Empty()
		if len(out) == 0 || !n.Group.Empty() {
			out = append(out, navGroup{name: n.Group})
		}
		last := &out[len(out)-1]
		last.items = append(last.items, n)
	}
	if !grouped {
		return nil
	}
	return out
}

// navHere is the entry that a page belongs to.
func navHere(p Page) NavItem {
	for _, n := range p.Nav {
		if n.Href == p.Here {
			return n
		}
	}
	return NavItem{Name: p.Title, Icon: "menu"}
}

// A Link leads somewhere.
type Link struct {
	Href string
	Name Text
	Icon string
}

// Page renders body inside the frame. A request from a table row that opens
// the drawer gets body inside the drawer instead, and other htmx requests get
// the whole page to select from.
func (k *Kit) Page(w http.ResponseWriter, r *http.Request, p Page, body templ.Component) error {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	return k.render(w, r, p, body)
}

func (k *Kit) render(w http.ResponseWriter, r *http.Request, p Page, body templ.Component) error {
	var buf bytes.Buffer
	frame := layout(p, takeToast(w, r), body)
	if InDrawer(r) {
		frame = drawer(p, body)
	}
	// Rendered whole first: a template that fails must not leave half a page.
	if err := frame.Render(r.Context(), &buf); err != nil {
		return fmt.Errorf("render %s: %w", r.URL.Path, err)
	}
	_, _ = w.Write(buf.Bytes()) // the reader hung up: nothing is left to tell it
	return nil
}

// Part renders a component alone: the answer to an htmx request that swaps
// just that component.
func (k *Kit) Part(w http.ResponseWriter, r *http.Request, c templ.Component) error {
	var buf bytes.Buffer
	if err := c.Render(r.Context(), &buf); err != nil {
		return fmt.Errorf("render part of %s: %w", r.URL.Path, err)
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = w.Write(buf.Bytes())
	return nil
}

// InDrawer reports whether the answer will be shown in the detail drawer.
func InDrawer(r *http.Request) bool {
	return r.Header.Get("HX-Request") == "true" && strings.HasSuffix(r.Header.Get("HX-Target"), "#drawer")
}

// Tone is what a colour means on a page; a word always stands beside it.
type Tone string

// The tones.
const (
	Neutral Tone = ""
	Good    Tone = "good"
	Warn    Tone = "warn"
	Bad     Tone = "bad"
	Info    Tone = "info"
)

// A Toast is one line that appears after a redirect and goes away.
type Toast struct {
	Tone Tone
	Text string
}

// Redirect ends a form: the browser goes to a path of the house and shows t
// there. An empty text shows nothing.
func Redirect(w http.ResponseWriter, r *http.Request, to string, t Toast) error {
	if t.Text != "" {
		http.SetCookie(w, &http.Cookie{Name: toastCookie, Path: "/", MaxAge: 30, HttpOnly: true, SameSite: http.SameSiteLaxMode,
			Value: base64.RawURLEncoding.EncodeToString([]byte(string(t.Tone) + "|" + t.Text))})
	}
	if r.Header.Get("HX-Request") == "true" {
		w.Header().Set("HX-Redirect", localPath(to))
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	http.Redirect(w, r, localPath(to), http.StatusSeeOther)
	return nil
}

// takeToast is what the page before left to be said. A part of a page that
// refreshes itself leaves it to the page that is on its way.
func takeToast(w http.ResponseWriter, r *http.Request) Toast {
	if r.Header.Get("HX-Request") == "true" {
		return Toast{}
	}
	c, err := r.Cookie(toastCookie)
	if err != nil {
		return Toast{}
	}
	http.SetCookie(w, &http.Cookie{Name: toastCookie, Path: "/", MaxAge: -1, HttpOnly: true})
	raw, err := base64.RawURLEncoding.DecodeString(c.Value)
	tone, text, ok := strings.Cut(string(raw), "|")
	if err != nil || !ok || len(text) > 500 {
		return Toast{}
	}
	switch Tone(tone) {
	case Neutral, Good, Warn, Bad, Info:
		return Toast{Tone(tone), text}
	}
	return Toast{}
}

// A Figure is one number with its name: value, change, and how it came here.
type Figure struct {
	Name      Text
	Value     string // formatted, e.g. Yuan(…)
	Live      string // key of the live event "figures" whose number this is; may be empty
	Money     bool   // the live number is fen
	Delta     string // a figure below it; may be empty
	DeltaText Text   // or words
	Tone      Tone
	Spark     []int64 // may be empty
	Href      string  // may be empty
	Icon      string
}

// A Table is rows with a filter in the URL, keyset pages, a CSV link and an
// empty state that says what to do.
type Table struct {
	ID      string // also the CSV's file name
	Caption Text   // for screen readers and above the table; may be empty
	Head    []Column
	Rows    []Row
	Filter  []Field // shown as a GET form; values come from the request
	Next    string  // from NextURL
	NoCSV   bool
	Empty   Text
	EmptyDo *Link
}

// A Column is a table column.
type Column struct {
	Name Text
	Num  bool // right-aligned, tabular digits
	Wide bool // takes what width is left
}

// A Row is a table row. With Href its first cell is a link; with Drawer the
// link opens beside the table.
type Row struct {
	Href   string
	Drawer bool
	Cells  []Cell
}

// A Cell shows a component or a plain text; CSV files take the text.
type Cell struct {
	Text string
	CSV  string // when the file should say it otherwise
	Show templ.Component
	Mono bool
}

func (c Cell) file() string {
	if c.CSV != "" {
		return c.CSV
	}
	return c.Text
}

// Plain is a cell of text.
func Plain(s string) Cell { return Cell{Text: s} }

// Mono is a cell of an identifier.
func Mono(s string) Cell { return Cell{Text: s, Mono: true} }

// Money is a cell of fen.
func Money(fen int64) Cell { return Cell{Text: Yuan(fen), CSV: plainYuan(fen)} }

// Count is a cell of a whole number.
func Count(n int64) Cell { return Cell{Text: Number(n), CSV: fmt.Sprint(n)} }

// When is a cell of a time, Beijing, to the second.
func When(t time.Time) Cell {
	if t.IsZero() {
		return Cell{Text: "–"}
	}
	return Cell{Text: Moment(t)}
}

// Status is a cell of a chip.
func Status(ctx context.Context, t Tone, word Text) Cell {
	return Cell{Text: word.In(ctx), Show: Chip(t, word)}
}

// A Field is one form field with its hint and error beside it.
type Field struct {
	Name, Value string
	Label       Text
	Hint, Error Text
	Type        string // "text", "number", "date", "search", "password", "select", "hidden"
	Mode        string // inputmode: "decimal", "numeric"
	Options     []Option
	Required    bool
	Lead        string // a sign in front, e.g. ¥
	Max         int    // characters
	List        string // id of a datalist
}

// An Option is a choice of a select field.
type Option struct {
	Value string
	Name  Text
}

// A Happening is one line of a timeline.
type Happening struct {
	At     time.Time
	Who    string // may be empty
	What   Text
	Detail string // may be empty
	Tone   Tone
	Icon   string
	Href   string
}

// A StepState is how far a step of a progress list is.
type StepState string

// The states of a step.
const (
	StepTodo   StepState = "todo"
	StepNow    StepState = "now"
	StepDone   StepState = "done"
	StepFailed StepState = "failed"
)

func (s StepState) word() Text {
	return map[StepState]Text{StepDone: words.StepDone, StepNow: words.StepNow, StepFailed: words.StepFailed}[s]
}

// A Step is one line of a progress list.
type Step struct {
	Name   Text
	Detail string // may be empty
	State  StepState
}

// done gives how many of steps are done, for the bar above them.
func doneOf(steps []Step) int {
	n := 0
	for _, s := range steps {
		if s.State == StepDone {
			n++
		}
	}
	return n
}

// A Confirm asks before an act that cannot be taken back. It names the amount
// and the receiver when money moves.
type Confirm struct {
	ID       string // unique on the page
	Open     Text   // the button that asks
	Icon     string
	Title    Text
	Body     Text
	Amount   string // formatted; may be empty
	Receiver string // who gets it, or what it is done to; may be empty
	About    Text   // what Receiver is called; empty: "To"
	Do       Text   // the button that does it
	Danger   bool
	Action   string            // where the form posts to
	Hidden   map[string]string // its values
}

// A Line is one rule line behind a price, a score or a refusal.
type Line struct {
	Text  Text
	Value string // formatted amount or figure; may be empty
	Total bool   // the last line, set off from the others
}

// An Exchange is one command to a card and its answer.
type Exchange struct {
	N       int
	Command []byte // masked where secret
	Answer  []byte
	Status  string // status word with its words: "9000 OK"
	Means   Text
	Fields  []ExchangeField
	Tone    Tone
	At      string // modelled time, may be empty
}

// An ExchangeField is one field of a command or an answer.
type ExchangeField struct {
	Name, Value string
	Secret      bool
}

// A loginForm is what the login page shows.
type loginForm struct {
	Name, Back string
	Error      Text
	Demo       []DemoUser
}

// Say is a component that says a text in the language of its page.
func Say(t Text) templ.Component {
	return templ.ComponentFunc(func(ctx context.Context, w io.Writer) error {
		_, err := io.WriteString(w, templ.EscapeString(t.In(ctx)))
		return err
	})
}

// AsWritten is a component that gives what somebody wrote, as it stands: in
// Chinese if it has such characters, else in English.
func AsWritten(text string) templ.Component { return Quote(writtenIn(text), text) }

func writtenIn(text string) string {
	if strings.ContainsFunc(text, func(r rune) bool { return unicode.Is(unicode.Han, r) }) {
		return "zh"
	}
	return "en"
}

// Quote is a component that gives a text as it stands, in the language that it
// is in and not the page's: a name in the other language, a source as cited.
func Quote(lang, text string) templ.Component {
	return templ.ComponentFunc(func(_ context.Context, w io.Writer) error {
		_, err := io.WriteString(w, `<span lang="`+templ.EscapeString(lang)+`">`+templ.EscapeString(text)+`</span>`)
		return err
	})
}
