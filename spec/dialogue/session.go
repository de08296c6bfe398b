package dialogue

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"

	"koala/spec/emv"
	"koala/spec/iso7816"
	"koala/spec/tlv"
)

// A Session explains a dialogue exchange by exchange and remembers what the
// next ones need. It belongs to one goroutine.
type Session struct {
	options Options
	apps    []*application
	current [20]*application // what answers on each logical channel; nil: loose
	loose   *application     // before anything was selected
	listed  []Application
	iface   Interface
	last    iso7816.Command // whose answer GET RESPONSE brings
	records []Record
	certs   []Certificate
	lines   []Line
	unnamed []tlv.Tag
}

// An application is what the dialogue has shown of one application so far.
type application struct {
	aid      []byte
	kind     Kind
	name     aidName
	label    string
	balances [4]Balance // by P1 of GET BALANCE
	cash     Balance    // 9F79, or the balance inside 9F10
	number   string
	from, to string

	objects map[tlv.Tag][]byte // what the card gave, the latest
	answers map[fileRecord][]byte
	logs    []logRecord

	pdol, cdol1, cdol2, ddol emv.DOL
	pdolData, acData, daData []byte // values the reader sent for them
	opened                   bool   // GET PROCESSING OPTIONS was answered
	cryptograms              int    // GENERATE AC answered
	combined                 []combinedAnswer
	daAnswer                 []byte // signature of INTERNAL AUTHENTICATE
}

// A combinedAnswer is one GENERATE AC: the terminal's number, the values of all
// lists so far, the answer.
type combinedAnswer struct{ un, data, answer []byte }

type fileRecord struct{ sfi, number byte }

// A logRecord waits for its format, which may be read after it.
type logRecord struct {
	fileRecord
	load bool
	raw  []byte
}

// NewSession begins a dialogue with a card of which nothing is known.
func NewSession(o Options) *Session {
	s := &Session{options: o, loose: newApplication(nil)}
	return s
}

func newApplication(aid []byte) *application {
	name, _ := kindOf(aid)
	return &application{aid: aid, kind: name.kind, name: name, objects: map[tlv.Tag][]byte{}, answers: map[fileRecord][]byte{}}
}

// again forgets what a transaction leaves when the application is selected
// anew; logs, balances and the number stay.
func (a *application) again() {
	fresh := newApplication(a.aid)
	fresh.balances, fresh.cash, fresh.number, fresh.from, fresh.to = a.balances, a.cash, a.number, a.from, a.to
	fresh.logs, fresh.label = a.logs, a.label
	for _, tag := range []tlv.Tag{emv.TagLogFormat, emv.TagLoadLogFormat, emv.TagLogEntry, emv.TagLoadLogEntry} {
		if v, ok := a.objects[tag]; ok {
			fresh.objects[tag] = v
		}
	}
	*a = *fresh
}

// clone copies what an exchange may change.
func (s *Session) clone() *Session {
	c := *s
	c.apps = make([]*application, len(s.apps))
	copyOf := func(a *application) *application {
		b := *a
		b.objects, b.answers, b.logs = maps.Clone(a.objects), maps.Clone(a.answers), slices.Clone(a.logs)
		return &b
	}
	c.loose = copyOf(s.loose)
	for i, a := range s.apps {
		c.apps[i] = copyOf(a)
		for channel, x := range s.current {
			if x == a {
				c.current[channel] = c.apps[i]
			}
		}
	}
	c.listed, c.records, c.certs = slices.Clone(s.listed), slices.Clone(s.records), slices.Clone(s.certs)
	c.lines, c.unnamed = nil, slices.Clone(s.unnamed)
	return &c
}

// Say takes the next exchange and explains it. Where digits were not written
// down, it is explained with all their bits clear and with all set, and only
// what both say is told.
func (s *Session) Say(e Exchange) Line {
	hidden := e.CommandMask != nil || e.ResponseMask != nil
	var other Line
	if hidden {
		high := e
		high.Command, high.Response = filled(e.Command, e.CommandMask), filled(e.Response, e.ResponseMask)
		other = s.clone().tell(high)
	}
	line := s.tell(e)
	if hidden {
		line = merged(line, other)
	}
	s.lines = append(s.lines, line)
	return line
}

// Exchange explains one exchange of values instead of bytes, every data object
// a field behind the others; a response with status word 0 stands for "not
// answered".
func (s *Session) Exchange(c iso7816.Command, r iso7816.Response) iso7816.Explanation {
	e := Exchange{Command: c.Bytes()}
	if r.SW != 0 {
		e.Response = r.Bytes()
	}
	l := s.Say(e)
	l.Explanation.Fields = l.Fields()
	return l.Explanation
}

// A telling is one exchange while it is explained.
type telling struct {
	*Session
	c       iso7816.Command
	r       iso7816.Response
	in      Exchange
	app     *application // that answers on the command's channel
	channel int
	e       iso7816.Explanation
	known   bool
	objects []Object

	statusTold bool        // the explanation says what the status word means
	hide       [2][]hiding // digits of command and response that are not shown
}

