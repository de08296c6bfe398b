package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"

	"github.com/spf13/cobra"

	"koala/app"
	"koala/hsm"
	"koala/issuing/bin"
	"koala/spec/emv"
)

func cardCACommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "ca",
		Short: "The certification authority that vouches for a house's cards",
		Long: `A terminal trusts a card because the scheme's certification authority certified the card's
issuer. A house has its own authority, under UnionPay's application provider and an index that
UnionPay does not use: only terminals that were given its public key accept the house's cards.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	c.AddCommand(caShowCommand(), caExportCommand(), caMakeCommand(), caVerifyCommand(), caChainCommand())
	return c
}

// caKeys are the public keys of a house's authority.
func (f houseFlags) caKeys(cmd *cobra.Command, chains ...emv.KeyAlgorithm) (keys []emv.CAKey, err error) {
	err = f.with(cmd, func(ctx context.Context, h *app.House) error {
		for _, a := range chains {
			k, err := h.Keys.CAKey(ctx, a, 0)
			if err != nil {
				return noCA(err)
			}
			keys = append(keys, k)
		}
		return nil
	})
	return keys, err
}

// noCA says what to do about a house without an authority.
func noCA(err error) error {
	if errors.Is(err, hsm.ErrNoKey) {
		return fmt.Errorf("the house has no certification authority yet; koala card ca make creates it: %w", err)
	}
	return err
}

func caShowCommand() *cobra.Command {
	var f caFlags
	c := &cobra.Command{
		Use:     "show",
		Short:   "The authority's public key and the issuer's certificate of a house",
		Example: "  koala card ca show --data koala-data\n  koala card ca show --prefix 62888801 --expiry 1235 --json",
		Args:    noArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return f.show(cmd) },
	}
	f.house.add(c)
	f.addIssuer(c)
	c.Flags().BoolVar(&f.json, "json", false, "one JSON object instead of text")
	c.Flags().BoolVar(&f.sm2, "sm2", false, sm2Usage)
	return c
}

// caFlags are what the commands about a house's authority take.
type caFlags struct {
	house          houseFlags
	json, sm2      bool
	prefix, expiry string
}

// chainOf is the chain that --sm2 chooses.
func chainOf(sm2 bool) emv.KeyAlgorithm {
	if sm2 {
		return emv.SM2
	}
	return emv.RSA
}

// cashPrefix begins the PANs of the house's e-cash cards, and so the certificate
// that they bear: bin.HousePrefix and two digits of the product.
const cashPrefix = bin.HousePrefix + "06"

const sm2Usage = "the SM2 chain, which cards of the SM variant have beside RSA"

func (f *caFlags) addIssuer(c *cobra.Command) {
	c.Flags().StringVar(&f.prefix, "prefix", cashPrefix, "digits that the PANs of the certificate begin with, 3 to 8: the house's are 62888801 debit, 62888802 credit, 62888806 e-cash")
	c.Flags().StringVar(&f.expiry, "expiry", "1235", "last month of the issuer's certificate, MMYY")
}

var (
	prefixForm = regexp.MustCompile(`^[0-9]{3,8}$`)
	expiryForm = regexp.MustCompile(`^(0[1-9]|1[0-2])[0-9]{2}$`)
)

// month reads --expiry as BCD.
func (f caFlags) month() ([2]byte, error) {
	if !prefixForm.MatchString(f.prefix) {
		return [2]byte{}, errUsage{fmt.Errorf("--prefix %q is not 3 to 8 digits", f.prefix)}
	}
	if !expiryForm.MatchString(f.expiry) {
		return [2]byte{}, errUsage{fmt.Errorf("--expiry %q is not MMYY", f.expiry)}
	}
	b, err := hex.DecodeString(f.expiry)
	if err != nil {
		return [2]byte{}, errUsage{err}
	}
	return [2]byte(b), nil
}

func (f caFlags) show(cmd *cobra.Command) error {
	month, err := f.month()
	if err != nil {
		return err
	}
	return f.house.with(cmd, func(ctx context.Context, h *app.House) error {
		k, err := h.Keys.CAKey(ctx, chainOf(f.sm2), 0)
		if err != nil {
			return noCA(err)
		}
		cert, index, err := h.Keys.IssuerCertificate(ctx, chainOf(f.sm2), f.prefix, month)
		if err != nil {
			return err
		}
		info, err := emv.RecoverIssuer(k, cert, emv.Check{})
		if err != nil {
			return fmt.Errorf("the issuer's certificate does not recover under the authority's key: %w", err)
		}
		issuer := issuerJSON{Prefix: info.Owner, Expiry: f.expiry, Serial: upper(info.Serial[:]), Bits: info.Key.Bits(),
			Index: fmt.Sprintf("%02X", index), Certificate: upper(cert.Certificate), Remainder: upper(cert.Remainder), Exponent: upper(cert.Exponent)}
		if f.json {
			return json.NewEncoder(cmd.OutOrStdout()).Encode(struct {
				caKeyJSON
				Issuer issuerJSON `json:"issuer"`
			}{caKeyOf(k), issuer})
		}
		return printCA(cmd.OutOrStdout(), k, issuer)
	})
}

type issuerJSON struct {
	Prefix      string `json:"prefix"`
	Expiry      string `json:"expiry"`
	Serial      string `json:"serial"`
	Bits        int    `json:"bits"`
	Index       string `json:"8F"`
	Certificate string `json:"90"`
	Remainder   string `json:"92,omitempty"`
	Exponent    string `json:"9F32,omitempty"`
}

func printCA(w io.Writer, k emv.CAKey, i issuerJSON) error {
	var b bytes.Buffer
	line := func(name, value string) {
		for lead := padded(name, cardNameWidth); value != ""; lead = padded("", cardNameWidth) {
			n := min(len(value), hexWidth)
			fmt.Fprintf(&b, "%s%s\n", lead, value[:n])
			value = value[n:]
		}
	}
	line("authority", fmt.Sprintf("%s, %X index %02X, %d bit, %s", k.Scheme, k.RID, k.Index, keyBits(k), k.Environment))
	line("exponent", upper(k.Exponent))
	line("modulus", upper(k.Modulus))
	line("SHA-1", upper(k.Hash[:]))
	line("issuer", fmt.Sprintf("PANs from %s, %d bit, until %s, serial %s", i.Prefix, i.Bits, i.Expiry, i.Serial))
	line("90", i.Certificate)
	line("92", i.Remainder)
	line("9F32", i.Exponent)
	_, err := w.Write(b.Bytes())
	return err
}

func caExportCommand() *cobra.Command {
	var f houseFlags
	var format string
	var published, sm2 bool
	c := &cobra.Command{
		Use:   "export",
		Short: "The authority's public key in the form that terminals load",
		Long: `Writes the public key for terminals: json and csv as koala card explain --ca and the kernel
