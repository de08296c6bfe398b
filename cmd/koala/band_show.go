package main

import (
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"koala/band"
	"koala/card"
	"koala/card/catalog"
	"koala/card/isd"
	"koala/internal/clock"
	"koala/money"
	"koala/spec/iso7816"
)

// transitClear says why transit numbers are not masked.
const transitClear = `PANs are masked; the number of a transit
card stands in full: it is printed on the card and is no PAN.`

func bandListCommand() *cobra.Command {
	var f bandFlags
	c := &cobra.Command{
		Use:     "list",
		Short:   "List the bands of a data folder",
		Long:    "Lists name, element and cards of each band. " + transitClear,
		Example: "  koala band list\n  koala band list --data /tmp/town --json",
		Args:    noArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return f.list(cmd.OutOrStdout()) },
	}
	c.Flags().StringVar(&f.data, "data", "koala-data", "data folder; bands lie in its folder bands")
	f.addJSON(c)
	return c
}

func (f *bandFlags) list(out io.Writer) error {
	names, err := f.names()
	if err != nil {
		return err
	}
	enc := json.NewEncoder(out)
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	for _, name := range names {
		path := filepath.Join(f.data, bandFolder, name+bandSuffix)
		b, err := loadBand(path)
		if err != nil {
			return err
		}
		seen, err := lookAt(path, b)
		switch {
		case err != nil:
			return err
		case f.json:
			err = enc.Encode(seen)
		default:
			_, err = fmt.Fprintf(w, "%s\t%s\t%s\n", name, seen.UID, strings.Join(seen.titles(), ", "))
		}
		if err != nil {
			return err
		}
	}
	return w.Flush()
}

func bandShowCommand() *cobra.Command {
	var f bandFlags
	c := &cobra.Command{
		Use:   "show",
		Short: "Show a band: cards in it, balances, registry, memory",
		Long: `Reads the band as any reader can, without keys, and its registry and memory as its maker
can. The file is not changed. ` + transitClear,
		Example: "  koala band show --name blue\n  koala band show --band koala-data/bands/blue.band --json",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			path, err := f.path()
			if err != nil {
				return err
			}
			b, err := loadBand(path)
			if err != nil {
				return err
			}
			seen, err := lookAt(path, b)
			if err != nil {
				return err
			}
			if f.json {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(seen)
			}
			return seen.print(cmd.OutOrStdout())
		},
	}
	f.add(c)
	return c
}

// A bandView is what `koala band show` prints. Its JSON is a contract: fields
// may be added, none renamed.
type bandView struct {
	Band     string      `json:"band"`
	File     string      `json:"file"`
	UID      string      `json:"uid"`
	Worn     bool        `json:"worn"`
	Battery  int         `json:"battery"` // percent
	State    string      `json:"state"`   // life cycle of the card, hexadecimal
	Used     int         `json:"used_bytes"`
	Free     int         `json:"free_bytes"`
	Writes   int         `json:"page_writes"` // since manufacture
	Cards    []cardView  `json:"cards"`
	Registry []entryView `json:"registry"`
}

// A cardView is one card as a reader without keys sees it.
type cardView struct {
	AID     string       `json:"aid"`
	Kind    string       `json:"card"`
	Title   string       `json:"title"`
	Number  string       `json:"number,omitempty"`
	Fen     *int64       `json:"balance_fen,omitempty"`
	Counter *int         `json:"counter,omitempty"` // ATC, or the purse's offline sequence
	From    string       `json:"valid_from,omitempty"`
	To      string       `json:"valid_to,omitempty"`
	Status  string       `json:"status,omitempty"` // why it cannot be read, a status word
	Notes   []string     `json:"notes,omitempty"`
	Coupons []couponView `json:"coupons,omitempty"`
}

// An entryView is one line of the registry.
type entryView struct {
	Kind        string `json:"kind"`
	AID         string `json:"aid"`
	State       string `json:"state"`
	Module      string `json:"module,omitempty"`
	Domain      string `json:"domain,omitempty"`
	Contactless string `json:"contactless,omitempty"` // on, off or never
}

