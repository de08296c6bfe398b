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
}

func (f *isoFlags) runMAC(cmd *cobra.Command, arg string) error {
	raw, err := hex.DecodeString(f.key)
	if err != nil || f.key == "" {
		return errUsage{errors.New("--key is not hexadecimal")}
	}
	key, err := iso8583.NewKey(raw)
	if err != nil {
		return errUsage{err}
	}
	algorithm, ok := iso8583.AlgorithmNamed(f.algorithm)
	if f.algorithm != "" && !ok {
		return errUsage{fmt.Errorf("--algorithm %q is not ecb, x9.9, x9.19 or cbc", f.algorithm)}
	}
	return f.each(cmd, arg, func(out io.Writer, c captured) error {
		if c.message == nil {
			return iso8583.ErrNoMAC
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
	if err != nil {
		return err
	}
	j := isoMACJSON{Spec: c.message.Spec().Name, MTI: c.message.MTI(), Algorithm: rule.Algorithm.String(), Field: c.message.MACField(),
		Computed: macText(rule, computed[:]), Carried: macText(rule, carried), OK: string(carried) == string(computed[:])}
	if err := f.tellMAC(out, j); err != nil {
		return err
	}
	if !j.OK {
		return errFoundWrong
	}
	return nil
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
