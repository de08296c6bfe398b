package dialogue

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"koala/spec/desfire"
	"koala/spec/iso7816"
	"koala/spec/tlv"
)

// Limits of what Read takes, far above a person's longest card log.
const (
	maxText      = 16 << 20 // bytes of text
	maxExchanges = 20_000   // exchanges of one transcript
)

// What can be wrong with a text that should be a transcript.
var (
	ErrHex   = errors.New("dialogue: not whole bytes of hexadecimal")
	ErrText  = errors.New("dialogue: no command, answer or data object found")
	ErrJSON  = errors.New("dialogue: malformed JSON")
	ErrLarge = errors.New("dialogue: text too large")
)

// A Transcript is one written dialogue with one card.
type Transcript struct {
	ID, Title string // as the file names them, may be empty
	Exchanges []Exchange
}

// Read takes a written dialogue in any of these forms:
//   - JSON: {"c","r"} or {"command","response"}, an array or lines of them, or
//     {"id","card","exchanges":[…]}, an array or lines of those;
//   - lines with a direction in front: "> 00A4…" and "< 6F…9000", and what
//     opensc-tool, scriptor, pyscard, gp -d, gpshell, pcscd --apdu and the
//     common readers' logs print (see marks);
//   - plain hexadecimal, one command, answer or string of data objects a line.
//
// ".", "X", "*" and "?" in place of a digit stand for a digit not written down.
func Read(text []byte) ([]Transcript, error) {
	if len(text) > maxText {
		return nil, ErrLarge
	}
	text = bytes.TrimSpace(bytes.TrimPrefix(text, []byte("\uFEFF")))
	if len(text) > 0 && (text[0] == '{' || text[0] == '[' && !bytes.HasPrefix(text, []byte("[opensc"))) {
		if out, err := readJSON(text); err == nil || text[0] == '{' {
			return out, err
		}
	}
	list, err := readLines(strings.Split(string(text), "\n"))
	if err != nil {
		return nil, err
	}
	return []Transcript{{Exchanges: list}}, nil
}

// ReadItems takes commands, answers and strings of data objects one by one, as
// somebody types them; an answer belongs to the command before it.
// Items that mean nothing alone are the parts of one.
func ReadItems(items []string) (Transcript, error) {
	if whole := strings.Join(items, ""); len(items) > 1 && !slices.ContainsFunc(items, directed) && !eachMeans(items) {
		if raw, _, err := Hex(whole); err == nil && (looksObjects(raw) || formsCommand(raw) || looksAnswer(raw)) {
			items = []string{whole}
		}
	}
	list, err := readLines(items)
	return Transcript{Exchanges: list}, err
}

func eachMeans(items []string) bool {
	return !slices.ContainsFunc(items, func(s string) bool {
		raw, _, err := Hex(s)
		return err == nil && !formsCommand(raw) && !looksAnswer(raw) && !looksObjects(raw)
	})
}

// A jsonEntry is one exchange or one card of a file in JSON, by any of the
// names in use.
type jsonEntry struct {
	ID, Card, Title       string
	Where                 string // which of several cards, as koala trace says
	C, Command, Cmd, APDU *string
	R, Response, Answer   *string
	Exchanges, Dialogue   []jsonEntry
}

func first(list ...*string) (string, bool) {
	for _, s := range list {
		if s != nil {
			return *s, true
		}
	}
	return "", false
}

func (j jsonEntry) exchange() (Exchange, bool, error) {
	c, asked := first(j.C, j.Command, j.Cmd, j.APDU)
	r, answered := first(j.R, j.Response, j.Answer)
	if !asked && !answered {
		return Exchange{}, false, nil
	}
	var e Exchange
	var err error
	if e.Command, e.CommandMask, err = Hex(c); err != nil {
		return e, false, err
	}
	if e.Response, e.ResponseMask, err = Hex(r); err != nil {
		return e, false, err
	}
	return e, len(e.Command)+len(e.Response) > 0, nil
}

