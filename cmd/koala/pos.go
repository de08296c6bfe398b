package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"

	"github.com/spf13/cobra"

	"koala/internal/clock"
	"koala/money"
	"koala/spec/dialogue"
	"koala/spec/emv"
	"koala/spec/iso7816"
	"koala/spec/pboc"
	"koala/terminal/kernel"
	"koala/terminal/pos"
)

// posFlags are the flags of `koala pos`.
type posFlags struct {
	reader, connect, listen string
	amount                  int64
	contact, testKeys       bool
	ca                      []string
	pin, till, lang         string
	json, explain           bool
}

// maxPresent is how often a sale asks for a card that left too early.
const maxPresent = 5

func posCommand() *cobra.Command {
	var f posFlags
	c := &cobra.Command{
		Use:   "pos",
		Short: "A shop's till: take a sale from a card in a reader or from a virtual card",
		Long: `Takes one sale without a host: the card is selected, its certificates and its signature are
checked, it pays from its e-cash or the sale is declined. The card is in a PC/SC reader
(--reader, any part of its name), or it is a virtual card that dials this till as the driver of
vsmartcard is dialled (--listen: koala band serve --vpcd), or one that waits for a reader
(--connect: koala band serve --listen). A card that leaves too early is asked for again.

A sale is a tap, or with --contact an inserted card; a band pays from its e-cash at both. The
card must be on that interface: koala band serve --personality contactless (the default),
desfire or beijing for a tap, contact-t0 or contact-t1 for --contact. Its answer to reset tells;
a card on the other one is refused with exit code 2.

The till trusts the schemes' published live keys and what --ca brings; --test-keys adds published
test keys and the authority of koala band new --test-cards, with which anybody can make cards.
With --till it keeps its numbers, its approvals and what was torn in a file; without it forgets.

The commands below are a terminal of an acquirer: they speak the UnionPay POS dialect to its host
(docs/terminal-protocol.md).

Exit code 0: approved; 1: not; 2: misused.`,
		Example: `  koala pos --listen 127.0.0.1:35963 --amount 1250 --test-keys
  koala pos --reader "ACR122" --amount 100 --ca house.json --explain
  koala pos --connect 127.0.0.1:7416 --contact --amount 100 --test-keys --json`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if cmd.Flags().NFlag() == 0 { // it has commands of its own: alone it shows them
				return cmd.Help()
			}
			return f.run(cmd)
		},
	}
	c.Flags().StringVar(&f.reader, "reader", "", "PC/SC reader by any part of its name; needs pcscd")
	c.Flags().StringVar(&f.listen, "listen", "", "address and port on which to wait for a virtual card")
	c.Flags().StringVar(&f.connect, "connect", "", "address and port of a virtual card that waits for a reader")
	c.Flags().Int64Var(&f.amount, "amount", 1_00, "what is to be paid, in fen")
	c.Flags().BoolVar(&f.contact, "contact", false, "the card is inserted, not tapped: it must be on contacts")
	c.Flags().StringSliceVar(&f.ca, "ca", nil, "file with CA keys, as koala card ca export writes them (json or csv)")
	c.Flags().BoolVar(&f.testKeys, "test-keys", false, "also trust published test keys: for test cards, never for money")
	c.Flags().StringVar(&f.pin, "pin", "", "PIN for an inserted card that asks; - reads it from the input")
	c.Flags().StringVar(&f.till, "till", "", "file in which the till keeps its flash")
	c.Flags().StringVar(&f.lang, "lang", "en", "language of receipt and explanation: en or zh")
	c.Flags().BoolVar(&f.explain, "explain", false, "also every command and answer, each field named")
	c.Flags().BoolVar(&f.json, "json", false, "one JSON object instead of text")
	c.AddCommand(posHostCommands()...)
	return c
}

func (f *posFlags) check() error {
	given := 0
	for name, address := range map[string]string{"--listen": f.listen, "--connect": f.connect} {
		if address == "" {
			continue
		}
		given++
		if _, _, err := net.SplitHostPort(address); err != nil {
			return errUsage{fmt.Errorf("%s %q: %w", name, address, err)}
		}
	}
	if f.reader != "" {
		given++
	}
	switch {
	case given != 1:
		return errUsage{fmt.Errorf("where is the card? %d of --reader, --listen and --connect are given, one is needed", given)}
	case f.amount < 1 || f.amount > money.MaxMinor || f.amount > maxAmount:
		return errUsage{fmt.Errorf("--amount %d: 1 to %d fen", f.amount, int64(maxAmount))}
	case f.lang != "en" && f.lang != "zh":
		return errUsage{fmt.Errorf("--lang %q is not en or zh", f.lang)}
	case f.pin != "" && !f.contact:
		return errUsage{errors.New("--pin is for inserted cards: give --contact")}
	}
	return nil
}