// lookAt reads a copy of a band, so that the band itself stays as it is.
func lookAt(path string, b *band.Band) (v bandView, err error) {
	e, err := catalog.New(isd.Config{}).Restore(b.Element.Image(), clock.Entropy())
	if err != nil {
		return v, err
	}
	if err := e.PowerOn(card.Contactless); err != nil {
		return v, err
	}
	defer e.PowerOff()
	m := e.Memory()
	v = bandView{Band: b.ID, File: path, UID: upper(uidBytes(e)), Worn: b.Worn(), Battery: b.Battery,
		Used: len(e.Image()), Free: m.Free(), Writes: m.Writes(), Cards: []cardView{}}
	for _, x := range e.Entries() {
		v.Registry = append(v.Registry, entryOf(x))
		if x.Kind == card.Domain {
			v.State = fmt.Sprintf("%02X", x.State)
		}
		if read := cardReaders[x.Module]; x.Kind == card.Application && read != nil {
			seen := cardView{AID: x.AID.String()}
			if sw, err := selectCard(e.Transmit, x.AID); err != nil {
				return v, err
			} else if !sw.OK() {
				seen.Status = sw.String()
			}
			if err := read(e.Transmit, &seen); err != nil {
				return v, err
			}
			v.Cards = append(v.Cards, seen)
		}
	}
	return v, nil
}

func uidBytes(e *card.Element) []byte {
	uid := e.UID()
	return uid[:]
}

func selectCard(t iso7816.Transmit, aid card.AID) (iso7816.SW, error) {
	r, err := t(iso7816.Select([]byte(aid)))
	return r.SW, err
}

var kindsOfEntries = map[card.Kind]string{card.Domain: "issuer domain", card.Application: "application", card.LoadFile: "load file"}

func entryOf(x card.Entry) entryView {
	v := entryView{Kind: kindsOfEntries[x.Kind], AID: x.AID.String(), State: fmt.Sprintf("%02X", x.State), Domain: x.Domain.String()}
	if x.Module != "" {
		v.Module = x.Module.String()
	}
	if x.Kind == card.Application {
		v.Contactless = map[card.Availability]string{card.Activated: "on", card.Deactivated: "off", card.NonActivatable: "never"}[x.Contactless.State]
	}
	return v
}

func (v bandView) titles() (list []string) {
	for _, c := range v.Cards {
		list = append(list, c.line())
	}
	return list
}

func (c cardView) line() string {
	text := c.Title
	if c.Number != "" {
		text += " " + c.Number
	}
	if c.Fen != nil {
		text += " " + money.Fen(*c.Fen).Yuan()
	}
	if c.Status != "" {
		text += " (" + c.Status + ")"
	}
	return text
}

func (v bandView) print(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	worn := "worn"
	if !v.Worn {
		worn = "not worn"
	}
	fmt.Fprintf(w, "band\t%s\t%s\n", v.Band, v.File)
	fmt.Fprintf(w, "element\t%s\tcard state %s, %s, battery %d %%\n", v.UID, v.State, worn, v.Battery)
	fmt.Fprintf(w, "memory\t%d bytes\t%d free, %d page writes\n", v.Used, v.Free, v.Writes)
	for _, c := range v.Cards {
		notes := c.Notes
		if c.Counter != nil {
			notes = append(notes, fmt.Sprintf("counter %d", *c.Counter))
		}
		for _, x := range c.Coupons {
			notes = append(notes, fmt.Sprintf("%s %d left", x.Kind, x.Uses))
		}
		fmt.Fprintf(w, "card\t%s\t%s\t%s\n", c.AID, c.line(), strings.Join(notes, ", "))
	}
	for _, x := range v.Registry {
		air := ""
		if x.Contactless != "" {
			air = "over the air " + x.Contactless
		}
		fmt.Fprintf(w, "%s\t%s\tstate %s\t%s\n", x.Kind, x.AID, x.State, air)
	}
	return w.Flush()
}
