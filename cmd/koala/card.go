package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"koala/fare"
	"koala/spec/dialogue"
	"koala/spec/emv"
	"koala/transit/network"
)

func cardCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "card",
		Short: "Windows on cards: any dialogue explained, the house's certification authority",
		Long: `Explains what a card and a reader said to each other, whoever wrote it down, and shows,
exports and uses the certification authority that vouches for the cards of a house.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	c.AddCommand(cardExplainCommand(), cardCACommand())
	return c
}

// explainFlags are the flags of `koala card explain`.
type explainFlags struct {
	house        houseFlags
	lang, id, ca string
	json, clear  bool
	summary, own bool
}

// maxCardInput bounds what is read of a file or the input, in bytes.
const maxCardInput = 16 << 20

func cardExplainCommand() *cobra.Command {
	var f explainFlags
	c := &cobra.Command{
		Use:   "explain FILE | CAPDU…",
		Short: "Any card dialogue or data object, decoded and explained",
		Long: `Says which card it is, what every command and answer means and what every data object is
called; balance, logs and validity; and recovers the certificates with the schemes' published
keys: issuer, card, static and dynamic signatures, each with its outcome and reason.

FILE (- is standard input) is JSON with the pairs {"c","r"} or {"command","response"}, alone,
line by line or in "exchanges" of cards; or text: lines "> 00A4…" and "< 6F…9000", the output of
opensc-tool, scriptor, pyscard, gp -d, gpshell or pcscd --apdu; or plain hexadecimal. Arguments
are commands, answers and data objects in hexadecimal. A digit that is not known is ".", "X",
"*" or "?". PAN, track data and the holder's name are masked unless --clear is given; the
number of a transit card stands in full: it is printed on the card and is no PAN.

The exit code is 1 when nothing could be explained or a signature is wrong; a check that lacks
something (a key, a record) is told and not counted as wrong.`,
		Example: `  koala card explain tap.log
  koala card explain 00A4040008A00000063201010500 6F0A8408A0000006320101059000
  koala card explain 9F1013 07000103A04002010A010000001000D1F61152 --lang zh
  koala card explain cards.json --card tunion-beijing --json
  koala card explain - < tap.log`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return errUsage{errors.New("name a file, - for standard input, or commands in hexadecimal")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error { return f.run(cmd, args) },
	}
	f.add(c)
	c.Flags().BoolVar(&f.summary, "summary", false, "only the card, its balance, records and certificates, not the dialogue")
	return c
}

func (f *explainFlags) add(c *cobra.Command) {
	c.Flags().StringVar(&f.lang, "lang", "en", "language of the explanation: en or zh")
	c.Flags().StringVar(&f.id, "card", "", "of a file with several cards, the one with this id")
	c.Flags().StringVar(&f.ca, "ca", "", "file with further CA keys, as koala card ca export writes them (json or csv)")
	c.Flags().BoolVar(&f.own, "house", false, "also check with the CA key of the house in --data or --db")
	c.Flags().BoolVar(&f.json, "json", false, "one JSON object a card instead of text")
	c.Flags().BoolVar(&f.clear, "clear", false, "show PAN, track data and names; for test cards")
	f.house.add(c)
}

func (f *explainFlags) run(cmd *cobra.Command, args []string) error {
	if f.lang != "en" && f.lang != "zh" {
		return errUsage{fmt.Errorf("--lang %q is not en or zh", f.lang)}
	}
	options := dialogue.Options{Clear: f.clear, Station: stationName}
	var err error
	if options.CAs, err = f.keys(cmd); err != nil {
		return err
	}
	list, err := transcripts(cmd.InOrStdin(), args)
	if err != nil {
		return err
	}
	if list, err = f.chosen(list); err != nil {
		return err
	}
	page := &cardPage{out: cmd.OutOrStdout(), zh: f.lang == "zh", summary: f.summary, colour: hasColour(cmd.OutOrStdout())}
	good := true
	for _, t := range list {
		r := dialogue.Explain(t.Exchanges, options)
		good = good && r.Explained() && r.Sound()
		if f.json {
			err = printCardJSON(cmd.OutOrStdout(), t, r, f)
		} else {
			err = page.card(t, r)
		}
		if err != nil {
			return err
		}
	}
	if !good {
		return errFoundWrong
	}
	return nil
}

// stationName names a station of the Beijing network.
func stationName(code uint32) (string, bool) {
	s, ok := network.Beijing().ByCode(fare.Code(code))
	if !ok {
		return "", false
	}
	return s.ZH + " " + s.EN, true
}

// keys are the CA keys that the flags bring.
func (f *explainFlags) keys(cmd *cobra.Command) ([]emv.CAKey, error) {
	var keys []emv.CAKey
	if f.ca != "" {
		text, err := os.ReadFile(f.ca)
		if err != nil {
			return nil, err
		}
		if keys, err = readCAKeys(text); err != nil {
			return nil, fmt.Errorf("%s: %w", f.ca, err)
		}
	}
	if f.own {
		own, err := f.house.caKeys(cmd, emv.RSA, emv.SM2)
		if err != nil {
			return nil, err
		}
		keys = append(keys, own...)
	}
	return keys, nil
}

// chosen is the card that --card names, or all.
func (f *explainFlags) chosen(list []dialogue.Transcript) ([]dialogue.Transcript, error) {
	if f.id == "" {
		return list, nil
	}
	var ids []string
	for _, t := range list {
		if t.ID == f.id {
			return []dialogue.Transcript{t}, nil
		}
		ids = append(ids, t.ID)
	}
	return nil, fmt.Errorf("the file has no card %q; it has %s", f.id, strings.Join(ids, " "))
}

// transcripts reads what the arguments name: a file, the input, or the items
// themselves.
func transcripts(in io.Reader, args []string) ([]dialogue.Transcript, error) {
	if len(args) == 1 && args[0] != "-" {
		if _, err := os.Stat(args[0]); err != nil {
			return items(args)
		}
		file, err := os.Open(args[0])
		if err != nil {
			return nil, err
		}
		defer file.Close()
		in = file
	} else if len(args) > 1 {
		return items(args)
	}
	text, err := io.ReadAll(io.LimitReader(in, maxCardInput+1))
	if err != nil {
		return nil, err
	}
	list, err := dialogue.Read(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", args[0], err)
	}
	return list, nil
}

func items(args []string) ([]dialogue.Transcript, error) {
	t, err := dialogue.ReadItems(args)
	if err != nil {
		return nil, errUsage{fmt.Errorf("%s is neither a file nor hexadecimal: %w", strings.Join(args, " "), err)}
	}
	return []dialogue.Transcript{t}, nil
}

// hasColour says that somebody looks at w who has not asked for plain text.
func hasColour(w io.Writer) bool { return isScreen(w) && os.Getenv("NO_COLOR") == "" }