read them, xml-emv-tool as a whole configuration of the emv-utils kernel (terminal data, the
house's applications, the key). With --test-cards it is the key of the published test cards
(koala band new --test-cards), which needs no house.`,
		Example: "  koala card ca export --format xml-emv-tool --test-cards > emv.xml\n  koala card ca export > ca.json\n  koala card ca export --sm2 > ca-sm2.json",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			write, ok := caFormats[format]
			if !ok {
				return errUsage{fmt.Errorf("--format %q is not json, csv or xml-emv-tool", format)}
			}
			if sm2 && (published || format != "json") {
				return errUsage{errors.New("an SM2 key goes out as json only, and the test cards have none")}
			}
			if published {
				k, err := testAuthority()
				if err != nil {
					return err
				}
				return write(cmd.OutOrStdout(), k)
			}
			keys, err := f.caKeys(cmd, chainOf(sm2))
			if err != nil {
				return err
			}
			return write(cmd.OutOrStdout(), keys[0])
		},
	}
	f.add(c)
	c.Flags().StringVar(&format, "format", "json", "json, csv or xml-emv-tool")
	c.Flags().BoolVar(&published, "test-cards", false, "the key of the published test cards instead of the house's")
	c.Flags().BoolVar(&sm2, "sm2", false, sm2Usage)
	return c
}

func caMakeCommand() *cobra.Command {
	var f houseFlags
	c := &cobra.Command{
		Use:   "make",
		Short: "Create the bank keys of a house that has none: authority, issuer, card roots",
		Long: `Creates what a house needs to issue payment cards: the authority's and the issuer's RSA keys
and the roots that card keys come from. Keys that exist stay as they are.`,
		Example: "  koala card ca make --data koala-data",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.with(cmd, func(ctx context.Context, h *app.House) error {
				if err := h.Keys.ProvisionBank(ctx); err != nil {
					return err
				}
				k, err := h.Keys.CAKey(ctx, emv.RSA, 0)
				if err != nil {
					return err
				}
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "%X index %02X, %d bit, SHA-1 %X\n", k.RID, k.Index, 8*len(k.Modulus), k.Hash)
				return err
			})
		},
	}
	f.add(c)
	return c
}

func caVerifyCommand() *cobra.Command {
	f := explainFlags{summary: true}
	c := &cobra.Command{
		Use:   "verify FILE | CAPDU…",
		Short: "Check the certificates in a dialogue or in data objects",
		Long: `Recovers the certificates of a dialogue with the published keys, those of --ca and, with
--house, the house's own; the rest of the dialogue is not told. See koala card explain.`,
		Example: "  koala card ca verify tap.log --house\n  koala card ca verify chain.json --ca chain.json",
		Args:    cardExplainCommand().Args,
		RunE:    func(cmd *cobra.Command, args []string) error { return f.run(cmd, args) },
	}
	f.add(c)
	return c
}
