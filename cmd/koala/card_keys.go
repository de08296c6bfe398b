package main

import (
	"bytes"
	"encoding/csv"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strconv"

	"koala/spec/emv"
	"koala/spec/pboc"
)

// A caKeyJSON is a CA key as `card ca export --format json` writes it.
type caKeyJSON struct {
	Scheme      string `json:"scheme"`
	RID         string `json:"rid"`
	Index       string `json:"index"`
	Algorithm   string `json:"algorithm,omitempty"` // SM2; absent: RSA
	Bits        int    `json:"bits"`
	Exponent    string `json:"exponent,omitempty"` // none of an SM2 key
	Modulus     string `json:"modulus"`
	SHA1        string `json:"sha1"`
	Environment string `json:"environment"`
}

func caKeyOf(k emv.CAKey) caKeyJSON {
	algorithm := ""
	if k.Algorithm == emv.SM2 {
		algorithm = k.Algorithm.String()
	}
	return caKeyJSON{k.Scheme, upper(k.RID[:]), fmt.Sprintf("%02X", k.Index), algorithm, keyBits(k), upper(k.Exponent), upper(k.Modulus), upper(k.Hash[:]), k.Environment}
}

// keyBits is how long keys of the algorithm are said to be.
func keyBits(k emv.CAKey) int {
	if k.Algorithm == emv.SM2 {
		return 4 * len(k.Modulus)
	}
	return 8 * len(k.Modulus)
}

var caFormats = map[string]func(io.Writer, emv.CAKey) error{
	"json":         func(w io.Writer, k emv.CAKey) error { return json.NewEncoder(w).Encode(caKeyOf(k)) },
	"csv":          writeCACSV,
	"xml-emv-tool": writeCAXML,
}

var caColumns = []string{"scheme", "rid", "index", "exponent", "bits", "modulus", "sha1", "environment"}

func writeCACSV(w io.Writer, k emv.CAKey) error {
	j := caKeyOf(k)
	c := csv.NewWriter(w)
	return c.WriteAll([][]string{caColumns, {j.Scheme, j.RID, j.Index, j.Exponent, strconv.Itoa(j.Bits), j.Modulus, j.SHA1, j.Environment}})
}

// The configuration of the emv-utils kernel: what a terminal says of itself,
// which applications it takes, whose keys it trusts.
type (
	emvToolConfig struct {
		XMLName xml.Name     `xml:"emv"`
		Data    []emvToolTLV `xml:"data>tlv"`
		Apps    []emvToolApp `xml:"app"`
		Keys    []emvToolKey `xml:"capk"`
	}
	emvToolTLV struct {
		ID    string `xml:"id,attr"`
		Value string `xml:",chardata"`
	}
	emvToolApp struct {
		AID   string       `xml:"aid,attr"`
		Match string       `xml:"match,attr"`
		Data  []emvToolTLV `xml:"data>tlv"`
	}
	emvToolKey struct {
		RID      string `xml:"rid,attr"`
		Index    string `xml:"index,attr"`
		HashID   string `xml:"hash_id,attr"`
		Modulus  string `xml:"modulus"`
		Exponent string `xml:"exponent"`
		Hash     string `xml:"hash"`
	}
)

// emvToolTerminal is an attended terminal in China that can go online: chip,
// every cardholder verification, SDA, DDA and CDA.
var emvToolTerminal = []emvToolTLV{
	{"9F01", "000000000001"}, {"9F15", "5999"}, {"9F16", "303030303030303030303030303031"}, {"9F1A", "0156"},
	{"9F1B", "00000000"}, {"9F1C", "3030303030303031"}, {"9F1E", "3030303030303031"}, {"9F33", "20F8C8"},
	{"9F35", "22"}, {"9F40", "FA00F0A3FF"}, {"9F4E", "6B6F616C61"}, {"9F49", "9F3704"},
}

func writeCAXML(w io.Writer, k emv.CAKey) error {
	j := caKeyOf(k)
	c := emvToolConfig{Data: emvToolTerminal, Keys: []emvToolKey{{j.RID, j.Index, "01", j.Modulus, j.Exponent, j.SHA1}}}
	version := []emvToolTLV{{"9F09", "0030"}}
	for _, aid := range []string{pboc.AIDDebit, pboc.AIDCredit, pboc.AIDQuasiCredit, pboc.AIDECash} {
		c.Apps = append(c.Apps, emvToolApp{upper([]byte(aid)), "partial", version})
	}
	out, err := xml.MarshalIndent(c, "", "  ")
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "%s%s\n", xml.Header, out)
	return err
}

// readCAKeys reads keys as export writes them, json or csv, and checks each
// against its hash.
func readCAKeys(text []byte) ([]emv.CAKey, error) {
	var list []caKeyJSON
	if trimmed := bytes.TrimSpace(text); len(trimmed) > 0 && trimmed[0] == '{' {
		for dec := json.NewDecoder(bytes.NewReader(trimmed)); dec.More(); {
			var j caKeyJSON
			if err := dec.Decode(&j); err != nil {
				return nil, fmt.Errorf("CA keys: %w", err)
			}
			list = append(list, j)
		}
	} else {
		rows, err := csv.NewReader(bytes.NewReader(text)).ReadAll()
		if err != nil {
			return nil, fmt.Errorf("CA keys: %w", err)
		}
		for i, r := range rows {
			if len(r) < len(caColumns) {
				return nil, fmt.Errorf("CA keys: line %d has %d columns, not %d", i+1, len(r), len(caColumns))
			}
			if i > 0 {
				list = append(list, caKeyJSON{Scheme: r[0], RID: r[1], Index: r[2], Exponent: r[3], Modulus: r[5], SHA1: r[6], Environment: r[7]})
			}
		}
	}
	keys := make([]emv.CAKey, 0, len(list))
	for i, j := range list {
		k, err := j.key()
		if err != nil {
			return nil, fmt.Errorf("CA key %d: %w", i+1, err)
		}
		keys = append(keys, k)
	}
	return keys, nil
}

func (j caKeyJSON) key() (emv.CAKey, error) {
	k := emv.CAKey{Scheme: j.Scheme, Environment: j.Environment}
	switch j.Algorithm {
	case "", emv.RSA.String():
	case emv.SM2.String():
		k.Algorithm = emv.SM2
	default:
		return k, fmt.Errorf("algorithm %q", j.Algorithm)
	}
	for _, f := range []struct {
		name, text string
		n          int
		into       func([]byte)
	}{
		{"rid", j.RID, 5, func(b []byte) { k.RID = [5]byte(b) }},
		{"index", j.Index, 1, func(b []byte) { k.Index = b[0] }},
		{"sha1", j.SHA1, 20, func(b []byte) { k.Hash = [20]byte(b) }},
		{"exponent", j.Exponent, 0, func(b []byte) { k.Exponent = b }},
		{"modulus", j.Modulus, 0, func(b []byte) { k.Modulus = b }},
	} {
		b, err := hex.DecodeString(f.text)
		if err != nil || f.n > 0 && len(b) != f.n || len(b) == 0 && (f.name != "exponent" || k.Algorithm != emv.SM2) {
			return k, fmt.Errorf("%s %q", f.name, f.text)
		}
		f.into(b)
	}
	if !k.Valid() {
		return k, errors.New("the hash is not the key's")
	}
	return k, nil
}