func (j jsonEntry) transcript() (Transcript, error) {
	t := Transcript{ID: j.ID, Title: j.Title}
	if t.Title == "" && j.ID != "" {
		t.Title = j.Card
	}
	for i, x := range append(j.Exchanges, j.Dialogue...) {
		e, ok, err := x.exchange()
		if err != nil {
			return t, fmt.Errorf("exchange %d: %w", i+1, err)
		}
		if ok {
			t.Exchanges = append(t.Exchanges, e)
		}
	}
	return t, nil
}

// readJSON reads values until the text ends: loose exchanges make one
// transcript, each card makes its own.
func readJSON(text []byte) (out []Transcript, err error) {
	dec := json.NewDecoder(bytes.NewReader(text))
	var entries []jsonEntry
	for dec.More() {
		var raw json.RawMessage
		if err := dec.Decode(&raw); err != nil {
			return nil, fmt.Errorf("%w: byte %d", ErrJSON, dec.InputOffset())
		}
		var list []jsonEntry
		var one jsonEntry
		switch {
		case json.Unmarshal(raw, &list) == nil:
			entries = append(entries, list...)
		case json.Unmarshal(raw, &one) == nil:
			entries = append(entries, one)
		default:
			return nil, fmt.Errorf("%w: before byte %d", ErrJSON, dec.InputOffset())
		}
	}
	loose := map[string]int{} // place in out of the exchanges outside cards, by card
	for i, j := range entries {
		if len(j.Exchanges)+len(j.Dialogue) > 0 {
			t, err := j.transcript()
			if err != nil {
				return nil, fmt.Errorf("%s: %w", j.ID, err)
			}
			out = append(out, t)
			continue
		}
		e, ok, err := j.exchange()
		if err != nil {
			return nil, fmt.Errorf("entry %d: %w", i+1, err)
		}
		if ok {
			at, seen := loose[j.Where]
			if !seen {
				at = len(out)
				loose[j.Where] = at
				out = append(out, Transcript{ID: j.Where})
			}
			out[at].Exchanges = append(out[at].Exchanges, e)
		}
	}
	if len(out) == 0 {
		return nil, ErrText
	}
	return out, nil
}

// side says who speaks in a line.
type side int

const (
	nobody side = iota
	reader
	card
	noise // a line of the tool itself
)

// marks recognise the direction of a line. What the match covers is dropped:
// time stamps, log levels and lengths before the bytes.
var marks = []struct {
	side side
	re   *regexp.Regexp
}{
	{noise, regexp.MustCompile(`(?i)^\s*(wrapped command\s*-->|unwrapped response\s*<--|#|//|;)`)},
	{noise, regexp.MustCompile(`(?i)^\s*(using |reading commands|trying to|connect|disconnect|mode_211|establish|release_context|SCard|.*\bATR\b|.*(->|<-) 000000 )`)},
	{card, regexp.MustCompile(`(?i)^.*?(\bA<<|<<<|<<|<==?|<--?|\bR-?APDU\s*[:=]|\bSW\s*:|\bRecv\s*[:=]|\bReceived\s*[:=]|\bRX\s*[:=]|\bResponse\s*[:=]|\bIncoming APDU\b|^\s*R\s*:)\s*(\([^)]*\)\s*)*(\[\]\s*)?`)},
	{reader, regexp.MustCompile(`(?i)^.*?(\bA>>|>>>|>>|==?>|--?>|\bC-?APDU\s*[:=]|\bAPDU\s*:|\bSending\s*:|\bSend\s*[:=]|\bSent\s*[:=]|\bTX\s*[:=]|\bCommand\s*[:=]|\bOutgoing APDU\b|^\s*C\s*:)\s*(T=\S+\s*)?(\([^)]*\)\s*)*`)},
	{reader, regexp.MustCompile(`^\s*>\s*`)},
	{card, regexp.MustCompile(`^\s*<\s*(\[\]\s*)?`)},
}

