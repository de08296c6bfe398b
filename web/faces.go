package web

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/a-h/templ"
)

// A CardKind picks a card's picture.
type CardKind string

// The products that have a picture.
const (
	CardTransit CardKind = "transit"
	CardCash    CardKind = "cash"
	CardDebit   CardKind = "debit"
	CardCredit  CardKind = "credit"
	CardCanteen CardKind = "canteen"
	CardDoor    CardKind = "door"
	CardCoupon  CardKind = "coupon"
)

var cardKinds = []CardKind{CardTransit, CardCash, CardDebit, CardCredit, CardCanteen, CardDoor, CardCoupon}

// colours are the two ends of the picture's ground; white letters on either
// have at least the contrast of WCAG AA.
func (k CardKind) colours() [2]string {
	switch k {
	case CardTransit:
		return [2]string{"#2F6F5E", "#173F36"}
	case CardCash:
		return [2]string{"#9A6212", "#6E3F0C"}
	case CardDebit:
		return [2]string{"#2B5FA3", "#1B3A66"}
	case CardCredit:
		return [2]string{"#2A3140", "#11151C"}
	case CardCanteen:
		return [2]string{"#B4512F", "#7C2F1B"}
	case CardDoor:
		return [2]string{"#48607A", "#2A3B4E"}
	case CardCoupon:
		return [2]string{"#A83E5C", "#742340"}
	default:
		return [2]string{"#4A524F", "#2A302E"}
	}
}

// A CardFace is what is printed on a card.
type CardFace struct {
	Kind         CardKind
	Name, Issuer Text
	Tail         string // the number's last digits; may be empty
	Value        string // formatted balance; may be empty
	Off          bool   // blocked or not yet ready: drawn pale
}

// A BandFace is what the band's display shows.
type BandFace struct {
	Line1  Text   // the chosen card
	Corner string // battery or time
	Line2  string // the balance
	Line3  Text   // a word below
	Worn   bool
	Locked bool // waits for its passcode: a lock stands beside the word below
}

// A Fact is a name with its value.
type Fact struct {
	Name  Text
	Value string
	Href  string
	Mono  bool
	Show  templ.Component
}

// shortened keeps a name within the band's small display, about 19 narrow
// letters; Chinese ones are twice as wide.
func shortened(s string) string {
	width := 0
	for i, r := range s {
		if r > 0x2E80 {
			width++
		}
		if width++; width > 17 {
			return s[:i] + "…"
		}
	}
	return s
}

func wave(i int) string {
	y := 60 + i*16
	return fmt.Sprintf("M-10 %d C70 %d 120 %d 180 %d S290 %d 340 %d", y, y-38, y+34, y, y-34, y+8)
}

func badgeWidth(short string) int {
	return max(26, 12+8*utf8.RuneCountInString(short)+4*wideRunes(short))
}

func wideRunes(s string) (n int) {
	for _, r := range s {
		if r > 0x2E80 {
			n++
		}
	}
	return n
}

func stopRadius(s MapStation) string {
	if len(s.Lines) > 1 {
		return "4.2"
	}
	return "2.6"
}

func labelled(v MapView, id string) bool {
	if len(v.Route) > 0 {
		return id == v.Route[0] || id == v.Route[len(v.Route)-1] || slices.Contains(v.Label, id)
	}
	if len(v.Label) > 0 {
		return slices.Contains(v.Label, id)
	}
	return slices.Contains(defaultLabels, id)
}

func (n *Network) stopsOf(l MapLine) []MapStation {
	out := make([]MapStation, 0, len(l.Stops))
	for _, id := range l.Stops {
		if s, ok := n.Station(id); ok {
			out = append(out, s)
		}
	}
	return out
}

func (n *Network) lineNames(ctx context.Context, s MapStation) string {
	names := make([]string, 0, len(s.Lines))
	for _, id := range s.Lines {
		if l, ok := n.Line(id); ok {
			names = append(names, l.Name.In(ctx))
		}
	}
	return strings.Join(names, " · ")
}

func iconPath(name string) string { return shared().path("icons.svg") + "#" + name }

func eventsURL(topics []string) string { return "/events?" + url.Values{"topic": topics}.Encode() }

func htmlLang(ctx context.Context) string {
	if LangOf(ctx) == ZH {
		return "zh-CN"
	}
	return "en"
}

func otherLang(ctx context.Context) string {
	if LangOf(ctx) == ZH {
		return string(EN)
	}
	return string(ZH)
}

// The theme button goes round: as the device, light, dark.
func nextTheme(ctx context.Context) string {
	return map[string]string{"": "light", "light": "dark", "dark": ""}[viewOf(ctx).Theme]
}

func themeWord(ctx context.Context) Text {
	return map[string]Text{"": words.ThemeAuto, "light": words.ThemeLight, "dark": words.ThemeDark}[viewOf(ctx).Theme]
}

func themeIcon(ctx context.Context) string {
	return map[string]string{"": "contrast", "light": "sun", "dark": "moon"}[viewOf(ctx).Theme]
}

// doorsFor lists the consoles the one who looks may enter; before a login all.
func doorsFor(ctx context.Context) []Door {
	v := viewOf(ctx)
	if v.kit == nil {
		return nil
	}
	var out []Door
	for _, d := range v.kit.links {
		if !v.In || v.Who.May(d.Audience, http.MethodGet) {
			out = append(out, d)
		}
	}
	return out
}

func within(ctx context.Context, href string) bool {
	p := viewOf(ctx).url.Path
	return p == href || (href != "/" && strings.HasPrefix(p, strings.TrimSuffix(href, "/")+"/"))
}

// current is the value of aria-current.
func current(here bool) string {
	if here {
		return "page"
	}
	return "false"
}

func stepCurrent(s Step) string {
	if s.State == StepNow {
		return "step"
	}
	return "false"
}

func initial(name string) string {
	r, _ := utf8.DecodeRuneInString(name)
	if r == utf8.RuneError {
		return "?"
	}
	return strings.ToUpper(string(r))
}

func toneIcon(t Tone) string {
	switch t {
	case Good:
		return "circle-check"
	case Warn:
		return "triangle-alert"
	case Bad:
		return "circle-alert"
	default:
		return "info"
	}
}

func demoBack(d DemoUser, back string) string {
	if back != "" && back != "/" {
		return back
	}
	if d.Home != "" {
		return d.Home
	}
	return "/"
}

func inputType(f Field) string {
	if f.Type == "" {
		return "text"
	}
	return f.Type
}

func filtered(fields []Field) bool {
	return slices.ContainsFunc(fields, func(f Field) bool { return f.Value != "" && f.Type != "hidden" })
}

func headOf(ctx context.Context, t Table, i int) string {
	if i >= len(t.Head) {
		return ""
	}
	return t.Head[i].Name.In(ctx)
}

func afterGiven(ctx context.Context) bool {
	u := viewOf(ctx).url
	return u.Query().Get("after") != ""
}

func firstURL(ctx context.Context) string {
	u := viewOf(ctx).url
	q := u.Query()
	q.Del("after")
	return u.Path + "?" + q.Encode()
}

func sortedKeys(m map[string]string) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// statusCode and statusWords part "9302 MAC wrong": phones show the code only.
func statusCode(s string) string {
	code, _, _ := strings.Cut(s, " ")
	return code
}

// statusWords are a status word's English words, those of the standards; the
// Chinese meaning of a command says its own.
func statusWords(ctx context.Context, s string) string {
	_, rest, found := strings.Cut(s, " ")
	if !found || LangOf(ctx) != EN {
		return ""
	}
	return " " + rest
}
