package main

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"koala/pcsc"
	gp "koala/spec/globalplatform"
	"koala/spec/iso7816"
	"koala/spec/purse"
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

// A talkLog is the file a dialogue is kept in; nil keeps nothing.
type talkLog struct {
	file *os.File
	size int64
}

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
	l := talkLine{Time: at.UTC(), Kind: e.Kind, Command: upper(withoutPIN(e.Command)), Answer: upper(e.Answer)}
	b, err := json.Marshal(l)
	if err != nil {
		return err
	}
	n, err := t.file.Write(append(b, '\n'))
	t.size += int64(n)
	return err
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
		Long:    "Explains the dialogue that koala band serve --log keeps beside the band's file. PINs are blanked in it.",
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
	page := &tracePage{out: out, zh: zh}
	enc := json.NewEncoder(out)
	enc.SetEscapeHTML(false)
	var purseNow bool
	from := 0
	if last > 0 {
		from = max(len(lines)-last, 0)
	}
	for i, l := range lines {
		purseNow = page.explainTalk(&l, purseNow)
		switch {
		case i < from:
		case asJSON:
			if err := enc.Encode(l); err != nil {
				return err
			}
		default:
			page.talk(l)
		}
	}
	return page.err
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

// explainTalk names what a line says. Which application a proprietary command
// is for follows from the SELECT before it.
func (p *tracePage) explainTalk(l *talkLine, purseNow bool) bool {
	raw, err := hex.DecodeString(l.Command)
	c, cerr := iso7816.ParseCommand(raw)
	if l.Kind != pcsc.APDU || err != nil || cerr != nil {
		return purseNow && l.Kind == pcsc.APDU
	}
	answer, _ := hex.DecodeString(l.Answer)
	r, _ := iso7816.ParseResponse(answer)
	if c.INS == iso7816.InsSelect && c.P1 == 0x04 && r.SW.OK() {
		purseNow = bytes.Equal(c.Data, purse.AIDTUnion)
	}
	explain := []func(iso7816.Command, iso7816.Response) (iso7816.Explanation, bool){gp.Explain, iso7816.Explain}
	if purseNow {
		explain = append([]func(iso7816.Command, iso7816.Response) (iso7816.Explanation, bool){purse.Explain}, explain...)
	}
	for _, f := range explain {
		if e, ok := f(c, r); ok {
			l.Text, l.Fields = p.both(say{e.EN, e.ZH}), p.fields(e.Fields)
			return purseNow
		}
	}
	l.Text = r.SW.Meaning(p.zh)
	return purseNow
}

var talkWords = map[pcsc.Kind]say{
	pcsc.Connected: {"the reader is there", "读卡器已连接"}, pcsc.Disconnected: {"the reader is gone", "读卡器已断开"},
	pcsc.PowerOn: {"power on", "上电"}, pcsc.PowerOff: {"power off", "下电"}, pcsc.ResetCard: {"reset", "复位"},
	pcsc.Pseudo: {"to the reader itself", "发给读卡器本身"}, pcsc.Torn: {"no answer: the card has left", "无应答：卡已离开"},
}

// talk writes one line as text.
func (p *tracePage) talk(l talkLine) {
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

func (p *tracePage) write(s string) {
	if p.err == nil {
		_, p.err = io.WriteString(p.out, s)
	}
}
