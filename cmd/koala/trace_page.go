package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"koala/fare"
	"koala/money"
	"koala/spec/iso7816"
)

// A say is one thing in both languages.
type say struct{ en, zh string }

func sayf(s say, args ...any) say { return say{fmt.Sprintf(s.en, args...), fmt.Sprintf(s.zh, args...)} }

// A traceLine is one thing that happened. Its JSON is a contract: fields are
// added, never renamed. Hexadecimal is upper case, times are Beijing's, numbers of money are fen.
type traceLine struct {
	Section string       `json:"section"`
	Kind    string       `json:"kind"` // section, note, apdu, decision, message, row, posting, time
	Text    string       `json:"text,omitempty"`
	Detail  string       `json:"detail,omitempty"`
	Where   string       `json:"where,omitempty"` // of an APDU: band or PSAM
	Command string       `json:"command,omitempty"`
	Plain   string       `json:"plain,omitempty"` // what the command says inside the secure channel
	Answer  string       `json:"answer,omitempty"`
	Torn    bool         `json:"torn,omitempty"` // no answer came
	TookUS  int64        `json:"took_us,omitempty"`
	Body    string       `json:"body,omitempty"` // of a message
	Fields  []traceField `json:"fields,omitempty"`
	Lines   []fare.Line  `json:"lines,omitempty"` // why this fare
	Legs    []traceLeg   `json:"legs,omitempty"`
}

// A traceField is one named value; a secret one is masked.
type traceField struct {
	Name   string `json:"name"`
	Value  string `json:"value"`
	Secret bool   `json:"secret,omitempty"`
}

// A traceLeg is one leg of a posting with what it left on its account.
type traceLeg struct {
	Code    string `json:"code"`
	Chart   string `json:"chart"`
	Account string `json:"account"`
	Fen     int64  `json:"fen"`         // + to the account, - from it
	Balance int64  `json:"balance_fen"` // credits less debits
}

// A tracePage writes a trace as text or as JSON lines. The first failure to
// write is kept; what follows is dropped.
type tracePage struct {
	out     io.Writer
	zh      bool
	json    bool
	section string
	count   int
	pan     string // of the card under way, never shown
	err     error
}

// in picks the page's language.
func (p *tracePage) in(s say) string {
	if p.zh {
		return s.zh
	}
	return s.en
}

// begin opens a section: its name for programs, its title, what happens in it.
func (p *tracePage) begin(section string, title, detail say) {
	p.section = section
	p.count++
	p.put(traceLine{Kind: "section", Text: p.in(title), Detail: p.in(detail)})
}

func (p *tracePage) note(s say) { p.put(traceLine{Kind: "note", Text: p.in(s)}) }

// field makes a field in the page's language.
func (p *tracePage) field(name say, format string, args ...any) traceField {
	return traceField{Name: p.in(name), Value: fmt.Sprintf(format, args...)}
}

// fields takes over what the explanation of a command names.
func (p *tracePage) fields(from []iso7816.Field) (out []traceField) {
	for _, f := range from {
		out = append(out, traceField{Name: p.in(say{f.Name, f.NameZH}), Value: f.Value, Secret: f.Secret})
	}
	return out
}

// both names a command in the page's language and then in the other.
func (p *tracePage) both(s say) string {
	if p.zh {
		return s.zh + "  " + s.en
	}
	return s.en + "  " + s.zh
}

func (p *tracePage) put(l traceLine) {
	if p.err != nil {
		return
	}
	l.Section = p.section
	for _, text := range []*string{&l.Command, &l.Plain, &l.Answer, &l.Body} {
		*text = withoutPAN(*text, p.pan)
	}
	if p.json {
		enc := json.NewEncoder(p.out)
		enc.SetEscapeHTML(false)
		p.err = enc.Encode(l)
		return
	}
	_, p.err = io.WriteString(p.out, p.text(l))
}

// withoutPAN hides the middle of a card's number wherever it stands in bytes,
// also where an order's log has zeros there.
func withoutPAN(text, pan string) string {
	if len(pan) < 13 {
		return text
	}
	head, n, tail := pan[:6], len(pan)-10, pan[len(pan)-4:]
	shown := head + strings.Repeat("X", n) + tail
	return strings.NewReplacer(pan, shown, head+strings.Repeat("0", n)+tail, shown).Replace(text)
}

// The text form's columns.
const (
	traceWidth = 100
	hexWidth   = 64 // digits of one line of hexadecimal
	bodyWidth  = 240
	nameWidth  = 30
)