// maxAmount is what twelve digits hold (tag 9F02), fen.
const maxAmount = 999_999_999_999

func (f *posFlags) run(cmd *cobra.Command) error {
	if err := f.check(); err != nil {
		return err
	}
	keys, err := f.keys()
	if err != nil {
		return err
	}
	if f.pin == "-" {
		if f.pin, err = secretFrom(cmd, f.pin); err != nil {
			return err
		}
	}
	flash, err := openTill(f.till)
	if err != nil {
		return err
	}
	defer flash.close()
	till, err := pos.New(f.config(keys, flash))
	if err != nil {
		return err
	}
	slot, err := f.slot(cmd)
	if err != nil {
		return err
	}
	defer slot.close()
	res, err := f.sell(cmd, till, slot, flash)
	if err != nil {
		return err
	}
	if err := f.tell(cmd.OutOrStdout(), till, res, keys); err != nil {
		return err
	}
	if res.Outcome.Result != kernel.Approved {
		return errFoundWrong
	}
	return nil
}

// keys are the CA keys that the till trusts. Where two have one name, the later
// counts.
func (f *posFlags) keys() (keys []emv.CAKey, err error) {
	for _, test := range []bool{true, false} {
		for _, k := range emv.CAKeys() {
			if isTest := k.Environment == "test"; isTest == test && (f.testKeys || !isTest) {
				keys = append(keys, k)
			}
		}
	}
	if f.testKeys {
		k, err := testAuthority()
		if err != nil {
			return nil, err
		}
		keys = append(keys, k)
	}
	for _, path := range f.ca {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		more, err := readCAKeys(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		keys = append(keys, more...)
	}
	return keys, nil
}

// The shop that `koala pos` stands for.
var posShop = pos.Shop{TID: "KOALA001", MID: "100110059990001", Name: "KOALA", Category: 5999, Serial: "POS00001"}

func (f *posFlags) config(keys []emv.CAKey, flash *tillFlash) pos.Config {
	c := pos.Config{Kernel: pos.Beijing(posShop, keys), Clock: clock.System(), Random: clock.Entropy(),
		Sales: flash.sales, Denied: flash.denied, State: flash.state, Record: true}
	if f.pin != "" {
		c.PIN = func(int) (string, bool) { return f.pin, true }
	}
	return c
}

// sell asks for the card until the sale is over. The till is kept before the
// outcome is told.
func (f *posFlags) sell(cmd *cobra.Command, till *pos.Till, slot cardSlot, flash *tillFlash) (res pos.Result, err error) {
	serve := till.Tap
	if f.contact {
		serve = till.Insert
	}
	for n := 1; ; n++ {
		if isScreen(cmd.ErrOrStderr()) {
			fmt.Fprintf(cmd.ErrOrStderr(), "%s yuan: present the card\n", money.Fen(f.amount).Yuan())
		}
		var contact iso7816.Transmit
		contact, err = slot.present(cmd.Context())
		if err == nil {
			res, err = serve(contact, pos.Sale{Fen: uint64(f.amount)})
			slot.leave()
			err = errors.Join(err, flash.keep())
		}
		if err != nil || res.Outcome.Result != kernel.TryAgain || n == maxPresent {
			return res, err
		}
	}
}

// A posSaid is `koala pos --json`: fields may be added, none renamed.
type posSaid struct {
	Result    string      `json:"result"` // approved, declined, ...
	Text      string      `json:"text"`
	Fen       int64       `json:"amount_fen"`
	Card      string      `json:"card,omitempty"` // masked
	AID       string      `json:"aid,omitempty"`
	Label     string      `json:"label,omitempty"`
	AC        string      `json:"cryptogram,omitempty"`
	ATC       string      `json:"atc,omitempty"`
	TVR       string      `json:"tvr"`
	TSI       string      `json:"tsi"`
	CVM       string      `json:"verification"`
	Available *uint64     `json:"available_fen,omitempty"`
	STAN      uint32      `json:"stan"`
	Batch     uint32      `json:"batch"`
	TookMS    float64     `json:"took_ms"` // in the field, by the model
	Receipt   []string    `json:"receipt"`
	Dialogue  []traceLine `json:"dialogue,omitempty"`
}

// resultNames are for programs.
var resultNames = map[kernel.Result]string{
	kernel.Approved: "approved", kernel.Declined: "declined", kernel.OnlineRequest: "online", kernel.EndApplication: "not-accepted",
	kernel.TryAgain: "torn", kernel.OtherInterface: "insert", kernel.SelectNext: "not-accepted",
}

func (f *posFlags) tell(out io.Writer, till *pos.Till, r pos.Result, keys []emv.CAKey) error {
	zh := f.lang == "zh"
	page := &tracePage{out: out, zh: zh, count: 1}
	var talk []traceLine
	if f.explain {
		talk = page.told(till, keys)
	}
	o := &r.Outcome
	if f.json {
		s := posSaid{Result: resultNames[o.Result], Text: o.Words(zh), Fen: f.amount, AID: upper(o.Get(emv.TagDFName)), Label: o.Label,
			AC: upper(o.Get(emv.TagAC)), ATC: upper(o.Get(emv.TagATC)), TVR: upper(o.TVR[:]), TSI: upper(o.TSI[:]), CVM: o.CVM.Words(zh),
			Available: o.Available, STAN: r.STAN, Batch: r.Batch, TookMS: inMillis(r.Took), Receipt: till.Receipt(r, zh), Dialogue: talk}
		if o.PAN != "" {
			s.Card = pboc.MaskPAN(o.PAN)
		}
		return json.NewEncoder(out).Encode(s)
	}
	for _, l := range talk {
		page.put(l)
	}
	for _, line := range till.Receipt(r, zh) {
		if page.err == nil {
			_, page.err = fmt.Fprintln(out, line)
		}
	}
	return page.err
}

// told explains the till's last dialogue, and what came of the certificates.
func (p *tracePage) told(till *pos.Till, keys []emv.CAKey) (lines []traceLine) {
	talk := dialogue.NewSession(dialogue.Options{CAs: keys})
	for _, x := range till.Dialogue() {
		e := dialogue.Exchange{Command: x.Command.Bytes()}
		if !x.Torn {
			e.Response = x.Response.Bytes()
		}
		l := talk.Say(e)
		lines = append(lines, traceLine{Section: "dialogue", Kind: "apdu", Where: "card", Text: p.both(say{l.Explanation.EN, l.Explanation.ZH}), Command: l.Command,
			Answer: l.Response, Torn: x.Torn, TookUS: x.Took.Microseconds(), Fields: p.fields(l.Fields())})
	}
	for _, c := range talk.Report().Certificates {
		lines = append(lines, p.certificate(c))
	}
	return lines
}

// certificate tells one check.
func (p *tracePage) certificate(c dialogue.Certificate) traceLine {
	verdict := say{"holds", "通过"}
	switch {
	case !c.Decided:
		verdict = say{"not checked", "未验证"}
	case !c.OK:
		verdict = say{"WRONG", "不通过"}
	}
	name := certificateNames[c.Kind]
	l := traceLine{Section: "dialogue", Kind: "decision", Text: p.in(say{name.en + ": " + verdict.en, name.zh + "：" + verdict.zh}), Fields: []traceField{
		p.field(say{"under", "签发者"}, "%s", p.in(say{c.Signer, c.SignerZH}))}}
	if why := p.in(say{c.Reason, c.ReasonZH}); why != "" {
		l.Fields = append(l.Fields, p.field(say{"what it says", "说明"}, "%s", why))
	}
	if c.Owner != "" {
		l.Fields = append(l.Fields, p.field(say{"owner", "持有者"}, "%s", c.Owner))
	}
	if c.Bits > 0 {
		l.Fields = append(l.Fields, p.field(say{"key", "密钥长度"}, "%d bit", c.Bits))
	}
	if c.Expiry != "" {
		l.Fields = append(l.Fields, p.field(say{"until", "有效期至"}, "%s", c.Expiry))
	}
	return l
}
