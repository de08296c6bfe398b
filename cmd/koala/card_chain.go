package main

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"regexp"

	"github.com/spf13/cobra"

	"koala/spec/emv"
	"koala/spec/pboc"
	"koala/spec/tlv"
)

func caChainCommand() *cobra.Command {
	var f caFlags
	var pan string
	c := &cobra.Command{
		Use:   "chain",
		Short: "Make a test chain: authority, issuer and card key with their certificates",
		Long: `Makes keys of the lengths the house's cards have (1408, 1152 and 1024 bit, exponent 3) and the
certificates that bind them, checks them, and prints the public key of the authority and the
dialogue in which a card would show them. Private keys are thrown away.`,
		Example: "  koala card ca chain > chain.json",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			month, err := f.month()
			if err != nil {
				return err
			}
			if !regexp.MustCompile(`^[0-9]{12,19}$`).MatchString(pan) || pan[:len(f.prefix)] != f.prefix {
				return errUsage{fmt.Errorf("--pan must be 12 to 19 digits that begin with %s", f.prefix)}
			}
			x, err := testChain(rand.Reader, f.prefix, pan, month)
			if err != nil {
				return err
			}
			return json.NewEncoder(cmd.OutOrStdout()).Encode(x)
		},
	}
	f.addIssuer(c)
	c.Flags().StringVar(&pan, "pan", cashPrefix+"00000000015", "card number of the test card")
	return c
}

// A chainJSON is a CA key with a dialogue that shows a chain under it.
type chainJSON struct {
	caKeyJSON
	ID        string         `json:"id"`
	Exchanges []exchangeJSON `json:"exchanges"`
}

// The lengths of the house's keys in bits.
const (
	caBits, issuerBits, cardBits = 1408, 1152, 1024
	testIndex                    = 0xFF
)

// testChain makes keys and certificates and the commands that read them.
func testChain(random io.Reader, prefix, pan string, month [2]byte) (x chainJSON, err error) {
	var keys [3]*emv.PrivateKey
	for i, bits := range []int{caBits, issuerBits, cardBits} {
		if keys[i], err = emv.GenerateKey(random, bits, 3); err != nil {
			return x, err
		}
	}
	ca := emv.NewCAKey(emv.RIDUnionPay, testIndex, keys[0].Public())
	ca.Scheme, ca.Environment = "test chain", "test"
	issuer, err := emv.MakeIssuerCertificate(keys[0], emv.KeyInfo{Owner: prefix, Expiry: month, Serial: [3]byte{0, 0, 1}, Key: keys[1].Public()})
	if err != nil {
		return x, err
	}
	number, err := hex.DecodeString(pan + "F"[:len(pan)%2])
	if err != nil {
		return x, err
	}
	signed := tlv.Append(tlv.Append(nil, emv.TagPAN, number), emv.TagPSN, []byte{1})
	card, err := emv.MakeICCCertificate(keys[1], emv.KeyInfo{Owner: pan, Expiry: month, Serial: [3]byte{0, 0, 2}, Key: keys[2].Public()}, signed)
	if err != nil {
		return x, err
	}
	x = chainJSON{caKeyJSON: caKeyOf(ca), ID: "test chain"}
	say := func(command string, answer []byte) {
		x.Exchanges = append(x.Exchanges, exchangeJSON{Command: command, Response: upper(answer) + "9000"})
	}
	aid := []byte(pboc.AIDDebit)
	say(fmt.Sprintf("00A40400%02X%X00", len(aid), aid), tlv.Append(nil, emv.TagFCI, tlv.Append(nil, emv.TagDFName, aid)))
	say("80A8000002830000", tlv.Append(nil, emv.TagAnswer1, []byte{0x20, 0x00, 0x08, 1, 3, 1}))
	say("00B2010C00", tlv.Append(nil, emv.TagRecord, signed))
	say("00B2020C00", objectsRecord(emv.Value{Tag: emv.TagCAIndex, Value: []byte{testIndex}}, emv.Value{Tag: emv.TagIssuerCert, Value: issuer.Certificate}, emv.Value{Tag: emv.TagIssuerRemainder, Value: issuer.Remainder}, emv.Value{Tag: emv.TagIssuerExponent, Value: issuer.Exponent}))
	say("00B2030C00", objectsRecord(emv.Value{Tag: emv.TagICCCert, Value: card.Certificate}, emv.Value{Tag: emv.TagICCRemainder, Value: card.Remainder}, emv.Value{Tag: emv.TagICCExponent, Value: card.Exponent}))
	return x, nil
}

// objectsRecord puts the objects that have a value into template 70.
func objectsRecord(list ...emv.Value) []byte {
	var body []byte
	for _, o := range list {
		if len(o.Value) > 0 {
			body = tlv.Append(body, o.Tag, o.Value)
		}
	}
	return tlv.Append(nil, emv.TagRecord, body)
}