func (p *tracePage) text(l traceLine) string {
	var b strings.Builder
	switch l.Kind {
	case "section":
		gap := "\n"
		if p.count == 1 {
			gap = ""
		}
		fmt.Fprintf(&b, "%s%d. %s\n", gap, p.count, l.Text)
		paragraph(&b, "   ", "   ", l.Detail)
		return b.String()
	case "note":
		paragraph(&b, "   ", "   ", l.Text)
		return b.String()
	case "apdu":
		p.dialogue(&b, l)
	default:
		paragraph(&b, "   "+p.in(kindNames[l.Kind])+"  ", "     ", l.Text)
		if l.Body != "" {
			block(&b, "     ", l.Body)
		}
	}
	for _, f := range l.Fields {
		named(&b, f.Name, f.Value)
	}
	for _, f := range l.Lines {
		fmt.Fprintf(&b, "     %8s  %s\n", money.Fen(f.Fen).Yuan(), p.both(say{f.EN, f.ZH}))
	}
	for _, leg := range l.Legs {
		fmt.Fprintf(&b, "     %s %s %s %12s   %s %s\n", leg.Code, padded(leg.Chart, 26), padded(leg.Account, 38),
			signed(leg.Fen), p.in(say{"balance", "余额"}), money.Fen(leg.Balance).Yuan())
	}
	return b.String()
}

var kindNames = map[string]say{"decision": {"decision", "判定"}, "message": {"message", "报文"}, "row": {"row", "记录"},
	"posting": {"posting", "记账"}, "time": {"time", "时间"}}

func (p *tracePage) dialogue(b *strings.Builder, l traceLine) {
	took := ""
	if l.TookUS > 0 {
		took = "   " + millis(time.Duration(l.TookUS)*time.Microsecond)
	}
	paragraph(b, fmt.Sprintf("   %-4s  ", l.Where), "         ", l.Text+took)
	block(b, "      >  ", l.Command)
	if l.Plain != "" {
		block(b, "      =  ", l.Plain)
	}
	if l.Torn {
		fmt.Fprintf(b, "      <  %s\n", p.in(say{"no answer: the band has left the field", "无应答：手环已离开读卡区"}))
	} else {
		block(b, "      <  ", l.Answer)
	}
}

// named writes a field, long values broken into lines.
func named(b *strings.Builder, name, value string) {
	lead := "     " + padded(name, nameWidth) + " "
	for _, part := range broken(value) {
		fmt.Fprintf(b, "%s%s\n", lead, part)
		lead = strings.Repeat(" ", nameWidth+6)
	}
}

// broken breaks a value where a line may end, and bytes anywhere.
func broken(value string) (parts []string) {
	line := ""
	for _, word := range words(value) {
		if columns(line)+columns(strings.TrimRight(word, " ")) > hexWidth && line != "" {
			parts, line = append(parts, strings.TrimRight(line, " ")), ""
		}
		for ; len(word) > hexWidth && columns(word) == len(word); word = word[hexWidth:] {
			parts = append(parts, word[:hexWidth])
		}
		line += word
	}
	return append(parts, strings.TrimRight(line, " "))
}

// block writes hexadecimal, or a body of JSON, behind a lead.
func block(b *strings.Builder, lead, text string) {
	if strings.HasPrefix(text, "{") {
		rest := ""
		if len(text) > bodyWidth {
			rest = fmt.Sprintf(" … (%d)", len(text))
			text = text[:bodyWidth]
		}
		fmt.Fprintf(b, "%s%s%s\n", lead, text, rest)
		return
	}
	for first := true; first || text != ""; first = false {
		n := min(len(text), hexWidth)
		fmt.Fprintf(b, "%s%s\n", lead, text[:n])
		text, lead = text[n:], strings.Repeat(" ", len(lead))
	}
}

// paragraph breaks text into lines of traceWidth columns, at spaces and
// anywhere between Chinese characters: the first behind lead, others behind
// hang.
func paragraph(b *strings.Builder, lead, hang, text string) {
	line, at := lead, columns(lead)
	for _, word := range words(text) {
		if n := columns(word); at+columns(strings.TrimRight(word, " ")) > traceWidth && strings.TrimSpace(line) != "" {
			b.WriteString(strings.TrimRight(line, " ") + "\n")
			line, at = hang+word, columns(hang)+n
			continue
		}
		line, at = line+word, at+columns(word)
	}
	b.WriteString(strings.TrimRight(line, " ") + "\n")
}

// words splits a text where a line may end; a space stays with the word before.
func words(text string) (out []string) {
	from := 0
	runes := []rune(text)
	for i, r := range runes {
		closing := i+1 < len(runes) && strings.ContainsRune("，。；：、）", runes[i+1])
		if r == ' ' || wide(r) && !closing {
			out = append(out, string(runes[from:i+1]))
			from = i + 1
		}
	}
	return append(out, string(runes[from:]))
}

// wide says that a character takes two columns of a terminal.
func wide(r rune) bool {
	return r >= 0x2E80 && r <= 0xA4CF || r >= 0xAC00 && r <= 0xD7A3 || r >= 0xF900 && r <= 0xFAFF || r >= 0xFF00 && r <= 0xFF60
}

func columns(s string) (n int) {
	for _, r := range s {
		if n++; wide(r) {
			n++
		}
	}
	return n
}

func padded(s string, n int) string { return s + strings.Repeat(" ", max(n-columns(s), 0)) }

func signed(fen int64) string {
	if fen > 0 {
		return "+" + money.Fen(fen).Yuan()
	}
	return money.Fen(fen).Yuan()
}

// millis shows a modelled time in milliseconds.
func millis(d time.Duration) string {
	return fmt.Sprintf("%.2f ms", float64(d)/float64(time.Millisecond))
}
