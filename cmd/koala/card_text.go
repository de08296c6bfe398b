package main

import (
	"fmt"
	"io"
	"strings"

	"koala/spec/dialogue"
)

// A cardPage writes explained cards for people. The first failure to write is
// kept.
type cardPage struct {
	out                 io.Writer
	zh, summary, colour bool
	count               int
}

// The colours of a terminal; none when the page goes elsewhere.
const (
	bold   = "1"
	dim    = "2"
	red    = "31"
	green  = "32"
	yellow = "33"
	cyan   = "36"
)

func (p *cardPage) paint(colour, s string) string {
	if !p.colour || s == "" {
		return s
	}
	return "\x1b[" + colour + "m" + s + "\x1b[0m"
}

func (p *cardPage) in(s say) string { return s.in(p.zh) }

// in picks a language.
func (s say) in(zh bool) string {
	if zh {
		return s.zh
	}
	return s.en
}

// Widths of the page, in columns.
const (
	cardNameWidth  = 14
	cardValueWidth = 64
	objectWidth    = 46
	cardLineWidth  = 118
)

func (p *cardPage) card(t dialogue.Transcript, r dialogue.Report) error {
	var b strings.Builder
	if p.count++; p.count > 1 {
		b.WriteString("\n")
	}
	if t.ID != "" {
		fmt.Fprintf(&b, "%s  %s\n", p.paint(bold, t.ID), t.Title)
	}
	p.head(&b, r)
	p.certificates(&b, r.Certificates)
	p.records(&b, r.Records)
	if !p.summary {
		p.dialogue(&b, r.Lines)
	}
	_, err := io.WriteString(p.out, b.String())
	return err
}

func (p *cardPage) named(b *strings.Builder, name say, value string) {
	if value != "" {
		fmt.Fprintf(b, "%s%s\n", padded(p.in(name), cardNameWidth), value)
	}
}

func (p *cardPage) head(b *strings.Builder, r dialogue.Report) {
	way := map[dialogue.Interface]say{dialogue.Contact: {", contact", "，接触"}, dialogue.Contactless: {", contactless", "，非接触"}}[r.Interface]
	p.named(b, say{"card", "卡"}, p.paint(bold, r.Card.Words(p.zh))+p.in(way))
	p.named(b, say{"number", "卡号"}, r.Number)
	switch {
	case r.From != "" && r.To != "":
		p.named(b, say{"valid", "有效期"}, r.From+" – "+r.To)
	case r.To != "":
		p.named(b, say{"valid to", "有效期至"}, r.To)
	}
	if r.Balance.Known {
		p.named(b, say{"balance", "余额"}, p.paint(green, dialogue.Amount(r.Balance.Fen, r.Balance.Currency))+p.paint(dim, "  "+r.Balance.Source))
	}
	for i, a := range r.Applications {
		name := say{"applications", "应用"}
		if i > 0 {
			name = say{}
		}
		text := fmt.Sprintf("%X  %s", a.AID, p.in(say{a.Name, a.NameZH}))
		if a.Label != "" {
			text += fmt.Sprintf(" %q", a.Label)
		}
		if !a.Selected {
			text += p.paint(dim, p.in(say{" (listed)", "（仅列出）"}))
		}
		fmt.Fprintf(b, "%s%s\n", padded(p.in(name), cardNameWidth), text)
	}
	if len(r.Unnamed) > 0 {
		var tags []string
		for _, tag := range r.Unnamed {
			tags = append(tags, tag.String())
		}
		p.named(b, say{"unknown tags", "未知标签"}, p.paint(yellow, strings.Join(tags, " ")))
	}
}

// certificateNames are what each check is called.
var certificateNames = map[dialogue.CertificateKind]say{
	dialogue.IssuerKey: {"issuer certificate", "发卡行证书"}, dialogue.CardKey: {"card certificate", "IC 卡证书"},
	dialogue.StaticData: {"static data (SDA)", "静态数据 (SDA)"}, dialogue.Dynamic: {"dynamic signature (DDA)", "动态签名 (DDA)"},
	dialogue.Combined: {"combined signature (CDA)", "复合签名 (CDA)"}, dialogue.FastDDA: {"contactless signature (fDDA)", "非接触签名 (fDDA)"},
}

func (p *cardPage) certificates(b *strings.Builder, list []dialogue.Certificate) {
	if len(list) == 0 {
		return
	}
	fmt.Fprintf(b, "\n%s\n", p.paint(bold, p.in(say{"certificates", "证书"})))
	for _, c := range list {
		outcome := p.paint(green, padded(p.in(say{"ok", "通过"}), 12))
		switch {
		case !c.Decided:
			outcome = p.paint(yellow, padded(p.in(say{"not checked", "未校验"}), 12))
		case !c.OK:
			outcome = p.paint(red, padded(p.in(say{"WRONG", "错误"}), 12))
		}
		fmt.Fprintf(b, "  %s%s%s\n", outcome, padded(p.in(certificateNames[c.Kind]), 30), p.certificate(c))
	}
}

