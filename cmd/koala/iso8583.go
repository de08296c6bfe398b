package main

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"koala/spec/iso8583"
)

func iso8583Command() *cobra.Command {
	c := &cobra.Command{
		Use:   "iso8583",
		Short: "Card messages explained, written again and their MAC checked",
		Long: `Reads ISO 8583 messages of terminals and banks: UnionPay's POS dialect (TPDU, header, BCD),
UnionPay's interchange dialect and ISO 8583:1987 in ASCII. Without --spec the dialect is found out.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	c.AddCommand(isoDescribeCommand(), isoRepackCommand(), isoMACCommand())
	return c
}

// isoFlags are the flags of `koala iso8583`.
type isoFlags struct {
	spec, lang     string
	key, algorithm string
	json           bool
	clear, seal    bool
	explain        bool
}

func (f *isoFlags) add(c *cobra.Command) *cobra.Command {
	c.Args = exactArgs(1)
	c.Flags().StringVar(&f.spec, "spec", "", "unionpay-pos, unionpay-interchange or iso87-ascii; without it the one that reads the message")
	c.Flags().BoolVar(&f.json, "json", false, "one JSON object a message")
	return c
}

const isoInput = `

HEX is one message, FILE (- is standard input) one a line in hexadecimal, empty lines and lines with #
left out, or one message as bytes. A length of two bytes before a message is taken off and put back.`

func isoDescribeCommand() *cobra.Command {
	var f isoFlags
	c := &cobra.Command{
		Use:   "describe HEX | FILE | -",
		Short: "What a message holds, field by field",
		Long: `Names every field and says what its value means; chip data, the POS dialect's own fields and
key downloads are taken apart. Card numbers, tracks, PIN blocks and keys are masked unless --clear
is given. The exit code is 1 when a message is not of the dialect.` + isoInput,
		Example: `  koala iso8583 describe 60000300006031003101000200703C06C000C49A17…
  koala iso8583 describe --spec unionpay-interchange capture.txt --json
  koala iso8583 describe --lang zh - < capture.txt`,
		RunE: func(cmd *cobra.Command, args []string) error { return f.each(cmd, args[0], f.describe) },
	}
	c.Flags().BoolVar(&f.clear, "clear", false, "show card numbers, tracks, PIN blocks and keys; for test messages")
	c.Flags().StringVar(&f.lang, "lang", "en", "language of the description: en or zh")
	return f.add(c)
}

func isoRepackCommand() *cobra.Command {
	var f isoFlags
	return f.add(&cobra.Command{
		Use:   "repack HEX | FILE | -",
		Short: "Reads a message and writes it again, in hexadecimal",
		Long:  `Unpacks a message and packs its fields again. What is read is written back byte for byte; anything else is refused with the field and the place, exit code 1.` + isoInput,
		Example: `  koala iso8583 repack 60000300006031003101000800000000000000000000
  koala iso8583 repack --spec iso87-ascii - < capture.bin`,
		RunE: func(cmd *cobra.Command, args []string) error { return f.each(cmd, args[0], f.repack) },
	})
}

func isoMACCommand() *cobra.Command {
	var f isoFlags
	c := &cobra.Command{
		Use:   "mac --key HEX HEX | FILE | -",
		Short: "Computes the authentication code of a message and compares",
		Long: `Computes the MAC of field 64 or 128 by the dialect's rule: UnionPay's XOR and ECB algorithm over the
POS message, ANSI X9.9 over chosen fields of an interchange message, ANSI X9.19 over an ASCII one.
The exit code is 1 when the message carries another. --seal writes the message with the computed one.

--explain shows every step: what is covered, the filling, the blocks, their exclusive or, its
hexadecimal halves, both encipherments and the result. Card numbers, tracks, PIN blocks and keys are
XX unless --clear is given, and so is what they could be worked out from.` + isoInput,
		Example: `  koala iso8583 mac --key 2222222222222222 60000300006031003101000930002000000AC00111…
  koala iso8583 mac --key 2222222222222222 --explain --lang zh capture.txt
  koala iso8583 mac --key 0123456789ABCDEFFEDCBA9876543210 --algorithm x9.19 --seal capture.txt`,
		RunE: func(cmd *cobra.Command, args []string) error { return f.runMAC(cmd, args[0]) },
	}
	c.Flags().StringVar(&f.key, "key", "", "MAC key in clear, 8 or 16 bytes in hexadecimal; a test key")
	c.Flags().StringVar(&f.algorithm, "algorithm", "", "ecb, x9.9, x9.19 or cbc instead of the dialect's")
	c.Flags().BoolVar(&f.explain, "explain", false, "show every step of the computation")
	c.Flags().BoolVar(&f.clear, "clear", false, "with --explain: show card numbers, tracks, PIN blocks and keys; for test messages")
	c.Flags().StringVar(&f.lang, "lang", "en", "language of --explain: en or zh")
	c.Flags().BoolVar(&f.seal, "seal", false, "write the message with the computed MAC")
	return f.add(c)
}

// A captured is one message as it was found; message is nil when only the
// header of an interchange message was captured.
type captured struct {
	message *iso8583.Message
	bytes   []byte // without length
	framed  bool
}

// onlyHeader says that in is the header of an interchange message and no more.
func (f *isoFlags) onlyHeader(in []byte) bool {
	if f.spec != "" && f.spec != iso8583.UnionPayInterchange().Name || len(in) != iso8583.InterchangeHeaderLen {
		return false
	}
	_, err := iso8583.ParseInterchangeHeader(in)
	return err == nil
}

// whole puts the length back.
func (c captured) whole(message []byte) ([]byte, error) {
	if !c.framed {
		return message, nil
	}
	return iso8583.AppendFrame(nil, message)
}

// each does work on every message that arg names.
func (f *isoFlags) each(cmd *cobra.Command, arg string, work func(io.Writer, captured) error) error {
	if f.lang != "" && f.lang != "en" && f.lang != "zh" {
		return errUsage{fmt.Errorf("--lang %q is not en or zh", f.lang)}
	}
	if _, ok := iso8583.SpecNamed(f.spec); !ok && f.spec != "" {
		return errUsage{fmt.Errorf("--spec %q is not unionpay-pos, unionpay-interchange or iso87-ascii", f.spec)}
	}
	list, err := isoMessages(cmd.InOrStdin(), arg)
	if err != nil {
		return err
	}
	for i, raw := range list {
		c := captured{}
		c.bytes, c.framed = iso8583.Unframe(raw)
		if !f.onlyHeader(c.bytes) {
			c.message, err = unpackAs(f.spec, c.bytes)
			err = withAdvice(err, f.spec)
		}
		if err == nil {
			err = work(cmd.OutOrStdout(), c)
		}
		if err != nil && len(list) > 1 && !errors.Is(err, errFoundWrong) {
			err = fmt.Errorf("message %d: %w", i+1, err)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// isoMessages reads what arg names: a file, the input, or the message itself.
func isoMessages(in io.Reader, arg string) ([][]byte, error) {
	if arg != "-" {
		file, err := os.Open(arg)
		if err != nil {
			raw, notHex := hex.DecodeString(strings.Join(strings.Fields(arg), ""))
			if notHex != nil || len(raw) == 0 {
				return nil, errUsage{fmt.Errorf("%s is neither a file that can be read nor a message in hexadecimal; name a file, give the message itself, or - for the input", quotedInput(arg))}
			}
			return [][]byte{raw}, nil
		}
		defer file.Close()
		in = file
	}
	text, err := io.ReadAll(io.LimitReader(in, maxCardInput+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxCardInput {
		return nil, fmt.Errorf("more than %d bytes", maxCardInput)
	}
	return messagesIn(text)
}

// quotedInput names an argument by its beginning: the rest may be a card's.
func quotedInput(arg string) string {
	const most = 40
	if digits := strings.Map(func(r rune) rune {
		if r < '0' || r > '9' {
			return -1
		}
		return r
	}, arg); len(digits) >= 13 {
		return fmt.Sprintf("the argument of %d characters that begins with %q", len(arg), arg[:min(6, len(arg))])
	}
	if len(arg) > most {
		return fmt.Sprintf("%q…", strings.ToValidUTF8(arg[:most], ""))
	}
	return fmt.Sprintf("%q", arg)
}

// messagesIn takes lines of hexadecimal apart; anything that is not text is one
// message.
func messagesIn(text []byte) ([][]byte, error) {
	if bytes.ContainsFunc(text, func(r rune) bool { return r < ' ' && r != '\n' && r != '\r' && r != '\t' || r == '\uFFFD' }) {
		return [][]byte{text}, nil
	}
	var list [][]byte
	n := 0
	for line := range strings.Lines(string(text)) {
		n++
		line = strings.Join(strings.Fields(line), "")
		if line == "" || line[0] == '#' {
			continue
		}
		raw, err := hex.DecodeString(line)
		if err != nil {
			return nil, errUsage{fmt.Errorf("line %d is not hexadecimal", n)}
		}
		list = append(list, raw)
	}
	if len(list) == 0 {
		return nil, errUsage{errors.New("there is no message")}
	}
	return list, nil
}

// withAdvice says what to do about a message that does not read.
func withAdvice(err error, spec string) error {
	switch {
	case errors.Is(err, iso8583.ErrShort):
		return fmt.Errorf("%w; the message is cut short: capture it whole, to the last byte of its last field", err)
	case errors.Is(err, iso8583.ErrTrails):
		return fmt.Errorf("%w; give one message, without what comes after it", err)
	case err != nil && spec == "":
		return fmt.Errorf("%w; --spec names the dialect where it is another", err)
	case err != nil:
		return fmt.Errorf("%w; without --spec the dialect is found out", err)
	}
	return nil
}

// unpackAs reads a message of the named dialect; of no name, of the first that
// takes it. The failure is that of the dialect it looks like.
func unpackAs(name string, in []byte) (*iso8583.Message, error) {
	m := new(iso8583.Message)
	var failed error
	for _, s := range iso8583.Specs() {
		if name != "" && s.Name != name {
			continue
		}
		err := m.Unpack(s, in)
		if err == nil {
			return m, nil
		}
		if failed == nil || name == "" && further(err, failed) {
			failed = err
		}
	}
	return nil, failed
}

// further says that a failure came later in the message than another, or that
// the other is about a header that is not there at all.
func further(a, b error) bool {
	var x, y *iso8583.FieldError
	return errors.As(a, &x) && errors.As(b, &y) && (x.Offset > y.Offset || errors.Is(b, iso8583.ErrHeader) && !errors.Is(a, iso8583.ErrMTI))
}

// again is the message written anew, with its dialect and type.
func (c captured) again() (spec, mti string, again []byte, err error) {
	if c.message == nil {
		h, err := iso8583.ParseInterchangeHeader(c.bytes)
		return iso8583.UnionPayInterchange().Name, "", h.AppendTo(nil), err
	}
	again, err = c.message.AppendTo(nil)
	return c.message.Spec().Name, c.message.MTI(), again, err
}

func (f *isoFlags) repack(out io.Writer, c captured) error {
	spec, mti, again, err := c.again()
	if err != nil {
		return err
	}
	if !bytes.Equal(again, c.bytes) {
		return fmt.Errorf("packed again the message differs: %X", again)
	}
	whole, err := c.whole(again)
	if err != nil {
		return err
	}
	if f.json {
		return jsonLine(out, struct {
			Spec string `json:"spec"`
			MTI  string `json:"mti"`
			Hex  string `json:"hex"`
		}{spec, mti, upper(whole)})
	}
	_, err = fmt.Fprintln(out, upper(whole))
	return err
}
