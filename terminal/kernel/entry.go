package kernel

import (
	"bytes"
	"cmp"
	"errors"
	"slices"

	"koala/spec/emv"
	"koala/spec/iso7816"
	"koala/spec/tlv"
	"koala/terminal"
)

// A combination is an application with the qualifiers that this amount gives
// it, or the reason why it is out.
type combination struct {
	app Application
	ttq emv.TTQ
	out Reason
}

// preprocess holds the amount against each application's limits before a card
// is there (EMV Contactless Book B, 3.1).
func (k *Kernel) preprocess(tx Transaction) []combination {
	all := make([]combination, 0, len(k.cfg.Applications))
	for _, app := range k.cfg.Applications {
		c := combination{app: app, ttq: k.cfg.TTQ}
		c.ttq[1] &^= 0xC0 // the amount decides 2.8 and 2.7
		offline := c.ttq.Has(emv.TTQOfflineOnly)
		if tx.ForceOnline || app.FloorLimit > 0 && tx.Fen > app.FloorLimit || tx.Fen == 0 && app.ZeroOnline {
			c.ttq.Set(emv.TTQOnline)
		}
		if app.CVMLimit > 0 && tx.Fen >= app.CVMLimit {
			c.ttq.Set(emv.TTQCVM)
		}
		switch {
		case tx.Fen == 0 && (!app.ZeroOnline || offline):
			c.out = AmountZero
		case app.TapLimit > 0 && tx.Fen >= app.TapLimit, offline && c.ttq.Has(emv.TTQOnline):
			c.out = AmountTooHigh
		}
		all = append(all, c)
	}
	return all
}

// Tap runs a contactless transaction, from the first command to the outcome.
// OnlineRequest is the device's to finish: send Outcome.Request to the host
// and give its answer to Outcome.Answered. The error is the device's own, from
// a Seam; of the card there are only outcomes.
func (k *Kernel) Tap(card iso7816.Transmit, tx Transaction, s Seams) (Outcome, error) {
	var open []combination
	refused := NoApplication
	for _, c := range k.preprocess(tx) {
		if c.out == NoReason {
			open = append(open, c)
		} else {
			refused = c.out
		}
	}
	if len(open) == 0 {
		result := OtherInterface
		if refused != AmountTooHigh || !k.contact() {
			result = EndApplication
		}
		return Outcome{Result: result, Reason: refused}, nil
	}
	card = terminal.Complete(card)
	found, err := k.paymentSystem(card, open)
	if err != nil {
		r := k.newRun(card, tx, s, open[0], false)
		return r.finish(err)
	}
	return k.tryEach(found, func(c Candidate) *run { return k.newRun(card, tx, s, c.combination, false) }, (*run).tap)
}

// contact says whether the terminal has contacts to change to.
func (k *Kernel) contact() bool { return emv.TTQ(k.cfg.TTQ).Has(emv.TTQContact) }

// tryEach goes through the candidates until one comes to an end that counts.
func (k *Kernel) tryEach(found []Candidate, begin func(Candidate) *run, serve func(*run) error) (Outcome, error) {
	last := Outcome{Result: EndApplication, Reason: NoApplication}
	for _, c := range found {
		r := begin(c)
		r.serve = serve
		err := r.open(c.AID)
		if err == nil {
			err = serve(r)
		}
		o, err := r.finish(err)
		if err != nil || o.Result != SelectNext {
			return o, err
		}
		last = o
		last.Result = EndApplication
		if !o.Contact && o.SW == iso7816.SWConditions && k.contact() {
			last.Result = OtherInterface // a card that wants the contacts refuses so (CARD.md 1.4)
		}
	}
	return last, nil
}

// open selects an application and takes its file control information.
func (r *run) open(aid []byte) error {
	data, err := r.ask(iso7816.Select(aid), SelectNext)
	if err != nil {
		var s *stop
		if errors.As(err, &s) && (s.SW == iso7816.SWSelectedBlocked || s.SW == iso7816.SWFunction) {
			s.Reason = CardBlocked
		}
		return err
	}
	if err := r.takeFCI(data); err != nil {
		return end(SelectNext, CardError)
	}
	return nil
}

// Names of the directories.
const (
	contactlessDirectory = "2PAY.SYS.DDF01"
	contactDirectory     = "1PAY.SYS.DDF01"
)

// MaxCandidates bounds the applications of one card that are looked at.
const MaxCandidates = 16

// A Candidate is an application that card and terminal share.
type Candidate struct {
	AID      []byte // as the card names it
	Label    string
	Priority byte // 1 is first, 15 last; 0 after all
	Confirm  bool // not without the cardholder's word
	combination
}

// paymentSystem makes the candidate list of a contactless card: from its
// directory, or where that is absent by asking for each application in turn
// (EMV Contactless Book B, 3.3). In order of priority.
func (k *Kernel) paymentSystem(card iso7816.Transmit, open []combination) ([]Candidate, error) {
	a, err := card(iso7816.Select([]byte(contactlessDirectory)))
	if err != nil {
		return nil, end(TryAgain, Torn)
	}
	if !a.SW.OK() {
		return k.askEach(card, open)
	}
	discretionary, ok := path(a.Data, emv.TagFCI, emv.TagFCIProprietary, emv.TagFCIDiscretionary)
	if !ok {
		return nil, errCard
	}
	entries, err := entriesOf(discretionary)
	if err != nil {
		return nil, err
	}
	return inOrder(matches(entries, open)), nil
}

// path goes down one constructed object after another.
func path(in []byte, tags ...tlv.Tag) ([]byte, bool) {
	for _, want := range tags {
		found := false
		for len(in) > 0 && !found {
			tag, val, rest, err := tlv.Next(in)
			if err != nil {
				return nil, false
			}
			if found = tag == want; found {
				rest = val
			}
			in = rest
		}
		if !found {
			return nil, false
		}
	}
	return in, true
}

