package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"

	"koala/spec/dialogue"
)

// A cardJSON is what `koala card explain --json` prints for one card, in one
// line. Fields are added, never renamed. Hexadecimal is upper case with X for
// digits that are masked or were never written down.
type cardJSON struct {
	ID           string            `json:"id,omitempty"`
	Title        string            `json:"title,omitempty"`
	Card         dialogue.Kind     `json:"card"`
	Name         string            `json:"name"`
	Interface    string            `json:"interface,omitempty"`
	Number       string            `json:"number,omitempty"`
	ValidFrom    string            `json:"valid_from,omitempty"`
	ValidTo      string            `json:"valid_to,omitempty"`
	BalanceFen   *int64            `json:"balance_fen,omitempty"`
	Currency     string            `json:"currency,omitempty"`
	Applications []applicationJSON `json:"applications"`
	Records      []json.RawMessage `json:"records"`
	Certificates []certificateJSON `json:"certificates"`
	Unnamed      []string          `json:"unnamed,omitempty"`
	Dialogue     []exchangeJSON    `json:"dialogue,omitempty"`
}

type applicationJSON struct {
	AID        string        `json:"aid"`
	Kind       dialogue.Kind `json:"kind"`
	Name       string        `json:"name"`
	Label      string        `json:"label,omitempty"`
	Priority   byte          `json:"priority,omitempty"`
	Selected   bool          `json:"selected"`
	BalanceFen *int64        `json:"balance_fen,omitempty"`
}

type certificateJSON struct {
	Kind    dialogue.CertificateKind `json:"kind"`
	App     string                   `json:"app,omitempty"`
	OK      bool                     `json:"ok"`
	Checked bool                     `json:"checked"`
	Reason  string                   `json:"reason,omitempty"`
	Signer  string                   `json:"signer,omitempty"`
	Bits    int                      `json:"bits,omitempty"`
	Expiry  string                   `json:"expiry,omitempty"`
	Owner   string                   `json:"owner,omitempty"`
	Serial  string                   `json:"serial,omitempty"`
	Hash    bool                     `json:"hash"`
}

type exchangeJSON struct {
	Command  string       `json:"command,omitempty"`
	Response string       `json:"response,omitempty"`
	Status   string       `json:"status,omitempty"`
	Text     string       `json:"text"`
	Known    bool         `json:"known"`
	Fields   []traceField `json:"fields,omitempty"`
	Objects  []objectJSON `json:"objects,omitempty"`
}

type objectJSON struct {
	Depth int    `json:"depth"`
	Sent  bool   `json:"sent,omitempty"`
	Tag   string `json:"tag,omitempty"`
	Name  string `json:"name"`
	Value string `json:"value,omitempty"`
	Text  string `json:"text,omitempty"`
}

func printCardJSON(w io.Writer, t dialogue.Transcript, r dialogue.Report, f *explainFlags) error {
	zh := f.lang == "zh"
	out := cardJSON{ID: t.ID, Title: t.Title, Card: r.Card, Name: r.Card.Words(zh), Interface: string(r.Interface), Number: r.Number,
		ValidFrom: r.From, ValidTo: r.To, Applications: []applicationJSON{}, Records: []json.RawMessage{}, Certificates: []certificateJSON{}}
	out.BalanceFen, out.Currency = fenOf(r.Balance), r.Balance.Currency
	for _, a := range r.Applications {
		out.Applications = append(out.Applications, applicationJSON{AID: upper(a.AID), Kind: a.Kind, Name: say{a.Name, a.NameZH}.in(zh), Label: a.Label,
			Priority: a.Priority, Selected: a.Selected, BalanceFen: fenOf(a.Balance)})
	}
	for _, x := range r.Records {
		out.Records = append(out.Records, recordJSON(x))
	}
	for _, c := range r.Certificates {
		out.Certificates = append(out.Certificates, certificateJSON{Kind: c.Kind, App: upper(c.App), OK: c.OK, Checked: c.Decided,
			Reason: say{c.Reason, c.ReasonZH}.in(zh), Signer: say{c.Signer, c.SignerZH}.in(zh), Bits: c.Bits, Expiry: c.Expiry, Owner: c.Owner, Serial: c.Serial, Hash: c.Hash})
	}
	for _, tag := range r.Unnamed {
		out.Unnamed = append(out.Unnamed, tag.String())
	}
	if !f.summary {
		for _, l := range r.Lines {
			out.Dialogue = append(out.Dialogue, exchangeOf(l, zh))
		}
	}
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return enc.Encode(out)
}

func fenOf(b dialogue.Balance) *int64 {
	if !b.Known {
		return nil
	}
	return &b.Fen
}

// recordJSON keeps the order of the record's values, which is the card's.
func recordJSON(r dialogue.Record) json.RawMessage {
	var b bytes.Buffer
	fmt.Fprintf(&b, `{"kind":%q,"file":"%02X","record":%d,"raw":%q`, r.Kind, r.SFI, r.Index, upper(r.Raw))
	for _, v := range r.Values {
		if v.Numeric {
			fmt.Fprintf(&b, `,%q:%d`, v.Key, v.Int)
			continue
		}
		text, err := json.Marshal(v.Text)
		if err != nil {
			panic(err) // a string
		}
		fmt.Fprintf(&b, `,%q:%s`, v.Key, text)
	}
	return append(b.Bytes(), '}')
}

func exchangeOf(l dialogue.Line, zh bool) exchangeJSON {
	x := exchangeJSON{Command: l.Command, Response: l.Response, Known: l.Known, Text: say{l.Explanation.EN, l.Explanation.ZH}.in(zh)}
	if l.Status != 0 {
		x.Status = fmt.Sprintf("%04X", uint16(l.Status))
	}
	for _, f := range l.Explanation.Fields {
		x.Fields = append(x.Fields, traceField{Name: say{f.Name, f.NameZH}.in(zh), Value: f.Value, Secret: f.Secret})
	}
	for _, o := range l.Objects {
		j := objectJSON{Depth: o.Depth, Sent: o.Sent, Name: say{o.Name, o.NameZH}.in(zh), Value: o.Value, Text: say{o.Text, o.TextZH}.in(zh)}
		if o.Tag != 0 {
			j.Tag = o.Tag.String()
		}
		x.Objects = append(x.Objects, j)
	}
	return x
}
