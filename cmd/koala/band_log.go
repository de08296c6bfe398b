package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"koala/pcsc"
	"koala/spec/dialogue"
	"koala/spec/iso7816"
)

// maxTalk bounds a dialogue file, in bytes: one that has grown beyond it is put
// aside as FILE.1 when the next serve begins.
const maxTalk = 16 << 20

// A talkLine is one line of a dialogue file and of `koala band log --json`.
type talkLine struct {
	Time    time.Time    `json:"time"`
	Kind    pcsc.Kind    `json:"kind"`
	Command string       `json:"command,omitempty"`
	Answer  string       `json:"answer,omitempty"`
	Text    string       `json:"text,omitempty"`
	Fields  []traceField `json:"fields,omitempty"`
}

// A talkLog is the file a dialogue is kept in; without a file it keeps nothing.
// What names a person or opens a lock never reaches the file: card numbers,
// track data, names, PINs and keys in clear are written as X.
type talkLog struct {
	file  *os.File
	size  int64
	told  *dialogue.Session // knows which application answers, so what to mask
	lines int               // told by it
}

// maxTold bounds what one session remembers, in exchanges.
const maxTold = 10_000

func openTalk(band string, keep bool) (*talkLog, error) {
	if !keep {
		return &talkLog{}, nil
	}
	path := band + talkSuffix
	size := int64(0)
	if info, err := os.Stat(path); err == nil {
		size = info.Size()
	}
	if size > maxTalk {
		if err := os.Rename(path, path+".1"); err != nil {
			return nil, err
		}
		size = 0
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	return &talkLog{file: f, size: size}, nil
}

// Close closes the file.
func (t *talkLog) Close() error {
	if t.file == nil {
		return nil
	}
	return t.file.Close()
}

// write appends one event, secrets masked. A file that is full takes no more.
func (t *talkLog) write(at time.Time, e pcsc.Event) error {
	if t.file == nil || t.size > maxTalk {
		return nil
	}
	l := talkLine{Time: at.UTC(), Kind: e.Kind}
	if e.Kind == pcsc.PowerOn || e.Kind == pcsc.ResetCard || t.told == nil || t.lines > maxTold {
		t.told, t.lines = dialogue.NewSession(dialogue.Options{}), 0
	}
	if len(e.Command) > 0 {
		x := t.told.Say(dialogue.Exchange{Command: withoutPIN(e.Command), Response: e.Answer})
		l.Command, l.Answer = withLength(x.Command, e.Command), x.Response
		t.lines++
	}
	b, err := json.Marshal(l)
	if err != nil {
		return err
	}
	n, err := t.file.Write(append(b, '\n'))
	t.size += int64(n)
	return err
}

// withLength shows a masked command's Lc again, without which nobody could read
// the rest.
func withLength(masked string, raw []byte) string {
	if len(raw) < 6 || len(masked) != 2*len(raw) {
		return masked
	}
	return masked[:8] + upper(raw[4:5]) + masked[10:]
}

// withoutPIN blanks the data of commands that carry a PIN in clear.
func withoutPIN(raw []byte) []byte {
	const changePIN = 0x24
	if len(raw) <= 5 || raw[1] != iso7816.InsVerify && raw[1] != changePIN {
		return raw
	}
	out := bytes.Clone(raw)
	for i := 5; i < len(out); i++ {
		out[i] = 0
	}
	return out
}

func bandLogCommand() *cobra.Command {
	var f bandFlags
	var last int
	var lang string
	c := &cobra.Command{
		Use:     "log",
		Short:   "Tell what readers said to a served band, every field named",
		Long:    "Explains the dialogue that koala band serve --log keeps beside the band's file. Card\nnumbers, names, PINs and keys are masked in it.",
		Example: "  koala band log --name blue --last 20\n  koala band log --name blue --json",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if last < 0 {
				return errUsage{fmt.Errorf("--last %d: not a number of lines", last)}
			}
			if lang != "en" && lang != "zh" {
				return errUsage{fmt.Errorf("--lang %q is not en or zh", lang)}
			}
			path, err := f.path()
			if err != nil {
				return err
			}
			return tellTalk(cmd.OutOrStdout(), path, last, lang == "zh", f.json)
		},
	}
	f.add(c)
	c.Flags().IntVar(&last, "last", 0, "only so many events from the end; 0 is all")
	c.Flags().StringVar(&lang, "lang", "en", "language of the explanation: en or zh")
	return c
}

