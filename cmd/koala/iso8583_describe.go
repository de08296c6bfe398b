package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"

	"koala/spec/iso8583"
)

// An isoJSON is what `koala iso8583 describe --json` prints for one message.
// Fields are added, never renamed.
type isoJSON struct {
	Spec    string          `json:"spec"`
	MTI     string          `json:"mti"`
	Fields  json.RawMessage `json:"fields"` // number to value, in ascending order
	Type    string          `json:"type,omitempty"`
	Framed  bool            `json:"framed,omitempty"` // a length of two bytes came before
	TPDU    string          `json:"tpdu,omitempty"`
	Header  string          `json:"header,omitempty"`
	Head    []isoLineJSON   `json:"head,omitempty"` // TPDU and header taken apart
	Bitmap  string          `json:"bitmap,omitempty"`
	Details []isoLineJSON   `json:"details"`
}

type isoLineJSON struct {
	Field  int    `json:"field,omitempty"`
	Key    string `json:"key,omitempty"` // "4", a part "60.1", or the tag of a chip object
	Depth  int    `json:"depth,omitempty"`
	Name   string `json:"name"`
	Value  string `json:"value,omitempty"`
	Text   string `json:"text,omitempty"`
	Masked bool   `json:"masked,omitempty"`
}

func (f *isoFlags) describe(out io.Writer, c captured) error {
	d := iso8583.Description{Spec: iso8583.UnionPayInterchange(), Head: upper(c.bytes), HeadLines: iso8583.DescribeHead(c.bytes)}
	if c.message != nil {
		d = iso8583.Describe(c.message, iso8583.Options{Clear: f.clear})
	}
	if f.json {
		return jsonLine(out, f.jsonOf(d, c.framed))
	}
	page := &cardPage{out: out, zh: f.lang == "zh", colour: hasColour(out)}
	_, err := io.WriteString(out, isoPage(page, d, c))
	return err
}

func (f *isoFlags) jsonOf(d iso8583.Description, framed bool) isoJSON {
	zh := f.lang == "zh"
	j := isoJSON{Spec: d.Spec.Name, MTI: d.MTI, Type: say{d.EN, d.ZH}.in(zh), Framed: framed, TPDU: d.TPDU, Header: d.Head, Bitmap: d.Bitmap, Details: []isoLineJSON{}}
	for _, l := range d.HeadLines {
		j.Head = append(j.Head, isoLineOf(l, zh))
	}
	var fields bytes.Buffer
	for _, l := range d.Lines {
		j.Details = append(j.Details, isoLineOf(l, zh))
		if l.Depth > 0 {
			continue
		}
		value, err := json.Marshal(l.Value)
		if err != nil {
			panic(err) // a string
		}
		if fields.Len() > 0 {
			fields.WriteByte(',')
		}
		fmt.Fprintf(&fields, `"%d":%s`, l.Field, value)
	}
	j.Fields = json.RawMessage("{" + fields.String() + "}")
	return j
}

func isoLineOf(l iso8583.Line, zh bool) isoLineJSON {
	return isoLineJSON{Field: l.Field, Key: l.Key, Depth: l.Depth, Name: say{l.EN, l.ZH}.in(zh), Value: l.Value,
		Text: say{l.Meaning, l.MeaningZH}.in(zh), Masked: l.Secret}
}

// Widths of the page, in columns.
const (
	isoNumberWidth = 6
	isoNameWidth   = 44
)

func isoPage(p *cardPage, d iso8583.Description, c captured) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s  %s\n", p.paint(bold, d.Spec.Name), p.in(say{d.Spec.EN, d.Spec.ZH}))
	if d.MTI != "" {
		p.named(&b, say{"type", "报文类型"}, p.paint(bold, d.MTI)+"  "+p.in(say{d.EN, d.ZH}))
	}
	p.named(&b, say{"length", "长度"}, strconv.Itoa(len(c.bytes)))
	p.named(&b, say{"TPDU", "TPDU"}, d.TPDU)
	p.named(&b, say{"header", "报文头"}, d.Head)
	for _, l := range d.HeadLines {
		fmt.Fprintf(&b, "%s%s\n", padded("  "+p.in(say{l.EN, l.ZH}), isoNameWidth), strings.TrimRight(l.Value+"  "+p.paint(green, p.in(say{l.Meaning, l.MeaningZH})), " "))
	}
	p.named(&b, say{"bitmap", "位图"}, d.Bitmap)
	for _, l := range d.Lines {
		isoLine(p, &b, l)
	}
	return b.String()
}

// isoLine writes a field, or a part of one under it.
func isoLine(p *cardPage, b *strings.Builder, l iso8583.Line) {
	name := p.in(say{l.EN, l.ZH})
	lead := padded(fmt.Sprintf("%4d", l.Field), isoNumberWidth)
	if l.Depth > 0 {
		lead = strings.Repeat(" ", isoNumberWidth+2*(l.Depth-1))
		name = strings.TrimSpace(l.Key + " " + name)
	}
	value := strings.Map(printable, l.Value)
	if len(value) > cardValueWidth {
		short := []rune(value)
		value = fmt.Sprintf("%s… (%d)", string(short[:min(len(short), cardValueWidth-16)]), len(value))
	}
	line := strings.TrimRight(padded(lead+name, isoNumberWidth+isoNameWidth)+" "+value, " ")
	text := p.in(say{l.Meaning, l.MeaningZH})
	if text != "" && columns(line)+columns(text) < cardLineWidth {
		line, text = line+"  "+p.paint(green, text), ""
	}
	b.WriteString(line + "\n")
	if text != "" {
		indent := strings.Repeat(" ", isoNumberWidth+2*l.Depth+2)
		paragraph(b, indent, indent, text)
	}
}

// printable keeps control characters of a message off the screen.
func printable(r rune) rune {
	if r < ' ' || r == 0x7F {
		return '·'
	}
	return r
}
