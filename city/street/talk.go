package street

import (
	"time"

	"koala/fare"
	"koala/spec/dialogue"
	"koala/spec/iso7816"
	"koala/terminal"
	"koala/terminal/gate"
	"koala/transit/network"
)

// An Outcome is what a tap came to, for people: the reader's own outcome, the
// dialogue with every byte explained, and where the time went by the model.
type Outcome struct {
	terminal.Outcome
	Reader *Reader
	Band   string
	Time   Timing
	Talk   []Exchange
}

// Words says the outcome in one line.
func (o Outcome) Words() (en, zh string) { return o.Outcome.Words(false), o.Outcome.Words(true) }

// Timing is a tap's modelled time. The chip's time is that of band and PSAM
// computing and writing.
type Timing struct {
	Activation time.Duration // field on, anticollision, RATS
	Air106     time.Duration // the dialogue on the air at 106 kbit/s
	Air424     time.Duration // and at 424
	PSAM       time.Duration // the contacts of the PSAM
	Chip       time.Duration
	Total106   time.Duration
	Total424   time.Duration
}

// An Exchange is one command and its answer with what they mean.
type Exchange struct {
	Where    string // card or PSAM
	Command  iso7816.Command
	Response iso7816.Response
	Torn     bool
	Took     time.Duration // as the reader's model counted it
	Air106   time.Duration
	Air424   time.Duration
	Told     iso7816.Explanation
}

// timing sums the dialogue up at both rates.
func timing(talk []terminal.Exchange) Timing {
	at := func(r terminal.Rate) terminal.Air { return terminal.Air{Rate: r} }
	line := terminal.T0{Baud: gate.DefaultSAMBaud}
	t := Timing{Activation: terminal.Activation(terminal.Kbit424)}
	for _, x := range talk {
		if x.Where == "PSAM" {
			link := line.Takes(x.Command, x.Response)
			t.PSAM += link
			t.Chip += x.Took - link
			continue
		}
		link := at(terminal.Kbit106).Takes(x.Command, x.Response)
		t.Air106 += link
		t.Air424 += at(terminal.Kbit424).Takes(x.Command, x.Response)
		t.Chip += x.Took - link // readers run their model at 106 kbit/s
	}
	rest := t.PSAM + t.Chip
	t.Total106 = terminal.Activation(terminal.Kbit106) + t.Air106 + rest
	t.Total424 = t.Activation + t.Air424 + rest
	return t
}

// told explains a dialogue line by line, the card's half and the PSAM's each in
// its own session. Card numbers are masked.
func told(talk []terminal.Exchange, n *network.Network) []Exchange {
	o := dialogue.Options{Station: func(code uint32) (string, bool) {
		s, ok := n.ByCode(fare.Code(code))
		if !ok {
			return "", false
		}
		return s.ZH, true
	}}
	card, sam := dialogue.NewSession(o), dialogue.NewSession(o)
	out := make([]Exchange, len(talk))
	for i, x := range talk {
		e := Exchange{Where: x.Where, Command: x.Command, Response: x.Response, Torn: x.Torn, Took: x.Took}
		with := sam
		if x.Where == "card" {
			e.Air106 = terminal.Air{Rate: terminal.Kbit106}.Takes(x.Command, x.Response)
			e.Air424 = terminal.Air{Rate: terminal.Kbit424}.Takes(x.Command, x.Response)
			with = card
		}
		e.Told = with.Exchange(x.Command, x.Response)
		out[i] = e
	}
	return out
}