func (s *Session) tell(e Exchange) Line {
	t := &telling{Session: s, in: e, app: s.loose}
	if len(e.Command) > 0 && e.Command[0] != claReader {
		t.channel = iso7816.Channel(e.Command[0])
	}
	if a := s.current[t.channel]; a != nil {
		t.app = a
	}
	t.hide[sent], t.hide[received] = make([]hiding, 2*len(e.Command)), make([]hiding, 2*len(e.Response))
	t.answer()
	switch c, err := iso7816.ParseCommand(e.Command); {
	case len(e.Command) == 0:
		t.unwritten()
	case err != nil:
		t.title("malformed command", "格式错误的命令")
		t.add("bytes", "字节", fmt.Sprint(len(e.Command)))
	case c.INS == iso7816.InsGetResponse && iso7816.Base(c.CLA) == 0:
		t.fetched(c)
	default:
		t.c = c
		t.dispatch()
		s.last = c
	}
	return t.line()
}

// answer takes the response apart; data without a status word counts as given.
func (t *telling) answer() {
	switch r, err := iso7816.ParseResponse(t.in.Response); {
	case len(t.in.Response) == 0:
	case t.in.Bare || err != nil:
		t.r = iso7816.Response{Data: t.in.Response, SW: iso7816.OK}
	default:
		t.r = r
	}
}

func (t *telling) title(en, zh string) { t.e.EN, t.e.ZH = en, zh }

func (t *telling) add(en, zh, value string) { t.e = t.e.Add(en, zh, value) }

// unsure says that some digits of the answer were not written down, so that no
// number is taken from it.
func (t *telling) unsure() bool { return t.in.ResponseMask != nil }

// given says that the card did what it was asked: an answer with data, a
// warning, or no answer at all.
func (t *telling) given() bool { return t.r.SW.OK() || t.r.SW>>8 == 0x62 || t.r.SW == 0 }

// fetched explains GET RESPONSE as the answer to the command before.
func (t *telling) fetched(get iso7816.Command) {
	if t.last.INS == 0 && t.last.CLA == 0 {
		t.c, t.known = get, true
		t.title("GET RESPONSE", "取响应数据")
		t.tree(t.r.Data, 0)
		return
	}
	t.c = t.last
	t.dispatch()
	if sent := t.c.Data; len(sent) > 0 {
		t.objects = slices.DeleteFunc(t.objects, func(o Object) bool { return o.Sent })
	}
	t.title("GET RESPONSE, the answer to "+t.e.EN, "取响应数据，应答于："+t.e.ZH)
}

// line puts the parts of the telling together.
func (t *telling) line() Line {
	t.hideSecrets()
	if t.e.EN == "" {
		t.title("unknown", "未知")
	}
	if sw := t.r.SW; sw != 0 && !sw.OK() && !t.in.Bare && !t.statusTold && !strings.Contains(t.e.EN, fmt.Sprintf("%04X", uint16(sw))) {
		t.e.EN += ": " + sw.String()
		t.e.ZH += fmt.Sprintf("：%04X %s", uint16(sw), sw.Meaning(true))
	}
	l := Line{Bare: t.in.Bare, Known: t.known, Explanation: t.e, Objects: t.objects, Status: t.r.SW,
		Command:  t.shown(t.in.Command, t.in.CommandMask, t.hide[sent]),
		Response: t.shown(t.in.Response, t.in.ResponseMask, t.hide[received])}
	if t.in.Bare {
		l.Status = 0
	}
	for _, o := range t.objects {
		if !o.Named && !slices.Contains(t.unnamed, o.Tag) {
			t.unnamed = append(t.unnamed, o.Tag)
		}
	}
	return l
}

// Report says what the whole dialogue has told so far.
func (s *Session) Report() Report {
	for _, a := range append([]*application{s.loose}, s.apps...) {
		s.certify(a)
	}
	r := Report{Card: s.card(), Interface: s.iface, Records: s.allRecords(), Certificates: slices.Clone(s.certs),
		Lines: slices.Clone(s.lines), Unnamed: slices.Clone(s.unnamed)}
	for _, a := range append(slices.Clone(s.apps), s.loose) {
		app := Application{AID: a.aid, Kind: a.kind, Name: a.name.en, NameZH: a.name.zh, Label: a.label, Selected: true, Balance: a.balance()}
		for _, l := range s.listed {
			if bytes.Equal(l.AID, a.aid) {
				app.Priority = l.Priority
				if app.Label == "" {
					app.Label = l.Label
				}
			}
		}
		if a != s.loose {
			r.Applications = append(r.Applications, app)
		}
		if !r.Balance.Known {
			r.Balance = app.Balance
		}
		if r.Number == "" {
			r.Number = a.number
		}
		if r.From == "" && r.To == "" {
			r.From, r.To = a.from, a.to
		}
	}
	for _, l := range s.listed {
		if s.find(l.AID) == nil {
			r.Applications = append(r.Applications, l)
		}
	}
	return r
}

func (s *Session) find(aid []byte) *application {
	for _, a := range s.apps {
		if bytes.Equal(a.aid, aid) {
			return a
		}
	}
	return nil
}

// card is the kind of the first application that is more than a directory or
// a security domain, then of what is listed, then of what spoke without a
// selection, then the security domain.
func (s *Session) card() Kind {
	for _, a := range s.apps {
		if a.kind != Directory && a.kind != GlobalPlatform && a.kind != Unknown && a.kind != OtherCard {
			return a.kind
		}
	}
	for _, l := range s.listed {
		if l.Kind != Unknown {
			return l.Kind
		}
	}
	if s.loose.kind != Unknown {
		return s.loose.kind
	}
	for _, a := range s.apps {
		if a.kind != Unknown {
			return a.kind
		}
	}
	return Unknown
}