var (
	// statusLine is opensc-tool's form: the status word in the line, the data as a
	// dump in the lines below.
	statusLine = regexp.MustCompile(`(?i)Received \(SW1=0x([0-9A-F]{2}), SW2=0x([0-9A-F]{2})\)`)
	// logged is OpenSC's debug log: how many bytes the dump below has.
	logged = regexp.MustCompile(`(?i)\b(Outgoing|Incoming) APDU\b[^(\[]*[(\[]\s*(\d+) bytes`)
	// dumped is the hexadecimal part of a line of a dump, text behind it.
	dumped = regexp.MustCompile(`^\s*(?:[0-9A-Fa-f]{2}(?: |$)){1,16}`)
)

func markOf(line string) (side, string) {
	for _, m := range marks {
		if at := m.re.FindStringIndex(line); at != nil {
			return m.side, line[at[1]:]
		}
	}
	return nobody, line
}

// A collector puts lines together to exchanges.
type collector struct {
	list    []Exchange
	open    bool   // the last exchange has a command and no answer yet
	marked  bool   // some line of the text has a mark
	dumping side   // whose bytes unmarked lines go on with
	dump    []byte // bytes of the dump so far
	want    int    // bytes of the dump, -1 when not said
	status  []byte // status word that goes behind the dump
	long    side   // whose line before was long enough to be continued
}

func readLines(lines []string) ([]Exchange, error) {
	c := collector{want: -1, marked: slices.ContainsFunc(lines, directed)}
	for i, line := range lines {
		if err := c.take(strings.TrimRight(line, "\r")); err != nil {
			return nil, fmt.Errorf("line %d: %w", i+1, err)
		}
		if len(c.list) > maxExchanges {
			return nil, ErrLarge
		}
	}
	c.endDump()
	if len(c.list) == 0 {
		return nil, ErrText
	}
	return c.list, nil
}

// directed says that a line tells who speaks.
func directed(line string) bool {
	if statusLine.MatchString(line) || logged.MatchString(line) {
		return true
	}
	who, rest := markOf(line)
	raw, _, err := Hex(uncommented(rest))
	return (who == reader || who == card) && err == nil && len(raw) > 0
}

func (c *collector) take(line string) error {
	if strings.TrimSpace(line) == "" {
		c.endDump()
		return nil
	}
	if sw := statusLine.FindStringSubmatch(line); sw != nil {
		c.endDump()
		c.dumping = card
		c.status, _, _ = Hex(sw[1] + sw[2])
		return nil
	}
	if n := logged.FindStringSubmatch(line); n != nil {
		c.endDump()
		c.dumping = reader
		if strings.EqualFold(n[1], "incoming") {
			c.dumping = card
		}
		c.want, _ = strconv.Atoi(n[2])
		return nil
	}
	if c.dumping != nobody {
		return c.dumpLine(line)
	}
	return c.plainLine(line)
}

// dumpLine is a line of a dump, or the first behind it.
func (c *collector) dumpLine(line string) error {
	part := dumped.FindString(line)
	if part == "" || len(c.dump) == c.want {
		c.endDump()
		return c.plainLine(line)
	}
	raw, _, _ := Hex(part)
	if left := c.want - len(c.dump); c.want >= 0 && len(raw) > left {
		raw = raw[:left]
	}
	c.dump = append(c.dump, raw...)
	return nil
}

// endDump makes the bytes of a dump a command or an answer.
func (c *collector) endDump() {
	if c.dumping != nobody {
		c.add(c.dumping, append(c.dump, c.status...), nil)
	}
	c.dumping, c.dump, c.status, c.want, c.long = nobody, nil, nil, -1, nobody
}

// longLine is from how many columns on a tool may have broken a line.
const longLine = 60

func (c *collector) plainLine(line string) error {
	who, rest := markOf(line)
	raw, mask, err := Hex(uncommented(rest))
	switch {
	case who == noise:
	case who == nobody && c.marked:
		if err == nil && len(raw) > 0 {
			c.continued(raw, mask)
		} else {
			c.long = nobody
		}
		return nil
	case who == nobody:
		if err != nil {
			return err
		}
		c.classify(raw, mask)
	case err != nil && strings.IndexAny(line, "<>") != len(line)-len(strings.TrimLeft(line, " \t")):
		// words of a tool that happen to have an arrow inside
	case err != nil:
		return err
	default:
		c.add(who, raw, mask)
	}
	if c.long = nobody; len(line) >= longLine {
		c.long = who
	}
	return nil
}