func (p *cardPage) certificate(c dialogue.Certificate) string {
	var parts []string
	if c.Signer != "" {
		parts = append(parts, fmt.Sprintf(p.in(say{"under %s", "由%s签发"}), p.in(say{c.Signer, c.SignerZH})))
	}
	if c.Bits > 0 {
		parts = append(parts, fmt.Sprintf(p.in(say{"%d bit", "%d 位"}), c.Bits), p.in(say{"until ", "有效至 "})+c.Expiry, c.Owner)
	}
	if why := p.in(say{c.Reason, c.ReasonZH}); why != "" {
		parts = append(parts, why)
	}
	if c.Hash {
		parts = append(parts, p.in(say{"hash matches", "哈希相符"}))
	}
	return strings.Join(parts, ", ")
}

var recordNames = map[dialogue.RecordKind]say{
	dialogue.PurseLog: {"purse log", "交易明细"}, dialogue.TripLog: {"trips", "行程记录"}, dialogue.RailRecord: {"rail record", "轨道记录"},
	dialogue.TransactionLog: {"transaction log", "交易日志"}, dialogue.LoadLog: {"load log", "圈存日志"},
}

// records writes one line a record under the names of its values.
func (p *cardPage) records(b *strings.Builder, list []dialogue.Record) {
	kind := dialogue.RecordKind("")
	for _, r := range list {
		if r.Kind != kind {
			kind = r.Kind
			fmt.Fprintf(b, "\n%s\n", p.paint(bold, p.in(recordNames[kind])))
		}
		var parts []string
		for _, v := range r.Values {
			if v.Key != "type" || len(r.Values) < 4 {
				parts = append(parts, p.paint(dim, p.in(say{v.Name, v.NameZH})+" ")+p.value(v))
			}
		}
		if len(parts) == 0 {
			parts = append(parts, upper(r.Raw))
		}
		index := "  "
		if r.Index > 0 {
			index = fmt.Sprintf("%2d", r.Index)
		}
		fmt.Fprintf(b, "  %s  %s\n", index, strings.Join(parts, p.paint(dim, ", ")))
	}
}

// value is a value of a record for people: dates and times with their signs.
func (p *cardPage) value(v dialogue.Value) string {
	s := v.Text
	switch {
	case p.zh && v.TextZH != "":
		return v.TextZH
	case v.Key == "date" && len(s) == 8:
		return s[:4] + "-" + s[4:6] + "-" + s[6:]
	case v.Key == "time" && len(s) == 6:
		return s[:2] + ":" + s[2:4] + ":" + s[4:]
	}
	return s
}

func (p *cardPage) dialogue(b *strings.Builder, lines []dialogue.Line) {
	fmt.Fprintf(b, "\n%s\n", p.paint(bold, p.in(say{"dialogue", "对话"})))
	for i := 0; i < len(lines); i++ {
		l, first, same := lines[i], i+1, 1
		for l.Command+l.Response != "" && i+1 < len(lines) && lines[i+1].Command == l.Command && lines[i+1].Response == l.Response {
			i++
			same++
		}
		p.exchange(b, first, same, l)
	}
}

func (p *cardPage) exchange(b *strings.Builder, n, same int, l dialogue.Line) {
	title := p.in(say{l.Explanation.EN, l.Explanation.ZH})
	if same > 1 {
		title += fmt.Sprintf(p.in(say{" (%d times the same)", "（相同 %d 次）"}), same)
	}
	colour := cyan
	if !l.Known || l.Status != 0 && !l.Status.OK() {
		colour = yellow
	}
	fmt.Fprintf(b, "%4d  %s\n", n, p.paint(colour, title))
	if l.Command != "" {
		p.hex(b, "      > ", l.Command)
	}
	if l.Response != "" {
		p.hex(b, "      < ", l.Response)
	}
	for _, f := range l.Explanation.Fields {
		fmt.Fprintf(b, "        %s %s\n", padded(p.in(say{f.Name, f.NameZH}), objectWidth), f.Value)
	}
	for _, o := range l.Objects {
		p.object(b, o)
	}
}

// hex breaks hexadecimal into lines.
func (p *cardPage) hex(b *strings.Builder, lead, text string) {
	for len(text) > 0 {
		n := min(len(text), 2*cardValueWidth)
		fmt.Fprintf(b, "%s\n", p.paint(dim, lead+text[:n]))
		text, lead = text[n:], strings.Repeat(" ", len(lead))
	}
}

func (p *cardPage) object(b *strings.Builder, o dialogue.Object) {
	name := p.in(say{o.Name, o.NameZH})
	if o.Tag != 0 {
		name = o.Tag.String() + " " + name
	}
	lead := strings.Repeat("  ", o.Depth) + name
	if !o.Named {
		lead = p.paint(yellow, lead)
	}
	value := o.Value
	if len(value) > cardValueWidth {
		value = fmt.Sprintf("%s… (%d)", value[:cardValueWidth-16], len(value)/2)
	}
	text := p.in(say{o.Text, o.TextZH})
	line := strings.TrimRight(padded(lead, objectWidth)+" "+value, " ")
	if text != "" && columns(line)+columns(text) < cardLineWidth {
		line, text = line+"  "+p.paint(green, text), ""
	}
	fmt.Fprintf(b, "        %s\n", line)
	if text != "" {
		paragraph(b, strings.Repeat(" ", 10+2*o.Depth)+"  ", strings.Repeat(" ", 10+2*o.Depth)+"  ", text)
	}
}