// entriesOf reads the application templates 61 of a directory.
func entriesOf(in []byte) ([]objects, error) {
	var all []objects
	for len(in) > 0 {
		tag, val, rest, err := tlv.Next(in)
		if err != nil {
			return nil, errCard
		}
		if in = rest; tag != emv.TagEntry {
			continue
		}
		o, err := flat(val)
		if err != nil {
			return nil, err
		}
		if n := len(o[emv.TagAID]); n < 5 || n > 16 {
			continue
		}
		if all = append(all, o); len(all) == MaxCandidates {
			break
		}
	}
	return all, nil
}

func flat(in []byte) (objects, error) {
	o := objects{}
	for len(in) > 0 {
		tag, val, rest, err := tlv.Next(in)
		if err != nil {
			return nil, errCard
		}
		o[tag], in = val, rest
	}
	return o, nil
}

// matches pairs directory entries with the terminal's applications.
func matches(entries []objects, open []combination) []Candidate {
	var found []Candidate
	for _, e := range entries {
		for _, c := range open {
			if c.app.matches(e[emv.TagAID]) && c.app.serves(e[emv.TagKernelID]) {
				found = append(found, candidate(e, e[emv.TagAID], c))
				break
			}
		}
	}
	return found
}

func candidate(o objects, aid []byte, c combination) Candidate {
	x := Candidate{AID: bytes.Clone(aid), Label: label(o), combination: c}
	if p := o[emv.TagPriority]; len(p) == 1 {
		x.Priority, x.Confirm = p[0]&0x0F, p[0]&0x80 != 0
	}
	return x
}

// label is the preferred name where it is plain text, else the label.
func label(o objects) string {
	for _, tag := range []tlv.Tag{emv.TagPreferredName, emv.TagLabel} {
		if v := o[tag]; len(v) > 0 && len(v) <= 16 && plain(v) {
			return string(v)
		}
	}
	return ""
}

func plain(v []byte) bool {
	return !slices.ContainsFunc(v, func(b byte) bool { return b < ' ' || b > '~' })
}

func (a Application) matches(aid []byte) bool {
	return bytes.Equal(a.AID, aid) || !a.Exact && bytes.HasPrefix(aid, a.AID)
}

// serves says whether the kernel identifier 9F2A of an entry, nil when there
// is none, names the application's kernel. Bits 8 and 7 of its first byte are
// 0x for kernels of the book, 1x for domestic ones (Book B, table 3-6).
func (a Application) serves(id []byte) bool {
	switch {
	case len(id) == 0 || id[0] == 0:
		return true
	case id[0]&0x80 != 0:
		return false
	}
	return id[0]&0x3F == byte(a.Scheme)
}

// inOrder sorts by priority, the card's order among equals.
func inOrder(all []Candidate) []Candidate {
	last := func(p byte) byte { return (p - 1) & 0x0F } // 0 goes last
	slices.SortStableFunc(all, func(a, b Candidate) int { return cmp.Compare(last(a.Priority), last(b.Priority)) })
	return all
}

// askEach selects each application of the terminal by name (EMV 4.4 Book 1,
// 12.3.3). An application named in part is asked for again until there is no
// further one.
func (k *Kernel) askEach(card iso7816.Transmit, open []combination) ([]Candidate, error) {
	var found []Candidate
	for _, c := range open {
		for next := iso7816.Select(c.app.AID); len(found) < MaxCandidates; next.P2 = 0x02 {
			a, err := card(next)
			switch {
			case err != nil:
				return nil, end(TryAgain, Torn)
			case next.P2 == 0 && a.SW == iso7816.SWFunction:
				return nil, &stop{Result: EndApplication, Reason: CardBlocked, SW: a.SW}
			case !a.SW.OK():
			default:
				r := run{icc: objects{}}
				if r.takeFCI(a.Data) != nil {
					break
				}
				aid := r.icc[emv.TagDFName]
				if !c.app.matches(aid) || slices.ContainsFunc(found, func(x Candidate) bool { return bytes.Equal(x.AID, aid) }) {
					break
				}
				found = append(found, candidate(r.icc, aid, c))
				if !c.app.Exact && len(aid) > len(c.app.AID) {
					continue
				}
			}
			break
		}
	}
	return inOrder(found), nil
}

// takeFCI takes the objects of an application's file control information: 84,
// what is in A5, and what is in BF0C of it.
func (r *run) takeFCI(data []byte) error {
	fci, ok := path(data, emv.TagFCI)
	if !ok {
		return errCard
	}
	top, err := flat(fci)
	if err != nil {
		return err
	}
	if n := len(top[emv.TagDFName]); n < 5 || n > 16 {
		return errCard
	}
	inside, err := flat(top[emv.TagFCIProprietary])
	if err != nil {
		return err
	}
	more, err := flat(inside[emv.TagFCIDiscretionary])
	if err != nil {
		return err
	}
	clear(r.icc)
	for _, tag := range ofFCI {
		if v, ok := inside[tag]; ok {
			r.icc[tag] = v
		} else if v, ok := more[tag]; ok {
			r.icc[tag] = v
		}
	}
	r.icc[emv.TagDFName] = top[emv.TagDFName]
	return nil
}

// ofFCI are the objects that count in file control information. What belongs
// into signed records counts only there.
var ofFCI = []tlv.Tag{
	emv.TagLabel, emv.TagPriority, emv.TagPDOL, emv.TagLanguage, emv.TagCodeTable, emv.TagPreferredName,
	emv.TagLogEntry, emv.TagLoadLogEntry, emv.TagCAPPCard,
}