// continued adds what a tool printed on the next line.
func (c *collector) continued(raw, mask []byte) {
	switch x := c.last(); {
	case x == nil:
	case c.long == card:
		x.Response, x.ResponseMask = join(x.Response, x.ResponseMask, raw, mask)
	case c.long == reader:
		x.Command, x.CommandMask = join(x.Command, x.CommandMask, raw, mask)
	}
}

func (c *collector) last() *Exchange {
	if len(c.list) == 0 {
		return nil
	}
	return &c.list[len(c.list)-1]
}

func (c *collector) add(who side, raw, mask []byte) {
	switch {
	case len(raw) == 0:
	case who == reader:
		c.list = append(c.list, Exchange{Command: raw, CommandMask: mask})
		c.open = true
	case c.open:
		c.last().Response, c.last().ResponseMask = raw, mask
		c.open = false
	default:
		c.list = append(c.list, Exchange{Response: raw, ResponseMask: mask})
	}
}

func join(a, am, b, bm []byte) (out, mask []byte) {
	if am != nil || bm != nil {
		mask = append(append(mask, padMask(am, len(a))...), padMask(bm, len(b))...)
	}
	return append(append(out, a...), b...), mask
}

func padMask(m []byte, n int) []byte {
	if m == nil {
		return make([]byte, n)
	}
	return m
}

// classify decides what an item without a direction is: an answer belongs to
// an open command, data objects stand alone, everything else that has the form
// of a command is one.
func (c *collector) classify(raw, mask []byte) {
	switch isCommand, isAnswer, isObjects := looksCommand(raw), looksAnswer(raw), looksObjects(raw); {
	case len(raw) == 0:
	case c.open && isAnswer && !isCommand:
		c.add(card, raw, mask)
	case isObjects:
		c.list, c.open = append(c.list, Exchange{Response: raw, ResponseMask: mask, Bare: true}), false
	case isCommand, formsCommand(raw):
		c.add(reader, raw, mask)
	case isAnswer:
		c.add(card, raw, mask)
	default:
		c.list, c.open = append(c.list, Exchange{Response: raw, ResponseMask: mask, Bare: true}), false
	}
}

// formsCommand says that raw codes a command of a class that cards or, with FF,
// readers know (PC/SC part 3).
func formsCommand(raw []byte) bool {
	c, err := iso7816.ParseCommand(raw)
	if err != nil {
		return false
	}
	high := c.CLA & 0xF0
	return c.CLA == claReader || high == 0x00 || high == 0x80 || high == 0x40 || high == 0xC0 || c.CLA == desfire.CLA && c.P1 == 0 && c.P2 == 0
}

// looksCommand says that it also has an instruction that cards know.
func looksCommand(raw []byte) bool {
	return formsCommand(raw) && (raw[0] == claReader || raw[0] == desfire.CLA || knownInstruction(raw[0], raw[1]))
}

// looksAnswer says that raw ends with a status word.
func looksAnswer(raw []byte) bool {
	if len(raw) < 2 {
		return false
	}
	sw1 := raw[len(raw)-2]
	return sw1 >= 0x61 && sw1 <= 0x6F || sw1 >= 0x90 && sw1 <= 0x9F
}

// looksObjects says that raw is data objects to its last byte, the first of
// them one that begins an answer or that tag lists know.
func looksObjects(raw []byte) bool {
	tag, _, _, err := tlv.Next(raw)
	if err != nil || tlv.Walk(raw, func(int, tlv.Tag, []byte) error { return nil }) != nil {
		return false
	}
	return nameOf(tag, Unknown).known
}

// uncommented drops what tools print behind the bytes: " : Normal processing."
func uncommented(s string) string {
	for _, mark := range []string{" : ", "#", "//", " ;"} {
		if at := strings.Index(s, mark); at >= 0 {
			s = s[:at]
		}
	}
	return s
}
