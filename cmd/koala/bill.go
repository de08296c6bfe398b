package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"koala/internal/openkey"
	"koala/settlement"
)

func billCommand() *cobra.Command {
	c := &cobra.Command{
		Use:     "bill",
		Short:   "Signed bills of shops: check them without the house",
		Example: "  koala bill verify --keys keys.json bill-2016-09-06.csv",
		Args:    noArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	c.AddCommand(billVerifyCommand())
	return c
}

// billFlags are the flags of `koala bill verify`.
type billFlags struct {
	keys string
	json bool
}

func billVerifyCommand() *cobra.Command {
	var f billFlags
	c := &cobra.Command{
		Use:   "verify FILE...",
		Short: "Check bills: signatures, sums, and that they are one chain",
		Long: `Reads bills and the signature file beside each (its name ends in .sig), and the list of public
keys, which a house gives at /keys.json (curl -O http://127.0.0.1:8080/keys.json). Nothing is asked of the house. Each bill must be signed
under the key it names, its lines must sum to its totals, and of one shop each must carry the hash
of the one before it: several days are proven as one chain, and a day that is missing is named.
Files may come in any order.`,
		Example: "  koala bill verify --keys keys.json bill-2016-09-06.csv bill-2016-09-07.csv",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return errUsage{errors.New("name the files of bills")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error { return f.verify(cmd.OutOrStdout(), args) },
	}
	c.Flags().StringVar(&f.keys, "keys", "keys.json", "list of the house's public keys, from its page /keys.json")
	c.Flags().BoolVar(&f.json, "json", false, "one JSON object a bill instead of text")
	return c
}

// A billFound is what is printed of one bill.
type billFound struct {
	File   string `json:"file"`
	Payee  string `json:"payee,omitempty"`
	Period string `json:"period,omitempty"`
	Number int64  `json:"number,omitempty"`
	Key    string `json:"key,omitempty"`
	After  int64  `json:"after,omitempty"` // number of the bill that it was proven to follow
	OK     bool   `json:"ok"`
	Wrong  string `json:"wrong,omitempty"`

	bill settlement.Bill
}

func (f billFlags) verify(out io.Writer, names []string) error {
	text, err := os.ReadFile(f.keys)
	if err != nil {
		return fmt.Errorf("the list of public keys: %w; a house gives it at /keys.json", err)
	}
	book, err := openkey.Parse(text)
	if err != nil {
		return fmt.Errorf("%s: %w", f.keys, err)
	}
	found := make([]billFound, 0, len(names))
	for _, name := range names {
		x, err := readBill(strings.TrimSuffix(name, ".sig"))
		if err != nil {
			return err
		}
		found = append(found, x)
	}
	slices.SortStableFunc(found, func(a, b billFound) int {
		return cmp.Or(cmp.Compare(a.Payee, b.Payee), cmp.Compare(a.Number, b.Number))
	})
	proveBills(found, book)
	return f.print(out, found)
}

// readBill reads a bill and the file beside it. Only what cannot be read at all
// is an error: what does not prove is printed like the others.
func readBill(name string) (x billFound, err error) {
	x.File = name
	file, err := os.ReadFile(name)
	if err != nil {
		return x, err
	}
	signature, err := os.ReadFile(name + ".sig")
	if err != nil {
		return x, fmt.Errorf("the signature file beside the bill: %w", err)
	}
	if x.bill, err = settlement.ParseBill(file, signature); err != nil {
		x.Wrong = explainError(err)
		return x, nil
	}
	x.Payee, x.Period, x.Number, x.Key = x.bill.Payee, x.bill.Period, x.bill.No, x.bill.Key
	return x, nil
}

// proveBills checks bills that are in the order of their shops and numbers.
func proveBills(found []billFound, book openkey.Book) {
	check := func(form int, key string, message, signature []byte) error {
		if form == settlement.OldForm {
			return book.Check(openkey.OldBills, key, message, signature)
		}
		return book.Check(openkey.Bills, key, message, signature)
	}
	for i := range found {
		x := &found[i]
		if x.Wrong != "" {
			continue
		}
		err := settlement.VerifyBills([]settlement.Bill{x.bill}, x.bill.Prev, check)
		if before := i - 1; err == nil && before >= 0 && found[before].Payee == x.Payee {
			x.After, err = follows(found[before], *x)
		}
		if x.OK = err == nil; !x.OK {
			x.Wrong = explainError(err)
		}
	}
}

// follows checks that b is the next bill after a, whatever else is wrong with a.
func follows(a, b billFound) (after int64, err error) {
	switch {
	case a.Number == b.Number:
		return 0, fmt.Errorf("there are two bills with number %d: %w", b.Number, settlement.ErrBill)
	case a.Number+1 != b.Number:
		return 0, fmt.Errorf("bills %d to %d are missing: %w", a.Number+1, b.Number-1, settlement.ErrBill)
	case b.bill.Prev != a.bill.Hash, b.bill.Form < a.bill.Form:
		return 0, fmt.Errorf("it does not carry the hash of bill %d: %w", a.Number, settlement.ErrBill)
	}
	return a.Number, nil
}

func (f billFlags) print(out io.Writer, found []billFound) error {
	fine := true
	for _, x := range found {
		fine = fine && x.OK
		switch {
		case f.json:
			line, err := json.Marshal(x)
			if err != nil {
				return err
			}
			fmt.Fprintf(out, "%s\n", line)
		case !x.OK:
			fmt.Fprintf(out, "WRONG  %s: %s\n", x.File, x.Wrong)
		case x.After > 0:
			fmt.Fprintf(out, "good   %s: bill %d of %s for %s, after bill %d, key %s\n", x.File, x.Number, x.Payee, x.Period, x.After, x.Key)
		case x.Number == 1:
			fmt.Fprintf(out, "good   %s: bill 1 of %s for %s, the first, key %s\n", x.File, x.Payee, x.Period, x.Key)
		default:
			fmt.Fprintf(out, "good   %s: bill %d of %s for %s, key %s; bill %d, which it names, was not given\n", x.File, x.Number, x.Payee, x.Period, x.Key, x.Number-1)
		}
	}
	if !fine {
		return errFoundWrong
	}
	return nil
}