func tellTalk(out io.Writer, band string, last int, zh, asJSON bool) error {
	f, err := os.Open(band + talkSuffix)
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("no dialogue of %s has been kept; serve it with koala band serve --log", band)
	}
	if err != nil {
		return err
	}
	defer f.Close()
	lines, err := readTalk(f)
	if err != nil {
		return err
	}
	t := talkTeller{tracePage: &tracePage{out: out, zh: zh}}
	enc := json.NewEncoder(out)
	enc.SetEscapeHTML(false)
	from := 0
	if last > 0 {
		from = max(len(lines)-last, 0)
	}
	for i, l := range lines {
		if err := t.explain(&l); err != nil {
			return fmt.Errorf("line %d of the dialogue: %w", i+1, err)
		}
		switch {
		case i < from:
		case asJSON:
			if err := enc.Encode(l); err != nil {
				return err
			}
		default:
			t.talk(l)
		}
	}
	return t.err
}

// readTalk reads a dialogue file. Its last line may be cut off.
func readTalk(in io.Reader) (lines []talkLine, err error) {
	s := bufio.NewScanner(in)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		var l talkLine
		if err := json.Unmarshal(s.Bytes(), &l); err != nil {
			if !s.Scan() {
				break
			}
			return nil, fmt.Errorf("line %d of the dialogue: %w", len(lines)+1, err)
		}
		lines = append(lines, l)
	}
	return lines, s.Err()
}

// A talkTeller explains a dialogue from power-on to power-on.
type talkTeller struct {
	*tracePage
	told *dialogue.Session
}

// explain names what a line says.
func (t *talkTeller) explain(l *talkLine) error {
	if l.Kind == pcsc.PowerOn || l.Kind == pcsc.ResetCard || t.told == nil {
		o := dialogue.Options{}
		if ca, err := testAuthority(); err == nil {
			o.CAs = append(o.CAs, ca)
		}
		t.told = dialogue.NewSession(o)
	}
	if l.Command == "" {
		return nil
	}
	var e dialogue.Exchange
	var err error
	if e.Command, e.CommandMask, err = dialogue.Hex(l.Command); err != nil {
		return err
	}
	if e.Response, e.ResponseMask, err = dialogue.Hex(l.Answer); err != nil {
		return err
	}
	x := t.told.Say(e)
	l.Text, l.Fields = t.both(say{x.Explanation.EN, x.Explanation.ZH}), t.fields(x.Fields())
	return nil
}

var talkWords = map[pcsc.Kind]say{
	pcsc.Connected: {"the reader is there", "读卡器已连接"}, pcsc.Disconnected: {"the reader is gone", "读卡器已断开"},
	pcsc.PowerOn: {"power on", "上电"}, pcsc.PowerOff: {"power off", "下电"}, pcsc.ResetCard: {"reset", "复位"},
	pcsc.Pseudo: {"to the reader itself", "发给读卡器本身"}, pcsc.Torn: {"no answer: the card has left", "无应答：卡已离开"},
}

// talk writes one line as text.
func (p *talkTeller) talk(l talkLine) {
	at := l.Time.Local().Format("15:04:05.000")
	if l.Command == "" {
		p.write(fmt.Sprintf("%s  — %s\n", at, p.both(talkWords[l.Kind])))
		return
	}
	if l.Text == "" {
		l.Text = p.both(talkWords[l.Kind])
	}
	p.write(at + "\n")
	p.write(p.text(traceLine{Kind: "apdu", Where: "", Text: l.Text, Command: l.Command, Answer: l.Answer,
		Torn: l.Kind == pcsc.Torn, Fields: l.Fields}))
}

func (p *talkTeller) write(s string) {
	if p.err == nil {
		_, p.err = io.WriteString(p.out, s)
	}
}
