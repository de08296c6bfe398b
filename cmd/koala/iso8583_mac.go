package main

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"koala/spec/iso8583"
)

// isoMACJSON is what `koala iso8583 mac --json` prints for one message.
type isoMACJSON struct {
	Spec      string `json:"spec"`
	MTI       string `json:"mti"`
	Algorithm string `json:"algorithm"`
	Field     int    `json:"field"`
	Computed  string `json:"computed"`
	Carried   string `json:"carried"`
	OK        bool   `json:"ok"`
	Hex       string `json:"hex,omitempty"` // with --seal: the message with the computed MAC

	Steps []isoMACStep `json:"steps,omitempty"` // with --explain
}

// isoMACStep is one step of --explain.
type isoMACStep struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

func (f *isoFlags) runMAC(cmd *cobra.Command, arg string) error {
	raw, err := hex.DecodeString(f.key)
	switch {
	case f.key == "":
		return errUsage{errors.New("--key is missing: the MAC key in clear, 16 or 32 hexadecimal digits")}
	case err != nil:
		return errUsage{errors.New("--key is not hexadecimal: 16 or 32 of 0-9 and A-F")} // and is not repeated: it may be a key
	case f.explain && f.seal:
		return errUsage{errors.New("one of --explain and --seal: seal the message first, then explain what came out")}
	}
	key, err := iso8583.NewKey(raw)
	if err != nil {
		return errUsage{fmt.Errorf("--key has %d bytes: %w", len(raw), err)}
	}
	algorithm, ok := iso8583.AlgorithmNamed(f.algorithm)
	if f.algorithm != "" && !ok {
		return errUsage{fmt.Errorf("--algorithm %q is not ecb, x9.9, x9.19 or cbc", f.algorithm)}
	}
	return f.each(cmd, arg, func(out io.Writer, c captured) error {
		if c.message == nil {
			return fmt.Errorf("this is only the header of an interchange message: %w", iso8583.ErrNoMAC)
		}
		rule := c.message.Spec().MAC
		if ok {
			rule.Algorithm = algorithm
		}
		if f.seal {
			return f.sealed(out, c, key, rule)
		}
		return f.compared(out, c, key, rule)
	})
}

// macText is a MAC as people compare it.
func macText(rule iso8583.MACRule, mac []byte) string {
	if rule.Hex {
		return string(mac)
	}
	return upper(mac)
}

func (f *isoFlags) compared(out io.Writer, c captured, key *iso8583.Key, rule iso8583.MACRule) error {
	carried, computed, err := c.message.MACBy(key, rule)
	if errors.Is(err, iso8583.ErrNoMAC) {
		return fmt.Errorf("%w; --seal gives it one", err)
	}
	if err != nil {
		return err
	}
	j := isoMACJSON{Spec: c.message.Spec().Name, MTI: c.message.MTI(), Algorithm: rule.Algorithm.String(), Field: c.message.MACField(),
		Computed: macText(rule, computed[:]), Carried: macText(rule, carried), OK: string(carried) == string(computed[:])}
	if f.explain {
		if j.Steps, err = f.steps(c.message, key, rule); err != nil {
			return err
		}
	}
	if err := f.tellMAC(out, j); err != nil {
		return err
	}
	if !j.OK {
		return errFoundWrong
	}
	return nil
}

// steps are how the MAC comes about, in the language asked for.
func (f *isoFlags) steps(m *iso8583.Message, key *iso8583.Key, rule iso8583.MACRule) (out []isoMACStep, err error) {
	x, err := iso8583.ExplainMAC(m, key, rule)
	if err != nil {
		return nil, err
	}
	for _, s := range x.Steps(f.clear) {
		name := s.EN
		if f.lang == "zh" {
			name = s.ZH
		}
		out = append(out, isoMACStep{name, s.Value})
	}
	return out, nil
}

func (f *isoFlags) sealed(out io.Writer, c captured, key *iso8583.Key, rule iso8583.MACRule) error {
	message, err := c.message.SealBy(nil, key, rule)
	if err != nil {
		return err
	}
	whole, err := c.whole(message)
	if err != nil {
		return err
	}
	if !f.json {
		_, err = fmt.Fprintln(out, upper(whole))
		return err
	}
	n := c.message.MACField()
	mac := macText(rule, c.message.Get(n))
	return f.tellMAC(out, isoMACJSON{Spec: c.message.Spec().Name, MTI: c.message.MTI(), Algorithm: rule.Algorithm.String(), Field: n,
		Computed: mac, Carried: mac, OK: true, Hex: upper(whole)})
}

func (f *isoFlags) tellMAC(out io.Writer, j isoMACJSON) error {
	if f.json {
		return jsonLine(out, j)
	}
	verdict := "the message carries it"
	if !j.OK {
		verdict = "the message carries " + quotedMAC(j.Carried)
	}
	for _, s := range j.Steps {
		if _, err := fmt.Fprintf(out, "%s\n    %s\n", s.Name, s.Value); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(out, "%s %s, field %d by %s: %s, %s\n", j.Spec, j.MTI, j.Field, j.Algorithm, j.Computed, verdict)
	return err
}

// quotedMAC shows what is not hexadecimal characters so that it can be read.
func quotedMAC(s string) string {
	if _, err := hex.DecodeString(s); err != nil {
		return fmt.Sprintf("%q", s)
	}
	return s
}

// jsonLine writes one object and a line end.
func jsonLine(out io.Writer, v any) error {
	enc := json.NewEncoder(out)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}
