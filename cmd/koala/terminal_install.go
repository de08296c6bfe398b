package main

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"koala/app"
	"koala/hsm"
	"koala/internal/db"
	"koala/merchant"
	"koala/switching"
)

// trialShop is the shop of a merchant for trials, made when there is none.
func trialShop(ctx context.Context, h *app.House, name string) (shop string, err error) {
	err = h.Store.Read(ctx, func(q *db.Query) error {
		list, err := merchant.List(q, merchant.Filter{Name: name, Limit: 1})
		if err != nil || len(list) == 0 || list[0].Name != name {
			return err
		}
		shops, err := merchant.ShopsOf(q, list[0].ID)
		if err == nil && len(shops) > 0 {
			shop = shops[0].ID
		}
		return err
	})
	if err != nil || shop != "" {
		return shop, err
	}
	out, err := h.Merchants.Bulk(ctx, "trial", "merchant for trials", []merchant.Import{trialMerchant(name)})
	switch {
	case err != nil:
		return "", err
	case out[0].Err != nil:
		return "", out[0].Err
	case len(out[0].Failed) > 0:
		return "", fmt.Errorf("the merchant %q does not pass: %v", name, out[0].Failed)
	}
	return out[0].Shop, nil
}

// trialMerchant is an application with invented papers that pass every check.
func trialMerchant(name string) merchant.Import {
	sum := sha256.Sum256([]byte("koala trial merchant\x00" + name))
	n := int(binary.BigEndian.Uint32(sum[:]) % 10_000_000)
	in := newRegisterMaker(1).next()
	in.Serial = fmt.Sprintf("TRIAL-%07d", n)
	in.Name, in.Legal, in.Holder = name, "试用商户", "试用商户"
	in.Licence, in.IDNumber = benchLicence(in.City, n), benchIdentity(in.City, binary.BigEndian.Uint64(sum[4:]), n)
	in.Account = fmt.Sprintf("622848%013d", n)
	in.Shop = merchant.Shop{NameEN: name, NameZH: name, MCC: "5812", Address: "试用路1号"}
	in.Documents = []merchant.Document{benchDocument(merchant.DocLicence, n), benchDocument(merchant.DocIDFront, n), benchDocument(merchant.DocDoor, n)}
	return in
}

// installFlags are what an installer brings to a terminal.
type installFlags struct {
	door, tid, token, transport, card, out string
}

func terminalInstallCommand() *cobra.Command {
	var f installFlags
	c := &cobra.Command{
		Use:   "install",
		Short: "Fetch a terminal's master key at the devices' door and write it into a file",
		Long: `Does what a terminal does when it is installed: asks the devices' door for its keys, once, opens
them under the transport key, and writes the master key into a file, with its check value behind
it and, in lines of their own, the public keys of parameter packs, as koala pos --tmk-file reads
it. Of a mobile reader it is the initial key and the serial number. --card is what koala terminal add or transport --json printed last; - reads it from the input.`,
		Example: "  koala terminal install --door http://127.0.0.1:8080 --card till.json --tmk-file till.tmk",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.read(cmd.InOrStdin()); err != nil {
				return err
			}
			return f.install(cmd.Context(), cmd.OutOrStdout())
		},
	}
	c.Flags().StringVar(&f.door, "door", "http://127.0.0.1:8080", "address of the house's pages")
	c.Flags().StringVar(&f.card, "card", "", "file with what koala terminal add --json printed")
	c.Flags().StringVar(&f.out, "tmk-file", "", "file to write the master key into; it must not exist")
	return c
}

func (f *installFlags) read(in io.Reader) error {
	if err := missingFlags(flagGiven{"--card", f.card != ""}, flagGiven{"--tmk-file", f.out != ""}); err != nil {
		return err
	}
	text, err := io.ReadAll(in)
	if f.card != "-" {
		text, err = os.ReadFile(f.card)
	}
	var card terminalCard
	if err == nil {
		err = json.Unmarshal(text, &card)
	}
	if err != nil {
		return fmt.Errorf("%s is not what koala terminal add --json prints: %w", f.card, err)
	}
	f.tid, f.token, f.transport = card.TID, card.Token, card.Transport
	return nil
}

// fetched is the part of the door's answer that an installer needs.
type fetched struct {
	TID, MID, KSN string
	Signed        []string // public keys of parameter packs; none: a door of form 1
	Keys          []struct{ Use, Block string }
	Code, Detail  string // of a refusal
}

// install asks the door; the file is opened before, so that no key is lost to a
// full disk or a wrong name.
func (f *installFlags) install(ctx context.Context, out io.Writer) error {
	form, err := hsm.ParseTransportForm(f.transport)
	if err != nil {
		return err
	}
	if form.TID != f.tid {
		return fmt.Errorf("%s: the transport key is of terminal %s, the token of %s", f.card, form.TID, f.tid)
	}
	transport, err := form.Key()
	if err != nil {
		return err
	}
	file, err := os.OpenFile(f.out, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer file.Close()
	a, err := f.ask(ctx, transport)
	if err == nil {
		err = f.write(file, transport, a)
	}
	if err != nil {
		os.Remove(f.out)
		return err
	}
	if err := file.Close(); err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "terminal %s of merchant %s has its key in %s\n", a.TID, a.MID, f.out)
	return err
}

func (f *installFlags) ask(ctx context.Context, transport hsm.TransportKey) (a fetched, err error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimRight(f.door, "/")+"/device/tills/"+f.tid+"/install", strings.NewReader(fmt.Sprintf(`{"proof":"%x"}`, transport.Proof(f.tid))))
	if err != nil {
		return a, errUsage{err}
	}
	req.Header.Set("Authorization", "Bearer "+f.token)
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return a, err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&a); err != nil {
		return a, fmt.Errorf("the door's answer %s: %w", resp.Status, err)
	}
	if resp.StatusCode != http.StatusOK || len(a.Keys) != 1 {
		if a.Code == switching.ErrTransport.Code || a.Code == hsm.ErrTransport.Code {
			a.Detail += "; koala terminal transport " + f.tid + " --by WHO --why WHY --json does that"
		}
		return a, fmt.Errorf("the door refuses terminal %s: %s [%s]", f.tid, a.Detail, a.Code)
	}
	return a, nil
}

func (f *installFlags) write(file io.Writer, transport hsm.TransportKey, a fetched) error {
	block, err := hex.DecodeString(a.Keys[0].Block)
	if err != nil {
		return err
	}
	name := hsm.TerminalKey{Use: hsm.TerminalUse(a.Keys[0].Use), TID: f.tid}
	key, _, err := hsm.OpenInjected(name, transport, block)
	if err != nil {
		return fmt.Errorf("%w: the transport key in %s is not the last that was drawn for this terminal, and its one installation is spent;\n"+
			"koala terminal transport %s --by WHO --why WHY --json draws another", err, f.card, f.tid)
	}
	text := fmt.Sprintf("%X %X\n", key, block[2:5])
	if name.Use == hsm.ReaderInitial {
		text = fmt.Sprintf("%X %s\n", key, strings.ToUpper(a.KSN))
	}
	for _, k := range a.Signed {
		if b, err := hex.DecodeString(k); err != nil || len(b) != ed25519.PublicKeySize {
			return fmt.Errorf("the door's answer: %q is no public key of parameter packs", k)
		}
		text += signedWord + " " + strings.ToUpper(k) + "\n"
	}
	_, err = io.WriteString(file, text)
	return err
}
